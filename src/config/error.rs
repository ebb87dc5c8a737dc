//! Errors of a configuration. Each error names the file or variable, and the key.

use crate::{config::WindowLength, document::DocumentProblem};

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum ConfigError {
    #[error("reading the configuration")]
    Read(#[source] std::io::Error),
    #[error("{origin}")]
    Syntax {
        origin: String,
        source: toml::de::Error,
    },
    #[error("{origin}: unknown key `{key}`{}", nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey {
        /// The configuration file, or the environment variable.
        origin: String,
        key: String,
        /// The most similar key. `None` if no key is similar enough.
        nearest: Option<String>,
    },
    #[error("{origin}")]
    Invalid {
        origin: String,
        #[source]
        error: InvalidKey,
    },
}

/// A key whose value is not allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}{fault}", key.as_ref().map(|key| format!("`{key}`")).unwrap_or_default())]
pub struct InvalidKey {
    /// The key. `None` if the fault names the key itself.
    key: Option<String>,
    fault: KeyFault,
}

/// A rule that the value of a key violates. Each text continues the sentence that begins with the
/// key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum KeyFault {
    #[error(" must be at least 1, not 0")]
    BelowOne,
    #[error(" must be 0 or more, not {0}")]
    Negative(f64),
    #[error(" must be from {least} to {most}, not {value}")]
    OutOfRange { least: f64, most: f64, value: f64 },
    #[error(" must be a local directory or a file:// URL")]
    NotADirectory,
    #[error(": \"{0}\" is not a version (like 1.0.0, or a whole number)")]
    NotAVersion(String),
    #[error(": \"{0}\" is not a model name")]
    NotAModelName(String),
    #[error(": sizes must be at least 1, not 0")]
    SizeBelowOne,
    #[error(": {0}")]
    Origin(OriginFault),
    #[error(
        "`runtime.workers`, `runtime.intra_op_threads` and `[model.NAME] workers` may be at most {limit}"
    )]
    TooManyThreads { limit: usize },
    #[error("\"{0}\" is not a port")]
    NotAPort(String),
    #[error("\"{0}\" is not a path; it must begin with /")]
    NotAPath(String),
    #[error(" is a section, which has keys and no value")]
    NotAValue,
    #[error(" may be at most {limit} (10 s), not {value}")]
    DelayTooLong { limit: u64, value: u64 },
    #[error(" must be at least {least}, not {value}: the gate needs memory itself")]
    GateMemory { least: u64, value: u64 },
    #[error(": a window must be from 10s to 744h, not {0}")]
    WindowLength(WindowLength),
    #[error(" may have at most {limit} windows")]
    TooManyWindows { limit: usize },
    #[error(" and `{other}` are both {listen}; each needs its own port")]
    SameAddress {
        other: &'static str,
        /// The address, like `127.0.0.1:8080`.
        listen: String,
    },
    #[error(
        ": \"{0}\" is not a level; use off, error, warn, info, debug or trace, or directives such as \"info,predictd=debug\""
    )]
    NotALevel(String),
    #[error(
        ": \"{directives}\" contains a directive that is not valid ({reason}); an example is \"info,predictd=debug\""
    )]
    NotDirectives { directives: String, reason: String },
    /// The value has the wrong type.
    #[error(": {0}")]
    Type(DocumentProblem),
}

impl From<DocumentProblem> for KeyFault {
    fn from(problem: DocumentProblem) -> KeyFault {
        KeyFault::Type(problem)
    }
}

/// Why a member of `server.cors_origins` is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum OriginFault {
    #[error("\"{0}\" has no scheme; {EXAMPLE}")]
    NoScheme(String),
    #[error("\"{0}\" is not an origin (lower case, without a path); {EXAMPLE}")]
    NotAnOrigin(String),
    #[error("\"{origin}\": browsers leave out the port {port}")]
    DefaultPort { origin: String, port: &'static str },
    #[error("\"*\" means every origin; it must be the only entry")]
    NotAlone,
}

const EXAMPLE: &str =
    "an origin is like \"https://app.example.com\" or \"http://localhost:3000\", or \"*\" for all";

impl InvalidKey {
    pub(crate) fn new(key: impl Into<String>, fault: impl Into<KeyFault>) -> InvalidKey {
        InvalidKey {
            key: Some(key.into()),
            fault: fault.into(),
        }
    }

    pub(crate) fn without_key(fault: impl Into<KeyFault>) -> InvalidKey {
        InvalidKey {
            key: None,
            fault: fault.into(),
        }
    }
}

/// Returns an error for the first key whose value is 0.
pub(super) fn at_least_one(values: &[(&str, u64)]) -> Result<(), InvalidKey> {
    match values.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(InvalidKey::new(*key, KeyFault::BelowOne)),
        None => Ok(()),
    }
}
