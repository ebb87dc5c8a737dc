//! Every Prometheus series as a typed handle, declared once with unit and help and handed down.

pub mod runs;
pub mod statistics;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::{
    Counter, CounterVec, Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
    process_collector::ProcessCollector,
};

use crate::{
    clock,
    error::ErrorCode,
    metrics::{
        runs::Runs,
        statistics::{RequestTimes, Statistics},
    },
};

/// From 100 us to 10 s.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
const ROWS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// The parts of a request's path that are timed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Preprocess,
    Queue,
    Infer,
    Postprocess,
    Encode,
}

impl Stage {
    pub const ALL: [Stage; 6] = [
        Stage::Decode,
        Stage::Preprocess,
        Stage::Queue,
        Stage::Infer,
        Stage::Postprocess,
        Stage::Encode,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Preprocess => "preprocess",
            Stage::Queue => "queue",
            Stage::Infer => "infer",
            Stage::Postprocess => "postprocess",
            Stage::Encode => "encode",
        }
    }
}

/// The language that a caller speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// predictd's own API.
    #[default]
    Predict,
    /// Open Inference Protocol v2 over REST.
    V2,
    /// Open Inference Protocol v2 over gRPC.
    Grpc,
    /// KServe v1 and TensorFlow Serving, Vertex AI.
    V1,
    /// SageMaker and MLflow.
    Invocations,
}

impl Protocol {
    const COUNT: usize = 5;

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Predict => "predict",
            Protocol::V2 => "v2",
            Protocol::Grpc => "grpc",
            Protocol::V1 => "v1",
            Protocol::Invocations => "invocations",
        }
    }
}

/// How a package's way into the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOutcome<'a> {
    Loaded,
    Refused { reason: &'a str },
}

/// A loaded version, as `predictd_model_info` names it.
#[derive(Clone, Copy, Debug)]
pub struct LoadedInfo<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub digest: &'a str,
    /// A manifest vouched for its files.
    pub verified: bool,
}

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    stage_duration: HistogramVec,
    instances: IntCounterVec,
    errors: IntCounterVec,
    inflight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    batch_size: HistogramVec,
    model_info: IntGaugeVec,
    load_duration: HistogramVec,
    loads: IntCounterVec,
    compute: CounterVec,
    cost: CounterVec,
    shadow_requests: IntCounterVec,
    shadow_disagreements: IntCounterVec,
    shadow_dropped: IntCounterVec,
    models_ignored: IntGaugeVec,
    rollout_weight: GaugeVec,
    rollback_ready: IntGaugeVec,
    journal_pending: IntGaugeVec,
    rollout_transitions: IntCounterVec,
    rollout_e_value: GaugeVec,
    fallbacks: IntCounterVec,
    build_info: IntGaugeVec,
    pub worker_panics: IntCounter,
    pub wedged_workers: IntGauge,
    pub log_lines_dropped: IntCounter,
    pub source_errors: IntCounter,
    pub webhook_failures: IntCounter,
    pub connections: IntGauge,
    dollars_per_core_second: f64,
    unrouted: Arc<VersionMetrics>,
    /// Routed by the URL, but no version to answer: only models of the server's own appear here.
    unversioned: Arc<Mutex<HashMap<String, Arc<VersionMetrics>>>>,
}

/// The handles of one version, made once at load so that the hot path looks nothing up.
pub struct VersionMetrics {
    family: RequestFamily,
    /// Of each protocol, made with its first request.
    protocols: [OnceLock<ProtocolMetrics>; Protocol::COUNT],
    pub statistics: Arc<Statistics>,
    stages: [Histogram; 6],
    pub instances: IntCounter,
    pub inflight: IntGauge,
    pub engine: EngineMetrics,
}

/// What happens to the copies for one candidate.
#[derive(Clone)]
pub struct ShadowMetrics {
    pub requests: IntCounter,
    pub disagreements: IntCounter,
    pub dropped: IntCounter,
}

/// The handles of one protocol.
struct ProtocolMetrics {
    ok: IntCounter,
    duration: Histogram,
}

#[derive(Clone)]
struct RequestFamily {
    requests: IntCounterVec,
    durations: HistogramVec,
    errors: IntCounterVec,
    fallbacks: IntCounterVec,
    model: String,
    version: String,
}

/// What the batcher counts.
#[derive(Clone)]
pub struct EngineMetrics {
    statistics: Arc<Statistics>,
    pub runs: Arc<Runs>,
    pub queue_depth: IntGauge,
    batch_size: Histogram,
    compute: Counter,
    cost: Counter,
    pub worker_panics: IntCounter,
    pub wedged_workers: IntGauge,
    dollars_per_core_second: f64,
}

