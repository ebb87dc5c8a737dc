//! `Guess`: a part of `preprocessing.json` that `predictd init` guessed. It is marked until a
//! person confirms it or golden examples prove it. A packed package contains no guesses.

use serde_json::Value;

use crate::{package::golden::GoldenExample, schema::fault::token};

/// The member that marks a guessed section. Its text says what to check.
pub(crate) const KEY: &str = "x-guess";

/// A guess that is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    /// JSON pointer of the guess marker.
    pub pointer: String,
    /// The text of the guess marker.
    pub text: String,
    /// Why the golden examples do not prove the guess. `None` means that they prove it.
    pub unproved: Option<String>,
}

/// Finds the guesses in a document. The package must reproduce `golden`, which may prove guesses.
pub(crate) fn find(document: &Value, golden: &[GoldenExample]) -> Vec<Guess> {
    let inputs: Vec<Value> = golden
        .iter()
        .filter_map(|example| serde_json::from_str(&example.input).ok())
        .collect();
    let mut found = Vec::new();
    collect(document, "", &inputs, &mut found);
    found
}

/// Removes the guess markers.
pub(crate) fn remove_marks(document: &mut Value) {
    match document {
        Value::Object(members) => {
            // `remove` would move the last member to the mark's position.
            members.shift_remove(KEY);
            members.values_mut().for_each(remove_marks);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_marks),
        _ => {}
    }
}

fn collect(value: &Value, pointer: &str, inputs: &[Value], found: &mut Vec<Guess>) {
    match value {
        Value::Object(members) => {
            // The guess covers the section that contains the mark, and sections below may have
            // their own.
            if let Some(text) = members.get(KEY) {
                found.push(Guess {
                    pointer: format!("{pointer}/{KEY}"),
                    text: text
                        .as_str()
                        .map_or_else(|| text.to_string(), str::to_owned),
                    unproved: unproved_reason(value, inputs),
                });
            }
            for (name, member) in members {
                collect(member, &format!("{pointer}/{}", token(name)), inputs, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{pointer}/{index}"), inputs, found);
            }
        }
        _ => {}
    }
}

/// Why examples with these inputs do not prove a guessed section. `None` if they prove it. An
/// example proves a guess through which its row passes. For categories, it proves only the category
/// of its row.
fn unproved_reason(section: &Value, inputs: &[Value]) -> Option<String> {
    // Without an example no step has run.
    if inputs.is_empty() {
        return Some("there is no golden example".to_owned());
    }
    let field = section.get("field").and_then(Value::as_str)?;
    let steps = section.get("steps").and_then(Value::as_array)?;
    let mut categories = steps
        .iter()
        .filter_map(|step| {
            step.as_object()?
                .values()
                .next()?
                .get("categories")?
                .as_array()
        })
        .flatten();
    // A field of a nested object is named by a JSON pointer.
    let value = |row: &Value| {
        if field.starts_with('/') {
            row.pointer(field).cloned()
        } else {
            row.get(field).cloned()
        }
    };
    let present: Vec<Value> = inputs.iter().filter_map(value).collect();
    // The categories may be 1 where an example has 1.0.
    let same = |a: &Value, b: &Value| a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64());
    let missing = categories.find(|category| !present.iter().any(|value| same(value, category)))?;
    Some(format!("no golden example has the category {missing}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::package::{golden, guess};

    #[test]
    fn a_guess_is_unproved_until_examples_pass_through_it() {
        let mut document = json!({"inputs": {"X": {"dtype": "float32", "columns": [
            {"x-guess": "categories", "field": "plan", "steps": [{"one_hot": {"categories": ["a", "b"], "unknown": "error"}}]},
            {"field": "age"},
        ]}, "a/b": {"field": "photo", "steps": [{"decode_image": {"mode": "rgb"}}], "x-guess": "image"}}});
        let golden = |text: &str| golden::parse(text).ok().unwrap();
        let none = guess::find(&document, &[]);
        let pointers: Vec<&str> = none.iter().map(|guess| guess.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/inputs/X/columns/0/x-guess", "/inputs/a~1b/x-guess"]
        );
        assert!(none.iter().all(|guess| guess.unproved.is_some()));
        let part = guess::find(
            &document,
            &golden("{\"input\": {\"plan\": \"a\"}, \"output\": {}}"),
        );
        assert_eq!(
            part[0].unproved.as_deref(),
            Some("no golden example has the category \"b\"")
        );
        assert_eq!(part[1].unproved, None);
        let all = "{\"input\": {\"plan\": \"a\"}, \"output\": {}}\n\
                   {\"input\": {\"plan\": \"b\"}, \"output\": {}}";
        assert!(
            guess::find(&document, &golden(all))
                .iter()
                .all(|guess| guess.unproved.is_none())
        );
        guess::remove_marks(&mut document);
        assert!(guess::find(&document, &[]).is_empty());
        let keys: Vec<&String> = document["inputs"]["X"]["columns"][0]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(keys, ["field", "steps"]);
    }
}
