//! Transports: the only folder that names axum, hyper and the formats of the protocols.

mod accept;
mod admission;
mod call;
mod call_frame;
mod cancellation;
mod context;
mod decompress;
mod error_report;
mod failed_request;
pub mod grpc;
pub mod http;
mod oip;
mod refusal;
mod request_head;
mod request_log;
mod trace;

use std::sync::{Arc, atomic::AtomicBool};

pub(crate) use accept::ServeOptions;

use crate::{
    api::{
        admission::{Admission, InflightRequests},
        context::Context,
        refusal::Refusal,
        request_log::{LoggedRefusal, RequestLogger},
    },
    config::{Platform, RequestLog, ServerConfig},
    error::ErrorCode,
    metrics::{Metrics, Protocol, Stage, statistics::RequestTimes},
    predict::{Prediction, Predictor},
    registry::Registry,
};

/// The state that all handlers share.
pub(crate) struct Api {
    pub registry: Registry,
    pub predictor: Predictor,
    pub metrics: Metrics,
    pub config: ServerConfig,
    platform: Platform,
    /// Whether the first signal to stop has arrived. The server then reports that it is not ready,
    /// but still answers requests.
    pub draining: Arc<AtomicBool>,
    /// The number of hanging engine threads from which on the server no longer counts as alive.
    pub max_wedged: usize,
    /// A function that returns the number of lines that the log's writer has dropped so far.
    pub dropped_log_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    inflight: InflightRequests,
    log: RequestLogger,
}

pub(crate) struct ApiParts {
    pub registry: Registry,
    pub predictor: Predictor,
    pub metrics: Metrics,
    pub config: ServerConfig,
    pub platform: Platform,
    pub max_wedged: usize,
    pub request_log: RequestLog,
    pub dropped_log_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Api {
    pub(crate) fn new(parts: ApiParts) -> Arc<Api> {
        Arc::new(Api {
            registry: parts.registry,
            predictor: parts.predictor,
            metrics: parts.metrics,
            config: parts.config,
            platform: parts.platform,
            draining: Arc::default(),
            max_wedged: parts.max_wedged,
            dropped_log_lines: parts.dropped_log_lines,
            inflight: InflightRequests::default(),
            log: RequestLogger::new(parts.request_log),
        })
    }

    /// Admits a request if fewer than `server.max_inflight` requests are in flight.
    fn admit(&self) -> Result<Admission, Refusal> {
        self.inflight.admit(self.config.max_inflight)
    }

    /// Counts and logs an answered request of any protocol.
    fn count_answered(&self, protocol: Protocol, context: &Context, prediction: &Prediction) {
        let elapsed = context.started.elapsed();
        let metrics = &prediction.servable.metrics;
        let timing = &prediction.timing;
        // Stages that a request skipped are counted with duration zero, so that all stages have the
        // same count.
        for stage in Stage::ALL {
            metrics.observe_stage(stage, timing.get(stage));
        }
        metrics.instances.inc_by(prediction.rows as u64);
        // Triton divides a request into four parts. The input part and the output part consist of
        // two stages each here.
        let times = RequestTimes {
            whole: elapsed,
            queue: timing.get(Stage::Queue),
            input: timing.get(Stage::Decode) + timing.get(Stage::Preprocess),
            infer: timing.get(Stage::Infer),
            output: timing.get(Stage::Postprocess) + timing.get(Stage::Encode),
        };
        metrics.requests.observe_ok(protocol, &times);
        self.log.answered(protocol, context, prediction, elapsed);
    }

    /// Counts and logs a request that names no model. `status`: the status of the response, as an
    /// HTTP status also for gRPC.
    fn count_unrouted(&self, protocol: Protocol, code: ErrorCode, status: u16, context: &Context) {
        let elapsed = context.started.elapsed();
        self.metrics
            .unrouted()
            .observe_error(protocol, code, status, elapsed);
        let refusal = LoggedRefusal {
            protocol,
            code,
            status,
            model: "",
            version: "",
            cause: None,
            detail: "",
        };
        self.log.refused(context, &refusal, elapsed);
    }
}
