//! The data plane: one line that every transport, and later every batch and stream, comes through.

mod error;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

pub use error::PredictError;

use crate::{
    engine::{
        EngineError,
        batch::Batcher,
        queue::{Answer, Priority, Urgency},
    },
    id::PredictionId,
    metrics::{Stage, VersionMetrics},
    package::{
        decode::{DecodeError, DecodeLimits, decode_request},
        fault::MAX_FAULTS,
        locate,
        outputs::Outputs,
    },
    registry::{
        Registry,
        route::{Target, route},
        servable::Servable,
    },
    tensor::{Tensors, split},
};

/// Bodies above this are decoded off the network threads: 64 KiB take about 0.2 ms.
const HEAVY_BODY_BYTES: usize = 64 << 10;

/// Answers of more rows than this are turned into text off the network threads.
pub const HEAVY_ROWS: usize = 256;

/// Requests beyond these limits are refused before memory is spent on them; the body's size limits the rest.
const LIMITS: DecodeLimits = DecodeLimits { max_instances: 65_536, max_depth: 64, max_array_values: 64 << 20 };

pub struct PredictRequest<'a> {
    pub target: Target<'a>,
    pub body: Bytes,
    pub deadline: Instant,
}

/// An answered request.
pub struct Prediction {
    pub id: PredictionId,
    /// `id` as the client sent it.
    pub client_id: Option<String>,
    pub servable: Arc<Servable>,
    pub outputs: Outputs,
    pub rows: usize,
    pub timing: Timing,
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing([Duration; Stage::ALL.len()]);

impl Timing {
    pub fn get(&self, stage: Stage) -> Duration {
        self.0.get(stage as usize).copied().unwrap_or_default()
    }

    pub fn set(&mut self, stage: Stage, elapsed: Duration) {
        if let Some(slot) = self.0.get_mut(stage as usize) {
            *slot = elapsed;
        }
    }
}

/// A refused or failed request, and where it is to be counted.
pub struct Failure {
    pub error: PredictError,
    /// The version that was to answer.
    pub servable: Option<Arc<Servable>>,
    /// Handles where no version was found.
    pub unversioned: Option<Arc<VersionMetrics>>,
}

/// Answers requests from what the registry serves at that moment.
pub struct Predictor {
    registry: Registry,
    /// As many heavy bodies at once as there are cores.
    heavy: Arc<Semaphore>,
}

impl Predictor {
    pub fn new(registry: Registry, cores: usize) -> Predictor {
        Predictor { registry, heavy: Arc::new(Semaphore::new(cores.max(1))) }
    }

    /// Answers one request: route, decode, preprocess, batch and infer, postprocess.
    pub async fn predict(&self, request: PredictRequest<'_>) -> Result<Prediction, Failure> {
        let routed = route(&self.registry.snapshot(), request.target, Instant::now());
        let servable = routed.map_err(|(error, unversioned)| Failure { error: PredictError::Route(error), servable: None, unversioned })?;
        let _inflight = Inflight::new(&servable);
        match self.answer(Arc::clone(&servable), request.body, request.deadline).await {
            Ok(prediction) => Ok(prediction),
            Err(error) => Err(Failure { error, servable: Some(servable), unversioned: None }),
        }
    }

    async fn answer(&self, servable: Arc<Servable>, body: Bytes, deadline: Instant) -> Result<Prediction, PredictError> {
        let prepared = if body.len() > HEAVY_BODY_BYTES || servable.transform.preprocess.has_images() {
            let servable = Arc::clone(&servable);
            self.offload(deadline, move || prepare(&servable, &body)).await??
        } else {
            prepare(&servable, &body)?
        };
        let Prepared { tensors, rows, client_id, mut timing } = prepared;
        let outputs = infer(&servable, tensors, rows, deadline, &mut timing).await?;
        let (outputs, elapsed) = if rows > HEAVY_ROWS {
            let servable = Arc::clone(&servable);
            self.offload(deadline, move || interpret(&servable, outputs)).await??
        } else {
            interpret(&servable, outputs)?
        };
        timing.set(Stage::Postprocess, elapsed);
        Ok(Prediction { id: PredictionId::new(), client_id, servable, outputs, rows, timing })
    }

    /// Runs work that would hold up a network thread elsewhere, as much at once as there are cores.
    pub async fn offload<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PredictError> {
        let permit = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.heavy).acquire_owned()).await;
        let permit = permit.map_err(|_| PredictError::DeadlineExceeded)?.map_err(|_| PredictError::Broken)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|_| PredictError::Broken)
    }
}