impl EngineMetrics {
    /// Counts one run of `rows` rows that kept `cores` cores busy for `elapsed`.
    pub fn observe_run(&self, rows: usize, elapsed: Duration, cores: usize) {
        self.statistics.observe_run(rows, elapsed);
        self.runs.observe(rows, elapsed);
        self.batch_size.observe(rows as f64);
        let core_seconds = elapsed.as_secs_f64() * cores as f64;
        self.compute.inc_by(core_seconds);
        if self.dollars_per_core_second > 0.0 {
            self.cost
                .inc_by(core_seconds * self.dollars_per_core_second);
        }
    }
}

impl VersionMetrics {
    pub fn observe_stage(&self, stage: Stage, elapsed: Duration) {
        if let Some(histogram) = self.stages.get(stage as usize) {
            histogram.observe(elapsed.as_secs_f64());
        }
    }

    fn protocol(&self, protocol: Protocol) -> Option<&ProtocolMetrics> {
        let RequestFamily {
            requests,
            durations,
            model,
            version,
            ..
        } = &self.family;
        let make = || ProtocolMetrics {
            ok: requests.with_label_values(&[model.as_str(), version, protocol.name(), "200"]),
            duration: durations.with_label_values(&[model.as_str(), version, protocol.name()]),
        };
        Some(self.protocols.get(protocol as usize)?.get_or_init(make))
    }

    /// Counts one answered request.
    pub fn observe_ok(&self, protocol: Protocol, times: &RequestTimes) {
        if let Some(handles) = self.protocol(protocol) {
            handles.ok.inc();
            handles.duration.observe(times.whole.as_secs_f64());
        }
        self.statistics.observe_ok(times, clock::now_ms());
    }

    /// Counts a failure that its caller did not see: another version answered instead.
    pub fn count_fallback(&self, reason: &str, code: ErrorCode) {
        let RequestFamily {
            errors,
            fallbacks,
            model,
            version,
            ..
        } = &self.family;
        fallbacks
            .with_label_values(&[model.as_str(), version, reason])
            .inc();
        if let Some(kind) = code.kind() {
            errors
                .with_label_values(&[model.as_str(), version, kind])
                .inc();
        }
    }

    /// Counts one refused or failed request; `status` is the one that was answered, in HTTP's numbers.
    pub fn observe_error(
        &self,
        protocol: Protocol,
        code: ErrorCode,
        status: u16,
        elapsed: Duration,
    ) {
        let RequestFamily {
            requests,
            errors,
            durations,
            model,
            version,
            ..
        } = &self.family;
        requests
            .with_label_values(&[
                model.as_str(),
                version,
                protocol.name(),
                status_text(status),
            ])
            .inc();
        if let Some(kind) = code.kind() {
            errors
                .with_label_values(&[model.as_str(), version, kind])
                .inc();
        }
        durations
            .with_label_values(&[model.as_str(), version, protocol.name()])
            .observe(elapsed.as_secs_f64());
        self.statistics.observe_error(elapsed);
    }
}

fn status_text(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        404 => "404",
        405 => "405",
        406 => "406",
        408 => "408",
        413 => "413",
        414 => "414",
        415 => "415",
        422 => "422",
        431 => "431",
        499 => "499",
        501 => "501",
        503 => "503",
        504 => "504",
        _ => "500",
    }
}

impl Metrics {
    /// `reason` is one of a closed set.
    pub fn set_models_ignored(&self, reason: &'static str, count: usize) {
        self.models_ignored
            .with_label_values(&[reason])
            .set(count as i64);
    }

