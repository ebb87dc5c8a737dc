//! The data plane: one line that every transport, and later every batch and stream, comes through.

mod assign;
mod error;
mod fallback;
mod prepare;
mod shadow;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

pub use crate::engine::queue::Priority;
pub use error::PredictError;
pub use fallback::Fallback;
pub use prepare::Input;

use crate::{
    engine::{
        batch::Batcher,
        queue::{JobOutputs, JobResult, Urgency},
    },
    id::PredictionId,
    metrics::{Stage, VersionMetrics},
    predict::{
        assign::Part,
        fallback::{Compared, Unanswered, own_deadline, reason},
        prepare::{Decoded, Prepared, decode, preprocess},
        shadow::{Copied, Copy, Shadow},
    },
    registry::{
        Registry,
        rehearsal::Samples,
        route::{Routed, Target, route},
        servable::{Contents, Servable},
        traffic::Traffic,
    },
    rollout::plan::Key,
    tensor::{Data, Tensors, batches, join},
    transform::{
        fields::{self, NamedTensor},
        outputs::{Json, OutputColumn, Outputs},
        preprocess::{self, Group},
    },
};

/// Bodies above this are decoded off the network threads: 64 KiB take about 0.2 ms.
const HEAVY_BODY_BYTES: usize = 64 << 10;

/// Answers of more rows than this are turned into fields off the network threads.
const HEAVY_ROWS: usize = 256;

/// Answers of more values than this are turned into text off the network threads.
pub const HEAVY_VALUES: usize = 1024;

pub struct PredictRequest<'a> {
    pub target: Target<'a>,
    pub input: Input,
    /// Outputs that the caller names; none: all.
    pub wanted: &'a [String],
    pub deadline: Instant,
    pub priority: Priority,
    /// A header of the request, by its name in small letters; its protocol's word for it.
    pub header: &'a (dyn Fn(&str) -> Option<Vec<u8>> + Sync),
    pub answering: &'a Answering,
}

/// The version that is to answer a request, as soon as it is known: what is counted where the caller leaves before the answer.
#[derive(Default)]
pub struct Answering(Mutex<Option<Arc<Servable>>>);

impl Answering {
    fn set(&self, servable: &Arc<Servable>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(servable));
    }

    pub fn get(&self) -> Option<Arc<Servable>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// An answered request.
pub struct Prediction {
    pub id: PredictionId,
    /// `id` as the client sent it.
    pub client_id: Option<String>,
    pub servable: Arc<Servable>,
    pub outcome: Outcome,
    pub rows: usize,
    pub timing: Timing,
    /// Another than the one that should have answered.
    pub fallback: Option<Fallback>,
}

/// What the model said.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The response's fields.
    Fields(Outputs),
    /// The graph's own outputs.
    Graph(Tensors),
}

impl Prediction {
    /// Takes the answer as tensors, those that are wanted in the order in which they are; none wanted: all.
    /// An error where an output can't be one: its rows have different shapes.
    pub fn take_tensors(&mut self, wanted: &[String]) -> Result<Vec<NamedTensor>, String> {
        let tensors = match std::mem::replace(&mut self.outcome, Outcome::Graph(Tensors::default()))
        {
            Outcome::Fields(outputs) => {
                fields::tensors(outputs).map_err(|error| error.to_string())?
            }
            Outcome::Graph(tensors) => {
                let labels = self.servable.labels();
                let named = tensors.0.into_iter().map(|(name, tensor)| {
                    let labels = labels.and_then(|labels| labels.get(&*name)).cloned();
                    NamedTensor {
                        name,
                        tensor,
                        labels,
                    }
                });
                named.collect()
            }
        };
        if wanted.is_empty() {
            return Ok(tensors);
        }
        Ok(wanted
            .iter()
            .filter_map(|name| {
                tensors
                    .iter()
                    .find(|tensor| *tensor.name == **name)
                    .cloned()
            })
            .collect())
    }

