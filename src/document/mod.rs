//! Reads a document (JSON, or a table of TOML) as a type. The error names the place and the rule in
//! the words of the document. serde's own readers name types of Rust in their errors, and take an
//! array for an object, by position: a body whose members moved would change its meaning.

mod error;
mod reader;
mod toml_table;
mod unique;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::{DocumentError, DocumentProblem};
pub(crate) use error::{json_rule, plain_type};
pub use toml_table::TomlError;
pub(crate) use toml_table::parse_toml;

/// Parses JSON and reads it as a `T`. Rejects a member that occurs twice, because readers disagree
/// on which one counts.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, DocumentError> {
    read(&parse_value(text)?)
}

/// Parses JSON. Rejects a member that occurs twice.
pub(crate) fn parse_value(text: &[u8]) -> Result<Value, DocumentError> {
    serde_json::from_slice(text)
        .map(|unique::UniqueValue(value)| value)
        .map_err(|error| DocumentError::not_json(&error))
}

/// Reads a parsed document as a `T`.
pub(crate) fn read<T: DeserializeOwned>(document: &Value) -> Result<T, DocumentError> {
    T::deserialize(reader::Reader(document))
}

/// Reads a table of TOML as a `T`.
pub(crate) fn read_table<T: DeserializeOwned>(table: &toml::Table) -> Result<T, DocumentError> {
    let document = table
        .iter()
        .map(|(key, value)| (key.clone(), from_toml(value)))
        .collect();
    read(&document).map_err(DocumentError::in_toml)
}

/// The same value in JSON. JSON has no date and no NaN: they become their text, which only a key
/// with a text accepts.
fn from_toml(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| Value::from(number.to_string()), Value::Number),
        toml::Value::Boolean(value) => Value::from(*value),
        toml::Value::Datetime(date) => Value::from(date.to_string()),
        toml::Value::Array(items) => items.iter().map(from_toml).collect(),
        toml::Value::Table(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), from_toml(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
