//! `Runs`: histograms of a version's engine run times, grouped by the number of rows. The bins are
//! fine enough to compare versions.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Number of row buckets. Bucket b contains runs of more than 2^(b-1) and at most 2^b rows.
const ROW_BUCKETS: usize = 17;
/// Number of time bins. There are eight bins per octave, starting at 1024 ns.
const TIME_BINS: usize = 208;

#[derive(Default)]
struct Bucket {
    failed: AtomicU64,
    times: OnceLock<Box<[AtomicU64]>>,
}

/// The counters since the version was loaded. They only increase.
#[derive(Default)]
pub(crate) struct Runs {
    buckets: [Bucket; ROW_BUCKETS],
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

/// The values of the counters at one moment, by bucket of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunsView(pub BTreeMap<u8, RunsOfBucket>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunsOfBucket {
    pub failed: u64,
    /// The number of successful runs in each time bin.
    pub times: BTreeMap<u16, u64>,
}

/// The bucket of a run of `rows` rows.
pub(crate) fn bucket(rows: usize) -> u8 {
    let bucket = rows.max(1).next_power_of_two().trailing_zeros() as usize;
    bucket.min(ROW_BUCKETS - 1) as u8
}

fn bin(ns: u64) -> usize {
    let units = (ns >> 10).max(1);
    let octave = units.ilog2();
    let sub = if octave >= 3 {
        units >> (octave - 3)
    } else {
        units << (3 - octave)
    } & 7;
    (octave as usize * 8 + sub as usize).min(TIME_BINS - 1)
}

/// The lower edge of a time bin, in nanoseconds.
fn edge(bin: u16) -> u64 {
    let (octave, sub) = (u32::from(bin) / 8, u64::from(bin) % 8);
    ((8 + sub) << octave) * 128
}

impl Runs {
    pub(crate) fn observe(&self, rows: usize, elapsed: Duration) {
        let Some(bucket) = self.buckets.get(usize::from(bucket(rows))) else {
            return;
        };
        let times = bucket
            .times
            .get_or_init(|| (0..TIME_BINS).map(|_| AtomicU64::new(0)).collect());
        let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = times.get(bin(ns)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a run that gave no result for any of its requests, because it was stopped or
    /// panicked.
    pub(crate) fn observe_failed(&self, rows: usize) {
        if let Some(bucket) = self.buckets.get(usize::from(bucket(rows))) {
            bucket.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn view(&self) -> RunsView {
        let mut view = RunsView::default();
        for (index, bucket) in self.buckets.iter().enumerate() {
            let counts = bucket
                .times
                .get()
                .into_iter()
                .flat_map(|times| times.iter().enumerate());
            let times: BTreeMap<u16, u64> = counts
                .map(|(bin, count)| (bin as u16, count.load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect();
            let failed = bucket.failed.load(Ordering::Relaxed);
            if failed > 0 || !times.is_empty() {
                view.0.insert(index as u8, RunsOfBucket { failed, times });
            }
        }
        view
    }
}

impl RunsView {
    /// The difference between these values and the `earlier` values of the same counters.
    pub(crate) fn since(&self, earlier: &RunsView) -> RunsView {
        let mut view = self.clone();
        for (bucket, now) in &mut view.0 {
            let Some(before) = earlier.0.get(bucket) else {
                continue;
            };
            now.failed = now.failed.saturating_sub(before.failed);
            for (bin, count) in &mut now.times {
                *count = count.saturating_sub(before.times.get(bin).copied().unwrap_or_default());
            }
            now.times.retain(|_, count| *count > 0);
        }
        view.0
            .retain(|_, runs| runs.failed > 0 || !runs.times.is_empty());
        view
    }

    /// The successful runs in these values, combined with the failures in `other`.
    pub(crate) fn with_failures_of(&self, other: &RunsView) -> RunsView {
        let mut view = self.clone();
        for (bucket, runs) in &mut view.0 {
            runs.failed = other.0.get(bucket).map_or(0, |other| other.failed);
        }
        view
    }

    /// The number of runs of all sizes, including failed ones.
    pub(crate) fn total(&self) -> u64 {
        self.0
            .values()
            .map(|runs| runs.successes() + runs.failed)
            .sum()
    }

    pub(crate) fn add(&mut self, other: &RunsView) {
        for (bucket, runs) in &other.0 {
            let mine = self.0.entry(*bucket).or_default();
            mine.failed += runs.failed;
            for (bin, count) in &runs.times {
                *mine.times.entry(*bin).or_default() += count;
            }
        }
    }
}

impl RunsOfBucket {
    pub(crate) fn successes(&self) -> u64 {
        self.times.values().sum()
    }

    /// The number of successful runs that took at least `ns`. The number is exact if `ns` is a
    /// threshold from `quantile_ns`.
    pub(crate) fn at_least_ns(&self, ns: u64) -> u64 {
        self.times
            .iter()
            .filter(|(bin, _)| edge(**bin) >= ns)
            .map(|(_, count)| count)
            .sum()
    }

    /// A time that at most a share of 1 - `quantile` of the runs reached or exceeded. It is the
    /// upper edge of the bin that contains the quantile.
    pub(crate) fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let successes = self.successes();
        let mut below = 0;
        for (bin, count) in &self.times {
            below += count;
            if below as f64 >= quantile * successes as f64 {
                return Some(edge(bin + 1));
            }
        }
        None
    }

    /// The total time of all successful runs in nanoseconds. Its error is less than the width of a
    /// bin.
    pub(crate) fn total_ns(&self) -> f64 {
        self.times
            .iter()
            .map(|(bin, count)| (edge(*bin) + edge(bin + 1)) as f64 / 2.0 * *count as f64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::metrics::runs::{Runs, TIME_BINS, bin, bucket, edge};

    #[test]
    fn rows_fall_into_buckets_by_powers_of_two() {
        let buckets: Vec<u8> = [0, 1, 2, 3, 4, 5, 64, 65, 1 << 20].map(bucket).to_vec();
        assert_eq!(buckets, [0, 0, 1, 2, 2, 3, 6, 7, 16]);
    }

    #[test]
    fn counts_start_at_a_given_time() {
        let runs = Runs::default();
        for microseconds in [100, 200, 300, 400] {
            runs.observe(1, Duration::from_micros(microseconds));
        }
        let before = runs.view();
        let threshold = before.0[&0].quantile_ns(0.75).unwrap();
        assert!(threshold > 300_000 && threshold < 400_000, "{threshold}");
        assert_eq!(before.0[&0].at_least_ns(threshold), 1);
        runs.observe(1, Duration::from_millis(5));
        runs.observe_failed(1);
        runs.observe(9, Duration::from_millis(5));
        let since = runs.view().since(&before);
        assert_eq!(
            (
                since.0[&0].successes(),
                since.0[&0].failed,
                since.0[&0].at_least_ns(threshold)
            ),
            (1, 1, 1)
        );
        assert_eq!(since.0[&4].successes(), 1);
        assert!(runs.view().since(&runs.view()).0.is_empty());
    }

    proptest! {
        #[test]
        fn a_time_lies_in_its_bin(ns in 1024u64..1 << 33) {
            let bin = bin(ns) as u16;
            prop_assert!(edge(bin) <= ns && (ns < edge(bin + 1) || usize::from(bin) == TIME_BINS - 1), "{ns} {bin}");
        }
    }
}
