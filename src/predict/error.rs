//! `PredictError`: the reason why a request got no prediction.

use crate::{
    decode::{MalformedRequest, csv_table::TableError, json_rows::JsonRowsError},
    engine::{
        EngineError,
        error::{Breakage, FailedRun, LoadFailure, RunCause},
        runtime_message::RejectedInput,
    },
    error::{ErrorCode, text_with_sources},
    predict::tensor_names::NameError,
    registry::route::RouteError,
    schema::fault::Fault,
    transform::postprocess::PostprocessFault,
};

/// `Display` is the text for the caller. The sources and the messages of the runtime are only
/// logged ([`PredictError::log_detail`]), because they name files and nodes of the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PredictError {
    #[error(transparent)]
    Route(Box<RouteError>),
    /// The request is not well formed, or its tensors are not those of the model.
    #[error("{}", text_with_sources(.0))]
    Malformed(MalformedInput),
    /// The request violates the schema. `more`: the number of violations that are not listed.
    #[error("{}", violations(faults, *more))]
    Invalid { faults: Vec<Fault>, more: usize },
    /// The graph refused the values.
    #[error("the model's graph refuses this input: {}: {}", .0.node, .0.reason)]
    Refused(RejectedInput),
    /// A node of the graph failed. `loggable`: the reason, without values.
    #[error("the model failed on this request")]
    Failed { node: String, loggable: String },
    /// The model failed. The source contains no value of the caller.
    #[error("the model failed on this request")]
    Inference(#[source] InferenceFailure),
    /// The model's outputs are not what the package declares.
    #[error("the model failed on this request")]
    Outputs(#[source] PostprocessFault),
    /// The model answered with NaN or infinity.
    #[error("the model failed on this request")]
    NotFinite(#[source] PostprocessFault),
    #[error("too many requests are waiting for this model; try again later")]
    QueueFull,
    /// The run needed more memory than `limit`, the maximum of the version in bytes.
    #[error(
        "this request needs more memory than the {limit} bytes that one run of this version may take; send fewer rows at once"
    )]
    MemoryLimit { limit: u64 },
    /// The version was unloaded between routing and queueing.
    #[error("this version is being unloaded; try again")]
    Closed,
    #[error("the answer was not ready by the deadline")]
    DeadlineExceeded,
    #[error("the caller disconnected before the answer")]
    Cancelled,
    /// The server has a defect.
    #[error("the server could not finish this request")]
    Broken,
    /// A worker panicked, or no worker is left.
    #[error("the server could not finish this request")]
    BrokenEngine(#[source] Breakage),
    /// A run failed for all requests that shared it. It counts as one failure, whatever the number
    /// of requests.
    #[error(transparent)]
    Lost(Box<PredictError>),
}

/// Why a request is not well formed. The texts contain no value of the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedInput {
    #[error(transparent)]
    Instances(#[from] MalformedRequest),
    #[error(transparent)]
    Rows(#[from] JsonRowsError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Names(#[from] NameError),
    /// The answer is not available in the form that the request asks for. The protocol writes the
    /// text.
    #[error("{detail}")]
    AnswerForm { detail: String },
}

/// Why a model failed. The text contains no value of the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InferenceFailure {
    /// `loggable`: the runtime's reason, without values.
    #[error("{loggable}")]
    Run { loggable: String },
    /// A graph was loaded again and failed.
    #[error(transparent)]
    Load(LoadFailure),
    #[error("the outputs do not have one row for each row of the inputs")]
    OutputRows,
}

fn violations(faults: &[Fault], more: usize) -> String {
    match (faults.len() + more, faults.first()) {
        (1, Some(fault)) => format!("{} {}", fault.pointer, fault.detail),
        (count, _) => format!("{count} violations of the model's schema; see errors"),
    }
}

impl From<EngineError> for PredictError {
    fn from(error: EngineError) -> PredictError {
        match error {
            EngineError::Run(failed) => {
                let FailedRun {
                    loggable,
                    node,
                    cause,
                    ..
                } = *failed;
                match (cause, node) {
                    (RunCause::Rejected(mut rejected), _) => {
                        rejected.loggable = loggable;
                        PredictError::Refused(rejected)
                    }
                    (_, Some(node)) => PredictError::Failed { node, loggable },
                    (_, None) => PredictError::Inference(InferenceFailure::Run { loggable }),
                }
            }
            EngineError::Load { failure, .. } => {
                PredictError::Inference(InferenceFailure::Load(*failure))
            }
            EngineError::QueueFull => PredictError::QueueFull,
            EngineError::MemoryLimit { limit } => PredictError::MemoryLimit { limit },
            EngineError::Closed => PredictError::Closed,
            EngineError::DeadlineExceeded | EngineError::Terminated => {
                PredictError::DeadlineExceeded
            }
            EngineError::Broken(breakage) => PredictError::BrokenEngine(breakage),
            EngineError::Lost(error) => PredictError::Lost(Box::new(PredictError::from(*error))),
        }
    }
}

impl PredictError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            PredictError::Route(error) => match **error {
                RouteError::NotReady(_) => ErrorCode::NotReady,
                _ => ErrorCode::NotFound,
            },
            PredictError::Closed => ErrorCode::NotReady,
            PredictError::Malformed(_) => ErrorCode::Malformed,
            PredictError::Invalid { .. } | PredictError::Refused(_) => ErrorCode::Invalid,
            PredictError::Failed { .. }
            | PredictError::Inference(_)
            | PredictError::Outputs(_)
            | PredictError::NotFinite(_) => ErrorCode::Inference,
            PredictError::Lost(error) => error.code(),
            PredictError::QueueFull | PredictError::MemoryLimit { .. } => ErrorCode::Overloaded,
            PredictError::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            PredictError::Cancelled => ErrorCode::Cancelled,
            PredictError::Broken | PredictError::BrokenEngine(_) => ErrorCode::Internal,
        }
    }

    /// The listed violations of the schema, and the number of violations that are not listed.
    pub(crate) fn faults(&self) -> (&[Fault], usize) {
        match self {
            PredictError::Invalid { faults, more } => (faults, *more),
            _ => (&[], 0),
        }
    }

    /// The detail for the log. It never contains a value of the caller.
    pub(crate) fn log_detail(&self) -> String {
        match self {
            PredictError::Inference(failure) => text_with_sources(failure),
            PredictError::BrokenEngine(breakage) => breakage.to_string(),
            PredictError::Outputs(fault) | PredictError::NotFinite(fault) => {
                text_with_sources(fault)
            }
            PredictError::Broken => "a step inside the server ended without a result".to_owned(),
            PredictError::Lost(error) => error.log_detail(),
            PredictError::Failed { node, loggable }
            | PredictError::Refused(RejectedInput { node, loggable, .. }) => {
                format!("{node}: {loggable}")
            }
            PredictError::Cancelled => self.to_string(),
            PredictError::Route(error) => match &**error {
                RouteError::NotReady(reason) => reason.to_string(),
                _ => String::new(),
            },
            PredictError::Invalid { faults, more } => violated(faults, *more),
            PredictError::MemoryLimit { .. } => {
                "more memory than runtime.memory_limit_bytes allows".to_owned()
            }
            _ => String::new(),
        }
    }

    /// Returns the same error without any part that may come from a value. This is for models with
    /// a personal field, because it is unknown which field a value comes from.
    #[must_use]
    pub(crate) fn without_values(self) -> PredictError {
        match self {
            PredictError::Refused(refusal) => PredictError::Refused(refusal.without_values()),
            PredictError::Failed { node, .. } => PredictError::Failed {
                node,
                loggable: "the reason is withheld: a field of the schema is marked x-pii"
                    .to_owned(),
            },
            other => other,
        }
    }
}