    pub fn new(dollars_per_core_hour: f64) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let make = Declare {
            registry: &registry,
        };
        let requests = make.counters(
            "predictd_requests_total",
            "Requests by outcome.",
            &["model", "version", "protocol", "code"],
        )?;
        let request_duration = make.histograms(
            "predictd_request_duration_seconds",
            "Time from a request's first byte to its answer.",
            &["model", "version", "protocol"],
            &SECONDS,
        )?;
        let stage_duration = make.histograms(
            "predictd_stage_duration_seconds",
            "Time that requests spend in each stage.",
            &["model", "version", "stage"],
            &SECONDS,
        )?;
        let instances = make.counters(
            "predictd_instances_total",
            "Instances answered.",
            &["model", "version"],
        )?;
        let errors = make.counters(
            "predictd_errors_total",
            "Requests that were not answered, by kind.",
            &["model", "version", "kind"],
        )?;
        let inflight = make.gauges(
            "predictd_inflight_requests",
            "Requests being worked on.",
            &["model", "version"],
        )?;
        let queue_depth = make.gauges(
            "predictd_queue_depth",
            "Requests waiting for an engine.",
            &["model", "version"],
        )?;
        let batch_size = make.histograms(
            "predictd_batch_size",
            "Rows in one run of the engine.",
            &["model", "version"],
            &ROWS,
        )?;
        let model_info = make.gauges(
            "predictd_model_info",
            "A loaded version.",
            &["model", "version", "digest", "role", "verified"],
        )?;
        let load_labels = ["model", "version", "outcome", "reason"];
        let load_duration = make.histograms(
            "predictd_model_load_duration_seconds",
            "Time to verify and load a version.",
            &load_labels,
            &SECONDS,
        )?;
        let loads = make.counters(
            "predictd_model_loads_total",
            "Attempts to load a version.",
            &load_labels,
        )?;
        let compute = make.float_counters(
            "predictd_compute_seconds_total",
            "Core seconds spent in the engine.",
            &["model", "version"],
        )?;
        let cost = make.float_counters(
            "predictd_cost_dollars_total",
            "Price of the core seconds spent in the engine.",
            &["model", "version"],
        )?;
        let shadow_labels = ["model", "version", "candidate"];
        let shadow_requests = make.counters(
            "predictd_shadow_requests_total",
            "Copies of requests that a candidate answered.",
            &shadow_labels,
        )?;
        let shadow_disagreements = make.counters(
            "predictd_shadow_disagreements_total",
            "Copies whose answer differs from that of the stable version.",
            &shadow_labels,
        )?;
        let shadow_dropped = make.counters(
            "predictd_shadow_dropped_total",
            "Copies that were not made: too large, or too many waiting.",
            &shadow_labels,
        )?;
        let models_ignored = make.gauges(
            "predictd_models_ignored",
            "What in the models directory was meant as a model and is not served, or is served though its files are gone.",
            &["reason"],
        )?;
        let rollout_weight = make.float_gauges(
            "predictd_rollout_weight",
            "Share of the unversioned traffic that a version answers, from 0 to 1.",
            &["model", "version"],
        )?;
        let rollback_ready = make.gauges(
            "predictd_rollback_ready",
            "1 while the version before the stable one is loaded and answers its golden examples and requests of live traffic.",
            &["model", "version"],
        )?;
        let journal_pending = make.gauges(
            "predictd_journal_pending",
            "Decisions in force on this server that could not be written to the journal yet.",
            &["model"],
        )?;
        let rollout_transitions = make.counters(
            "predictd_rollout_transitions_total",
            "Decisions in the journal, by what was decided and who caused it.",
            &["model", "version", "action", "cause"],
        )?;
        let rollout_e_value = make.float_gauges(
            "predictd_rollout_e_value",
            "Evidence that a candidate is worse by more than the guard's margin, as a share of what aborts it: 1 aborts.",
            &["model", "version", "guard"],
        )?;
        let fallbacks = make.counters(
            "predictd_fallbacks_total",
            "Answers by a fallback, by why.",
            &["model", "version", "reason"],
        )?;
        let build_info = make.gauges(
            "predictd_build_info",
            "The running build.",
            &["version", "commit", "onnxruntime"],
        )?;
        let worker_panics = make.register(IntCounter::new(
            "predictd_worker_panics_total",
            "Panics caught in engine workers.",
        )?)?;
        let wedged_workers = make.register(IntGauge::new(
            "predictd_wedged_workers",
            "Abandoned engine threads that have not come back.",
        )?)?;
        let log_lines_dropped = make.register(IntCounter::new(
            "predictd_log_lines_dropped_total",
            "Log lines dropped because the writer was behind.",
        )?)?;
        let source_errors = make.register(IntCounter::new(
            "predictd_source_errors_total",
            "Failed looks at the models directory or the state directory.",
        )?)?;
        let webhook_failures = make.register(IntCounter::new(
            "predictd_webhook_failures_total",
            "Decisions that the webhook could not be told of.",
        )?)?;
        let connections = make.register(IntGauge::new(
            "predictd_open_connections",
            "Open client connections.",
        )?)?;
        if cfg!(target_os = "linux") {
            registry.register(Box::new(ProcessCollector::for_self()))?;
        }
        let placeholder = Metrics {
            unrouted: Arc::new(VersionMetrics::placeholder(
                &requests,
                &errors,
                &fallbacks,
                &request_duration,
            )?),
            registry,
            requests,
            request_duration,
            stage_duration,
            instances,
            errors,
            inflight,
            queue_depth,
            batch_size,
            model_info,
            load_duration,
            loads,
            compute,
            cost,
            shadow_requests,
            shadow_disagreements,
            shadow_dropped,
            models_ignored,
            rollout_weight,
            rollback_ready,
            journal_pending,
            rollout_transitions,
            rollout_e_value,
            fallbacks,
            build_info,
            worker_panics,
            wedged_workers,
            log_lines_dropped,
            source_errors,
            webhook_failures,
            connections,
            dollars_per_core_second: dollars_per_core_hour / 3600.0,
            unversioned: Arc::default(),
        };
        let unrouted = Arc::new(placeholder.lean_version("", ""));
        Ok(Metrics {
            unrouted,
            ..placeholder
        })
    }

    /// Handles for requests that never reached a model: `model=""`.
    pub fn unrouted(&self) -> &Arc<VersionMetrics> {
        &self.unrouted
    }

    /// Handles for requests to a known model without a version that answers: `version=""`.
    pub fn unversioned(&self, model: &str) -> Arc<VersionMetrics> {
        let mut known = self
            .unversioned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            known
                .entry(model.to_owned())
                .or_insert_with(|| Arc::new(self.lean_version(model, ""))),
        )
    }

    /// Handles of one version; the series a dashboard divides by exist from here on with 0.
    pub fn version(&self, model: &str, version: &str) -> VersionMetrics {
        for code in ["200", "422", "500", "503"] {
            self.requests
                .with_label_values(&[model, version, "predict", code]);
        }
        let handles = self.lean_version(model, version);
        handles.protocol(Protocol::Predict);
        VersionMetrics {
            stages: Stage::ALL.map(|stage| {
                self.stage_duration
                    .with_label_values(&[model, version, stage.name()])
            }),
            instances: self.instances.with_label_values(&[model, version]),
            inflight: self.inflight.with_label_values(&[model, version]),
            engine: EngineMetrics {
                queue_depth: self.queue_depth.with_label_values(&[model, version]),
                batch_size: self.batch_size.with_label_values(&[model, version]),
                compute: self.compute.with_label_values(&[model, version]),
                cost: self.cost.with_label_values(&[model, version]),
                ..handles.engine
            },
            ..handles
        }
    }

    /// Drops the series of an unloaded version, so that a server that lives long does not collect them.
    pub fn forget_version(&self, model: &str, version: &str) {
        for stage in Stage::ALL {
            let _ = self
                .stage_duration
                .remove_label_values(&[model, version, stage.name()]);
        }
        let _ = self.inflight.remove_label_values(&[model, version]);
        let _ = self.queue_depth.remove_label_values(&[model, version]);
        let _ = self.batch_size.remove_label_values(&[model, version]);
    }

    pub fn observe_load(
        &self,
        model: &str,
        version: &str,
        outcome: LoadOutcome<'_>,
        elapsed: Duration,
    ) {
        let (outcome, reason) = match outcome {
            LoadOutcome::Loaded => ("loaded", ""),
            LoadOutcome::Refused { reason } => ("refused", reason),
        };
        self.loads
            .with_label_values(&[model, version, outcome, reason])
            .inc();
        self.load_duration
            .with_label_values(&[model, version, outcome, reason])
            .observe(elapsed.as_secs_f64());
    }

    /// Says of one loaded version which role it has; `old_role` is what was said before.
    pub fn set_model_info(
        &self,
        loaded: LoadedInfo<'_>,
        old_role: Option<&str>,
        role: Option<&str>,
    ) {
        let LoadedInfo {
            model,
            version,
            digest,
            verified,
        } = loaded;
        let verified = if verified { "true" } else { "false" };
        if let Some(role) = role {
            self.model_info
                .with_label_values(&[model, version, digest, role, verified])
                .set(1);
        }
        if let Some(old_role) = old_role.filter(|old_role| Some(*old_role) != role) {
            let _ = self
                .model_info
                .remove_label_values(&[model, version, digest, old_role, verified]);
        }
    }

    /// Handles of the copies that `candidate` answers beside `version`.
    pub fn shadow(&self, model: &str, version: &str, candidate: &str) -> ShadowMetrics {
        let labels = [model, version, candidate];
        ShadowMetrics {
            requests: self.shadow_requests.with_label_values(&labels),
            disagreements: self.shadow_disagreements.with_label_values(&labels),
            dropped: self.shadow_dropped.with_label_values(&labels),
        }
    }

    /// The share of the unversioned traffic that a version answers; `None`: it has no part in it any more.
    pub fn set_weight(&self, model: &str, version: &str, weight: Option<f64>) {
        match weight {
            Some(weight) => self
                .rollout_weight
                .with_label_values(&[model, version])
                .set(weight),
            None => drop(self.rollout_weight.remove_label_values(&[model, version])),
        }
    }

    /// Whether the way back to `version` works; `None`: there is none any more.
    pub fn set_rollback_ready(&self, model: &str, version: &str, ready: Option<bool>) {
        match ready {
            Some(ready) => self
                .rollback_ready
                .with_label_values(&[model, version])
                .set(i64::from(ready)),
            None => drop(self.rollback_ready.remove_label_values(&[model, version])),
        }
    }

    pub fn set_journal_pending(&self, model: &str, decisions: usize) {
        self.journal_pending
            .with_label_values(&[model])
            .set(i64::try_from(decisions).unwrap_or(i64::MAX));
    }

    pub fn count_transition(&self, model: &str, version: &str, action: &str, cause: &str) {
        self.rollout_transitions
            .with_label_values(&[model, version, action, cause])
            .inc();
    }

    /// How near a guard is to aborting `version`; `None`: it is not judged any more.
    pub fn set_e_value(&self, model: &str, version: &str, guard: &str, share: Option<f64>) {
        match share {
            Some(share) => self
                .rollout_e_value
                .with_label_values(&[model, version, guard])
                .set(share),
            None => drop(
                self.rollout_e_value
                    .remove_label_values(&[model, version, guard]),
            ),
        }
    }

    pub fn set_build_info(&self, version: &str, commit: &str, onnxruntime: &str) {
        self.build_info
            .with_label_values(&[version, commit, onnxruntime])
            .set(1);
    }

    /// The exposition text (Prometheus text format 0.0.4).
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(32 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Handles whose successes and stages are counted, but not exposed: nothing succeeds without a version.
    fn lean_version(&self, model: &str, version: &str) -> VersionMetrics {
        let handles = self.unrouted.detached();
        let statistics = Arc::<Statistics>::default();
        VersionMetrics {
            family: RequestFamily {
                requests: self.requests.clone(),
                errors: self.errors.clone(),
                fallbacks: self.fallbacks.clone(),
                durations: self.request_duration.clone(),
                model: model.to_owned(),
                version: version.to_owned(),
            },
            statistics: Arc::clone(&statistics),
            engine: EngineMetrics {
                statistics,
                runs: Arc::default(),
                worker_panics: self.worker_panics.clone(),
                wedged_workers: self.wedged_workers.clone(),
                dollars_per_core_second: self.dollars_per_core_second,
                ..handles.engine
            },
            ..handles
        }
    }
}

