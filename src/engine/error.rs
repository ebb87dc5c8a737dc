//! `EngineError`: why a graph could not be loaded, or why a job got no outputs.

/// A failure of loading or of running a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum EngineError {
    /// The graph could not be loaded. `detail` is the runtime's message without the directories of
    /// the server. The runtime's own error is not the source, because it names them.
    #[error("loading {file}: {detail}")]
    Load { file: String, detail: String },
    /// The graph rejected its inputs, or failed on them.
    #[error("the model failed: {detail}")]
    Run {
        /// The runtime's message. It may repeat values of a row.
        detail: String,
        /// The reason without any value of a row, for the log.
        loggable: String,
    },
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
    /// A worker panicked, or no worker is left.
    #[error("the engine broke: {detail}")]
    Broken { detail: String },
}

impl EngineError {
    /// The error of a failed run. `detail` must not contain values of a row.
    pub fn run(detail: impl Into<String>) -> EngineError {
        let detail = detail.into();
        EngineError::Run {
            loggable: detail.clone(),
            detail,
        }
    }

    /// The error for a job if no worker is left.
    pub fn no_worker() -> EngineError {
        EngineError::Broken {
            detail: NO_WORKER.to_owned(),
        }
    }
}

/// The detail of the error of a job, and the reason why the version is not ready.
pub(crate) const NO_WORKER: &str = "no worker is left";
