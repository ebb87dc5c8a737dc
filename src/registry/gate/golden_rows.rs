//! Golden examples as inputs of the graph, and the row that replaces them in a package without
//! examples.

use crate::{
    decode::{DecodeError, decode_instance},
    engine::{Engine, EngineError, error::RunCause},
    error::text_with_sources,
    package::{
        GOLDEN_FILE, MODEL_FILE, PREPROCESSING_FILE, PackageCheck, PackageError, Parts,
        SCHEMA_FILE, Transform, golden,
        warmup_instance::{self, InstanceOrigin},
    },
    registry::gate::{OWN_LIMITS, first_fault},
    tensor::{
        Tensors,
        signature::{Signature, SignatureError},
    },
    transform::row_fault::RowFault,
};

/// A golden example after preprocessing.
pub(super) struct GoldenRow {
    /// The line number in `golden.jsonl`, from 1.
    pub line: usize,
    pub inputs: Tensors,
}

impl GoldenRow {
    pub(super) fn error(&self, detail: String) -> PackageError {
        example_error(self.line, detail)
    }
}

pub(super) fn golden_rows(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
) -> Result<Vec<GoldenRow>, PackageError> {
    (0..parts.golden.len())
        .filter_map(|index| golden_row(parts, transform, signature, index))
        .collect()
}

/// The golden example at `index`, from 0. `None` if there are not enough examples.
fn golden_row(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
    index: usize,
) -> Option<Result<GoldenRow, PackageError>> {
    let example = parts.golden.get(index)?;
    let line = index + 1;
    let prepare = || {
        let columns = decode_instance(&parts.input, example.input.as_bytes(), &OWN_LIMITS)
            .map_err(|error| {
                example_error(
                    line,
                    format!(
                        "the input is refused by the schema: {}",
                        first_fault(&error)
                    ),
                )
            })?;
        let inputs = transform.prepare(&columns).map_err(|faults| {
            example_error(
                line,
                format!(
                    "the input can't be preprocessed: {}",
                    first_row_fault(&faults)
                ),
            )
        })?;
        signature.check_inputs(&inputs).map_err(|error| {
            PackageError::caused_by(PackageCheck::Preprocessing, PREPROCESSING_FILE, "", error)
        })?;
        Ok(GoldenRow { line, inputs })
    };
    Some(prepare())
}

fn example_error(line: usize, detail: String) -> PackageError {
    PackageError::new(PackageCheck::Golden, GOLDEN_FILE, detail).at(&format!("line {line}"))
}

/// The text of a failed run. If a node rejected the input, only that part is kept.
pub(super) fn describe_failure(error: &EngineError) -> String {
    if let EngineError::Run(failed) = error
        && let RunCause::Rejected(rejected) = &failed.cause
    {
        return format!("the model's graph refuses this input: {rejected}");
    }
    text_with_sources(error)
}

fn first_row_fault(faults: &[RowFault]) -> String {
    faults
        .first()
        .map(|fault| format!("{}: {}", fault.field, fault.detail))
        .unwrap_or_default()
}

/// Why the first row of a package could not be run.
#[derive(Debug)]
pub(super) struct WarmUpFailure {
    pub fault: WarmUpFault,
    /// The origin of the row's values.
    pub origin: InstanceOrigin,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WarmUpFault {
    #[error("{}", first_fault(.0))]
    Schema(DecodeError),
    #[error("{}", first_row_fault(.0))]
    Preprocess(Vec<RowFault>),
    #[error(transparent)]
    Inputs(#[from] SignatureError),
    #[error(transparent)]
    Run(#[from] EngineError),
}

impl WarmUpFailure {
    /// Whether the row may be the reason for the failure, so that other rows may succeed.
    pub(super) fn may_depend_on_row(&self) -> bool {
        match &self.fault {
            WarmUpFault::Run(error) => !error.is_out_of_memory(),
            WarmUpFault::Schema(_) | WarmUpFault::Preprocess(_) | WarmUpFault::Inputs(_) => true,
        }
    }
}

/// Generates a row that the schema allows, for packages without golden examples.
pub(super) fn generated_row(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
) -> Result<(Tensors, InstanceOrigin), WarmUpFailure> {
    let (instance, origin) = warmup_instance::instance(&parts.input, parts.profile.as_ref());
    let failed = |fault| WarmUpFailure { fault, origin };
    let columns = decode_instance(&parts.input, instance.as_bytes(), &OWN_LIMITS)
        .map_err(|error| failed(WarmUpFault::Schema(error)))?;
    let inputs = transform
        .prepare(&columns)
        .map_err(|faults| failed(WarmUpFault::Preprocess(faults)))?;
    signature
        .check_inputs(&inputs)
        .map_err(|error| failed(error.into()))?;
    Ok((inputs, origin))
}

/// The row that the gate ran first. The server warms its engines with this row, because the gate
/// has proved that the run succeeds.
pub(crate) fn first_run(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
) -> Result<Tensors, PackageError> {
    match golden_row(parts, transform, signature, 0) {
        Some(row) => Ok(row?.inputs),
        None => generated_row(parts, transform, signature)
            .map(|(row, _)| row)
            .map_err(|failure| {
                PackageError::caused_by(PackageCheck::WarmUp, MODEL_FILE, "", failure.fault)
            }),
    }
}

/// Runs every golden example alone. Its response must equal the documented one, within the
/// tolerance, and must fit the output schema.
pub(super) fn replay(
    engine: &mut dyn Engine,
    parts: &Parts,
    transform: &Transform,
    rows: &[GoldenRow],
) -> Result<(), PackageError> {
    for (row, example) in rows.iter().zip(&parts.golden) {
        let outputs = engine
            .run(&row.inputs)
            .map_err(|error| row.error(describe_failure(&error)))?;
        let outputs = transform
            // Each row runs alone, so that a failure names its line. Batches are tested separately.
            .interpret(&outputs, 1)
            .map_err(|fault| row.error(String::new()).with_source(Some(fault)))?;
        let answer = outputs.to_value(0);
        golden::compare(&example.output, &answer, example.tolerance).map_err(|mismatch| {
            row.error(format!(
                "output {}: expected {}, got {} (tolerance {})",
                mismatch.pointer, mismatch.expected, mismatch.actual, example.tolerance
            ))
        })?;
        decode_instance(&parts.output, answer.to_string().as_bytes(), &OWN_LIMITS).map_err(
            |error| {
                let detail = format!(
                    "golden example {}: the answer does not fit: {}",
                    row.line,
                    first_fault(&error)
                );
                PackageError::new(PackageCheck::Schema, SCHEMA_FILE, detail).at("/output")
            },
        )?;
    }
    Ok(())
}
