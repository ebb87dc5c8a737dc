//! Queue: the jobs that wait for a version's engines, and the pure decision what the next run takes.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    engine::EngineError,
    tensor::{Tensor, Tensors},
};

/// How rows of several requests may share a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Rows in one run; 1 where the graph can't be batched.
    pub max_batch_size: usize,
    /// How long the oldest job may wait for company.
    pub max_delay: Duration,
    /// Jobs that may wait.
    pub queue_capacity: usize,
    /// Rows in one run of a graph whose rows can't be cut into several.
    pub max_rows_per_run: usize,
}

/// Whose turn it is: lower numbers come first, equals in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u32);

impl Default for Priority {
    fn default() -> Priority {
        Priority(2)
    }
}

impl Priority {
    /// As the Open Inference Protocol's `priority` says it: 1 is the highest, 0 means the default.
    pub fn from_protocol(level: u64) -> Priority {
        if level == 0 {
            Priority::default()
        } else {
            Priority(u32::try_from(level).unwrap_or(u32::MAX))
        }
    }
}

/// By when a job must be answered, and before whom.
#[derive(Clone, Copy, Debug)]
pub struct Urgency {
    pub deadline: Instant,
    pub priority: Priority,
}

/// Puts a job behind all that are as urgent.
pub fn enqueue(queue: &mut VecDeque<Job>, job: Job) {
    if queue
        .back()
        .is_none_or(|last| last.priority <= job.priority)
    {
        queue.push_back(job);
        return;
    }
    let at = queue.partition_point(|waiting| waiting.priority <= job.priority);
    queue.insert(at, job);
}

/// What a job's run gave, and where its time went.
#[derive(Debug)]
pub struct Answer {
    pub outputs: Tensors,
    pub queued: Duration,
    pub ran: Duration,
}

/// Rows of one request on their way to an engine.
pub struct Job {
    pub inputs: Tensors,
    pub rows: usize,
    /// Its run is nobody else's: it gives inputs that others leave to the graph, or inputs of different numbers of rows.
    pub alone: bool,
    pub priority: Priority,
    pub deadline: Instant,
    pub enqueued: Instant,
    /// Set when its run begins, for whoever wants to know what it waited for in vain.
    pub running: Option<Arc<AtomicBool>>,
    pub reply: oneshot::Sender<Result<Answer, EngineError>>,
}

impl Job {
    /// Answers; a caller that hung up misses nothing.
    pub fn answer(self, outcome: Result<Answer, EngineError>) {
        let _ = self.reply.send(outcome);
    }
}

/// What a worker should do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run the first `jobs` of the queue.
    Take { jobs: usize },
    /// Wait for more company until then.
    WaitUntil(Instant),
    /// Nothing is waiting.
    Sleep,
}

/// Takes jobs in order as long as they fit together, never more rows than the policy allows (but always one job).
pub fn decide(queue: &VecDeque<Job>, policy: &BatchPolicy, now: Instant) -> Decision {
    let Some(first) = queue.front() else {
        return Decision::Sleep;
    };
    let mut rows = first.rows;
    let mut jobs = 1;
    let mut oldest = first.enqueued;
    for job in queue.iter().skip(1) {
        if first.alone
            || job.alone
            || rows + job.rows > policy.max_batch_size
            || !same_rows(&first.inputs, &job.inputs)
        {
            return Decision::Take { jobs };
        }
        rows += job.rows;
        jobs += 1;
        oldest = oldest.min(job.enqueued);
    }
    let ripe = oldest + policy.max_delay;
    if rows >= policy.max_batch_size || ripe <= now {
        Decision::Take { jobs }
    } else {
        Decision::WaitUntil(ripe)
    }
}

/// Removes the jobs that nobody waits for any more; those whose deadline passed get their answer.
pub fn drop_dead(queue: &mut VecDeque<Job>, now: Instant) {
    if queue
        .iter()
        .all(|job| job.deadline > now && !job.reply.is_closed())
    {
        return;
    }
    for job in std::mem::take(queue) {
        if job.reply.is_closed() {
            continue;
        }
        if job.deadline <= now {
            job.answer(Err(EngineError::DeadlineExceeded))
        } else {
            queue.push_back(job)
        }
    }
}

