//! Fallback: another version or value answers if the assigned version fails, within the deadline of
//! the request. The answer says so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::{
    compat::containment::contains,
    config::{FallbackOn, FallbackTo},
    engine::queue::Urgency,
    predict::{
        ModelOutput, PredictError, Predictor,
        event::{RunShare, SharedInput},
        prediction::Timing,
        prepared::Prepared,
        run::Run,
        shadow::groups,
    },
    registry::{
        servable::{Contents, Servable},
        traffic::CandidateArm,
    },
    transform::outputs::Outputs,
};

/// Divisor for the time that is reserved for a fallback after a timeout: a quarter of the time
/// until the deadline.
const RESERVED_FRACTION: u32 = 4;

/// The kind of failure. `None` if there is no fallback for this error.
pub(super) fn fallback_reason(error: &PredictError) -> Option<FallbackOn> {
    match error {
        // Another version may accept a category or an index that this version's graph refuses.
        PredictError::Failed { .. }
        | PredictError::Inference(_)
        | PredictError::Outputs(_)
        | PredictError::Refused(_)
        | PredictError::Broken
        | PredictError::BrokenEngine(_) => Some(FallbackOn::Error),
        PredictError::NotFinite(_) => Some(FallbackOn::Nan),
        PredictError::DeadlineExceeded => Some(FallbackOn::Timeout),
        PredictError::QueueFull | PredictError::MemoryLimit { .. } | PredictError::Closed => {
            Some(FallbackOn::Overloaded)
        }
        PredictError::Lost(error) => fallback_reason(error),
        PredictError::Route(_)
        | PredictError::Malformed(_)
        | PredictError::Invalid { .. }
        | PredictError::Cancelled => None,
    }
}

/// The deadline of the assigned version. It leaves time for a fallback.
pub(super) fn own_deadline(deadline: Instant, now: Instant, on: &[FallbackOn]) -> Instant {
    let left = deadline.saturating_duration_since(now);
    if on.contains(&FallbackOn::Timeout) {
        deadline - left / RESERVED_FRACTION
    } else {
        deadline
    }
}

/// Cache of compatibility results, by the digests of two versions. A comparison takes longer than a
/// request.
#[derive(Default)]
pub(super) struct CompatibilityCache(Mutex<HashMap<(String, String), bool>>);

impl CompatibilityCache {
    /// Whether `other` accepts every request that `version` accepts, and its answers match the
    /// output schema of `version`.
    fn fits(&self, version: &Servable, other: &Servable) -> bool {
        let key = (version.digest().to_owned(), other.digest().to_owned());
        if let Some(known) = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return *known;
        }
        let fits = match (version.package(), other.package()) {
            (Some(own), Some(others)) => {
                contains(&others.parts.input, &own.parts.input).is_empty()
                    && contains(&own.parts.output, &others.parts.output).is_empty()
            }
            (None, None) => version.graph == other.graph,
            _ => false,
        };
        if !fits {
            let (model, fallback) = (version.id(), other.id());
            tracing::error!(
                model = %model,
                fallback = %fallback,
                "the schema of the fallback is not compatible; it is skipped"
            );
        }
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, fits);
        fits
    }
}

/// A request that the assigned version did not answer.
pub(super) struct Unanswered<'a> {
    /// The version that decoded the request.
    pub stable: &'a Arc<Servable>,
    /// The version that the request was assigned to.
    pub primary: &'a Arc<Servable>,
    pub previous: Option<&'a Arc<Servable>>,
    pub input: &'a SharedInput,
    pub rows: usize,
    /// Whether the request contained separate rows.
    pub by_row: bool,
    /// Whether the caller requested the outputs of the graph, without postprocessing.
    pub raw: bool,
    pub urgency: Urgency,
    /// The time of the stages before the first engine run.
    pub timing: Timing,
}

/// The output of the first fallback that answered.
pub(super) struct FallbackOutput {
    pub servable: Arc<Servable>,
    pub output: ModelOutput,
    /// The source of the fallback, as it is configured.
    pub to: String,
    pub timing: Timing,
}

impl Predictor {
    /// Tries the fallbacks in their order, until one answers.
    pub(super) async fn fall_back(
        &self,
        chain: &[FallbackTo],
        request: &Unanswered<'_>,
    ) -> Option<FallbackOutput> {
        for to in chain {
            let servable = match to {
                FallbackTo::Constant => Some(Arc::clone(request.stable)),
                FallbackTo::Previous => self.previous(request),
                FallbackTo::Model(name) => self.other(request, name),
            };
            let Some(servable) = servable else { continue };
            // If this source fails, the next one must not include its time.
            let mut timing = request.timing;
            let output = match to {
                FallbackTo::Constant => constant(request).map(ModelOutput::Fields),
                FallbackTo::Previous | FallbackTo::Model(_) => {
                    self.ask(request, &servable, &mut timing).await
                }
            };
            if let Some(output) = output {
                return Some(FallbackOutput {
                    servable,
                    output,
                    to: to.to_string(),
                    timing,
                });
            }
        }
        None
    }

    /// The previous version in the order of fallbacks: for a candidate the stable version, for the
    /// stable version the previous stable version.
    fn previous(&self, request: &Unanswered<'_>) -> Option<Arc<Servable>> {
        let is_stable = Arc::ptr_eq(request.primary, request.stable);
        if !is_stable {
            return Some(Arc::clone(request.stable));
        }
        // After a forward-only rollout, the previous version may refuse requests that the stable
        // version accepts.
        request
            .previous
            .filter(|previous| self.compatibility.fits(request.stable, previous))
            .cloned()
    }

    fn other(&self, request: &Unanswered<'_>, name: &str) -> Option<Arc<Servable>> {
        let other = self.registry.snapshot().models.get(name)?.stable.clone()?;
        self.compatibility
            .fits(request.stable, &other)
            .then_some(other)
    }

    async fn ask(
        &self,
        request: &Unanswered<'_>,
        servable: &Arc<Servable>,
        timing: &mut Timing,
    ) -> Option<ModelOutput> {
        let arm = CandidateArm::new(request.stable, servable)?;
        let groups = groups(&arm, request.input).ok()?;
        let whole = !request.by_row && !servable.is_batched();
        let prepared = Prepared {
            groups,
            rows: request.rows,
            whole,
            by_row: request.by_row,
            raw: request.raw,
            client_id: None,
            timing: *timing,
        };
        let run = Run {
            servable,
            urgency: request.urgency,
            offload: &self.offload,
            timing,
            // The event describes only the assigned version, so the fallback's runs are not
            // recorded.
            share: &mut RunShare::default(),
            running: None,
        };
        run.run(prepared).await.ok()
    }
}

/// The constant answer of the package, once per row. `None` if the package has none.
fn constant(request: &Unanswered<'_>) -> Option<Outputs> {
    let Contents::Package(packaged) = &request.stable.contents else {
        return None;
    };
    let one = packaged
        .transform
        .fallback
        .as_ref()
        .filter(|_| !request.raw)?;
    let mut all = one.clone();
    for _ in 1..request.rows {
        all.append(one.clone());
    }
    (request.rows > 0).then_some(all)
}
