//! The checks of a package.

use std::path::Path;

use crate::{
    engine::{
        Engine, EngineFactory,
        infer::{OnnxEngine, OnnxFactory, Runtime},
    },
    error::{counted, text_with_sources},
    graph::{GraphAnalysis, class_labels},
    package::{
        MODEL_FILE, ModelPackage, PackageCheck, PackageError, Parts, Transform,
        label_check::check_labels,
        manifest::{self, Manifest},
        warmup_instance::{self, InstanceOrigin},
    },
    registry::gate::{
        Batching, CheckReporter, GateOptions, PassedCheck,
        answer_check::AnswerCheck,
        check_names, declared_batching, describe_signature,
        golden_rows::{
            GoldenRow, WarmUpFailure, WarmUpFault, describe_failure, generated_row, golden_rows,
            replay,
        },
        graph_error,
        row_independence::{self, Dependence},
    },
    tensor::{Tensors, join, signature::Signature},
};

/// A package that passed the gate, with the engine that ran its checks.
pub(crate) struct PassedPackage {
    pub package: ModelPackage,
    pub engine: OnnxEngine,
    pub batching: Batching,
    /// Whether the graph accepted the row with which the server warms its engines.
    pub warm: bool,
}

/// Runs every check in order, and stops at the first failure. `report` is called with each check
/// that passed.
pub(crate) fn check_package(
    directory: &Path,
    runtime: &Runtime,
    options: GateOptions,
    report: &mut dyn FnMut(PassedCheck),
) -> Result<PassedPackage, PackageError> {
    let mut reporter = CheckReporter::new(report);
    let manifest = check_files(directory, &mut reporter)?;
    let mut opened = OpenedPackage::open(directory, manifest, runtime, options, &mut reporter)?;
    // The golden rows are read before the warm-up, because the first of them warms the engine.
    let golden = golden_rows(&opened.package.parts, &opened.transform, &opened.signature)?;
    let declared = opened.declared_batching();
    let warm_up = opened.warm_up(&golden, &declared, &mut reporter)?;
    replay(
        &mut opened.engine,
        &opened.package.parts,
        &opened.transform,
        &golden,
    )?;
    let reproduced = if golden.is_empty() {
        "the package has no golden examples"
    } else {
        "each within its tolerance"
    };
    reporter.passed(&format!("golden {0}/{0}", golden.len()), reproduced);

    let rows = TestRows::of(&golden, warm_up.as_ref(), &opened.analysis);
    let batching = opened.proved_batching(declared, &rows.perturbed)?;
    let answers = AnswerCheck {
        parts: &opened.package.parts,
        transform: &opened.transform,
        report: &opened.analysis.report,
        origin: rows.origin,
        rows_per_run: match batching {
            Batching::Rows => opened.max_batch_size,
            Batching::None { .. } => 1,
        },
    };
    answers.check(&mut opened.engine, &rows.rows)?;
    let assurance = opened.analysis.batching_objection();
    reporter.passed(
        "rows",
        batching.describe(assurance.map(|_| "serving.json says so")),
    );
    Ok(PassedPackage {
        package: opened.package,
        engine: opened.engine,
        batching,
        warm: warm_up.is_some(),
    })
}

/// Runs the checks that are cheap and do not need the runtime.
fn check_files(
    directory: &Path,
    reporter: &mut CheckReporter<'_>,
) -> Result<Manifest, PackageError> {
    let manifest = Manifest::read(directory)?;
    reporter.passed(
        "manifest",
        format!("{} {}", manifest.name, manifest.version),
    );
    // The hashes are checked before the graph is loaded: the runtime must never read unverified
    // bytes.
    manifest.check_files(directory)?;
    reporter.passed(
        "hashes",
        format!(
            "{}, {}",
            counted(manifest.files.len(), "file"),
            manifest.digest
        ),
    );
    Ok(manifest)
}

/// A package whose hashes matched and whose documents are consistent. The remaining checks run its
/// graph.
struct OpenedPackage {
    package: ModelPackage,
    transform: Transform,
    engine: OnnxEngine,
    signature: Signature,
    analysis: GraphAnalysis,
    /// Maximum number of rows in one run.
    max_batch_size: usize,
}

impl OpenedPackage {
    fn open(
        directory: &Path,
        manifest: Manifest,
        runtime: &Runtime,
        options: GateOptions,
        reporter: &mut CheckReporter<'_>,
    ) -> Result<OpenedPackage, PackageError> {
        let (mut factory, engine) = OnnxFactory::open(
            runtime,
            &directory.join(MODEL_FILE),
            options.intra_op_threads,
        )
        .map_err(graph_error)?;
        reporter.passed(
            "graph",
            describe_signature(factory.signature(), factory.symbols()),
        );

        let parts = Parts::read(directory)?;
        reporter.passed(
            "schema",
            format!("{} input fields", parts.input.columns().len()),
        );
        // The optional inputs that the package sets change the signature, and the analysis of the
        // rows.
        factory.feed(|name| parts.feeds(name));
        let analysis = factory.about().map_err(graph_error)?;
        check_names(&analysis)?;
        if let Some(time) = &analysis.time_first {
            return Err(PackageError::new(
                PackageCheck::Graph,
                MODEL_FILE,
                time.clone(),
            ));
        }
        let signature = factory.signature().clone();
        let transform = parts.bind(&signature)?;
        check_labels(
            parts.preprocessing.as_ref(),
            &parts.schema_document,
            &class_labels::to_values(&analysis.labels),
        )?;
        reporter.passed("preprocessing", "fits schema and graph");

        let id = manifest.id().ok_or_else(|| {
            PackageError::new(
                PackageCheck::Manifest,
                manifest::FILE,
                "has no valid name and version",
            )
        })?;
        let own_limit = parts.serving.batching.max_batch_size;
        Ok(OpenedPackage {
            max_batch_size: own_limit.map_or(options.max_batch_size, |own| {
                own.min(options.max_batch_size)
            }),
            package: ModelPackage {
                id,
                directory: directory.to_path_buf(),
                manifest,
                parts,
            },
            transform,
            engine,
            signature,
            analysis,
        })
    }

