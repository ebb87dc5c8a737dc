//! Finds the outputs of a bare graph that do not have one row per row of the inputs.

use std::collections::BTreeMap;

use crate::{
    engine::{Engine, infer::OnnxEngine},
    graph::{GraphAnalysis, flow::Mixing, row_report::OutputRows},
    registry::gate::{RESPONSE_SIZES, repeat_rows},
    tensor::{
        Dim, Tensors, join,
        signature::{Signature, TensorSpec},
    },
};

/// Returns these outputs by name, with the reason. A protocol with rows can't know which part of
/// such an output belongs to which row.
pub(super) fn outputs_without_rows(
    engine: &mut OnnxEngine,
    signature: &Signature,
    analysis: &GraphAnalysis,
    rows: &[Tensors],
) -> BTreeMap<String, String> {
    if let Some(time) = &analysis.time_first {
        let outputs = signature.outputs.iter();
        return outputs
            .map(|spec| (spec.name.to_string(), time.clone()))
            .collect();
    }
    let runs = SampleRuns::make(engine, rows);
    let mut without = BTreeMap::new();
    for (name, analysed) in &analysis.report.outputs {
        if let Some(spec) = signature.output(name)
            && let Some(reason) = runs.objection(spec, analysed)
        {
            without.insert(name.clone(), reason);
        }
    }
    without
}

/// The outputs of runs with different numbers of rows.
struct SampleRuns {
    /// The number of rows of the inputs, and the outputs of the run.
    runs: Vec<(usize, Tensors)>,
    /// The number of rows in one request. A graph may have a fixed number of rows.
    rows_per_request: usize,
}

impl SampleRuns {
    /// Runs the graph. Failed runs are omitted: not every graph accepts zeros, or more than one
    /// row.
    fn make(engine: &mut OnnxEngine, rows: &[Tensors]) -> SampleRuns {
        let rows_per_request = rows.first().map_or(1, Tensors::rows);
        let mut runs = Vec::new();
        for count in RESPONSE_SIZES {
            let batch = join(&repeat_rows(rows, count));
            if let Some(outputs) = batch.and_then(|batch| engine.run(&batch).ok()) {
                runs.push((count * rows_per_request, outputs));
            }
        }
        SampleRuns {
            runs,
            rows_per_request,
        }
    }

    /// Why the output does not have one row per row of the inputs. `None` if it does.
    fn objection(&self, spec: &TensorSpec, analysed: &OutputRows) -> Option<String> {
        let follows = self.follows_rows(&spec.name);
        match analysed {
            // The analysis is trusted only if every run agrees with it.
            OutputRows::First if follows => None,
            OutputRows::First => {
                Some("the runtime gives it another first dimension than rows".to_owned())
            }
            OutputRows::Axis(axis) => Some(format!("its rows are along dimension {axis}")),
            OutputRows::Without => Some("it has no dimension of rows".to_owned()),
            OutputRows::Mixed(reason) if reason.kind == Mixing::DataDependent => {
                Some(format!("{} {}", reason.node, reason.effect))
            }
            OutputRows::Mixed(_) if !follows => {
                Some("its first dimension is not that of the rows".to_owned())
            }
            OutputRows::Mixed(_) if self.shows_rows(spec) => None,
            OutputRows::Mixed(_) => {
                Some("nothing shows that its first dimension goes over the rows".to_owned())
            }
        }
    }

    /// Whether the first dimension was the number of rows in every run.
    fn follows_rows(&self, name: &str) -> bool {
        self.runs.iter().all(|(count, outputs)| {
            outputs
                .get(name)
                .is_some_and(|tensor| tensor.shape().first() == Some(count))
        })
    }

    /// Whether the runs show that the first dimension contains the rows. It must be dynamic and
    /// follow several numbers of rows, or be fixed to the number of rows that the graph accepts. A
    /// single run could agree by accident.
    fn shows_rows(&self, spec: &TensorSpec) -> bool {
        match spec.shape.0.first() {
            Some(Dim::Any) => {
                let mut counts = self.runs.iter().map(|(count, _)| *count);
                counts.any(|count| count > self.rows_per_request)
            }
            Some(Dim::Fixed(size)) => *size == self.rows_per_request,
            Some(Dim::Rest) | None => false,
        }
    }
}
