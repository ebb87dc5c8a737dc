//! `OnnxEngine`: runs one session.

use std::{path::Path, sync::Arc, time::Instant};

use ort::{
    logging::LogLevel,
    session::{NoSelectedOutputs, RunOptions, Session},
};

use crate::{
    engine::{
        Engine, EngineError, Interrupt,
        error::{FailedRun, LoadFailure},
        infer::{
            arena::{Arena, trim_allocator},
            failed_run, load_error, run_error,
            values::{input_value, output_tensor},
        },
        retention::{IDLE_FLOOR_BYTES, MEASURED_FROM},
        runtime_message::{self, RunFault},
    },
    tensor::{Data, Tensors, signature::Signature},
};

/// One session, with the run options through which another thread stops its run.
pub struct OnnxEngine {
    signature: Arc<Signature>,
    options: Arc<RunOptions<NoSelectedOutputs>>,
    arena: Arena,
    session: Session,
}

struct Terminator(Arc<RunOptions<NoSelectedOutputs>>);

impl Interrupt for Terminator {
    fn terminate(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::error!(error = %error, "a run could not be terminated");
        }
    }

    fn reset(&self) {
        if let Err(error) = self.0.unterminate() {
            tracing::error!(error = %error, "a terminated run could not be reset");
        }
    }
}

impl OnnxEngine {
    pub(super) fn new(
        session: Session,
        path: &Path,
        signature: Arc<Signature>,
        memory_limit: Option<u64>,
    ) -> Result<OnnxEngine, EngineError> {
        let mut options = RunOptions::new().map_err(run_error)?;
        options.set_log_level(LogLevel::Fatal).map_err(run_error)?;
        let arena = Arena::new(&session, memory_limit).map_err(run_error)?;
        // The library loads the weights regardless of the limit, and applies the limit only to
        // runs.
        if let Some(limit) = memory_limit.filter(|limit| arena.weights >= *limit) {
            return Err(load_error(path, LoadFailure::WeightsExceedLimit { limit }));
        }
        Ok(OnnxEngine {
            signature,
            options: Arc::new(options),
            arena,
            session,
        })
    }

    /// The operator set version of each domain, for the manifest: `ai.onnx`, and `ai.onnx.ml` if
    /// the graph uses it.
    pub fn opsets(&self) -> Vec<(&'static str, u32)> {
        let domains = [("ai.onnx", ""), ("ai.onnx.ml", "ai.onnx.ml")];
        domains
            .into_iter()
            .filter_map(|(name, domain)| Some((name, self.session.opset_for_domain(domain)?)))
            .collect()
    }

    /// The inputs and outputs that the graph declares.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    fn run_once(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
        let mut inputs = Vec::with_capacity(batch.0.len());
        for (name, tensor) in &batch.0 {
            inputs.push((&**name, input_value(tensor).map_err(run_error)?));
        }
        let outputs = self
            .session
            .run_with_options(inputs, &self.options)
            .map_err(|error| {
                match (
                    runtime_message::run_fault(error.message()),
                    self.arena.limit,
                ) {
                    (RunFault::ArenaLimit, Some(limit)) => EngineError::MemoryLimit { limit },
                    (RunFault::Terminated, _) => EngineError::Terminated,
                    _ => explain_failure(&error, batch),
                }
            })?;
        let mut tensors = Vec::with_capacity(outputs.len());
        for ((_, value), spec) in outputs.into_iter().zip(&self.signature.outputs) {
            let tensor = output_tensor(value, spec.datatype)
                .map_err(|detail| EngineError::run(format!("output `{}`: {detail}", spec.name)))?;
            tensors.push((Arc::clone(&spec.name), tensor));
        }
        Ok(Tensors(tensors))
    }

    /// Returns the free regions of the arena to the system. The library does this only at the end
    /// of a run, so this method starts a run that stops before its first node.
    fn release(&mut self) {
        // The library also checks the inputs of this run, although no node reads them.
        let zeros = self.signature.zeros();
        let inputs = zeros
            .0
            .iter()
            .map(|(name, tensor)| Ok((&**name, input_value(tensor)?)))
            .collect::<ort::Result<Vec<_>>>();
        match inputs.and_then(|inputs| {
            self.session
                .run_with_options(inputs, &self.arena.release)
                .map(|_| ())
        }) {
            Err(error) if runtime_message::run_fault(error.message()) != RunFault::Terminated => {
                tracing::debug!(error = %error, "an arena could not be shrunk");
            }
            Ok(()) | Err(_) => {}
        }
        self.arena.measure();
        self.arena.released = true;
    }
}

impl Engine for OnnxEngine {
    fn run(&mut self, batch: &Tensors) -> Result<Tensors, EngineError> {
        let started = Instant::now();
        let mut result = self.run_once(batch);
        // Fragments that earlier runs left must not prevent this run.
        if matches!(result, Err(EngineError::MemoryLimit { .. })) {
            self.release();
            result = self.run_once(batch);
        }
        let ended = Instant::now();
        self.arena.is_measure_due |= result.is_err()
            || ended - started >= MEASURED_FROM
            || self.arena.retention.is_due(ended);
        result
    }

    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(Terminator(Arc::clone(&self.options)))
    }

    fn release_after_run(&mut self) {
        if std::mem::take(&mut self.arena.is_measure_due) {
            let held = self.arena.measure();
            if self.arena.retention.release_after_run(held, Instant::now()) {
                self.release();
            }
        }
    }

    fn release_when_idle(&mut self) {
        let held = self.arena.measure();
        if self.arena.retention.release_when_idle(held) {
            self.release();
        }
        // The remaining bytes can't be released, so the worker must not try again before the next
        // run.
        self.arena.held = 0;
        if std::mem::take(&mut self.arena.released) {
            trim_allocator();
        }
    }

    fn holds_releasable_memory(&self) -> bool {
        self.arena.held > IDLE_FLOOR_BYTES || self.arena.released
    }
}

/// The error of a run with these inputs.
fn explain_failure(error: &ort::Error, batch: &Tensors) -> EngineError {
    let message = error.message();
    let texts = batch.0.iter().flat_map(|(_, tensor)| {
        if let Data::Bytes(texts) = tensor.data() {
            texts.as_slice()
        } else {
            &[]
        }
    });
    // The library often omits the shapes that do not match.
    let shapes: Vec<String> = batch
        .0
        .iter()
        .map(|(name, tensor)| format!("{name} {:?}", tensor.shape()))
        .collect();
    let loggable = format!(
        "{} (inputs: {})",
        runtime_message::loggable(message, texts),
        shapes.join(", ")
    );
    EngineError::Run(Box::new(FailedRun {
        loggable,
        ..failed_run(message)
    }))
}
