//! Answer: an inference response of the Open Inference Protocol, JSON with binary data behind it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::{
    api::{
        http::{exchange::Reply, v2::Wish},
        oip,
        refusal::Refusal,
    },
    decode::elements::{to_raw, write_elements},
    error::ErrorCode,
    predict::Prediction,
    transform::fields::NamedTensor,
};

pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

pub fn write(wish: &Wish, prediction: &mut Prediction) -> Result<Reply, Refusal> {
    let names: Vec<String> = wish
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let tensors = prediction
        .take_tensors(&names)
        .map_err(|detail| Refusal::new(ErrorCode::Malformed, detail))?;
    let elements: usize = tensors.iter().map(|named| named.tensor.data().len()).sum();
    let servable = Arc::clone(&prediction.servable);
    let id = servable.id();
    let binary_everywhere = wish.binary_output
        && wish
            .outputs
            .iter()
            .all(|output| output.binary != Some(false));
    let mut text = Vec::with_capacity(256 + if binary_everywhere { 0 } else { elements * 8 });
    // Names and versions are of characters that JSON leaves as they are.
    text.extend_from_slice(b"{\"model_name\":\"");
    text.extend_from_slice(id.name.as_str().as_bytes());
    text.extend_from_slice(b"\",\"model_version\":\"");
    text.extend_from_slice(id.version.as_str().as_bytes());
    text.push(b'"');
    if let Some(id) = &wish.id {
        text.extend_from_slice(b",\"id\":");
        write_text(id, &mut text);
    }
    if let Some(fallback) = &prediction.fallback {
        text.extend_from_slice(b",\"parameters\":{\"fallback\":\"");
        text.extend_from_slice(fallback.to.as_bytes());
        text.extend_from_slice(b"\",\"fallback_reason\":\"");
        text.extend_from_slice(fallback.reason.name().as_bytes());
        text.extend_from_slice(b"\"}");
    }
    text.extend_from_slice(b",\"outputs\":[");
    let mut data = Vec::new();
    for (index, named) in tensors.into_iter().enumerate() {
        let requested = wish.outputs.get(index);
        let named = oip::answer_output(
            &servable,
            named,
            requested.map_or(0, |requested| requested.classification),
        )?;
        let binary = requested
            .and_then(|requested| requested.binary)
            .unwrap_or(wish.binary_output);
        if index > 0 {
            text.push(b',');
        }
        write_output(named, binary, &mut text, &mut data);
    }
    text.extend_from_slice(b"]}");
    if data.is_empty() && !wish.binary_output {
        return Ok(Reply::json(text));
    }
    let length = HeaderValue::from(text.len());
    Ok(Reply {
        content_type: "application/octet-stream",
        text,
        data,
        headers: vec![(HEADER_LENGTH, length)],
    })
}

fn write_output(
    named: NamedTensor,
    binary: bool,
    text: &mut Vec<u8>,
    data: &mut Vec<bytes::Bytes>,
) {
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
    if binary {
        let bytes = to_raw(elements);
        text.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
        text.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
        text.extend_from_slice(b"}}");
        data.push(bytes);
    } else {
        text.extend_from_slice(b"],\"data\":[");
        write_elements(&elements, text);
        text.extend_from_slice(b"]}");
    }
}

/// Writing to memory does not fail, and a text is always JSON.
fn write_text(value: &str, text: &mut Vec<u8>) {
    let _ = serde_json::to_writer(text, value);
}
