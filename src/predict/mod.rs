//! The data plane: the one path of every request, whatever its protocol.
//!
//! `intake` decodes, assigns and preprocesses. `run` batches, infers and postprocesses. `event`
//! reports the outcome to the observers.

mod assign;
mod decode;
mod difference;
mod error;
pub(crate) mod event;
mod fallback;
mod graph_tensors;
mod input;
mod intake;
mod locate;
mod monitoring;
mod offload;
mod predict_request;
mod prediction;
mod prepared;
mod preprocess;
mod rehearsal_samples;
mod rollout_evidence;
mod run;
mod shadow;
mod tensor_names;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

pub(crate) use crate::engine::queue::Priority;
pub(crate) use error::{MalformedInput, PredictError};
pub(crate) use input::Input;
pub(crate) use predict_request::{AnsweringVersion, PredictRequest, RequestOrigin};
pub(crate) use prediction::{Failure, Fallback, ModelOutput, Prediction, Timing};
pub(crate) use run::WINDOW_PER_WORKER;

use crate::{
    decode::DecodeLimits,
    engine::queue::Urgency,
    error::ErrorCode,
    predict::{
        event::{Observer, Observers, PendingEvent},
        fallback::{CompatibilityCache, Unanswered, fallback_reason, own_deadline},
        intake::Intake,
        monitoring::Monitoring,
        offload::{Offload, run_with},
        prepared::Prepared,
        rehearsal_samples::RehearsalSamples,
        rollout_evidence::RolloutEvidence,
        run::Run,
        shadow::Shadow,
    },
    registry::{
        Registry,
        route::{Routed, Target, route},
        servable::Servable,
    },
    rollout::plan::AssignmentKey,
};

/// Larger bodies are decoded on threads for heavy work, not on the network threads. Decoding 64 KiB
/// takes about 0.2 ms.
const HEAVY_BODY_BYTES: usize = 64 << 10;

/// Answers with more values than this are encoded on threads for heavy work, not on the network
/// threads.
pub(crate) const HEAVY_VALUES: usize = 1024;

/// Answers requests. The registry says which versions are served at that moment.
pub(crate) struct Predictor {
    registry: Registry,
    offload: Offload,
    observers: Observers,
    compatibility: CompatibilityCache,
    limits: DecodeLimits,
}

impl Predictor {
    /// `cores`: the number of cores for heavy work. `observers`: observers of every request, in
    /// addition to those of rollouts and rehearsals.
    pub(crate) fn new(
        registry: Registry,
        cores: usize,
        observers: Vec<Box<dyn Observer>>,
    ) -> std::io::Result<Predictor> {
        let mut all: Vec<Box<dyn Observer>> = vec![
            Box::new(RolloutEvidence),
            Box::new(RehearsalSamples),
            Box::new(Monitoring),
            Box::new(Shadow::start()?),
        ];
        all.extend(observers);
        Ok(Predictor {
            registry,
            offload: Offload::new(cores),
            observers: all.into(),
            compatibility: CompatibilityCache::default(),
            limits: input::LIMITS,
        })
    }

    /// Replaces the limits for requests over the network with other limits.
    #[must_use]
    pub(crate) fn with_limits(self, limits: DecodeLimits) -> Predictor {
        Predictor { limits, ..self }
    }

    /// The failure of a request to a model or version that does not exist. `None` if it exists.
    pub(crate) fn unknown_target(&self, target: Target<'_>) -> Option<Failure> {
        let routed = route(&self.registry.snapshot(), target, Instant::now());
        let failure = Failure::from(routed.err()?);
        (failure.error.code() == ErrorCode::NotFound).then_some(failure)
    }

    /// Answers one request: route, decode, preprocess, batch, infer, postprocess.
    pub(crate) async fn predict(
        &self,
        request: PredictRequest<'_>,
    ) -> Result<Box<Prediction>, Failure> {
        let routed = route(&self.registry.snapshot(), request.target, Instant::now());
        let routed = routed.map_err(Failure::from)?;
        let _inflight = InflightGuard::new(&routed.servable);
        request.answering.set(&routed.servable);
        let intake = Intake {
            key: assignment_key(&routed, request.header),
            wanted: request.wanted.to_vec(),
            explicit: request.target.is_pinned(),
            limits: self.limits,
        };
        let urgency = Urgency {
            deadline: request.deadline,
            priority: request.priority,
        };
        // The event moves between steps and threads. Moving a pointer is cheaper than the event.
        let mut event = Box::new(PendingEvent::new(&self.observers, request.origin, routed));
        let taken = if is_heavy(&event.routed.servable, &request.input) {
            let taking = self.take_heavy(intake, request.input, event, urgency.deadline);
            let (moved, taken) = Box::pin(taking).await?;
            event = moved;
            taken
        } else {
            intake.take(request.input, &mut event)
        };
        let prepared = match taken {
            Ok(prepared) => prepared,
            Err(error) => return Err(fail(event, error)),
        };
        if !Arc::ptr_eq(&event.servable, &event.routed.servable) {
            request.answering.set(&event.servable);
        }
        let client_id = prepared.client_id.clone();
        let raw = prepared.raw;
        let run = self.start(&mut event, urgency);
        let running = run.running.clone();
        let ran = run.run(prepared).await;
        match ran {
            Ok(output) => Ok(answered(event, client_id, output)),
            Err(error) => {
                event.set_failure(shared_failure(error, running.as_deref()));
                // On the heap, so that the requests that succeed don't carry its state.
                Box::pin(self.recover(event, raw, client_id, urgency)).await
            }
        }
    }

