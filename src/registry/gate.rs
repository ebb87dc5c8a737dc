//! The load gate: what a package must pass before it may answer. One function, used by `predictd verify` and by the server.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{
        Engine,
        infer::{OnnxEngine, OnnxFactory, Runtime},
    },
    id::ModelId,
    package::{
        GOLDEN_FILE, MODEL_FILE, ModelPackage, PREPROCESSING_FILE, PackageError, Parts, SCHEMA_FILE, Transform,
        bare::Bare,
        decode::{DecodeError, DecodeLimits, decode_instance},
        golden,
        manifest::Manifest,
        outputs::Outputs,
        signature::Signature,
    },
    tensor::{Data, Dim, Tensor, Tensors, join},
};

/// One passed step, with its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub detail: String,
    pub milliseconds: f64,
}

/// Whether rows of several requests may share a run, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batching {
    #[serde(rename = "rows")]
    Rows,
    #[serde(rename = "none")]
    None { because: String },
}

/// A package that passed, with the engine that it passed on.
pub struct Passed {
    pub package: ModelPackage,
    pub transform: Transform,
    pub factory: OnnxFactory,
    pub engine: OnnxEngine,
    pub batching: Batching,
}

/// A bare graph that passed.
pub struct PassedBare {
    pub bare: Bare,
    pub engine: OnnxEngine,
    /// A run of zeros worked: the server may warm its engines with one.
    pub warm: bool,
}

/// What the gate needs to know beside the package.
#[derive(Clone, Copy)]
pub struct GateOptions {
    /// A graph without a manifest is taken, too.
    pub bare: bool,
    /// Rows of the largest run that the server would make.
    pub max_batch_size: usize,
    pub intra_op_threads: usize,
}

/// All limits off: golden examples are the package's own.
pub const OWN_LIMITS: DecodeLimits = DecodeLimits { max_instances: 1, max_depth: 64, max_array_values: usize::MAX };

/// Runs every check in order and stops at the first failure; `report` hears of each one that passed.
pub fn run(
    directory: &std::path::Path,
    runtime: &Runtime,
    options: GateOptions,
    report: &mut dyn FnMut(Check),
) -> Result<Passed, PackageError> {
    let mut clock = Steps { report, since: Instant::now() };

    let manifest = Manifest::read(directory)?;
    clock.passed("manifest", format!("{} {}", manifest.name, manifest.version));
    manifest.check_files(directory)?;
    clock.passed("hashes", format!("{} files, {}", manifest.files.len(), manifest.digest));

    let (factory, mut engine) = OnnxFactory::open(runtime, &directory.join(MODEL_FILE), options.intra_op_threads)
        .map_err(|error| PackageError::new("graph", MODEL_FILE, error.to_string()))?;
    let signature = engine.signature().clone();
    clock.passed("graph", describe(&signature));

    let parts = Parts::read(directory)?;
    clock.passed("schema", format!("{} input fields", parts.input.columns().len()));
    let transform = parts.bind(&signature)?;
    clock.passed("preprocessing", "fits schema and graph".to_owned());

    let id = manifest.id().ok_or_else(|| PackageError::new("manifest", "manifest.json", "has no valid name and version"))?;
    let package = ModelPackage { id, directory: directory.to_path_buf(), manifest, parts };
    let max_batch_size = package.parts.serving.batching.max_batch_size.unwrap_or(options.max_batch_size).min(options.max_batch_size);
    let rows = golden_rows(&package.parts, &transform, &signature)?;
    let mut batching = declared_batching(&package.parts, &signature, max_batch_size);
    warm_up(&mut engine, &transform, &signature, rows.first().map(|row| &row.inputs), 1)?;
    if batching == Batching::Rows {
        warm_up(&mut engine, &transform, &signature, rows.first().map(|row| &row.inputs), max_batch_size)?;
    }
    clock.passed(
        "warm-up",
        if batching == Batching::Rows { format!("batches of 1 and {max_batch_size}") } else { "batches of 1".to_owned() },
    );

    let alone = replay(&mut engine, &package.parts, &transform, &rows)?;
    if batching == Batching::Rows
        && let Err(because) = prove_batching(&mut engine, &package.parts, &transform, &rows, &alone, max_batch_size)
    {
        if package.parts.serving.batching.independent_rows == Some(true) {
            return Err(PackageError::new("golden", "serving.json", format!("says that rows are independent, but {because}"))
                .at("/batching/independent_rows"));
        }
        batching = Batching::None { because };
    }
    let batched = match &batching {
        Batching::Rows => "alone and in one batch".to_owned(),
        Batching::None { because } => format!("not batched: {because}"),
    };
    clock.passed(&format!("golden {0}/{0}", rows.len()), batched);
    Ok(Passed { package, transform, factory, engine, batching })
}