impl VersionMetrics {
    fn placeholder(
        requests: &IntCounterVec,
        errors: &IntCounterVec,
        fallbacks: &IntCounterVec,
        durations: &HistogramVec,
    ) -> Result<VersionMetrics, prometheus::Error> {
        let histogram = |name: &str| Histogram::with_opts(HistogramOpts::new(name, "not exposed"));
        Ok(VersionMetrics {
            family: RequestFamily {
                requests: requests.clone(),
                errors: errors.clone(),
                fallbacks: fallbacks.clone(),
                durations: durations.clone(),
                model: String::new(),
                version: String::new(),
            },
            protocols: Default::default(),
            statistics: Arc::default(),
            stages: [
                histogram("a")?,
                histogram("b")?,
                histogram("c")?,
                histogram("d")?,
                histogram("e")?,
                histogram("f")?,
            ],
            instances: IntCounter::new("instances", "not exposed")?,
            inflight: IntGauge::new("inflight", "not exposed")?,
            engine: EngineMetrics {
                statistics: Arc::default(),
                runs: Arc::default(),
                queue_depth: IntGauge::new("queue_depth", "not exposed")?,
                batch_size: histogram("batch_size")?,
                compute: Counter::new("compute", "not exposed")?,
                cost: Counter::new("cost", "not exposed")?,
                worker_panics: IntCounter::new("worker_panics", "not exposed")?,
                wedged_workers: IntGauge::new("wedged", "not exposed")?,
                dollars_per_core_second: 0.0,
            },
        })
    }

    /// The same handles once more (they are reference counted).
    fn detached(&self) -> VersionMetrics {
        VersionMetrics {
            family: self.family.clone(),
            protocols: Default::default(),
            statistics: Arc::clone(&self.statistics),
            stages: self.stages.clone(),
            instances: self.instances.clone(),
            inflight: self.inflight.clone(),
            engine: self.engine.clone(),
        }
    }
}

struct Declare<'a> {
    registry: &'a Registry,
}

impl Declare<'_> {
    fn register<C: Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn float_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<CounterVec, prometheus::Error> {
        self.register(CounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.register(HistogramVec::new(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
            labels,
        )?)
    }
}
