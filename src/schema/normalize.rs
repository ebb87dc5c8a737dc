//! Converts the schemas that Pydantic writes to the supported keywords: `$ref` is resolved, and
//! `anyOf` with null becomes a list of types.

use serde_json::{Map, Value};

/// Maximum nesting of schemas and references. A deeper nesting is a circle of references.
const MAX_DEPTH: usize = 32;

/// Why a schema can't be converted. `pointer` is the JSON pointer to the place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NormalizeError {
    #[error("{pointer}: the references are circular")]
    Circle { pointer: String },
    #[error("{pointer}: {reference} is not defined; only #/$defs/NAME is supported")]
    Reference { pointer: String, reference: Value },
    #[error("{pointer}: only \"X or null\" is supported")]
    AnyOf { pointer: String },
}

/// Converts `schema.json` in place. Returns whether anything changed.
pub(crate) fn normalize(document: &mut Value) -> Result<bool, NormalizeError> {
    let before = document.clone();
    let shared = document.get("$defs").cloned();
    for side in ["input", "output"] {
        let Some(schema) = document.get_mut(side) else {
            continue;
        };
        let definitions = schema
            .get("$defs")
            .cloned()
            .or_else(|| shared.clone())
            .unwrap_or(Value::Null);
        let rewriter = Rewriter { definitions };
        *schema = rewriter.rewrite(schema, &format!("/{side}"), 0)?;
    }
    if let Some(members) = document.as_object_mut() {
        // Every reference is resolved by now, and the compiler does not know the keyword `$defs`.
        members.shift_remove("$defs");
    }
    Ok(*document != before)
}

struct Rewriter {
    /// The object `$defs`, which contains the definitions.
    definitions: Value,
}

impl Rewriter {
    fn rewrite(
        &self,
        schema: &Value,
        pointer: &str,
        depth: usize,
    ) -> Result<Value, NormalizeError> {
        let Value::Object(members) = schema else {
            return Ok(schema.clone());
        };
        // The limit ends a circle of references.
        if depth > MAX_DEPTH {
            return Err(NormalizeError::Circle {
                pointer: pointer.to_owned(),
            });
        }
        match self.resolve(members, pointer, depth)? {
            // The result may contain one of these keywords again.
            Some(resolved) => self.rewrite(&resolved, pointer, depth + 1),
            None => self.rewrite_members(members, pointer, depth),
        }
    }

    /// Resolves `$ref`, `allOf` with one schema, or `anyOf`. Returns `None` if the schema has none
    /// of these keywords.
    fn resolve(
        &self,
        members: &Map<String, Value>,
        pointer: &str,
        depth: usize,
    ) -> Result<Option<Value>, NormalizeError> {
        if let Some(reference) = members.get("$ref") {
            let name = reference
                .as_str()
                .and_then(|text| text.strip_prefix("#/$defs/"))
                .unwrap_or_default();
            let target =
                self.definitions
                    .get(name)
                    .cloned()
                    .ok_or_else(|| NormalizeError::Reference {
                        pointer: format!("{pointer}/$ref"),
                        reference: reference.clone(),
                    })?;
            return Ok(Some(overlay(target, members, "$ref")));
        }
        // Pydantic writes `allOf` for a reference with its own description.
        if let Some(Value::Array(list)) = members.get("allOf")
            && let [only] = list.as_slice()
        {
            return Ok(Some(overlay(only.clone(), members, "allOf")));
        }
        let Some(Value::Array(options)) = members.get("anyOf") else {
            return Ok(None);
        };
        let options = options
            .iter()
            .map(|option| self.rewrite(option, pointer, depth + 1))
            .collect::<Result<Vec<_>, _>>()?;
        let united = unite(&options).ok_or_else(|| NormalizeError::AnyOf {
            pointer: format!("{pointer}/anyOf"),
        })?;
        Ok(Some(overlay(united, members, "anyOf")))
    }

    fn rewrite_members(
        &self,
        members: &Map<String, Value>,
        pointer: &str,
        depth: usize,
    ) -> Result<Value, NormalizeError> {
        let mut rewritten = Map::new();
        for (keyword, value) in members {
            let at = format!("{pointer}/{keyword}");
            let value = match (keyword.as_str(), value) {
                ("$defs", _) => continue,
                ("properties", Value::Object(properties)) => {
                    let inner = properties.iter().map(|(name, property)| {
                        let property =
                            self.rewrite(property, &format!("{at}/{name}"), depth + 1)?;
                        Ok((name.clone(), property))
                    });
                    Value::Object(inner.collect::<Result<_, _>>()?)
                }
                ("items", value) => self.rewrite(value, &at, depth + 1)?,
                ("prefixItems", Value::Array(items)) => {
                    let inner = items.iter().map(|item| self.rewrite(item, &at, depth + 1));
                    Value::Array(inner.collect::<Result<_, _>>()?)
                }
                (_, value) => value.clone(),
            };
            rewritten.insert(keyword.clone(), value);
        }
        Ok(Value::Object(rewritten))
    }
}

