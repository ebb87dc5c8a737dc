//! `Worker`: a thread that owns one engine, joins waiting jobs into runs and splits the outputs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    engine::{
        Engine, EngineError,
        error::Breakage,
        pool::{Pool, QueueState},
        queue::{Job, JobOutputs, QueueDecision, decide, drop_dead},
        retention,
        supervisor::Slot,
    },
    error::text_with_sources,
    tensor::{Tensors, join, split},
};

pub(super) struct Worker {
    pool: Arc<Pool>,
    engine: Box<dyn Engine>,
    slot: Arc<Slot>,
}

/// The supervisor abandoned this worker during a run. The thread must end, and its engine must not
/// run again.
struct Abandoned;

/// Why a run gave no outputs.
enum WorkerFailure {
    Abandoned,
    Failed(EngineError),
}

impl From<EngineError> for WorkerFailure {
    fn from(error: EngineError) -> WorkerFailure {
        WorkerFailure::Failed(error)
    }
}

enum Task {
    Run(Vec<Job>),
    /// Release memory, because no job came for some time.
    ReleaseMemory,
}

impl Worker {
    pub(super) fn new(pool: Arc<Pool>, engine: Box<dyn Engine>, slot: Arc<Slot>) -> Worker {
        Worker { pool, engine, slot }
    }

    /// Runs jobs until the batcher closes or the supervisor abandons the worker.
    pub(super) fn work(mut self) {
        while let Some(task) = self.next_task() {
            let jobs = match task {
                Task::Run(jobs) => jobs,
                Task::ReleaseMemory => {
                    self.engine.release_when_idle();
                    continue;
                }
            };
            let outcome = self.run(jobs);
            self.engine.release_after_run();
            if let Err(Abandoned) = outcome {
                // `abandon_worker` already removed this worker from the workers that are
                // alive.
                self.pool.lock().hung -= 1;
                self.pool.metrics.wedged_workers.dec();
                tracing::warn!(
                    model = %self.pool.name,
                    "the run of an abandoned engine worker returned; the worker ends"
                );
                return;
            }
        }
        let mut state = self.pool.lock();
        state.alive = state.alive.saturating_sub(1);
    }

    /// Waits for jobs. Returns `None` if the batcher is closed and its queue is empty.
    fn next_task(&self) -> Option<Task> {
        let idle_timeout = self
            .engine
            .holds_releasable_memory()
            .then_some(retention::IDLE);
        let mut state = self.pool.lock();
        loop {
            let now = Instant::now();
            drop_dead(&mut state.queue, now);
            self.pool.record_queue_depth(&state);
            match decide(&state.queue, &self.pool.policy, now) {
                QueueDecision::Take { jobs } => {
                    let jobs = state.queue.drain(..jobs).collect();
                    self.pool.record_queue_depth(&state);
                    if !state.queue.is_empty() {
                        self.pool.wake_one(&mut state);
                    }
                    return Some(Task::Run(jobs));
                }
                QueueDecision::WaitUntil(deadline) if !state.closed => {
                    (state, _) = self.sleep(state, Some(deadline - now));
                }
                QueueDecision::WaitUntil(_) => {
                    // No further job can come, so waiting for one would only delay the unload.
                    let jobs = state.queue.drain(..).collect();
                    return Some(Task::Run(jobs));
                }
                QueueDecision::Sleep if state.closed => return None,
                QueueDecision::Sleep => {
                    let timed_out;
                    (state, timed_out) = self.sleep(state, idle_timeout);
                    if timed_out && state.queue.is_empty() && !state.closed {
                        return Some(Task::ReleaseMemory);
                    }
                }
            }
        }
    }

