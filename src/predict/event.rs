//! Events: one value describes how a request ended, and every observer gets it. A new observer
//! requires no change on the path of a request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    id::PredictionId,
    predict::{
        PredictError,
        assign::Assignment,
        predict_request::RequestOrigin,
        prediction::{ModelOutput, Prediction, Timing},
    },
    registry::{route::Routed, servable::Servable},
    schema::columns::Columns,
    tensor::Tensors,
};

/// The decoded input of a request, shared by the observers.
#[derive(Clone)]
pub(crate) enum SharedInput {
    /// Columns, in the schema of the version that decoded them.
    Columns(Arc<Columns>),
    /// Input tensors of the graph.
    Tensors(Arc<Tensors>),
}

/// The engine runs that processed a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RunShare {
    /// The number of runs.
    pub runs: usize,
    /// The number of rows in these runs, including the rows of other requests.
    pub rows: usize,
    /// The request's share of the CPU time of the runs, in seconds.
    pub core_seconds: f64,
}

/// The outcome of one request: its output before it is encoded, or its failure. There is no event
/// for a request that fails before it is routed to a version.
#[allow(
    dead_code,
    reason = "the event is complete, and the current observers read a part of it"
)]
pub(crate) struct PredictionEvent<'a> {
    pub id: PredictionId,
    pub origin: RequestOrigin,
    /// The versions that the registry selected for the request. The first of them decoded it.
    pub routed: &'a Routed,
    /// The version that the request was assigned to: its model, number and digest.
    pub servable: &'a Arc<Servable>,
    /// The arm of a rollout. `None` without a rollout, or if the request failed before the
    /// assignment.
    pub assignment: Option<&'a Assignment>,
    /// The decoded input. `None` if no observer needs it, or if the request failed before it was
    /// decoded.
    pub input: Option<&'a SharedInput>,
    pub rows: usize,
    /// Whether the request contained separate rows, so that each row has its own answer.
    pub by_row: bool,
    /// The output of the assigned version, or its error.
    pub outcome: Result<&'a ModelOutput, &'a PredictError>,
    /// The prediction that the caller got from another version. `None` without a fallback.
    pub fallback: Option<&'a Prediction>,
    /// The stage times of the assigned version.
    pub timing: &'a Timing,
    pub share: RunShare,
    /// The time until the outcome of the assigned version. It begins at the assignment, or at the
    /// routing if there was no assignment.
    pub elapsed: Duration,
}

/// The part of a request that is known when it is assigned to a version.
pub(crate) struct AssignedRequest<'a> {
    pub routed: &'a Routed,
    pub assignment: Option<&'a Assignment>,
    pub now: Instant,
}

/// A consumer of events. It runs on the path of the request, so it must not wait or compute much.
pub(crate) trait Observer: Send + Sync {
    /// Whether the observer needs the decoded input. Keeping the input costs memory until the
    /// answer.
    fn wants_input(&self, _: &AssignedRequest<'_>) -> bool {
        false
    }

    fn observe(&self, event: &PredictionEvent<'_>);
}

pub(crate) type Observers = Arc<[Box<dyn Observer>]>;

/// A request between its routing and its event. If the caller disconnects first, the event says so.
pub(crate) struct PendingEvent {
    observers: Observers,
    pub id: PredictionId,
    origin: RequestOrigin,
    pub routed: Routed,
    pub servable: Arc<Servable>,
    pub assignment: Option<Assignment>,
    pub input: Option<SharedInput>,
    pub rows: usize,
    pub by_row: bool,
    pub timing: Timing,
    pub share: RunShare,
    routed_at: Instant,
    /// The failure of the assigned version, kept while a fallback is tried.
    failure: Option<(PredictError, Duration)>,
    is_done: bool,
}

impl PendingEvent {
    pub(crate) fn new(
        observers: &Observers,
        origin: RequestOrigin,
        routed: Routed,
    ) -> PendingEvent {
        PendingEvent {
            observers: Arc::clone(observers),
            id: PredictionId::new(),
            origin,
            servable: Arc::clone(&routed.servable),
            routed,
            assignment: None,
            input: None,
            rows: 0,
            by_row: false,
            timing: Timing::default(),
            share: RunShare::default(),
            routed_at: Instant::now(),
            failure: None,
            is_done: false,
        }
    }

