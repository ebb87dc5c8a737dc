//! Guess: what `predictd init` wrote without anybody having said it, marked until a person confirms it or the training's own
//! answers show it. A packed package has none.

use serde_json::Value;

use crate::{package::golden::GoldenExample, schema::fault::token};

/// The member beside what was guessed; its text says what to check.
pub const KEY: &str = "x-guess";

/// A mark that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// Where the key is.
    pub pointer: String,
    /// What was guessed.
    pub text: String,
    /// Why the golden examples do not show it.
    pub not_shown: Option<String>,
}

/// All guesses of a document, judged by golden examples that the package reproduces.
pub fn standing(document: &Value, golden: &[GoldenExample]) -> Vec<Guess> {
    let inputs: Vec<Value> = golden
        .iter()
        .filter_map(|example| serde_json::from_str(&example.input).ok())
        .collect();
    let mut found = Vec::new();
    collect(document, "", &inputs, &mut found);
    found
}

/// Deletes the marks.
pub fn strip(document: &mut Value) {
    match document {
        Value::Object(members) => {
            // `remove` would put the last member in its place.
            members.shift_remove(KEY);
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn collect(value: &Value, pointer: &str, inputs: &[Value], found: &mut Vec<Guess>) {
    match value {
        Value::Object(members) => {
            if let Some(text) = members.get(KEY) {
                found.push(Guess {
                    pointer: format!("{pointer}/{KEY}"),
                    text: text
                        .as_str()
                        .map_or_else(|| text.to_string(), str::to_owned),
                    not_shown: not_shown(value, inputs),
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

/// An example shows a guess where it goes through it; of categories, only those that it has.
fn not_shown(section: &Value, inputs: &[Value]) -> Option<String> {
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
    let value = |row: &Value| {
        if field.starts_with('/') {
            row.pointer(field).cloned()
        } else {
            row.get(field).cloned()
        }
    };
    let seen: Vec<Value> = inputs.iter().filter_map(value).collect();
    let same = |a: &Value, b: &Value| a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64());
    let unseen = categories.find(|category| !seen.iter().any(|seen| same(seen, category)))?;
    Some(format!("no golden example has the category {unseen}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::package::{golden, guess};

    #[test]
    fn a_guess_stands_until_examples_go_through_it() {
        let mut document = json!({"inputs": {"X": {"dtype": "float32", "columns": [
            {"x-guess": "categories", "field": "plan", "steps": [{"one_hot": {"categories": ["a", "b"], "unknown": "error"}}]},
            {"field": "age"},
        ]}, "a/b": {"field": "photo", "steps": [{"decode_image": {"mode": "rgb"}}], "x-guess": "image"}}});
        let golden = |text: &str| golden::parse(text).ok().unwrap();
        let none = guess::standing(&document, &[]);
        let pointers: Vec<&str> = none.iter().map(|guess| guess.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/inputs/X/columns/0/x-guess", "/inputs/a~1b/x-guess"]
        );
        assert!(none.iter().all(|guess| guess.not_shown.is_some()));
        let part = guess::standing(
            &document,
            &golden("{\"input\": {\"plan\": \"a\"}, \"output\": {}}"),
        );
        assert_eq!(
            part[0].not_shown.as_deref(),
            Some("no golden example has the category \"b\"")
        );
        assert_eq!(part[1].not_shown, None);
        let all = "{\"input\": {\"plan\": \"a\"}, \"output\": {}}\n{\"input\": {\"plan\": \"b\"}, \"output\": {}}";
        assert!(
            guess::standing(&document, &golden(all))
                .iter()
                .all(|guess| guess.not_shown.is_none())
        );
        guess::strip(&mut document);
        assert!(guess::standing(&document, &[]).is_empty());
        let keys: Vec<&String> = document["inputs"]["X"]["columns"][0]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        assert_eq!(keys, ["field", "steps"]);
    }
}
