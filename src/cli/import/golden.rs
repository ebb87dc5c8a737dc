//! Golden examples of an import: the model's predictions for the instances that were saved with it.

use serde_json::{Value, json};

use crate::{
    decode::{DecodeError, decode_instance},
    engine::{Engine, infer::OnnxEngine},
    error::text_with_sources,
    package::{Parts, Transform, import::Imported},
    registry::gate::OWN_LIMITS,
};

/// Computes the model's predictions for the instances that were saved with it. An instance that
/// fails is skipped, with a note.
pub(super) fn golden_lines(
    parts: &Parts,
    transform: &Transform,
    engine: &mut OnnxEngine,
    imported: &mut Imported,
) -> Vec<Value> {
    let mut lines = Vec::new();
    for (index, input) in imported.examples.iter().enumerate() {
        match answer(parts, transform, engine, input) {
            Ok(output) => lines.push(json!({"input": input, "output": output})),
            Err(detail) => imported.notes.push(format!(
                "row {} of the input example was skipped: {detail}",
                index + 1
            )),
        }
    }
    lines
}

pub(super) fn answer(
    parts: &Parts,
    transform: &Transform,
    engine: &mut OnnxEngine,
    input: &Value,
) -> Result<Value, String> {
    let columns = decode_instance(&parts.input, input.to_string().as_bytes(), &OWN_LIMITS)
        .map_err(|error| match error {
            DecodeError::Malformed { detail } => detail.to_string(),
            DecodeError::Invalid { faults, .. } => faults
                .first()
                .map(|fault| format!("{} {}", fault.pointer, fault.detail))
                .unwrap_or_default(),
        })?;
    let tensors = transform.prepare(&columns).map_err(|faults| {
        faults
            .first()
            .map(|fault| fault.detail.clone())
            .unwrap_or_default()
    })?;
    let outputs = engine
        .run(&tensors)
        .map_err(|error| text_with_sources(&error))?;
    transform
        .interpret(&outputs, 1)
        .map(|outputs| outputs.to_value(0))
        .map_err(|fault| text_with_sources(&fault))
}
