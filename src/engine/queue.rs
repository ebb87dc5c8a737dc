//! `Job`: rows that wait for a version's engines. `decide`: a pure function that chooses the jobs
//! of the next run.

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

/// Limits for a version's queue and for the runs that several requests share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchPolicy {
    /// Maximum number of rows in one run. It is 1 for a graph that can't be batched.
    pub max_batch_size: usize,
    /// Maximum time that the oldest job waits for more jobs to share its run.
    pub max_delay: Duration,
    /// Maximum number of waiting jobs. The next job is refused.
    pub queue_capacity: usize,
    /// Maximum number of rows in one request to a graph whose rows can't be split into several
    /// runs.
    pub max_rows_per_run: usize,
}

/// The order of jobs in a queue: lower numbers first, equal numbers in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Priority(u32);

impl Default for Priority {
    fn default() -> Priority {
        Priority(2)
    }
}

impl Priority {
    /// Reads the Open Inference Protocol's `priority`: 1 is the highest, 0 means the default.
    pub(crate) fn from_protocol(level: u64) -> Priority {
        if level == 0 {
            Priority::default()
        } else {
            Priority(u32::try_from(level).unwrap_or(u32::MAX))
        }
    }
}

/// When a job must be answered, and its priority in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Urgency {
    pub deadline: Instant,
    pub priority: Priority,
}

/// Inserts a job after the jobs of the same or a higher priority.
pub(crate) fn enqueue(queue: &mut VecDeque<Job>, job: Job) {
    // Nearly all jobs have the same priority. This case needs no search.
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

/// The outputs of a job, and the time that it took.
#[derive(Debug)]
pub(crate) struct JobOutputs {
    pub outputs: Tensors,
    /// The time from the submission to the start of the run.
    pub queued: Duration,
    /// The duration of the run, which several jobs may share.
    pub ran: Duration,
    /// The number of rows in the run, including those of other jobs.
    pub batch_rows: usize,
}

pub(crate) type JobResult = Result<JobOutputs, EngineError>;

/// Rows of one request that wait for an engine.
pub(crate) struct Job {
    pub inputs: Tensors,
    pub rows: usize,
    /// Whether the job must not share a run: it sets optional inputs that other jobs leave to the
    /// graph's defaults, or its inputs have different numbers of rows.
    pub exclusive: bool,
    pub priority: Priority,
    pub deadline: Instant,
    pub enqueued: Instant,
    /// Set when the run begins. A caller that stops waiting reads it to distinguish a full queue
    /// from a slow run.
    pub running: Option<Arc<AtomicBool>>,
    pub reply: oneshot::Sender<JobResult>,
}

impl Job {
    /// Sends the result to the caller.
    pub(crate) fn answer(self, result: JobResult) {
        // The send fails if the caller left. In this case nobody waits for the result.
        let _ = self.reply.send(result);
    }
}

/// What a worker must do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QueueDecision {
    /// Run the first `jobs` of the queue.
    Take { jobs: usize },
    /// Wait until this time for more jobs that share the run.
    WaitUntil(Instant),
    /// No job waits.
    Sleep,
}

/// Takes jobs in order while they fit into one run. It takes at least one job. It takes more rows
/// than the policy allows only if the first job alone has more.
pub(crate) fn decide(queue: &VecDeque<Job>, policy: &BatchPolicy, now: Instant) -> QueueDecision {
    let Some(first) = queue.front() else {
        return QueueDecision::Sleep;
    };
    let mut rows = first.rows;
    let mut jobs = 1;
    let mut oldest = first.enqueued;
    for job in queue.iter().skip(1) {
        // Jobs behind a job that does not fit keep their order: a job that is skipped could starve.
        if first.exclusive
            || job.exclusive
            || rows + job.rows > policy.max_batch_size
            || !have_equal_row_shapes(&first.inputs, &job.inputs)
        {
            return QueueDecision::Take { jobs };
        }
        rows += job.rows;
        jobs += 1;
        oldest = oldest.min(job.enqueued);
    }
    let due = oldest + policy.max_delay;
    if rows >= policy.max_batch_size || due <= now {
        QueueDecision::Take { jobs }
    } else {
        QueueDecision::WaitUntil(due)
    }
}

/// Removes the jobs whose caller left, and answers those whose deadline passed.
pub(crate) fn drop_dead(queue: &mut VecDeque<Job>, now: Instant) {
    if queue
        .iter()
        .all(|job| job.deadline > now && !job.reply.is_closed())
    {
        return;
    }
    // The answers are sent one by one, because `retain` can't take a job by value.
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

/// Whether each input has the same shape after its dimension of rows, so that rows can be joined.
fn have_equal_row_shapes(a: &Tensors, b: &Tensors) -> bool {
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
            queue::{BatchPolicy, Job, Priority, QueueDecision, decide, drop_dead, enqueue},
        },
        tensor::{Data, Tensor, Tensors},
    };

    fn job(
        rows: usize,
        width: usize,
        start: Instant,
    ) -> (Job, oneshot::Receiver<crate::engine::queue::JobResult>) {
        let (reply, receiver) = oneshot::channel();
        let tensor = Tensor::new(
            vec![rows, width],
            Data::zeros(crate::tensor::DataType::Fp32, rows * width),
        )
        .unwrap();
        let job = Job {
            inputs: Tensors(vec![(Arc::from("x"), tensor)]),
            rows,
            exclusive: false,
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
                let QueueDecision::Take { jobs } = decide(&queue, &policy(limit, 0), start) else { panic!("a waiting job was not taken") };
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
        fn higher_priorities_go_first_and_equal_ones_keep_their_order(levels in prop::collection::vec(0u64..4, 0..30)) {
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
    fn a_delay_waits_for_more_jobs_but_not_past_a_full_batch() {
        let start = Instant::now();
        let (mut queue, _receivers): (VecDeque<Job>, Vec<_>) =
            [job(1, 1, start), job(1, 1, start)].into_iter().unzip();
        assert_eq!(
            decide(&queue, &policy(4, 5), start),
            QueueDecision::WaitUntil(start + Duration::from_millis(5))
        );
        assert_eq!(
            decide(&queue, &policy(4, 5), start + Duration::from_millis(5)),
            QueueDecision::Take { jobs: 2 }
        );
        assert_eq!(
            decide(&queue, &policy(2, 5), start),
            QueueDecision::Take { jobs: 2 }
        );
        queue.clear();
        assert_eq!(decide(&queue, &policy(4, 0), start), QueueDecision::Sleep);
    }

    #[test]
    fn jobs_without_a_caller_are_removed_and_late_jobs_are_answered() {
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