    /// Whether an observer or a fallback needs the decoded input.
    pub(crate) fn keeps_input(&self, now: Instant) -> bool {
        let request = AssignedRequest {
            routed: &self.routed,
            assignment: self.assignment.as_ref(),
            now,
        };
        self.routed.fallback.is_some()
            || self
                .observers
                .iter()
                .any(|observer| observer.wants_input(&request))
    }

    /// The flag that is set when the run of the request begins. `None` without a rollout.
    pub(crate) fn running(&self) -> Option<Arc<AtomicBool>> {
        let assignment = self.assignment.as_ref();
        assignment.map(|assignment| Arc::clone(&assignment.running))
    }

    /// Ends a request that the assigned version answered.
    pub(crate) fn answered(mut self, output: &ModelOutput) {
        self.is_done = true;
        self.emit(Ok(output), self.elapsed(), None);
    }

    /// Records the failure of the assigned version. `end` emits the event after a fallback was
    /// tried.
    pub(crate) fn set_failure(&mut self, error: PredictError) {
        self.failure = Some((error, self.elapsed()));
    }

    /// The failure of the assigned version, if `set_failure` recorded one.
    pub(crate) fn failure(&self) -> Option<&PredictError> {
        self.failure.as_ref().map(|(error, _)| error)
    }

    /// Ends a request whose assigned version failed and for which no fallback is tried. Returns the
    /// error.
    pub(crate) fn failed(mut self, error: PredictError) -> PredictError {
        self.is_done = true;
        self.emit(Err(&error), self.elapsed(), None);
        error
    }

    /// Ends a request whose failure was recorded. Returns the error.
    pub(crate) fn end(mut self, fallback: Option<&Prediction>) -> PredictError {
        self.is_done = true;
        let (error, elapsed) = self
            .failure
            .take()
            .unwrap_or((PredictError::Broken, Duration::ZERO));
        self.emit(Err(&error), elapsed, fallback);
        error
    }

    fn elapsed(&self) -> Duration {
        let assignment = self.assignment.as_ref();
        assignment
            .map_or(self.routed_at, |assignment| assignment.started)
            .elapsed()
    }

    fn emit(
        &self,
        outcome: Result<&ModelOutput, &PredictError>,
        elapsed: Duration,
        fallback: Option<&Prediction>,
    ) {
        let event = PredictionEvent {
            id: self.id,
            origin: self.origin,
            routed: &self.routed,
            servable: &self.servable,
            assignment: self.assignment.as_ref(),
            input: self.input.as_ref(),
            rows: self.rows,
            by_row: self.by_row,
            outcome,
            fallback,
            timing: &self.timing,
            share: self.share,
            elapsed,
        };
        for observer in self.observers.iter() {
            observer.observe(&event);
        }
    }
}

impl Drop for PendingEvent {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let (error, elapsed) = self.failure.take().unwrap_or_else(|| {
            // A run that hangs is one failure, whatever the number of callers that reach their
            // deadline.
            let assignment = self.assignment.as_ref();
            let lost =
                assignment.is_some_and(|assignment| assignment.running.load(Ordering::Relaxed));
            let error = if std::thread::panicking() {
                // The caller gets the same error.
                PredictError::Broken
            } else if lost {
                PredictError::Lost(Box::new(PredictError::Cancelled))
            } else {
                PredictError::Cancelled
            };
            (error, self.elapsed())
        });
        self.emit(Err(&error), elapsed, None);
    }
}
