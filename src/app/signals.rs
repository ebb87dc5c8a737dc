//! Signals that end the server.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// `SIGXFSZ`, on Linux and macOS.
const FILE_SIZE: i32 = 25;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Caught, so that a file at its size limit is a write error instead of the end of the server.
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

    /// Waits for a signal to stop.
    pub(super) async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}
