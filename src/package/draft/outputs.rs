//! Drafts the output schema and the postprocessing of a package.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

use serde_json::{Map, Value, json};

use crate::{
    package::draft::{DraftSources, properties::output_schema},
    tensor::{
        DataType, Dim,
        signature::{Signature, TensorSpec},
    },
    transform::outputs::label_text,
};

/// A list whose values have labels, so that the answer could be a map instead.
struct LabelledList {
    field: String,
    labels: Vec<Value>,
}

/// Returns the output schema. Also returns the `outputs` section if ZipMap nodes were removed from
/// the graph.
pub(super) fn draft_outputs(
    signature: &Signature,
    sources: &DraftSources<'_>,
    notes: &mut Vec<String>,
) -> (Value, Option<Value>) {
    let find = |list: &[(String, Vec<Value>)], spec: &TensorSpec| {
        list.iter()
            .find(|(output, _)| *output == *spec.name)
            .map(|(_, labels)| labels.clone())
            .filter(|labels| names_values(spec, labels))
    };
    let mut properties = Map::new();
    let mut section = Map::new();
    let mut lists = Vec::new();
    for spec in &signature.outputs {
        let name = field_name(&spec.name, signature, sources);
        let mut field = json!({"from": &*spec.name});
        if let Some(labels) = find(sources.maps, spec) {
            let keys: Vec<String> = labels.iter().map(label_text).collect();
            properties.insert(name.clone(), map_schema(&keys));
            field["steps"] = json!([{"as_map": {"labels": labels}}]);
        } else if let Some(labels) = find(sources.labels, spec) {
            let mut schema = output_schema(spec);
            let keys: Vec<String> = labels.iter().map(label_text).collect();
            schema["description"] = json!(format!(
                "a value for each of {}, in this order",
                keys.join(", ")
            ));
            properties.insert(name.clone(), schema);
            lists.push(LabelledList {
                field: name.clone(),
                labels,
            });
        } else {
            properties.insert(name.clone(), output_schema(spec));
            // Without labels the values can only be a list in the answer.
            if matches!(spec.shape.row(), [Dim::Fixed(2..)]) {
                notes.push(format!(
                    "`{name}` gives several values per row; `argmax` and `as_map` with labels \
                     make a better answer"
                ));
            }
        }
        section.insert(name, field);
    }
    note_labelled_lists(&lists, &section, notes);
    let required: Vec<Value> = properties.keys().map(|name| json!(name)).collect();
    let output = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    // Without maps, the names of the outputs are sufficient and no section is needed.
    let section = (!sources.maps.is_empty()).then_some(Value::Object(section));
    (output, section)
}

/// Adds a note that says how each list could become a map of its labels.
fn note_labelled_lists(
    lists: &[LabelledList],
    section: &Map<String, Value>,
    notes: &mut Vec<String>,
) {
    let mut with_maps = section.clone();
    for LabelledList { field, labels } in lists {
        with_maps[field]["steps"] = json!([{"as_map": {"labels": labels}}]);
    }
    let with_maps = Value::Object(with_maps);
    for LabelledList { field, labels } in lists {
        let keys: Vec<String> = labels.iter().map(label_text).collect();
        let (schema, keys) = (map_schema(&keys), keys.join(", "));
        notes.push(format!(
            "`{field}` holds values for the labels {keys}; for answers by label put into \
             preprocessing.json \"outputs\": {with_maps}, and into schema.json \
             /output/properties/{field}: {schema}"
        ));
    }
}

/// The schema of an object with one number per label.
fn map_schema(labels: &[String]) -> Value {
    let numbers: Map<String, Value> = labels
        .iter()
        .map(|label| (label.clone(), json!({"type": "number"})))
        .collect();
    json!({"type": "object", "properties": numbers, "required": labels, "additionalProperties": false})
}

/// The name of an output's field in answers. It is the name of the output, except for the two
/// outputs that skl2onnx adds for a ZipMap.
fn field_name(output: &str, signature: &Signature, sources: &DraftSources<'_>) -> String {
    let name = match output {
        "output_label" => "label",
        "output_probability" => "probabilities",
        other => other,
    };
    if sources.maps.is_empty() || signature.output(name).is_some() {
        output.to_owned()
    } else {
        name.to_owned()
    }
}

/// Whether a row of the output has one number per label.
fn names_values(spec: &TensorSpec, labels: &[Value]) -> bool {
    let width = match spec.shape.row() {
        [Dim::Fixed(width)] => *width == labels.len(),
        [Dim::Any | Dim::Rest] => true,
        _ => false,
    };
    width && labels.len() > 1 && !matches!(spec.datatype, DataType::Bytes | DataType::Bool)
}
