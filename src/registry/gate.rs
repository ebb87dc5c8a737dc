//! The load gate: what a package must pass before it may answer. One function, used by `predictd verify` and by the server.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    decode::{DecodeError, DecodeLimits, decode_instance},
    engine::{
        Engine, EngineError, EngineFactory,
        infer::{OnnxEngine, OnnxFactory, Runtime},
        runtime_message,
    },
    graph::{
        GraphAnalysis, class_labels,
        flow::Mixing,
        row_report::{OutputRows, RowReport},
    },
    id::ModelId,
    package::{
        GOLDEN_FILE, MODEL_FILE, ModelPackage, PREPROCESSING_FILE, PackageError, Parts,
        SCHEMA_FILE, Transform,
        bare::BareGraph,
        golden,
        label_check::check_labels,
        manifest::Manifest,
        warmup_instance::{self, InstanceOrigin},
    },
    registry::neighbours::{self, Failure},
    tensor::{
        Dim, Tensors, join,
        signature::{Signature, Symbols, TensorSpec},
    },
    transform::row_fault::RowFault,
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
    /// The graph took the run with which engines are to be warmed.
    pub warm: bool,
}

/// A bare graph that passed.
pub struct PassedBare {
    pub bare: BareGraph,
    pub engine: OnnxEngine,
    /// A run of zeros worked: the server may warm its engines with one.
    pub warm: bool,
    pub batching: Batching,
    /// Outputs that have not a row for each row of the inputs, and why.
    pub without_rows: BTreeMap<String, String>,
    /// What the configuration asks for although the graph objects.
    pub warning: Option<String>,
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
pub const OWN_LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 1,
    max_depth: 64,
    max_array_values: usize::MAX,
};

