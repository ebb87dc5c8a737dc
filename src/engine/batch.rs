//! `Batcher`: accepts jobs for the engines of one version.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    engine::{
        Engine, EngineError, EngineFactory, Unready,
        error::Breakage,
        pool::Pool,
        queue::{BatchPolicy, Job, JobResult, Urgency, drop_dead, enqueue},
        supervisor::Supervisor,
        worker_threads,
    },
    metrics::EngineMetrics,
    tensor::Tensors,
};

/// Accepts jobs for a version's engines. After it is dropped, the workers finish the waiting jobs
/// and end.
pub(crate) struct Batcher {
    pool: Arc<Pool>,
}

pub(crate) struct BatcherParts {
    /// The name of the version in logs and thread names.
    pub name: String,
    /// The engines, one per worker.
    pub engines: Vec<Box<dyn Engine>>,
    pub factory: Arc<dyn EngineFactory>,
    pub policy: BatchPolicy,
    pub metrics: EngineMetrics,
    pub supervisor: Arc<Supervisor>,
}

impl Batcher {
    pub(crate) fn start(parts: BatcherParts) -> std::io::Result<Batcher> {
        let BatcherParts {
            name,
            engines,
            factory,
            policy,
            metrics,
            supervisor,
        } = parts;
        let pool = Arc::new(Pool {
            name,
            state: Default::default(),
            ready: Default::default(),
            policy,
            metrics,
            factory,
            supervisor,
            workers: engines.len(),
        });
        let batcher = Batcher { pool };
        for engine in engines {
            worker_threads::spawn(&batcher.pool, engine)?;
        }
        Ok(batcher)
    }

    /// Queues rows for a run. The receiver gets the result.
    ///
    /// A worker that is running takes the job after its run. Call `wake` to wake a sleeping worker.
    pub(crate) fn submit(
        &self,
        inputs: Tensors,
        rows: usize,
        urgency: Urgency,
    ) -> Result<oneshot::Receiver<JobResult>, EngineError> {
        self.submit_marked(inputs, rows, urgency, None)
    }

    /// Queues rows like `submit`, and sets `running` when the job's run begins.
    pub(crate) fn submit_marked(
        &self,
        inputs: Tensors,
        rows: usize,
        urgency: Urgency,
        running: Option<Arc<AtomicBool>>,
    ) -> Result<oneshot::Receiver<JobResult>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        let Urgency { deadline, priority } = urgency;
        // Rows can be joined only if every input has one block per row.
        let uneven = inputs
            .0
            .iter()
            .any(|(_, tensor)| tensor.rows() != inputs.rows());
        let exclusive = uneven || inputs.0.len() != self.pool.factory.signature().inputs.len();
        let job = Job {
            inputs,
            rows,
            exclusive,
            priority,
            deadline,
            enqueued: Instant::now(),
            running,
            reply,
        };
        let mut state = self.pool.lock();
        if state.closed {
            return Err(EngineError::Closed);
        }
        if state.is_dead() {
            return Err(EngineError::Broken(Breakage::NoWorker));
        }
        // The queue is bounded, so that an overload is refused at once instead of timing out.
        if state.queue.len() >= self.pool.policy.queue_capacity {
            // Jobs whose caller left must not cause the refusal of a job whose caller is waiting.
            drop_dead(&mut state.queue, job.enqueued);
            if state.queue.len() >= self.pool.policy.queue_capacity {
                return Err(EngineError::QueueFull);
            }
        }
        enqueue(&mut state.queue, job);
        self.pool.record_queue_depth(&state);
        Ok(receiver)
    }

    /// Wakes a worker if jobs are waiting. Call it once after several calls of `submit`: waking a
    /// thread costs more than queueing a job, and a later wake lets more rows share the run.
    pub(crate) fn wake(&self) {
        let mut state = self.pool.lock();
        if !state.queue.is_empty() {
            self.pool.wake_one(&mut state);
        }
    }

    pub(crate) fn policy(&self) -> &BatchPolicy {
        &self.pool.policy
    }

    /// Why this version should get no traffic. `None` means that it is ready.
    pub(crate) fn unready_reason(&self, now: Instant) -> Option<Unready> {
        self.pool.lock().unready_reason(now)
    }

    pub(crate) fn queue_len(&self) -> usize {
        self.pool.lock().queue.len()
    }

    /// Refuses new jobs from now on. The workers still answer the jobs that wait.
    pub(crate) fn close(&self) {
        self.pool.lock().closed = true;
        self.pool.ready.notify_all();
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.close();
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
            error::Breakage,
            queue::{BatchPolicy, Priority, Urgency},
            supervisor::Supervisor,
        },
        metrics::Metrics,
        tensor::{Data, Tensor, Tensors, signature::Signature},
    };

    /// An engine that panics on negative numbers, returns one row too few for a zero, and otherwise
    /// returns its inputs.
    struct StubEngine;

    struct IgnoredInterrupt;

    impl Interrupt for IgnoredInterrupt {
        fn terminate(&self) {}

        fn reset(&self) {}
    }

    impl Engine for StubEngine {
        fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
            let Data::Fp32(values) = batch.0[0].1.data() else {
                panic!("the tests send float32 only")
            };
            assert!(
                values.iter().all(|x| *x >= 0.0),
                "simulates a bug of the library"
            );
            if values.contains(&0.0) && values.len() > 1 {
                return Ok(numbers(&values[1..]));
            }
            Ok(batch.clone())
        }

        fn interrupt(&self) -> Arc<dyn Interrupt> {
            Arc::new(IgnoredInterrupt)
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

    /// Queues all jobs before waking the worker, so that they share a run.
    fn submit_all(batcher: &Batcher, values: &[f32]) -> Vec<Result<Tensors, EngineError>> {
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
    fn a_panic_is_answered_and_counted_and_the_worker_gets_a_new_engine() {
        let (factory, metrics) = (Arc::new(StubFactory::default()), Metrics::new(0.0).unwrap());
        let batcher = batcher(&factory, &metrics);
        let Err(EngineError::Lost(error)) = &submit_all(&batcher, &[-1.0])[0] else {
            panic!("the run did not fail")
        };
        assert!(matches!(**error, EngineError::Broken(Breakage::Panicked)));
        assert_eq!(
            (metrics.panics().get(), factory.made.load(Ordering::SeqCst)),
            (1, 1)
        );
        assert_eq!(
            submit_all(&batcher, &[2.0])[0].as_ref().unwrap(),
            &numbers(&[2.0])
        );
    }

    #[test]
    fn outputs_with_too_few_rows_fail_only_the_request_that_caused_it() {
        let (factory, metrics) = (Arc::new(StubFactory::default()), Metrics::new(0.0).unwrap());
        let answers = submit_all(&batcher(&factory, &metrics), &[1.0, 0.0, 3.0, 4.0]);
        for (answer, x) in answers.iter().zip([1.0, 0.0, 3.0, 4.0]) {
            assert_eq!(answer.as_ref().unwrap(), &numbers(&[x]));
        }
    }

    #[test]
    fn a_closed_batcher_answers_waiting_jobs_and_takes_no_new_ones() {
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
