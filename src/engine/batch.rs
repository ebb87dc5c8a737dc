//! Batch: joins waiting jobs into runs, on worker threads that each own an engine, and splits the answers back.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    engine::{
        Engine, EngineError, EngineFactory,
        queue::{Answer, BatchPolicy, Decision, Job, decide, drop_dead},
        supervisor::{Slot, Supervisor},
    },
    metrics::EngineMetrics,
    tensor::{Tensors, join, split},
};

/// Abandoned workers within this time make a version unready.
const RELAPSE_WINDOW: Duration = Duration::from_secs(60);
const RELAPSES: usize = 2;

/// What the worker threads of one version share.
struct Shared {
    name: String,
    state: Mutex<State>,
    ready: Condvar,
    policy: BatchPolicy,
    metrics: EngineMetrics,
    factory: Arc<dyn EngineFactory>,
    supervisor: Arc<Supervisor>,
    workers: usize,
}

struct State {
    queue: VecDeque<Job>,
    closed: bool,
    /// Workers that take jobs.
    alive: usize,
    /// Workers that sleep, and those of them that were woken but have not yet got up.
    asleep: usize,
    waking: usize,
    /// Abandoned workers that have not come back.
    wedged: usize,
    abandoned_at: VecDeque<Instant>,
}

impl State {
    fn got_up(&mut self) {
        self.asleep -= 1;
        self.waking = self.waking.saturating_sub(1);
    }
}

/// The door to a version's engines; dropping it lets the workers finish what waits, and end.
pub struct Batcher {
    shared: Arc<Shared>,
}

/// What a batcher is made of.
pub struct BatcherParts {
    /// For logs and thread names.
    pub name: String,
    /// One per worker.
    pub engines: Vec<Box<dyn Engine>>,
    pub factory: Arc<dyn EngineFactory>,
    pub policy: BatchPolicy,
    pub metrics: EngineMetrics,
    pub supervisor: Arc<Supervisor>,
}

impl Batcher {
    pub fn start(parts: BatcherParts) -> std::io::Result<Batcher> {
        let state =
            State { queue: VecDeque::new(), closed: false, alive: 0, asleep: 0, waking: 0, wedged: 0, abandoned_at: VecDeque::new() };
        let shared = Arc::new(Shared {
            name: parts.name,
            state: Mutex::new(state),
            ready: Condvar::new(),
            policy: parts.policy,
            metrics: parts.metrics,
            factory: parts.factory,
            supervisor: parts.supervisor,
            workers: parts.engines.len(),
        });
        let batcher = Batcher { shared };
        for engine in parts.engines {
            spawn_worker(&batcher.shared, engine)?;
        }
        Ok(batcher)
    }

    /// Queues rows for a run; the answer comes through the receiver. A refusal costs nothing.
    ///
    /// Workers that are awake take the job when they get to it; `wake` sees to it that one is.
    pub fn submit(
        &self,
        inputs: Tensors,
        rows: usize,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Answer, EngineError>>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        let job = Job { inputs, rows, deadline, enqueued: Instant::now(), reply };
        let mut state = self.shared.lock();
        if state.closed {
            return Err(EngineError::Closed);
        }
        if state.alive == 0 {
            return Err(EngineError::Broken { detail: "no worker is left".to_owned() });
        }
        if state.queue.len() >= self.shared.policy.queue_capacity {
            drop_dead(&mut state.queue, job.enqueued);
            if state.queue.len() >= self.shared.policy.queue_capacity {
                return Err(EngineError::QueueFull);
            }
        }
        state.queue.push_back(job);
        self.shared.metrics.queue_depth.set(state.queue.len() as i64);
        Ok(receiver)
    }

    /// Wakes a worker where jobs wait and all are asleep or busy. To be called after `submit`, and best once for several:
    /// waking costs more than queueing, and the later it happens the more rows share the run.
    pub fn wake(&self) {
        let mut state = self.shared.lock();
        if !state.queue.is_empty() {
            self.shared.wake_one(&mut state);
        }
    }

    pub fn policy(&self) -> &BatchPolicy {
        &self.shared.policy
    }

