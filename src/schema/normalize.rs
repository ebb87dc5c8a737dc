//! Normalize: what Pydantic writes, in the schema's own words: `$ref` resolved, `anyOf` with null as a list of types.

use serde_json::{Map, Value};

/// Deeper nesting of references is a circle.
const MAX_DEPTH: usize = 32;

/// Rewrites `schema.json` in place and says whether anything changed.
///
/// # Errors
/// A reference that leads nowhere or in a circle, or an `anyOf` that is not "X or null", with its JSON pointer.
pub fn normalize(document: &mut Value) -> Result<bool, (String, String)> {
    let before = document.clone();
    let shared = document.get("$defs").cloned();
    for side in ["input", "output"] {
        let Some(schema) = document.get_mut(side) else {
            continue;
        };
        let mut definitions = schema
            .get("$defs")
            .cloned()
            .or_else(|| shared.clone())
            .unwrap_or(Value::Null);
        *schema = rewrite(schema, &mut definitions, &format!("/{side}"), 0)?;
    }
    if let Some(members) = document.as_object_mut() {
        members.shift_remove("$defs");
    }
    Ok(*document != before)
}

fn rewrite(
    schema: &Value,
    definitions: &mut Value,
    pointer: &str,
    depth: usize,
) -> Result<Value, (String, String)> {
    let Value::Object(members) = schema else {
        return Ok(schema.clone());
    };
    if depth > MAX_DEPTH {
        return Err((pointer.to_owned(), "references lead in a circle".to_owned()));
    }
    if let Some(reference) = members.get("$ref") {
        let name = reference
            .as_str()
            .and_then(|text| text.strip_prefix("#/$defs/"))
            .unwrap_or_default();
        let Some(target) = definitions.get(name).cloned() else {
            return Err((
                format!("{pointer}/$ref"),
                format!("{reference} leads nowhere; only #/$defs/NAME is understood"),
            ));
        };
        return rewrite(
            &overlay(target, members, "$ref"),
            definitions,
            pointer,
            depth + 1,
        );
    }
    if let Some([only]) = members
        .get("allOf")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return rewrite(
            &overlay(only.clone(), members, "allOf"),
            definitions,
            pointer,
            depth + 1,
        );
    }
    if let Some(options) = members.get("anyOf").and_then(Value::as_array) {
        let options = options
            .iter()
            .map(|option| rewrite(option, definitions, pointer, depth + 1))
            .collect::<Result<Vec<_>, _>>()?;
        let united = unite(&options).ok_or_else(|| {
            (
                format!("{pointer}/anyOf"),
                "only \"X or null\" is understood".to_owned(),
            )
        })?;
        return rewrite(
            &overlay(united, members, "anyOf"),
            definitions,
            pointer,
            depth + 1,
        );
    }
    let mut rewritten = Map::new();
    for (keyword, value) in members {
        let at = format!("{pointer}/{keyword}");
        let value = match (keyword.as_str(), value) {
            ("$defs", _) => continue,
            ("properties", Value::Object(properties)) => {
                let mut inner = Map::new();
                for (name, property) in properties {
                    inner.insert(
                        name.clone(),
                        rewrite(property, definitions, &format!("{at}/{name}"), depth + 1)?,
                    );
                }
                Value::Object(inner)
            }
            ("items", value) => rewrite(value, definitions, &at, depth + 1)?,
            ("prefixItems", Value::Array(items)) => Value::Array(
                items
                    .iter()
                    .map(|item| rewrite(item, definitions, &at, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            (_, value) => value.clone(),
        };
        rewritten.insert(keyword.clone(), value);
    }
    Ok(Value::Object(rewritten))
}

/// The members beside a reference (title, default, description) go over what it refers to.
fn overlay(target: Value, members: &Map<String, Value>, without: &str) -> Value {
    let Value::Object(mut target) = target else {
        return target;
    };
    for (keyword, value) in members.iter().filter(|(keyword, _)| *keyword != without) {
        target.insert(keyword.clone(), value.clone());
    }
    Value::Object(target)
}

/// One schema for several that differ in their type alone, or for one and null.
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
    if nullable {
        let mut names = types(&united);
        names.push(Value::from("null"));
        let members = united.as_object_mut()?;
        members.insert("type".to_owned(), Value::Array(names));
        if let Some(Value::Array(values)) = members.get_mut("enum") {
            values.push(Value::Null);
        }
        // Null is no such constant.
        if let Some(constant) = members.shift_remove("const") {
            members.insert("enum".to_owned(), Value::Array(vec![constant, Value::Null]));
        }
    }
    Some(united)
}

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
    fn what_pydantic_writes() {
        // The output of `model_json_schema()` for a model with an optional number, an enumeration and a nested model.
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
    fn what_can_not_be_normalized_is_named() {
        let wrong = |schema| {
            normalize(&mut json!({"input": {"properties": {"x": schema}}}))
                .unwrap_err()
                .0
        };
        assert_eq!(
            wrong(json!({"$ref": "#/$defs/None"})),
            "/input/properties/x/$ref"
        );
        assert_eq!(
            wrong(json!({"anyOf": [true, {"type": "null"}]})),
            "/input/properties/x/anyOf"
        );
        assert_eq!(
            wrong(json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "number"}]})),
            "/input/properties/x/anyOf"
        );
        let mut circle = json!({"input": {"$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/A"}}}, "$ref": "#/$defs/A"}});
        assert_eq!(
            normalize(&mut circle).unwrap_err().1,
            "references lead in a circle"
        );
    }
}