/// Runs every check in order and stops at the first failure; `report` hears of each one that passed.
pub fn run(
    directory: &std::path::Path,
    runtime: &Runtime,
    options: GateOptions,
    report: &mut dyn FnMut(Check),
) -> Result<Passed, PackageError> {
    let mut clock = Steps {
        report,
        since: Instant::now(),
    };

    let manifest = Manifest::read(directory)?;
    clock.passed(
        "manifest",
        format!("{} {}", manifest.name, manifest.version),
    );
    manifest.check_files(directory)?;
    clock.passed(
        "hashes",
        format!("{} files, {}", manifest.files.len(), manifest.digest),
    );

    let (mut factory, mut engine) = OnnxFactory::open(
        runtime,
        &directory.join(MODEL_FILE),
        options.intra_op_threads,
    )
    .map_err(unloadable)?;
    clock.passed("graph", describe(factory.signature(), factory.symbols()));

    let parts = Parts::read(directory)?;
    clock.passed(
        "schema",
        format!("{} input fields", parts.input.columns().len()),
    );
    factory.feed(|name| parts.feeds(name));
    let about = factory.about().map_err(unloadable)?;
    nameable(&about)?;
    if let Some(time) = &about.time_first {
        return Err(PackageError::new("graph", MODEL_FILE, time.clone()));
    }
    let signature = factory.signature().clone();
    let transform = parts.bind(&signature)?;
    check_labels(
        parts.preprocessing.as_ref(),
        &parts.schema_document,
        &class_labels::to_values(&about.labels),
    )?;
    clock.passed("preprocessing", "fits schema and graph".to_owned());

    let id = manifest.id().ok_or_else(|| {
        PackageError::new("manifest", "manifest.json", "has no valid name and version")
    })?;
    let package = ModelPackage {
        id,
        directory: directory.to_path_buf(),
        manifest,
        parts,
    };
    let max_batch_size = package
        .parts
        .serving
        .batching
        .max_batch_size
        .unwrap_or(options.max_batch_size)
        .min(options.max_batch_size);
    let golden = golden_rows(&package.parts, &transform, &signature)?;
    let declared = package.parts.serving.batching.independent_rows;
    let mut batching = declared_batching(declared, &about, &signature, max_batch_size);

    let warm_rows = match golden.first() {
        Some(first) => Ok((first.inputs.clone(), InstanceOrigin::Documented)),
        None => legal_row(&package.parts, &transform, &signature),
    };
    let warmed = warm_rows.and_then(|(row, origin)| match engine.run(&row) {
        Ok(_) => Ok((row, origin)),
        Err(error) => Err((error.to_string(), origin)),
    });
    let warm = match &warmed {
        Ok((row, _)) => {
            if batching == Batching::Rows {
                warm_up(&mut engine, row, max_batch_size)?;
                clock.passed("warm-up", format!("batches of 1 and {max_batch_size}"));
            } else {
                clock.passed("warm-up", "batches of 1".to_owned());
            }
            true
        }
        Err((detail, InstanceOrigin::Generated)) if !detail.to_lowercase().contains("alloc") => {
            clock.passed("warm-up", warmup_instance::rejected_warning(detail));
            false
        }
        // More memory than there is would be wanted of other rows as well.
        Err((detail, _)) => {
            return Err(match golden.first() {
                Some(row) => wrong_example(row.line, refused(detail)),
                None => PackageError::new(
                    "warm-up",
                    MODEL_FILE,
                    format!("a run of 1 rows failed: {detail}"),
                ),
            });
        }
    };

    replay(&mut engine, &package.parts, &transform, &golden)?;
    let reproduced = if golden.is_empty() {
        "there are none"
    } else {
        "each within its tolerance"
    };
    clock.passed(
        &format!("golden {0}/{0}", golden.len()),
        reproduced.to_owned(),
    );

    let mut rows: Vec<Tensors> = golden.iter().map(|row| row.inputs.clone()).collect();
    let mut tried = rows.clone();
    let mut origin = InstanceOrigin::Documented;
    if let (true, Ok((row, known))) = (rows.is_empty(), warmed) {
        tried = neighbours::variations(&row, &about.vocabulary);
        (rows, origin) = (vec![row], known);
    }
    if batching == Batching::Rows {
        let proof = neighbours::prove(&mut engine, &tried, &about.vocabulary, max_batch_size);
        batching = match (proof, about.report.proof_of_mixing()) {
            (Err(Failure::Shown(because)), _) if declared == Some(true) => {
                return Err(PackageError::new(
                    "neighbours",
                    "serving.json",
                    format!("says that rows are independent, but {because}"),
                )
                .at("/batching/independent_rows"));
            }
            // What could not be tried has not failed.
            (Err(failure), _) => Batching::None {
                because: failure.because(),
            },
            (Ok(()), Some(disproof)) => Batching::None {
                because: format!("serving.json says that rows are independent, but {disproof}"),
            },
            (Ok(()), None) => Batching::Rows,
        };
    }
    let shared = if batching == Batching::Rows {
        max_batch_size
    } else {
        1
    };
    let answers = Answers {
        parts: &package.parts,
        transform: &transform,
        origin,
        shared,
    };
    answers.check(&mut engine, &rows, &about.report)?;
    clock.passed(
        "rows",
        told(
            &batching,
            about.batching_objection().map(|_| "serving.json says so"),
        ),
    );
    Ok(Passed {
        package,
        transform,
        factory,
        engine,
        batching,
        warm,
    })
}

