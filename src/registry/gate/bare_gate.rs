//! The checks of a graph without a manifest. Its files are not verified, but a graph that can't be
//! loaded or run must not reach the server.

use std::{collections::BTreeMap, path::Path};

use crate::{
    engine::{
        Engine, EngineFactory,
        infer::{OnnxEngine, OnnxFactory, Runtime},
    },
    error::{counted, text_with_sources},
    graph::GraphAnalysis,
    id::ModelId,
    package::{
        MODEL_FILE, PackageCheck, PackageError,
        bare::{BareGraph, NoBatches},
    },
    registry::gate::{
        Batching, CheckReporter, GateOptions, PassedCheck, check_names, describe_signature,
        graph_error, output_rows::outputs_without_rows, row_independence,
    },
    tensor::{Tensors, signature::Signature},
};

/// A bare graph that passed the gate.
pub(crate) struct PassedGraph {
    pub bare: BareGraph,
    pub engine: OnnxEngine,
    /// Whether a run of zeros succeeded, so that the server may warm its engines with zeros.
    pub warm: bool,
    pub batching: Batching,
    /// Outputs that do not have one row per row of the inputs, with the reason.
    pub without_rows: BTreeMap<String, String>,
    /// A setting of the configuration that the graph does not allow. `None` if there is no such
    /// setting.
    pub warning: Option<String>,
}

/// Runs every check in order, and stops at the first failure. `report` is called with each check
/// that passed.
pub(crate) fn check_graph(
    directory: &Path,
    id: &ModelId,
    runtime: &Runtime,
    options: GateOptions,
    report: &mut dyn FnMut(PassedCheck),
) -> Result<PassedGraph, PackageError> {
    let mut reporter = CheckReporter::new(report);
    let bare = BareGraph::open(directory, id)?;
    reporter.passed(
        "hashes",
        format!(
            "{}, {}; no manifest vouches for them",
            counted(bare.manifest.files.len(), "file"),
            bare.manifest.digest
        ),
    );
    let (factory, mut engine) = OnnxFactory::open(
        runtime,
        &directory.join(MODEL_FILE),
        options.intra_op_threads,
    )
    .map_err(graph_error)?;
    let analysis = analyse(&factory, engine.signature())?;
    reporter.passed(
        "graph",
        describe_signature(engine.signature(), factory.symbols()),
    );
    // A configuration that contradicts the graph would make every request fail.
    bare.check(engine.signature())?;
    let signature = bare.refined(engine.signature());
    let config = match bare.config {
        Some(_) => "fits the graph",
        None => "none",
    };
    reporter.passed("config", config);

    // A graph may reject zeros. If it does, its engines are not warmed.
    let row = signature.zeros();
    let warmed = engine.run(&row);
    reporter.passed(
        "warm-up",
        match &warmed {
            Ok(_) => "a run of zeros".to_owned(),
            Err(error) => format!("not with zeros: {}", text_with_sources(error)),
        },
    );
    let warm = warmed.is_ok();
    // A row that the graph rejects gives no information about its outputs.
    let rows = if warm { vec![row] } else { Vec::new() };
    let without_rows = outputs_without_rows(&mut engine, &signature, &analysis, &rows);
    let graph = CheckedGraph {
        bare: &bare,
        signature: &signature,
        analysis: &analysis,
        max_batch_size: options.max_batch_size,
    };
    let (batching, warning) = graph.batching(&mut engine, &rows);
    reporter.passed("rows", batching.describe(warning.as_deref()));
    Ok(PassedGraph {
        bare,
        engine,
        warm,
        batching,
        without_rows,
        warning,
    })
}

fn analyse(factory: &OnnxFactory, signature: &Signature) -> Result<GraphAnalysis, PackageError> {
    if signature.outputs.is_empty() {
        return Err(PackageError::new(
            PackageCheck::Graph,
            MODEL_FILE,
            "gives no output: a response would be empty",
        ));
    }
    let analysis = factory.about().map_err(graph_error)?;
    check_names(&analysis)?;
    Ok(analysis)
}

/// The inputs of the decision whether a bare graph is batched.
struct CheckedGraph<'a> {
    bare: &'a BareGraph,
    signature: &'a Signature,
    analysis: &'a GraphAnalysis,
    max_batch_size: usize,
}

impl CheckedGraph<'_> {
    /// Whether requests share runs, and a warning if the configuration and the graph disagree.
    fn batching(&self, engine: &mut OnnxEngine, rows: &[Tensors]) -> (Batching, Option<String>) {
        let limit = match self.batch_limit() {
            Ok(limit) => limit,
            Err(because) => return (Batching::none(because.to_string()), None),
        };
        let vocabulary = &self.analysis.vocabulary;
        let perturbed = rows
            .first()
            .map(|row| row_independence::variations(row, vocabulary))
            .unwrap_or_default();
        let proof = row_independence::prove(engine, &perturbed, vocabulary, limit);
        let requested = self.bare.requests_batching();
        match (self.analysis.batching_objection(), proof) {
            (None, Ok(())) => (Batching::Rows, None),
            (None, Err(dependence)) => (Batching::none(dependence.because()), None),
            // The analysis has no proof. But the author requested batches, and the test runs
            // confirm them.
            (Some(objection), Ok(()))
                if requested && self.analysis.report.proof_of_mixing().is_none() =>
            {
                let warning = format!("config.pbtxt asks for dynamic_batching, though {objection}");
                (Batching::Rows, Some(warning))
            }
            // The objection names an operator of the graph, which is more helpful than the outcome
            // of a run.
            (Some(objection), _) => {
                let warning = requested.then(|| {
                    format!(
                        "config.pbtxt asks for dynamic_batching, which is not done: {objection}"
                    )
                });
                (Batching::none(objection), warning)
            }
        }
    }

    /// The maximum number of rows that may share a run, if they are independent.
    fn batch_limit(&self) -> Result<usize, NoBatches> {
        self.signature
            .check_batch_axes(|output| self.analysis.report.keeps_rows(output))?;
        Ok(self.bare.batching(self.max_batch_size)?)
    }
}
