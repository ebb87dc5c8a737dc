//! `EngineError`: why a graph could not be loaded, or why a job got no outputs.

use crate::{
    engine::runtime_message::{RefusedGraph, RejectedInput},
    graph::{wire::Malformed, zipmap::UnservableOutput},
};

/// A failure of loading or of running a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum EngineError {
    /// The graph could not be loaded.
    #[error("loading {file}")]
    Load {
        file: String,
        #[source]
        failure: Box<LoadFailure>,
    },
    /// The graph rejected its inputs, or failed on them. Boxed, because every run returns an
    /// `EngineError`.
    #[error(transparent)]
    Run(Box<FailedRun>),
    /// The supervisor stopped the run because its deadline passed.
    #[error("the run was stopped at its deadline")]
    Terminated,
    /// The job's deadline passed before or during the run.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// A run ended without outputs for any of its jobs. It counts as one failure, no matter how
    /// many jobs shared the run.
    #[error("the run was lost")]
    Lost(#[source] Box<EngineError>),
    /// The run needed more memory than its version is allowed.
    #[error(
        "the run needs more memory than the {limit} bytes that each worker may take (runtime.memory_limit_bytes)"
    )]
    MemoryLimit { limit: u64 },
    #[error("the queue is full")]
    QueueFull,
    /// The version is being unloaded.
    #[error("the version is being unloaded")]
    Closed,
    #[error("the engine broke")]
    Broken(#[source] Breakage),
}

/// Why a worker could not run a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breakage {
    /// It is also the reason why a version is not ready.
    #[error("no worker is left")]
    NoWorker,
    /// The run of the job panicked.
    #[error("an engine worker panicked")]
    Panicked,
}

/// Why a graph could not be loaded. A caller of the model may read the text, so it does not contain
/// the server's directories.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadFailure {
    #[error(transparent)]
    Runtime(RefusedGraph),
    /// The files can't be read, or changed. The text is that of an error that names the directories
    /// of the server. Therefore this error is not the source.
    #[error("{text}")]
    Files { text: String },
    #[error(
        "the graph with its weights needs more than the {limit} bytes that each worker may take: raise runtime.memory_limit_bytes (or [model.NAME] memory_limit_bytes), or lower workers"
    )]
    WeightsExceedLimit { limit: u64 },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Interface(#[from] GraphInterfaceError),
    #[error(transparent)]
    Output(#[from] UnservableOutput),
}

/// Why an input or output can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphInterfaceError {
    #[error(
        "{side} `{name}` is a sequence or map, which can't be served; export the model with a tensor for each {side}"
    )]
    NotATensor { side: &'static str, name: String },
    /// `element` is the runtime's name of the type.
    #[error("{side} `{name}` has the element type {element}, which can't be served")]
    ElementType {
        side: &'static str,
        name: String,
        element: String,
    },
}

/// A run that gave no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model failed: {detail}")]
pub struct FailedRun {
    /// The runtime's message. It may repeat values of a row.
    pub detail: String,
    /// The reason without any value of a row, for the log.
    pub loggable: String,
    /// The node that failed, like `Gather "embed"`. `None` if the message names no node.
    pub node: Option<String>,
    /// The cause of the failure.
    pub cause: RunCause,
}

/// The cause of a failed run, if the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCause {
    /// A node rejected its input.
    Rejected(RejectedInput),
    /// The runtime could not allocate memory.
    NoMemory,
    /// Any other cause.
    Other,
}

impl EngineError {
    /// The error of a failed run. `detail` must not contain values of a row.
    pub fn run(detail: impl Into<String>) -> EngineError {
        let detail = detail.into();
        EngineError::Run(Box::new(FailedRun {
            loggable: detail.clone(),
            detail,
            node: None,
            cause: RunCause::Other,
        }))
    }

    /// Whether the run failed because of insufficient memory, so that it would also fail with other
    /// rows.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            EngineError::Run(failed) => failed.cause == RunCause::NoMemory,
            EngineError::MemoryLimit { .. } => true,
            _ => false,
        }
    }
}