    /// Numbers and texts in the answer, about.
    pub fn weight(&self) -> usize {
        self.outcome.weight()
    }
}

impl Outcome {
    fn weight(&self) -> usize {
        /// Bytes of a text that take as long as a number.
        const BYTES: usize = 8;
        /// Texts whose lengths are added up: more are heavy by their number.
        const COUNTED: usize = 1 << 16;
        let texts = |texts: &[String]| {
            texts.len() + texts.iter().take(COUNTED).map(String::len).sum::<usize>() / BYTES
        };
        let label =
            |labels: &[Json]| 1 + labels.iter().map(|label| label.len()).max().unwrap_or(0) / BYTES;
        let plain = |column: &OutputColumn| match column {
            OutputColumn::Labels { labels, indices } => indices.len() * label(labels),
            OutputColumn::TopK { labels, ranked, .. } => ranked.len() * label(labels),
            OutputColumn::Map { keys, values } => values.len() * label(keys),
            OutputColumn::Numbers { values, .. } => values.len(),
            OutputColumn::Bools { values, .. } => values.len(),
            OutputColumn::Texts { values, .. } => texts(values),
            OutputColumn::Ragged { rows, .. } => rows.len(),
        };
        let field = |column: &OutputColumn| match column {
            OutputColumn::Ragged { runs, .. } => runs.iter().map(plain).sum(),
            column => plain(column),
        };
        match self {
            Outcome::Fields(outputs) => outputs
                .rows
                .max(outputs.fields.iter().map(|(_, column)| field(column)).sum()),
            Outcome::Graph(tensors) => {
                let tensor = |data: &Data| {
                    if let Data::Bytes(values) = data {
                        texts(values)
                    } else {
                        data.len()
                    }
                };
                tensors
                    .0
                    .iter()
                    .map(|(_, output)| tensor(output.data()))
                    .sum()
            }
        }
    }
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
    shadow: Shadow,
    compared: Compared,
}

/// Who has a say in a request, found by its URL.
struct Course {
    /// Decodes.
    stable: Arc<Servable>,
    traffic: Option<Arc<Traffic>>,
    samples: Option<Arc<Samples>>,
    /// A fallback may need what was decoded.
    keeps: bool,
    id: PredictionId,
    /// The header that the rollout assigns by.
    key: Option<Vec<u8>>,
    wanted: Vec<String>,
    explicit: bool,
}

/// A request that is ready for an engine.
struct Ready {
    prepared: Prepared,
    servable: Arc<Servable>,
    part: Option<Part>,
    /// For the candidates that are to answer it, too, and for a fallback.
    copied: Option<Copied>,
    shadowed: bool,
}

impl Course {
    /// Decode by the stable version's schema, decide who answers, preprocess as that version does.
    fn take(&self, input: Input) -> Result<Ready, Box<(PredictError, Option<Part>)>> {
        let decoded = decode(&self.stable, input, &self.wanted, self.explicit)
            .map_err(|error| Box::new((error, None)))?;
        let now = Instant::now();
        if let (Some(samples), Decoded::Fields(fields)) = (&self.samples, &decoded) {
            samples.offer(&fields.columns, now);
        }
        let columns = match (&decoded, self.stable.package()) {
            (Decoded::Fields(fields), Some(package)) => {
                Some((&package.parts.input, &fields.columns))
            }
            _ => None,
        };
        let part = self
            .traffic
            .as_ref()
            .map(|traffic| Part::new(traffic, self.key.as_deref(), columns, self.id, now));
        let shadowed = part
            .as_ref()
            .is_some_and(|part| part.arm == 0 && part.traffic.shadows(part.hash).next().is_some());
        match self.ready(decoded, part.as_ref(), shadowed || self.keeps) {
            Ok((prepared, servable, kept)) => Ok(Ready {
                prepared,
                servable,
                part,
                copied: kept,
                shadowed,
            }),
            Err(error) => Err(Box::new((error, part))),
        }
    }