/// The gate for a graph without a manifest: nothing vouches for it, but what can't be loaded never comes near the server.
pub fn run_bare(
    directory: &std::path::Path,
    id: &ModelId,
    runtime: &Runtime,
    options: GateOptions,
    report: &mut dyn FnMut(Check),
) -> Result<PassedBare, PackageError> {
    let mut clock = Steps {
        report,
        since: Instant::now(),
    };
    let bare = BareGraph::open(directory, id)?;
    clock.passed(
        "hashes",
        format!(
            "{} files, {}; no manifest vouches for them",
            bare.manifest.files.len(),
            bare.manifest.digest
        ),
    );
    let (factory, mut engine) = OnnxFactory::open(
        runtime,
        &directory.join(MODEL_FILE),
        options.intra_op_threads,
    )
    .map_err(unloadable)?;
    let signature = engine.signature().clone();
    if signature.outputs.is_empty() {
        return Err(PackageError::new(
            "graph",
            MODEL_FILE,
            "gives no output: there is nothing to answer with",
        ));
    }
    let about = factory.about().map_err(unloadable)?;
    nameable(&about)?;
    clock.passed("graph", describe(&signature, factory.symbols()));
    bare.check(&signature)?;
    let signature = bare.refined(&signature);
    clock.passed(
        "config",
        bare.config
            .as_ref()
            .map_or_else(|| "none".to_owned(), |_| "fits the graph".to_owned()),
    );
    // Zeros are no input that the graph promises to take: where it doesn't, it is only not warmed.
    let row = zeros(&signature);
    let outcome = engine.run(&row);
    clock.passed(
        "warm-up",
        outcome.as_ref().map_or_else(
            |error| format!("not with zeros: {error}"),
            |_| "a run of zeros".to_owned(),
        ),
    );
    let warm = outcome.is_ok();

    let rows: &[Tensors] = if warm {
        std::slice::from_ref(&row)
    } else {
        &[]
    };
    let without_rows = without_rows(&mut engine, &signature, &about, rows);
    let tried = rows
        .first()
        .map(|row| neighbours::variations(row, &about.vocabulary))
        .unwrap_or_default();
    let mut warning = None;
    let rows_first = signature
        .check_batch_axes(|output| about.report.keeps_rows(output))
        .map_err(|error| error.to_string());
    let batching = match rows_first.and_then(|()| {
        bare.batching(options.max_batch_size)
            .map_err(|forbidden| forbidden.to_string())
    }) {
        Err(because) => Batching::None { because },
        Ok(limit) => match (
            about.batching_objection(),
            neighbours::prove(&mut engine, &tried, &about.vocabulary, limit),
        ) {
            (None, Ok(())) => Batching::Rows,
            (Some(objection), Ok(()))
                if bare.requests_batching() && about.report.proof_of_mixing().is_none() =>
            {
                warning = Some(format!(
                    "config.pbtxt asks for dynamic_batching, though {objection}"
                ));
                Batching::Rows
            }
            // The operator says more than what it did to one row.
            (Some(because), _) => {
                warning = bare.requests_batching().then(|| {
                    format!("config.pbtxt asks for dynamic_batching, which is not done: {because}")
                });
                Batching::None { because }
            }
            (None, Err(failure)) => Batching::None {
                because: failure.because(),
            },
        },
    };
    clock.passed("rows", told(&batching, warning.as_deref()));
    Ok(PassedBare {
        bare,
        engine,
        warm,
        batching,
        without_rows,
        warning,
    })
}

/// Callers name inputs and outputs.
fn nameable(about: &GraphAnalysis) -> Result<(), PackageError> {
    let Some(name) = &about.nul_name else {
        return Ok(());
    };
    let detail = format!(
        "has an input or output \"{name}\": a name with a NUL can't be served; rename it in the export"
    );
    Err(PackageError::new("graph", MODEL_FILE, detail))
}

/// `count` of the rows, again from the first where they are fewer; none where there is none.
fn some(rows: &[Tensors], count: usize) -> Vec<&Tensors> {
    rows.iter().cycle().take(count).collect()
}

/// Numbers of rows at which an answer is built.
const SHOWN_AT: [usize; 4] = [1, 2, 3, 5];

