//! Call: the part of a request that all protocols share, around `Predictor::predict`: the deadline,
//! work away from the network threads, timing and counting. A protocol reads its messages and
//! writes its responses; nothing else.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::{
    api::{
        Api, cancellation::CancelGuard, context::Context, failed_request::FailedRequest,
        refusal::Refusal,
    },
    metrics::{Protocol, Stage},
    predict::{AnsweringVersion, Failure, Input, PredictRequest, Prediction, Priority},
    registry::route::Target,
};

/// A request to a model, as far as it is known before its body is read.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub api: &'a Api,
    pub protocol: Protocol,
    /// The model and the version that the request names.
    pub target: Target<'a>,
    pub context: &'a Context,
}

/// The input of a request, and how the caller wants it to be answered.
pub(super) struct ModelQuery<'q> {
    pub target: Target<'q>,
    pub headers: &'q HeaderMap,
    pub input: Input,
    /// Names of the wanted outputs; empty means all outputs.
    pub outputs: &'q [String],
    pub priority: Priority,
    /// The time limit that the body sets, from the start of the request.
    pub timeout: Option<Duration>,
}

/// The frame around an admitted call. A protocol parses, predicts and encodes with it, in this
/// order.
pub(super) struct CallFrame<'a> {
    pub call: Call<'a>,
    answering: &'a AnsweringVersion,
    deadline: Instant,
    /// Time spent in `parse`; it is a part of the decoding stage.
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

    /// The time that is left until the deadline.
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

    /// Parses the request. A heavy one is parsed away from the network threads, where it delays no
    /// other request.
    pub(super) async fn parse<T: Send + 'static>(
        &mut self,
        is_heavy: bool,
        parse: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, FailedRequest> {
        // The wait for a free core counts as well: callers feel it.
        let start = Instant::now();
        let parsed = if is_heavy {
            self.offload(parse).await?
        } else {
            parse()?
        };
        self.parsing = start.elapsed();
        Ok(parsed)
    }

    /// Asks the model. The earliest of all time limits holds from here on.
    pub(super) async fn predict(
        &mut self,
        query: ModelQuery<'_>,
    ) -> Result<Prediction, FailedRequest> {
        let headers = query.headers;
        // Known only after parsing: the limit may be in the body.
        if let Some(timeout) = query.timeout {
            self.deadline = self.deadline.min(self.call.context.started + timeout);
        }
        // Looked up only if a rollout assigns by a header.
        let header = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
        let request = PredictRequest {
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

    /// Encodes the response. A heavy one is encoded away from the network threads.
    pub(super) async fn encode<T: Send + 'static>(
        &self,
        mut prediction: Prediction,
        is_heavy: bool,
        encode: impl FnOnce(&mut Prediction) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(Prediction, T), FailedRequest> {
        let start = Instant::now();
        // The prediction moves with the work and comes back with the response: it holds large
        // tensors.
        let response = if is_heavy {
            let servable = prediction.servable.clone();
            let work = move || {
                let response = encode(&mut prediction);
                (prediction, response)
            };
            let predictor = &self.call.api.predictor;
            let done = predictor.offload(self.deadline, work).await;
            // Counted for the version that answered, whose prediction is lost here.
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
        // The model answered, and the version is known: the refusal is counted for it.
        let response = response.map_err(|refusal| FailedRequest::of(&prediction, refusal))?;
        prediction.timing.set(Stage::Encode, start.elapsed());
        Ok((prediction, response))
    }
}