    /// Preprocesses as the version does that answers; what was decoded is kept where it `keeps`.
    fn ready(
        &self,
        decoded: Decoded,
        part: Option<&Part>,
        keeps: bool,
    ) -> Result<(Prepared, Arc<Servable>, Option<Copied>), PredictError> {
        let arm = part.and_then(|part| part.traffic.arms.get(part.arm.checked_sub(1)?)?.as_ref());
        let servable = arm.map_or(&self.stable, |arm| &arm.servable);
        let (prepared, kept) = match (decoded, &servable.contents) {
            (Decoded::Fields(mut fields), Contents::Package(packaged)) => {
                match arm.and_then(|arm| arm.binding.as_ref()) {
                    Some(binding) => {
                        let kept = keeps.then(|| fields.columns.clone());
                        fields.columns = binding.bind(fields.columns);
                        (
                            preprocess(servable, packaged, &mut fields)?,
                            kept.map(|columns| Copied::Fields(Arc::new(columns))),
                        )
                    }
                    None => {
                        let prepared = preprocess(servable, packaged, &mut fields)?;
                        (
                            prepared,
                            keeps.then(|| Copied::Fields(Arc::new(fields.columns))),
                        )
                    }
                }
            }
            (Decoded::Tensors(prepared), _) => {
                let tensors = prepared
                    .groups
                    .first()
                    .filter(|_| keeps)
                    .map(|group| group.tensors.clone());
                let kept = tensors.map(|tensors| Copied::Tensors(Arc::new(tensors)));
                (prepared, kept)
            }
            (Decoded::Fields(_), Contents::Bare(_)) => return Err(PredictError::Broken),
        };
        Ok((prepared, Arc::clone(servable), kept))
    }
}

impl Predictor {
    pub fn new(registry: Registry, cores: usize) -> std::io::Result<Predictor> {
        Ok(Predictor {
            registry,
            heavy: Arc::new(Semaphore::new(cores.max(1))),
            shadow: Shadow::start()?,
            compared: Compared::default(),
        })
    }

    /// Answers one request: route, decode, preprocess, batch and infer, postprocess.
    pub async fn predict(&self, request: PredictRequest<'_>) -> Result<Prediction, Failure> {
        let routed = route(&self.registry.snapshot(), request.target, Instant::now());
        let routed = routed.map_err(|(error, unversioned)| Failure {
            error: PredictError::Route(error),
            servable: None,
            unversioned,
        })?;
        let _inflight = Inflight::new(&routed.servable);
        request.answering.set(&routed.servable);
        self.answer(routed, request).await
    }

