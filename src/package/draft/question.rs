//! `Question`: asks how a field was preprocessed in training, and lists the lines that could answer
//! it.

use std::fmt;

use serde_json::{Value, json};

use crate::{package::draft::sample_field::SampleField, tensor::signature::TensorSpec};

/// Maximum number of different values that are listed as categories. More values would fill a
/// terminal, and are rarely categories.
pub(super) const MAX_CATEGORIES: usize = 50;

/// The question about a field whose values do not fit the graph.
#[derive(Debug)]
pub(super) struct Question {
    /// Why the values do not fit.
    reason: String,
    /// Lines of preprocessing.json. One of them is right.
    lines: Vec<String>,
    /// The name of the field, if `--encode` can answer the question. Otherwise `None`.
    encodable: Option<String>,
}

impl Question {
    /// Asks about a field of strings for an input of numbers.
    pub(super) fn encoding(field: &SampleField<'_>, spec: &TensorSpec) -> Question {
        let found = field.categories();
        let mut categories: Vec<String> = found
            .iter()
            .take(MAX_CATEGORIES)
            .map(Value::to_string)
            .collect();
        if found.len() > MAX_CATEGORIES {
            // Three values show the kind of the field without filling the terminal.
            categories.truncate(3);
            categories.push(format!(
                "<and the others: the sample alone has {}>",
                found.len()
            ));
        }
        let categories = categories.join(", ");
        let mut steps = Vec::new();
        // Dates are often encoded by their parts, so that line comes first.
        if field.is_date() {
            steps.push(
                r#"{"date_parts": {"parts": ["year", "month", "day"], "unknown": "error"}}"#
                    .to_owned(),
            );
        }
        steps.push(format!(
            r#"{{"one_hot": {{"categories": [{categories}], "unknown": "error"}}}}"#
        ));
        steps.push(format!(
            r#"{{"ordinal": {{"categories": [{categories}], "unknown": "error"}}}}"#
        ));
        steps.push(format!(r#"{{"target_encode": {{"categories": [{categories}], "values": [<one each>], "default": <number>}}}}"#));
        let kind = if field.is_date() {
            "texts that look like dates"
        } else {
            "texts"
        };
        let example = field
            .values
            .first()
            .map(|value| format!(" such as {value}"))
            .unwrap_or_default();
        let null = if field.nullable {
            " (no value in some rows: an impute before it, or another \"unknown\")"
        } else {
            ""
        };
        Question {
            reason: format!(
                "`{}` has {kind}{example}, and the graph's input {} takes {}{null}",
                field.name, spec.name, spec.datatype
            ),
            lines: steps.iter().map(|step| line(field, step)).collect(),
            encodable: (found.len() <= MAX_CATEGORIES).then(|| field.name.to_owned()),
        }
    }

    /// Asks about a field with nulls for an input that does not accept null.
    pub(super) fn impute(field: &SampleField<'_>, spec: &TensorSpec) -> Question {
        let state = if field.in_every_row {
            "is null"
        } else {
            "is missing"
        };
        Question {
            reason: format!(
                "`{}` {state} in some rows, and the graph's input {} takes {}, which has no null",
                field.name, spec.name, spec.datatype
            ),
            lines: vec![line(
                field,
                r#"{"impute": {"value": <value from training>}}"#,
            )],
            encodable: None,
        }
    }

    /// Asks about a field of lists whose shape differs from the rows of the input.
    pub(super) fn reshape(
        field: &SampleField<'_>,
        spec: &TensorSpec,
        given: &[usize],
        wanted: &[usize],
    ) -> Question {
        Question {
            reason: format!(
                "`{}` has rows of the shape {given:?}, and the graph's input {} takes {spec}",
                field.name, spec.name
            ),
            lines: vec![line(
                field,
                &json!({"reshape": {"shape": wanted}}).to_string(),
            )],
            encodable: None,
        }
    }
}

/// A column of `preprocessing.json`.
fn line(field: &SampleField<'_>, step: &str) -> String {
    format!(r#"{{"field": {}, "steps": [{step}]}}"#, json!(field.name))
}

/// All questions of a draft.
#[derive(Debug)]
pub(crate) struct Questions {
    pub(super) questions: Vec<Question>,
    /// The widths of the graph's input and of the sample, which may answer a question.
    pub(super) hint: Option<String>,
}

impl std::error::Error for Questions {}

impl fmt::Display for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the graph and the sample don't show how some fields are preprocessed:"
        )?;
        for Question { reason, lines, .. } in &self.questions {
            let one_of = if lines.len() > 1 { " one of" } else { "" };
            writeln!(f, "{reason}; in preprocessing.json{one_of}")?;
            for line in lines {
                writeln!(f, "  {line}")?;
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "{hint}")?;
        }
        for (part, advice) in [
            (
                "categories",
                "The categories are those of the SAMPLE: replace them with those of the training data, in its order. ",
            ),
            ("date_parts", "The parts of a date are examples. "),
            ("<", "Replace each <...> with the value from training. "),
        ] {
            if self.have_line_with(part) {
                f.write_str(advice)?;
            }
        }
        self.fmt_next_commands(f)
    }
}

impl Questions {
    fn have_line_with(&self, part: &str) -> bool {
        self.questions
            .iter()
            .flat_map(|question| &question.lines)
            .any(|line| line.contains(part))
    }

    fn fmt_next_commands(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "Then run the command again with\n  --column 'LINE'                for each of these \
             fields, the correct line; or\n",
        )?;
        let fields: Vec<&str> = self
            .questions
            .iter()
            .filter_map(|question| question.encodable.as_deref())
            .collect();
        if let Some(first) = fields.first() {
            let others = if fields.len() > 1 {
                format!(" (fields: {})", fields.join(", "))
            } else {
                String::new()
            };
            writeln!(
                f,
                "  --encode {first}=one_hot|ordinal  with the categories of the sample, as a guess that `pack` asks you to confirm{others}; or"
            )?;
        }
        f.write_str(
            "  --sample ROWS                  rows that are already preprocessed, if the callers \
             will do this step",
        )
    }
}