/// Adds the members next to a keyword (title, default, description) to the schema that the keyword
/// refers to.
fn overlay(target: Value, members: &Map<String, Value>, without: &str) -> Value {
    let Value::Object(mut target) = target else {
        return target;
    };
    for (keyword, value) in members.iter().filter(|(keyword, _)| *keyword != without) {
        target.insert(keyword.clone(), value.clone());
    }
    Value::Object(target)
}

/// Unites several schemas that have only a type, or one schema and null. Returns `None` for other
/// options.
fn unite(options: &[Value]) -> Option<Value> {
    let is_null = |option: &&Value| option.get("type") == Some(&Value::from("null"));
    let nullable = options.iter().any(|option| is_null(&option));
    let others: Vec<&Value> = options.iter().filter(|option| !is_null(option)).collect();
    let mut united = match others.as_slice() {
        [] => return None,
        [one] => (*one).clone(),
        several => {
            if several
                .iter()
                .any(|option| option.as_object().is_none_or(|members| members.len() != 1))
            {
                return None;
            }
            serde_json::json!({"type": several.iter().flat_map(|option| types(option)).collect::<Vec<_>>()})
        }
    };
    // The list `{"type": ["integer", "null"]}` has the same meaning, and the compiler supports it.
    if nullable {
        let mut names = types(&united);
        names.push(Value::from("null"));
        let members = united.as_object_mut()?;
        members.insert("type".to_owned(), Value::Array(names));
        if let Some(Value::Array(values)) = members.get_mut("enum") {
            values.push(Value::Null);
        }
        // `const` allows only one value. An `enum` of this value and null allows both.
        if let Some(constant) = members.shift_remove("const") {
            members.insert("enum".to_owned(), Value::Array(vec![constant, Value::Null]));
        }
    }
    Some(united)
}

/// The member `type`, converted to a list.
fn types(schema: &Value) -> Vec<Value> {
    match schema.get("type") {
        Some(Value::Array(names)) => names.clone(),
        Some(name) => vec![name.clone()],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::schema::{Schema, normalize::normalize};

    #[test]
    fn schemas_of_pydantic_are_rewritten() {
        // The output of `model_json_schema()` for a model with an optional number, an enumeration
        // and a nested model.
        let mut document = json!({"input": {
            "$defs": {
                "Plan": {"enum": ["basic", "plus"], "title": "Plan", "type": "string"},
                "Place": {"additionalProperties": false, "properties": {"lat": {"title": "Lat", "type": "number"}}, "required": ["lat"], "title": "Place", "type": "object"},
            },
            "additionalProperties": false,
            "properties": {
                "age": {"anyOf": [{"minimum": 0, "type": "integer"}, {"type": "null"}], "default": null, "title": "Age"},
                "plan": {"$ref": "#/$defs/Plan"},
                "other_plan": {"anyOf": [{"$ref": "#/$defs/Plan"}, {"type": "null"}]},
                "place": {"allOf": [{"$ref": "#/$defs/Place"}], "description": "where"},
                "score": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
            },
            "required": ["plan"],
            "title": "Customer",
            "type": "object",
        }});
        assert_eq!(normalize(&mut document), Ok(true));
        let properties = &document["input"]["properties"];
        assert_eq!(
            properties["age"],
            json!({"minimum": 0, "type": ["integer", "null"], "default": null, "title": "Age"})
        );
        assert_eq!(
            properties["plan"],
            json!({"enum": ["basic", "plus"], "title": "Plan", "type": "string"})
        );
        assert_eq!(
            properties["other_plan"],
            json!({"enum": ["basic", "plus", null], "title": "Plan", "type": ["string", "null"]})
        );
        assert_eq!(properties["place"]["description"], "where");
        assert_eq!(properties["score"]["type"], json!(["integer", "number"]));
        assert!(document["input"].get("$defs").is_none());
        Schema::compile(&document["input"]).unwrap();
        assert_eq!(normalize(&mut document), Ok(false));
    }

    #[test]
    fn schemas_that_cannot_be_rewritten_are_rejected() {
        let wrong = |schema| {
            normalize(&mut json!({"input": {"properties": {"x": schema}}}))
                .unwrap_err()
                .to_string()
        };
        assert!(
            wrong(json!({"$ref": "#/$defs/None"}))
                .starts_with("/input/properties/x/$ref: \"#/$defs/None\" is not defined")
        );
        assert_eq!(
            wrong(json!({"anyOf": [true, {"type": "null"}]})),
            "/input/properties/x/anyOf: only \"X or null\" is supported"
        );
        assert_eq!(
            wrong(json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "number"}]})),
            "/input/properties/x/anyOf: only \"X or null\" is supported"
        );
        let mut circle = json!({"input": {"$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}, "$ref": "#/$defs/A"}});
        let error = normalize(&mut circle).unwrap_err().to_string();
        assert!(
            error.ends_with("/items: the references are circular"),
            "{error}"
        );
    }
}