    /// Why this version should get no traffic; `None` while it is well.
    pub fn ailment(&self, now: Instant) -> Option<String> {
        let mut state = self.shared.lock();
        while state.abandoned_at.front().is_some_and(|at| *at + RELAPSE_WINDOW <= now) {
            state.abandoned_at.pop_front();
        }
        if state.alive == 0 {
            return Some("no worker is left".to_owned());
        }
        let relapses = state.abandoned_at.len();
        (relapses >= RELAPSES).then(|| format!("{relapses} engine workers hung in the last {} s", RELAPSE_WINDOW.as_secs()))
    }

    pub fn queue_len(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// No new jobs; what waits is still answered.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is paid where nobody sleeps: the condition variable would enter the kernel all the same.
    fn wake_one(&self, state: &mut State) {
        if state.asleep > state.waking {
            state.waking += 1;
            self.ready.notify_one();
        }
    }

    /// The supervisor gave a worker up: another takes its place, unless too many hang already.
    fn abandon(self: &Arc<Shared>) {
        let mut state = self.lock();
        state.alive = state.alive.saturating_sub(1);
        state.wedged += 1;
        state.abandoned_at.push_back(Instant::now());
        let wedged = state.wedged;
        drop(state);
        self.metrics.wedged_workers.inc();
        tracing::error!(model = %self.name, wedged, "an engine worker does not come back from its run and was abandoned");
        if wedged > self.workers * 2 {
            tracing::error!(model = %self.name, wedged, "too many hanging workers: no replacement");
            self.refuse_waiting_if_dead();
            return;
        }
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new().name("replace-worker".to_owned()).spawn(move || shared.replace());
        if let Err(error) = spawned {
            tracing::error!(model = %self.name, error = %error, "no thread for a replacement worker");
            self.refuse_waiting_if_dead();
        }
    }

    fn replace(self: &Arc<Shared>) {
        let outcome = self.factory.make().map_err(|error| error.to_string());
        let outcome = outcome.and_then(|engine| spawn_worker(self, engine).map_err(|error| error.to_string()));
        match outcome {
            Ok(()) => tracing::warn!(model = %self.name, "a replacement engine worker started"),
            Err(error) => {
                tracing::error!(model = %self.name, error, "no replacement engine worker");
                self.refuse_waiting_if_dead();
            }
        }
    }

    /// Without a worker nobody would ever answer what waits.
    fn refuse_waiting_if_dead(&self) {
        let mut state = self.lock();
        if state.alive > 0 {
            return;
        }
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        for job in waiting {
            job.answer(Err(EngineError::Broken { detail: "no worker is left".to_owned() }));
        }
    }
}

fn spawn_worker(shared: &Arc<Shared>, engine: Box<dyn Engine>) -> std::io::Result<()> {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    let on_abandon = move || {
        if let Some(shared) = weak.upgrade() {
            shared.abandon();
        }
    };
    let slot = Slot::new(engine.interrupt(), Box::new(on_abandon));
    let worker = Worker { shared: Arc::clone(shared), engine, slot: Arc::clone(&slot) };
    shared.lock().alive += 1;
    let spawned = thread::Builder::new().name(format!("engine-{}", shared.name)).spawn(move || worker.work());
    if let Err(error) = spawned {
        shared.lock().alive -= 1;
        return Err(error);
    }
    shared.supervisor.add(&slot);
    Ok(())
}

struct Worker {
    shared: Arc<Shared>,
    engine: Box<dyn Engine>,
    slot: Arc<Slot>,
}

/// How a run ended for the worker itself.
enum Fate {
    GoOn,
    Abandoned,
}

impl Worker {
    fn work(mut self) {
        while let Some(jobs) = self.next() {
            if let Fate::Abandoned = self.run(jobs) {
                self.shared.lock().wedged -= 1;
                self.shared.metrics.wedged_workers.dec();
                tracing::warn!(model = %self.shared.name, "an abandoned engine worker came back and ended");
                return;
            }
        }
        let mut state = self.shared.lock();
        state.alive = state.alive.saturating_sub(1);
    }

