//! Refusal: why a request is not answered, what its caller is told, and where it is counted; the same for every protocol.

use std::{borrow::Cow, sync::Arc};

use crate::{
    api::{
        Api,
        context::{Context, TIMEOUT},
        request_log::LoggedRefusal,
    },
    error::ErrorCode,
    metrics::{Protocol, RequestMetrics},
    predict::{Failure, PredictError, Prediction},
    registry::{route::Target, servable::Servable},
    schema::fault::Fault,
};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// The reason, for the caller.
    pub detail: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Refusal {
        Refusal {
            code,
            detail: detail.into(),
        }
    }
}

/// A body, or a message, beyond the limit.
pub fn too_large(max_bytes: usize) -> Refusal {
    Refusal::new(
        ErrorCode::BodyTooLarge,
        format!("the body may have at most {max_bytes} bytes"),
    )
}

/// What a caller is told of an error.
pub struct ErrorReport<'a> {
    pub code: ErrorCode,
    pub detail: Cow<'a, str>,
    pub faults: &'a [Fault],
    /// Faults beyond those listed.
    pub more: usize,
}

impl ErrorReport<'_> {
    /// All in one line, for dialects that have a text for an error and nothing else.
    pub fn line(&self) -> String {
        const SHOWN: usize = 3;
        if self.faults.is_empty() {
            return self.detail.clone().into_owned();
        }
        let one = |fault: &Fault| match fault.keyword {
            "inputs" => fault.detail.clone(),
            _ => format!("{} {}", fault.pointer, fault.detail),
        };
        let shown: Vec<String> = self.faults.iter().take(SHOWN).map(one).collect();
        let more = self.faults.len().saturating_sub(SHOWN) + self.more;
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        format!("{}{more}", shown.join("; "))
    }
}

/// What stopped a request, and where it is counted.
pub struct FailedRequest {
    pub code: ErrorCode,
    detail: String,
    faults: Vec<Fault>,
    more: usize,
    log_detail: String,
    failure: Option<Failure>,
}

impl From<Refusal> for FailedRequest {
    fn from(Refusal { code, detail }: Refusal) -> FailedRequest {
        FailedRequest {
            code,
            detail,
            faults: Vec::new(),
            more: 0,
            log_detail: String::new(),
            failure: None,
        }
    }
}

impl From<PredictError> for FailedRequest {
    fn from(error: PredictError) -> FailedRequest {
        FailedRequest::from(Failure {
            error,
            servable: None,
            unversioned: None,
        })
    }
}

impl From<Failure> for FailedRequest {
    fn from(failure: Failure) -> FailedRequest {
        let error = &failure.error;
        let (faults, more) = error.faults();
        let (code, detail, log_detail) = (error.code(), error.to_string(), error.log_detail());
        let counted = failure.servable.is_some()
            || failure.unversioned.is_some()
            || matches!(error, PredictError::Route(_));
        FailedRequest {
            code,
            detail,
            faults: faults.to_vec(),
            more,
            log_detail,
            failure: counted.then_some(failure),
        }
    }
}

impl FailedRequest {
    /// A deadline of the caller's own is told in the caller's words.
    pub fn named_deadline(mut self, context: &Context) -> FailedRequest {
        if let Some(timeout) = context.timeout.filter(|timeout| {
            self.code == ErrorCode::DeadlineExceeded && context.started.elapsed() >= *timeout
        }) {
            self.detail = format!(
                "{}: the header {TIMEOUT} gave it {} ms",
                self.detail,
                timeout.as_millis()
            );
        }
        self
    }
}

impl FailedRequest {
    /// What the request asks of its answer can't be given.
    pub fn of(prediction: &Prediction, refusal: Refusal) -> FailedRequest {
        let error = PredictError::Malformed(refusal.detail.clone());
        let failure = Failure {
            error,
            servable: Some(Arc::clone(&prediction.servable)),
            unversioned: None,
        };
        FailedRequest {
            failure: Some(failure),
            ..FailedRequest::from(refusal)
        }
    }

    /// The version that the request was for, where one was found.
    pub fn servable(&self) -> Option<&Arc<Servable>> {
        self.failure.as_ref()?.servable.as_ref()
    }

    /// The model's graph refused the request: its run failed, by the caller's values.
    fn is_of_the_graph(&self) -> bool {
        matches!(
            self.failure,
            Some(Failure {
                error: PredictError::Refused(_),
                ..
            })
        )
    }

    /// What is ours to explain refers to the log, and says where in it.
    pub fn told(&self, context: &Context) -> ErrorReport<'_> {
        let detail = match self.code {
            ErrorCode::Inference | ErrorCode::Internal => Cow::Owned(format!(
                "{}; the server's log says why, under the request id {}",
                self.detail,
                context.request_id.to_text()
            )),
            _ if self.is_of_the_graph() => Cow::Owned(format!(
                "{} (request id {})",
                self.detail,
                context.request_id.to_text()
            )),
            _ => Cow::Borrowed(self.detail.as_str()),
        };
        ErrorReport {
            code: self.code,
            detail,
            faults: &self.faults,
            more: self.more,
        }
    }

    /// Counts and logs, whatever the protocol; `status` is the one that is answered, in HTTP's numbers.
    pub fn count(
        &self,
        api: &Api,
        protocol: Protocol,
        status: u16,
        target: Target<'_>,
        context: &Context,
    ) {
        let elapsed = context.started.elapsed();
        let count =
            |metrics: &RequestMetrics| metrics.observe_error(protocol, self.code, status, elapsed);
        let log = |model: &str, version: &str| {
            let detail = self.log_detail.as_str();
            let cause = self.is_of_the_graph().then_some(ErrorCode::Inference);
            api.log.refused(
                context,
                &LoggedRefusal {
                    protocol,
                    code: self.code,
                    status,
                    model,
                    version,
                    cause,
                    detail,
                },
                elapsed,
            );
        };
        // The log names a model only where it is one of the server's own.
        let log_unrouted = || {
            let snapshot = api.registry.snapshot();
            log(
                target
                    .model
                    .filter(|name| snapshot.models.contains_key(*name))
                    .unwrap_or_default(),
                "",
            );
        };
        match &self.failure {
            Some(Failure {
                servable: Some(servable),
                ..
            }) => {
                count(&servable.metrics.requests);
                let id = servable.id();
                log(id.name.as_str(), id.version.as_str());
            }
            Some(Failure {
                servable: None,
                unversioned: Some(metrics),
                ..
            }) => {
                count(metrics);
                log_unrouted();
            }
            Some(_) => {
                count(api.metrics.unrouted());
                log_unrouted();
            }
            None => {
                let snapshot = api.registry.snapshot();
                let name = target
                    .model
                    .or_else(|| snapshot.default.as_ref().map(crate::id::ModelName::as_str));
                match name.and_then(|name| snapshot.models.get(name)) {
                    Some(model) => count(&model.unversioned),
                    None => count(api.metrics.unrouted()),
                }
                log_unrouted();
            }
        }
    }
}
