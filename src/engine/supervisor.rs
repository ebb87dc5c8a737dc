//! Supervisor: stops runs at their deadline, and notices workers that don't come back.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::engine::Interrupt;

/// How often the runs are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long after a termination a worker may still be inside a node of its graph before it is given up.
const GRACE: Duration = Duration::from_secs(2);

/// Where one worker says what it is doing.
pub struct Slot {
    state: Mutex<State>,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
    /// Called once when the worker is given up.
    on_abandon: Box<dyn Fn() + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Running { deadline: Instant },
    Terminating { since: Instant },
    Abandoned,
}

impl Slot {
    pub fn new(
        interrupt: Arc<dyn Interrupt>,
        on_abandon: Box<dyn Fn() + Send + Sync>,
    ) -> Arc<Slot> {
        Arc::new(Slot {
            state: Mutex::new(State::Idle),
            interrupt: Mutex::new(Some(interrupt)),
            on_abandon,
        })
    }

    /// The worker starts a run that must end by `deadline`.
    pub fn begin(&self, deadline: Instant) {
        *self.lock() = State::Running { deadline };
    }

    /// The run came back. `false`: the worker was given up meanwhile and must end.
    pub fn end(&self) -> bool {
        let mut state = self.lock();
        match *state {
            State::Abandoned => return false,
            State::Terminating { .. } => self.interrupt(|interrupt| interrupt.reset()),
            State::Running { .. } | State::Idle => {}
        }
        *state = State::Idle;
        true
    }

    /// The worker goes on with another engine.
    pub fn replace_interrupt(&self, interrupt: Arc<dyn Interrupt>) {
        *self
            .interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(interrupt);
    }

    /// What must happen to this worker now; called by the supervisor. The lock keeps a run from ending in between, so
    /// that a termination never hits the run after the one it was meant for.
    fn check(&self, now: Instant) {
        let mut state = self.lock();
        match *state {
            State::Running { deadline } if deadline <= now => {
                self.interrupt(|interrupt| interrupt.terminate());
                *state = State::Terminating { since: now };
            }
            State::Terminating { since } if since + GRACE <= now => {
                *state = State::Abandoned;
                drop(state);
                (self.on_abandon)();
            }
            _ => {}
        }
    }

    fn interrupt(&self, act: impl FnOnce(&dyn Interrupt)) {
        if let Some(interrupt) = &*self
            .interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            act(&**interrupt);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread that watches all workers of the process.
pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    slots: Mutex<Vec<Weak<Slot>>>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Supervisor {
    pub fn start() -> std::io::Result<Supervisor> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || watch(&watched))?;
        Ok(Supervisor {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn add(&self, slot: &Arc<Slot>) {
        self.shared
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(slot));
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        *self
            .shared
            .stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
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

fn watch(shared: &Shared) {
    let mut stopped = shared
        .stopped
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        stopped = shared
            .wake
            .wait_timeout(stopped, TICK)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let now = Instant::now();
        let mut slots = shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn a_worker_that_does_not_come_back_is_given_up_once() {
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
