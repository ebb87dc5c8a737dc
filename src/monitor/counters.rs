//! `Counters`: counts that many threads increase without a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Maximum number of copies. More threads share copies, which stays correct.
const MAX_COPIES: usize = 16;

/// Counters, with one copy for each thread, so that threads do not wait for each other's caches.
pub(super) struct Counters {
    copies: Box<[ThreadCounters]>,
}

/// The counters of one thread. Another thread may read them at any time.
pub(super) struct ThreadCounters(Box<[AtomicU64]>);

impl Counters {
    pub(super) fn new(length: usize) -> Counters {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let copy = || ThreadCounters((0..length).map(|_| AtomicU64::new(0)).collect());
        Counters {
            copies: (0..cores.clamp(1, MAX_COPIES)).map(|_| copy()).collect(),
        }
    }

    /// The number of counters.
    pub(super) fn len(&self) -> usize {
        self.copies.first().map_or(0, |copy| copy.0.len())
    }

    /// The copy of the calling thread.
    pub(super) fn of_this_thread(&self) -> Option<&ThreadCounters> {
        static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
        }
        let thread = THREAD.with(|thread| *thread);
        let copy = thread.checked_rem(self.copies.len())?;
        self.copies.get(copy)
    }

    /// The sums of all copies.
    pub(super) fn totals(&self) -> Vec<u64> {
        let mut totals = vec![0; self.len()];
        for copy in &self.copies {
            for (total, counter) in totals.iter_mut().zip(&copy.0) {
                *total += counter.load(Ordering::Relaxed);
            }
        }
        totals
    }
}

impl ThreadCounters {
    pub(super) fn add(&self, index: usize, count: u64) {
        if let Some(counter) = self.0.get(index) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}
