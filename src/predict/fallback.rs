//! Fallback: what answers where a version can't, within the request's own deadline; the answer says so.

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
        Outcome, PredictError, Predictor, Timing,
        prepare::Prepared,
        shadow::{Copied, groups},
    },
    registry::{
        servable::{Contents, Servable},
        traffic::Arm,
    },
    transform::outputs::Outputs,
};

/// What a fallback has left of the time until a request's deadline, where a timeout is a reason for one.
const RESERVE: u32 = 4;

/// Who answered instead, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub to: String,
    pub reason: FallbackOn,
}

/// Why the version did not answer, where a fallback may be asked for that.
pub fn reason(error: &PredictError) -> Option<FallbackOn> {
    match error {
        // Another version may know the category or the index that this one's graph refuses.
        PredictError::Failed { .. }
        | PredictError::Inference(_)
        | PredictError::Refused(_)
        | PredictError::Broken
        | PredictError::BrokenEngine(_) => Some(FallbackOn::Error),
        PredictError::NotFinite(_) => Some(FallbackOn::Nan),
        PredictError::DeadlineExceeded => Some(FallbackOn::Timeout),
        PredictError::QueueFull | PredictError::MemoryLimit { .. } | PredictError::Closed => {
            Some(FallbackOn::Overloaded)
        }
        PredictError::Lost(error) => reason(error),
        PredictError::Route(_)
        | PredictError::Malformed(_)
        | PredictError::Invalid { .. }
        | PredictError::Cancelled => None,
    }
}

/// By when the version itself must answer, so that time is left for another.
pub fn own_deadline(deadline: Instant, now: Instant, on: &[FallbackOn]) -> Instant {
    let left = deadline.saturating_duration_since(now);
    if on.contains(&FallbackOn::Timeout) {
        deadline - left / RESERVE
    } else {
        deadline
    }
}

/// Pairs of versions (by digest) that were compared.
#[derive(Default)]
pub struct Compared(Mutex<HashMap<(String, String), bool>>);

impl Compared {
    /// Whether `other` takes every request that `version` takes, and answers what fits `version`'s output schema.
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
            tracing::error!(model = %model, fallback = %fallback, "the fallback's schema is not compatible; it is passed over");
        }
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, fits);
        fits
    }
}

/// A request that its version did not answer.
pub struct Unanswered<'a> {
    /// Decoded it.
    pub stable: &'a Arc<Servable>,
    /// Was to answer it.
    pub primary: &'a Arc<Servable>,
    pub previous: Option<&'a Arc<Servable>>,
    pub data: &'a Copied,
    pub rows: usize,
    /// It came row by row.
    pub by_row: bool,
    /// The answer is the graph's own outputs.
    pub raw: bool,
    pub urgency: Urgency,
}

impl Predictor {
    /// The first answer along the chain.
    pub(super) async fn fall_back(
        &self,
        chain: &[FallbackTo],
        request: &Unanswered<'_>,
        timing: &mut Timing,
    ) -> Option<(Arc<Servable>, Outcome, String)> {
        for to in chain {
            let answer = match to {
                FallbackTo::Constant => constant(request)
                    .map(|outputs| (Arc::clone(request.stable), Outcome::Fields(outputs))),
                FallbackTo::Previous => match self.previous(request) {
                    Some(servable) => self.ask(request, servable, timing).await,
                    None => None,
                },
                FallbackTo::Model(name) => match self.other(request, name) {
                    Some(servable) => self.ask(request, servable, timing).await,
                    None => None,
                },
            };
            if let Some((servable, outcome)) = answer {
                return Some((servable, outcome, to.to_string()));
            }
        }
        None
    }

    /// A candidate's fallback is the stable version; that of the stable one is the one before it.
    fn previous(&self, request: &Unanswered<'_>) -> Option<Arc<Servable>> {
        let is_stable = Arc::ptr_eq(request.primary, request.stable);
        if !is_stable {
            return Some(Arc::clone(request.stable));
        }
        // After a rollout that only goes forward the version before may not take what this one does.
        request
            .previous
            .filter(|previous| self.compared.fits(request.stable, previous))
            .cloned()
    }

    fn other(&self, request: &Unanswered<'_>, name: &str) -> Option<Arc<Servable>> {
        let other = self.registry.snapshot().models.get(name)?.stable.clone()?;
        self.compared.fits(request.stable, &other).then_some(other)
    }

    async fn ask(
        &self,
        request: &Unanswered<'_>,
        servable: Arc<Servable>,
        timing: &mut Timing,
    ) -> Option<(Arc<Servable>, Outcome)> {
        let arm = Arm::new(request.stable, &servable)?;
        let groups = groups(&arm, request.data).ok()?;
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
        let outcome = self
            .run(&servable, prepared, request.urgency, timing, None)
            .await
            .ok()?;
        Some((servable, outcome))
    }
}

/// The package's own answer, once a row.
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
