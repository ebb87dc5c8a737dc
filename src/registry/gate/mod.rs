//! The load gate: the checks that a package or a bare graph must pass before it may answer
//! requests. `predictd verify` and the server run the same checks.

mod answer_check;
mod bare_gate;
mod batching;
mod golden_rows;
mod output_rows;
mod package_gate;
mod perturbation;
mod row_independence;
mod tensor_difference;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(crate) use bare_gate::{PassedGraph, check_graph};
pub(crate) use batching::{Batching, declared_batching};
pub(crate) use golden_rows::first_run;
pub(crate) use package_gate::check_package;

use crate::{
    decode::{DecodeError, DecodeLimits},
    engine::EngineError,
    graph::GraphAnalysis,
    package::{MODEL_FILE, PackageCheck, PackageError},
    tensor::{
        Tensors,
        signature::{Signature, Symbols, TensorSpec},
    },
};

/// A check that passed, with its duration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PassedCheck {
    pub name: String,
    pub detail: String,
    pub milliseconds: f64,
}

/// The options of the gate that are not part of the package.
#[derive(Clone, Copy)]
pub(crate) struct GateOptions {
    /// Whether to accept a graph without a manifest.
    pub bare: bool,
    /// Maximum number of rows in one run of the server.
    pub max_batch_size: usize,
    pub intra_op_threads: usize,
}

/// Limits for JSON that is part of the package, such as its golden examples. They are wide, because
/// limits protect from callers and not from the author of a package.
pub const OWN_LIMITS: DecodeLimits = DecodeLimits {
    // A golden example is one instance.
    max_instances: 1,
    max_depth: 64,
    max_array_values: usize::MAX,
};

/// Numbers of rows for which the gate builds whole responses.
const RESPONSE_SIZES: [usize; 4] = [1, 2, 3, 5];

/// Reports each check that passed, with the time since the previous check.
struct CheckReporter<'a> {
    report: &'a mut dyn FnMut(PassedCheck),
    since: Instant,
}

impl CheckReporter<'_> {
    fn new(report: &mut dyn FnMut(PassedCheck)) -> CheckReporter<'_> {
        CheckReporter {
            report,
            since: Instant::now(),
        }
    }

    fn passed(&mut self, name: &str, detail: impl Into<String>) {
        let elapsed = self.since.elapsed();
        (self.report)(PassedCheck {
            name: name.to_owned(),
            detail: detail.into(),
            // The duration is rounded to microseconds, because more digits mean nothing.
            milliseconds: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
        });
        // The next check starts now, after the time that `report` needed.
        self.since = Instant::now();
    }
}

/// One row of zeros, `false` and empty strings. Dynamic dimensions have the size 1.
pub fn zeros(signature: &Signature) -> Tensors {
    signature.zeros()
}

fn graph_error(error: EngineError) -> PackageError {
    PackageError::caused_by(PackageCheck::Graph, MODEL_FILE, "", error)
}

/// Rejects names that contain a NUL: callers name inputs and outputs, and the runtime ends a name
/// at its first NUL.
fn check_names(analysis: &GraphAnalysis) -> Result<(), PackageError> {
    let Some(name) = &analysis.nul_name else {
        return Ok(());
    };
    let detail = format!(
        "has an input or output \"{name}\": a name with a NUL can't be served; rename it in the export"
    );
    Err(PackageError::new(PackageCheck::Graph, MODEL_FILE, detail))
}

/// Describes a signature: `NAME TYPE[SHAPE], ... -> NAME TYPE[SHAPE], ...`.
fn describe_signature(signature: &Signature, symbols: &Symbols) -> String {
    let side = |specs: Vec<(&TensorSpec, &[String])>| {
        specs
            .iter()
            .map(|(spec, names)| format!("{} {}", spec.name, spec.named(names)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    signature.sides(symbols).map(side).join(" -> ")
}

/// The text of the first fault, for the author of a package.
pub(crate) fn first_fault(error: &DecodeError) -> String {
    match error {
        DecodeError::Malformed { detail } => detail.to_string(),
        DecodeError::Invalid { faults, .. } => faults
            .first()
            .map(|fault| format!("{} {}", fault.pointer, fault.detail))
            .unwrap_or_default(),
    }
}

/// The first `count` rows of a batch that repeats `rows`. Empty if `rows` is empty.
fn repeat_rows(rows: &[Tensors], count: usize) -> Vec<&Tensors> {
    rows.iter().cycle().take(count).collect()
}
