//! Why a plan is rejected.

use crate::document::{DocumentError, TomlError};

/// Why a text is not a plan.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum PlanError {
    /// The text is not TOML. The message shows the line.
    #[error(transparent)]
    Toml(toml::de::Error),
    #[error("{}", with_key(.0))]
    Document(DocumentError),
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey {
        key: String,
        nearest: Option<String>,
    },
    #[error("`steps[{0}]`: expected a table")]
    NotATable(usize),
    #[error(transparent)]
    Invalid(#[from] PlanFault),
}

impl From<TomlError> for PlanError {
    fn from(error: TomlError) -> PlanError {
        match error {
            TomlError::Syntax(error) => PlanError::Toml(error),
            TomlError::Number(error) => PlanError::Document(error),
        }
    }
}

impl From<DocumentError> for PlanError {
    fn from(error: DocumentError) -> PlanError {
        PlanError::Document(error)
    }
}

/// The error with the key in TOML, and not with the JSON pointer.
fn with_key(error: &DocumentError) -> String {
    match error.key().as_str() {
        "" => error.problem.to_string(),
        key => format!("`{key}`: {}", error.problem),
    }
}

/// A value that a plan must not have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum PlanFault {
    #[error("`name` must not be empty")]
    EmptyName,
    #[error("`key`: \"{0}\" is not \"header:NAME\" or \"field:NAME\"")]
    Key(String),
    #[error("`{key}` must be from {least} to {most}, not {value}")]
    OutOfRange {
        key: String,
        least: f64,
        most: f64,
        value: f64,
    },
    #[error("`steps`: a plan has at least one step")]
    NoSteps,
    #[error("`{key}` must have one weight for each candidate, and their sum must be below 1")]
    Weights { key: String },
    /// `index` is the index of the step, from 0.
    #[error("`steps[{index}]`: a weight must not fall ({weight} after {before})")]
    FallingWeight {
        index: usize,
        weight: f64,
        before: f64,
    },
    #[error("`max_seconds` must be at least the sum of the steps' `min_seconds` ({least})")]
    MaxSecondsTooShort { least: u64 },
}
