//! Labels of a Triton output: a file with one label per line.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

use serde_json::{Map, Value, json};

use crate::{
    package::{bare::BareGraph, import::triton::ImportReport},
    tensor::{
        DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
};

/// Converts outputs with a `label_filename` to answers with one number per label. Returns the
/// postprocessing, or `None` if no output has a `label_filename`.
pub(super) fn map_labels(
    bare: &BareGraph,
    known: &Signature,
    output: &mut Value,
    report: &mut ImportReport,
) -> Option<Value> {
    let mut section = Map::new();
    let mut mapped = false;
    for spec in &known.outputs {
        let name = spec.name.to_string();
        let mut field = json!({"from": name});
        let labels = bare
            .labels
            .get(&name)
            .map(|labels| usable_labels(labels, spec));
        match labels {
            Some(Ok(labels)) => {
                output["properties"][&name] = map_schema(labels);
                field["steps"] = json!([{"as_map": {"labels": labels}}]);
                report.taken.push(format!(
                    "`label_filename` of `{name}`: its answer is a number for each of {} labels",
                    labels.len()
                ));
                mapped = true;
            }
            Some(Err(error)) => report
                .notes
                .push(format!("the labels of `{name}` were left out: {error}")),
            None => {}
        }
        section.insert(name, field);
    }
    mapped.then(|| json!({"outputs": section}))
}

/// The schema of an object with one number per label.
fn map_schema(labels: &[String]) -> Value {
    let numbers: Map<String, Value> = labels
        .iter()
        .map(|label| (label.clone(), json!({"type": "number"})))
        .collect();
    json!({"type": "object", "properties": numbers, "required": labels, "additionalProperties": false})
}

/// Why a file of labels can't be used.
#[derive(Debug, thiserror::Error)]
enum LabelsError {
    #[error("labels need numbers, and the output has the datatype {0}")]
    NotNumbers(DataType),
    #[error("the file has {labels} labels, and the output has the shape {shape}")]
    Count { labels: usize, shape: Shape },
    #[error("the label \"{0}\" occurs twice")]
    Duplicate(String),
}

/// The labels without empty lines at the end of the file, checked against the output.
fn usable_labels<'a>(labels: &'a [String], spec: &TensorSpec) -> Result<&'a [String], LabelsError> {
    // Editors add empty lines at the end of a file.
    let end = labels
        .iter()
        .rposition(|label| !label.is_empty())
        .map_or(0, |last| last + 1);
    let labels = labels.get(..end).unwrap_or_default();
    if matches!(spec.datatype, DataType::Bytes | DataType::Bool) {
        return Err(LabelsError::NotNumbers(spec.datatype));
    }
    match spec.shape.row() {
        [Dim::Fixed(width)] if *width == labels.len() => {}
        // A graph with a free width can't be checked against the file.
        [Dim::Any] if labels.len() > 1 => {}
        _ => {
            return Err(LabelsError::Count {
                labels: labels.len(),
                shape: spec.shape.clone(),
            });
        }
    }
    let mut sorted: Vec<&String> = labels.iter().collect();
    // The labels become the keys of an object, which must be unique.
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(pair) => {
            let label = pair.first().map(ToString::to_string);
            Err(LabelsError::Duplicate(label.unwrap_or_default()))
        }
        None => Ok(labels),
    }
}
