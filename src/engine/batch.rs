//! Batch: joins waiting jobs into runs, on worker threads that each own an engine, and splits the answers back.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    engine::{
        Engine, EngineError, EngineFactory,
        queue::{Answer, BatchPolicy, Decision, Job, Urgency, decide, drop_dead, enqueue},
        retention,
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
    /// Workers being made in place of abandoned ones: jobs may wait for them.
    coming: usize,
    /// Workers that sleep, and those of them that were woken but have not yet got up.
    asleep: usize,
    waking: usize,
    /// Abandoned workers that have not come back; below zero for a moment where one comes back while it is being abandoned.
    wedged: isize,
    abandoned_at: VecDeque<Instant>,
}

impl State {
    /// Nobody would ever take a job.
    fn is_dead(&self) -> bool {
        self.alive == 0 && self.coming == 0
    }

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
        let state = State {
            queue: VecDeque::new(),
            closed: false,
            alive: 0,
            coming: 0,
            asleep: 0,
            waking: 0,
            wedged: 0,
            abandoned_at: VecDeque::new(),
        };
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
        urgency: Urgency,
    ) -> Result<oneshot::Receiver<Result<Answer, EngineError>>, EngineError> {
        self.submit_marked(inputs, rows, urgency, None)
    }

    /// As `submit`; `running` is set once the job's run begins.
    pub fn submit_marked(
        &self,
        inputs: Tensors,
        rows: usize,
        urgency: Urgency,
        running: Option<Arc<AtomicBool>>,
    ) -> Result<oneshot::Receiver<Result<Answer, EngineError>>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        let Urgency { deadline, priority } = urgency;
        let uneven = inputs
            .0
            .iter()
            .any(|(_, tensor)| tensor.rows() != inputs.rows());
        let alone = uneven || inputs.0.len() != self.shared.factory.signature().inputs.len();
        let job = Job {
            inputs,
            rows,
            alone,
            priority,
            deadline,
            enqueued: Instant::now(),
            running,
            reply,
        };
        let mut state = self.shared.lock();
        if state.closed {
            return Err(EngineError::Closed);
        }
        if state.is_dead() {
            return Err(EngineError::Broken {
                detail: "no worker is left".to_owned(),
            });
        }
        if state.queue.len() >= self.shared.policy.queue_capacity {
            drop_dead(&mut state.queue, job.enqueued);
            if state.queue.len() >= self.shared.policy.queue_capacity {
                return Err(EngineError::QueueFull);
            }
        }
        enqueue(&mut state.queue, job);
        self.shared
            .metrics
            .queue_depth
            .set(state.queue.len() as i64);
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
        while state
            .abandoned_at
            .front()
            .is_some_and(|at| *at + RELAPSE_WINDOW <= now)
        {
            state.abandoned_at.pop_front();
        }
        if state.is_dead() {
            return Some("no worker is left".to_owned());
        }
        let relapses = state.abandoned_at.len();
        (relapses >= RELAPSES).then(|| {
            format!(
                "{relapses} engine workers hung in the last {} s",
                RELAPSE_WINDOW.as_secs()
            )
        })
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
        let replaced = wedged <= (self.workers * 2) as isize;
        state.coming += usize::from(replaced);
        drop(state);
        self.metrics.wedged_workers.inc();
        tracing::error!(model = %self.name, wedged, "an engine worker does not come back from its run and was abandoned");
        if !replaced {
            tracing::error!(model = %self.name, wedged, "too many hanging workers: no replacement");
            self.refuse_waiting_if_dead();
            return;
        }
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("replace-worker".to_owned())
            .spawn(move || shared.replace());
        if let Err(error) = spawned {
            tracing::error!(model = %self.name, error = %error, "no thread for a replacement worker");
            self.lock().coming -= 1;
            self.refuse_waiting_if_dead();
        }
    }

    fn replace(self: &Arc<Shared>) {
        let outcome = self.factory.make().map_err(|error| error.to_string());
        let outcome = outcome
            .and_then(|engine| spawn_worker(self, engine).map_err(|error| error.to_string()));
        self.lock().coming -= 1;
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
        if !state.is_dead() {
            return;
        }
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        for job in waiting {
            job.answer(Err(EngineError::Broken {
                detail: "no worker is left".to_owned(),
            }));
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
    let worker = Worker {
        shared: Arc::clone(shared),
        engine,
        slot: Arc::clone(&slot),
    };
    shared.lock().alive += 1;
    let spawned = thread::Builder::new()
        .name(format!("engine-{}", shared.name))
        .spawn(move || worker.work());
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

/// What a worker does next.
enum Next {
    Run(Vec<Job>),
    /// No job came for a while.
    Rest,
}

/// How a run ended for the worker itself.
enum Fate {
    GoOn,
    Abandoned,
}

impl Worker {
    fn work(mut self) {
        while let Some(next) = self.next() {
            let jobs = match next {
                Next::Run(jobs) => jobs,
                Next::Rest => {
                    self.engine.rest();
                    continue;
                }
            };
            let fate = self.run(jobs);
            self.engine.settle();
            if let Fate::Abandoned = fate {
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
    fn next(&self) -> Option<Next> {
        let restless = self.engine.is_restless();
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            drop_dead(&mut state.queue, now);
            self.shared
                .metrics
                .queue_depth
                .set(state.queue.len() as i64);
            match decide(&state.queue, &self.shared.policy, now) {
                Decision::Take { jobs } => {
                    let jobs = state.queue.drain(..jobs).collect();
                    self.shared
                        .metrics
                        .queue_depth
                        .set(state.queue.len() as i64);
                    if !state.queue.is_empty() {
                        self.shared.wake_one(&mut state);
                    }
                    return Some(Next::Run(jobs));
                }
                Decision::WaitUntil(then) if !state.closed => {
                    state.asleep += 1;
                    state = self
                        .shared
                        .ready
                        .wait_timeout(state, then - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                    state.got_up();
                }
                Decision::WaitUntil(_) => {
                    // Closing: what waits is run without further delay.
                    let jobs = state.queue.drain(..).collect();
                    return Some(Next::Run(jobs));
                }
                Decision::Sleep if state.closed => return None,
                Decision::Sleep if restless => {
                    state.asleep += 1;
                    let (woken, timeout) = self
                        .shared
                        .ready
                        .wait_timeout(state, retention::IDLE)
                        .unwrap_or_else(PoisonError::into_inner);
                    state = woken;
                    state.got_up();
                    if timeout.timed_out() && state.queue.is_empty() && !state.closed {
                        return Some(Next::Rest);
                    }
                }
                Decision::Sleep => {
                    state.asleep += 1;
                    state = self
                        .shared
                        .ready
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.got_up();
                }
            }
        }
    }

    /// Runs the jobs together. When the run fails each half is tried alone, so that one bad row fails only its request.
    fn run(&mut self, mut jobs: Vec<Job>) -> Fate {
        let rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
        let started = Instant::now();
        let Some(deadline) = jobs.iter().map(|job| job.deadline).max() else {
            return Fate::GoOn;
        };
        if deadline <= started {
            jobs.into_iter()
                .for_each(|job| job.answer(Err(EngineError::DeadlineExceeded)));
            return Fate::GoOn;
        }
        for running in jobs.iter().filter_map(|job| job.running.as_ref()) {
            running.store(true, Ordering::Relaxed);
        }
        let joined = if jobs.len() == 1 {
            None
        } else {
            join(&jobs.iter().map(|job| &job.inputs).collect::<Vec<_>>())
        };
        let outcome = match (&joined, jobs.as_slice()) {
            (Some(batch), _) => self.run_guarded(batch, deadline),
            (None, [job]) => self.run_guarded(&job.inputs, deadline),
            (None, _) => Ok(Err(EngineError::run("rows that don't fit together"))),
        };
        let ran = started.elapsed();
        let Ok(outcome) = outcome else {
            self.lose(jobs, EngineError::DeadlineExceeded);
            return Fate::Abandoned;
        };
        if outcome.is_ok() {
            self.shared.metrics.observe_run(
                rows.iter().sum(),
                ran,
                self.shared.factory.intra_op_threads(),
            );
        }
        let outputs = outcome.and_then(|outputs| match jobs.len() {
            1 => Ok(vec![outputs]),
            _ => split(outputs, &rows).ok_or_else(|| {
                EngineError::run("the outputs have not a row for each row of the inputs")
            }),
        });
        match outputs {
            Ok(outputs) => {
                for (job, outputs) in jobs.into_iter().zip(outputs) {
                    let queued = started.saturating_duration_since(job.enqueued);
                    job.answer(Ok(Answer {
                        outputs,
                        queued,
                        ran,
                    }));
                }
                Fate::GoOn
            }
            Err(EngineError::Run { .. } | EngineError::MemoryLimit { .. }) if jobs.len() > 1 => {
                let second = jobs.split_off(jobs.len() / 2);
                match self.run(jobs) {
                    Fate::GoOn => self.run(second),
                    Fate::Abandoned => {
                        second
                            .into_iter()
                            .for_each(|job| job.answer(Err(EngineError::DeadlineExceeded)));
                        Fate::Abandoned
                    }
                }
            }
            Err(error @ (EngineError::Run { .. } | EngineError::MemoryLimit { .. })) => {
                jobs.into_iter()
                    .for_each(|job| job.answer(Err(error.clone())));
                Fate::GoOn
            }
            Err(error) => {
                self.lose(
                    jobs,
                    if error == EngineError::Terminated {
                        EngineError::DeadlineExceeded
                    } else {
                        error
                    },
                );
                Fate::GoOn
            }
        }
    }

    /// A run that was stopped or panicked gave nothing to any of its jobs.
    fn lose(&self, jobs: Vec<Job>, error: EngineError) {
        self.shared
            .metrics
            .runs
            .observe_failed(jobs.iter().map(|job| job.rows).sum());
        let error = EngineError::Lost(Box::new(error));
        jobs.into_iter()
            .for_each(|job| job.answer(Err(error.clone())));
    }

    /// One run under the supervisor's eyes; `Err(())` when the worker was given up meanwhile.
    fn run_guarded(
        &mut self,
        batch: &Tensors,
        deadline: Instant,
    ) -> Result<Result<Tensors, EngineError>, ()> {
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
            Err(error) => {
                tracing::error!(model = %self.shared.name, error = %error, "the engine could not be made anew")
            }
        }
        EngineError::Broken {
            detail: "an engine worker panicked".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::{Duration, Instant},
    };

    use crate::{
        engine::{
            Engine, EngineError, EngineFactory, Interrupt,
            batch::{Batcher, BatcherParts},
            queue::{BatchPolicy, Priority, Urgency},
            supervisor::Supervisor,
        },
        metrics::Metrics,
        tensor::{Data, Tensor, Tensors, signature::Signature},
    };

    /// Panics on negative numbers, gives a row too few on zero, else answers what it was asked.
    struct StubEngine;

    struct Deaf;

    impl Interrupt for Deaf {
        fn terminate(&self) {}

        fn reset(&self) {}
    }

    impl Engine for StubEngine {
        fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
            let Data::Fp32(values) = batch.0[0].1.data() else {
                panic!("not what the test sends")
            };
            assert!(values.iter().all(|x| *x >= 0.0), "a bug of the library");
            if values.contains(&0.0) && values.len() > 1 {
                return Ok(numbers(&values[1..]));
            }
            Ok(batch.clone())
        }

        fn interrupt(&self) -> Arc<dyn Interrupt> {
            Arc::new(Deaf)
        }
    }

    #[derive(Default)]
    struct StubFactory {
        signature: Signature,
        made: AtomicUsize,
    }

    impl EngineFactory for StubFactory {
        fn make(&self) -> Result<Box<dyn Engine>, EngineError> {
            self.made.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(StubEngine))
        }

        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn intra_op_threads(&self) -> usize {
            1
        }
    }

    fn numbers(values: &[f32]) -> Tensors {
        Tensors(vec![(
            Arc::from("x"),
            Tensor::new(vec![values.len(), 1], Data::Fp32(values.to_vec().into())).unwrap(),
        )])
    }

    fn batcher(factory: &Arc<StubFactory>, metrics: &Metrics) -> Batcher {
        let policy = BatchPolicy {
            max_batch_size: 8,
            max_delay: Duration::ZERO,
            queue_capacity: 8,
            max_rows_per_run: 8,
        };
        let factory: Arc<dyn EngineFactory> = factory.clone();
        let supervisor = Arc::new(Supervisor::start().unwrap());
        let metrics = metrics.version("stub", "1.0.0").engine;
        Batcher::start(BatcherParts {
            name: "stub".to_owned(),
            engines: vec![Box::new(StubEngine)],
            factory,
            policy,
            metrics,
            supervisor,
        })
        .unwrap()
    }

    /// Queues all before the worker is woken, so that they share a run.
    fn ask(batcher: &Batcher, values: &[f32]) -> Vec<Result<Tensors, EngineError>> {
        let urgency = Urgency {
            deadline: Instant::now() + Duration::from_secs(60),
            priority: Priority::default(),
        };
        let receivers: Vec<_> = values
            .iter()
            .map(|x| batcher.submit(numbers(&[*x]), 1, urgency).unwrap())
            .collect();
        batcher.wake();
        receivers
            .into_iter()
            .map(|receiver| {
                receiver
                    .blocking_recv()
                    .unwrap()
                    .map(|answer| answer.outputs)
            })
            .collect()
    }

    #[test]
    fn a_panic_is_answered_and_counted_and_the_worker_comes_back() {
        let (factory, metrics) = (Arc::new(StubFactory::default()), Metrics::new(0.0).unwrap());
        let batcher = batcher(&factory, &metrics);
        let Err(EngineError::Lost(error)) = &ask(&batcher, &[-1.0])[0] else {
            panic!("it was answered")
        };
        assert!(matches!(**error, EngineError::Broken { .. }));
        assert_eq!(
            (
                metrics.worker_panics.get(),
                factory.made.load(Ordering::SeqCst)
            ),
            (1, 1)
        );
        assert_eq!(ask(&batcher, &[2.0])[0].as_ref().unwrap(), &numbers(&[2.0]));
    }

    #[test]
    fn outputs_without_a_row_for_each_row_fail_only_who_caused_it() {
        let (factory, metrics) = (Arc::new(StubFactory::default()), Metrics::new(0.0).unwrap());
        let answers = ask(&batcher(&factory, &metrics), &[1.0, 0.0, 3.0, 4.0]);
        for (answer, x) in answers.iter().zip([1.0, 0.0, 3.0, 4.0]) {
            assert_eq!(answer.as_ref().unwrap(), &numbers(&[x]));
        }
    }

    #[test]
    fn a_closed_batcher_answers_what_waits_and_takes_no_more() {
        let (factory, metrics) = (Arc::new(StubFactory::default()), Metrics::new(0.0).unwrap());
        let batcher = batcher(&factory, &metrics);
        let urgency = Urgency {
            deadline: Instant::now() + Duration::from_secs(60),
            priority: Priority::default(),
        };
        let waiting = batcher.submit(numbers(&[1.0]), 1, urgency).unwrap();
        batcher.close();
        assert_eq!(
            waiting.blocking_recv().unwrap().unwrap().outputs,
            numbers(&[1.0])
        );
        assert_eq!(
            batcher.submit(numbers(&[1.0]), 1, urgency).unwrap_err(),
            EngineError::Closed
        );
    }
}
