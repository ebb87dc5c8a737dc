//! The request log: one line per logged request. `telemetry.request_log` sets the share of answered
//! requests that is logged. Refused requests are always logged. No line contains a value of the
//! input.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    api::{context::Context, trace::Trace},
    config::RequestLog,
    error::ErrorCode,
    metrics::{Protocol, Stage},
    predict::{Prediction, Timing},
};

/// Minimum duration of a request that is always logged.
const SLOW: Duration = Duration::from_secs(1);

const MILLION: u64 = 1_000_000;

/// The fields of the log line for a request that was not answered.
#[derive(Clone, Copy)]
pub(super) struct LoggedRefusal<'a> {
    pub protocol: Protocol,
    pub code: ErrorCode,
    /// The status of the response, as an HTTP status also for gRPC.
    pub status: u16,
    /// The names of a model and a version of this server. Empty if the request names neither.
    pub model: &'a str,
    pub version: &'a str,
    /// The kind of failure in the server if the caller's values caused it. `None` for other
    /// refusals.
    pub cause: Option<ErrorCode>,
    /// The reason. It contains no value of the request.
    pub detail: &'a str,
}

pub(super) struct RequestLogger {
    /// The number of logged requests per million answered requests.
    per_million: u64,
    answered: AtomicU64,
}

impl RequestLogger {
    pub(super) fn new(config: RequestLog) -> RequestLogger {
        // The setting `errors` also logs a sample of the answered requests.
        let rate = match config {
            RequestLog::All => 1.0,
            RequestLog::Errors => 0.01,
            RequestLog::Rate(rate) => rate,
        };
        RequestLogger {
            per_million: (rate * MILLION as f64).round() as u64,
            answered: AtomicU64::new(0),
        }
    }

    /// Whether to log the next answered request. The logged requests are spread evenly.
    fn is_sampled(&self) -> bool {
        let before = self.answered.fetch_add(1, Ordering::Relaxed) % MILLION;
        // True each time the product of rate and count passes a whole number.
        (before + 1) * self.per_million / MILLION > before * self.per_million / MILLION
    }

    pub(super) fn answered(
        &self,
        protocol: Protocol,
        context: &Context,
        prediction: &Prediction,
        elapsed: Duration,
    ) {
        // The sampling comes first: slow requests are logged in addition to the sample.
        if !self.is_sampled() && elapsed < SLOW {
            return;
        }
        let id = prediction.servable.id();
        let timing = &prediction.timing;
        tracing::info!(
            target: "predictd::request",
            status = 200,
            protocol = protocol.name(),
            model = %id.name,
            version = %id.version,
            prediction_id = %prediction.id,
            request_id = context.request_id.to_text(),
            trace_id = context.trace.map(Trace::trace_id_text),
            instances = prediction.rows,
            duration_ms = milliseconds(elapsed),
            decode_ms = stage(timing, Stage::Decode),
            preprocess_ms = stage(timing, Stage::Preprocess),
            queue_ms = stage(timing, Stage::Queue),
            infer_ms = stage(timing, Stage::Infer),
            postprocess_ms = stage(timing, Stage::Postprocess),
            encode_ms = stage(timing, Stage::Encode),
            "answered"
        );
    }

    pub(super) fn refused(
        &self,
        context: &Context,
        refusal: &LoggedRefusal<'_>,
        elapsed: Duration,
    ) {
        let LoggedRefusal {
            protocol,
            code,
            status,
            model,
            version,
            cause,
            detail,
        } = *refusal;
        let cause = cause.map(ErrorCode::slug);
        let protocol = protocol.name();
        let request_id = context.request_id.to_text();
        let trace_id = context.trace.map(Trace::trace_id_text);
        let duration_ms = milliseconds(elapsed);
        if code == ErrorCode::Cancelled {
            tracing::warn!(
                target: "predictd::request",
                status,
                protocol,
                model,
                version,
                request_id,
                trace_id,
                duration_ms,
                error = code.slug(),
                cause,
                detail,
                "cancelled"
            );
        // An error requires an operator. Refusals under load and of invalid requests are expected,
        // so they are warnings.
        } else if status >= 500 && !code.is_retryable() {
            tracing::error!(
                target: "predictd::request",
                status,
                protocol,
                model,
                version,
                request_id,
                trace_id,
                duration_ms,
                error = code.slug(),
                cause,
                detail,
                "failed"
            );
        } else {
            tracing::warn!(
                target: "predictd::request",
                status,
                protocol,
                model,
                version,
                request_id,
                trace_id,
                duration_ms,
                error = code.slug(),
                cause,
                detail,
                "refused"
            );
        }
    }
}

fn stage(timing: &Timing, stage: Stage) -> f64 {
    milliseconds(timing.get(stage))
}

/// The duration in milliseconds, with a resolution of microseconds.
fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use crate::{api::request_log::RequestLogger, config::RequestLog};

    #[test]
    fn the_rate_sets_the_number_of_logged_requests() {
        let cases = [
            (RequestLog::All, 1000),
            (RequestLog::Errors, 10),
            (RequestLog::Rate(0.0), 0),
            (RequestLog::Rate(0.4), 400),
            (RequestLog::Rate(0.7), 700),
        ];
        for (wanted, expected) in cases {
            let logger = RequestLogger::new(wanted);
            assert_eq!(
                (0..1000).filter(|_| logger.is_sampled()).count(),
                expected,
                "{wanted:?}"
            );
        }
    }
}
