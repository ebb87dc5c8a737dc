//! Tensors in, tensors out, in batches.

pub mod advice;
pub mod batch;
pub mod infer;
pub mod library;
pub mod queue;
pub mod retention;
pub mod supervisor;

use std::sync::Arc;

use crate::tensor::{
    Tensors,
    signature::{Signature, Symbols, TensorSpec},
};

/// One loaded graph on one thread. ONNX Runtime's session takes `&mut self`, so each worker owns its engine.
pub trait Engine: Send {
    /// Runs the graph once; outputs come in the order of the signature.
    fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError>;

    /// What stops a run from another thread.
    fn interrupt(&self) -> Arc<dyn Interrupt>;

    /// Between two runs, when nobody waits for the first any more: gives back what was taken beyond the usual.
    fn settle(&mut self) {}

    /// No run came for a while: gives back what runs took.
    fn rest(&mut self) {}

    /// Whether a rest would give anything back.
    fn is_restless(&self) -> bool {
        false
    }
}

/// Stops the current run of an engine between two nodes of its graph.
pub trait Interrupt: Send + Sync {
    fn terminate(&self);

    /// Lets the next run go on after a `terminate`.
    fn reset(&self);
}

/// Makes another engine of the same verified package: for each worker, and after one was lost.
pub trait EngineFactory: Send + Sync {
    fn make(&self) -> Result<Box<dyn Engine>, EngineError>;

    fn signature(&self) -> &Signature;

    /// Inputs that have a default in the graph, with its names of their dimensions: a caller may leave them out.
    fn optional(&self) -> &[(TensorSpec, Vec<String>)] {
        &[]
    }

    /// What the graph calls its dimensions.
    fn symbols(&self) -> &Symbols {
        static NONE: Symbols = Symbols {
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        &NONE
    }

    /// Threads inside one run.
    fn intra_op_threads(&self) -> usize;
}

impl EngineError {
    /// A failure in words of our own, which name no value.
    pub fn run(detail: impl Into<String>) -> EngineError {
        let detail = detail.into();
        EngineError::Run {
            loggable: detail.clone(),
            detail,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The graph could not be loaded.
    #[error("loading {file}: {detail}")]
    Load { file: String, detail: String },
    /// The graph refused or failed on its inputs.
    #[error("the model failed: {detail}")]
    Run {
        detail: String,
        /// The reason without any value of a row, for the log.
        loggable: String,
    },
    /// The run was stopped because its deadline passed.
    #[error("the run was stopped at its deadline")]
    Terminated,
    /// The job's deadline passed before or during the run.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// The job's run gave nothing to any of its jobs: one failure, whatever their number.
    #[error("the run was lost: {0}")]
    Lost(Box<EngineError>),
    /// The run wanted more memory than its version may take.
    #[error(
        "the run needs more memory than the {limit} bytes that each worker may take (runtime.memory_limit_bytes)"
    )]
    MemoryLimit { limit: u64 },
    #[error("the queue is full")]
    QueueFull,
    /// The version is being unloaded.
    #[error("the version is going away")]
    Closed,
    /// A worker panicked, or none is left.
    #[error("the engine broke: {detail}")]
    Broken { detail: String },
}
