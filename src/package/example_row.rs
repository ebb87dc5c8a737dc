//! `ExampleRow`: a row with the answer from training. It becomes a line of `golden.jsonl`.

use serde_json::{Map, Value, json};

/// The member of a plain row that contains the answer.
const PREDICTION: &str = "prediction";

/// A row in one of two forms: `{"input": {...}, "output": {...}}` with an optional `tolerance`, or
/// a plain instance with the additional member `prediction`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExampleRow {
    pub input: Value,
    answer: Value,
    /// Whether the answer is an object with the names of the answer's fields.
    has_field_names: bool,
    tolerance: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum ExampleRowError {
    #[error("is not a JSON object")]
    NotAnObject,
    #[error("has neither \"input\" and \"output\" nor \"{PREDICTION}\"")]
    NoAnswer,
    /// The value alone does not show to which of the answer's fields it belongs.
    #[error(
        "\"{PREDICTION}\" is {answer}, which could be {matches} of the answers {}; write an object of them",
        .fields.join(", ")
    )]
    AmbiguousAnswer {
        answer: Value,
        /// `none` or `several`.
        matches: &'static str,
        fields: Vec<String>,
    },
}

impl ExampleRow {
    pub(crate) fn read(row: Value) -> Result<ExampleRow, ExampleRowError> {
        let Value::Object(mut row) = row else {
            return Err(ExampleRowError::NotAnObject);
        };
        let own = ["input", "output", "tolerance"];
        // Other members mean that `input` and `output` are fields of a plain instance.
        if row.contains_key("input")
            && row.contains_key("output")
            && row.keys().all(|key| own.contains(&key.as_str()))
        {
            let mut take = |key: &str| row.shift_remove(key);
            let (input, answer, tolerance) = (take("input"), take("output"), take("tolerance"));
            return Ok(ExampleRow {
                input: input.unwrap_or_default(),
                answer: answer.unwrap_or_default(),
                has_field_names: true,
                tolerance,
            });
        }
        match row.shift_remove(PREDICTION) {
            Some(answer) => Ok(ExampleRow {
                input: Value::Object(row),
                answer,
                has_field_names: false,
                tolerance: None,
            }),
            None => Err(ExampleRowError::NoAnswer),
        }
    }

    /// The line of `golden.jsonl`. `fields` are the properties of the package's output schema.
    pub(crate) fn golden_line(
        &self,
        fields: &Map<String, Value>,
    ) -> Result<Value, ExampleRowError> {
        let output = match &self.answer {
            answer if self.has_field_names => answer.clone(),
            // An object of known fields is the whole answer, not the value of one field.
            Value::Object(members)
                if !members.is_empty() && members.keys().all(|name| fields.contains_key(name)) =>
            {
                self.answer.clone()
            }
            answer => {
                // A plain value is unambiguous if only one field of the answer accepts its type.
                let fitting: Vec<&String> = fields
                    .iter()
                    .filter(|(_, schema)| accepts_type(schema, answer))
                    .map(|(name, _)| name)
                    .collect();
                let [name] = fitting.as_slice() else {
                    return Err(ExampleRowError::AmbiguousAnswer {
                        answer: answer.clone(),
                        matches: if fitting.is_empty() {
                            "none"
                        } else {
                            "several"
                        },
                        fields: fields.keys().cloned().collect(),
                    });
                };
                Value::Object(Map::from_iter([((*name).clone(), answer.clone())]))
            }
        };
        let mut line = json!({"input": self.input, "output": output});
        if let (Some(tolerance), Some(members)) = (&self.tolerance, line.as_object_mut()) {
            members.insert("tolerance".to_owned(), tolerance.clone());
        }
        Ok(line)
    }
}

/// Whether the value has a type that the schema accepts.
fn accepts_type(schema: &Value, value: &Value) -> bool {
    let fits = |kind: &Value| match (kind.as_str(), value) {
        // JSON has only one type of numbers. Like in the decoder, 1.0 is an integer.
        (Some("integer"), Value::Number(number)) => {
            number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        (Some("number"), Value::Number(_))
        | (Some("string"), Value::String(_))
        | (Some("boolean"), Value::Bool(_))
        | (Some("array"), Value::Array(_))
        | (Some("object"), Value::Object(_)) => true,
        _ => false,
    };
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(fits),
        Some(kind) => fits(kind),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::package::example_row::{ExampleRow, ExampleRowError};

    fn line(row: Value, answers: Value) -> Result<Value, ExampleRowError> {
        ExampleRow::read(row)?.golden_line(answers.as_object().unwrap())
    }

    #[test]
    fn rows_are_written_as_golden_examples() {
        let classes = json!({"label": {"type": "string"}, "p": {"type": "array"}});
        let full = json!({"input": {"a": 1}, "output": {"label": "x"}, "tolerance": 0.1});
        assert_eq!(line(full.clone(), classes.clone()), Ok(full));
        let plain = json!({"input": {"a": 1}, "output": {"label": "x"}});
        for answer in [json!("x"), json!({"label": "x"})] {
            assert_eq!(
                line(json!({"a": 1, "prediction": answer}), classes.clone()),
                Ok(plain.clone())
            );
        }
        assert_eq!(
            line(json!({"a": 1, "prediction": [0.5]}), classes.clone()).unwrap()["output"],
            json!({"p": [0.5]})
        );
        assert_eq!(
            line(
                json!({"a": 1, "prediction": 2}),
                json!({"y": {"type": ["array", "number"]}})
            )
            .unwrap()["output"],
            json!({"y": 2})
        );
    }

    #[test]
    fn an_answer_that_fits_several_fields_is_an_error() {
        let two = json!({"y": {"type": "number"}, "z": {"type": "number"}});
        assert!(
            line(json!({"a": 1, "prediction": 2}), two.clone())
                .unwrap_err()
                .to_string()
                .contains("several of the answers y, z")
        );
        assert!(
            line(json!({"a": 1, "prediction": "x"}), two)
                .unwrap_err()
                .to_string()
                .contains("none of the answers")
        );
        assert!(
            line(json!({"a": 1}), json!({}))
                .unwrap_err()
                .to_string()
                .contains("neither")
        );
        assert!(line(json!(3), json!({})).is_err());
    }
}
