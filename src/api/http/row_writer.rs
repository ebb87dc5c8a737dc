//! Writes the rows of a prediction as JSON, for all dialects that answer row by row.

use crate::{
    api::refusal::Refusal,
    decode::elements::{write_element, write_nested},
    predict::{ModelOutput, Prediction},
    tensor::Tensor,
    transform::outputs::json_key,
};

/// Writes `,"fallback":{...}` if the version that answered is not the assigned version.
pub(super) fn write_fallback(prediction: &Prediction, text: &mut Vec<u8>) {
    let Some(fallback) = &prediction.fallback else {
        return;
    };
    // Names of models and reasons contain no characters that JSON escapes.
    text.extend_from_slice(b",\"fallback\":{\"to\":\"");
    text.extend_from_slice(fallback.to.as_bytes());
    text.extend_from_slice(b"\",\"reason\":\"");
    text.extend_from_slice(fallback.reason.name().as_bytes());
    text.extend_from_slice(b"\"}");
}

/// Writes a JSON array with one entry per row.
pub(super) fn write_rows(
    prediction: &Prediction,
    write_row: &mut dyn FnMut(usize, &mut Vec<u8>),
    text: &mut Vec<u8>,
) -> Result<(), Refusal> {
    check_rows(prediction)?;
    text.push(b'[');
    for row in 0..prediction.rows {
        if row > 0 {
            text.push(b',');
        }
        write_row(row, text);
    }
    text.push(b']');
    Ok(())
}

/// The end of messages that refuse an output. It names the protocol that can return any output.
const TENSOR_ADVICE: &str = "ask for tensors, at /v2/models/NAME/infer";

/// Refuses a prediction that does not have one value per row. This is possible only for a graph
/// without an output schema, whose outputs may have any shape.
pub(super) fn check_rows(prediction: &Prediction) -> Result<(), Refusal> {
    let ModelOutput::Graph(tensors) = &prediction.output else {
        return Ok(());
    };
    for (name, _) in &tensors.0 {
        // The analysis of the graph knows the outputs whose first dimension never is the number of
        // rows, even if the sizes are equal.
        if let Some(because) = prediction.servable.without_rows.get(&**name) {
            return Err(Refusal::malformed(format!(
                "output `{name}` can't be written row by row: {because}; {TENSOR_ADVICE}"
            )));
        }
    }
    for (name, tensor) in &tensors.0 {
        let (shape, rows) = (tensor.shape(), prediction.rows);
        if shape.is_empty() || tensor.rows() != rows {
            return Err(Refusal::malformed(format!(
                "output `{name}` has the shape {shape:?}, but its first dimension must be the number of rows ({rows}); {TENSOR_ADVICE}"
            )));
        }
    }
    Ok(())
}

/// Writes one row as a JSON object. The keys are the names of the outputs.
pub(super) fn write_object(output: &ModelOutput, row: usize, text: &mut Vec<u8>) {
    match output {
        ModelOutput::Fields(outputs) => outputs.write_json(row, text),
        ModelOutput::Graph(tensors) => {
            text.push(b'{');
            for (index, (name, tensor)) in tensors.0.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                // `json_key` escapes the names of tensors, which may contain any character.
                text.extend_from_slice(json_key(name).as_bytes());
                write_tensor_row(tensor, row, text);
            }
            text.push(b'}');
        }
    }
}

/// Writes one row of a tensor as nested arrays, according to its shape.
pub(super) fn write_tensor_row(tensor: &Tensor, row: usize, text: &mut Vec<u8>) {
    // The first dimension is the number of rows.
    let shape = tensor.shape().get(1..).unwrap_or_default();
    let width: usize = shape.iter().product();
    write_nested(shape, row * width, text, &mut |at, text| {
        write_element(tensor.data(), at, text)
    });
}