    /// Waits for jobs; `None` when the batcher is closed and nothing waits any more.
    fn next(&self) -> Option<Vec<Job>> {
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            drop_dead(&mut state.queue, now);
            match decide(&state.queue, &self.shared.policy, now) {
                Decision::Take { jobs } => {
                    let jobs = state.queue.drain(..jobs).collect();
                    self.shared.metrics.queue_depth.set(state.queue.len() as i64);
                    if !state.queue.is_empty() {
                        self.shared.wake_one(&mut state);
                    }
                    return Some(jobs);
                }
                Decision::WaitUntil(then) if !state.closed => {
                    state.asleep += 1;
                    state = self.shared.ready.wait_timeout(state, then - now).unwrap_or_else(PoisonError::into_inner).0;
                    state.got_up();
                }
                Decision::WaitUntil(_) => {
                    // Closing: what waits is run without further delay.
                    let jobs = state.queue.drain(..).collect();
                    return Some(jobs);
                }
                Decision::Sleep if state.closed => return None,
                Decision::Sleep => {
                    state.asleep += 1;
                    state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.got_up();
                }
            }
        }
    }

    /// Runs the jobs together. When the run fails each half is tried alone, so that one bad row fails only its request.
    fn run(&mut self, mut jobs: Vec<Job>) -> Fate {
        let rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
        let started = Instant::now();
        let Some(deadline) = jobs.iter().map(|job| job.deadline).max() else { return Fate::GoOn };
        if deadline <= started {
            jobs.into_iter().for_each(|job| job.answer(Err(EngineError::DeadlineExceeded)));
            return Fate::GoOn;
        }
        let joined = if jobs.len() == 1 { None } else { join(&jobs.iter().map(|job| &job.inputs).collect::<Vec<_>>()) };
        let outcome = match (&joined, jobs.as_slice()) {
            (Some(batch), _) => self.run_guarded(batch, deadline),
            (None, [job]) => self.run_guarded(&job.inputs, deadline),
            (None, _) => Ok(Err(EngineError::Run { detail: "rows that don't fit together".to_owned() })),
        };
        let ran = started.elapsed();
        let Ok(outcome) = outcome else {
            jobs.into_iter().for_each(|job| job.answer(Err(EngineError::DeadlineExceeded)));
            return Fate::Abandoned;
        };
        if outcome.is_ok() {
            self.shared.metrics.observe_run(rows.iter().sum(), ran, self.shared.factory.intra_op_threads());
        }
        let outputs = outcome.and_then(|outputs| match jobs.len() {
            1 => Ok(vec![outputs]),
            _ => split(outputs, &rows)
                .ok_or_else(|| EngineError::Run { detail: "the outputs have not a row for each row of the inputs".to_owned() }),
        });
        match outputs {
            Ok(outputs) => {
                for (job, outputs) in jobs.into_iter().zip(outputs) {
                    let queued = started.saturating_duration_since(job.enqueued);
                    job.answer(Ok(Answer { outputs, queued, ran }));
                }
                Fate::GoOn
            }
            Err(EngineError::Run { .. }) if jobs.len() > 1 => {
                let second = jobs.split_off(jobs.len() / 2);
                match self.run(jobs) {
                    Fate::GoOn => self.run(second),
                    Fate::Abandoned => {
                        second.into_iter().for_each(|job| job.answer(Err(EngineError::DeadlineExceeded)));
                        Fate::Abandoned
                    }
                }
            }
            Err(error) => {
                let error = if error == EngineError::Terminated { EngineError::DeadlineExceeded } else { error };
                jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
                Fate::GoOn
            }
        }
    }

    /// One run under the supervisor's eyes; `Err(())` when the worker was given up meanwhile.
    fn run_guarded(&mut self, batch: &Tensors, deadline: Instant) -> Result<Result<Tensors, EngineError>, ()> {
        self.slot.begin(deadline);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.engine.run(batch)));
        if !self.slot.end() {
            return Err(());
        }
        Ok(outcome.unwrap_or_else(|_| Err(self.recover())))
    }

    /// After a panic the engine's state is unknown: it is made anew.
    fn recover(&mut self) -> EngineError {
        self.shared.metrics.worker_panics.inc();
        tracing::error!(model = %self.shared.name, "an engine worker panicked");
        match self.shared.factory.make() {
            Ok(engine) => {
                self.slot.replace_interrupt(engine.interrupt());
                self.engine = engine;
            }
            Err(error) => tracing::error!(model = %self.shared.name, error = %error, "the engine could not be made anew"),
        }
        EngineError::Broken { detail: "an engine worker panicked".to_owned() }
    }
}