    async fn answer(
        &self,
        routed: Routed,
        request: PredictRequest<'_>,
    ) -> Result<Prediction, Failure> {
        let PredictRequest {
            target,
            input,
            wanted,
            deadline,
            priority,
            header,
            answering,
        } = request;
        let Routed {
            servable: stable,
            traffic,
            samples,
            fallback,
            previous,
        } = routed;
        let fail = |error, servable: &Arc<Servable>| Failure {
            error,
            servable: Some(Arc::clone(servable)),
            unversioned: None,
        };
        let key = traffic
            .as_ref()
            .and_then(|traffic| match &traffic.step.plan.key {
                Key::Header(name) => header(name),
                _ => None,
            });
        let heavy = stable
            .fields()
            .is_some_and(|packaged| packaged.transform.preprocess.has_images())
            || input.weight(&stable) > HEAVY_BODY_BYTES;
        let id = PredictionId::new();
        let explicit = target.is_pinned();
        let keeps = fallback.is_some();
        let course = Course {
            stable: Arc::clone(&stable),
            traffic,
            samples,
            keeps,
            id,
            key,
            wanted: wanted.to_vec(),
            explicit,
        };
        let taken = if heavy {
            self.offload(deadline, move || course.take(input))
                .await
                .map_err(|error| fail(error, &stable))?
        } else {
            course.take(input)
        };
        let ready = taken.map_err(|refused| {
            let (error, mut part) = *refused;
            if let Some(part) = &mut part {
                part.observe(Err(&error));
            }
            let answering = part.as_ref().and_then(|part| {
                Some(
                    &part
                        .traffic
                        .arms
                        .get(part.arm.checked_sub(1)?)?
                        .as_ref()?
                        .servable,
                )
            });
            fail(error, answering.unwrap_or(&stable))
        })?;
        let Ready {
            prepared,
            servable,
            mut part,
            copied,
            shadowed,
        } = ready;
        if !Arc::ptr_eq(&servable, &stable) {
            answering.set(&servable);
        }
        let (rows, by_row, raw, client_id, mut timing) = (
            prepared.rows,
            prepared.by_row,
            prepared.raw,
            prepared.client_id.clone(),
            prepared.timing,
        );
        let own = fallback.as_ref().map_or(deadline, |fallback| {
            own_deadline(deadline, Instant::now(), &fallback.on)
        });
        // Who shares a run that does not come back shares one failure, and not as many as there are.
        let running = part.as_ref().map(|part| Arc::clone(&part.running));
        let outcome = self
            .run(
                &servable,
                prepared,
                Urgency {
                    deadline: own,
                    priority,
                },
                &mut timing,
                running.as_ref(),
            )
            .await;
        let outcome = outcome.map_err(|error| match error {
            PredictError::DeadlineExceeded
                if running.is_some_and(|running| running.load(Ordering::Relaxed)) =>
            {
                PredictError::Lost(Box::new(error))
            }
            other => other,
        });
        if let Some(part) = &mut part {
            part.observe(outcome.as_ref());
        }
        let error = match outcome {
            Ok(outcome) => {
                if let (Some(part), Some(data), true) = (part, copied, shadowed) {
                    self.copy(&part, data, (rows, by_row), &outcome);
                }
                return Ok(Prediction {
                    id,
                    client_id,
                    servable,
                    outcome,
                    rows,
                    timing,
                    fallback: None,
                });
            }
            Err(error) => error,
        };
        if let (Some(chain), Some(data)) = (&fallback, &copied)
            && let Some(reason) = reason(&error).filter(|reason| chain.on.contains(reason))
        {
            let urgency = Urgency { deadline, priority };
            let request = Unanswered {
                stable: &stable,
                primary: &servable,
                previous: previous.as_ref(),
                data,
                rows,
                by_row,
                raw,
                urgency,
            };
            if let Some((answering, outcome, to)) =
                self.fall_back(&chain.to, &request, &mut timing).await
            {
                servable.metrics.count_fallback(reason.name(), error.code());
                let fallback = Some(Fallback { to, reason });
                return Ok(Prediction {
                    id,
                    client_id,
                    servable: answering,
                    outcome,
                    rows,
                    timing,
                    fallback,
                });
            }
        }
        Err(fail(error, &servable))
    }

    /// Batch, infer and postprocess.
    async fn run(
        &self,
        servable: &Arc<Servable>,
        prepared: Prepared,
        urgency: Urgency,
        timing: &mut Timing,
        running: Option<&Arc<AtomicBool>>,
    ) -> Result<Outcome, PredictError> {
        let Prepared {
            groups,
            rows,
            whole,
            raw,
            ..
        } = prepared;
        let order = preprocess::order(&groups);
        let job = JobRows {
            groups,
            rows,
            whole,
        };
        let parts = infer(servable, job, urgency, timing, running)
            .await
            .map_err(|error| without_personal(error, servable))?;
        let start = Instant::now();
        let outcome = match &servable.contents {
            Contents::Package(_) if !raw => Outcome::Fields(if rows > HEAVY_ROWS {
                let servable = Arc::clone(servable);
                self.offload(urgency.deadline, move || {
                    interpret(&servable, parts, order.as_deref())
                })
                .await??
            } else {
                interpret(servable, parts, order.as_deref())?
            }),
            _ => Outcome::Graph(rejoin(parts)?),
        };
        timing.set(Stage::Postprocess, start.elapsed());
        Ok(outcome)
    }

