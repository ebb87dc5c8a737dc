//! Steps on strings.

use regex::Regex;
use serde_json::Value;

use crate::{
    schema::columns::ColumnKind,
    transform::{
        compile::InputCompiler,
        declaration::DeclarationError,
        field_plan::FieldSpec,
        steps::{PreprocessStep, TextStep},
    },
};

impl InputCompiler<'_> {
    /// Checks a step on strings. Returns `None` if the step does not take a string.
    pub(super) fn text_step(
        &self,
        step: &PreprocessStep,
        field: &FieldSpec,
        below: &str,
    ) -> Result<Option<TextStep>, DeclarationError> {
        let text = |value: &Value| match (value, field.kind) {
            (Value::String(text), ColumnKind::Text) => Ok(text.clone()),
            (
                Value::Number(_) | Value::Bool(_),
                ColumnKind::Number | ColumnKind::Integer | ColumnKind::Boolean,
            ) => Ok(value.to_string()),
            _ => self.fail(below, "must be of the field's type"),
        };
        Ok(Some(match step {
            PreprocessStep::Impute(impute) => {
                // Null, a missing value, is always replaced.
                let missing = impute
                    .missing_values
                    .iter()
                    .filter(|value| !value.is_null());
                TextStep::Impute {
                    missing: missing.map(text).collect::<Result<_, _>>()?,
                    value: text(&impute.value)?,
                }
            }
            PreprocessStep::Lowercase(_) => TextStep::Lowercase,
            PreprocessStep::Strip(_) => TextStep::Strip,
            PreprocessStep::NormalizeUnicode { form } => TextStep::Normalize(*form),
            PreprocessStep::RegexReplace {
                pattern,
                replacement,
            } => {
                let pattern = Regex::new(pattern).map_err(|error| DeclarationError {
                    source: Some(error),
                    ..self.error(below, "the pattern does not compile")
                })?;
                TextStep::Replace {
                    pattern,
                    replacement: replacement.clone(),
                }
            }
            _ => return Ok(None),
        }))
    }
}
