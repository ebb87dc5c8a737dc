//! Telemetry: the log of the process.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{InvalidKey, LogFormat, TelemetryConfig};

/// Maximum number of log lines that wait for a slow disk or terminal. Further lines are dropped and
/// counted, so that the log never blocks a request.
const BUFFERED_LINES: usize = 16_384;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error(transparent)]
    Level(#[from] InvalidKey),
    #[error("the log can't be installed")]
    Installed(#[source] tracing_subscriber::util::TryInitError),
}

/// The log of the process. Dropping this value writes the buffered lines.
pub(crate) struct Telemetry {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

impl Telemetry {
    /// Installs the process's log on stderr.
    ///
    /// # Errors
    /// `telemetry.log_level` is not a filter, or the process has a log already.
    pub(crate) fn install(config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
        let filter = config.filter()?;
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(BUFFERED_LINES)
            .thread_name("log")
            .finish(io::stderr());
        let dropped = writer.error_counter();
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        let layer = match config.log_format {
            LogFormat::Json => layer
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .boxed(),
            LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(layer)
            .try_init()
            .map_err(TelemetryError::Installed)?;
        Ok(Telemetry {
            _guard: guard,
            dropped,
        })
    }

    /// A function that returns the number of lines dropped so far.
    pub(crate) fn dropped_lines(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let dropped = self.dropped.clone();
        Arc::new(move || dropped.dropped_lines() as u64)
    }
}