    /// Sleeps until it is notified or until `timeout` passes. Returns whether the timeout passed.
    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, QueueState>,
        timeout: Option<Duration>,
    ) -> (MutexGuard<'a, QueueState>, bool) {
        state.asleep += 1;
        let ready = &self.pool.ready;
        let (mut state, timed_out) = match timeout {
            Some(timeout) => {
                let (state, result) = ready
                    .wait_timeout(state, timeout)
                    .unwrap_or_else(PoisonError::into_inner);
                (state, result.timed_out())
            }
            None => {
                let state = ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                (state, false)
            }
        };
        state.woke_up();
        (state, timed_out)
    }

    /// Runs the jobs together. If the run fails, runs each half of the jobs again, so that one bad
    /// row fails only its own request.
    fn run(&mut self, jobs: Vec<Job>) -> Result<(), Abandoned> {
        let started = Instant::now();
        let Some(deadline) = jobs.iter().map(|job| job.deadline).max() else {
            return Ok(());
        };
        if deadline <= started {
            answer_all(jobs, &EngineError::DeadlineExceeded);
            return Ok(());
        }
        // A caller that stops waiting after this point waited for the run, not for the queue.
        for running in jobs.iter().filter_map(|job| job.running.as_ref()) {
            running.store(true, Ordering::Relaxed);
        }
        let batch_rows = jobs.iter().map(|job| job.rows).sum();
        let outputs = self.run_joined(&jobs, deadline);
        let ran = started.elapsed();
        match outputs.and_then(|outputs| Ok(self.split_outputs(outputs, &jobs, ran)?)) {
            Ok(outputs) => {
                for (job, outputs) in jobs.into_iter().zip(outputs) {
                    let queued = started.saturating_duration_since(job.enqueued);
                    job.answer(Ok(JobOutputs {
                        outputs,
                        queued,
                        ran,
                        batch_rows,
                    }));
                }
                Ok(())
            }
            Err(WorkerFailure::Abandoned) => {
                self.lose(jobs, EngineError::DeadlineExceeded);
                Err(Abandoned)
            }
            Err(WorkerFailure::Failed(error)) => self.handle_failure(jobs, error),
        }
    }

    /// Runs the halves of a failed batch again, or answers the jobs with the error.
    fn handle_failure(&mut self, mut jobs: Vec<Job>, error: EngineError) -> Result<(), Abandoned> {
        match error {
            EngineError::Run(_) | EngineError::MemoryLimit { .. } if jobs.len() > 1 => {
                let second = jobs.split_off(jobs.len() / 2);
                if let Err(Abandoned) = self.run(jobs) {
                    answer_all(second, &EngineError::DeadlineExceeded);
                    return Err(Abandoned);
                }
                return self.run(second);
            }
            EngineError::Run(_) | EngineError::MemoryLimit { .. } => answer_all(jobs, &error),
            // Callers know deadlines. How the engine enforces them is internal.
            EngineError::Terminated => self.lose(jobs, EngineError::DeadlineExceeded),
            _ => self.lose(jobs, error),
        }
        Ok(())
    }

    /// Joins the inputs of the jobs and runs the engine once.
    fn run_joined(&mut self, jobs: &[Job], deadline: Instant) -> Result<Tensors, WorkerFailure> {
        // A job that runs alone needs no copy of its inputs.
        if let [job] = jobs {
            return self.run_guarded(&job.inputs, deadline);
        }
        match join(&jobs.iter().map(|job| &job.inputs).collect::<Vec<_>>()) {
            Some(batch) => self.run_guarded(&batch, deadline),
            None => Err(EngineError::run("rows that don't fit together").into()),
        }
    }

    /// Records the run and returns the outputs of each job.
    fn split_outputs(
        &self,
        outputs: Tensors,
        jobs: &[Job],
        ran: Duration,
    ) -> Result<Vec<Tensors>, EngineError> {
        let rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
        self.pool
            .metrics
            .observe_run(rows.iter().sum(), ran, self.pool.factory.intra_op_threads());
        if jobs.len() == 1 {
            return Ok(vec![outputs]);
        }
        split(outputs, &rows).ok_or_else(|| {
            EngineError::run("an output does not have one row for each row of the inputs")
        })
    }

    /// Answers the jobs of a run that was stopped or that panicked. None of these jobs has outputs.
    fn lose(&self, jobs: Vec<Job>, error: EngineError) {
        let rows = jobs.iter().map(|job| job.rows).sum();
        self.pool.metrics.runs.observe_failed(rows);
        answer_all(jobs, &EngineError::Lost(Box::new(error)));
    }

    /// Runs the engine once while the supervisor watches the deadline.
    fn run_guarded(
        &mut self,
        batch: &Tensors,
        deadline: Instant,
    ) -> Result<Tensors, WorkerFailure> {
        self.slot.begin(deadline);
        // A panic of a run must not end the worker, which serves other requests.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.engine.run(batch)));
        if !self.slot.end() {
            return Err(WorkerFailure::Abandoned);
        }
        match outcome {
            Ok(outputs) => Ok(outputs?),
            Err(_) => Err(self.replace_engine().into()),
        }
    }

    /// Replaces the engine after a panic, because a panic leaves it in an unknown state.
    fn replace_engine(&mut self) -> EngineError {
        self.pool.metrics.worker_panics.inc();
        tracing::error!(model = %self.pool.name, "an engine worker panicked");
        // If no new engine can be created, the worker keeps the old one: a worker without an engine
        // could not serve.
        match self.pool.factory.make() {
            Ok(engine) => {
                self.slot.replace_interrupt(engine.interrupt());
                self.engine = engine;
            }
            Err(error) => {
                tracing::error!(
                    model = %self.pool.name,
                    error = text_with_sources(&error),
                    "the engine of a worker that panicked could not be replaced"
                )
            }
        }
        EngineError::Broken(Breakage::Panicked)
    }
}

fn answer_all(jobs: Vec<Job>, error: &EngineError) {
    for job in jobs {
        job.answer(Err(error.clone()));
    }
}
