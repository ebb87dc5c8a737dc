//! Metrics of requests, by model, version and protocol.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use crate::{
    clock,
    error::ErrorCode,
    metrics::{
        series::{SECONDS, series},
        statistics::{RequestTimes, Statistics},
    },
};

/// The parts of a request's path that are timed separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Decode,
    Preprocess,
    Queue,
    Infer,
    Postprocess,
    Encode,
}

impl Stage {
    pub(crate) const ALL: [Stage; 6] = [
        Stage::Decode,
        Stage::Preprocess,
        Stage::Queue,
        Stage::Infer,
        Stage::Postprocess,
        Stage::Encode,
    ];

    pub(crate) fn name(self) -> &'static str {
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

/// The protocol of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// predictd's own API.
    #[default]
    Predict,
    /// Open Inference Protocol v2 over REST.
    V2,
    /// Open Inference Protocol v2 over gRPC.
    Grpc,
    /// KServe v1, TensorFlow Serving and Vertex AI.
    V1,
    /// SageMaker and MLflow.
    Invocations,
}

impl Protocol {
    const COUNT: usize = 5;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Predict => "predict",
            Protocol::V2 => "v2",
            Protocol::Grpc => "grpc",
            Protocol::V1 => "v1",
            Protocol::Invocations => "invocations",
        }
    }
}

/// The status codes that dashboards use as a divisor. Their series exist from the load of a version
/// on, with the value 0.
const EXPECTED_CODES: [&str; 4] = ["200", "422", "500", "503"];

series! {
    pub(super) struct RequestSeries {
        requests: IntCounterVec = "predictd_requests_total", "Requests by outcome.",
            labels: &["model", "version", "protocol", "code"];
        durations: HistogramVec = "predictd_request_duration_seconds",
            "Time from a request's first byte to its answer.",
            labels: &["model", "version", "protocol"], buckets: SECONDS;
        pub(super) stages: HistogramVec = "predictd_stage_duration_seconds",
            "Time that requests spend in each stage.",
            labels: &["model", "version", "stage"], buckets: SECONDS;
        pub(super) instances: IntCounterVec = "predictd_instances_total", "Instances answered.",
            labels: &["model", "version"];
        errors: IntCounterVec = "predictd_errors_total", "Requests that were not answered, by kind.",
            labels: &["model", "version", "kind"];
        pub(super) inflight: IntGaugeVec = "predictd_inflight_requests", "Requests in progress.",
            labels: &["model", "version"];
        fallbacks: IntCounterVec = "predictd_fallbacks_total", "Answers by a fallback, by reason.",
            labels: &["model", "version", "reason"];
    }
}

impl RequestSeries {
    /// Creates the series that dashboards use as a divisor.
    pub(super) fn expect(&self, model: &str, version: &str) {
        for code in EXPECTED_CODES {
            let labels = [model, version, Protocol::Predict.name(), code];
            self.requests.with_label_values(&labels);
        }
        for kind in ErrorCode::ALL.into_iter().filter_map(ErrorCode::kind) {
            self.errors.with_label_values(&[model, version, kind]);
        }
    }
}

/// The metrics of requests to one version. For requests that reached no version, they belong to a
/// model or to the whole server.
pub(crate) struct RequestMetrics {
    series: RequestSeries,
    model: String,
    version: String,
    /// The handles for each protocol. They are created by the first request of the protocol.
    protocols: [OnceLock<ProtocolMetrics>; Protocol::COUNT],
    pub statistics: Arc<Statistics>,
}

/// The handles for answered requests, so that the hot path needs no lookup.
struct ProtocolMetrics {
    answered: IntCounter,
    duration: Histogram,
}

impl RequestMetrics {
    /// Creates the metrics. `model` and `version` are empty for requests that reached none.
    pub(super) fn new(series: &RequestSeries, model: &str, version: &str) -> RequestMetrics {
        RequestMetrics {
            series: series.clone(),
            model: model.to_owned(),
            version: version.to_owned(),
            protocols: Default::default(),
            statistics: Arc::default(),
        }
    }

    pub(super) fn protocol_handles(&self, protocol: Protocol) {
        self.protocol(protocol);
    }

    fn protocol(&self, protocol: Protocol) -> Option<&ProtocolMetrics> {
        let labels = [self.model.as_str(), self.version.as_str(), protocol.name()];
        let [model, version, name] = labels;
        let new = || ProtocolMetrics {
            answered: self
                .series
                .requests
                .with_label_values(&[model, version, name, "200"]),
            duration: self.series.durations.with_label_values(&labels),
        };
        Some(self.protocols.get(protocol as usize)?.get_or_init(new))
    }

    /// Counts an answered request.
    pub(crate) fn observe_ok(&self, protocol: Protocol, times: &RequestTimes) {
        if let Some(handles) = self.protocol(protocol) {
            handles.answered.inc();
            handles.duration.observe(times.whole.as_secs_f64());
        }
        self.statistics.observe_ok(times, clock::now_ms());
    }

    /// Counts a failure that the caller did not see, because a fallback answered.
    pub(crate) fn count_fallback(&self, reason: &str, code: ErrorCode) {
        let (model, version) = (self.model.as_str(), self.version.as_str());
        self.series
            .fallbacks
            .with_label_values(&[model, version, reason])
            .inc();
        self.count_error(code);
    }

    /// Counts a refused or failed request. `status` is the status of the answer, as an HTTP status
    /// code.
    pub(crate) fn observe_error(
        &self,
        protocol: Protocol,
        code: ErrorCode,
        status: u16,
        elapsed: Duration,
    ) {
        let (model, version, protocol) =
            (self.model.as_str(), self.version.as_str(), protocol.name());
        let mut buffer = itoa::Buffer::new();
        self.series
            .requests
            .with_label_values(&[model, version, protocol, buffer.format(status)])
            .inc();
        self.count_error(code);
        self.series
            .durations
            .with_label_values(&[model, version, protocol])
            .observe(elapsed.as_secs_f64());
        self.statistics.observe_error(elapsed);
    }

    fn count_error(&self, code: ErrorCode) {
        // Refusals that the caller caused have no kind. They are counted only by their status code.
        if let Some(kind) = code.kind() {
            let labels = [self.model.as_str(), self.version.as_str(), kind];
            self.series.errors.with_label_values(&labels).inc();
        }
    }
}
