//! Infer: answers one message of `ModelInfer` or `ModelStreamInfer`, from its bytes to the bytes of
//! its response.
//!
//! These two calls do not use the generated service, for three reasons: large messages are parsed
//! on threads for heavy work, tensors are not copied, and a request takes no memory before it is
//! admitted.

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    api::{
        call_frame::{CallFrame, ModelQuery},
        cancellation::CancelGuard,
        failed_request::FailedRequest,
        grpc::{
            infer_request::{self, GrpcInferRequest},
            infer_response::GrpcResponseOptions,
            message_reader::ReceivedMessage,
            message_writer::{CallKind, write},
        },
        refusal::Refusal,
    },
    predict::{Input, Prediction},
    registry::route::Target,
};

/// Messages with more bytes, and predictions with more values, are handled on threads for heavy
/// work, not on the network threads.
const HEAVY: usize = 64 << 10;

/// A message that got no prediction.
pub(super) struct FailedMessage {
    pub failed: FailedRequest,
    /// The model that the message names. Empty if the message can't be parsed.
    pub model: String,
    /// The request id in the message. It tells the caller of a stream which request failed.
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

/// Answers a message. Returns the prediction, which is counted here, and the framed response
/// message.
pub(super) async fn answer(
    guard: &CancelGuard<'_>,
    headers: &HeaderMap,
    message: ReceivedMessage,
    kind: CallKind,
) -> Result<(Box<Prediction>, Vec<Bytes>), FailedMessage> {
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

/// Gets the prediction and encodes the response. Takes the inputs and the outputs out of the
/// request. The names stay in the request, because an error needs them.
async fn predict(
    frame: &mut CallFrame<'_>,
    headers: &HeaderMap,
    request: &mut GrpcInferRequest,
    kind: CallKind,
) -> Result<(Box<Prediction>, Vec<Bytes>), FailedRequest> {
    // The names are copied, because both the prediction and the response need them.
    let outputs: Vec<String> = request
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    // A Protobuf string is never absent. An empty version means that the server chooses.
    let version = Some(request.version.as_str()).filter(|version| !version.is_empty());
    let query = ModelQuery {
        target: Target {
            model: Some(&request.model),
            version,
        },
        headers,
        // The inputs are taken, not copied, because they may be large.
        input: Input::Tensors(std::mem::take(&mut request.inputs)),
        outputs: &outputs,
        priority: request.priority,
        timeout: request.timeout,
    };
    let prediction = frame.predict(query).await?;
    let options = GrpcResponseOptions {
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