    /// Has the candidates of a shadow answer the request, too.
    fn copy(&self, part: &Part, data: Copied, (rows, by_row): (usize, bool), outcome: &Outcome) {
        let answer = Arc::new(outcome.clone());
        for (candidate, _) in part.traffic.shadows(part.hash) {
            self.shadow.offer(Copy {
                traffic: Arc::clone(&part.traffic),
                candidate,
                hash: part.hash,
                data: data.clone(),
                rows,
                by_row,
                answer: Arc::clone(&answer),
            });
        }
    }

    /// Runs work that would hold up a network thread elsewhere, as much at once as there are cores.
    pub async fn offload<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PredictError> {
        let permit =
            tokio::time::timeout_at(deadline.into(), Arc::clone(&self.heavy).acquire_owned()).await;
        let permit = permit
            .map_err(|_| PredictError::DeadlineExceeded)?
            .map_err(|_| PredictError::Broken)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|_| PredictError::Broken)
    }
}

/// Rows on their way to the engines; `whole`: in one run, whatever their number.
struct JobRows {
    groups: Vec<Group>,
    rows: usize,
    whole: bool,
}

/// Runs all rows, in as many runs as the batch limit asks for, and gives the outputs of each in order.
async fn infer(
    servable: &Servable,
    JobRows {
        mut groups,
        rows,
        whole,
    }: JobRows,
    urgency: Urgency,
    timing: &mut Timing,
    running: Option<&Arc<AtomicBool>>,
) -> Result<Vec<(Tensors, usize)>, PredictError> {
    let limit = servable.batcher.policy().max_batch_size;
    let deadline = urgency.deadline;
    if groups.len() == 1
        && (rows <= limit || whole)
        && let Some(Group { tensors, .. }) = groups.pop()
    {
        // A job of no rows would seem to fit into any run.
        let receiver = servable.batcher.submit_marked(
            tensors,
            if whole { rows.max(1) } else { rows },
            urgency,
            running.cloned(),
        )?;
        // Other requests that have arrived get their turn first: they join the same run, and one wake-up serves all.
        let wake = Wake(&servable.batcher);
        tokio::task::yield_now().await;
        drop(wake);
        let answer = receive(receiver, deadline).await?;
        timing.set(Stage::Queue, answer.queued);
        timing.set(Stage::Infer, answer.ran);
        return Ok(vec![(answer.outputs, rows)]);
    }
    let mut parts = Vec::new();
    for group in groups {
        let count = group.count(rows);
        parts.extend(batches(group.tensors, count, limit).ok_or(PredictError::Broken)?);
    }
    // A window, so that one request of many rows neither fills the queue nor keeps others from it.
    let window = servable.workers * 2;
    let mut waiting = VecDeque::with_capacity(window);
    let mut outputs = Vec::with_capacity(parts.len());
    let (mut queued, mut ran) = (Duration::ZERO, Duration::ZERO);
    let mut parts = parts.into_iter();
    loop {
        while waiting.len() < window
            && let Some((part, count)) = parts.next()
        {
            waiting.push_back((
                servable
                    .batcher
                    .submit_marked(part, count, urgency, running.cloned())?,
                count,
            ));
            servable.batcher.wake();
        }
        let Some((receiver, count)) = waiting.pop_front() else {
            break;
        };
        let answer = receive(receiver, deadline).await?;
        queued += answer.queued;
        ran += answer.ran;
        outputs.push((answer.outputs, count));
    }
    timing.set(Stage::Queue, queued);
    timing.set(Stage::Infer, ran);
    Ok(outputs)
}

async fn receive(
    receiver: oneshot::Receiver<JobResult>,
    deadline: Instant,
) -> Result<JobOutputs, PredictError> {
    let answer = tokio::time::timeout_at(deadline.into(), receiver)
        .await
        .map_err(|_| PredictError::DeadlineExceeded)?;
    Ok(answer.map_err(|_| PredictError::Broken)??)
}

