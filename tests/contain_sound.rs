//! No gap between two schemas must mean: whatever the narrower one accepts, the wider one accepts. Pairs are made by changing
//! one schema into another, so that many are contained; documents lie at the edges of both.
//!
//! `PREDICTD_SEED=N` repeats a run, `PREDICTD_CASES=N` (pairs) makes it longer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic: that is how it fails"
)]

#[path = "support/random.rs"]
mod random;

use predictd::{
    compat::containment::{GapKind, contains},
    decode::{DecodeLimits, decode_instance},
    schema::Schema,
};
use serde_json::{Map, Value, json};

use random::{Random, seed_and_cases};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: usize::MAX,
    max_depth: 64,
    max_array_values: usize::MAX,
};
const DOCUMENTS_PER_PAIR: usize = 60;

const NAMES: [&str; 6] = ["a", "b", "plan", "a/b", "m~n", ""];
const TEXTS: [&str; 16] = [
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
/// As they stand in documents and schemas; some have the same value, some have the same double.
const NUMBERS: [&str; 40] = [
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

fn scalar(random: &mut Random) -> Value {
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

/// Adds a rule that a value of this kind may break.
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

fn object(random: &mut Random, depth: usize) -> Value {
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
fn change(random: &mut Random, schema: &mut Value, depth: usize) {
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

/// Another value for a rule that is there.
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

/// Values at the edges of the rules of a schema, as texts: numbers may have more digits than a tree keeps.
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

/// A document, mostly of `schema`'s making, with the edges of `other` at the same place.
fn document(random: &mut Random, schema: &Value, other: &Value) -> String {
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
        "array" => {
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
        _ => {
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
    }
}

#[test]
fn no_gap_is_a_proof() {
    let (seed, wanted) = seed_and_cases(3_000);
    println!("seed {seed}");
    let mut random = Random(seed);
    let (mut pairs, mut contained, mut proofs, mut broken, mut shown) = (0, 0, 0, 0, 0);
    while pairs < wanted {
        let narrower_document = object(&mut random, 3);
        let mut wider_document = narrower_document.clone();
        for _ in 0..=random.below(3) {
            change(&mut random, &mut wider_document, 2);
        }
        let (Ok(narrower), Ok(wider)) = (
            Schema::compile(&narrower_document),
            Schema::compile(&wider_document),
        ) else {
            continue;
        };
        if wider_document == narrower_document {
            continue;
        }
        pairs += 1;
        // Both ways: a change that accepts more one way accepts less the other.
        for (wide, narrow, wide_document, narrow_document) in [
            (&wider, &narrower, &wider_document, &narrower_document),
            (&narrower, &wider, &narrower_document, &wider_document),
        ] {
            let gaps = contains(wide, narrow);
            contained += usize::from(gaps.is_empty());
            let surely = gaps.iter().any(|gap| gap.kind == GapKind::Broken);
            broken += usize::from(surely);
            let mut found = false;
            for _ in 0..DOCUMENTS_PER_PAIR {
                let text = document(&mut random, narrow_document, wide_document);
                if decode_instance(narrow, text.as_bytes(), &LIMITS).is_err() {
                    continue;
                }
                let outcome = decode_instance(wide, text.as_bytes(), &LIMITS);
                proofs += usize::from(gaps.is_empty());
                found |= outcome.is_err();
                assert!(
                    outcome.is_ok() || !gaps.is_empty(),
                    "seed {seed}, pair {pairs}\nwider {wide_document}\nnarrower {narrow_document}\ndocument {text}\n{outcome:?}"
                );
            }
            shown += usize::from(found && surely);
        }
    }
    println!(
        "{pairs} pairs both ways, {contained} contained, {proofs} documents held them to it; {broken} broken, {shown} of these shown"
    );
    assert!(
        contained * 5 > pairs * 2 && proofs > pairs * 4,
        "the generator proves nothing: {contained} of {pairs}, {proofs} documents"
    );
    assert!(
        shown * 4 > broken,
        "what is called broken hardly ever is: {shown} of {broken}"
    );
}

/// Pairs that chance seldom finds: numbers that share a double, columns that hold less than their schema says, schemas that
/// accept nothing. (wider, narrower, a document that only the narrower one accepts.)
#[test]
fn traps() {
    let field = |rules: Value| json!({"type": "object", "properties": {"a": rules}, "required": ["a"], "additionalProperties": false});
    let number = |key: &str, value: Value| json!({"type": "number", key: value});
    let cases = [
        // A multiple of 7, but its double's digits are no multiple of 0.7.
        (
            number("multipleOf", json!(0.7)),
            number("multipleOf", json!(7)),
            "9007199254740995",
        ),
        (
            json!({"enum": [9_007_199_254_740_992_i64]}),
            json!({"enum": [9_007_199_254_740_992.0]}),
            "9007199254740993",
        ),
        (
            json!({"type": "number", "maximum": 9_007_199_254_740_992_i64}),
            json!({"enum": [9_007_199_254_740_992.0]}),
            "9007199254740993",
        ),
        // Odd, but the double that it shares is even.
        (
            json!({"type": "string"}),
            json!({"type": "integer", "multipleOf": 2, "const": 9_007_199_254_740_995_i64}),
            "9007199254740996.0",
        ),
        (
            json!({"type": "integer"}),
            number("multipleOf", json!(1)),
            "1e19",
        ),
        (
            json!({"type": "integer"}),
            json!({"type": "number", "const": 1e30}),
            "1e30",
        ),
        (
            number("exclusiveMinimum", json!(0)),
            number("minimum", json!(0)),
            "0",
        ),
        (
            json!({"type": "number", "minimum": 1}),
            json!({"type": "number", "exclusiveMinimum": 0}),
            "0.5",
        ),
        (
            json!({"type": "integer", "enum": [1, 2, 4]}),
            json!({"type": "integer", "minimum": 1, "maximum": 4}),
            "3",
        ),
        (
            json!({"type": "string", "maxLength": 9}),
            json!({"type": "string", "format": "date"}),
            "\"2024-02-29\"",
        ),
        (
            json!({"type": "string", "minLength": 3}),
            json!({"type": "string", "maxLength": 3, "minLength": 2}),
            "\"e\u{301}\"",
        ),
        (
            json!({"type": "string", "contentEncoding": "base64"}),
            json!({"type": ["string", "integer"], "enum": ["a!"]}),
            "\"a!\"",
        ),
        (
            json!({"type": "array", "items": {"type": "number"}}),
            json!({"type": "array", "prefixItems": [{"type": "number"}]}),
            "[1, null]",
        ),
    ];
    for (wider, narrower, value) in cases {
        let (wider_schema, narrower_schema) = (
            Schema::compile(&field(wider.clone())).unwrap(),
            Schema::compile(&field(narrower.clone())).unwrap(),
        );
        let text = format!("{{\"a\": {value}}}");
        assert!(
            decode_instance(&narrower_schema, text.as_bytes(), &LIMITS).is_ok(),
            "{narrower} takes {value}"
        );
        assert!(
            decode_instance(&wider_schema, text.as_bytes(), &LIMITS).is_err(),
            "{wider} refuses {value}"
        );
        let gaps = contains(&wider_schema, &narrower_schema);
        assert!(!gaps.is_empty(), "{wider} does not contain {narrower}");
    }
}

/// What must be proved, or the command would cry wolf.
#[test]
fn proofs() {
    let field = |rules: Value| json!({"type": "object", "properties": {"a": rules}, "required": [], "additionalProperties": false});
    let cases = [
        (json!({"type": "number"}), json!({"type": "integer"})),
        (
            json!({"type": ["integer", "null"]}),
            json!({"type": "number", "multipleOf": 5, "minimum": 0, "maximum": 100}),
        ),
        (
            json!({"type": "number", "multipleOf": 0.01}),
            json!({"type": "number", "multipleOf": 0.1}),
        ),
        (
            json!({"type": "integer", "multipleOf": 0.5}),
            json!({"type": "integer"}),
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!({"type": "integer", "exclusiveMinimum": 0.2}),
        ),
        (
            json!({"type": "integer", "exclusiveMaximum": 4}),
            json!({"type": "integer", "maximum": 3.9}),
        ),
        (
            json!({"type": "integer", "enum": [4, 3, 2, 1]}),
            json!({"type": "integer", "minimum": 1, "exclusiveMaximum": 5}),
        ),
        (
            json!({"enum": [null, true, false]}),
            json!({"type": ["boolean", "null"]}),
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+$", "maxLength": 5}),
            json!({"type": "string", "enum": ["basic", "plus"]}),
        ),
        (
            json!({"type": "string", "format": "date"}),
            json!({"enum": ["2024-02-29"]}),
        ),
        (
            json!({"type": "string", "maxLength": 10}),
            json!({"type": "string", "format": "date"}),
        ),
        (
            json!({"type": "string", "pattern": "^a"}),
            json!({"type": "string", "pattern": "^a", "maxLength": 3}),
        ),
        (
            json!({"type": "number", "minimum": 7}),
            json!({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}),
        ),
        (
            json!({"type": "string"}),
            json!({"type": "string", "enum": [1, 2]}),
        ),
        (
            json!({"type": "array", "items": {"type": "number"}, "maxItems": 2}),
            json!({"type": "array", "prefixItems": [{"type": "integer"}, {"const": 1.5}], "items": {"type": "string", "enum": [1]}}),
        ),
        (
            json!({"type": "array"}),
            json!({"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 28, "maxItems": 28}}),
        ),
    ];
    for (wider, narrower) in cases {
        let gaps = contains(
            &Schema::compile(&field(wider.clone())).unwrap(),
            &Schema::compile(&field(narrower.clone())).unwrap(),
        );
        assert!(gaps.is_empty(), "{wider} contains {narrower}: {gaps:?}");
    }
    // No proof, and no example either.
    let pattern = |pattern: &str| {
        Schema::compile(&field(json!({"type": "string", "pattern": pattern}))).unwrap()
    };
    let gaps = contains(&pattern("^[a-f]{9}"), &pattern("^[a-e]{9}"));
    assert_eq!(
        gaps.iter()
            .map(|gap| (gap.pointer.as_str(), gap.keyword, gap.kind))
            .collect::<Vec<_>>(),
        [("/a", "pattern", GapKind::Unproved)]
    );
    let gaps = contains(&pattern("^b"), &pattern("^a"));
    assert_eq!(
        (gaps[0].kind, &gaps[0].example),
        (GapKind::Broken, &Some(json!("a")))
    );
}
