//! Random schemas, and random changes of them.

use serde_json::{Map, Value, json};

use crate::random::Random;

pub(crate) const NAMES: [&str; 6] = ["a", "b", "plan", "a/b", "m~n", ""];

pub(crate) const TEXTS: [&str; 16] = [
    "",
    "a",
    "ab",
    "abc",
    "é",
    "日本",
    "e\u{301}",
    "basic",
    "plus",
    "2024-02-29",
    "2023-02-29",
    "2024-02-29T12:00:00Z",
    "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
    "AAAA",
    "YQ==",
    "not base64!",
];

/// Numbers of documents and schemas. Some have the same value, some the same double.
pub(crate) const NUMBERS: [&str; 40] = [
    "0",
    "-0.0",
    "1",
    "1.0",
    "-1",
    "1e0",
    "2",
    "2.5",
    "3",
    "4",
    "5",
    "6",
    "7",
    "10",
    "12",
    "-5",
    "0.5",
    "1.5",
    "0.1",
    "0.3",
    "0.30000000000000004",
    "0.7",
    "1e2",
    "100.5",
    "5e-324",
    "1e15",
    "9007199254740991",
    "9007199254740992",
    "9007199254740992.0",
    "9007199254740993",
    "9007199254740995",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "9.1e18",
    "1e19",
    "100000000000000000001",
    "1e20",
    "1e38",
    "1e300",
];

const STEPS: [&str; 13] = [
    "0.1", "0.01", "0.5", "0.25", "0.7", "1", "2", "3", "6", "7", "2.5", "5", "1e3",
];

const PATTERNS: [&str; 4] = ["^a", "^[a-z]+$", "^.{2,3}$", "^(basic|plus)$"];

fn number(random: &mut Random) -> Value {
    let text = if random.chance(50) {
        (random.below(14) as i64 - 3).to_string()
    } else {
        (*random.pick(&NUMBERS)).to_owned()
    };
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn scalar(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::Null,
        1 => json!(random.chance(50)),
        2 | 3 => number(random),
        _ => json!(*random.pick(&TEXTS)),
    }
}

fn schema(random: &mut Random, depth: usize) -> Value {
    let kinds = if depth == 0 { 5 } else { 8 };
    let kind = *random.pick(
        &[
            "number", "integer", "integer", "string", "boolean", "array", "array", "object",
        ][..kinds],
    );
    if kind == "object" {
        return object(random, depth);
    }
    let mut types = vec![json!(kind)];
    if random.chance(25) {
        types.push(json!("null"));
    }
    if random.chance(8) {
        types.push(json!(
            *random.pick(&["boolean", "string", "number", "integer"])
        ));
        types.dedup();
    }
    let mut schema = Map::new();
    schema.insert(
        "type".to_owned(),
        if types.len() == 1 {
            types.remove(0)
        } else {
            Value::Array(types)
        },
    );
    if random.chance(2) {
        schema.shift_remove("type");
    }
    for _ in 0..random.below(4) {
        keyword(random, &mut schema, kind, depth);
    }
    Value::Object(schema)
}

