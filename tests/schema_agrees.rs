//! The one-pass decoder and an independent JSON Schema validator must say the same of every
//! document.
//!
//! `PREDICTD_SEED=N` repeats a run, `PREDICTD_CASES=N` makes it longer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic: that is how it fails"
)]

#[path = "support/random.rs"]
mod random;

use std::fmt::Write;

use predictd::{
    decode::{DecodeLimits, decode_instance, decode_request},
    schema::Schema,
};
use serde_json::{Map, Value, json};

use random::{Random, seed_and_cases};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: usize::MAX,
    max_depth: 64,
    max_array_values: usize::MAX,
};
const DOCUMENTS_PER_SCHEMA: usize = 60;

const NAMES: [&str; 10] = [
    "a",
    "b",
    "age",
    "plan",
    "a/b",
    "m~n",
    "é",
    "",
    "with space",
    "x\"y",
];
const TEXTS: [&str; 22] = [
    "",
    "a",
    "ab",
    "abc",
    "é",
    "日本",
    "👍🏽",
    "e\u{301}",
    "basic",
    "plus",
    "pro",
    "2024-02-29",
    "2023-02-29",
    "2024-02-29T12:00:00Z",
    "2024-02-29T12:00:00+25:00",
    "1990-12-31T23:59:60Z",
    "2eb8aa08-aa98-11ea-b4aa-73b441d16380",
    "2eb8aa08aa9811eab4aa73b441d16380",
    "null",
    "1",
    "a\nb",
    "\u{0}",
];
const NUMBERS: [&str; 34] = [
    "0",
    "-0",
    "0.0",
    "-0.0",
    "1",
    "-1",
    "1.0",
    "1e0",
    "1e2",
    "100",
    "1.5",
    "-1.5",
    "0.1",
    "0.3",
    "0.30000000000000004",
    "0.35",
    "2",
    "3",
    "7",
    "12",
    "19.99",
    "1e-3",
    "1E+2",
    "2.50",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "1e15",
    "123456789.125",
    "5e-324",
    "1e-10",
    "4.5",
    "33",
    "99.999",
];
const PATTERNS: [&str; 7] = [
    "^a",
    "b$",
    "^[a-z]+$",
    "^.{2,3}$",
    "é",
    "^(basic|plus)$",
    "[0-9]{4}-",
];

fn number(random: &mut Random) -> String {
    match random.below(4) {
        0 => (random.below(40) as i64 - 20).to_string(),
        1 => format!("{}.{}", random.below(20) as i64 - 10, random.below(100)),
        _ => (*random.pick(&NUMBERS)).to_owned(),
    }
}

fn number_value(random: &mut Random) -> Value {
    serde_json::from_str(&number(random)).unwrap()
}

fn scalar(random: &mut Random) -> Value {
    match random.below(5) {
        0 => Value::Null,
        1 => json!(random.chance(50)),
        2 => number_value(random),
        _ => json!(*random.pick(&TEXTS)),
    }
}

fn maybe(
    schema: &mut Map<String, Value>,
    random: &mut Random,
    percent: usize,
    keyword: &str,
    value: Value,
) {
    if random.chance(percent) {
        schema.insert(keyword.to_owned(), value);
    }
}

fn schema(random: &mut Random, depth: usize) -> Value {
    let kinds = if depth == 0 { 4 } else { 6 };
    let kind =
        *random.pick(&["number", "integer", "string", "boolean", "array", "object"][..kinds]);
    let mut schema = Map::new();
    let mut types = vec![json!(kind)];
    if random.chance(25) {
        types.push(json!("null"));
    }
    if random.chance(5) {
        let other = json!(*random.pick(&["number", "string", "boolean"]));
        if !types.contains(&other) {
            types.push(other);
        }
    }
    schema.insert(
        "type".to_owned(),
        if types.len() == 1 {
            types.remove(0)
        } else {
            Value::Array(types)
        },
    );
    match kind {
        "number" | "integer" => number_rules(random, &mut schema),
        "string" => string_rules(random, &mut schema),
        "array" => array_rules(random, &mut schema, depth),
        "object" => return object(random, depth),
        _ => {}
    }
    if random.chance(10) {
        let values: Vec<Value> = (0..=random.below(4)).map(|_| scalar(random)).collect();
        schema.insert("enum".to_owned(), Value::Array(values));
    }
    if random.chance(4) {
        schema.insert("const".to_owned(), scalar(random));
    }
    Value::Object(schema)
}

fn number_rules(random: &mut Random, schema: &mut Map<String, Value>) {
    for keyword in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
        let bound = number_value(random);
        maybe(schema, random, 20, keyword, bound);
    }
    let step = random
        .pick(&[
            json!(0.1),
            json!(0.01),
            json!(0.5),
            json!(2),
            json!(3),
            json!(7),
            json!(1e-3),
            json!(2.5),
        ])
        .clone();
    maybe(schema, random, 20, "multipleOf", step);
}

