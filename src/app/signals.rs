//! Signals that stop the server.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The number of `SIGXFSZ` on Linux and macOS.
const FILE_SIZE: i32 = 25;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Catches `SIGXFSZ`. A file that reaches its size limit then causes a write error instead of
    /// killing the server.
    _file_size: Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE))?,
        })
    }

    /// Waits for the next signal to stop.
    pub(super) async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}
