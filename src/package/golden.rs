//! Golden examples: inputs with the answers from training. Every load runs them, so that a model
//! with different answers on this machine is not served.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

use crate::document::{self, DocumentError};

pub struct GoldenExample {
    /// The instance, unchanged. It is decoded like a request.
    pub input: String,
    pub output: Value,
    /// The tolerance. A number matches if |actual - expected| <= tolerance * max(1, |expected|).
    pub tolerance: f64,
}

/// A line of `golden.jsonl` that is not an example.
#[derive(Debug)]
pub(crate) struct GoldenError {
    /// The line number, from 1.
    pub line: usize,
    pub fault: GoldenFault,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GoldenFault {
    /// The line is not JSON, or not the JSON of an example.
    #[error(transparent)]
    Line(DocumentError),
    #[error("\"tolerance\" must be 0 or more, not {0}")]
    Tolerance(f64),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub pointer: String,
    pub expected: String,
    pub actual: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenLine {
    /// It is read as [`GoldenInput`].
    #[serde(rename = "input")]
    _input: IgnoredAny,
    output: Map<String, Value>,
    #[serde(default = "default_tolerance")]
    tolerance: f64,
}

/// The input stays text, so that numbers keep their digits until the decoder reads them.
#[derive(Deserialize)]
struct GoldenInput<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
}

/// The default tolerance. float32 has about 7 digits, and kernels that add in a different order
/// lose up to 3 of them.
fn default_tolerance() -> f64 {
    1e-4
}

/// Reads `golden.jsonl`. Empty lines are skipped.
pub(crate) fn parse(text: &str) -> Result<Vec<GoldenExample>, GoldenError> {
    let mut examples = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let wrong = |fault: GoldenFault| GoldenError {
            line: index + 1,
            fault,
        };
        let example: GoldenLine =
            document::parse(line.as_bytes()).map_err(|error| wrong(GoldenFault::Line(error)))?;
        let GoldenInput { input } = serde_json::from_str(line)
            .map_err(|error| wrong(GoldenFault::Line(DocumentError::not_json(&error))))?;
        // The negated comparison also rejects NaN.
        if !(example.tolerance >= 0.0 && example.tolerance.is_finite()) {
            return Err(wrong(GoldenFault::Tolerance(example.tolerance)));
        }
        examples.push(GoldenExample {
            input: input.get().to_owned(),
            output: Value::Object(example.output),
            tolerance: example.tolerance,
        });
    }
    Ok(examples)
}

/// Compares an answer with the expected one. `actual` may have more members than `expected`.
///
/// Labels must be equal. If the scores of the two best expected classes differ by less than the
/// tolerance, either of the two labels is accepted.
pub(crate) fn compare(expected: &Value, actual: &Value, tolerance: f64) -> Result<(), Mismatch> {
    let tied = tied_classes(expected, tolerance);
    compare_at(expected, actual, tolerance, &tied, "")
}

fn compare_at(
    expected: &Value,
    actual: &Value,
    tolerance: f64,
    tied: &[String],
    pointer: &str,
) -> Result<(), Mismatch> {
    let mismatch = || Mismatch {
        pointer: pointer.to_owned(),
        expected: expected.to_string(),
        actual: actual.to_string(),
    };
    match (expected, actual) {
        (Value::Number(a), Value::Number(b)) => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else {
                return Err(mismatch());
            };
            if (a - b).abs() <= tolerance * a.abs().max(1.0) {
                Ok(())
            } else {
                Err(mismatch())
            }
        }
        (Value::Object(a), Value::Object(b)) => a.iter().try_for_each(|(key, a)| {
            let pointer = format!("{pointer}/{key}");
            match b.get(key) {
                Some(b) => compare_at(a, b, tolerance, tied, &pointer),
                // Extra members of the answer are ignored; a missing one is a mismatch.
                None => Err(Mismatch {
                    pointer,
                    expected: a.to_string(),
                    actual: "nothing".to_owned(),
                }),
            }
        }),
        // Arrays of different lengths are compared and reported as a whole below.
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().try_for_each(|(index, (a, b))| {
                compare_at(a, b, tolerance, tied, &format!("{pointer}/{index}"))
            })
        }
        (Value::String(a), Value::String(b))
            // Rounding may swap two classes whose scores are almost equal.
            if a == b || (tied.contains(a) && tied.contains(b)) =>
        {
            Ok(())
        }
        (a, b) if a == b => Ok(()),
        _ => Err(mismatch()),
    }
}

/// The two best classes if their scores differ by less than the tolerance. The scores come from a
/// map of labels to numbers. Without such a map, the result is empty.
fn tied_classes(expected: &Value, tolerance: f64) -> Vec<String> {
    let maps = expected
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values())
        .filter_map(Value::as_object);
    for map in maps {
        let mut scores: Vec<(&String, f64)> = map
            .iter()
            .filter_map(|(label, score)| Some((label, score.as_f64()?)))
            .collect();
        // The two largest scores decide the label.
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let [first, second, ..] = scores.as_slice()
            && first.1 - second.1 < tolerance
        {
            return vec![first.0.clone(), second.0.clone()];
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::package::golden::{compare, parse};

    #[test]
    fn the_tolerance_is_relative_above_one_and_tied_labels_match() {
        assert!(
            compare(
                &json!({"x": 1000.0}),
                &json!({"x": 1000.05, "more": 1}),
                1e-4
            )
            .is_ok()
        );
        assert_eq!(
            compare(&json!({"x": 0.5}), &json!({"x": 0.6}), 1e-4)
                .unwrap_err()
                .pointer,
            "/x"
        );
        assert_eq!(
            compare(&json!({"x": 0.5}), &json!({}), 1e-4)
                .unwrap_err()
                .actual,
            "nothing"
        );
        let expected = json!({"label": "a", "p": {"a": 0.50001, "b": 0.49999}});
        assert!(
            compare(
                &expected,
                &json!({"label": "b", "p": {"a": 0.49999, "b": 0.50001}}),
                1e-4
            )
            .is_ok()
        );
        let clear = json!({"label": "a", "p": {"a": 0.6, "b": 0.4}});
        assert_eq!(
            compare(
                &clear,
                &json!({"label": "b", "p": {"a": 0.6, "b": 0.4}}),
                1e-4
            )
            .unwrap_err()
            .pointer,
            "/label"
        );
    }

    #[test]
    fn errors_name_their_line() {
        assert_eq!(
            parse("{\"input\": {}, \"output\": {}}\n\n")
                .ok()
                .unwrap()
                .len(),
            1
        );
        for (text, line) in [
            ("{}", 1),
            ("\n{\"input\": {}, \"output\": 1}", 2),
            ("{\"input\": {}, \"output\": {}, \"tolerence\": 1}", 1),
        ] {
            assert_eq!(parse(text).err().unwrap().line, line, "{text}");
        }
    }
}
