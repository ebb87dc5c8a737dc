//! `PredictError`: why a request got no prediction.

use crate::{
    engine::{
        EngineError,
        advice::{self, Refusal},
    },
    error::ErrorCode,
    package::fault::Fault,
    registry::route::RouteError,
};

#[derive(Debug, PartialEq, Eq)]
pub enum PredictError {
    Route(RouteError),
    Malformed(String),
    Invalid {
        faults: Vec<Fault>,
        more: usize,
    },
    /// The graph refused the values: which node, and why.
    Refused(Refusal),
    /// The model failed, or answered what it must not.
    Inference(String),
    /// The model answered a number that is none.
    NotFinite(String),
    QueueFull,
    /// The run wanted more memory than its version may take.
    MemoryLimit {
        limit: u64,
    },
    /// The version went away between routing and queueing.
    Closed,
    DeadlineExceeded,
    /// The caller left before the answer.
    Cancelled,
    /// Something of our own broke.
    Broken,
    /// The run gave nothing to any of the requests that shared it: one failure, whatever their number.
    Lost(Box<PredictError>),
}

impl From<EngineError> for PredictError {
    fn from(error: EngineError) -> PredictError {
        match error {
            EngineError::Run { detail } | EngineError::Load { detail, .. } => match advice::on_run(&detail) {
                Some(refusal) => PredictError::Refused(refusal),
                None => PredictError::Inference(without_values(&detail)),
            },
            EngineError::QueueFull => PredictError::QueueFull,
            EngineError::MemoryLimit { limit } => PredictError::MemoryLimit { limit },
            EngineError::Closed => PredictError::Closed,
            EngineError::DeadlineExceeded | EngineError::Terminated => PredictError::DeadlineExceeded,
            EngineError::Broken { .. } => PredictError::Broken,
            EngineError::Lost(error) => PredictError::Lost(Box::new(PredictError::from(*error))),
        }
    }
}

/// The library's message up to what it says of the values: that may repeat the caller's.
fn without_values(detail: &str) -> String {
    detail.split("Status Message").next().unwrap_or_default().trim().to_owned()
}

impl PredictError {
    pub fn code(&self) -> ErrorCode {
        match self {
            PredictError::Route(RouteError::NotReady { .. }) | PredictError::Closed => ErrorCode::NotReady,
            PredictError::Route(_) => ErrorCode::NotFound,
            PredictError::Malformed(_) => ErrorCode::Malformed,
            PredictError::Invalid { .. } | PredictError::Refused(_) => ErrorCode::Invalid,
            PredictError::Inference(_) | PredictError::NotFinite(_) => ErrorCode::Inference,
            PredictError::Lost(error) => error.code(),
            PredictError::QueueFull | PredictError::MemoryLimit { .. } => ErrorCode::Overloaded,
            PredictError::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            PredictError::Cancelled => ErrorCode::Cancelled,
            PredictError::Broken => ErrorCode::Internal,
        }
    }

    /// What the caller is told. What the library said stays in the log: it names files and nodes of the server's.
    pub fn detail(&self) -> String {
        match self {
            PredictError::Route(RouteError::NoDefault { known }) => {
                format!("there are several models and no default; POST to /models/NAME/predict with NAME one of: {}", known.join(", "))
            }
            PredictError::Route(RouteError::UnknownModel { model, known }) => {
                format!("there is no model \"{model}\"; known are: {}", known.join(", "))
            }
            PredictError::Route(RouteError::UnknownVersion { model, version, known }) => {
                format!("model {model} has no version \"{version}\"; known are: {}", known.join(", "))
            }
            PredictError::Route(RouteError::NotReady { reason }) => format!("not ready: {reason}"),
            PredictError::Malformed(detail) => detail.clone(),
            PredictError::Invalid { faults, more } => match (faults.len() + more, faults.first()) {
                (1, Some(fault)) => format!("{} {}", fault.pointer, fault.detail),
                (count, _) => format!("{count} violations of the model's schema; see errors"),
            },
            PredictError::Lost(error) => error.detail(),
            PredictError::Refused(Refusal { node, reason, .. }) => format!("the model's graph refuses this input: {node}: {reason}"),
            PredictError::Inference(_) | PredictError::NotFinite(_) => {
                "the model failed on this request; the server's log says why, under the request id".to_owned()
            }
            PredictError::QueueFull => "too many requests are waiting for this model; try again later".to_owned(),
            PredictError::MemoryLimit { limit } => {
                format!(
                    "this request needs more memory than the {limit} bytes that one run of this version may take; send fewer rows at once"
                )
            }
            PredictError::Closed => "this version is being unloaded; try again".to_owned(),
            PredictError::DeadlineExceeded => "the answer was not ready by the deadline".to_owned(),
            PredictError::Cancelled => "the caller left before the answer".to_owned(),
            PredictError::Broken => "the server could not finish this request".to_owned(),
        }
    }

    /// The violations of the schema that are listed, and how many more there are.
    pub fn faults(&self) -> (&[Fault], usize) {
        match self {
            PredictError::Invalid { faults, more } => (faults, *more),
            _ => (&[], 0),
        }
    }

    /// What the log keeps beside the code: never a value of the caller's.
    pub fn log_detail(&self) -> &str {
        match self {
            PredictError::Inference(detail) | PredictError::NotFinite(detail) => detail,
            PredictError::Lost(error) => error.log_detail(),
            PredictError::Refused(refusal) => refusal.kind(),
            PredictError::Cancelled => "the caller left before the answer",
            PredictError::Route(RouteError::NotReady { reason }) => reason,
            PredictError::MemoryLimit { .. } => "more memory than runtime.memory_limit_bytes allows",
            _ => "",
        }
    }
}
