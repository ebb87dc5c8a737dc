//! `Batching`: whether requests share runs of a version's graph.

use serde::{Deserialize, Serialize};

use crate::{graph::GraphAnalysis, tensor::signature::Signature};

/// Whether rows of several requests may share a run. If not, contains the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Batching {
    #[serde(rename = "rows")]
    Rows,
    #[serde(rename = "none")]
    None { because: String },
}

impl Batching {
    /// Describes the result. `assurance` is the reason to batch if the graph itself gives no proof,
    /// for example a statement in `serving.json`.
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

/// Decides from the package and the graph alone, before any row is tried in a batch.
///
/// `independent` is the statement in `serving.json` whether rows are independent.
pub(crate) fn declared_batching(
    independent: Option<bool>,
    analysis: &GraphAnalysis,
    signature: &Signature,
    max_batch_size: usize,
) -> Batching {
    if max_batch_size == 1 {
        // This setting is checked first: if it is 1, no proof is needed.
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
