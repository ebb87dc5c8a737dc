//! Errors of a configuration. Each error names the file or variable, and the key.

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", key.as_ref().map(|key| format!("`{key}`")).unwrap_or_default())]
pub struct InvalidKey {
    /// The key. `None` if the reason names the key itself.
    key: Option<String>,
    reason: String,
}

impl InvalidKey {
    /// Creates an error. `reason` continues the sentence that begins with the key.
    pub(crate) fn new(key: impl Into<String>, reason: impl Into<String>) -> InvalidKey {
        InvalidKey {
            key: Some(key.into()),
            reason: reason.into(),
        }
    }

    pub(crate) fn without_key(reason: impl Into<String>) -> InvalidKey {
        InvalidKey {
            key: None,
            reason: reason.into(),
        }
    }
}

/// Returns an error for the first key whose value is 0.
pub(super) fn at_least_one(values: &[(&str, u64)]) -> Result<(), InvalidKey> {
    match values.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(InvalidKey::new(*key, " must be at least 1")),
        None => Ok(()),
    }
}
