//! `predictd predict`: predicts without a server, with the same code that a server uses for
//! requests.

use std::{
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::bail;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::runtime::Runtime as Tokio;

use crate::{
    app,
    cli::{CommandOutcome, ConfigArgs, check_package_directory, sample::read_rows},
    config::{BatchingConfig, Config, Oip},
    decode::DecodeLimits,
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
        queue::BatchPolicy,
        supervisor::Supervisor,
    },
    metrics::Metrics,
    package::ModelPackage,
    predict::{
        AnsweringVersion, Failure, Input, ModelOutput, PredictError, PredictRequest, Prediction,
        Predictor, Priority, RequestOrigin, WINDOW_PER_WORKER, event::Observer,
    },
    registry::{
        Registry,
        gate::{Batching, declared_batching},
        route::Target,
        servable::{Contents, LoadedVersion, Packaged, Servable},
    },
    schema::fault::Fault,
};

/// Limits for decoding. The file belongs to the caller, so only nesting is limited, because it uses
/// the stack.
const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: usize::MAX,
    max_depth: 64,
    max_array_values: usize::MAX,
};

/// The deadline of a prediction. It is long enough to have no effect. It is finite because an
/// `Instant` can't be infinite.
const TIME_LIMIT: Duration = Duration::from_secs(30 * 86_400);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the package
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Instances as JSON, JSON Lines or CSV [default: stdin]
    ///
    /// A JSON request, a JSON list of instances, one instance per line, or a CSV table. Stdin can't
    /// be CSV.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    check_package_directory(&args.directory)?;
    let package = ModelPackage::open(&args.directory)?;
    let (predictor, window) = predictor(package, &args.config.load()?, Vec::new())?;
    let text = read_input(args.input.as_deref())?;
    let mut command = PredictCommand {
        predictor,
        window,
        network: tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?,
        output: BufWriter::new(std::io::stdout().lock()),
    };
    let outcome = command.answer_all(text.into());
    command.output.flush()?;
    outcome
}

/// Creates a predictor for this package only. Also returns the number of requests that may be in
/// work at once.
fn predictor(
    package: ModelPackage,
    config: &Config,
    observers: Vec<Box<dyn Observer>>,
) -> anyhow::Result<(Predictor, usize)> {
    let runtime = Runtime::load(&app::find_library(&config.runtime.library)?)?;
    let threads = config.runtime.intra_op_threads.max(1);
    let (mut factory, engine) = OnnxFactory::open(&runtime, &package.model_path(), threads)?;
    factory.feed(|name| package.parts.feeds(name));
    let transform = package.parts.bind(factory.signature())?;
    let configured = config.model_settings().batching(package.id.name.as_str());
    let policy = policy(&package, &configured, &factory)?;
    // The lines must fill the runs, but not the queue: a full queue refuses requests.
    let window = policy
        .max_batch_size
        .saturating_mul(2)
        .min(policy.queue_capacity / WINDOW_PER_WORKER)
        .max(1);
    let contents = Contents::Package(Box::new(Packaged::new(
        package,
        transform,
        factory.signature(),
    )));
    let id = contents.id().clone();
    let metrics = Metrics::new(0.0)?;
    let servable = Servable::start(
        LoadedVersion {
            contents,
            oip: Oip::Fields,
            engines: vec![Box::new(engine)],
            factory: Arc::new(factory),
            batching: Batching::Rows,
            policy,
            without_rows: Default::default(),
            windows: Vec::new(),
        },
        metrics.version(id.name.as_str(), id.version.as_str()),
        &Arc::new(Supervisor::start()?),
    )?;
    let registry = Registry::of_one(Arc::new(servable), metrics.unversioned(id.name.as_str()));
    let predictor = Predictor::new(registry, app::cores(), observers)?;
    Ok((predictor.with_limits(LIMITS), window))
}

