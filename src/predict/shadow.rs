//! Shadow: an observer that sends copies of requests to candidates. The candidates' answers are
//! compared with the stable version's answers and discarded. No caller waits for a copy.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    engine::queue::{JobResult, Priority, Urgency},
    predict::{
        ModelOutput, PredictError,
        assign::Assignment,
        difference::compare,
        event::{AssignedRequest, Observer, PredictionEvent, SharedInput},
        preprocess::to_groups,
        rollout_evidence::count,
        run::interpret,
    },
    registry::{
        servable::{Contents, Servable},
        traffic::{CandidateArm, Traffic},
    },
    rollout::{split::KeyHash, tally::Unit},
    tensor::Tensors,
    transform::preprocess::Group,
};

/// Maximum number of copies in the queue. Further copies are dropped and counted.
const QUEUE: usize = 256;
/// Maximum number of copies that run at the same time. It is large enough to fill a batch now and
/// then.
const WINDOW: usize = 8;
/// Maximum number of rows of a request that is copied. Copies of larger requests would delay
/// callers of the candidate.
const MAX_ROWS: usize = 1024;
/// The timeout of a copy. A copy without an answer after this time has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The priority of copies. It is lower than that of every request of a caller.
const LOWEST_PRIORITY: u64 = u32::MAX as u64;
/// The niceness of this thread. The operating system gives it only CPU time that other threads
/// leave.
const NICENESS: i32 = 15;

/// A copy of a request for a candidate.
struct ShadowCopy {
    traffic: Arc<Traffic>,
    /// The index of the candidate.
    candidate: usize,
    hash: KeyHash,
    input: SharedInput,
    rows: usize,
    by_row: bool,
    /// The stable version's answer to the request.
    answer: Arc<ModelOutput>,
}

/// The sender to the thread that runs copies. The thread ends when this value is dropped.
pub(super) struct Shadow {
    copies: SyncSender<ShadowCopy>,
}

impl Observer for Shadow {
    fn wants_input(&self, request: &AssignedRequest<'_>) -> bool {
        request.assignment.is_some_and(Assignment::is_shadowed)
    }

    fn observe(&self, event: &PredictionEvent<'_>) {
        let (Some(assignment), Some(input), Ok(output)) =
            (event.assignment, event.input, event.outcome)
        else {
            return;
        };
        // The input may be present only because another observer or a fallback needs it.
        if !assignment.is_shadowed() {
            return;
        }
        let answer = Arc::new(output.clone());
        for (candidate, _) in assignment.traffic.shadows(assignment.hash) {
            self.offer(ShadowCopy {
                traffic: Arc::clone(&assignment.traffic),
                candidate,
                hash: assignment.hash,
                input: input.clone(),
                rows: event.rows,
                by_row: event.by_row,
                answer: Arc::clone(&answer),
            });
        }
    }
}

impl Shadow {
    pub(super) fn start() -> std::io::Result<Shadow> {
        let (copies, inbox) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("shadow".to_owned())
            .spawn(move || {
                // The niceness applies to this thread only. The threads of the engines keep theirs.
                if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                    tracing::debug!(
                        error = %error,
                        "the niceness of the shadow thread can't be set: copies compete with \
                         traffic"
                    );
                }
                work(&inbox);
            })?;
        Ok(Shadow { copies })
    }

    /// Queues a copy. Never waits. A copy that would take more than one run is dropped.
    fn offer(&self, copy: ShadowCopy) {
        let (traffic, candidate) = (Arc::clone(&copy.traffic), copy.candidate);
        let arm = traffic.arms.get(candidate).and_then(Option::as_ref);
        let fits = arm.is_some_and(|arm| {
            // An engine without a batch axis gets the tensors unsplit.
            copy.rows <= arm.servable.batcher.policy().max_batch_size
                || !copy.by_row && !arm.servable.is_batched()
        });
        if !fits || copy.rows > MAX_ROWS {
            dropped(&traffic, candidate);
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.copies.try_send(copy)
        {
            dropped(&traffic, candidate);
        }
    }
}

/// Counts a copy that was dropped.
fn dropped(traffic: &Traffic, candidate: usize) {
    if let Some(metrics) = traffic.step.shadow_metrics.get(candidate) {
        metrics.dropped.inc();
    }
}

/// A copy that waits for its run.
struct RunningCopy {
    copy: ShadowCopy,
    unit: Unit,
    started: Instant,
    receiver: oneshot::Receiver<JobResult>,
}

