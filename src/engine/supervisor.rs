//! `Supervisor`: stops runs at their deadline, and abandons workers whose run does not return.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::engine::Interrupt;

/// How often the supervisor checks the runs. A run may exceed its deadline by this duration.
const TICK: Duration = Duration::from_millis(20);

/// How long a worker may stay inside a node after a termination. After this time the worker is
/// abandoned. The runtime checks for a termination only between two nodes.
const GRACE: Duration = Duration::from_secs(2);

/// The current activity of one worker. The worker and the supervisor share it.
///
/// Lock order: `state` before `interrupt`.
pub(crate) struct Slot {
    state: Mutex<WorkerState>,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
    /// Called once when the worker is abandoned. The caller holds no lock.
    on_abandon: Box<dyn Fn() + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerState {
    Idle,
    Running { deadline: Instant },
    Terminating { since: Instant },
    Abandoned,
}

impl Slot {
    pub(crate) fn new(
        interrupt: Arc<dyn Interrupt>,
        on_abandon: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Slot> {
        Arc::new(Slot {
            state: Mutex::new(WorkerState::Idle),
            interrupt: Mutex::new(Some(interrupt)),
            on_abandon,
        })
    }

    /// Records that the worker starts a run, which must end by `deadline`.
    pub(crate) fn begin(&self, deadline: Instant) {
        *self.lock() = WorkerState::Running { deadline };
    }

    /// Records that the run returned. Returns `false` if the worker was abandoned and must end.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.lock();
        match *state {
            WorkerState::Abandoned => return false,
            // All runs of the engine share these options. Without the reset the next run would stop
            // at once.
            WorkerState::Terminating { .. } => self.with_interrupt(|interrupt| interrupt.reset()),
            WorkerState::Running { .. } | WorkerState::Idle => {}
        }
        *state = WorkerState::Idle;
        true
    }

    /// Sets the interrupt of the engine that replaces the worker's previous one.
    pub(crate) fn replace_interrupt(&self, interrupt: Arc<dyn Interrupt>) {
        *self
            .interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(interrupt);
    }

    /// Terminates the run if its deadline passed. Abandons the worker if a terminated run does not
    /// return. The supervisor calls this method.
    ///
    /// The lock on the state is held during the termination. Otherwise the run could end first, and
    /// the termination would stop the next run.
    fn check(&self, now: Instant) {
        let mut state = self.lock();
        match *state {
            WorkerState::Running { deadline } if deadline <= now => {
                self.with_interrupt(|interrupt| interrupt.terminate());
                *state = WorkerState::Terminating { since: now };
            }
            WorkerState::Terminating { since } if since + GRACE <= now => {
                *state = WorkerState::Abandoned;
                // `on_abandon` takes the pool's lock. The state is unlocked first, so that the two
                // locks can't deadlock.
                drop(state);
                (self.on_abandon)();
            }
            _ => {}
        }
    }

    fn with_interrupt(&self, act: impl FnOnce(&dyn Interrupt)) {
        if let Some(interrupt) = &*self
            .interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            act(&**interrupt);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WorkerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread that watches the workers of all versions.
pub(crate) struct Supervisor {
    watched: Arc<WatchedWorkers>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct WatchedWorkers {
    /// The references are weak, so that a worker that ended leaves the list.
    slots: Mutex<Vec<Weak<Slot>>>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Supervisor {
    pub(crate) fn start() -> std::io::Result<Supervisor> {
        let watched = Arc::new(WatchedWorkers::default());
        let of_thread = Arc::clone(&watched);
        let thread = thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || watch(&of_thread))?;
        Ok(Supervisor {
            watched,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn add(&self, slot: &Arc<Slot>) {
        self.watched
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(slot));
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        *self
            .watched
            .stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.watched.wake.notify_all();
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = thread.join();
        }
    }
}

fn watch(watched: &WatchedWorkers) {
    let mut stopped = watched
        .stopped
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        stopped = watched
            .wake
            .wait_timeout(stopped, TICK)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let now = Instant::now();
        // Workers add their slot only when they start, so this lock is rarely contended.
        let mut slots = watched.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| {
            slot.upgrade().is_some_and(|slot| {
                slot.check(now);
                true
            })
        });
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

    use crate::engine::{
        Interrupt,
        supervisor::{GRACE, Slot},
    };

    #[derive(Default)]
    struct Calls {
        terminated: AtomicUsize,
        reset: AtomicUsize,
        abandoned: AtomicUsize,
    }

    impl Interrupt for Calls {
        fn terminate(&self) {
            self.terminated.fetch_add(1, Ordering::SeqCst);
        }

        fn reset(&self) {
            self.reset.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn slot() -> (Arc<Slot>, Arc<Calls>) {
        let calls = Arc::new(Calls::default());
        let abandoned = Arc::clone(&calls);
        let interrupt: Arc<dyn Interrupt> = calls.clone();
        let on_abandon = move || {
            abandoned.abandoned.fetch_add(1, Ordering::SeqCst);
        };
        (Slot::new(interrupt, Box::new(on_abandon)), calls)
    }

    #[test]
    fn a_run_is_stopped_at_its_deadline_and_the_next_one_goes_on() {
        let (slot, calls) = slot();
        let start = Instant::now();
        let deadline = start + Duration::from_millis(10);
        slot.begin(deadline);
        slot.check(start);
        assert_eq!(calls.terminated.load(Ordering::SeqCst), 0);
        slot.check(deadline);
        slot.check(deadline);
        assert_eq!(calls.terminated.load(Ordering::SeqCst), 1);
        assert!(slot.end());
        assert_eq!(calls.reset.load(Ordering::SeqCst), 1);
        slot.check(deadline + GRACE * 2);
        assert_eq!(
            (
                calls.terminated.load(Ordering::SeqCst),
                calls.abandoned.load(Ordering::SeqCst)
            ),
            (1, 0)
        );
    }

    #[test]
    fn a_worker_whose_run_does_not_return_is_abandoned_once() {
        let (slot, calls) = slot();
        let start = Instant::now();
        slot.begin(start);
        slot.check(start);
        slot.check(start + GRACE);
        slot.check(start + GRACE * 2);
        assert_eq!(calls.abandoned.load(Ordering::SeqCst), 1);
        assert!(!slot.end());
    }
}
