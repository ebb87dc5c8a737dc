//! Telemetry: the log's writer and form.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, TelemetryConfig};

/// Lines that may wait for a slow disk or terminal; more are dropped and counted, so that a log never blocks a request.
const BUFFERED_LINES: usize = 16_384;

/// Writes out what is buffered when dropped.
pub struct Telemetry {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

impl Telemetry {
    /// Installs the process's log on stderr.
    ///
    /// # Errors
    /// When `telemetry.log_level` is no filter, with the reason.
    pub fn install(config: &TelemetryConfig) -> Result<Telemetry, String> {
        let filter = filter(&config.log_level)?;
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
            .map_err(|error| error.to_string())?;
        Ok(Telemetry {
            _guard: guard,
            dropped,
        })
    }

    /// Tells how many lines were dropped so far.
    pub fn dropped_lines(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let dropped = self.dropped.clone();
        Arc::new(move || dropped.dropped_lines() as u64)
    }
}

/// A plain level is for what we say; the library's chatter is wanted only where it is asked for by name.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let directives = if level.contains(['=', ',']) {
        level.to_owned()
    } else {
        format!("{level},ort=warn")
    };
    EnvFilter::try_new(directives).map_err(|error| format!("`telemetry.log_level`: {error}"))
}

/// Whether a log level would be taken.
///
/// # Errors
/// What is wrong with it.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(|_| ())
}
