//! An inference response of the Open Inference Protocol: JSON, followed by binary data.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::{
    api::{
        http::{dialect::EncodedResponse, v2::V2ResponseOptions},
        oip,
        refusal::Refusal,
    },
    decode::elements::{to_raw, write_elements},
    predict::Prediction,
    transform::fields::NamedTensor,
};

pub(crate) const HEADER_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

pub(crate) fn write(
    options: &V2ResponseOptions,
    prediction: &mut Prediction,
) -> Result<EncodedResponse, Refusal> {
    let names: Vec<String> = options
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let tensors = prediction
        .take_tensors(&names)
        .map_err(|error| Refusal::malformed(error.to_string()))?;
    let servable = Arc::clone(&prediction.servable);
    let mut text = Vec::with_capacity(text_capacity(options, &tensors));
    write_head(options, prediction, &mut text);
    text.extend_from_slice(b",\"outputs\":[");
    let mut binary = Vec::new();
    for (index, named) in tensors.into_iter().enumerate() {
        let requested = options.outputs.get(index);
        let named = oip::answer_output(
            &servable,
            named,
            requested.map_or(0, |requested| requested.classification),
        )?;
        let is_binary = requested
            .and_then(|requested| requested.binary)
            .unwrap_or(options.binary_output);
        if index > 0 {
            text.push(b',');
        }
        // Each output may have its own option. The request sets the default.
        let binary = is_binary.then_some(&mut binary);
        write_output(named, binary, &mut text);
    }
    text.extend_from_slice(b"]}");
    // If the request asks for binary outputs, the response has the binary form, even if all outputs
    // are JSON.
    if binary.is_empty() && !options.binary_output {
        return Ok(EncodedResponse::json(text));
    }
    let length = HeaderValue::from(text.len());
    Ok(EncodedResponse {
        content_type: "application/octet-stream",
        text,
        tensors: binary,
        headers: vec![(HEADER_LENGTH, length)],
    })
}

/// The approximate length of the JSON. A number takes about eight characters.
fn text_capacity(options: &V2ResponseOptions, tensors: &[NamedTensor]) -> usize {
    let is_all_binary = options.binary_output
        && options
            .outputs
            .iter()
            .all(|output| output.binary != Some(false));
    let elements: usize = tensors.iter().map(|named| named.tensor.data().len()).sum();
    256 + if is_all_binary { 0 } else { elements * 8 }
}

/// Writes the members before `outputs`, without the closing brace.
fn write_head(options: &V2ResponseOptions, prediction: &Prediction, text: &mut Vec<u8>) {
    let id = prediction.servable.id();
    // Names and versions contain no characters that JSON escapes.
    text.extend_from_slice(b"{\"model_name\":\"");
    text.extend_from_slice(id.name.as_str().as_bytes());
    text.extend_from_slice(b"\",\"model_version\":\"");
    text.extend_from_slice(id.version.as_str().as_bytes());
    text.push(b'"');
    if let Some(id) = &options.id {
        text.extend_from_slice(b",\"id\":");
        write_text(id, text);
    }
    if let Some(fallback) = &prediction.fallback {
        text.extend_from_slice(b",\"parameters\":{\"fallback\":\"");
        text.extend_from_slice(fallback.to.as_bytes());
        text.extend_from_slice(b"\",\"fallback_reason\":\"");
        text.extend_from_slice(fallback.reason.name().as_bytes());
        text.extend_from_slice(b"\"}");
    }
}

/// Writes one output. If `binary` is given, the data is appended to it; otherwise the data becomes
/// a part of the JSON.
fn write_output(named: NamedTensor, binary: Option<&mut Vec<Bytes>>, text: &mut Vec<u8>) {
    text.extend_from_slice(b"{\"name\":");
    write_text(&named.name, text);
    text.extend_from_slice(b",\"datatype\":\"");
    text.extend_from_slice(named.tensor.datatype().protocol_name().as_bytes());
    text.extend_from_slice(b"\",\"shape\":[");
    for (index, dim) in named.tensor.shape().iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(itoa::Buffer::new().format(*dim).as_bytes());
    }
    let (_, elements) = named.tensor.into_parts();
    if let Some(binary) = binary {
        let bytes = to_raw(elements);
        text.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        text.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
        text.extend_from_slice(b"}}");
        binary.push(bytes);
    } else {
        text.extend_from_slice(b"],\"data\":[");
        write_elements(&elements, text);
        text.extend_from_slice(b"]}");
    }
}

/// Writes a string as JSON.
fn write_text(value: &str, text: &mut Vec<u8>) {
    // Writing a string to memory does not fail.
    let _ = serde_json::to_writer(text, value);
}
