//! Golden examples of an import: the model's predictions for the instances that were saved with it.

use serde_json::{Value, json};

use crate::{
    decode::{DecodeError, decode_instance},
    engine::{Engine, EngineError, infer::OnnxEngine},
    error::text_with_sources,
    package::{Parts, PostprocessFault, RowFault, Transform, import::Imported},
    registry::gate::{OWN_LIMITS, first_fault},
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
            Err(error) => imported.notes.push(format!(
                "row {} of the input example was skipped: {}",
                index + 1,
                text_with_sources(&error)
            )),
        }
    }
    lines
}

/// Why the model does not answer an instance.
#[derive(Debug, thiserror::Error)]
enum SkippedExample {
    #[error("{}", first_fault(.0))]
    Decode(DecodeError),
    #[error("{}", .0.first().map(|fault| fault.detail.as_str()).unwrap_or_default())]
    Prepare(Vec<RowFault>),
    #[error(transparent)]
    Run(#[from] EngineError),
    #[error(transparent)]
    Outputs(#[from] PostprocessFault),
}

fn answer(
    parts: &Parts,
    transform: &Transform,
    engine: &mut OnnxEngine,
    input: &Value,
) -> Result<Value, SkippedExample> {
    let columns = decode_instance(&parts.input, input.to_string().as_bytes(), &OWN_LIMITS)
        .map_err(SkippedExample::Decode)?;
    let tensors = transform
        .prepare(&columns)
        .map_err(SkippedExample::Prepare)?;
    let outputs = engine.run(&tensors)?;
    Ok(transform.interpret(&outputs, 1)?.to_value(0))
}
