//! The parts of the Open Inference Protocol v2 with Triton's extensions that HTTP and gRPC share:
//! the values, without their encoding.

mod classification;
mod configuration;
mod metadata;
mod repository_index;
mod statistics;

use std::{sync::Arc, time::Instant};

pub(super) use classification::answer_output;
pub(super) use configuration::{ConfiguredTensor, ModelConfiguration, model_configuration};
pub(super) use metadata::model_metadata;
pub(super) use repository_index::repository_index;
pub(super) use statistics::{ModelStatistics, statistics};

use crate::{
    api::refusal::Refusal,
    error::ErrorCode,
    predict::PredictError,
    registry::{
        Snapshot,
        route::{Target, route},
        servable::Servable,
    },
    tensor::Dim,
};

pub(super) const SERVER_NAME: &str = "predictd";
pub(super) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Triton's names for ONNX models.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";
pub(super) const BACKEND: &str = "onnxruntime";

/// The supported extensions of the protocol. Clients select their calls by this list.
pub(super) const EXTENSIONS: [&str; 7] = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// An output that a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedOutput {
    pub name: String,
    /// Whether its data is sent as bytes. `None`: the option of the request applies.
    pub binary: Option<bool>,
    /// The number of classes to send instead of the values. 0 means the values.
    pub classification: usize,
}

/// Finds the version for a request for a document about a model.
pub(super) fn find(snapshot: &Snapshot, target: Target<'_>) -> Result<Arc<Servable>, Refusal> {
    route(snapshot, target, Instant::now())
        .map(|routed| routed.servable)
        .map_err(|unrouted| {
            let error = PredictError::Route(Box::new(unrouted.error));
            Refusal::new(error.code(), error.to_string())
        })
}

/// Whether a model, or one version of it, answers. Returns an error if it is unknown.
pub(super) fn is_ready(snapshot: &Snapshot, target: Target<'_>) -> Result<bool, Refusal> {
    match find(snapshot, target) {
        // A loaded version is not ready while it can't run requests.
        Ok(servable) => Ok(servable.batcher.unready_reason(Instant::now()).is_none()),
        Err(Refusal {
            code: ErrorCode::NotReady,
            ..
        }) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Converts a dimension to the protocol. A dynamic dimension becomes -1.
pub(super) fn dim_to_wire(dim: Dim) -> i64 {
    match dim {
        Dim::Fixed(size) => i64::try_from(size).unwrap_or(i64::MAX),
        Dim::Any | Dim::Rest => -1,
    }
}

/// The HTTP status of an error in this protocol and in the protocols that follow it. They do not
/// use 422.
pub(super) fn error_status(code: ErrorCode) -> u16 {
    if code == ErrorCode::Invalid {
        400
    } else {
        code.http_status()
    }
}
