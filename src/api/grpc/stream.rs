//! `ModelStreamInfer`: answers a stream of messages, one response per message, in the order of the
//! messages.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream as streams};
use http::{HeaderMap, Request, Response, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use tokio::sync::watch;
use tonic::{Status, body::Body};

use crate::{
    api::{
        Api,
        admission::Admission,
        cancellation::CancelGuard,
        context::Context,
        failed_request::FailedRequest,
        grpc::{
            CONTENT_TYPE_GRPC,
            call_context::context,
            infer::{FailedMessage, answer},
            inference::{ModelInferResponse, ModelStreamInferResponse},
            message_reader::{MessageReader, ReceivedMessage},
            message_writer::{CallKind, ok_trailers, write_stream_error},
            status::{count, grpc_call, message_timeout, refuse, status},
        },
        refusal::Refusal,
    },
    error::ErrorCode,
};

pub(super) const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Maximum number of requests of one stream that are answered concurrently. It is enough to fill a
/// batch, and limits the memory that one stream can take.
const STREAM_DEPTH: usize = 16;

/// The state that the messages of a stream share.
struct StreamCall {
    api: Arc<Api>,
    headers: HeaderMap,
    /// Time that the client may be silent between two messages.
    idle_timeout: Duration,
    /// The deadline of the whole stream. `None` if the client sets none.
    deadline: Option<Instant>,
}

impl StreamCall {
    /// Creates the context of a message. Its time starts now, and ends at the stream's deadline at
    /// the latest.
    fn message_context(&self) -> Context {
        let mut context = context(&self.headers);
        context.timeout = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(context.started));
        context
    }
}

/// Answers each message of a stream. The answer to a failed message is an error, and the stream
/// continues. The stream ends if its client sends nothing for `idle_timeout`.
pub(super) async fn model_stream_infer(
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
    idle_timeout: Duration,
    request: Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let context = context(&parts.headers);
    let messages = context
        .check()
        .and_then(|()| MessageReader::new(body, &parts.headers, api.config.max_body_bytes));
    let messages = match messages {
        Ok(messages) => messages,
        Err(refusal) => return refuse(grpc_call(&api, &context, ""), &refusal.into()),
    };
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE_GRPC);
    // The headers are sent before the first message. Later errors are sent as messages or trailers.
    context.write_headers(response.headers_mut());
    let deadline = context.timeout.map(|timeout| context.started + timeout);
    let call = Arc::new(StreamCall {
        api,
        headers: parts.headers,
        idle_timeout,
        deadline,
    });
    response.map(|_| Body::new(StreamBody::new(responses(call, messages, stopped))))
}

/// An event on the reading side of a stream.
enum StreamEvent {
    Message(ReceivedMessage, Admission),
    /// A message was refused, and skipped without reading it into memory.
    Refused(Refusal),
    /// The stream ends, because the rest of it can't be read.
    End(Status),
}

type StreamFrame = Result<Frame<Bytes>, Status>;

/// The frames of one response. The admission is released when the client can receive the last
/// frame, before the next message is read. So a client that has read a response can send its next
/// request.
struct ResponseFrames {
    frames: std::vec::IntoIter<StreamFrame>,
    _admission: Option<Admission>,
}

impl ResponseFrames {
    fn new(frames: Vec<StreamFrame>, admission: Option<Admission>) -> ResponseFrames {
        ResponseFrames {
            frames: frames.into_iter(),
            _admission: admission,
        }
    }
}

impl Iterator for ResponseFrames {
    type Item = StreamFrame;

    fn next(&mut self) -> Option<StreamFrame> {
        self.frames.next()
    }
}

fn responses(
    call: Arc<StreamCall>,
    messages: MessageReader<Incoming>,
    stopped: watch::Receiver<bool>,
) -> impl Stream<Item = StreamFrame> + Send {
    let reading = Arc::clone(&call);
    // Messages are read one after the other, and answered concurrently. The answers keep the order
    // of the messages.
    let events = streams::unfold(Some((messages, stopped)), move |state| {
        let call = Arc::clone(&reading);
        async move {
            let (mut messages, mut stopped) = state?;
            let event = next_event(&call, &mut messages, &mut stopped).await;
            // After an error nothing more is read, because the start of the next message is
            // unknown.
            event.map(|event| match event {
                StreamEvent::End(_) => (event, None),
                event => (event, Some((messages, stopped))),
            })
        }
    });
    let answered = events
        .map(move |event| answer_event(Arc::clone(&call), event))
        .buffered(STREAM_DEPTH);
    // Hyper stops at the first trailers. If an error already sent trailers, these are not sent.
    let end = streams::once(async {
        ResponseFrames::new(vec![Ok(Frame::trailers(ok_trailers()))], None)
    });
    answered.chain(end).flat_map(streams::iter)
}

