//! `FailedRequest`: a request to a model that got no prediction. It contains the report for the
//! caller, and the data for metrics and the log.

use std::{borrow::Cow, sync::Arc};

use crate::{
    api::{
        call::Call,
        context::{Context, TIMEOUT},
        error_report::ErrorReport,
        refusal::Refusal,
        request_log::LoggedRefusal,
    },
    error::ErrorCode,
    id::ModelName,
    metrics::RequestMetrics,
    predict::{Failure, MalformedInput, PredictError, Prediction},
    registry::{Snapshot, servable::Servable},
    schema::fault::Fault,
};

pub(super) struct FailedRequest {
    pub code: ErrorCode,
    /// On the heap: the results of requests that succeed have room for it, too, and are moved often.
    content: Box<FailureContent>,
}

#[derive(Default)]
struct FailureContent {
    detail: String,
    faults: Vec<Fault>,
    more: usize,
    log_detail: String,
    /// The failure. `None` if the request was refused before routing.
    failure: Option<Failure>,
}

impl From<Refusal> for FailedRequest {
    fn from(Refusal { code, detail }: Refusal) -> FailedRequest {
        let content = FailureContent {
            detail,
            ..FailureContent::default()
        };
        FailedRequest {
            code,
            content: Box::new(content),
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
        // If the request was not routed, the only metrics are those of the model that it names.
        // `metrics` finds them.
        let was_routed = failure.servable.is_some()
            || failure.unversioned.is_some()
            || matches!(error, PredictError::Route(_));
        let content = FailureContent {
            detail,
            faults: faults.to_vec(),
            more,
            log_detail,
            failure: was_routed.then_some(failure),
        };
        FailedRequest {
            code,
            content: Box::new(content),
        }
    }
}

impl FailedRequest {
    /// Creates the failure for an answer that is not available in the form that the request asks
    /// for.
    pub(super) fn of(prediction: &Prediction, refusal: Refusal) -> FailedRequest {
        // The failure contains the version for the headers and the metrics of the response.
        let detail = refusal.detail.clone();
        let error = PredictError::Malformed(MalformedInput::AnswerForm { detail });
        let failure = Failure {
            error,
            servable: Some(Arc::clone(&prediction.servable)),
            unversioned: None,
        };
        let mut failed = FailedRequest::from(refusal);
        failed.content.failure = Some(failure);
        failed
    }

    /// If the caller's own deadline has passed, adds the header that set it to the error.
    pub(super) fn named_deadline(mut self, context: &Context) -> FailedRequest {
        // If less time has passed, the server's own limit ended the request.
        if let Some(timeout) = context.timeout.filter(|timeout| {
            self.code == ErrorCode::DeadlineExceeded && context.started.elapsed() >= *timeout
        }) {
            self.content.detail = format!(
                "{}: the header {TIMEOUT} allowed {} ms",
                self.content.detail,
                timeout.as_millis()
            );
        }
        self
    }

    /// The version that should have answered. `None` if it is unknown.
    pub(super) fn servable(&self) -> Option<&Arc<Servable>> {
        self.content.failure.as_ref()?.servable.as_ref()
    }

    /// Whether a run of the graph failed because of the caller's values.
    fn is_rejected_by_graph(&self) -> bool {
        let error = self.content.failure.as_ref().map(|failure| &failure.error);
        matches!(error, Some(PredictError::Refused(_)))
    }

    /// The report for the caller. For a defect of the server, it refers to the log and names the
    /// request id.
    pub(super) fn report(&self, context: &Context) -> ErrorReport<'_> {
        // The text of such an error could contain names of files and nodes of the server.
        let detail = match self.code {
            ErrorCode::Inference | ErrorCode::Internal => Cow::Owned(format!(
                "{}; the server's log says why, under the request id {}",
                self.content.detail,
                context.request_id.to_text()
            )),
            _ if self.is_rejected_by_graph() => Cow::Owned(format!(
                "{} (request id {})",
                self.content.detail,
                context.request_id.to_text()
            )),
            _ => Cow::Borrowed(self.content.detail.as_str()),
        };
        ErrorReport {
            code: self.code,
            detail,
            faults: &self.content.faults,
            more: self.content.more,
        }
    }

    /// Counts and logs the request. `status`: the status of the response, as an HTTP status also
    /// for gRPC.
    pub(super) fn count(&self, call: Call<'_>, status: u16) {
        let elapsed = call.context.started.elapsed();
        let snapshot = call.api.registry.snapshot();
        self.metrics(call, &snapshot)
            .observe_error(call.protocol, self.code, status, elapsed);
        let (model, version) = self.logged_names(call, &snapshot);
        let refusal = LoggedRefusal {
            protocol: call.protocol,
            code: self.code,
            status,
            model,
            version,
            cause: self.is_rejected_by_graph().then_some(ErrorCode::Inference),
            detail: &self.content.log_detail,
        };
        call.api.log.refused(call.context, &refusal, elapsed);
    }

    /// The metrics that count the request: of its version, of its model if the version is unknown,
    /// or of the server.
    fn metrics<'m>(&'m self, call: Call<'m>, snapshot: &'m Snapshot) -> &'m RequestMetrics {
        let Some(failure) = &self.content.failure else {
            // The request was refused before routing. However, it may name an existing model.
            let default = || snapshot.default.as_ref().map(ModelName::as_str);
            let model = call.target.model.or_else(default);
            return match model.and_then(|name| snapshot.models.get(name)) {
                Some(model) => &model.unversioned,
                None => call.api.metrics.unrouted(),
            };
        };
        match (&failure.servable, &failure.unversioned) {
            (Some(servable), _) => &servable.metrics.requests,
            (None, Some(unversioned)) => unversioned,
            (None, None) => call.api.metrics.unrouted(),
        }
    }

    /// The model and the version for the log. Empty if unknown. A name is logged only if the server
    /// knows it: otherwise callers could write any text into the log.
    fn logged_names<'m>(&'m self, call: Call<'m>, snapshot: &Snapshot) -> (&'m str, &'m str) {
        if let Some(servable) = self.servable() {
            let id = servable.id();
            return (id.name.as_str(), id.version.as_str());
        }
        let model = call.target.model;
        let known = model.filter(|name| snapshot.models.contains_key(*name));
        (known.unwrap_or_default(), "")
    }
}
