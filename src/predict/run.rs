//! Running: sends rows through the engines in batches, and turns their outputs into the answer.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    engine::{
        batch::Batcher,
        queue::{JobOutputs, JobResult, Urgency},
    },
    metrics::Stage,
    predict::{
        PredictError,
        error::InferenceFailure,
        event::RunShare,
        offload::Offload,
        prediction::{ModelOutput, Timing},
        prepared::Prepared,
    },
    registry::servable::{Contents, Servable},
    tensor::{Tensors, batches, join},
    transform::{
        outputs::Outputs,
        preprocess::{self, Group},
    },
};

/// Answers with more rows than this are turned into fields on threads for heavy work, not on the
/// network threads.
const HEAVY_ROWS: usize = 256;

/// Maximum number of waiting runs of one request, per worker. A request with many rows must not
/// fill the queue. Two runs per worker keep the workers busy.
pub(crate) const WINDOW_PER_WORKER: usize = 2;

/// Outputs of one run, and the number of the request's rows in it.
type RunOutputs = (Tensors, usize);

/// The parameters of a request's runs, and the time that the runs took.
pub(super) struct Run<'a> {
    pub servable: &'a Arc<Servable>,
    pub urgency: Urgency,
    pub offload: &'a Offload,
    pub timing: &'a mut Timing,
    pub share: &'a mut RunShare,
    /// A flag that is set when the first engine run begins. `None` if no observer needs it.
    pub running: Option<Arc<AtomicBool>>,
}

impl Run<'_> {
    /// Batches, infers and postprocesses.
    pub(super) async fn run(mut self, prepared: Prepared) -> Result<ModelOutput, PredictError> {
        let (rows, raw) = (prepared.rows, prepared.raw);
        let order = preprocess::order(&prepared.groups);
        let runs = self
            .infer(prepared)
            .await
            .map_err(|error| without_personal_values(error, self.servable))?;
        let start = Instant::now();
        let output = match &self.servable.contents {
            Contents::Package(_) if !raw => ModelOutput::Fields(if rows > HEAVY_ROWS {
                let servable = Arc::clone(self.servable);
                let work = move || interpret(&servable, runs, order.as_deref());
                Box::pin(self.offload.run(self.urgency.deadline, work)).await??
            } else {
                interpret(self.servable, runs, order.as_deref())?
            }),
            _ => ModelOutput::Graph(join_runs(runs)?),
        };
        self.timing.set(Stage::Postprocess, start.elapsed());
        Ok(output)
    }

    async fn infer(&mut self, mut prepared: Prepared) -> Result<Vec<RunOutputs>, PredictError> {
        let (rows, whole) = (prepared.rows, prepared.whole);
        let limit = self.servable.batcher.policy().max_batch_size;
        if prepared.groups.len() == 1
            && (rows <= limit || whole)
            && let Some(Group { tensors, .. }) = prepared.groups.pop()
        {
            // A job of zero rows would seem to fit into any run.
            let job_rows = if whole { rows.max(1) } else { rows };
            let receiver = self.submit(tensors, job_rows)?;
            // Requests that have already arrived are queued first. They join the same run, and one
            // wake-up of a worker is enough for all of them.
            let wake = WakeOnDrop(&self.servable.batcher);
            tokio::task::yield_now().await;
            drop(wake);
            let outputs = self.receive(receiver, job_rows).await?;
            return Ok(vec![(outputs, rows)]);
        }
        let mut parts = Vec::new();
        for group in prepared.groups {
            let count = group.count(rows);
            parts.extend(batches(group.tensors, count, limit).ok_or(PredictError::Broken)?);
        }
        Box::pin(self.infer_window(parts)).await
    }

    /// Runs the many parts of a request, a few at a time. Returns their outputs in order.
    async fn infer_window(
        &mut self,
        parts: Vec<RunOutputs>,
    ) -> Result<Vec<RunOutputs>, PredictError> {
        let window = self.servable.workers * WINDOW_PER_WORKER;
        let mut waiting = VecDeque::with_capacity(window);
        let mut outputs = Vec::with_capacity(parts.len());
        let mut parts = parts.into_iter();
        loop {
            while waiting.len() < window
                && let Some((part, count)) = parts.next()
            {
                waiting.push_back((self.submit(part, count)?, count));
                self.servable.batcher.wake();
            }
            let Some((receiver, count)) = waiting.pop_front() else {
                return Ok(outputs);
            };
            outputs.push((self.receive(receiver, count).await?, count));
        }
    }

    fn submit(
        &self,
        tensors: Tensors,
        rows: usize,
    ) -> Result<oneshot::Receiver<JobResult>, PredictError> {
        let batcher = &self.servable.batcher;
        Ok(batcher.submit_marked(tensors, rows, self.urgency, self.running.clone())?)
    }

    /// Waits for the outputs of a run, and adds up the time that the run took.
    async fn receive(
        &mut self,
        receiver: oneshot::Receiver<JobResult>,
        rows: usize,
    ) -> Result<Tensors, PredictError> {
        let answer = tokio::time::timeout_at(self.urgency.deadline.into(), receiver)
            .await
            .map_err(|_| PredictError::DeadlineExceeded)?;
        let JobOutputs {
            outputs,
            queued,
            ran,
            batch_rows,
        } = answer.map_err(|_| PredictError::Broken)??;
        self.timing.add(Stage::Queue, queued);
        self.timing.add(Stage::Infer, ran);
        self.share.runs += 1;
        self.share.rows += batch_rows;
        let cores = self.servable.intra_op_threads as f64;
        let part = rows as f64 / batch_rows.max(1) as f64;
        self.share.core_seconds += ran.as_secs_f64() * cores * part;
        Ok(outputs)
    }
}

/// Removes the values that a graph quotes in its error, if a field of the schema is personal.
fn without_personal_values(error: PredictError, servable: &Servable) -> PredictError {
    let personal = servable
        .package()
        .is_some_and(|package| package.parts.input.is_personal());
    if personal {
        error.without_values()
    } else {
        error
    }
}

/// Turns output tensors into fields. `order`: the positions of the rows in the request, in the
/// order of the runs.
pub(super) fn interpret(
    servable: &Servable,
    runs: Vec<RunOutputs>,
    order: Option<&[usize]>,
) -> Result<Outputs, PredictError> {
    let Contents::Package(packaged) = &servable.contents else {
        return Err(PredictError::Broken);
    };
    let mut outputs = Vec::with_capacity(runs.len());
    for (tensors, rows) in runs {
        let part = packaged.transform.interpret(&tensors, rows);
        outputs.push(part.map_err(|fault| match fault.not_finite() {
            true => PredictError::NotFinite(fault),
            false => PredictError::Outputs(fault),
        })?);
    }
    Outputs::gather(outputs, order).ok_or(PredictError::Broken)
}

/// Joins the outputs of a request that took several runs.
fn join_runs(mut runs: Vec<RunOutputs>) -> Result<Tensors, PredictError> {
    if runs.len() == 1
        && let Some((tensors, _)) = runs.pop()
    {
        return Ok(tensors);
    }
    let fits =
        |(tensors, rows): &RunOutputs| tensors.0.iter().all(|(_, tensor)| tensor.rows() == *rows);
    let joined = runs
        .iter()
        .all(fits)
        .then(|| join(&runs.iter().map(|(tensors, _)| tensors).collect::<Vec<_>>()));
    joined
        .flatten()
        .ok_or(PredictError::Inference(InferenceFailure::OutputRows))
}

/// Wakes a worker when dropped, even if the caller disconnects between queueing and waking.
struct WakeOnDrop<'a>(&'a Batcher);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}
