//! `ConnectionProgress`: the phase of a connection. The phase determines which time limit applies.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The phase of a connection, and the time since it began. Both are in one atomic number, because
/// the socket and the service change it on every request.
pub(super) struct ConnectionProgress {
    origin: Instant,
    /// The time of the last change in milliseconds since `origin`, times 4, plus the phase.
    state: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// No request is in progress.
    Idle = 0,
    /// The head of a request is arriving.
    Head = 1,
    /// A handler works on a request. The body has its own time limit.
    Busy = 2,
}

impl ConnectionProgress {
    pub(super) fn new() -> ConnectionProgress {
        ConnectionProgress {
            origin: Instant::now(),
            state: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, phase: ConnectionPhase) {
        let milliseconds = self.origin.elapsed().as_millis() as u64;
        self.state
            .store(milliseconds << 2 | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> ConnectionPhase {
        phase_of(self.state.load(Ordering::Relaxed))
    }

    /// The phase, and the time since it began.
    pub(super) fn get(&self) -> (ConnectionPhase, Duration) {
        let state = self.state.load(Ordering::Relaxed);
        (
            phase_of(state),
            self.origin
                .elapsed()
                .saturating_sub(Duration::from_millis(state >> 2)),
        )
    }
}

fn phase_of(state: u64) -> ConnectionPhase {
    match state & 3 {
        // Two bits contain the phase.
        0 => ConnectionPhase::Idle,
        1 => ConnectionPhase::Head,
        _ => ConnectionPhase::Busy,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::api::http::connections::connection_progress::{ConnectionPhase, ConnectionProgress};

    #[test]
    fn progress_has_a_phase() {
        let progress = ConnectionProgress::new();
        assert_eq!(progress.get().0, ConnectionPhase::Idle);
        for phase in [
            ConnectionPhase::Head,
            ConnectionPhase::Busy,
            ConnectionPhase::Idle,
        ] {
            progress.set(phase);
            assert_eq!(progress.phase(), phase);
            assert!(progress.get().1 < Duration::from_secs(60));
        }
    }
}