/// Outputs of which a row protocol could not tell whose row is whose.
fn without_rows(
    engine: &mut OnnxEngine,
    signature: &Signature,
    about: &GraphAnalysis,
    rows: &[Tensors],
) -> BTreeMap<String, String> {
    let mut without = BTreeMap::new();
    if let Some(time) = &about.time_first {
        without.extend(
            signature
                .outputs
                .iter()
                .map(|spec| (spec.name.to_string(), time.clone())),
        );
        return without;
    }
    // A graph may fix how many rows it takes.
    let each = rows.first().map_or(1, Tensors::rows);
    let mut counted: Vec<(usize, Tensors)> = Vec::new();
    for count in SHOWN_AT {
        if let Some(outputs) = join(&some(rows, count)).and_then(|batch| engine.run(&batch).ok()) {
            counted.push((count * each, outputs));
        }
    }
    for (name, known) in &about.report.outputs {
        let Some(spec) = signature.output(name) else {
            continue;
        };
        let shown = counted.iter().all(|(count, outputs)| {
            outputs
                .get(name)
                .is_some_and(|tensor| tensor.shape().first() == Some(count))
        });
        let several = counted.iter().any(|(count, _)| *count > each);
        let free = spec.shape.0.first() == Some(&Dim::Any);
        let one = spec.shape.0.first() == Some(&Dim::Fixed(each));
        let because = match known {
            OutputRows::First if shown => continue,
            OutputRows::Mixed(reason)
                if reason.kind != Mixing::DataDependent && shown && (several && free || one) =>
            {
                continue;
            }
            OutputRows::First => {
                "the runtime gives it another first dimension than rows".to_owned()
            }
            OutputRows::Axis(axis) => format!("its rows lie along dimension {axis}"),
            OutputRows::Without => "it has no dimension of rows".to_owned(),
            OutputRows::Mixed(reason) if reason.kind == Mixing::DataDependent => {
                format!("{} {}", reason.node, reason.effect)
            }
            OutputRows::Mixed(_) if !shown => {
                "its first dimension is not that of the rows".to_owned()
            }
            OutputRows::Mixed(_) => {
                "nothing shows that its first dimension goes over the rows".to_owned()
            }
        };
        without.insert(name.clone(), because);
    }
    without
}

/// Whole answers, through postprocessing and the output schema, as the server builds them.
struct Answers<'a> {
    parts: &'a Parts,
    transform: &'a Transform,
    origin: InstanceOrigin,
    /// Rows that share a run.
    shared: usize,
}

impl Answers<'_> {
    fn check(
        &self,
        engine: &mut OnnxEngine,
        rows: &[Tensors],
        report: &RowReport,
    ) -> Result<(), PackageError> {
        for source in self
            .transform
            .postprocess
            .sources()
            .filter(|source| !source.rearranged)
        {
            let way_out = "begin its output steps with `take` (one index of an axis) or `transpose`, so that its first dimension goes over \
                           the rows, or export one output for each";
            let because = match report.output(source.output) {
                Some(OutputRows::Axis(axis)) => format!("has its rows along dimension {axis}: {way_out}"),
                Some(OutputRows::Without) => {
                    "has no dimension of rows: leave it out of the outputs, or export the model without it".to_owned()
                }
                Some(OutputRows::Mixed(reason)) if reason.kind == Mixing::DataDependent => {
                    format!("is no answer a row: {} {}; serve it as a bare repository over a tensor protocol", reason.node, reason.effect)
                }
                _ => continue,
            };
            let detail = format!("the graph's output \"{}\" {because}", source.output);
            return Err(PackageError::new("outputs", PREPROCESSING_FILE, detail)
                .at(&format!("/outputs/{}", source.field)));
        }
        for count in SHOWN_AT {
            for run in some(rows, count).chunks(self.shared) {
                // Rows of different shapes never share a run, and rows that somebody made up may be refused.
                let Some(batch) = join(run) else { continue };
                let Ok(outputs) = engine.run(&batch) else {
                    continue;
                };
                self.answer(&outputs, run.len(), count, report)?;
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        outputs: &Tensors,
        rows: usize,
        count: usize,
        report: &RowReport,
    ) -> Result<(), PackageError> {
        let written = self.origin == InstanceOrigin::Documented;
        let outputs = match self.transform.interpret(outputs, rows) {
            Ok(outputs) => outputs,
            // A made-up row may well have no finite answer.
            Err(fault) if fault.not_finite() && !written => return Ok(()),
            Err(fault) => {
                let output = self
                    .transform
                    .postprocess
                    .sources()
                    .find(|source| source.field == fault.field)
                    .map(|source| source.output);
                let why = match output.and_then(|output| report.output(output)) {
                    _ if fault.not_finite() => {
                        ": where the row has no value, `impute` it; or let the output schema allow null for such an answer".to_owned()
                    }
                    Some(OutputRows::Mixed(reason)) => {
                        format!(" ({} {}); export the model with a row of each output for each row of the inputs", reason.node, reason.effect)
                    }
                    _ => String::new(),
                };
                let detail = format!("no answer can be built for {count} rows: {fault}{why}");
                return Err(PackageError::new("outputs", PREPROCESSING_FILE, detail).at("/outputs"));
            }
        };
        for row in 0..rows {
            let text = outputs.to_value(row).to_string();
            let Err(error) = decode_instance(&self.parts.output, text.as_bytes(), &OWN_LIMITS)
            else {
                continue;
            };
            let structural = |error: &DecodeError| match error {
                DecodeError::Malformed { .. } => true,
                DecodeError::Invalid { faults, .. } => faults.iter().any(|fault| {
                    matches!(
                        fault.keyword,
                        "type"
                            | "required"
                            | "additionalProperties"
                            | "minItems"
                            | "maxItems"
                            | "items"
                            | "prefixItems"
                    )
                }),
            };
            if written || structural(&error) {
                let detail = format!(
                    "an answer to {count} rows does not fit: {}",
                    first_fault(&error)
                );
                return Err(PackageError::new("schema", SCHEMA_FILE, detail).at("/output"));
            }
        }
        Ok(())
    }
}

fn unloadable(error: EngineError) -> PackageError {
    PackageError::new("graph", MODEL_FILE, error.to_string())
}

/// Whether requests share runs; `instead` is what stands for the proof that the graph does not give.
fn told(batching: &Batching, instead: Option<&str>) -> String {
    match batching {
        Batching::Rows => {
            let proof = instead.unwrap_or("the graph keeps rows apart");
            format!("batched: {proof}, and beside hostile rows each answered as alone")
        }
        Batching::None { because } => format!("not batched: {because}"),
    }
}

struct Steps<'a> {
    report: &'a mut dyn FnMut(Check),
    since: Instant,
}

