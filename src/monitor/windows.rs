//! `Windows`: the counts of the last minutes, hours and days, from counters that only grow.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The number of parts of a window. A window begins at a limit between two parts, so it may be
/// longer by one part.
const PARTS: u32 = 10;

pub(super) struct Windows {
    windows: Vec<Window>,
}

struct Window {
    length: Duration,
    /// Counts at earlier moments, the oldest first. The first one is the beginning of the window.
    kept: VecDeque<KeptCounts>,
}

struct KeptCounts {
    at: Instant,
    counts: Box<[u64]>,
}

/// The counts of one window.
pub(super) struct WindowCounts {
    pub length: Duration,
    /// The time that the counts cover. It is shorter than `length` after a start.
    pub covered: Duration,
    pub counts: Vec<u64>,
}

impl Window {
    fn part(&self) -> Duration {
        self.length / PARTS
    }

    fn is_due(&self, now: Instant) -> bool {
        let last = self.kept.back();
        last.is_none_or(|last| now.saturating_duration_since(last.at) >= self.part())
    }

    /// Drops the counts that are older than the beginning of the window.
    fn trim(&mut self, now: Instant) {
        let is_old = |kept: &KeptCounts| now.saturating_duration_since(kept.at) >= self.length;
        while self.kept.get(1).is_some_and(is_old) {
            self.kept.pop_front();
        }
    }
}

impl Windows {
    /// Windows of these lengths over `counters` counters, which are all 0 now.
    pub(super) fn new(lengths: &[Duration], counters: usize, now: Instant) -> Windows {
        let zeros = || KeptCounts {
            at: now,
            counts: vec![0; counters].into(),
        };
        let window = |length: &Duration| Window {
            length: *length,
            kept: VecDeque::from([zeros()]),
        };
        Windows {
            windows: lengths.iter().map(window).collect(),
        }
    }

    /// Whether a window needs the current counts.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.windows.iter().any(|window| window.is_due(now))
    }

    pub(super) fn keep(&mut self, now: Instant, totals: &[u64]) {
        for window in self.windows.iter_mut().filter(|window| window.is_due(now)) {
            window.kept.push_back(KeptCounts {
                at: now,
                counts: totals.into(),
            });
            window.trim(now);
        }
    }

    /// The counts of each window, which ends now.
    pub(super) fn differences(&mut self, now: Instant, totals: &[u64]) -> Vec<WindowCounts> {
        let windows = self.windows.iter_mut().filter_map(|window| {
            window.trim(now);
            let first = window.kept.front()?;
            let counts = totals.iter().zip(&first.counts);
            Some(WindowCounts {
                length: window.length,
                covered: now.saturating_duration_since(first.at),
                counts: counts
                    .map(|(total, before)| total.saturating_sub(*before))
                    .collect(),
            })
        });
        windows.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::monitor::windows::Windows;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_counts_its_own_time_and_at_most_one_part_more() {
        let start = Instant::now();
        let mut windows = Windows::new(&[100 * SECOND, 1000 * SECOND], 1, start);
        // One event each second.
        for second in 1..=2000_u32 {
            let now = start + second * SECOND;
            if windows.is_due(now) {
                windows.keep(now, &[u64::from(second)]);
            }
            for (window, length) in windows
                .differences(now, &[u64::from(second)])
                .iter()
                .zip([100, 1000])
            {
                let expected = length.min(second);
                let count = window.counts[0];
                assert_eq!(window.covered.as_secs(), count, "one event each second");
                assert!(
                    (u64::from(expected)..=u64::from(expected + length / 10)).contains(&count),
                    "{second} s: {count} in {length} s"
                );
            }
        }
    }

    #[test]
    fn counts_before_the_window_are_forgotten() {
        let start = Instant::now();
        let mut windows = Windows::new(&[100 * SECOND], 2, start);
        windows.keep(start + 10 * SECOND, &[5, 0]);
        // Nothing was kept for a long time, as after a stop of the process.
        let late = windows.differences(start + 500 * SECOND, &[5, 7]);
        assert_eq!(late[0].counts, [0, 7]);
    }
}