struct Prepared {
    tensors: Tensors,
    rows: usize,
    client_id: Option<String>,
    timing: Timing,
}

fn prepare(servable: &Servable, body: &[u8]) -> Result<Prepared, PredictError> {
    let mut timing = Timing::default();
    let start = Instant::now();
    let decoded = decode_request(&servable.package.parts.input, body, &LIMITS).map_err(|error| match error {
        DecodeError::Malformed { detail } => PredictError::Malformed(detail),
        DecodeError::Invalid { faults, more } => PredictError::Invalid { faults, more },
    })?;
    let decoded_at = Instant::now();
    timing.set(Stage::Decode, decoded_at - start);
    let tensors = servable.transform.prepare(&decoded.columns).map_err(|mut faults| {
        let more = faults.len().saturating_sub(MAX_FAULTS);
        faults.truncate(MAX_FAULTS);
        PredictError::Invalid { faults: faults.into_iter().map(|fault| locate(fault, decoded.single)).collect(), more }
    })?;
    timing.set(Stage::Preprocess, decoded_at.elapsed());
    Ok(Prepared { tensors, rows: decoded.columns.rows, client_id: decoded.id, timing })
}

/// Runs all rows, in as many runs as the batch limit asks for, and gives the outputs of each in order.
async fn infer(
    servable: &Servable,
    tensors: Tensors,
    rows: usize,
    deadline: Instant,
    timing: &mut Timing,
) -> Result<Vec<(Tensors, usize)>, PredictError> {
    let limit = servable.batcher.policy().max_batch_size;
    let urgency = Urgency { deadline, priority: Priority::default() };
    if rows <= limit {
        let receiver = servable.batcher.submit(tensors, rows, urgency)?;
        // Other requests that have arrived get their turn first: they join the same run, and one wake-up serves all.
        let wake = Wake(&servable.batcher);
        tokio::task::yield_now().await;
        drop(wake);
        let answer = receive(receiver, deadline).await?;
        timing.set(Stage::Queue, answer.queued);
        timing.set(Stage::Infer, answer.ran);
        return Ok(vec![(answer.outputs, rows)]);
    }
    let mut counts = vec![limit; rows / limit];
    counts.extend((!rows.is_multiple_of(limit)).then_some(rows % limit));
    let parts = split(tensors, &counts).ok_or(PredictError::Broken)?;
    // A window, so that one request of many rows neither fills the queue nor keeps others from it.
    let window = servable.workers * 2;
    let mut waiting = VecDeque::with_capacity(window);
    let mut outputs = Vec::with_capacity(counts.len());
    let (mut queued, mut ran) = (Duration::ZERO, Duration::ZERO);
    let mut parts = parts.into_iter().zip(counts);
    loop {
        while waiting.len() < window
            && let Some((part, count)) = parts.next()
        {
            waiting.push_back((servable.batcher.submit(part, count, urgency)?, count));
            servable.batcher.wake();
        }
        let Some((receiver, count)) = waiting.pop_front() else { break };
        let answer = receive(receiver, deadline).await?;
        queued += answer.queued;
        ran += answer.ran;
        outputs.push((answer.outputs, count));
    }
    timing.set(Stage::Queue, queued);
    timing.set(Stage::Infer, ran);
    Ok(outputs)
}

async fn receive(receiver: oneshot::Receiver<Result<Answer, EngineError>>, deadline: Instant) -> Result<Answer, PredictError> {
    let answer = tokio::time::timeout_at(deadline.into(), receiver).await.map_err(|_| PredictError::DeadlineExceeded)?;
    Ok(answer.map_err(|_| PredictError::Broken)??)
}

fn interpret(servable: &Servable, parts: Vec<(Tensors, usize)>) -> Result<(Outputs, Duration), PredictError> {
    let start = Instant::now();
    let mut all: Option<Outputs> = None;
    for (tensors, rows) in parts {
        let outputs = servable.transform.interpret(&tensors, rows).map_err(|fault| PredictError::Inference(fault.to_string()))?;
        match &mut all {
            None => all = Some(outputs),
            Some(all) => all.append(outputs),
        }
    }
    Ok((all.ok_or(PredictError::Broken)?, start.elapsed()))
}

/// Wakes a worker when dropped: also where the caller hangs up between queueing and waking.
struct Wake<'a>(&'a Batcher);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// Counts a request as in flight while it lives.
struct Inflight(Arc<Servable>);

impl Inflight {
    fn new(servable: &Arc<Servable>) -> Inflight {
        servable.metrics.inflight.inc();
        Inflight(Arc::clone(servable))
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        self.0.metrics.inflight.dec();
    }
}
