use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::document::{parse, read, read_table};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    text: String,
    count: u8,
    big: u64,
    signed: i64,
    ratio: f64,
    on: bool,
    pair: (u32, u32),
    maybe: Option<Box<Settings>>,
    list: Vec<Settings>,
    by_bucket: BTreeMap<u8, u64>,
    choice: Option<Choice>,
    any: Value,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    Plain,
    Named(String),
    Sized { size: u64 },
    Pair(u8, u8),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Required {
    name: String,
}

fn error(text: &str) -> String {
    parse::<Settings>(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_type_is_read() {
    let document = json!({
        "text": "a",
        "count": 255,
        "big": u64::MAX,
        "signed": -5,
        "ratio": 1,
        "on": true,
        "pair": [1, 2],
        "maybe": {"text": "b"},
        "list": [{"count": 1}, {}],
        "by_bucket": {"7": 9},
        "choice": {"sized": {"size": 3}},
        "any": {"x": [null, 1.5]},
    });
    let settings: Settings = read(&document).unwrap();
    assert_eq!(settings, serde_json::from_value(document).unwrap());
    for (document, choice) in [
        (json!({"choice": "plain"}), Choice::Plain),
        (json!({"choice": {"plain": null}}), Choice::Plain),
        (
            json!({"choice": {"named": "x"}}),
            Choice::Named("x".to_owned()),
        ),
        (json!({"choice": {"pair": [1, 2]}}), Choice::Pair(1, 2)),
    ] {
        let settings: Settings = read(&document).unwrap();
        assert_eq!(settings.choice, Some(choice), "{document}");
    }
}

/// serde's own reader accepts each of these by position.
#[test]
fn an_array_is_not_an_object() {
    for (text, expected) in [
        ("[]", "expected an object, found an array"),
        (
            r#"["a", 1, 2, 3, 4.5, true]"#,
            "expected an object, found an array",
        ),
        (
            r#"{"maybe": ["a"]}"#,
            "/maybe: expected an object, found an array",
        ),
        (
            r#"{"list": [{}, []]}"#,
            "/list/1: expected an object, found an array",
        ),
        (
            r#"{"choice": {"sized": [3]}}"#,
            "/choice/sized: expected an object, found an array",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn an_error_names_the_place_and_the_rule() {
    for (text, expected) in [
        (
            "",
            "is not JSON: the text ends too early at line 1 column 0",
        ),
        (
            r#"{"text": "#,
            "is not JSON: the text ends too early at line 1 column 9",
        ),
        (
            r#"{"text": nul}"#,
            "is not JSON: expected true, false or null at line 1 column 13",
        ),
        (
            r#"{"text": "a",}"#,
            "is not JSON: trailing comma at line 1 column 14",
        ),
        (
            r#"{"text": "a", "text": "b"}"#,
            "the member \"text\" occurs twice at line 1 column 26",
        ),
        (r#"{"text": 1}"#, "/text: expected a string, found 1"),
        (
            r#"{"count": 256}"#,
            "/count: expected a whole number from 0 to 255, found 256",
        ),
        (
            r#"{"big": -1}"#,
            "/big: expected a whole number that is not negative, found -1",
        ),
        (
            r#"{"signed": 1.5}"#,
            "/signed: expected a whole number, found 1.5",
        ),
        (
            r#"{"ratio": "1"}"#,
            "/ratio: expected a number, found \"1\"",
        ),
        (r#"{"on": null}"#, "/on: expected true or false, found null"),
        (
            r#"{"pair": [1]}"#,
            "/pair: expected an array of 2 values, found an array",
        ),
        (
            r#"{"list": {}}"#,
            "/list: expected an array, found an object",
        ),
        (
            r#"{"list": [{"maybe": {"count": []}}]}"#,
            "/list/0/maybe/count: expected a whole number from 0 to 255, found an array",
        ),
        (
            r#"{"by_bucket": {"x": 1}}"#,
            "expected a whole number as the name, found \"x\"",
        ),
        (
            r#"{"choice": "other"}"#,
            "/choice: unknown name \"other\"; expected one of: plain, named, sized, pair",
        ),
        (
            r#"{"choice": 1}"#,
            "/choice: expected a name, or an object with one member; the names are: plain, named, sized, pair, found 1",
        ),
        (
            r#"{"choice": "named"}"#,
            "/choice: \"named\" requires an object with its settings",
        ),
        (
            r#"{"choice": {"plain": 1}}"#,
            "/choice: \"plain\" has no settings: write only its name",
        ),
    ] {
        assert_eq!(error(text).replace("/by_bucket: ", ""), expected, "{text}");
    }
    let missing = parse::<Required>(b"{}").unwrap_err();
    assert_eq!(missing.to_string(), "the member \"name\" is missing");
    let unknown = parse::<Required>(br#"{"nmae": "a/b"}"#).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "/nmae: unknown member; expected \"name\""
    );
}

#[test]
fn long_values_are_shortened_and_names_are_escaped() {
    let long = "x".repeat(100);
    let text = error(&format!(r#"{{"count": "{long}"}}"#));
    assert!(text.ends_with(&format!("found \"{}…\"", "x".repeat(40))));
    let names = read::<BTreeMap<String, u8>>(&json!({"a/b~c": "1"})).unwrap_err();
    assert_eq!(names.pointer(), "/a~1b~0c");
}

#[test]
fn an_error_in_toml_names_the_key() {
    let read = |text: &str| {
        let error = read_table::<Settings>(&text.parse().unwrap()).unwrap_err();
        format!("{}: {}", error.key(), error.problem)
    };
    assert_eq!(
        read("[[list]]\n[[list]]\nmaybe.count = -1"),
        "list[1].maybe.count: expected a whole number from 0 to 255, found -1"
    );
    assert_eq!(read("maybe = 3"), "maybe: expected a table, found 3");
    assert_eq!(
        read("ratio = nan"),
        "ratio: expected a number, found \"NaN\""
    );
    assert_eq!(
        read("count = 2026-01-02"),
        "count: expected a whole number from 0 to 255, found \"2026-01-02\""
    );
}
