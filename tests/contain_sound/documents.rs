//! Random documents at the edges of two schemas.

use serde_json::{Value, json};

use crate::{
    random::Random,
    schemas::{NUMBERS, TEXTS, scalar},
};

/// Values at the edges of the rules of a schema, as texts, because numbers may have more digits
/// than a `Value` keeps.
fn edges(schema: &Value, found: &mut Vec<String>) {
    let Value::Object(members) = schema else {
        return;
    };
    for (key, value) in members {
        match (key.as_str(), value) {
            (
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
                | "const",
                Value::Number(number),
            ) => {
                let bound = number.as_f64().unwrap();
                found.push(number.to_string());
                for near in [
                    bound.next_up(),
                    bound.next_down(),
                    bound + 1.0,
                    bound - 1.0,
                    bound.ceil(),
                    bound.floor(),
                    bound * 2.0,
                    bound * 7.0,
                ] {
                    if near.is_finite() {
                        found.push(json!(near).to_string());
                        found.push(format!("{near}"));
                    }
                }
            }
            ("enum", Value::Array(values)) => found.extend(values.iter().map(Value::to_string)),
            ("const", value) => found.push(value.to_string()),
            _ => {}
        }
    }
}

/// A document that mostly follows `schema`, with values at the edges of both schemas.
pub(crate) fn document(random: &mut Random, schema: &Value, other: &Value) -> String {
    if random.chance(3) {
        return if random.chance(70) {
            scalar(random).to_string()
        } else {
            "[]".to_owned()
        };
    }
    let mut at_edges = Vec::new();
    edges(schema, &mut at_edges);
    edges(other, &mut at_edges);
    let listed = schema.get("enum").or_else(|| schema.get("const")).is_some();
    if !at_edges.is_empty() && random.chance(if listed { 90 } else { 45 }) {
        return random.pick(&at_edges).clone();
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => vec!["null", "number", "string", "array", "object"],
    };
    match *random.pick(&types) {
        "null" => "null".to_owned(),
        "boolean" => if random.chance(50) { "true" } else { "false" }.to_owned(),
        "integer" if random.chance(60) => (random.below(20) as i64 - 6).to_string(),
        "number" | "integer" => match schema
            .get("multipleOf")
            .and_then(Value::as_f64)
            .filter(|_| random.chance(60))
        {
            Some(step) => format!(
                "{}",
                ((random.below(40) as f64 - 10.0) * step * 1000.0).round() / 1000.0
            ),
            None => (*random.pick(&NUMBERS)).to_owned(),
        },
        "string" => json!(*random.pick(&TEXTS)).to_string(),
        "array" => array(random, schema, other),
        _ => object(random, schema, other),
    }
}

fn array(random: &mut Random, schema: &Value, other: &Value) -> String {
    let length = random.below(4);
    let items: Vec<String> = (0..length)
        .map(|index| {
            let child = |schema: &Value| {
                let prefix = schema.get("prefixItems").and_then(|list| list.get(index));
                prefix
                    .or_else(|| schema.get("items"))
                    .cloned()
                    .unwrap_or_else(|| json!({}))
            };
            document(random, &child(schema), &child(other))
        })
        .collect();
    format!("[{}]", items.join(","))
}

fn object(random: &mut Random, schema: &Value, other: &Value) -> String {
    let property = |schema: &Value, name: &str| {
        schema
            .get("properties")
            .and_then(|all| all.get(name))
            .cloned()
    };
    let known = |schema: &Value| {
        let names = schema.get("properties").and_then(Value::as_object);
        names
            .map(|all| all.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let open = schema.get("additionalProperties") != Some(&json!(false));
    let mut names = known(schema);
    names.extend(
        known(other)
            .into_iter()
            .filter(|_| open && random.chance(40)),
    );
    names.extend((open && random.chance(20)).then(|| "unknown".to_owned()));
    names.sort();
    names.dedup();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    names.retain(|name| {
        random.chance(if required.contains(&name.as_str()) {
            98
        } else {
            60
        })
    });
    let members: Vec<String> = names
        .iter()
        .map(|name| {
            let own = property(schema, name).unwrap_or_else(|| json!({}));
            format!(
                "{}:{}",
                json!(name),
                document(
                    random,
                    &own,
                    &property(other, name).unwrap_or_else(|| json!({}))
                )
            )
        })
        .collect();
    format!("{{{}}}", members.join(","))
}