impl Steps<'_> {
    fn passed(&mut self, name: &str, detail: String) {
        let elapsed = self.since.elapsed();
        (self.report)(Check {
            name: name.to_owned(),
            detail,
            milliseconds: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
        });
        self.since = Instant::now();
    }
}

fn describe(signature: &Signature, symbols: &Symbols) -> String {
    let side = |specs: Vec<(&TensorSpec, &[String])>| {
        specs
            .iter()
            .map(|(spec, names)| format!("{} {}", spec.name, spec.named(names)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    signature.sides(symbols).map(side).join(" -> ")
}

/// What package and graph say of batching before rows are tried beside others.
pub fn declared_batching(
    independent: Option<bool>,
    about: &GraphAnalysis,
    signature: &Signature,
    max_batch_size: usize,
) -> Batching {
    let because = if max_batch_size == 1 {
        "the largest batch is set to 1".to_owned()
    } else if let Err(because) =
        signature.check_batch_axes(|output| about.report.keeps_rows(output))
    {
        because.to_string()
    } else if independent == Some(false) {
        "serving.json says that rows are not independent".to_owned()
    } else {
        match about
            .batching_objection()
            .filter(|_| independent != Some(true))
        {
            None => return Batching::Rows,
            Some(objection) => objection,
        }
    };
    Batching::None { because }
}

/// A golden example on its way into the graph.
struct GoldenRow {
    line: usize,
    inputs: Tensors,
}

fn golden_rows(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
) -> Result<Vec<GoldenRow>, PackageError> {
    (0..parts.golden.len())
        .filter_map(|index| golden_row(parts, transform, signature, index))
        .collect()
}

/// The golden example at `index`; `None` where there is none.
fn golden_row(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
    index: usize,
) -> Option<Result<GoldenRow, PackageError>> {
    let example = parts.golden.get(index)?;
    let line = index + 1;
    let wrong = |detail: String| wrong_example(line, detail);
    let prepare = || {
        let columns = decode_instance(&parts.input, example.input.as_bytes(), &OWN_LIMITS)
            .map_err(|error| {
                wrong(format!(
                    "the input is refused by the schema: {}",
                    first_fault(&error)
                ))
            })?;
        let inputs = transform.prepare(&columns).map_err(|faults| {
            wrong(format!(
                "the input can't be preprocessed: {}",
                first_row_fault(&faults)
            ))
        })?;
        signature.check_inputs(&inputs).map_err(|error| {
            PackageError::new("preprocessing", PREPROCESSING_FILE, error.to_string())
        })?;
        Ok(GoldenRow { line, inputs })
    };
    Some(prepare())
}

fn wrong_example(line: usize, detail: String) -> PackageError {
    PackageError::new("golden", GOLDEN_FILE, detail).at(&format!("line {line}"))
}

/// A failed run, in few words where the graph says what it does not take.
fn refused(detail: &str) -> String {
    runtime_message::rejected_input(detail).map_or_else(
        || detail.to_owned(),
        |refusal| format!("the model's graph refuses this input: {refusal}"),
    )
}

fn first_fault(error: &DecodeError) -> String {
    match error {
        DecodeError::Malformed { detail } => detail.to_string(),
        DecodeError::Invalid { faults, .. } => faults
            .first()
            .map(|fault| format!("{} {}", fault.pointer, fault.detail))
            .unwrap_or_default(),
    }
}

fn first_row_fault(faults: &[RowFault]) -> String {
    faults
        .first()
        .map(|fault| format!("{}: {}", fault.field, fault.detail))
        .unwrap_or_default()
}

/// One run of `rows` equal rows.
fn warm_up(engine: &mut dyn Engine, row: &Tensors, rows: usize) -> Result<(), PackageError> {
    let failed = |detail: String| {
        PackageError::new(
            "warm-up",
            MODEL_FILE,
            format!("a run of {rows} rows failed: {detail}"),
        )
    };
    let batch =
        join(&vec![row; rows]).ok_or_else(|| failed("its rows don't fit together".to_owned()))?;
    engine
        .run(&batch)
        .map(drop)
        .map_err(|error| failed(error.to_string()))
}

/// A row that the schema allows, where no golden example is there; the inner error is a refusal of it.
fn legal_row(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
) -> Result<(Tensors, InstanceOrigin), (String, InstanceOrigin)> {
    let (instance, origin) = warmup_instance::instance(&parts.input, parts.profile.as_ref());
    let columns = decode_instance(&parts.input, instance.as_bytes(), &OWN_LIMITS)
        .map_err(|error| (first_fault(&error), origin))?;
    let inputs = transform
        .prepare(&columns)
        .map_err(|faults| (first_row_fault(&faults), origin))?;
    signature
        .check_inputs(&inputs)
        .map_err(|error| (error.to_string(), origin))?;
    Ok((inputs, origin))
}

/// One row of zeros, false and empty texts; free dimensions are 1.
pub fn zeros(signature: &Signature) -> Tensors {
    signature.zeros()
}

/// Every golden example by itself.
fn replay(
    engine: &mut dyn Engine,
    parts: &Parts,
    transform: &Transform,
    rows: &[GoldenRow],
) -> Result<(), PackageError> {
    for (row, example) in rows.iter().zip(&parts.golden) {
        let outputs = engine
            .run(&row.inputs)
            .map_err(|error| wrong_example(row.line, refused(&error.to_string())))?;
        let outputs = transform
            .interpret(&outputs, 1)
            .map_err(|fault| wrong_example(row.line, fault.to_string()))?;
        let answer = outputs.to_value(0);
        golden::compare(&example.output, &answer, example.tolerance).map_err(|mismatch| {
            wrong_example(
                row.line,
                format!(
                    "output {}: expected {}, got {} (tolerance {})",
                    mismatch.pointer, mismatch.expected, mismatch.actual, example.tolerance
                ),
            )
        })?;
        decode_instance(&parts.output, answer.to_string().as_bytes(), &OWN_LIMITS).map_err(
            |error| {
                PackageError::new(
                    "schema",
                    SCHEMA_FILE,
                    format!(
                        "golden example {}: the answer does not fit: {}",
                        row.line,
                        first_fault(&error)
                    ),
                )
                .at("/output")
            },
        )?;
    }
    Ok(())
}

/// What the gate ran first: the server warms its engines with it and with nothing that the gate did not try.
pub fn first_run(
    parts: &Parts,
    transform: &Transform,
    signature: &Signature,
) -> Result<Tensors, PackageError> {
    match golden_row(parts, transform, signature, 0) {
        Some(row) => Ok(row?.inputs),
        None => legal_row(parts, transform, signature)
            .map(|(row, _)| row)
            .map_err(|(detail, _)| PackageError::new("warm-up", MODEL_FILE, detail)),
    }
}