fn policy(
    package: &ModelPackage,
    configured: &BatchingConfig,
    factory: &OnnxFactory,
) -> anyhow::Result<BatchPolicy> {
    let batching = &package.parts.serving.batching;
    let limit = configured
        .max_batch_size
        .min(batching.max_batch_size.unwrap_or(usize::MAX));
    // Only the load gate tests with neighbouring rows, and it did not run. So only the analysis of
    // the graph proves independent rows; the package's own claim does not.
    let declared = batching.independent_rows.filter(|independent| !independent);
    let batches = declared_batching(declared, &factory.about()?, factory.signature(), limit);
    Ok(BatchPolicy {
        max_batch_size: match batches {
            Batching::Rows => limit,
            Batching::None { .. } => 1,
        },
        max_delay: Duration::ZERO,
        queue_capacity: configured.queue_capacity,
        max_rows_per_run: usize::MAX,
    })
}

fn read_input(path: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let Some(path) = path else {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text)?;
        return Ok(text);
    };
    let is_table = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    if !is_table {
        return Ok(fs_err::read(path)?);
    }
    // `init` reads a CSV file in the same way.
    let rows = read_rows(path)?;
    Ok(rows
        .iter()
        .map(|row| format!("{row}\n"))
        .collect::<String>()
        .into_bytes())
}

struct PredictCommand<W: Write> {
    predictor: Predictor,
    /// The maximum number of lines that are in work at once, so that they share engine runs.
    window: usize,
    network: Tokio,
    output: W,
}

impl<W: Write> PredictCommand<W> {
    fn answer_all(&mut self, text: Bytes) -> anyhow::Result<CommandOutcome> {
        // The text is one JSON document, or one instance per line.
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
        if !whole {
            return self.answer_lines(&text);
        }
        let is_array = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let request = if is_array {
            Bytes::from([b"{\"instances\":", &*text, b"}"].concat())
        } else {
            text
        };
        let prediction = self.network.block_on(predict(&self.predictor, request));
        Ok(if write(prediction, "", &mut self.output)? {
            CommandOutcome::Done
        } else {
            CommandOutcome::Failed
        })
    }

    fn answer_lines(&mut self, text: &Bytes) -> anyhow::Result<CommandOutcome> {
        let PredictCommand {
            predictor,
            window,
            network,
            output,
        } = self;
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        let requests = lines
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(async |(index, line)| (index, predict(predictor, text.slice_ref(line)).await));
        let mut predictions = stream::iter(requests).buffered(*window);
        let (mut outcome, mut count) = (CommandOutcome::Done, 0);
        network.block_on(async {
            while let Some((index, prediction)) = predictions.next().await {
                count += 1;
                if !write(prediction, &format!("line {}: ", index + 1), output)? {
                    outcome = CommandOutcome::Failed;
                    // Each line of the output must match the line of the input with the same
                    // number.
                    writeln!(output, "null")?;
                }
            }
            anyhow::Ok(())
        })?;
        if count == 0 {
            bail!("the input contains no instance");
        }
        Ok(outcome)
    }
}

/// Writes one answer. If the input has faults, prints them to stderr and returns false.
fn write(
    prediction: Result<Box<Prediction>, PredictError>,
    place: &str,
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    let prediction = match prediction {
        Ok(prediction) => prediction,
        Err(error) => return report(error, place),
    };
    // A package has output fields. A bare graph was rejected earlier.
    let ModelOutput::Fields(outputs) = &prediction.output else {
        bail!("{place}the package has no output fields");
    };
    let mut text = Vec::new();
    for row in 0..outputs.rows {
        outputs.write_json(row, &mut text);
        text.push(b'\n');
    }
    output.write_all(&text)?;
    Ok(true)
}

async fn predict(predictor: &Predictor, text: Bytes) -> Result<Box<Prediction>, PredictError> {
    let request = PredictRequest {
        origin: RequestOrigin::default(),
        target: Target {
            model: None,
            version: None,
        },
        input: Input::Instances(text),
        wanted: &[],
        deadline: Instant::now() + TIME_LIMIT,
        priority: Priority::default(),
        header: &|_| None,
        answering: &AnsweringVersion::default(),
    };
    let prediction = predictor.predict(request).await;
    prediction.map_err(|Failure { error, .. }| error)
}

