//! The inference engine: tensors in, tensors out, in batches.
//!
//! A [`Batcher`](batch::Batcher) queues jobs. Each worker thread owns one [`Engine`], joins jobs
//! into a run and splits the outputs. One supervisor thread ends the runs that pass their deadline.

pub(crate) mod batch;
pub(crate) mod error;
#[expect(
    unsafe_code,
    reason = "the runtime is a C library; each call has its proof next to it"
)]
pub mod infer;
pub(crate) mod library;
mod pool;
pub(crate) mod queue;
pub(crate) mod retention;
pub(crate) mod runtime_message;
pub(crate) mod supervisor;
mod worker;
mod worker_threads;

use std::sync::Arc;

pub use error::EngineError;
pub(crate) use pool::Unready;

use crate::tensor::{
    Tensors,
    signature::{Signature, Symbols, TensorSpec},
};

/// One loaded graph. ONNX Runtime's session takes `&mut self`, so each worker thread owns its
/// engine.
pub trait Engine: Send {
    /// Runs the graph once. The outputs have the order of the signature.
    fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError>;

    /// Returns a handle that stops a run of this engine from another thread.
    fn interrupt(&self) -> Arc<dyn Interrupt>;

    /// Releases memory that the last run needed beyond the usual size. The worker calls it after it
    /// sent the answers, so that no caller waits for it.
    fn release_after_run(&mut self) {}

    /// Releases memory that runs used. The worker calls it after a time without jobs.
    fn release_when_idle(&mut self) {}

    /// Whether `release_when_idle` would release anything.
    fn holds_releasable_memory(&self) -> bool {
        false
    }
}

/// Stops an engine's current run between two nodes of its graph.
pub trait Interrupt: Send + Sync {
    /// Stops the run that is in progress. Later runs also stop, until `reset` is called.
    fn terminate(&self);

    /// Allows runs again after `terminate`.
    fn reset(&self);
}

/// Creates engines of one verified package: one per worker, and one as the replacement of each lost
/// worker.
pub trait EngineFactory: Send + Sync {
    /// Creates another engine with the graph of the package.
    fn make(&self) -> Result<Box<dyn Engine>, EngineError>;

    /// The inputs and outputs that the graph declares.
    fn signature(&self) -> &Signature;

    /// The inputs that have a default in the graph, so that a caller may omit them. Each is paired
    /// with the graph's names of its dimensions.
    fn optional(&self) -> &[(TensorSpec, Vec<String>)] {
        &[]
    }

    /// The graph's names for the dimensions of its inputs and outputs.
    fn symbols(&self) -> &Symbols {
        static NONE: Symbols = Symbols {
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        &NONE
    }

    /// The number of threads inside one run.
    fn intra_op_threads(&self) -> usize;
}