/// What a graph says of a value is not told where a field is personal.
fn without_personal(error: PredictError, servable: &Servable) -> PredictError {
    let personal = servable
        .package()
        .is_some_and(|package| package.parts.input.is_personal());
    if personal {
        error.without_values()
    } else {
        error
    }
}

/// `order`: where the rows of these runs, one after the other, belong.
fn interpret(
    servable: &Servable,
    parts: Vec<(Tensors, usize)>,
    order: Option<&[usize]>,
) -> Result<Outputs, PredictError> {
    let Contents::Package(packaged) = &servable.contents else {
        return Err(PredictError::Broken);
    };
    let mut runs = Vec::with_capacity(parts.len());
    for (tensors, rows) in parts {
        runs.push(
            packaged
                .transform
                .interpret(&tensors, rows)
                .map_err(|fault| match fault.not_finite() {
                    true => PredictError::NotFinite(fault.to_string()),
                    false => PredictError::Inference(fault.to_string()),
                })?,
        );
    }
    Outputs::gather(runs, order).ok_or(PredictError::Broken)
}

/// The outputs of a request that took several runs.
fn rejoin(mut parts: Vec<(Tensors, usize)>) -> Result<Tensors, PredictError> {
    if parts.len() == 1
        && let Some((tensors, _)) = parts.pop()
    {
        return Ok(tensors);
    }
    let uneven = || {
        PredictError::Inference("the outputs have not a row for each row of the inputs".to_owned())
    };
    let fits = |(tensors, rows): &(Tensors, usize)| {
        tensors.0.iter().all(|(_, tensor)| tensor.rows() == *rows)
    };
    let all = parts
        .iter()
        .all(fits)
        .then(|| join(&parts.iter().map(|(tensors, _)| tensors).collect::<Vec<_>>()));
    all.flatten().ok_or_else(uneven)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        predict::{HEAVY_VALUES, Outcome},
        tensor::{Data, Tensor, Tensors},
        transform::outputs::{Numbers, OutputColumn, Outputs},
    };

    #[test]
    fn long_answers_are_heavy() {
        let graph = |data: Data| {
            Outcome::Graph(Tensors(vec![(
                Arc::from("y"),
                Tensor::new(vec![data.len()], data).unwrap(),
            )]))
        };
        let field = |rows, column| {
            Outcome::Fields(Outputs {
                rows,
                fields: vec![(Arc::from("\"y\":"), column)],
            })
        };
        let numbers = |rows, count| {
            field(
                rows,
                OutputColumn::Numbers {
                    shape: vec![count / rows],
                    values: Numbers::F32(vec![0.0; count]),
                },
            )
        };
        let texts = |length| OutputColumn::Texts {
            shape: vec![],
            values: vec!["x".repeat(length)],
        };
        let labels = |length| OutputColumn::Labels {
            labels: Arc::from(vec![Arc::from("x".repeat(length))]),
            indices: vec![0; 100],
        };
        let cases = [
            (graph(Data::Fp32(vec![0.0; 1 << 10].into())), false),
            (graph(Data::Fp32(vec![0.0; 1 << 11].into())), true),
            (graph(Data::Bytes(vec!["x".repeat(1 << 10)])), false),
            (graph(Data::Bytes(vec!["x".repeat(1 << 20)])), true),
            (graph(Data::Bytes(vec![String::new(); 1 << 11])), true),
            (numbers(10, 10), false),
            // A row of many numbers.
            (numbers(1, 1 << 11), true),
            (field(1, texts(100)), false),
            (field(1, texts(1 << 20)), true),
            (field(100, labels(10)), false),
            (field(100, labels(1 << 10)), true),
        ];
        for (index, (outcome, heavy)) in cases.iter().enumerate() {
            assert_eq!(outcome.weight() > HEAVY_VALUES, *heavy, "{index}");
        }
    }
}