/// Returns the next event of a stream. `None` at the end of the stream.
async fn next_event(
    call: &StreamCall,
    messages: &mut MessageReader<Incoming>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<StreamEvent> {
    let received = match wait_for_message(call, messages, stopped).await {
        Ok(true) => receive(call, messages).await,
        Ok(false) => return None,
        Err(refusal) => Err(refusal),
    };
    received.unwrap_or_else(|refusal| {
        let context = context(&call.headers);
        let status = count(
            grpc_call(&call.api, &context, ""),
            &FailedRequest::from(refusal),
        );
        Some(StreamEvent::End(status))
    })
}

/// Waits for the first byte of a message. Returns false at the end of the stream.
async fn wait_for_message(
    call: &StreamCall,
    messages: &mut MessageReader<Incoming>,
    stopped: &mut watch::Receiver<bool>,
) -> Result<bool, Refusal> {
    // The earlier time applies: the server's idle limit or the client's deadline.
    let idle_until = Instant::now() + call.idle_timeout;
    let until = call
        .deadline
        .map_or(idle_until, |deadline| deadline.min(idle_until));
    let waited = tokio::select! {
        waited = tokio::time::timeout_at(until.into(), messages.has_more()) => waited,
        _ = stopped.wait_for(|stop| *stop) => {
            return Err(Refusal::new(ErrorCode::NotReady, "the server is shutting down"));
        }
    };
    match waited {
        // If a client disconnects between two messages, no request stays without a response.
        Ok(Err(refusal)) if refusal.code == ErrorCode::Cancelled => Ok(false),
        Ok(has_more) => has_more,
        Err(_) if until == idle_until => Err(message_timeout(call.idle_timeout)),
        Err(_) => Err(Refusal::new(
            ErrorCode::DeadlineExceeded,
            "the deadline of the stream has passed",
        )),
    }
}

/// Reads a message whose first byte has arrived. Skips it if the server has reached its limit of
/// requests in flight.
async fn receive(
    call: &StreamCall,
    messages: &mut MessageReader<Incoming>,
) -> Result<Option<StreamEvent>, Refusal> {
    let context = context(&call.headers);
    let guard = CancelGuard::new(grpc_call(&call.api, &context, ""));
    let received = async {
        let Some(header) = messages.next_header().await? else {
            return Ok(None);
        };
        // Admit a message before its bytes take memory.
        match call.api.admit() {
            Ok(admission) => {
                let message = messages.read(header).await?;
                Ok(Some(StreamEvent::Message(message, admission)))
            }
            Err(refusal) => {
                messages.skip(header).await?;
                Ok(Some(StreamEvent::Refused(refusal)))
            }
        }
    };
    // The rest of the message must arrive in time, because its admission counts as a request in
    // flight.
    let timeout = call.api.config.read_timeout();
    let received = tokio::time::timeout(timeout, received).await;
    guard.finish();
    received.map_err(|_| message_timeout(timeout))?
}

async fn answer_event(call: Arc<StreamCall>, event: StreamEvent) -> ResponseFrames {
    let context = call.message_context();
    let (answered, admission) = match event {
        StreamEvent::Message(message, admission) => {
            let guard = CancelGuard::new(grpc_call(&call.api, &context, ""));
            let answered = answer(&guard, &call.headers, message, CallKind::Stream).await;
            guard.finish();
            (answered, Some(admission))
        }
        StreamEvent::Refused(refusal) => (Err(FailedMessage::from(refusal)), None),
        StreamEvent::End(status) => {
            let mut trailers = HeaderMap::new();
            let written = status.add_header(&mut trailers);
            return ResponseFrames::new(vec![written.map(|()| Frame::trailers(trailers))], None);
        }
    };
    let segments = answered
        .map(|(_, segments)| segments)
        .or_else(|failed| error_message(&call, &context, failed));
    let frames = match segments {
        Ok(segments) => segments
            .into_iter()
            .map(|segment| Ok(Frame::data(segment)))
            .collect(),
        Err(refusal) => vec![Err(status(refusal))],
    };
    ResponseFrames::new(frames, admission)
}

/// Creates the answer to a failed message. Its id tells the client which request failed.
fn error_message(
    call: &StreamCall,
    context: &Context,
    failed: FailedMessage,
) -> Result<Vec<Bytes>, Refusal> {
    let FailedMessage { failed, model, id } = failed;
    let status = count(grpc_call(&call.api, context, &model), &failed);
    write_stream_error(&ModelStreamInferResponse {
        error_message: status.message().to_owned(),
        infer_response: Some(ModelInferResponse {
            id,
            ..Default::default()
        }),
    })
}
