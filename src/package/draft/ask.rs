//! What only the training knows: the question, with the lines that answer it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{package::draft::sample::SampleField, tensor::signature::TensorSpec};

/// Texts with at most this many different values are shown whole.
pub(super) const MAX_CATEGORIES: usize = 50;

/// A field that can't go into the graph as it is.
pub(super) struct Ask {
    why: String,
    /// Lines of preprocessing.json, one of which is right.
    lines: Vec<String>,
    encode: Option<String>,
}

impl Ask {
    /// Texts for an input of numbers.
    pub fn encoding(field: &SampleField<'_>, spec: &TensorSpec) -> Ask {
        let found = field.categories();
        let mut categories: Vec<String> = found
            .iter()
            .take(MAX_CATEGORIES)
            .map(Value::to_string)
            .collect();
        if found.len() > MAX_CATEGORIES {
            categories.truncate(3);
            categories.push(format!(
                "<and the others: the sample alone has {}>",
                found.len()
            ));
        }
        let categories = categories.join(", ");
        let mut steps = Vec::new();
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
        let looks = if field.is_date() {
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
        Ask {
            why: format!(
                "`{}` has {looks}{example}, and the graph's input {} takes {}{null}",
                field.name, spec.name, spec.datatype
            ),
            lines: steps.iter().map(|step| line(field, step)).collect(),
            encode: (found.len() <= MAX_CATEGORIES).then(|| field.name.to_owned()),
        }
    }

    /// No value, for an input that has nothing of that kind.
    pub fn impute(field: &SampleField<'_>, spec: &TensorSpec) -> Ask {
        let how = if field.everywhere {
            "is null"
        } else {
            "is missing"
        };
        Ask {
            why: format!(
                "`{}` {how} in some rows, and the graph's input {} takes {}, which has no null",
                field.name, spec.name, spec.datatype
            ),
            lines: vec![line(field, r#"{"impute": {"value": <the training's>}}"#)],
            encode: None,
        }
    }

    /// Lists of another shape than the graph's rows.
    pub fn reshape(
        field: &SampleField<'_>,
        spec: &TensorSpec,
        given: &[usize],
        wanted: &[usize],
    ) -> Ask {
        Ask {
            why: format!(
                "`{}` has rows of the shape {given:?}, and the graph's input {} takes {spec}",
                field.name, spec.name
            ),
            lines: vec![line(
                field,
                &json!({"reshape": {"shape": wanted}}).to_string(),
            )],
            encode: None,
        }
    }
}

fn line(field: &SampleField<'_>, step: &str) -> String {
    format!(r#"{{"field": {}, "steps": [{step}]}}"#, json!(field.name))
}

/// All questions as one text; `hint` says what the widths tell.
pub(super) fn text(asks: &[Ask], hint: Option<&str>) -> String {
    let mut text =
        "what the training did with some fields can't be seen from graph and sample:\n".to_owned();
    // Writing to a String does not fail.
    for Ask { why, lines, .. } in asks {
        let _ = writeln!(
            text,
            "{why}; in preprocessing.json{}",
            if lines.len() > 1 { " one of" } else { "" }
        );
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    if let Some(hint) = hint {
        let _ = writeln!(text, "{hint}");
    }
    if lines_have(asks, "categories") {
        text += "The categories are the SAMPLE's: put the training's there, in its order. ";
    }
    if lines_have(asks, "date_parts") {
        text += "The parts of a date are examples. ";
    }
    if lines_have(asks, "<") {
        text += "For <...> put what the training had. ";
    }
    text += "Then go on with\n  --column 'LINE'                for each such field, the line that is right; or\n";
    let fields: Vec<&str> = asks
        .iter()
        .filter_map(|ask| ask.encode.as_deref())
        .collect();
    if let Some(first) = fields.first() {
        let others = if fields.len() > 1 {
            format!(" (fields: {})", fields.join(", "))
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "  --encode {first}=one_hot|ordinal  with the sample's categories, as a guess that `pack` wants confirmed{others}; or"
        );
    }
    text + "  --sample ROWS                  rows as they are after that step, where it stays outside of the package"
}

fn lines_have(asks: &[Ask], what: &str) -> bool {
    asks.iter()
        .flat_map(|ask| &ask.lines)
        .any(|line| line.contains(what))
}
