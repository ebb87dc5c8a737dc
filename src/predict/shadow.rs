//! Shadow: the second copy of a request, for a candidate whose answer is compared and thrown away. Its caller never waits for it.

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
        Outcome, PredictError,
        assign::{compare, note},
        interpret,
        prepare::to_groups,
    },
    registry::{
        servable::{Contents, Servable},
        traffic::{Arm, Traffic},
    },
    rollout::{split::KeyHash, tally::Unit},
    schema::columns::Columns,
    tensor::Tensors,
    transform::preprocess::Group,
};

/// Copies that wait; more are dropped and counted.
const CAPACITY: usize = 256;
/// Copies under way at once.
const WINDOW: usize = 8;
/// Larger requests are not copied.
const MAX_ROWS: usize = 1024;
/// A copy that is not answered by then failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Behind everything else that waits for the candidate's engines.
const LAST: u64 = u32::MAX as u64;
/// Copies yield to traffic: the operating system gives this thread what is left over.
const NICENESS: i32 = 15;

/// What the stable version decoded, for a candidate to answer, too.
#[derive(Clone)]
pub enum Copied {
    Fields(Arc<Columns>),
    Tensors(Arc<Tensors>),
}

pub struct Copy {
    pub traffic: Arc<Traffic>,
    /// The candidate's place.
    pub candidate: usize,
    pub hash: KeyHash,
    pub data: Copied,
    pub rows: usize,
    /// It came row by row, as `Prepared::by_row`.
    pub by_row: bool,
    /// The stable version's answer.
    pub answer: Arc<Outcome>,
}

/// The door to the thread that answers copies; it ends when the door is dropped.
#[derive(Clone)]
pub struct Shadow {
    copies: SyncSender<Copy>,
}

impl Shadow {
    pub fn start() -> std::io::Result<Shadow> {
        let (copies, inbox) = sync_channel(CAPACITY);
        thread::Builder::new()
            .name("shadow".to_owned())
            .spawn(move || {
                // The low priority is this thread's own; the engines' threads keep theirs.
                if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                    tracing::debug!(error = %error, "copies are answered at normal priority");
                }
                work(&inbox);
            })?;
        Ok(Shadow { copies })
    }

    /// Never waits. What would take more than one run is not copied.
    pub fn offer(&self, copy: Copy) {
        let (traffic, candidate) = (Arc::clone(&copy.traffic), copy.candidate);
        let arm = traffic.arms.get(candidate).and_then(Option::as_ref);
        let fits = arm.is_some_and(|arm| {
            // Tensors go whole into an engine that does not know rows.
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

/// Counts a copy that was not made.
fn dropped(traffic: &Traffic, candidate: usize) {
    if let Some(metrics) = traffic.step.shadow_metrics.get(candidate) {
        metrics.dropped.inc();
    }
}

/// A copy that a run is under way for.
struct Running {
    copy: Copy,
    unit: Unit,
    started: Instant,
    receiver: oneshot::Receiver<JobResult>,
}

fn work(inbox: &Receiver<Copy>) {
    let mut running: VecDeque<Running> = VecDeque::new();
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

fn begin(copy: Copy) -> Option<Running> {
    let started = Instant::now();
    let step = &copy.traffic.step;
    let arm = copy.traffic.arms.get(copy.candidate)?.as_ref()?;
    let groups = groups(arm, &copy.data);
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
        deadline: started + PATIENCE,
        priority: Priority::from_protocol(LAST),
    };
    let submitted = groups.and_then(|mut groups| {
        let Group { tensors, .. } = groups.pop().ok_or(PredictError::Broken)?;
        // A job of no rows would seem to fit into any run.
        Ok(arm
            .servable
            .batcher
            .submit(tensors, copy.rows.max(1), urgency)?)
    });
    match submitted {
        Ok(receiver) => {
            arm.servable.batcher.wake();
            Some(Running {
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

/// The candidate's own tensors of what the stable version decoded.
pub fn groups(arm: &Arm, data: &Copied) -> Result<Vec<Group>, PredictError> {
    match (data, &arm.servable.contents) {
        (Copied::Fields(columns), Contents::Package(packaged)) => {
            let bound = arm
                .binding
                .as_ref()
                .ok_or(PredictError::Broken)?
                .bind_ref(columns);
            to_groups(&arm.servable, packaged, &bound, false)
        }
        (Copied::Tensors(tensors), _) => Ok(vec![Group::all(Tensors::clone(tensors))]),
        _ => Err(PredictError::Broken),
    }
}

fn finish(running: Running) {
    let Running {
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
        answer.and_then(|answer| read(&arm.servable, answer.outputs, copy.rows, &copy.data));
    end(&copy, unit, started, outcome.as_ref());
}

fn read(
    servable: &Servable,
    outputs: Tensors,
    rows: usize,
    data: &Copied,
) -> Result<Outcome, PredictError> {
    match data {
        Copied::Fields(_) => interpret(servable, vec![(outputs, rows)], None).map(Outcome::Fields),
        Copied::Tensors(_) => Ok(Outcome::Graph(outputs)),
    }
}

fn end(copy: &Copy, unit: Unit, started: Instant, outcome: Result<&Outcome, &PredictError>) {
    let step = &copy.traffic.step;
    note(
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
        let (differs, difference) = compare(
            &copy.answer,
            outcome,
            step.plan.guards.disagreement_tolerance,
        );
        let difference = if difference.is_finite() {
            difference
        } else {
            0.0
        };
        step.tally
            .observe_pair(copy.candidate + 1, unit.counts, differs, difference);
        if differs {
            metrics.disagreements.inc();
        }
    }
}