fn same_rows(a: &Tensors, b: &Tensors) -> bool {
    fn row(tensor: &Tensor) -> &[usize] {
        tensor.shape().get(1..).unwrap_or(&[])
    }
    a.0.iter()
        .zip(&b.0)
        .all(|((_, a), (_, b))| row(a) == row(b))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::Arc,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use crate::{
        engine::{
            EngineError,
            queue::{BatchPolicy, Decision, Job, Priority, decide, drop_dead, enqueue},
        },
        tensor::{Data, Tensor, Tensors},
    };

    fn job(
        rows: usize,
        width: usize,
        start: Instant,
    ) -> (
        Job,
        oneshot::Receiver<Result<crate::engine::queue::Answer, EngineError>>,
    ) {
        let (reply, receiver) = oneshot::channel();
        let tensor = Tensor::new(
            vec![rows, width],
            Data::zeros(crate::tensor::DataType::Fp32, rows * width),
        )
        .unwrap();
        let job = Job {
            inputs: Tensors(vec![(Arc::from("x"), tensor)]),
            rows,
            alone: false,
            priority: Priority::default(),
            deadline: start + Duration::from_secs(1),
            enqueued: start,
            running: None,
            reply,
        };
        (job, receiver)
    }

    fn policy(max_batch_size: usize, delay_ms: u64) -> BatchPolicy {
        BatchPolicy {
            max_batch_size,
            max_delay: Duration::from_millis(delay_ms),
            queue_capacity: 100,
            max_rows_per_run: 100,
        }
    }

    proptest! {
        #[test]
        fn a_run_never_exceeds_the_limit_and_nothing_starves(jobs in prop::collection::vec((1usize..9, 1usize..3), 1..40), limit in 1usize..20) {
            let start = Instant::now();
            let (mut queue, _receivers): (VecDeque<Job>, Vec<_>) = jobs.iter().map(|(rows, width)| job(*rows, *width, start)).unzip();
            let mut order = Vec::new();
            while !queue.is_empty() {
                let Decision::Take { jobs } = decide(&queue, &policy(limit, 0), start) else { panic!("a waiting job was not taken") };
                let taken: Vec<Job> = queue.drain(..jobs).collect();
                let rows: usize = taken.iter().map(|job| job.rows).sum();
                prop_assert!(rows <= limit || taken.len() == 1);
                prop_assert!(taken.iter().all(|job| job.inputs.0[0].1.shape()[1] == taken[0].inputs.0[0].1.shape()[1]));
                order.extend(taken.iter().map(|job| (job.rows, job.inputs.0[0].1.shape()[1])));
            }
            prop_assert_eq!(order, jobs);
        }
    }

    proptest! {
        #[test]
        fn the_urgent_go_first_and_equals_keep_their_order(levels in prop::collection::vec(0u64..4, 0..30)) {
            let start = Instant::now();
            let mut queue = VecDeque::new();
            for (index, level) in levels.iter().enumerate() {
                let (mut job, _) = job(index + 1, 1, start);
                job.priority = Priority::from_protocol(*level);
                enqueue(&mut queue, job);
            }
            let mut expected: Vec<(Priority, usize)> = levels.iter().enumerate().map(|(index, level)| (Priority::from_protocol(*level), index + 1)).collect();
            expected.sort();
            prop_assert_eq!(queue.iter().map(|job| (job.priority, job.rows)).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_delay_waits_for_company_but_not_past_a_full_batch() {
        let start = Instant::now();
        let (mut queue, _receivers): (VecDeque<Job>, Vec<_>) =
            [job(1, 1, start), job(1, 1, start)].into_iter().unzip();
        assert_eq!(
            decide(&queue, &policy(4, 5), start),
            Decision::WaitUntil(start + Duration::from_millis(5))
        );
        assert_eq!(
            decide(&queue, &policy(4, 5), start + Duration::from_millis(5)),
            Decision::Take { jobs: 2 }
        );
        assert_eq!(
            decide(&queue, &policy(2, 5), start),
            Decision::Take { jobs: 2 }
        );
        queue.clear();
        assert_eq!(decide(&queue, &policy(4, 0), start), Decision::Sleep);
    }

    #[test]
    fn the_dead_leave_the_queue_and_the_late_are_told() {
        let start = Instant::now();
        let (gone, receiver) = job(1, 1, start);
        drop(receiver);
        let (late, mut late_receiver) = job(1, 1, start - Duration::from_secs(5));
        let (alive, _alive_receiver) = job(1, 1, start);
        let mut queue = VecDeque::from([gone, late, alive]);
        drop_dead(&mut queue, start);
        assert_eq!(queue.len(), 1);
        assert_eq!(
            late_receiver.try_recv().unwrap().unwrap_err(),
            EngineError::DeadlineExceeded
        );
    }
}
