//! Encode: the bytes of an answer of predictd's own, and the parts of it that other dialects share.

use crate::{
    api::refusal::Refusal,
    decode::elements::{write_element, write_nested},
    error::ErrorCode,
    predict::{ModelOutput, Prediction},
    tensor::Tensor,
    transform::outputs::json_key,
};

/// `{"prediction_id": ..., "model": ..., "version": ..., "digest": ..., "predictions": [...]}`, predictions in the order of the instances.
pub fn encode(prediction: &Prediction) -> Result<Vec<u8>, Refusal> {
    let mut text = Vec::with_capacity(256 + prediction.rows.min(65_536) * 96);
    let id = prediction.servable.id();
    text.extend_from_slice(b"{\"prediction_id\":\"");
    text.extend_from_slice(prediction.id.write(&mut [0; 26]).as_bytes());
    text.push(b'"');
    if let Some(client_id) = &prediction.client_id {
        text.extend_from_slice(b",\"id\":");
        // Writing to memory does not fail, and a text is always JSON.
        let _ = serde_json::to_writer(&mut text, client_id);
    }
    // Names, versions and digests are of characters that JSON leaves as they are.
    text.extend_from_slice(b",\"model\":\"");
    text.extend_from_slice(id.name.as_str().as_bytes());
    text.extend_from_slice(b"\",\"version\":\"");
    text.extend_from_slice(id.version.as_str().as_bytes());
    text.extend_from_slice(b"\",\"digest\":\"");
    text.extend_from_slice(prediction.servable.digest().as_bytes());
    text.push(b'"');
    write_fallback(prediction, &mut text);
    text.extend_from_slice(b",\"predictions\":");
    write_rows(
        prediction,
        &mut |row, text| write_object(&prediction.output, row, text),
        &mut text,
    )?;
    text.push(b'}');
    Ok(text)
}

/// `,"fallback":{...}` where another answered than the version that should have.
pub fn write_fallback(prediction: &Prediction, text: &mut Vec<u8>) {
    let Some(fallback) = &prediction.fallback else {
        return;
    };
    // Names of models and reasons are of characters that JSON leaves as they are.
    text.extend_from_slice(b",\"fallback\":{\"to\":\"");
    text.extend_from_slice(fallback.to.as_bytes());
    text.extend_from_slice(b"\",\"reason\":\"");
    text.extend_from_slice(fallback.reason.name().as_bytes());
    text.extend_from_slice(b"\"}");
}

/// A JSON array with an entry for each row.
pub fn write_rows(
    prediction: &Prediction,
    write: &mut dyn FnMut(usize, &mut Vec<u8>),
    text: &mut Vec<u8>,
) -> Result<(), Refusal> {
    check_rows(prediction)?;
    text.push(b'[');
    for row in 0..prediction.rows {
        if row > 0 {
            text.push(b',');
        }
        write(row, text);
    }
    text.push(b']');
    Ok(())
}

/// A graph may answer otherwise than row by row; fields always do.
pub fn check_rows(prediction: &Prediction) -> Result<(), Refusal> {
    let ModelOutput::Graph(tensors) = &prediction.output else {
        return Ok(());
    };
    let advice = "ask for tensors, at /v2/models/NAME/infer";
    let without = &prediction.servable.without_rows;
    if let Some((name, because)) = tensors
        .0
        .iter()
        .find_map(|(name, _)| Some((name, without.get(&**name)?)))
    {
        return Err(Refusal::new(
            ErrorCode::Malformed,
            format!("output `{name}` can't be told row by row: {because}; {advice}"),
        ));
    }
    let uneven = tensors
        .0
        .iter()
        .find(|(_, tensor)| tensor.shape().is_empty() || tensor.rows() != prediction.rows);
    uneven.map_or(Ok(()), |(name, tensor)| {
        let (shape, rows) = (tensor.shape(), prediction.rows);
        Err(Refusal::new(
            ErrorCode::Malformed,
            format!("output `{name}` has the shape {shape:?}, which is not a value for each of {rows} rows; {advice}"),
        ))
    })
}

/// One row as a JSON object by the outputs' names.
pub fn write_object(output: &ModelOutput, row: usize, text: &mut Vec<u8>) {
    match output {
        ModelOutput::Fields(outputs) => outputs.write_json(row, text),
        ModelOutput::Graph(tensors) => {
            text.push(b'{');
            for (index, (name, tensor)) in tensors.0.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(json_key(name).as_bytes());
                write_tensor_row(tensor, row, text);
            }
            text.push(b'}');
        }
    }
}

/// One row of a tensor, nested as its shape says.
pub fn write_tensor_row(tensor: &Tensor, row: usize, text: &mut Vec<u8>) {
    let shape = tensor.shape().get(1..).unwrap_or_default();
    let width: usize = shape.iter().product();
    write_nested(shape, row * width, text, &mut |at, text| {
        write_element(tensor.data(), at, text)
    });
}