/// Prints a fault of the input. Any other error ends the command.
fn report(error: PredictError, place: &str) -> anyhow::Result<bool> {
    match error {
        PredictError::Invalid { faults, more } => print_faults(place, &faults, more),
        error @ (PredictError::Malformed(_) | PredictError::Refused(_)) => {
            eprintln!("{place}{error}");
        }
        error => match error.log_detail() {
            detail if detail.is_empty() => bail!("{place}{error}"),
            detail => bail!("{place}{error}: {detail}"),
        },
    }
    Ok(false)
}

fn print_faults(place: &str, faults: &[Fault], more: usize) {
    for fault in faults {
        eprintln!(
            "{place}{} {}: {}",
            fault.pointer, fault.keyword, fault.detail
        );
    }
    if more > 0 {
        eprintln!("{place}and {more} more");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use bytes::Bytes;
    use futures_util::FutureExt;

    use crate::{
        cli::predict::{predict, predictor},
        config::Config,
        id::PredictionId,
        metrics::Stage,
        package::ModelPackage,
        predict::{
            PredictError, Predictor,
            event::{AssignedRequest, Observer, PredictionEvent, RunShare, SharedInput},
        },
    };

    /// What an observer saw of one request.
    struct Seen {
        id: PredictionId,
        rows: usize,
        input_rows: Option<usize>,
        share: RunShare,
        infer: Duration,
        error: Option<String>,
    }

    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<Seen>>>);

    impl Observer for Recorder {
        fn wants_input(&self, _: &AssignedRequest<'_>) -> bool {
            true
        }

        fn observe(&self, event: &PredictionEvent<'_>) {
            assert_eq!(event.servable.id().to_string(), "churn/1.1.0");
            self.0.lock().unwrap().push(Seen {
                id: event.id,
                rows: event.rows,
                input_rows: event.input.map(|input| match input {
                    SharedInput::Columns(columns) => columns.rows,
                    SharedInput::Tensors(_) => 0,
                }),
                share: event.share,
                infer: event.timing.get(Stage::Infer),
                error: event.outcome.err().map(PredictError::to_string),
            });
        }
    }

    fn watched_predictor() -> (Predictor, Recorder) {
        let package = ModelPackage::open(Path::new("models/churn/1.1.0")).unwrap();
        let recorder = Recorder::default();
        let observers: Vec<Box<dyn Observer>> = vec![Box::new(recorder.clone())];
        let (predictor, _) = predictor(package, &Config::default(), observers).unwrap();
        (predictor, recorder)
    }

    fn instances(count: usize) -> Bytes {
        let examples = fs_err::read_to_string("models/churn/1.1.0/golden.jsonl").unwrap();
        let inputs: Vec<serde_json::Value> = examples
            .lines()
            .take(count)
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["input"].take())
            .collect();
        serde_json::json!({ "instances": inputs })
            .to_string()
            .into()
    }

    #[tokio::test]
    async fn an_observer_sees_each_request_once() {
        let (predictor, recorder) = watched_predictor();
        let prediction = predict(&predictor, instances(3)).await.unwrap();
        let seen = recorder.0.lock().unwrap().pop().unwrap();
        assert_eq!((seen.id, seen.rows), (prediction.id, 3));
        assert_eq!((seen.input_rows, seen.error), (Some(3), None));
        assert_eq!((seen.share.runs, seen.share.rows), (1, 3));
        assert!(seen.share.core_seconds > 0.0 && seen.infer > Duration::ZERO);

        let invalid = predict(&predictor, Bytes::from("{}")).await.err().unwrap();
        let seen = recorder.0.lock().unwrap().pop().unwrap();
        assert_eq!(seen.error, Some(invalid.to_string()));
        assert_eq!((seen.share, seen.input_rows), (RunShare::default(), None));

        // The caller leaves while the request waits for its run.
        assert!(predict(&predictor, instances(1)).now_or_never().is_none());
        let seen = recorder.0.lock().unwrap().pop().unwrap();
        assert_eq!(seen.error, Some(PredictError::Cancelled.to_string()));
        assert_eq!((seen.rows, seen.input_rows), (1, Some(1)));

        assert!(recorder.0.lock().unwrap().is_empty());
    }
}