fn work(inbox: &Receiver<ShadowCopy>) {
    let mut running: VecDeque<RunningCopy> = VecDeque::new();
    loop {
        let next = match running.is_empty() {
            true => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false if running.len() < WINDOW => inbox.recv_timeout(Duration::ZERO),
            false => Err(RecvTimeoutError::Timeout),
        };
        match next {
            Ok(copy) => running.extend(begin(copy)),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(oldest) = running.pop_front() {
                    finish(oldest);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn begin(copy: ShadowCopy) -> Option<RunningCopy> {
    let started = Instant::now();
    let step = &copy.traffic.step;
    let arm = copy.traffic.arms.get(copy.candidate)?.as_ref()?;
    let groups = groups(arm, &copy.input);
    if groups.as_ref().is_ok_and(|groups| groups.len() > 1) {
        dropped(&copy.traffic, copy.candidate);
        return None;
    }
    let counts = step.tally.claim(copy.candidate + 1, copy.hash.slot);
    let unit = Unit {
        counts,
        slot: copy.hash.slot,
        at_seconds: step.seconds(started),
    };
    let urgency = Urgency {
        deadline: started + TIMEOUT,
        priority: Priority::from_protocol(LOWEST_PRIORITY),
    };
    let submitted = groups.and_then(|mut groups| {
        let Group { tensors, .. } = groups.pop().ok_or(PredictError::Broken)?;
        // A job of zero rows would seem to fit into any run.
        Ok(arm
            .servable
            .batcher
            .submit(tensors, copy.rows.max(1), urgency)?)
    });
    match submitted {
        Ok(receiver) => {
            arm.servable.batcher.wake();
            Some(RunningCopy {
                copy,
                unit,
                started,
                receiver,
            })
        }
        Err(error) => {
            end(&copy, unit, started, Err(&error));
            None
        }
    }
}

/// Builds a candidate's input tensors from a request that the stable version decoded.
pub(super) fn groups(arm: &CandidateArm, input: &SharedInput) -> Result<Vec<Group>, PredictError> {
    match (input, &arm.servable.contents) {
        (SharedInput::Columns(columns), Contents::Package(packaged)) => {
            let bound = arm
                .binding
                .as_ref()
                .ok_or(PredictError::Broken)?
                .bind_ref(columns);
            to_groups(&arm.servable, packaged, &bound, false)
        }
        (SharedInput::Tensors(tensors), _) => Ok(vec![Group::all(Tensors::clone(tensors))]),
        _ => Err(PredictError::Broken),
    }
}

fn finish(running: RunningCopy) {
    let RunningCopy {
        copy,
        unit,
        started,
        receiver,
    } = running;
    let Some(arm) = copy
        .traffic
        .arms
        .get(copy.candidate)
        .and_then(Option::as_ref)
    else {
        return;
    };
    let answer = receiver
        .blocking_recv()
        .map_err(|_| PredictError::Broken)
        .and_then(|answer| answer.map_err(PredictError::from));
    let outcome =
        answer.and_then(|answer| read(&arm.servable, answer.outputs, copy.rows, &copy.input));
    end(&copy, unit, started, outcome.as_ref());
}

fn read(
    servable: &Servable,
    outputs: Tensors,
    rows: usize,
    input: &SharedInput,
) -> Result<ModelOutput, PredictError> {
    match input {
        SharedInput::Columns(_) => {
            interpret(servable, vec![(outputs, rows)], None).map(ModelOutput::Fields)
        }
        SharedInput::Tensors(_) => Ok(ModelOutput::Graph(outputs)),
    }
}

fn end(
    copy: &ShadowCopy,
    unit: Unit,
    started: Instant,
    outcome: Result<&ModelOutput, &PredictError>,
) {
    let step = &copy.traffic.step;
    count(
        &copy.traffic,
        copy.candidate + 1,
        unit,
        started.elapsed(),
        outcome,
    );
    let Some(metrics) = step.shadow_metrics.get(copy.candidate) else {
        return;
    };
    metrics.requests.inc();
    if let Ok(outcome) = outcome {
        let tolerance = step.plan.guards.disagreement_tolerance;
        let difference = compare(&copy.answer, outcome, tolerance);
        // The magnitudes are added up. NaN would make the sum useless, and such a pair counts as
        // different anyway.
        let magnitude = if difference.magnitude.is_finite() {
            difference.magnitude
        } else {
            0.0
        };
        step.tally.observe_pair(
            copy.candidate + 1,
            unit.counts,
            difference.differs,
            magnitude,
        );
        if difference.differs {
            metrics.disagreements.inc();
        }
    }
}