fn string_rules(random: &mut Random, schema: &mut Map<String, Value>) {
    let (shortest, longest) = (random.below(3), random.below(6));
    maybe(schema, random, 20, "minLength", json!(shortest));
    maybe(schema, random, 20, "maxLength", json!(longest));
    let pattern = json!(*random.pick(&PATTERNS));
    maybe(schema, random, 15, "pattern", pattern);
    let format = json!(*random.pick(&["date", "date-time", "uuid"]));
    maybe(schema, random, 15, "format", format);
}

fn array_rules(random: &mut Random, schema: &mut Map<String, Value>, depth: usize) {
    if random.chance(20) {
        let items: Vec<Value> = (0..=random.below(3))
            .map(|_| self::schema(random, depth - 1))
            .collect();
        schema.insert("prefixItems".to_owned(), Value::Array(items));
    }
    if random.chance(80) {
        let items = if random.chance(25) {
            booleans(random, depth - 1)
        } else {
            self::schema(random, depth - 1)
        };
        schema.insert("items".to_owned(), items);
    }
    let (fewest, most) = (random.below(3), random.below(5));
    maybe(schema, random, 25, "minItems", json!(fewest));
    maybe(schema, random, 25, "maxItems", json!(most));
}

/// The items of an array that is a column of booleans: booleans, or arrays of them.
fn booleans(random: &mut Random, depth: usize) -> Value {
    if depth > 0 && random.chance(30) {
        json!({"type": "array", "items": booleans(random, depth - 1)})
    } else {
        json!({"type": "boolean"})
    }
}

