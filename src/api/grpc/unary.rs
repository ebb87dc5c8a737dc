//! `ModelInfer`: answers one message with one response.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::{
    api::{
        Api,
        admission::Admission,
        cancellation::CancelGuard,
        context::{Context, X_FALLBACK, fallback_header},
        grpc::{
            CONTENT_TYPE_GRPC,
            call_context::context,
            infer::{FailedMessage, answer},
            message_reader::MessageReader,
            message_writer::{CallKind, UnaryBody},
            status::{grpc_call, message_timeout, refuse},
        },
    },
    predict::Prediction,
};

pub(super) const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

const X_PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
const X_MODEL_DIGEST: HeaderName = HeaderName::from_static("x-model-digest");

/// The usual number of headers of a response. With this capacity the map is allocated only once.
const USUAL_HEADERS: usize = 8;

pub(super) async fn model_infer(api: Arc<Api>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let context = context(&parts.headers);
    let guard = CancelGuard::new(grpc_call(&api, &context, ""));
    let answered = receive_and_answer(&guard, &parts.headers, body).await;
    guard.finish();
    match answered {
        Ok(answered) => respond(answered, &context),
        Err(FailedMessage { failed, model, .. }) => {
            refuse(grpc_call(&api, &context, &model), &failed)
        }
    }
}

struct Answered {
    prediction: Box<Prediction>,
    segments: Vec<Bytes>,
    admission: Admission,
}

async fn receive_and_answer(
    guard: &CancelGuard<'_>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Answered, FailedMessage> {
    let call = guard.call;
    let config = &call.api.config;
    // The request is admitted before the message is read. The admission is kept until the client
    // has received the response.
    let admission = call.api.admit()?;
    call.context.check()?;
    let mut messages = MessageReader::new(body, headers, config.max_body_bytes)?;
    let deadline = call.context.deadline(config.request_timeout());
    let timeout = config
        .read_timeout()
        .min(deadline.saturating_duration_since(Instant::now()));
    let message = tokio::time::timeout(timeout, messages.only())
        .await
        .map_err(|_| message_timeout(timeout))??;
    let (prediction, segments) = answer(guard, headers, message, CallKind::Unary).await?;
    Ok(Answered {
        prediction,
        segments,
        admission,
    })
}

fn respond(answered: Answered, context: &Context) -> Response<Body> {
    let prediction = answered.prediction;
    let body = UnaryBody::new(answered.segments, Some(answered.admission));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.reserve(USUAL_HEADERS);
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE_GRPC);
    if let Ok(id) = HeaderValue::from_str(prediction.id.write(&mut [0; 26])) {
        headers.insert(X_PREDICTION_ID, id);
    }
    if let Ok(digest) = HeaderValue::from_maybe_shared(prediction.servable.names.digest.clone()) {
        headers.insert(X_MODEL_DIGEST, digest);
    }
    if let Some(value) = prediction.fallback.as_ref().and_then(fallback_header) {
        headers.insert(X_FALLBACK, value);
    }
    context.write_headers(headers);
    response
}