/// The gate for a graph without a manifest: nothing vouches for it, but what can't be loaded never comes near the server.
pub fn run_bare(
    directory: &std::path::Path,
    id: &ModelId,
    runtime: &Runtime,
    options: GateOptions,
    report: &mut dyn FnMut(Check),
) -> Result<PassedBare, PackageError> {
    let mut clock = Steps { report, since: Instant::now() };
    let bare = Bare::open(directory, id)?;
    clock.passed("hashes", format!("{} files, {}; no manifest vouches for them", bare.manifest.files.len(), bare.manifest.digest));
    let (_, mut engine) = OnnxFactory::open(runtime, &directory.join(MODEL_FILE), options.intra_op_threads)
        .map_err(|error| PackageError::new("graph", MODEL_FILE, error.to_string()))?;
    let signature = engine.signature().clone();
    clock.passed("graph", describe(&signature));
    bare.check(&signature)?;
    clock.passed("config", bare.config.as_ref().map_or_else(|| "none".to_owned(), |_| "fits the graph".to_owned()));
    // Zeros are no input that the graph promises to take: where it doesn't, it is only not warmed.
    let outcome = engine.run(&zeros(&signature));
    clock.passed("warm-up", outcome.as_ref().map_or_else(|error| format!("not with zeros: {error}"), |_| "a run of zeros".to_owned()));
    Ok(PassedBare { bare, engine, warm: outcome.is_ok() })
}

struct Steps<'a> {
    report: &'a mut dyn FnMut(Check),
    since: Instant,
}

impl Steps<'_> {
    fn passed(&mut self, name: &str, detail: String) {
        let elapsed = self.since.elapsed();
        (self.report)(Check { name: name.to_owned(), detail, milliseconds: (elapsed.as_secs_f64() * 1e6).round() / 1e3 });
        self.since = Instant::now();
    }
}

fn describe(signature: &Signature) -> String {
    let side = |specs: &[crate::package::signature::TensorSpec]| {
        specs.iter().map(|spec| format!("{} {}{}", spec.name, spec.datatype, spec.shape)).collect::<Vec<_>>().join(", ")
    };
    format!("{} -> {}", side(&signature.inputs), side(&signature.outputs))
}

/// What graph and package say of batching before any proof.
pub fn declared_batching(parts: &Parts, signature: &Signature, max_batch_size: usize) -> Batching {
    let because = if max_batch_size == 1 {
        "the largest batch is set to 1"
    } else if !signature.is_batchable() {
        "not every input and output of the graph has a free leading dimension"
    } else if parts.serving.batching.independent_rows == Some(false) {
        "serving.json says that rows are not independent"
    } else if parts.golden.len() < 2 && parts.serving.batching.independent_rows.is_none() {
        "there are no golden examples to prove that rows are independent, and serving.json does not say so"
    } else {
        return Batching::Rows;
    };
    Batching::None { because: because.to_owned() }
}

/// A golden example on its way into the graph.
struct GoldenRow {
    line: usize,
    inputs: Tensors,
}

fn golden_rows(parts: &Parts, transform: &Transform, signature: &Signature) -> Result<Vec<GoldenRow>, PackageError> {
    (0..parts.golden.len()).filter_map(|index| golden_row(parts, transform, signature, index)).collect()
}

/// The golden example at `index`; `None` where there is none.
fn golden_row(parts: &Parts, transform: &Transform, signature: &Signature, index: usize) -> Option<Result<GoldenRow, PackageError>> {
    let example = parts.golden.get(index)?;
    let line = index + 1;
    let wrong = |detail: String| PackageError::new("golden", GOLDEN_FILE, detail).at(&format!("line {line}"));
    let prepare = || {
        let columns = decode_instance(&parts.input, example.input.as_bytes(), &OWN_LIMITS)
            .map_err(|error| wrong(format!("the input is refused by the schema: {}", first_fault(&error))))?;
        let inputs = transform.prepare(&columns).map_err(|faults| {
            let first = faults.first().map(|fault| format!("{}: {}", fault.field, fault.detail)).unwrap_or_default();
            wrong(format!("the input can't be preprocessed: {first}"))
        })?;
        signature.check_inputs(&inputs).map_err(|error| PackageError::new("preprocessing", PREPROCESSING_FILE, error.to_string()))?;
        Ok(GoldenRow { line, inputs })
    };
    Some(prepare())
}

fn first_fault(error: &DecodeError) -> String {
    match error {
        DecodeError::Malformed { detail } => detail.clone(),
        DecodeError::Invalid { faults, .. } => {
            faults.first().map(|fault| format!("{} {}", fault.pointer, fault.detail)).unwrap_or_default()
        }
    }
}

