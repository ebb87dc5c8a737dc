//! Transports: the only home of axum, hyper and the forms on the wire.

mod accept;
mod cancellation;
pub mod context;
pub mod decompress;
pub mod grpc;
mod head;
pub mod http;
pub mod oip;
pub mod refusal;
pub mod request_log;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

pub use accept::ServeOptions;

use crate::{
    api::{
        context::Context,
        request_log::{LoggedRefusal, RequestLogger},
    },
    config::{Platform, RequestLog, ServerConfig},
    error::ErrorCode,
    metrics::{Metrics, Protocol, Stage, statistics::RequestTimes},
    predict::{Prediction, Predictor},
    registry::Registry,
};

/// What the handlers share.
pub struct Api {
    pub registry: Registry,
    pub predictor: Predictor,
    pub metrics: Metrics,
    pub config: ServerConfig,
    platform: Platform,
    /// Set by the first signal: readiness is off, everything else goes on.
    pub draining: Arc<AtomicBool>,
    pub max_wedged: usize,
    /// Lines that the log's writer dropped so far.
    pub dropped_log_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    inflight: Arc<AtomicUsize>,
    log: RequestLogger,
}

pub struct ApiParts {
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
    pub fn new(parts: ApiParts) -> Arc<Api> {
        Arc::new(Api {
            registry: parts.registry,
            predictor: parts.predictor,
            metrics: parts.metrics,
            config: parts.config,
            platform: parts.platform,
            draining: Arc::default(),
            max_wedged: parts.max_wedged,
            dropped_log_lines: parts.dropped_log_lines,
            inflight: Arc::default(),
            log: RequestLogger::new(parts.request_log),
        })
    }

    /// A place among the requests in flight, or `None` where the server has its fill.
    pub(crate) fn admit(&self) -> Option<Admission> {
        let before = self.inflight.fetch_add(1, Ordering::Relaxed);
        let admission = Admission(Arc::clone(&self.inflight));
        (before < self.config.max_inflight).then_some(admission)
    }
}

/// A place among the requests in flight; kept as long as its request costs something.
pub(crate) struct Admission(Arc<AtomicUsize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Api {
    /// Counts and logs an answered request, whatever its protocol.
    pub fn count_answered(&self, protocol: Protocol, context: &Context, prediction: &Prediction) {
        let elapsed = context.started.elapsed();
        let metrics = &prediction.servable.metrics;
        let timing = &prediction.timing;
        for stage in Stage::ALL {
            metrics.observe_stage(stage, timing.get(stage));
        }
        metrics.instances.inc_by(prediction.rows as u64);
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

    /// Counts and logs a request that reached no model.
    pub(crate) fn count_unrouted(
        &self,
        protocol: Protocol,
        code: ErrorCode,
        status: u16,
        context: &Context,
    ) {
        let elapsed = context.started.elapsed();
        self.metrics
            .unrouted()
            .observe_error(protocol, code, status, elapsed);
        self.log.refused(
            context,
            &LoggedRefusal {
                protocol,
                code,
                status,
                model: "",
                version: "",
                cause: None,
                detail: "",
            },
            elapsed,
        );
    }
}
