//! Lists all configuration keys. The list is generated from the JSON Schema of the config types.

use std::sync::LazyLock;

use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value;

use crate::config::{Config, InvalidKey, KeyFault, error::ConfigError};

/// A key with its documentation.
pub(super) struct KnownKey {
    /// The path of the key, like `server.listen` or `model.*.workers`.
    pub path: String,
    pub description: String,
    /// An example value of a key without a default. `None` if the key has a default.
    pub example: Option<String>,
}

/// Every key, in the order of the types.
pub(super) static KEYS: LazyLock<Vec<KnownKey>> = LazyLock::new(|| {
    let mut settings = SchemaSettings::draft2020_12();
    // Inlining replaces each `$ref`, so each key contains its own schema.
    settings.inline_subschemas = true;
    let schema: Schema = settings.into_generator().into_root_schema_for::<Config>();
    let mut keys = Vec::new();
    collect(schema.as_value(), "", &mut keys);
    keys
});

fn collect(schema: &Value, prefix: &str, keys: &mut Vec<KnownKey>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            let path = match prefix {
                "" => name.clone(),
                _ => format!("{prefix}.{name}"),
            };
            collect_property(property, path, keys);
        }
    }
    // The keys of this table are names: `[model.NAME]`.
    if let Some(any) = schema
        .get("additionalProperties")
        .filter(|any| any.is_object())
    {
        collect(any, &format!("{prefix}.*"), keys);
    }
}

fn collect_property(property: &Value, path: String, keys: &mut Vec<KnownKey>) {
    // An optional table is one of several alternatives (`anyOf`).
    let alternatives = property.get("anyOf").and_then(Value::as_array);
    let tables = alternatives.into_iter().flatten().chain([property]);
    let mut is_table = false;
    for table in tables {
        let named = table.get("properties").is_some();
        let any = table
            .get("additionalProperties")
            .is_some_and(Value::is_object);
        if named || any {
            is_table = true;
            collect(table, &path, keys);
        }
    }
    if is_table {
        return;
    }
    let text = |member: &str| property.get(member).and_then(Value::as_str);
    let words = text("description").unwrap_or_default().split_whitespace();
    keys.push(KnownKey {
        path,
        description: words.collect::<Vec<_>>().join(" "),
        example: text("x-example").map(str::to_owned),
    });
}

/// Replaces the model's name in a path: `model.churn.workers` becomes `model.*.workers`.
fn generic(path: &[&str]) -> String {
    match path {
        ["model", _, rest @ ..] if !rest.is_empty() => format!("model.*.{}", rest.join(".")),
        _ => path.join("."),
    }
}

/// Returns an error if the key is unknown. `origin`: the file or the variable that contains the
/// key.
pub(super) fn check_key(origin: &str, path: &[&str]) -> Result<(), ConfigError> {
    let wanted = generic(path);
    if KEYS.iter().any(|known| known.path == wanted) {
        return Ok(());
    }
    let section = format!("{wanted}.");
    if KEYS.iter().any(|known| known.path.starts_with(&section)) {
        return Err(ConfigError::Invalid {
            origin: origin.to_owned(),
            error: InvalidKey::new(path.join("."), KeyFault::NotAValue),
        });
    }
    let distance = |known: &&str| strsim::damerau_levenshtein(known, &wanted);
    let nearest = KEYS
        .iter()
        .map(|known| known.path.as_str())
        .min_by_key(distance)
        // A key whose similarity is below two thirds is probably not a misspelling.
        .filter(|known| distance(known) <= wanted.len().div_ceil(3));
    let model = path.get(1).copied().unwrap_or_default();
    Err(ConfigError::UnknownKey {
        origin: origin.to_owned(),
        nearest: nearest.map(|nearest| nearest.replace('*', model)),
        key: path.join("."),
    })
}
