//! `Retention`: decides when an engine returns the memory of its runs to the system. It only
//! decides: it calls neither the engine nor the system.
//!
//! ONNX Runtime's arena keeps the memory of the largest run. Runs of the usual size use it again. The
//! memory of one unusually large run would be kept for ever, so it is returned.

use std::time::{Duration, Instant};

/// Bytes beyond its weights that a busy engine may always keep.
const FLOOR_BYTES: u64 = 16 << 20;

/// Bytes beyond its weights that an idle engine may keep. The next run faults the released pages in
/// again, which costs well below a millisecond per 4 MiB.
pub(crate) const IDLE_FLOOR_BYTES: u64 = 4 << 20;

/// Number of consecutive runs after which a size counts as usual.
const USUAL_RUNS: u32 = 8;

/// The time after which the usual size is forgotten and must be observed again, so that the memory
/// of a past load is not kept for ever.
const REVIEW: Duration = Duration::from_secs(10);

/// The time without a run after which a worker releases its memory.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// Minimum duration of a run that is measured. Shorter runs have no time to fill much memory, and a
/// measurement costs a call of the library.
pub(crate) const MEASURED_FROM: Duration = Duration::from_micros(500);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    /// The number of bytes that runs usually take, and the time since which it counts as usual.
    usual: Option<(u64, Instant)>,
    /// The number of consecutive runs that took more than the usual size.
    larger: u32,
}

impl Retention {
    /// Whether the usual size must be observed again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.usual.is_some_and(|(_, since)| since + REVIEW <= now)
    }

    /// Whether an engine that uses `held` bytes beyond its weights after a run must release them.
    pub(crate) fn release_after_run(&mut self, held: u64, now: Instant) -> bool {
        if self.is_due(now) {
            *self = Retention::default();
            return held > FLOOR_BYTES;
        }
        // Runs of the same kind differ a little in size, so up to a fifth more still counts as
        // usual.
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

    /// Whether an engine without a run for `IDLE` must release the `held` bytes beyond its weights.
    pub(crate) fn release_when_idle(&mut self, held: u64) -> bool {
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
    fn a_burst_is_released_and_the_usual_size_is_kept() {
        let (mut retention, now) = (Retention::default(), Instant::now());
        assert!(!retention.release_after_run(FLOOR_BYTES, now));
        for _ in 1..USUAL_RUNS {
            assert!(retention.release_after_run(LARGE, now));
        }
        // Runs of the same size fault their pages in once.
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
    fn a_usual_size_must_be_observed_again() {
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
            "the count starts again"
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
            "no size is usual any more"
        );
    }
}
