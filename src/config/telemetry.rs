//! `[telemetry]`: logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::config::{InvalidKey, KeyFault};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetryConfig {
    /// Format of the log: "text" or "json".
    pub log_format: LogFormat,
    /// Log level (error, warn, info, debug or trace), or directives such as "info,predictd=debug".
    pub log_level: String,
    /// Requests that are logged: "errors" (errors, slow requests and 1 % of the rest), "all", or a
    /// rate for the rest, such as "0.1".
    pub request_log: RequestLog,
}

impl Default for TelemetryConfig {
    fn default() -> TelemetryConfig {
        TelemetryConfig {
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            request_log: RequestLog::Errors,
        }
    }
}

impl TelemetryConfig {
    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        self.filter().map(|_| ())
    }

    /// The filter for the log level. A plain level applies only to predictd. The messages of the
    /// runtime library appear only if a directive names it.
    pub(crate) fn filter(&self) -> Result<EnvFilter, InvalidKey> {
        let invalid = |fault| InvalidKey::new("telemetry.log_level", fault);
        let level = self.log_level.as_str();
        // The library would take an unknown word for the name of a module, and log nothing else.
        let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        let mut words = level.split(',').filter(|word| !word.contains(['=', '[']));
        if let Some(unknown) = words.find(|word| !is_level(word)) {
            return Err(invalid(KeyFault::NotALevel(unknown.to_owned())));
        }
        let directives = if level.contains(['=', ',']) {
            level.to_owned()
        } else {
            format!("{level},ort=warn")
        };
        EnvFilter::try_new(directives).map_err(|error| {
            invalid(KeyFault::NotDirectives {
                directives: level.to_owned(),
                reason: error.to_string(),
            })
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not \"errors\", \"all\" or a rate from \"0\" to \"1\"")]
pub(crate) struct RequestLogError(String);

/// Which requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "TextOrNumber", into = "String")]
#[schemars(with = "String")]
pub(crate) enum RequestLog {
    /// Errors, slow requests and 1 % of the rest.
    #[default]
    Errors,
    All,
    /// Errors, slow requests and this share of the rest.
    Rate(f64),
}

/// A rate as a string, like the other values, or as a number.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"all\", \"errors\", or a share from 0 to 1"
)]
enum TextOrNumber {
    Text(String),
    Number(f64),
}

impl TryFrom<TextOrNumber> for RequestLog {
    type Error = RequestLogError;

    fn try_from(value: TextOrNumber) -> Result<RequestLog, RequestLogError> {
        let text = match value {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(rate) => rate.to_string(),
        };
        match text.as_str() {
            "errors" => Ok(RequestLog::Errors),
            "all" => Ok(RequestLog::All),
            other => match other.parse() {
                Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(RequestLog::Rate(rate)),
                _ => Err(RequestLogError(other.to_owned())),
            },
        }
    }
}

impl From<RequestLog> for String {
    fn from(value: RequestLog) -> String {
        match value {
            RequestLog::Errors => "errors".to_owned(),
            RequestLog::All => "all".to_owned(),
            RequestLog::Rate(rate) => rate.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::TelemetryConfig;

    fn check(level: &str) -> Result<(), String> {
        let config = TelemetryConfig {
            log_level: level.to_owned(),
            ..TelemetryConfig::default()
        };
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_level_is_refused() {
        for level in [
            "info",
            "WARN",
            "off",
            "info,predictd=debug",
            "info,ort=trace",
        ] {
            assert_eq!(check(level), Ok(()));
        }
        for (level, word) in [("loud", "loud"), ("", ""), ("info,loud", "loud")] {
            let expected = format!("`telemetry.log_level`: \"{word}\" is not a level; use off, ");
            let error = check(level).unwrap_err();
            assert!(error.starts_with(&expected), "{error}");
        }
        let error = check("info,=x").unwrap_err();
        let expected =
            "`telemetry.log_level`: \"info,=x\" contains a directive that is not valid (";
        assert!(error.starts_with(expected), "{error}");
    }
}
