//! Waiting for a condition. No test waits for a fixed time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longer than any step of a test takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The setting of a server whose slow requests must end with an answer on a busy machine, too.
pub const PATIENT: (&str, &str) = ("server.request_timeout_ms", "60000");

/// Calls `condition` until it returns a value. Panics with `awaited` after [`PATIENCE`].
pub fn wait_for<T>(awaited: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "did not happen within {PATIENCE:?}: {awaited}"
        );
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Calls `condition` until it is true. Panics with `awaited` after [`PATIENCE`].
pub fn wait_until(awaited: &str, mut condition: impl FnMut() -> bool) {
    wait_for(awaited, || condition().then_some(()));
}
