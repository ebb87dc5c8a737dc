//! Statistics: counts and durations of a version since it was loaded, as defined by the statistics
//! extension of the Open Inference Protocol.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The number of events and their total duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub count: u64,
    pub nanoseconds: u64,
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Counter {
    fn add(&self, elapsed: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(nanoseconds(elapsed), Ordering::Relaxed);
    }

    fn total(&self) -> Total {
        Total {
            count: self.count.load(Ordering::Relaxed),
            nanoseconds: self.nanoseconds.load(Ordering::Relaxed),
        }
    }
}

/// The durations of the stages of an answered request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestTimes {
    pub whole: Duration,
    pub queue: Duration,
    /// The duration of decoding and preprocessing.
    pub input: Duration,
    pub infer: Duration,
    /// The duration of postprocessing and encoding.
    pub output: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Statistics {
    success: Counter,
    fail: Counter,
    queue: Counter,
    compute_input: Counter,
    compute_infer: Counter,
    compute_output: Counter,
    /// The number of rows that were run.
    inferences: AtomicU64,
    /// The number of runs. Each run has one or more rows.
    executions: AtomicU64,
    /// The time of the last inference, in milliseconds since the Unix epoch. 0 means never.
    last_inference: AtomicU64,
    /// The runs, grouped by their number of rows.
    batches: Mutex<BTreeMap<usize, Total>>,
}

/// The statistics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatisticsView {
    pub success: Total,
    pub fail: Total,
    pub queue: Total,
    pub compute_input: Total,
    pub compute_infer: Total,
    pub compute_output: Total,
    pub inferences: u64,
    pub executions: u64,
    pub last_inference_ms: u64,
    pub batches: Vec<(usize, Total)>,
}

/// Maximum number of batch sizes that are counted separately. Further sizes are counted with the
/// largest, because a caller may send any number of rows.
const MAX_BATCH_SIZES: usize = 256;

impl Statistics {
    pub(crate) fn observe_ok(&self, times: &RequestTimes, now_ms: u64) {
        self.success.add(times.whole);
        self.queue.add(times.queue);
        self.compute_input.add(times.input);
        self.compute_infer.add(times.infer);
        self.compute_output.add(times.output);
        self.last_inference.fetch_max(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn observe_error(&self, elapsed: Duration) {
        self.fail.add(elapsed);
    }

    pub(crate) fn observe_run(&self, rows: usize, elapsed: Duration) {
        self.inferences.fetch_add(rows as u64, Ordering::Relaxed);
        self.executions.fetch_add(1, Ordering::Relaxed);
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let size = match batches.len() >= MAX_BATCH_SIZES && !batches.contains_key(&rows) {
            true => batches
                .last_key_value()
                .map_or(rows, |(largest, _)| *largest),
            false => rows,
        };
        let total = batches.entry(size).or_default();
        total.count += 1;
        total.nanoseconds += nanoseconds(elapsed);
    }

    pub(crate) fn view(&self) -> StatisticsView {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        StatisticsView {
            success: self.success.total(),
            fail: self.fail.total(),
            queue: self.queue.total(),
            compute_input: self.compute_input.total(),
            compute_infer: self.compute_infer.total(),
            compute_output: self.compute_output.total(),
            inferences: self.inferences.load(Ordering::Relaxed),
            executions: self.executions.load(Ordering::Relaxed),
            last_inference_ms: self.last_inference.load(Ordering::Relaxed),
            batches: batches
                .iter()
                .map(|(rows, total)| (*rows, *total))
                .collect(),
        }
    }
}

fn nanoseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::metrics::statistics::{MAX_BATCH_SIZES, Statistics, Total};

    #[test]
    fn rows_and_runs_are_counted_apart() {
        let statistics = Statistics::default();
        for rows in [1, 8, 8] {
            statistics.observe_run(rows, Duration::from_nanos(5));
        }
        let view = statistics.view();
        assert_eq!((view.inferences, view.executions), (17, 3));
        assert_eq!(
            view.batches,
            [
                (
                    1,
                    Total {
                        count: 1,
                        nanoseconds: 5
                    }
                ),
                (
                    8,
                    Total {
                        count: 2,
                        nanoseconds: 10
                    }
                )
            ]
        );
    }

    #[test]
    fn the_sizes_that_callers_send_do_not_fill_the_memory() {
        let statistics = Statistics::default();
        for rows in 0..10 * MAX_BATCH_SIZES {
            statistics.observe_run(rows, Duration::ZERO);
        }
        let view = statistics.view();
        assert_eq!(view.batches.len(), MAX_BATCH_SIZES);
        assert_eq!(
            view.batches
                .iter()
                .map(|(_, total)| total.count)
                .sum::<u64>(),
            view.executions
        );
    }
}
