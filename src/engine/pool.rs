//! `Pool`: the state that a version's batcher and its worker threads share.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    engine::{
        EngineError, EngineFactory,
        error::Breakage,
        queue::{BatchPolicy, Job},
        supervisor::Supervisor,
    },
    metrics::EngineMetrics,
};

/// A version that lost `MAX_ABANDONED` workers within this time is not ready.
const ABANDON_WINDOW: Duration = Duration::from_secs(60);
const MAX_ABANDONED: usize = 2;

/// Why a version should get no traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    #[error(transparent)]
    Broken(Breakage),
    #[error("{abandoned} engine workers hung in the last {} s", ABANDON_WINDOW.as_secs())]
    Hanging { abandoned: usize },
}

/// The state that the batcher and the worker threads of one version share.
pub(super) struct Pool {
    /// The name of the version in logs and thread names.
    pub name: String,
    pub state: Mutex<QueueState>,
    /// Notified when a job is added and when the batcher closes.
    pub ready: Condvar,
    pub policy: BatchPolicy,
    pub metrics: EngineMetrics,
    pub factory: Arc<dyn EngineFactory>,
    pub supervisor: Arc<Supervisor>,
    /// The configured number of workers.
    pub workers: usize,
}

#[derive(Default)]
pub(super) struct QueueState {
    pub queue: VecDeque<Job>,
    pub closed: bool,
    /// Number of workers that take jobs.
    pub alive: usize,
    /// Number of replacement workers that are starting. Jobs may wait for them.
    pub starting: usize,
    /// Number of workers that wait for a job.
    pub asleep: usize,
    /// Number of sleeping workers that were notified and have not locked the state again.
    pub waking: usize,
    /// Number of abandoned workers whose run has not returned. It is briefly negative if a worker
    /// returns while it is being abandoned.
    pub hung: isize,
    pub abandoned_at: VecDeque<Instant>,
}

impl QueueState {
    /// Whether no worker takes jobs and none is starting.
    pub(super) fn is_dead(&self) -> bool {
        self.alive == 0 && self.starting == 0
    }

    /// Records that a sleeping worker has locked the state again.
    pub(super) fn woke_up(&mut self) {
        self.asleep -= 1;
        self.waking = self.waking.saturating_sub(1);
    }

    /// Why this version should get no traffic. `None` means that the version is ready.
    pub(super) fn unready_reason(&mut self, now: Instant) -> Option<Unready> {
        while self
            .abandoned_at
            .front()
            .is_some_and(|at| *at + ABANDON_WINDOW <= now)
        {
            self.abandoned_at.pop_front();
        }
        if self.is_dead() {
            return Some(Unready::Broken(Breakage::NoWorker));
        }
        let abandoned = self.abandoned_at.len();
        (abandoned >= MAX_ABANDONED).then_some(Unready::Hanging { abandoned })
    }
}

impl Pool {
    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record_queue_depth(&self, state: &QueueState) {
        self.metrics.queue_depth.set(state.queue.len() as i64);
    }

    /// Notifies one sleeping worker. Does nothing if no worker sleeps, because a notification of a
    /// condition variable always enters the kernel.
    pub(super) fn wake_one(&self, state: &mut QueueState) {
        if state.asleep > state.waking {
            state.waking += 1;
            self.ready.notify_one();
        }
    }

    /// Fails the waiting jobs if no worker is left that could answer them.
    pub(super) fn fail_jobs_if_dead(&self) {
        let mut state = self.lock();
        if !state.is_dead() {
            return;
        }
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        for job in waiting {
            job.answer(Err(EngineError::Broken(Breakage::NoWorker)));
        }
    }
}