/// Adds a rule that a value of this kind can violate.
fn keyword(random: &mut Random, schema: &mut Map<String, Value>, kind: &str, depth: usize) {
    let (name, value) = match (kind, random.below(10)) {
        (_, 0) => (
            "enum",
            Value::Array((0..=random.below(4)).map(|_| scalar(random)).collect()),
        ),
        (_, 1) if random.chance(30) => ("const", scalar(random)),
        ("number" | "integer", 1..=2) => (
            "multipleOf",
            serde_json::from_str(random.pick::<&str>(&STEPS)).unwrap(),
        ),
        ("number" | "integer", _) => (
            *random.pick(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
            number(random),
        ),
        ("string", 1..=2) => ("minLength", json!(random.below(4))),
        ("string", 3..=4) => ("maxLength", json!(random.below(12))),
        ("string", 5..=6) => ("pattern", json!(*random.pick(&PATTERNS))),
        ("string", 7..=8) => (
            "format",
            json!(*random.pick(&["date", "date-time", "uuid"])),
        ),
        ("string", _) => ("contentEncoding", json!("base64")),
        ("array", 1..=2) => ("minItems", json!(random.below(3))),
        ("array", 3..=4) => ("maxItems", json!(random.below(4))),
        ("array", 5..=6) => (
            "prefixItems",
            Value::Array(
                (0..=random.below(2))
                    .map(|_| self::schema(random, depth.max(1) - 1))
                    .collect(),
            ),
        ),
        ("array", _) => ("items", self::schema(random, depth.max(1) - 1)),
        _ => return,
    };
    schema.insert(name.to_owned(), value);
}

pub(crate) fn object(random: &mut Random, depth: usize) -> Value {
    let mut properties = Map::new();
    for _ in 0..=random.below(3) {
        properties.insert(
            (*random.pick(&NAMES)).to_owned(),
            schema(random, depth.max(1) - 1),
        );
    }
    let required: Vec<Value> = properties
        .keys()
        .filter(|_| random.chance(50))
        .map(|name| json!(name))
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": random.chance(40)})
}

/// Changes one thing somewhere in a schema, more often to accept more than to accept less.
pub(crate) fn change(random: &mut Random, schema: &mut Value, depth: usize) {
    let members = schema.as_object_mut().unwrap();
    let below: Vec<String> = ["items", "prefixItems", "properties"]
        .into_iter()
        .filter(|key| members.contains_key(*key))
        .map(str::to_owned)
        .collect();
    if !below.is_empty() && random.chance(70) {
        let child = match members.get_mut(random.pick(&below)).unwrap() {
            Value::Array(list) => {
                let index = random.below(list.len());
                &mut list[index]
            }
            value
                if value
                    .get("type")
                    .is_some_and(|kind| kind.is_string() || kind.is_array())
                    || value.as_object().unwrap().is_empty() =>
            {
                value
            }
            Value::Object(properties) => {
                let index = random.below(properties.len());
                properties.values_mut().nth(index).unwrap()
            }
            _ => return,
        };
        if child.is_object() {
            return change(random, child, depth.max(1) - 1);
        }
        return;
    }
    let kind = match members.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => kinds[0].as_str().unwrap().to_owned(),
        _ => "string".to_owned(),
    };
    if kind == "object" {
        return change_object(random, members, depth);
    }
    match random.below(8) {
        0 => {
            let mut types = vec![json!(kind)];
            types.push(json!(
                *random.pick(&["null", "number", "string", "boolean", "integer"])
            ));
            types.dedup();
            members.insert("type".to_owned(), Value::Array(types));
        }
        1 => {
            let other = if kind == "integer" { "number" } else { &kind };
            members.insert("type".to_owned(), json!(other));
        }
        2..=3 => {
            let rules: Vec<String> = members
                .keys()
                .filter(|key| *key != "type")
                .cloned()
                .collect();
            if !rules.is_empty() {
                members.shift_remove(random.pick(&rules));
            }
        }
        4 => keyword(random, members, &kind, depth),
        _ => loosen(random, members),
    }
}

fn change_object(random: &mut Random, members: &mut Map<String, Value>, depth: usize) {
    match random.below(5) {
        0 => {
            members.insert("additionalProperties".to_owned(), json!(random.chance(70)));
        }
        1 => {
            members["properties"].as_object_mut().unwrap().insert(
                (*random.pick(&NAMES)).to_owned(),
                schema(random, depth.max(1) - 1),
            );
        }
        2 if members["properties"].as_object().unwrap().len() > 1 => {
            let name = members["properties"]
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone();
            members["properties"]
                .as_object_mut()
                .unwrap()
                .shift_remove(&name);
            members["required"]
                .as_array_mut()
                .unwrap()
                .retain(|known| *known != json!(name));
        }
        3 => {
            let name = members["properties"]
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone();
            let required = members["required"].as_array_mut().unwrap();
            if !required.contains(&json!(name)) {
                required.push(json!(name));
            }
        }
        _ => {
            members["required"].as_array_mut().unwrap().pop();
        }
    }
}

/// Replaces the value of an existing rule, mostly by one that accepts more.
fn loosen(random: &mut Random, members: &mut Map<String, Value>) {
    let rules: Vec<String> = members
        .keys()
        .filter(|key| *key != "type")
        .cloned()
        .collect();
    if rules.is_empty() {
        return;
    }
    let rule = random.pick(&rules).clone();
    let down = matches!(
        rule.as_str(),
        "minimum" | "exclusiveMinimum" | "minLength" | "minItems"
    );
    let value = match (rule.as_str(), &members[&rule]) {
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", Value::Number(bound)) => {
            let other = format!(
                "{}{}",
                if random.chance(50) { "exclusiveM" } else { "m" },
                if down { "inimum" } else { "aximum" }
            );
            let bound = bound.as_f64().unwrap();
            let further = *random.pick(&[0.0, 0.5, 1.0, 2.0]);
            members.shift_remove(&rule);
            members.insert(
                other,
                json!(if down {
                    bound - further
                } else {
                    bound + further
                }),
            );
            return;
        }
        ("multipleOf", Value::Number(step)) => {
            json!(step.as_f64().unwrap() / *random.pick(&[1.0, 2.0, 10.0, 3.0]))
        }
        ("minLength" | "minItems", bound) => json!(bound.as_u64().unwrap().saturating_sub(1)),
        ("maxLength" | "maxItems", bound) => json!(bound.as_u64().unwrap() + 1),
        ("enum", Value::Array(values)) => {
            let mut values = values.clone();
            values.push(scalar(random));
            if random.chance(20) {
                values.remove(0);
            }
            Value::Array(values)
        }
        _ => return,
    };
    members.insert(rule, value);
}
