//! `RowReport`: which outputs of a graph keep the rows of a run apart.

use crate::graph::flow::{Mixing, MixingReason};

/// Maximum number of outputs that an explanation names.
const MAX_NAMED: usize = 4;

/// The dimension of rows of one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputRows {
    /// The rows are along dimension 0. Each block depends only on its row.
    First,
    /// The rows are along another dimension, which has this index.
    Axis(usize),
    /// The output has no dimension of rows: it is the same for every request.
    Without,
    /// The output mixes rows, or may mix them.
    Mixed(MixingReason),
}

/// The dimension of rows of each output, in the graph's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowReport {
    pub outputs: Vec<(String, OutputRows)>,
}

impl RowReport {
    /// Why rows of several requests must not share a run. `None` means that the graph is proved to
    /// keep them apart.
    pub fn batching_objection(&self) -> Option<String> {
        self.outputs.iter().find_map(|(name, rows)| match rows {
            OutputRows::First => None,
            OutputRows::Axis(axis) => Some(format!(
                "output \"{name}\" has the rows along its dimension {axis}, not along the first"
            )),
            OutputRows::Without => Some(format!("output \"{name}\" has no dimension of rows")),
            OutputRows::Mixed(reason) => Some(self.explain(reason)),
        })
    }

    /// Describes the operator's effect, and the outputs that depend on the operator.
    pub(super) fn explain(&self, reason: &MixingReason) -> String {
        let is_same =
            |rows: &OutputRows| matches!(rows, OutputRows::Mixed(other) if other == reason);
        // One operator often affects several outputs. They share one explanation.
        let names: Vec<String> = self
            .outputs
            .iter()
            .filter(|(_, rows)| is_same(rows))
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let shown = names
            .get(..names.len().min(MAX_NAMED))
            .unwrap_or_default()
            .join(", ");
        let more = if names.len() > MAX_NAMED {
            format!(" and {} more", names.len() - MAX_NAMED)
        } else {
            String::new()
        };
        let outputs = if names.len() == 1 {
            "output"
        } else {
            "outputs"
        };
        format!(
            "{} {} ({outputs} {shown}{more})",
            reason.node, reason.effect
        )
    }

    pub fn output(&self, name: &str) -> Option<&OutputRows> {
        self.outputs
            .iter()
            .find(|(output, _)| output == name)
            .map(|(_, rows)| rows)
    }

    /// Whether an output is proved to have one row per row of the inputs, along its first
    /// dimension.
    pub fn keeps_rows(&self, output: &str) -> bool {
        self.output(output) == Some(&OutputRows::First)
    }

    /// The reason why the graph is proved to mix rows. It overrides any declaration of the package.
    /// `None` means that there is no proof, because the graph keeps rows apart or an operator is
    /// not known.
    pub fn proof_of_mixing(&self) -> Option<String> {
        self.outputs.iter().find_map(|(_, rows)| match rows {
            OutputRows::Mixed(reason) if reason.kind != Mixing::Unknown => {
                Some(self.explain(reason))
            }
            _ => None,
        })
    }

    /// The operator that treats the rows as time steps.
    pub fn time_steps(&self) -> Option<&MixingReason> {
        self.outputs.iter().find_map(|(_, rows)| match rows {
            OutputRows::Mixed(reason) if reason.kind == Mixing::TimeSteps => Some(reason),
            _ => None,
        })
    }
}
