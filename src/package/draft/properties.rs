//! Properties of a drafted schema.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

use serde_json::{Map, Value, json};

use crate::{
    package::draft::{
        DraftError,
        error::WrongValues,
        sample_field::{FieldKind, SampleField, is_long},
    },
    tensor::{DataType, Dim, signature::TensorSpec},
};

pub(super) type Properties = Map<String, Value>;

/// Adds the first short value as an example.
fn with_example(mut property: Value, field: &SampleField<'_>) -> Value {
    if let Some(example) = field.values.iter().find(|value| !is_long(value)) {
        property["examples"] = json!([example]);
    }
    property
}

/// The property of a field with one value per row. Its type follows the graph and not the sample,
/// whose numbers may be whole by accident. `plain` says that no step changes the values.
pub(super) fn scalar_property(
    spec: &TensorSpec,
    field: &SampleField<'_>,
    plain: bool,
) -> Result<Value, DraftError> {
    let wrong = |values: WrongValues| {
        Err(DraftError::Values {
            field: field.name.to_owned(),
            values,
            input: Box::new(spec.clone()),
        })
    };
    let kind = field.kind();
    let mut property = match kind {
        FieldKind::Text => field.type_schema("string"),
        _ if spec.datatype == DataType::Bytes => {
            return wrong(WrongValues::NoTexts);
        }
        FieldKind::Boolean => field.type_schema("boolean"),
        _ if spec.datatype.is_float() || !plain => field.type_schema("number"),
        // An integer field would refuse the sample itself.
        _ => match field.fraction() {
            Some(fraction) => return wrong(WrongValues::Value(fraction.clone())),
            None => field.type_schema("integer"),
        },
    };
    // The graph would cast every other number to true, which would hide errors of callers.
    if spec.datatype == DataType::Bool && kind == FieldKind::Number && plain {
        let is_bit = |value: &Value| matches!(value.as_f64(), Some(0.0 | 1.0));
        if let Some(other) = field.values.iter().find(|value| !is_bit(value)) {
            return wrong(WrongValues::Value((*other).clone()));
        }
        property["minimum"] = json!(0);
        property["maximum"] = json!(1);
    }
    Ok(with_example(property, field))
}

/// The property of a field that no input of the graph takes.
pub(super) fn unused_property(field: &SampleField<'_>) -> Value {
    match field.kind() {
        FieldKind::Text => with_example(field.type_schema("string"), field),
        FieldKind::Image => image_property(field),
        FieldKind::Boolean => with_example(field.type_schema("boolean"), field),
        FieldKind::Number => with_example(field.type_schema("number"), field),
        FieldKind::Array => field.type_schema("array"),
        FieldKind::Mixed => json!({}),
    }
}

pub(super) fn image_property(field: &SampleField<'_>) -> Value {
    let mut property = field.type_schema("string");
    property["contentEncoding"] = json!("base64");
    match field.media_types().as_slice() {
        [media_type] => property["contentMediaType"] = json!(media_type),
        // `contentMediaType` accepts only one type.
        media_types => {
            property["description"] = json!(format!("An image: {}", media_types.join(" or ")))
        }
    }
    property
}

pub(super) const IMAGE_GUESS: &str = "the steps are guessed from the graph's shape: mode, size, \
                                      interpolation, range and layout must match the training, \
                                      and normalize is missing";

/// The steps of an image for an input of this shape, which are a guess.
pub(super) fn image_steps(spec: &TensorSpec) -> Vec<Value> {
    let fixed = |dim: &Dim| {
        if let Dim::Fixed(size) = dim {
            Some(*size)
        } else {
            None
        }
    };
    // One or three channels in the first dimension mean NCHW. Otherwise NHWC is the usual layout.
    let (channels, height, width, layout) = match spec.shape.row() {
        [c, h, w] if matches!(c, Dim::Fixed(1 | 3)) => (fixed(c), fixed(h), fixed(w), "nchw"),
        [h, w, c] => (fixed(c), fixed(h), fixed(w), "nhwc"),
        _ => (None, None, None, "nhwc"),
    };
    let mut steps =
        vec![json!({"decode_image": {"mode": if channels == Some(1) { "grey" } else { "rgb" }}})];
    if let (Some(height), Some(width)) = (height, width) {
        steps.push(json!({"resize": {"height": height, "width": width}}));
    }
    // Images are bytes from 0 to 255, and most networks of floats expect 0 to 1.
    if spec.datatype.is_float() {
        steps.push(json!({"rescale": {"factor": 1.0 / 255.0}}));
    }
    steps.push(json!({"layout": layout}));
    steps
}

/// The properties of a draft without a sample: one for each input.
pub(super) fn graph_properties(inputs: &[TensorSpec]) -> Result<Properties, DraftError> {
    inputs
        .iter()
        .map(|spec| Ok((spec.name.to_string(), input_schema(spec)?)))
        .collect()
}

/// The schema of an input's field. A field can't contain arrays of strings.
fn input_schema(spec: &TensorSpec) -> Result<Value, DraftError> {
    let is_array = !matches!(spec.shape.row(), [] | [Dim::Fixed(1)]);
    match spec.datatype {
        // Columns of arrays contain only numbers.
        DataType::Bytes if is_array && !matches!(spec.shape.row(), [Dim::Any | Dim::Rest]) => {
            Err(DraftError::OneText {
                input: Box::new(spec.clone()),
            })
        }
        // A dynamic width may be 1, which is one string.
        DataType::Bytes => Ok(json!({"type": "string"})),
        _ => Ok(tensor_schema(spec)),
    }
}

/// The schema of an output's field. If a row of dynamic width has only one value, the answer
/// contains that value instead of a list.
pub(super) fn output_schema(spec: &TensorSpec) -> Value {
    let mut schema = tensor_schema(spec);
    if matches!(spec.shape.row(), [Dim::Any | Dim::Rest]) {
        schema["type"] = json!(["array", schema["items"]["type"]]);
    }
    schema
}

/// The schema of one row of a tensor.
fn tensor_schema(spec: &TensorSpec) -> Value {
    let kind = match spec.datatype {
        DataType::Bool => "boolean",
        DataType::Bytes => "string",
        datatype if datatype.is_float() => "number",
        _ => "integer",
    };
    let dims = match spec.shape.row() {
        [] | [Dim::Fixed(1)] => &[],
        dims => dims,
    };
    nested(json!({"type": kind}), dims)
}

/// The schema of nested arrays of these dimensions. Only a fixed dimension has a length.
pub(super) fn nested(items: Value, dims: &[Dim]) -> Value {
    dims.iter().rev().fold(items, |items, dim| match dim {
        Dim::Fixed(size) => {
            json!({"type": "array", "minItems": size, "maxItems": size, "items": items})
        }
        Dim::Any | Dim::Rest => json!({"type": "array", "items": items}),
    })
}
