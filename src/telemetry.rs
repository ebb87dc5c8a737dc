//! Telemetry: the log of the process.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, TelemetryConfig};

/// Maximum number of log lines that wait for a slow disk or terminal. Further lines are dropped and
/// counted, so that the log never blocks a request.
const BUFFERED_LINES: usize = 16_384;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("`telemetry.log_level`: \"{0}\" is not a level; use {levels}, or directives such as \"info,predictd=debug\"", levels = LEVELS.join(", "))]
    UnknownLevel(String),
    #[error("`telemetry.log_level`")]
    Level(#[source] tracing_subscriber::filter::ParseError),
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

/// Builds the filter for a log level. A plain level applies only to predictd. The messages of the
/// runtime library appear only if a directive names it.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    // The library would take an unknown word for the name of a module, and log nothing else.
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let words = level.split(',');
    if let Some(unknown) = words
        .filter(|word| !word.contains(['=', '[']))
        .find(|word| !is_level(word))
    {
        return Err(TelemetryError::UnknownLevel(unknown.to_owned()));
    }
    let directives = if level.contains(['=', ',']) {
        level.to_owned()
    } else {
        format!("{level},ort=warn")
    };
    EnvFilter::try_new(directives).map_err(TelemetryError::Level)
}

/// Checks a log level.
pub(crate) fn check_level(level: &str) -> Result<(), TelemetryError> {
    filter(level).map(|_| ())
}

#[cfg(test)]
mod tests {
    use crate::telemetry::check_level;

    #[test]
    fn an_unknown_level_is_refused() {
        for level in [
            "info",
            "WARN",
            "off",
            "info,predictd=debug",
            "info,ort=trace",
        ] {
            assert!(check_level(level).is_ok(), "{level}");
        }
        for level in ["loud", "", "info,loud"] {
            let error = check_level(level).unwrap_err().to_string();
            assert!(
                error.contains("use off, error, warn, info, debug, trace"),
                "{error}"
            );
        }
    }
}