fn object(random: &mut Random, depth: usize) -> Value {
    let mut properties = Map::new();
    for _ in 0..=random.below(5) {
        let name = *random.pick(&NAMES);
        properties.insert(name.to_owned(), schema(random, depth.saturating_sub(1)));
    }
    let mut required: Vec<Value> = properties
        .keys()
        .filter(|_| random.chance(50))
        .map(|name| json!(name))
        .collect();
    if random.chance(5) {
        required.push(json!("elsewhere"));
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": random.chance(40)})
}

/// Writes a document that mostly follows the schema.
fn document(random: &mut Random, schema: &Value, text: &mut String) {
    if random.chance(6) {
        return anything(random, 3, text);
    }
    if let Some(constant) = schema.get("const").filter(|_| random.chance(80)) {
        text.push_str(&constant.to_string());
        return;
    }
    if let Some(values) = schema
        .get("enum")
        .and_then(Value::as_array)
        .filter(|_| random.chance(80))
    {
        text.push_str(&random.pick(values).to_string());
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    match *random.pick(&types) {
        "null" => text.push_str("null"),
        "boolean" => text.push_str(if random.chance(50) { "true" } else { "false" }),
        "integer" if random.chance(70) => {
            text.push_str(&(random.below(60) as i64 - 30).to_string())
        }
        "number" | "integer" => match schema
            .get("multipleOf")
            .and_then(Value::as_f64)
            .filter(|_| random.chance(60))
        {
            Some(step) => {
                let _ = write!(
                    text,
                    "{}",
                    ((random.below(400) as f64 - 200.0) * step * 1000.0).round() / 1000.0
                );
            }
            None => text.push_str(&number(random)),
        },
        "string" => write_text(random, text),
        "array" => write_array(random, schema, text),
        _ => write_object(random, schema, text),
    }
}

fn write_array(random: &mut Random, schema: &Value, text: &mut String) {
    let prefix = schema
        .get("prefixItems")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let length = random.below(5);
    text.push('[');
    for index in 0..length {
        if index > 0 {
            text.push(',');
        }
        space(random, text);
        match prefix.get(index).or_else(|| schema.get("items")) {
            Some(item) => document(random, item, text),
            None => anything(random, 2, text),
        }
    }
    text.push(']');
}

fn write_object(random: &mut Random, schema: &Value, text: &mut String) {
    text.push('{');
    let mut first = true;
    let empty = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
    if random.chance(30) {
        names.reverse();
    }
    if random.chance(10) {
        names.push("elsewhere");
    }
    if random.chance(10) {
        names.push("unknown");
    }
    for name in names {
        if random.chance(15) {
            continue;
        }
        if !std::mem::take(&mut first) {
            text.push(',');
        }
        space(random, text);
        quote(random, name, text);
        text.push(':');
        space(random, text);
        match properties.get(name) {
            Some(property) => document(random, property, text),
            None => anything(random, 2, text),
        }
    }
    space(random, text);
    text.push('}');
}

/// Writes a value without regard to a schema.
fn anything(random: &mut Random, depth: usize, text: &mut String) {
    match random.below(if depth == 0 { 5 } else { 7 }) {
        0 => text.push_str("null"),
        1 => text.push_str("true"),
        2 => text.push_str(&number(random)),
        3 | 4 => write_text(random, text),
        5 => {
            text.push('[');
            for index in 0..random.below(4) {
                if index > 0 {
                    text.push(',');
                }
                anything(random, depth - 1, text);
            }
            text.push(']');
        }
        _ => {
            text.push('{');
            for (index, name) in NAMES.iter().take(random.below(4)).enumerate() {
                if index > 0 {
                    text.push(',');
                }
                quote(random, name, text);
                text.push(':');
                anything(random, depth - 1, text);
            }
            text.push('}');
        }
    }
}

fn space(random: &mut Random, text: &mut String) {
    if random.chance(10) {
        let blank = *random.pick(&[" ", "\n", "\t", "\r\n  "]);
        text.push_str(blank);
    }
}

fn write_text(random: &mut Random, text: &mut String) {
    let value = *random.pick(&TEXTS);
    quote(random, value, text);
}

/// Writes a JSON string in which some characters are escaped without need.
fn quote(random: &mut Random, value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if c < ' ' || random.chance(5) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[test]
fn the_decoder_agrees_with_the_validator() {
    let (seed, wanted) = seed_and_cases(120_000);
    println!("seed {seed}");
    let mut random = Random(seed);
    let (mut cases, mut valid, mut rejected_schemas) = (0, 0, 0);
    while cases < wanted {
        let document_schema = object(&mut random, 3);
        let compiled = match Schema::compile(&document_schema) {
            Ok(compiled) => compiled,
            // A package cannot have a schema with an array that has no tensor.
            Err(_) => {
                rejected_schemas += 1;
                assert!(
                    rejected_schemas < 100 + cases,
                    "too many schemas are rejected: {document_schema}"
                );
                continue;
            }
        };
        let reference = jsonschema::options()
            .should_validate_formats(true)
            .build(&document_schema)
            .unwrap();
        for _ in 0..DOCUMENTS_PER_SCHEMA {
            let mut text = String::new();
            document(&mut random, &document_schema, &mut text);
            let instance: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
                panic!("the generator wrote invalid JSON: {error}: {text}")
            });
            let expected = reference.is_valid(&instance);
            let outcome = decode_instance(&compiled, text.as_bytes(), &LIMITS);
            cases += 1;
            valid += usize::from(expected);
            assert_eq!(
                outcome.is_ok(),
                expected,
                "seed {seed}, case {cases}\nschema {document_schema}\ndocument {text}\nours {outcome:?}\ntheirs {:?}",
                reference
                    .iter_errors(&instance)
                    .map(|error| error.to_string())
                    .collect::<Vec<_>>()
            );
            // In a list of two instances the verdict is the same, and a refused instance does not
            // change the columns of the other one.
            let pair = format!("{{\"instances\": [{text}, {text}]}}");
            let both = decode_request(&compiled, pair.as_bytes(), &LIMITS);
            assert_eq!(
                both.is_ok(),
                expected,
                "seed {seed}, case {cases}: in a list\nschema {document_schema}\ndocument {text}\nours {both:?}"
            );
            if let (Ok(one), Ok(both)) = (outcome, both) {
                assert_eq!((one.rows, both.columns.rows), (1, 2));
                assert!(
                    both.columns.columns.iter().all(|column| column.len() == 2),
                    "seed {seed}: {both:?}"
                );
            }
        }
    }
    println!(
        "{cases} documents, {valid} of them valid, {rejected_schemas} schemas without a column"
    );
    assert!(
        valid * 10 > cases && valid * 10 < cases * 9,
        "the generator makes too many or too few valid documents: {valid} of {cases}"
    );
}

/// A document that was cut or altered is refused, or read as a JSON parser reads it. It never
/// causes a panic.
#[test]
fn hostile_texts_are_refused_or_decoded_as_a_parser_reads_them() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": ["number", "null"]}, "b": {"type": "string"}, "c": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "d": {"type": "string", "contentEncoding": "base64"}},
        "required": ["a"],
        "additionalProperties": true,
    });
    let compiled = Schema::compile(&schema).unwrap();
    let good = r#" {"a": -12.5e1, "b": "x\u00e9\ud83d\udc4d\n", "c": [[1,2],[3,4]], "d": "aGVsbG8=", "e": {"f": [null, true, {"g": "h"}]}} "#;
    assert!(decode_instance(&compiled, good.as_bytes(), &LIMITS).is_ok());
    let mut random = Random(7);
    let alphabet = b"{}[]:,\"\\0123456789.eE+-tfnul \n\xff\x00au";
    for _ in 0..50_000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = *random.pick(alphabet),
                2 => bytes.insert(at, *random.pick(alphabet)),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        let ours = decode_instance(&compiled, &bytes, &LIMITS).is_ok();
        let theirs = serde_json::from_slice::<Value>(&bytes);
        if ours {
            let value = theirs.unwrap_or_else(|error| {
                panic!(
                    "accepted, although it is not JSON ({error}): {}",
                    String::from_utf8_lossy(&bytes)
                )
            });
            assert!(
                jsonschema::is_valid(&schema, &value),
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    for bad in [
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":0x1}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":tru}",
        "{\"a\":1e400}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1,\"e\":{\"x\":1,\"x\":2}}",
        "{\"a\":1}//",
        "/**/{\"a\":1}",
    ] {
        assert!(
            decode_instance(&compiled, bad.as_bytes(), &LIMITS).is_err(),
            "{bad}"
        );
    }
}
