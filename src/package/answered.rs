//! Answered: a row with what training answered, as people keep it, on its way to `golden.jsonl`.

use serde_json::{Map, Value, json};

/// The member of a plain row that holds the answer.
const PREDICTION: &str = "prediction";

/// `{"input": {...}, "output": {...}}`, or an instance with one member more: `prediction`.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub input: Value,
    answer: Value,
    /// The answer names its fields.
    named: bool,
    tolerance: Option<Value>,
}

impl Answered {
    pub fn read(row: Value) -> Result<Answered, String> {
        let Value::Object(mut row) = row else {
            return Err("is no JSON object".to_owned());
        };
        let own = ["input", "output", "tolerance"];
        if row.contains_key("input")
            && row.contains_key("output")
            && row.keys().all(|key| own.contains(&key.as_str()))
        {
            let mut take = |key: &str| row.shift_remove(key);
            let (input, answer, tolerance) = (take("input"), take("output"), take("tolerance"));
            return Ok(Answered {
                input: input.unwrap_or_default(),
                answer: answer.unwrap_or_default(),
                named: true,
                tolerance,
            });
        }
        match row.shift_remove(PREDICTION) {
            Some(answer) => Ok(Answered {
                input: Value::Object(row),
                answer,
                named: false,
                tolerance: None,
            }),
            None => Err(format!(
                "has neither \"input\" and \"output\" nor \"{PREDICTION}\""
            )),
        }
    }

    /// The line of `golden.jsonl`, for a package with these answers (the properties of its output schema).
    pub fn line(&self, answers: &Map<String, Value>) -> Result<Value, String> {
        let output = match &self.answer {
            answer if self.named => answer.clone(),
            Value::Object(members)
                if !members.is_empty() && members.keys().all(|name| answers.contains_key(name)) =>
            {
                self.answer.clone()
            }
            answer => {
                let fitting: Vec<&String> = answers
                    .iter()
                    .filter(|(_, schema)| may_be(schema, answer))
                    .map(|(name, _)| name)
                    .collect();
                let [name] = fitting.as_slice() else {
                    let names: Vec<&str> = answers.keys().map(String::as_str).collect();
                    return Err(format!(
                        "\"{PREDICTION}\" is {answer}, which could be {} of the answers {}; write an object of them",
                        if fitting.is_empty() {
                            "none"
                        } else {
                            "several"
                        },
                        names.join(", ")
                    ));
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

/// Whether the value has a type of the schema's.
fn may_be(schema: &Value, value: &Value) -> bool {
    let fits = |kind: &Value| match (kind.as_str(), value) {
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

    use crate::package::answered::Answered;

    fn line(row: Value, answers: Value) -> Result<Value, String> {
        Answered::read(row)?.line(answers.as_object().unwrap())
    }

    #[test]
    fn rows_become_golden_lines() {
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
    fn what_could_be_several_answers_is_told() {
        let two = json!({"y": {"type": "number"}, "z": {"type": "number"}});
        assert!(
            line(json!({"a": 1, "prediction": 2}), two.clone())
                .unwrap_err()
                .contains("several of the answers y, z")
        );
        assert!(
            line(json!({"a": 1, "prediction": "x"}), two)
                .unwrap_err()
                .contains("none of the answers")
        );
        assert!(
            line(json!({"a": 1}), json!({}))
                .unwrap_err()
                .contains("neither")
        );
        assert!(line(json!(3), json!({})).is_err());
    }
}
