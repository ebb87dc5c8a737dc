//! The inputs of a draft other than the graph: the user's hints, golden examples and sample rows.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    cli::{init::Args, sample::read_rows},
    document,
    package::{
        draft::{Draft, DraftEncoding, FieldHint, Preparation},
        example_row::ExampleRow,
    },
};

/// The inputs of a draft other than the graph.
pub(super) struct DraftInputs {
    pub(super) hints: Vec<FieldHint>,
    /// Instances with predictions from training.
    pub(super) examples: Vec<ExampleRow>,
    /// The rows of the sample. Without a sample: the instances of `examples`.
    pub(super) rows: Vec<Value>,
}

pub(super) fn read_inputs(args: &Args) -> anyhow::Result<DraftInputs> {
    let hints = field_hints(args)?;
    let examples = match &args.golden {
        Some(path) => read_examples(path)?,
        None => Vec::new(),
    };
    let rows = match &args.sample {
        Some(path) => read_rows(path)?,
        None => examples
            .iter()
            .map(|example| example.input.clone())
            .collect(),
    };
    Ok(DraftInputs {
        hints,
        examples,
        rows,
    })
}

/// The user's hints about fields.
pub(super) fn field_hints(args: &Args) -> anyhow::Result<Vec<FieldHint>> {
    let mut hints = Vec::new();
    for line in &args.column {
        let expected = || {
            format!(
                "--column: expected a line such as {{\"field\": \"plan\", \"steps\": [...]}}, got {line}; for a column of two fields, edit preprocessing.json in the draft"
            )
        };
        let document = document::parse_value(line.as_bytes()).with_context(expected)?;
        let field = document
            .get("field")
            .and_then(Value::as_str)
            .with_context(expected)?
            .to_owned();
        let steps = document
            .get("steps")
            .and_then(Value::as_array)
            .with_context(expected)?
            .clone();
        hints.push(FieldHint {
            field,
            preparation: Preparation::Steps(steps),
        });
    }
    for text in &args.encode {
        let (field, encoding) = match text.rsplit_once('=') {
            Some((field, "one_hot")) => (field, DraftEncoding::OneHot),
            Some((field, "ordinal")) => (field, DraftEncoding::Ordinal),
            _ => bail!(
                "--encode: expected FIELD=one_hot or FIELD=ordinal, got {text}; give other steps with --column"
            ),
        };
        hints.push(FieldHint {
            field: field.to_owned(),
            preparation: Preparation::Encode(encoding),
        });
    }
    Ok(hints)
}

pub(super) fn read_examples(path: &Path) -> anyhow::Result<Vec<ExampleRow>> {
    let rows = read_rows(path)?.into_iter().enumerate();
    let read = |(index, row)| {
        ExampleRow::read(row)
            .map_err(|detail| anyhow::anyhow!("{} row {}: {detail}", path.display(), index + 1))
    };
    rows.map(read).collect()
}

pub(super) fn golden_lines(
    path: Option<&Path>,
    examples: &[ExampleRow],
    drafted: &Draft,
) -> anyhow::Result<Vec<Value>> {
    let properties = drafted
        .schema
        .pointer("/output/properties")
        .and_then(Value::as_object)
        .context("the draft has output fields")?;
    let line = |(index, example): (usize, &ExampleRow)| {
        let file = path
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        example
            .golden_line(properties)
            .map_err(|detail| anyhow::anyhow!("{file} row {}: {detail}", index + 1))
    };
    examples.iter().enumerate().map(line).collect()
}
