//! `Batching`: whether requests share runs of a version's graph.

use serde::{Deserialize, Serialize};

use crate::{graph::GraphAnalysis, tensor::signature::Signature};

/// Whether rows of several requests may share a run, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Batching {
    #[serde(rename = "rows")]
    Rows,
    #[serde(rename = "none")]
    None { because: String },
}

impl Batching {
    /// `assurance` replaces the proof that the graph itself does not give, for example a statement
    /// in `serving.json`.
    pub(super) fn describe(&self, assurance: Option<&str>) -> String {
        match self {
            Batching::Rows => {
                let proof = assurance.unwrap_or("rows are independent in the graph");
                format!("batched: {proof}, and each row has the same answer in a batch as alone")
            }
            Batching::None { because } => format!("not batched: {because}"),
        }
    }

    pub(super) fn none(because: impl Into<String>) -> Batching {
        Batching::None {
            because: because.into(),
        }
    }
}

/// Decides by the package and the graph alone, before any row is tried in a batch.
///
/// `independent`: whether `serving.json` says that rows are independent.
pub(crate) fn declared_batching(
    independent: Option<bool>,
    analysis: &GraphAnalysis,
    signature: &Signature,
    max_batch_size: usize,
) -> Batching {
    if max_batch_size == 1 {
        // First: with this setting nothing else matters, and nothing needs a proof.
        return Batching::none("the largest batch is set to 1");
    }
    if let Err(error) = signature.check_batch_axes(|output| analysis.report.keeps_rows(output)) {
        // Rows are joined and split along the first dimension.
        return Batching::none(error.to_string());
    }
    if independent == Some(false) {
        return Batching::none("serving.json says that rows are not independent");
    }
    // The author may know what the analysis can't prove.
    match analysis.batching_objection() {
        Some(objection) if independent != Some(true) => Batching::none(objection),
        _ => Batching::Rows,
    }
}