/// One run of `rows` rows: of the example where there is one, else of zeros.
fn warm_up(
    engine: &mut dyn Engine,
    transform: &Transform,
    signature: &Signature,
    example: Option<&Tensors>,
    rows: usize,
) -> Result<(), PackageError> {
    let failed = |detail: String| PackageError::new("warm-up", MODEL_FILE, format!("a run of {rows} rows failed: {detail}"));
    let one = example.cloned().unwrap_or_else(|| zeros(signature));
    let batch = match rows {
        1 => one.clone(),
        _ => join(&vec![&one; rows]).ok_or_else(|| failed("its rows don't fit together".to_owned()))?,
    };
    let outputs = engine.run(&batch).map_err(|error| failed(error.to_string()))?;
    // Without an example the input is none that the model promises to answer well.
    if example.is_some() {
        transform.interpret(&outputs, rows).map_err(|fault| failed(fault.to_string()))?;
    }
    Ok(())
}

/// One row of zeros, false and empty texts; free dimensions are 1.
pub fn zeros(signature: &Signature) -> Tensors {
    let tensor = |shape: Vec<usize>, spec: &crate::package::signature::TensorSpec| {
        let elements = shape.iter().product();
        Tensor::new(shape, Data::zeros(spec.datatype, elements))
    };
    let shape = |spec: &crate::package::signature::TensorSpec| {
        spec.shape
            .0
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => *size,
                Dim::Any => 1,
            })
            .collect()
    };
    Tensors(signature.inputs.iter().filter_map(|spec| Some((spec.name.clone(), tensor(shape(spec), spec)?))).collect())
}

/// Every golden example by itself; gives what the model answered.
fn replay(engine: &mut dyn Engine, parts: &Parts, transform: &Transform, rows: &[GoldenRow]) -> Result<Vec<Value>, PackageError> {
    let mut answers = Vec::with_capacity(rows.len());
    for (row, example) in rows.iter().zip(&parts.golden) {
        let wrong = |detail: String| PackageError::new("golden", GOLDEN_FILE, detail).at(&format!("line {}", row.line));
        let outputs = engine.run(&row.inputs).map_err(|error| wrong(error.to_string()))?;
        let outputs = transform.interpret(&outputs, 1).map_err(|fault| wrong(fault.to_string()))?;
        let answer = answer(&outputs, 0);
        golden::compare(&example.output, &answer, example.tolerance).map_err(|mismatch| {
            wrong(format!(
                "output {}: expected {}, got {} (tolerance {})",
                mismatch.pointer, mismatch.expected, mismatch.actual, example.tolerance
            ))
        })?;
        decode_instance(&parts.output, answer.to_string().as_bytes(), &OWN_LIMITS).map_err(|error| {
            PackageError::new(
                "schema",
                SCHEMA_FILE,
                format!("golden example {}: the answer does not fit: {}", row.line, first_fault(&error)),
            )
            .at("/output")
        })?;
        answers.push(answer);
    }
    Ok(answers)
}

fn answer(outputs: &Outputs, row: usize) -> Value {
    outputs.to_value(row)
}

/// All golden examples together must answer as they did alone, within their tolerance.
fn prove_batching(
    engine: &mut dyn Engine,
    parts: &Parts,
    transform: &Transform,
    rows: &[GoldenRow],
    alone: &[Value],
    max_batch_size: usize,
) -> Result<(), String> {
    for chunk in rows.chunks(max_batch_size) {
        let Some(batch) = join(&chunk.iter().map(|row| &row.inputs).collect::<Vec<_>>()) else {
            // Rows of different shapes never share a run.
            continue;
        };
        let outputs = engine.run(&batch).map_err(|error| format!("the golden examples fail in one batch: {error}"))?;
        let outputs =
            transform.interpret(&outputs, chunk.len()).map_err(|fault| format!("the golden examples fail in one batch: {fault}"))?;
        for (index, row) in chunk.iter().enumerate() {
            let (Some(expected), Some(example)) = (alone.get(row.line - 1), parts.golden.get(row.line - 1)) else { continue };
            golden::compare(expected, &answer(&outputs, index), example.tolerance).map_err(|mismatch| {
                format!(
                    "golden example {} answers otherwise beside others ({}: {} alone, {} in a batch)",
                    row.line, mismatch.pointer, mismatch.expected, mismatch.actual
                )
            })?;
        }
    }
    Ok(())
}

/// What the gate ran first: the server warms its engines with it and with nothing that the gate did not try.
pub fn first_run(parts: &Parts, transform: &Transform, signature: &Signature) -> Result<Tensors, PackageError> {
    match golden_row(parts, transform, signature, 0) {
        Some(row) => Ok(row?.inputs),
        None => Ok(zeros(signature)),
    }
}
