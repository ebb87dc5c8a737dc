//! `PredictError`: why a request got no prediction.

use crate::{
    engine::{
        EngineError,
        runtime_message::{self, RejectedInput},
    },
    error::ErrorCode,
    registry::route::RouteError,
    schema::fault::Fault,
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
    Refused(RejectedInput),
    /// A node of the graph failed: which, and why, without values.
    Failed {
        node: String,
        loggable: String,
    },
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
    /// The engine broke: a worker panicked, or none is left.
    BrokenEngine(String),
    /// The run gave nothing to any of the requests that shared it: one failure, whatever their number.
    Lost(Box<PredictError>),
}

impl From<EngineError> for PredictError {
    fn from(error: EngineError) -> PredictError {
        match error {
            EngineError::Run { detail, loggable } => {
                match (
                    runtime_message::rejected_input(&detail),
                    runtime_message::failed_node(&detail),
                ) {
                    (Some(mut refusal), _) => {
                        refusal.loggable = loggable;
                        PredictError::Refused(refusal)
                    }
                    (None, Some(node)) => PredictError::Failed { node, loggable },
                    (None, None) => PredictError::Inference(loggable),
                }
            }
            EngineError::Load { detail, .. } => PredictError::Inference(detail),
            EngineError::QueueFull => PredictError::QueueFull,
            EngineError::MemoryLimit { limit } => PredictError::MemoryLimit { limit },
            EngineError::Closed => PredictError::Closed,
            EngineError::DeadlineExceeded | EngineError::Terminated => {
                PredictError::DeadlineExceeded
            }
            EngineError::Broken { detail } => PredictError::BrokenEngine(detail),
            EngineError::Lost(error) => PredictError::Lost(Box::new(PredictError::from(*error))),
        }
    }
}

impl PredictError {
    pub fn code(&self) -> ErrorCode {
        match self {
            PredictError::Route(RouteError::NotReady { .. }) | PredictError::Closed => {
                ErrorCode::NotReady
            }
            PredictError::Route(_) => ErrorCode::NotFound,
            PredictError::Malformed(_) => ErrorCode::Malformed,
            PredictError::Invalid { .. } | PredictError::Refused(_) => ErrorCode::Invalid,
            PredictError::Failed { .. }
            | PredictError::Inference(_)
            | PredictError::NotFinite(_) => ErrorCode::Inference,
            PredictError::Lost(error) => error.code(),
            PredictError::QueueFull | PredictError::MemoryLimit { .. } => ErrorCode::Overloaded,
            PredictError::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            PredictError::Cancelled => ErrorCode::Cancelled,
            PredictError::Broken | PredictError::BrokenEngine(_) => ErrorCode::Internal,
        }
    }

    /// What the caller is told. What the library said stays in the log: it names files and nodes of the server's.
    pub fn detail(&self) -> String {
        match self {
            PredictError::Route(RouteError::NoDefault { known }) => {
                format!(
                    "there are several models and no default; POST to /models/NAME/predict with NAME one of: {}",
                    known.join(", ")
                )
            }
            PredictError::Route(RouteError::UnknownModel { model, known }) => {
                format!(
                    "there is no model \"{model}\"; known are: {}",
                    known.join(", ")
                )
            }
            PredictError::Route(RouteError::UnknownVersion {
                model,
                version,
                known,
            }) => {
                format!(
                    "model {model} has no version \"{version}\"; known are: {}",
                    known.join(", ")
                )
            }
            PredictError::Route(RouteError::NoSuchRole {
                model,
                label,
                reason,
            }) => {
                format!("model {model} has no {label} version at the moment: {reason}")
            }
            PredictError::Route(RouteError::NotReady { reason }) => format!("not ready: {reason}"),
            PredictError::Malformed(detail) => detail.clone(),
            PredictError::Invalid { faults, more } => match (faults.len() + more, faults.first()) {
                (1, Some(fault)) => format!("{} {}", fault.pointer, fault.detail),
                (count, _) => format!("{count} violations of the model's schema; see errors"),
            },
            PredictError::Lost(error) => error.detail(),
            PredictError::Refused(RejectedInput { node, reason, .. }) => {
                format!("the model's graph refuses this input: {node}: {reason}")
            }
            PredictError::Failed { .. }
            | PredictError::Inference(_)
            | PredictError::NotFinite(_) => "the model failed on this request".to_owned(),
            PredictError::QueueFull => {
                "too many requests are waiting for this model; try again later".to_owned()
            }
            PredictError::MemoryLimit { limit } => {
                format!(
                    "this request needs more memory than the {limit} bytes that one run of this version may take; send fewer rows at once"
                )
            }
            PredictError::Closed => "this version is being unloaded; try again".to_owned(),
            PredictError::DeadlineExceeded => "the answer was not ready by the deadline".to_owned(),
            PredictError::Cancelled => "the caller left before the answer".to_owned(),
            PredictError::Broken | PredictError::BrokenEngine(_) => {
                "the server could not finish this request".to_owned()
            }
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
    pub fn log_detail(&self) -> String {
        match self {
            PredictError::Inference(detail)
            | PredictError::NotFinite(detail)
            | PredictError::BrokenEngine(detail) => detail.clone(),
            PredictError::Broken => "a step inside the server ended without a result".to_owned(),
            PredictError::Lost(error) => error.log_detail(),
            PredictError::Failed { node, loggable }
            | PredictError::Refused(RejectedInput { node, loggable, .. }) => {
                format!("{node}: {loggable}")
            }
            PredictError::Cancelled => self.detail(),
            PredictError::Route(RouteError::NotReady { reason }) => reason.clone(),
            PredictError::Invalid { faults, more } => violated(faults, *more),
            PredictError::MemoryLimit { .. } => {
                "more memory than runtime.memory_limit_bytes allows".to_owned()
            }
            _ => String::new(),
        }
    }

    /// The same, with nothing that may come from a value: for models with a field that is personal, since nobody knows which field a
    /// value came from.
    #[must_use]
    pub fn without_values(self) -> PredictError {
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

/// Faults that one line of the log names.
const LOGGED_FAULTS: usize = 5;

/// Where which rule is violated. Not the details, which echo values, nor a name that only the caller knows: both may be personal.
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
    use crate::{engine::EngineError, predict::PredictError, schema::fault::Fault};

    #[test]
    fn a_line_of_the_log_names_places_and_rules_and_no_value() {
        let fault = |pointer: &str, keyword| Fault {
            pointer: pointer.to_owned(),
            keyword,
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
        let detail = "Non-zero status code returned while running Range node. Name:'steps' Status Message: Ann is no step";
        let error = PredictError::from(EngineError::Run {
            detail: detail.to_owned(),
            loggable: "Ann is no step".to_owned(),
        });
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
