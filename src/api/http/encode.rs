//! Encode: the bytes of an answer.

use crate::predict::Prediction;

/// `{"prediction_id": ..., "model": ..., "version": ..., "digest": ..., "predictions": [...]}`, predictions in the order of the instances.
pub fn encode(prediction: &Prediction) -> Vec<u8> {
    let mut text = Vec::with_capacity(256 + prediction.rows * 96);
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
    text.extend_from_slice(prediction.servable.package.digest().as_bytes());
    text.extend_from_slice(b"\",\"predictions\":[");
    for row in 0..prediction.rows {
        if row > 0 {
            text.push(b',');
        }
        prediction.outputs.write_json(row, &mut text);
    }
    text.extend_from_slice(b"]}");
    text
}
