//! `[telemetry]`: logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