/// Maximum number of violations in one line of the log.
const LOGGED_FAULTS: usize = 5;

/// The places and rules of violations, without their details. Details quote values and the names of
/// unknown fields, which may be personal.
fn violated(faults: &[Fault], more: usize) -> String {
    let one = |fault: &Fault| {
        let pointer = match fault.keyword {
            "additionalProperties" => fault
                .pointer
                .rsplit_once('/')
                .map_or("", |(parent, _)| parent),
            _ => fault.pointer.as_str(),
        };
        format!("{pointer} {}", fault.keyword)
            .trim_start()
            .to_owned()
    };
    let listed: Vec<String> = faults.iter().take(LOGGED_FAULTS).map(one).collect();
    let more = more + faults.len() - listed.len();
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", listed.join("; "))
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::{
            EngineError,
            error::{FailedRun, RunCause},
        },
        predict::PredictError,
        schema::fault::{Fault, FaultSubject},
    };

    #[test]
    fn a_line_of_the_log_names_places_and_rules_and_no_value() {
        let fault = |pointer: &str, keyword| Fault {
            pointer: pointer.to_owned(),
            keyword,
            subject: FaultSubject::Field,
            detail: "`age` must not be -7; got -7".to_owned(),
        };
        let faults = vec![
            fault("/instances/0/age", "minimum"),
            fault("/instances/0/Ann Smith", "additionalProperties"),
        ];
        let error = PredictError::Invalid {
            faults: faults.clone(),
            more: 0,
        };
        assert_eq!(
            error.log_detail(),
            "/instances/0/age minimum; /instances/0 additionalProperties"
        );
        let many = PredictError::Invalid {
            faults: vec![fault("/age", "type"); 20],
            more: 30,
        };
        assert_eq!(
            many.log_detail(),
            format!("{}; and 45 more", ["/age type"; 5].join("; "))
        );
    }

    #[test]
    fn a_reason_that_may_hold_a_personal_value_is_withheld() {
        let error = PredictError::from(EngineError::Run(Box::new(FailedRun {
            detail: "Ann is no step".to_owned(),
            loggable: "Ann is no step".to_owned(),
            node: Some("Range \"steps\"".to_owned()),
            cause: RunCause::Other,
        })));
        assert_eq!(error.log_detail(), "Range \"steps\": Ann is no step");
        let withheld = error.without_values();
        assert!(
            withheld
                .log_detail()
                .starts_with("Range \"steps\": the reason is withheld"),
            "{withheld:?}"
        );
        assert!(!format!("{withheld:?}").contains("Ann"));
    }
}
