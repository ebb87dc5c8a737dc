//! Pairs of schemas that random changes seldom find.

use predictd::{
    compat::containment::{GapKind, contains},
    decode::decode_instance,
    schema::Schema,
};
use serde_json::{Value, json};

use crate::LIMITS;

/// The schema of an object whose field `a` has these rules.
fn schema_of_field(rules: &Value, required: bool) -> Schema {
    let required = if required { json!(["a"]) } else { json!([]) };
    let schema = json!({"type": "object", "properties": {"a": rules}, "required": required, "additionalProperties": false});
    Schema::compile(&schema).unwrap()
}

fn number(key: &str, value: Value) -> Value {
    json!({"type": "number", key: value})
}

type Gap = (Value, Value, &'static str);

/// Wider rules, narrower rules, and a value that only the narrower ones accept: numbers.
fn gaps_of_numbers() -> Vec<Gap> {
    vec![
        // A multiple of 7, whose double is not a multiple of 0.7 in decimal digits.
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
        // The number is odd, but it has the same double as an even number.
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
    ]
}

/// Wider rules, narrower rules, and a value that only the narrower ones accept: bounds, texts and
/// arrays.
fn gaps_of_bounds_texts_and_arrays() -> Vec<Gap> {
    vec![
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
    ]
}

#[test]
fn a_value_that_only_one_schema_accepts_is_a_gap() {
    let gaps = gaps_of_numbers().into_iter();
    for (wider, narrower, value) in gaps.chain(gaps_of_bounds_texts_and_arrays()) {
        let (wider_schema, narrower_schema) = (
            schema_of_field(&wider, true),
            schema_of_field(&narrower, true),
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

/// Wider rules, and narrower rules that they contain.
fn contained_rules() -> Vec<(Value, Value)> {
    vec![
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
    ]
}

/// A containment that is not proved would be reported as a possible break.
#[test]
fn containments_are_proved() {
    for (wider, narrower) in contained_rules() {
        let gaps = contains(
            &schema_of_field(&wider, false),
            &schema_of_field(&narrower, false),
        );
        assert!(gaps.is_empty(), "{wider} contains {narrower}: {gaps:?}");
    }
}

#[test]
fn patterns_are_unproved_without_an_example() {
    let pattern =
        |pattern: &str| schema_of_field(&json!({"type": "string", "pattern": pattern}), false);
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
