//! Infer: one message of `ModelInfer` or `ModelStreamInfer`, from its bytes to the bytes of its
//! response.
//!
//! These two calls do not use the generated service: large messages are parsed away from the
//! network threads, tensors are not copied, and a request takes no memory before it is admitted.

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    api::{
        call::{CallFrame, ModelQuery},
        cancellation::CancelGuard,
        failed_request::FailedRequest,
        grpc::{
            infer_request::{self, InferRequest},
            infer_response::ResponseOptions,
            message_reader::ReceivedMessage,
            message_writer::{CallKind, write},
        },
        refusal::Refusal,
    },
    predict::{Input, Prediction},
    registry::route::Target,
};

/// Messages with more bytes, and predictions with more values, are handled away from the network
/// threads.
const HEAVY: usize = 64 << 10;

/// A message without a prediction.
pub(super) struct FailedMessage {
    pub failed: FailedRequest,
    /// The model that the message names; empty if the message can't be read.
    pub model: String,
    /// The request id in the message, which tells the caller of a stream which request failed.
    pub id: String,
}

impl From<FailedRequest> for FailedMessage {
    fn from(failed: FailedRequest) -> FailedMessage {
        FailedMessage {
            failed,
            model: String::new(),
            id: String::new(),
        }
    }
}

impl From<Refusal> for FailedMessage {
    fn from(refusal: Refusal) -> FailedMessage {
        FailedMessage::from(FailedRequest::from(refusal))
    }
}

/// Answers a message. Returns the prediction, which is counted here, and the framed message of the
/// response.
pub(super) async fn answer(
    guard: &CancelGuard<'_>,
    headers: &HeaderMap,
    message: ReceivedMessage,
    kind: CallKind,
) -> Result<(Prediction, Vec<Bytes>), FailedMessage> {
    let call = guard.call;
    let mut frame = CallFrame::new(guard);
    let is_heavy = message.weight() > HEAVY;
    let parse = move || infer_request::read(message.decode()?);
    let mut request = frame.parse(is_heavy, parse).await?;
    match predict(&mut frame, headers, &mut request, kind).await {
        Ok((prediction, segments)) => {
            call.api
                .count_answered(call.protocol, call.context, &prediction);
            Ok((prediction, segments))
        }
        Err(failed) => Err(FailedMessage {
            failed,
            model: request.model,
            id: request.id,
        }),
    }
}

/// Asks the model and encodes the response. Takes the inputs and the outputs out of the request;
/// its names stay for an error.
async fn predict(
    frame: &mut CallFrame<'_>,
    headers: &HeaderMap,
    request: &mut InferRequest,
    kind: CallKind,
) -> Result<(Prediction, Vec<Bytes>), FailedRequest> {
    // Copied: the names are needed for the prediction and again for the response.
    let outputs: Vec<String> = request
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    // Protobuf has no absent text: the empty version means that the server chooses.
    let version = Some(request.version.as_str()).filter(|version| !version.is_empty());
    let query = ModelQuery {
        target: Target {
            model: Some(&request.model),
            version,
        },
        headers,
        // Taken, not copied: the elements may be large.
        input: Input::Tensors(std::mem::take(&mut request.inputs)),
        outputs: &outputs,
        priority: request.priority,
        timeout: request.timeout,
    };
    let prediction = frame.predict(query).await?;
    let options = ResponseOptions {
        id: request.id.clone(),
        outputs: std::mem::take(&mut request.outputs),
        form: request.form,
    };
    let is_heavy = prediction.weight() > HEAVY;
    let encode = move |prediction: &mut Prediction| {
        let tensors = prediction
            .take_tensors(&outputs)
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        write(options.respond(prediction, tensors)?, kind)
    };
    frame.encode(prediction, is_heavy, encode).await
}
