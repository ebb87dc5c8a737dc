//! Encodings of categories and dates.

use serde_json::Value;

use crate::{
    schema::columns::ColumnKind,
    transform::{
        compile::InputCompiler,
        date_parts::DateParts,
        declaration::DeclarationError,
        field_plan::FieldSpec,
        steps::{Categories, CategoryEncoding, PreprocessStep},
        table_column::category_of_number,
    },
};

impl InputCompiler<'_> {
    /// The checked encoding. `None` if the step is not an encoding.
    pub(super) fn encoding(
        &self,
        step: &PreprocessStep,
        field: &FieldSpec,
        below: &str,
    ) -> Result<Option<CategoryEncoding>, DeclarationError> {
        Ok(Some(match step {
            PreprocessStep::OneHot {
                categories,
                unknown,
            } => CategoryEncoding::OneHot {
                categories: self.categories(categories, field, below)?,
                unknown: *unknown,
            },
            PreprocessStep::Ordinal {
                categories,
                unknown,
            } => {
                let unknown = match unknown {
                    Value::String(text) if text == "error" => None,
                    value => Some(value.as_f64().map_or_else(
                        || self.fail(below, "unknown must be a number or \"error\""),
                        Ok,
                    )?),
                };
                CategoryEncoding::Table {
                    values: (0..categories.len()).map(|at| at as f64).collect(),
                    categories: self.categories(categories, field, below)?,
                    unknown,
                }
            }
            PreprocessStep::TargetEncode {
                categories,
                values,
                default,
            } => {
                if categories.len() != values.len() {
                    let (categories, values) = (categories.len(), values.len());
                    let detail = format!("{categories} categories, but {values} values");
                    return self.fail(below, detail);
                }
                CategoryEncoding::Table {
                    values: values.clone(),
                    categories: self.categories(categories, field, below)?,
                    unknown: Some(*default),
                }
            }
            PreprocessStep::DateParts { .. } if field.kind != ColumnKind::Text => {
                return self.fail(below, "date_parts takes a string field");
            }
            PreprocessStep::DateParts { parts, unknown } => CategoryEncoding::Dates(
                DateParts::compile(parts, unknown)
                    .map_err(|error| error.below(&format!("{}{below}", self.pointer)))?,
            ),
            PreprocessStep::Hash { n_features: 0, .. } => {
                return self.fail(below, "n_features must be at least 1, not 0");
            }
            PreprocessStep::Hash {
                n_features,
                alternate_sign,
            } => CategoryEncoding::Hash {
                width: *n_features,
                alternate_sign: *alternate_sign,
            },
            _ => return Ok(None),
        }))
    }

    fn categories(
        &self,
        written: &[Value],
        field: &FieldSpec,
        below: &str,
    ) -> Result<Categories, DeclarationError> {
        let mut categories = Vec::new();
        for (at, value) in written.iter().enumerate() {
            let pointer = format!("{below}/categories/{at}");
            let Some(category) = category(value, field.kind) else {
                return self.fail(&pointer, "must be of the field's type");
            };
            // Of two equal categories, the first one would silently apply, and the following
            // columns would be shifted.
            if categories.contains(&category) {
                return self.fail(&pointer, format!("the category {value} occurs twice"));
            }
            categories.push(category);
        }
        if categories.is_empty() {
            return self.fail(&format!("{below}/categories"), "must not be empty");
        }
        Ok(Categories::new(categories))
    }
}

/// A category in the notation in which the values of a field are compared. `None` for a value of
/// another type.
fn category(value: &Value, kind: ColumnKind) -> Option<String> {
    match (value, kind) {
        (Value::String(text), ColumnKind::Text) => Some(text.clone()),
        (Value::Bool(value), ColumnKind::Boolean) => Some(value.to_string()),
        (Value::Number(number), ColumnKind::Integer) if number.is_i64() => Some(number.to_string()),
        (Value::Number(number), ColumnKind::Integer | ColumnKind::Number) => {
            let mut buffer = String::new();
            let text = number
                .as_f64()
                .and_then(|value| category_of_number(value, kind, &mut buffer));
            Some(text.unwrap_or_default().to_owned())
        }
        _ => None,
    }
}
