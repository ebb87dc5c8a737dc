//! `CallFrame`: the part of a request that all protocols share, around `Predictor::predict`: the
//! deadline, offloading of heavy work, timing and counting. A protocol only reads its messages and
//! writes its responses.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::{
    api::{
        call::Call, cancellation::CancelGuard, failed_request::FailedRequest, refusal::Refusal,
        trace::Trace,
    },
    metrics::Stage,
    predict::{
        AnsweringVersion, Failure, Input, PredictRequest, Prediction, Priority, RequestOrigin,
    },
    registry::route::Target,
};

/// The input of a request, and the options for the answer.
pub(super) struct ModelQuery<'q> {
    pub target: Target<'q>,
    pub headers: &'q HeaderMap,
    pub input: Input,
    /// Names of the requested outputs. Empty means all outputs.
    pub outputs: &'q [String],
    pub priority: Priority,
    /// The time limit in the body, counted from the start of the request. `None` if the body sets
    /// none.
    pub timeout: Option<Duration>,
}

/// The state of an admitted call. A protocol calls its methods in this order: parse, predict,
/// encode.
pub(super) struct CallFrame<'a> {
    pub call: Call<'a>,
    answering: &'a AnsweringVersion,
    deadline: Instant,
    /// The time spent in `parse`. It is a part of the decoding stage.
    parsing: Duration,
}

impl<'a> CallFrame<'a> {
    pub(super) fn new(guard: &'a CancelGuard<'_>) -> CallFrame<'a> {
        let call = guard.call;
        CallFrame {
            call,
            answering: &guard.answering,
            deadline: call.context.deadline(call.api.config.request_timeout()),
            parsing: Duration::ZERO,
        }
    }

    /// The time until the deadline.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs work that would block a network thread for too long.
    pub(super) async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, FailedRequest> {
        let predictor = &self.call.api.predictor;
        Ok(predictor.offload(self.deadline, work).await??)
    }

    /// Parses the request. A heavy request is parsed on a thread for heavy work, where it does not
    /// delay other requests.
    pub(super) async fn parse<T: Send + 'static>(
        &mut self,
        is_heavy: bool,
        parse: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, FailedRequest> {
        // The wait for a free core counts as well, because callers notice it.
        let start = Instant::now();
        let parsed = if is_heavy {
            Box::pin(self.offload(parse)).await?
        } else {
            parse()?
        };
        self.parsing = start.elapsed();
        Ok(parsed)
    }

    /// Gets the prediction. From here on, the earliest of all time limits applies.
    pub(super) async fn predict(
        &mut self,
        query: ModelQuery<'_>,
    ) -> Result<Box<Prediction>, FailedRequest> {
        let headers = query.headers;
        // The time limit in the body is known only after parsing.
        if let Some(timeout) = query.timeout {
            self.deadline = self.deadline.min(self.call.context.started + timeout);
        }
        // The header is looked up only if a rollout assigns by a header.
        let header = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
        let origin = RequestOrigin {
            protocol: Some(self.call.protocol),
            trace_id: self.call.context.trace.map(Trace::trace_id),
        };
        let request = PredictRequest {
            origin,
            target: query.target,
            input: query.input,
            wanted: query.outputs,
            deadline: self.deadline,
            priority: query.priority,
            header: &header,
            answering: self.answering,
        };
        let mut prediction = self.call.api.predictor.predict(request).await?;
        let decoding = prediction.timing.get(Stage::Decode) + self.parsing;
        prediction.timing.set(Stage::Decode, decoding);
        Ok(prediction)
    }

    /// Encodes the response. A heavy response is encoded on a thread for heavy work.
    pub(super) async fn encode<T: Send + 'static>(
        &self,
        mut prediction: Box<Prediction>,
        is_heavy: bool,
        encode: impl FnOnce(&mut Prediction) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(Box<Prediction>, T), FailedRequest> {
        let start = Instant::now();
        // The prediction is moved to the other thread and back with the response, because it holds
        // large tensors.
        let response = if is_heavy {
            let servable = prediction.servable.clone();
            let work = move || {
                let response = encode(&mut prediction);
                (prediction, response)
            };
            let predictor = &self.call.api.predictor;
            let done = Box::pin(predictor.offload(self.deadline, work)).await;
            // The prediction is lost here, so the failure names the version that answered.
            let (encoded, response) = done.map_err(|error| Failure {
                error,
                servable: Some(servable),
                unversioned: None,
            })?;
            prediction = encoded;
            response
        } else {
            encode(&mut prediction)
        };
        // The model answered, so the refusal is counted for its version.
        let response = response.map_err(|refusal| FailedRequest::of(&prediction, refusal))?;
        prediction.timing.set(Stage::Encode, start.elapsed());
        Ok((prediction, response))
    }
}
