//! `DeclarationError`: why a declaration of a package, such as `preprocessing.json`, is rejected.

use crate::document::{DocumentError, DocumentProblem};

/// A rule that a declaration violates, and the place of the violation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct DeclarationError {
    /// JSON pointer from the compiled section, such as `inputs` of `preprocessing.json`.
    pub pointer: String,
    /// The rule, and the correction. Contains no value of a request.
    pub detail: String,
    /// The error of a pattern that does not compile. `None` for every other rule.
    pub source: Option<regex::Error>,
}

impl DeclarationError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> DeclarationError {
        DeclarationError {
            pointer: pointer.into(),
            detail: detail.into(),
            source: None,
        }
    }

    /// The error of a document that is not a step.
    pub(super) fn of_step(error: &DocumentError) -> DeclarationError {
        let detail = match &error.problem {
            DocumentProblem::UnknownName { name, known } if error.pointer().is_empty() => {
                format!(
                    "unknown step \"{name}\"; expected one of: {}",
                    known.join(", ")
                )
            }
            problem => problem.to_string(),
        };
        DeclarationError::new(error.pointer(), detail)
    }

    /// The same error, with a pointer that starts at `parent`.
    #[must_use]
    pub fn below(self, parent: &str) -> DeclarationError {
        DeclarationError {
            pointer: format!("{parent}{}", self.pointer),
            ..self
        }
    }
}
