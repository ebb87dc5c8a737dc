//! `predictions` and `outputs` of a response in the format of TensorFlow Serving. If there is a
//! single output, a row is its value, not an object.

use serde_json::Value;

use crate::{
    api::{
        http::row_writer::{check_rows, write_object, write_rows, write_tensor_row},
        refusal::Refusal,
    },
    decode::elements::{write_element, write_nested},
    predict::{ModelOutput, Prediction},
    tensor::{Data, Tensor},
    transform::outputs::{OutputColumn, json_key},
};

/// The suffix of outputs that contain bytes, by TensorFlow Serving's rule. JSON contains them in
/// base64.
const BYTES_SUFFIX: &str = "_bytes";

/// Writes `[...]` with one entry per row: the value of the only output, or an object with all
/// outputs.
pub(super) fn write_predictions(
    prediction: &Prediction,
    text: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let names = output_names(&prediction.output);
    write_rows(
        prediction,
        &mut |row, text| write_prediction(&prediction.output, &names, row, text),
        text,
    )
}

/// Writes the entry of one row. `names`: the names of the outputs.
pub(super) fn write_prediction(
    output: &ModelOutput,
    names: &[String],
    row: usize,
    text: &mut Vec<u8>,
) {
    match names {
        // TensorFlow Serving's rule: a single output is written without its name.
        [name] => write_value(output, 0, name, row, text),
        // Only these outputs require a decision per value. Other objects are written faster.
        _ if names.iter().any(|name| name.ends_with(BYTES_SUFFIX)) => {
            text.push(b'{');
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(json_key(name).as_bytes());
                write_value(output, index, name, row, text);
            }
            text.push(b'}');
        }
        _ => write_object(output, row, text),
    }
}

/// Writes the values of each output for all rows: the array of the only output, or an object with
/// all outputs.
pub(super) fn write_columns(prediction: &Prediction, text: &mut Vec<u8>) -> Result<(), Refusal> {
    let names = output_names(&prediction.output);
    let column = |index: usize, name: &str, text: &mut Vec<u8>| match &prediction.output {
        // The outputs of a graph may not have one value per row. Columns can contain them
        // unchanged.
        ModelOutput::Graph(tensors) if check_rows(prediction).is_err() => {
            if let Some((_, tensor)) = tensors.0.get(index) {
                write_nested(tensor.shape(), 0, text, &mut |at, text| {
                    write_element(tensor.data(), at, text)
                });
            }
        }
        output => {
            text.push(b'[');
            for row in 0..prediction.rows {
                if row > 0 {
                    text.push(b',');
                }
                write_value(output, index, name, row, text);
            }
            text.push(b']');
        }
    };
    // TensorFlow Serving's rule: a single output is written without its name.
    if let [name] = names.as_slice() {
        column(0, name, text);
        return Ok(());
    }
    text.push(b'{');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(json_key(name).as_bytes());
        column(index, name, text);
    }
    text.push(b'}');
    Ok(())
}

/// The names of the outputs, in order.
pub(super) fn output_names(output: &ModelOutput) -> Vec<String> {
    match output {
        ModelOutput::Fields(outputs) => outputs.names().collect(),
        ModelOutput::Graph(tensors) => tensors.0.iter().map(|(name, _)| name.to_string()).collect(),
    }
}

/// Writes the value of one output in one row. `index`: the index of the output. `name`: its name.
fn write_value(output: &ModelOutput, index: usize, name: &str, row: usize, text: &mut Vec<u8>) {
    let is_bytes = name.ends_with(BYTES_SUFFIX);
    match output {
        ModelOutput::Fields(outputs) => match outputs.fields.get(index) {
            Some((_, OutputColumn::Texts { shape, values })) if is_bytes => {
                write_base64(shape, values, row, text)
            }
            Some((_, column)) => column.write_json(row, text),
            None => text.extend_from_slice(b"null"),
        },
        ModelOutput::Graph(tensors) => match tensors.0.get(index).map(|(_, tensor)| tensor) {
            Some(tensor) => write_tensor(tensor, is_bytes, row, text),
            None => text.extend_from_slice(b"null"),
        },
    }
}

fn write_tensor(tensor: &Tensor, is_bytes: bool, row: usize, text: &mut Vec<u8>) {
    match tensor.data() {
        Data::Bytes(values) if is_bytes => write_base64(
            tensor.shape().get(1..).unwrap_or_default(),
            values,
            row,
            text,
        ),
        _ => write_tensor_row(tensor, row, text),
    }
}

/// Writes one row of strings as `{"b64": "..."}` objects.
fn write_base64(shape: &[usize], values: &[String], row: usize, text: &mut Vec<u8>) {
    let width: usize = shape.iter().product();
    write_nested(shape, row * width, text, &mut |at, text| {
        let encoded =
            base64_simd::STANDARD.encode_to_string(values.get(at).map_or("", String::as_str));
        text.extend_from_slice(b"{\"b64\":\"");
        text.extend_from_slice(encoded.as_bytes());
        text.extend_from_slice(b"\"}");
    });
}

/// The cells of one row for CSV: all values in order, with nested arrays and objects flattened.
pub(super) fn cells(output: &ModelOutput, names: &[String], row: usize) -> Vec<String> {
    let mut text = Vec::new();
    write_prediction(output, names, row, &mut text);
    // The cells are created from the JSON, so that CSV and JSON contain the same values.
    let mut cells = Vec::new();
    flatten(
        &serde_json::from_slice(&text).unwrap_or_default(),
        &mut cells,
    );
    cells
}

fn flatten(value: &Value, cells: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, cells)),
        Value::Object(members) => members.values().for_each(|item| flatten(item, cells)),
        Value::String(text) => cells.push(text.clone()),
        Value::Null => cells.push(String::new()),
        other => cells.push(other.to_string()),
    }
}