    fn independent_rows(&self) -> Option<bool> {
        self.package.parts.serving.batching.independent_rows
    }

    fn declared_batching(&self) -> Batching {
        declared_batching(
            self.independent_rows(),
            &self.analysis,
            &self.signature,
            self.max_batch_size,
        )
    }

    /// Runs one row, and the largest batch of this row if requests share runs. Returns the row.
    /// Returns `None` if the graph rejects a row that the gate generated: the server does not warm
    /// its engines in this case.
    fn warm_up(
        &mut self,
        golden: &[GoldenRow],
        batching: &Batching,
        reporter: &mut CheckReporter<'_>,
    ) -> Result<Option<(Tensors, InstanceOrigin)>, PackageError> {
        let row = match golden.first() {
            Some(first) => Ok((first.inputs.clone(), InstanceOrigin::Documented)),
            None => generated_row(&self.package.parts, &self.transform, &self.signature),
        };
        let warmed = row.and_then(|(row, origin)| match self.engine.run(&row) {
            Ok(_) => Ok((row, origin)),
            Err(error) => Err(WarmUpFailure {
                fault: error.into(),
                origin,
            }),
        });
        match warmed {
            Ok((row, origin)) => {
                let sizes = if *batching == Batching::Rows {
                    run_batch(&mut self.engine, &row, self.max_batch_size)?;
                    format!("batches of 1 and {}", self.max_batch_size)
                } else {
                    "batches of 1".to_owned()
                };
                reporter.passed("warm-up", sizes);
                Ok(Some((row, origin)))
            }
            Err(failure)
                if failure.origin == InstanceOrigin::Generated && failure.may_depend_on_row() =>
            {
                reporter.passed(
                    "warm-up",
                    warmup_instance::rejected_warning(&text_with_sources(&failure.fault)),
                );
                Ok(None)
            }
            Err(WarmUpFailure { fault, .. }) => Err(match (golden.first(), fault) {
                (Some(row), WarmUpFault::Run(error)) => row.error(describe_failure(&error)),
                (_, fault) => PackageError::caused_by(
                    PackageCheck::WarmUp,
                    MODEL_FILE,
                    "a run of 1 row failed",
                    fault,
                ),
            }),
        }
    }

    /// Tries `rows` in batches, if the package and the graph allow batches.
    fn proved_batching(
        &mut self,
        declared: Batching,
        rows: &[Tensors],
    ) -> Result<Batching, PackageError> {
        if declared != Batching::Rows {
            return Ok(declared);
        }
        let proof = row_independence::prove(
            &mut self.engine,
            rows,
            &self.analysis.vocabulary,
            self.max_batch_size,
        );
        // A proof that rows are mixed takes precedence over runs in which no effect was observed.
        match (proof, self.analysis.report.proof_of_mixing()) {
            // The package makes a statement that its own graph contradicts.
            (Err(Dependence::Shown(because)), _) if self.independent_rows() == Some(true) => {
                Err(PackageError::new(
                    PackageCheck::Neighbours,
                    "serving.json",
                    format!("says that rows are independent, but {because}"),
                )
                .at("/batching/independent_rows"))
            }
            // A missing proof is not an error of the package. The package is served without
            // batches.
            (Err(dependence), _) => Ok(Batching::none(dependence.because())),
            (Ok(()), Some(disproof)) => Ok(Batching::none(format!(
                "serving.json says that rows are independent, but {disproof}"
            ))),
            (Ok(()), None) => Ok(Batching::Rows),
        }
    }
}

/// The rows on which the gate tests batches and whole responses.
struct TestRows {
    rows: Vec<Tensors>,
    /// The rows that are tried in batches. They include variations of single rows.
    perturbed: Vec<Tensors>,
    origin: InstanceOrigin,
}

impl TestRows {
    /// The golden examples. Without examples, the row of the warm-up and its variations.
    fn of(
        golden: &[GoldenRow],
        warm_up: Option<&(Tensors, InstanceOrigin)>,
        analysis: &GraphAnalysis,
    ) -> TestRows {
        match warm_up {
            Some((row, origin)) if golden.is_empty() => TestRows {
                rows: vec![row.clone()],
                perturbed: row_independence::variations(row, &analysis.vocabulary),
                origin: *origin,
            },
            _ => {
                let rows: Vec<Tensors> = golden.iter().map(|row| row.inputs.clone()).collect();
                TestRows {
                    perturbed: rows.clone(),
                    rows,
                    origin: InstanceOrigin::Documented,
                }
            }
        }
    }
}

/// One run of `count` equal rows.
fn run_batch(engine: &mut dyn Engine, row: &Tensors, count: usize) -> Result<(), PackageError> {
    let failed = format!("a run of {count} rows failed");
    let batch = join(&vec![row; count]).ok_or_else(|| {
        let detail = format!("{failed}: its rows don't fit together");
        PackageError::new(PackageCheck::WarmUp, MODEL_FILE, detail)
    })?;
    engine
        .run(&batch)
        .map(drop)
        .map_err(|error| PackageError::caused_by(PackageCheck::WarmUp, MODEL_FILE, &failed, error))
}
