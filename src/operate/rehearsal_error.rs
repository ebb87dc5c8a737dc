//! `RehearsalError`: why a rollback would not work.

use crate::{
    engine::{
        EngineError, Unready,
        error::{FailedRun, RunCause},
        runtime_message::RejectedInput,
    },
    package::{PostprocessFault, golden::Mismatch},
    registry::package_copies::NotRestorable,
    schema::binding::UnboundField,
};

/// The reason why a rollback would not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearsalError {
    #[error("{0} is not loaded")]
    NotLoaded(String),
    #[error("{version}")]
    NotAnswering {
        version: String,
        #[source]
        reason: Unready,
    },
    #[error(transparent)]
    Files(NotRestorable),
    #[error("golden example {number} failed")]
    Example {
        number: usize,
        #[source]
        fault: ReplayFault,
    },
    #[error("live requests can't be converted back")]
    Binding(#[source] UnboundField),
    #[error("a live request failed")]
    LiveRequest(#[source] ReplayFault),
    #[error("callers who use the new values of {version} would break: {}", differences.join("; "))]
    ForwardOnly {
        version: String,
        differences: Vec<String>,
    },
}

/// The reason why the replay of one request failed. The text never contains a value of a live
/// request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayFault {
    #[error("the input does not fit the schema")]
    Schema,
    #[error("the input can't be preprocessed")]
    Preprocess,
    #[error("there is no answer")]
    Run(#[source] RunFailure),
    #[error("the answer is wrong")]
    Outputs(#[source] PostprocessFault),
    #[error("the answer is different: output {}: expected {}, got {}", .0.pointer, .0.expected, .0.actual)]
    Mismatch(Mismatch),
}

/// Why a run failed, without the values of a request that the runtime's messages contain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFailure {
    #[error("{0}")]
    Rejected(RejectedInput),
    #[error("{node}: the reason is withheld: a field of the schema is marked x-pii")]
    Withheld { node: String },
    #[error("the model failed: {node}: {loggable}")]
    Node { node: String, loggable: String },
    #[error("the model failed: {loggable}")]
    Model { loggable: String },
    #[error("the run was lost")]
    Lost(#[source] Box<RunFailure>),
    /// Contains no value of a request.
    #[error(transparent)]
    Engine(EngineError),
    #[error("the engine ended")]
    Ended,
}

impl RunFailure {
    /// Removes the values of a request. If the schema marks a field as `personal`, the text
    /// contains only the node and the kind of failure.
    pub(super) fn of(error: EngineError, personal: bool) -> RunFailure {
        match error {
            EngineError::Run(failed) => {
                let FailedRun {
                    loggable,
                    node,
                    cause,
                    ..
                } = *failed;
                match (cause, node) {
                    (RunCause::Rejected(rejected), _) if personal => {
                        RunFailure::Rejected(rejected.without_values())
                    }
                    (_, Some(node)) if personal => RunFailure::Withheld { node },
                    (_, Some(node)) => RunFailure::Node { node, loggable },
                    (_, None) => RunFailure::Model { loggable },
                }
            }
            EngineError::Lost(error) => {
                RunFailure::Lost(Box::new(RunFailure::of(*error, personal)))
            }
            other => RunFailure::Engine(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::{
            EngineError,
            error::{FailedRun, RunCause},
            runtime_message::{self, RunFault},
        },
        error::text_with_sources,
        operate::rehearsal_error::RunFailure,
    };

    #[test]
    fn no_value_of_a_live_request_is_reported() {
        let without_values = |error: EngineError, personal: bool| {
            text_with_sources(&RunFailure::of(error, personal))
        };
        let failure = |detail: &str| {
            EngineError::Run(Box::new(FailedRun {
                detail: detail.to_owned(),
                loggable: runtime_message::loggable(detail, &[]),
                node: runtime_message::failed_node(detail),
                cause: match runtime_message::run_fault(detail) {
                    RunFault::Rejected(rejected) => RunCause::Rejected(rejected),
                    _ => RunCause::Other,
                },
            }))
        };
        let refused = "Non-zero status code returned while running Gather node. Name:'embed' \
                       Status Message: /src/gather.cc:31 indices element out of data bounds, \
                       idx=4711 must be within the inclusive range [-3,2]";
        let told = without_values(failure(refused), false);
        assert!(
            told.contains("Gather \"embed\"")
                && told.contains("out of data bounds")
                && !told.contains("4711"),
            "{told}"
        );
        assert_eq!(
            without_values(failure(refused), true),
            "Gather \"embed\": out of data bounds"
        );
        let lost = EngineError::Lost(Box::new(failure(refused)));
        assert!(!without_values(lost, false).contains("4711"));
        let failed = "Non-zero status code returned while running Cast node. Name:'cast' Status \
                      Message: 4711 is odd";
        assert!(!without_values(failure(failed), false).contains("4711"));
        let told = without_values(failure(failed), true);
        assert!(
            told.starts_with("Cast \"cast\": the reason is withheld") && !told.contains("odd"),
            "{told}"
        );
    }
}
