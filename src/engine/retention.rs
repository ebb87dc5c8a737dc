//! Retention: when an engine gives back to the system what its runs took. Pure.
//!
//! An arena keeps what the largest run needed, for the next one. That pays where runs of that size are usual, and else holds the
//! memory for ever.

use std::time::{Duration, Instant};

/// What a busy engine may hold beyond its weights without being asked for it.
const FLOOR_BYTES: u64 = 16 << 20;

/// What an idle one may hold: the next run pays for the pages of the rest, well below a millisecond for each 4 MiB.
pub const IDLE_FLOOR_BYTES: u64 = 4 << 20;

/// Runs in a row that take as much before it counts as usual.
const USUAL_RUNS: u32 = 8;

/// How long what was usual counts: after that it has to be shown again.
const REVIEW: Duration = Duration::from_secs(10);

/// A worker without a run for this long gives back what it holds.
pub const IDLE: Duration = Duration::from_secs(1);

/// Shorter runs are not measured: they had no time to fill much memory.
pub const MEASURED_FROM: Duration = Duration::from_micros(500);

#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// What runs usually take, and since when.
    usual: Option<(u64, Instant)>,
    /// Runs in a row that took more than that.
    larger: u32,
}

impl Retention {
    /// Whether what is usual must be shown again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.usual.is_some_and(|(_, since)| since + REVIEW <= now)
    }

    /// Between two runs, with so many bytes held beyond the weights: whether they are to be given back now.
    pub fn release_after_run(&mut self, held: u64, now: Instant) -> bool {
        if self.is_due(now) {
            *self = Retention::default();
            return held > FLOOR_BYTES;
        }
        let usual = self
            .usual
            .map_or(FLOOR_BYTES, |(bytes, _)| bytes.saturating_add(bytes / 5));
        if held <= usual.max(FLOOR_BYTES) {
            self.larger = 0;
            return false;
        }
        self.larger += 1;
        if self.larger < USUAL_RUNS {
            return true;
        }
        self.usual = Some((held, now));
        self.larger = 0;
        false
    }

    /// Without a run for `IDLE`: as above.
    pub fn release_when_idle(&mut self, held: u64) -> bool {
        *self = Retention::default();
        held > IDLE_FLOOR_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::engine::retention::{FLOOR_BYTES, IDLE_FLOOR_BYTES, REVIEW, Retention, USUAL_RUNS};

    const LARGE: u64 = 400 << 20;

    #[test]
    fn a_burst_is_given_back_and_what_is_usual_is_kept() {
        let (mut retention, now) = (Retention::default(), Instant::now());
        assert!(!retention.release_after_run(FLOOR_BYTES, now));
        for _ in 1..USUAL_RUNS {
            assert!(retention.release_after_run(LARGE, now));
        }
        // Runs that are all as large pay for their pages once.
        for _ in 0..100 {
            assert!(!retention.release_after_run(LARGE, now));
        }
        assert!(retention.release_after_run(LARGE * 2, now));
        assert!(!retention.release_after_run(LARGE, now));
    }

    #[test]
    fn a_small_run_between_large_ones_makes_them_unusual() {
        let (mut retention, now) = (Retention::default(), Instant::now());
        for run in 0..100 {
            assert_eq!(
                retention.release_after_run(if run % 4 == 3 { 0 } else { LARGE }, now),
                run % 4 != 3
            );
        }
    }

    #[test]
    fn what_was_usual_has_to_be_shown_again() {
        let (mut retention, start) = (Retention::default(), Instant::now());
        for _ in 0..USUAL_RUNS {
            retention.release_after_run(LARGE, start);
        }
        assert!(!retention.is_due(start));
        let later = start + REVIEW;
        assert!(retention.is_due(later) && retention.release_after_run(LARGE, later));
        assert!(!retention.is_due(later));
        assert!(
            retention.release_after_run(LARGE, later),
            "it counts from the beginning"
        );
    }

    #[test]
    fn an_idle_engine_keeps_little() {
        let (mut retention, now) = (Retention::default(), Instant::now());
        for _ in 0..USUAL_RUNS {
            retention.release_after_run(LARGE, now);
        }
        assert!(retention.release_when_idle(LARGE));
        assert!(
            retention.release_when_idle(FLOOR_BYTES)
                && !retention.release_when_idle(IDLE_FLOOR_BYTES)
        );
        assert!(
            retention.release_after_run(LARGE, now),
            "nothing is usual any more"
        );
    }
}