    /// Decodes, assigns and preprocesses on a thread for heavy work.
    async fn take_heavy(
        &self,
        intake: Intake,
        input: Input,
        mut event: Box<PendingEvent>,
        deadline: Instant,
    ) -> Result<(Box<PendingEvent>, Result<Prepared, PredictError>), Failure> {
        let permit = match self.offload.permit(deadline).await {
            Ok(permit) => permit,
            Err(error) => return Err(fail(event, error)),
        };
        let stable = Arc::clone(&event.routed.servable);
        // The closure owns the event. If the caller disconnects now, the event is dropped, and
        // counted, only after the request was assigned to a version.
        let work = move || {
            let taken = intake.take(input, &mut event);
            (event, taken)
        };
        let done = run_with(permit, work).await;
        done.map_err(|error| failure(error, &stable))
    }

    /// The run of a request on its assigned version.
    fn start<'a>(&'a self, event: &'a mut PendingEvent, urgency: Urgency) -> Run<'a> {
        let fallback = event.routed.fallback.as_ref();
        let deadline = fallback.map_or(urgency.deadline, |fallback| {
            own_deadline(urgency.deadline, Instant::now(), &fallback.on)
        });
        let running = event.running();
        Run {
            servable: &event.servable,
            urgency: Urgency {
                deadline,
                ..urgency
            },
            offload: &self.offload,
            timing: &mut event.timing,
            share: &mut event.share,
            running,
        }
    }

    /// Tries the fallbacks after the assigned version failed.
    async fn recover(
        &self,
        event: Box<PendingEvent>,
        raw: bool,
        client_id: Option<String>,
        urgency: Urgency,
    ) -> Result<Box<Prediction>, Failure> {
        let servable = Arc::clone(&event.servable);
        let config = event.routed.fallback.clone();
        let reason = event.failure().and_then(fallback_reason);
        let (Some(config), Some(reason), Some(input)) = (config, reason, event.input.clone())
        else {
            return Err(failure(event.end(None), &servable));
        };
        if !config.on.contains(&reason) {
            return Err(failure(event.end(None), &servable));
        }
        let request = Unanswered {
            stable: &event.routed.servable,
            primary: &servable,
            previous: event.routed.previous.as_ref(),
            input: &input,
            rows: event.rows,
            by_row: event.by_row,
            raw,
            urgency,
            timing: event.timing.before_runs(),
        };
        let Some(answer) = self.fall_back(&config.to, &request).await else {
            return Err(failure(event.end(None), &servable));
        };
        let prediction = Box::new(Prediction {
            id: event.id,
            client_id,
            servable: answer.servable,
            output: answer.output,
            rows: event.rows,
            timing: answer.timing,
            fallback: Some(Fallback {
                to: answer.to,
                reason,
            }),
        });
        let error = event.end(Some(&prediction));
        servable
            .metrics
            .requests
            .count_fallback(reason.name(), error.code());
        Ok(prediction)
    }

    /// Runs work that would block a network thread for too long. At most one such piece of work
    /// runs per core.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PredictError> {
        self.offload.run(deadline, work).await
    }
}

/// The value of the header by which the rollout assigns requests.
fn assignment_key(
    routed: &Routed,
    header: &(dyn Fn(&str) -> Option<Vec<u8>> + Sync),
) -> Option<Vec<u8>> {
    match &routed.traffic.as_ref()?.step.plan.key {
        AssignmentKey::Header(name) => header(name),
        AssignmentKey::PredictionId | AssignmentKey::Field(_) => None,
    }
}

/// Whether the request is decoded and preprocessed on a thread for heavy work.
fn is_heavy(stable: &Servable, input: &Input) -> bool {
    let has_images = stable
        .fields()
        .is_some_and(|packaged| packaged.transform.preprocess.has_images());
    has_images || input.weight(stable) > HEAVY_BODY_BYTES
}

fn answered(
    event: Box<PendingEvent>,
    client_id: Option<String>,
    output: ModelOutput,
) -> Box<Prediction> {
    let prediction = Box::new(Prediction {
        id: event.id,
        client_id,
        servable: Arc::clone(&event.servable),
        rows: event.rows,
        timing: event.timing,
        fallback: None,
        output,
    });
    event.answered(&prediction.output);
    prediction
}

/// The failure of a run. All requests of a run that hangs share one failure. `running`: whether
/// the request's run began.
fn shared_failure(error: PredictError, running: Option<&AtomicBool>) -> PredictError {
    let began = running.is_some_and(|running| running.load(Ordering::Relaxed));
    match error {
        PredictError::DeadlineExceeded if began => PredictError::Lost(Box::new(error)),
        other => other,
    }
}

fn fail(event: Box<PendingEvent>, error: PredictError) -> Failure {
    let servable = Arc::clone(&event.servable);
    failure(event.failed(error), &servable)
}

fn failure(error: PredictError, servable: &Arc<Servable>) -> Failure {
    Failure {
        error,
        servable: Some(Arc::clone(servable)),
        unversioned: None,
    }
}

/// Counts a request as in flight while it exists.
struct InflightGuard(Arc<Servable>);

impl InflightGuard {
    fn new(servable: &Arc<Servable>) -> InflightGuard {
        servable.metrics.inflight.inc();
        InflightGuard(Arc::clone(servable))
    }
}

impl Drop for InflightGuard {
    fn drop(&mut self) {
        self.0.metrics.inflight.dec();
    }
}
