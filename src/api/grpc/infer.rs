//! Infer: `ModelInfer` and `ModelStreamInfer`, from their bodies to their answers. They are taken apart by hand: large messages
//! not on the network threads, tensors without a copy, and nothing at all of a request that there is no place for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream as streams};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body, metadata::MetadataValue};

use crate::{
    api::{
        Admission, Api,
        cancellation::CancelGuard,
        context::{Context, X_FALLBACK, fallback_header},
        grpc::{
            contents::{self, Form, InferRequest},
            frame::{Kind, Messages, Received, Unary, all_is_well, write, write_told},
            inference::{
                InferParameter, ModelInferResponse, ModelStreamInferResponse,
                infer_parameter::ParameterChoice,
            },
        },
        oip::{self, RequestedOutput, error_status},
        refusal::{FailedRequest, Refusal},
    },
    error::ErrorCode,
    metrics::{Protocol, Stage},
    predict::{Failure, Input, PredictRequest, Prediction},
    registry::route::Target,
    transform::fields::NamedTensor,
};

pub const UNARY: &str = "/inference.GRPCInferenceService/ModelInfer";
pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const X_PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
const X_MODEL_DIGEST: HeaderName = HeaderName::from_static("x-model-digest");

/// Milliseconds after which a client that retries by itself may do so.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Messages and answers of more bytes or values than this are gone through off the network threads.
const HEAVY: usize = 64 << 10;

/// Bytes of an error's text. It travels as a header, three bytes for each that is not ASCII, and clients take 8 KiB of headers: of
/// more they report that, and not the error.
const MAX_DETAIL: usize = 2 << 10;

/// Requests of one stream that are worked on at once.
const STREAM_DEPTH: usize = 16;

/// Answers one request.
pub async fn unary(api: Arc<Api>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let context = context(&parts.headers);
    let mut asked = InferRequest::default();
    let guard = guard(&api, &context);
    let answered = answer_unary(&api, &guard, &parts.headers, body, &mut asked).await;
    guard.finish();
    match answered {
        Ok((prediction, pieces, held)) => {
            let mut response = Response::new(Body::new(Unary::new(pieces, Some(held))));
            let headers = response.headers_mut();
            headers.reserve(8);
            headers.insert(header::CONTENT_TYPE, GRPC);
            if let Ok(id) = HeaderValue::from_str(prediction.id.write(&mut [0; 26])) {
                headers.insert(X_PREDICTION_ID, id);
            }
            if let Ok(digest) =
                HeaderValue::from_maybe_shared(prediction.servable.names.digest.clone())
            {
                headers.insert(X_MODEL_DIGEST, digest);
            }
            if let Some(value) = prediction.fallback.as_ref().and_then(fallback_header) {
                headers.insert(X_FALLBACK, value);
            }
            context.write_headers(headers);
            response
        }
        Err(refused) => {
            let mut response: Response<Body> =
                count(&api, &context, &asked.model, &refused).into_http();
            context.write_headers(response.headers_mut());
            response
        }
    }
}

async fn answer_unary(
    api: &Arc<Api>,
    guard: &CancelGuard<'_>,
    headers: &HeaderMap,
    body: Incoming,
    asked: &mut InferRequest,
) -> Result<(Prediction, Vec<Bytes>, Admission), FailedRequest> {
    let held = api.admit().ok_or_else(overloaded)?;
    guard.context.check()?;
    let mut messages = Messages::new(body, headers, api.config.max_body_bytes)?;
    let deadline = guard.context.deadline(api.config.request_timeout());
    let timeout = api
        .config
        .read_timeout()
        .min(deadline.saturating_duration_since(Instant::now()));
    let message = tokio::time::timeout(timeout, messages.only())
        .await
        .map_err(|_| too_slow(timeout))??;
    let (prediction, pieces) = answer(api, guard, headers, message, asked, Kind::Unary).await?;
    Ok((prediction, pieces, held))
}

/// The answer to a message, in pieces; `asked` is what was understood of it, however it ends.
async fn answer(
    api: &Arc<Api>,
    guard: &CancelGuard<'_>,
    headers: &HeaderMap,
    message: Received,
    asked: &mut InferRequest,
    kind: Kind,
) -> Result<(Prediction, Vec<Bytes>), FailedRequest> {
    let CancelGuard {
        context, answering, ..
    } = guard;
    let start = Instant::now();
    let mut deadline = context.deadline(api.config.request_timeout());
    let read = |message: Received| contents::read(message.decode()?);
    *asked = match message.weight() > HEAVY {
        true => {
            api.predictor
                .offload(deadline, move || read(message))
                .await??
        }
        false => read(message)?,
    };
    let taken_apart = start.elapsed();
    if let Some(timeout) = asked.timeout {
        deadline = deadline.min(context.started + timeout);
    }
    let wanted: Vec<String> = asked
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let version = Some(asked.version.as_str()).filter(|version| !version.is_empty());
    let target = Target {
        model: Some(&asked.model),
        version,
    };
    let input = Input::Tensors(std::mem::take(&mut asked.inputs));
    let header = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
    let request = PredictRequest {
        target,
        input,
        wanted: &wanted,
        deadline,
        priority: asked.priority,
        header: &header,
        answering,
    };
    let mut prediction = api.predictor.predict(request).await?;
    prediction.timing.set(
        Stage::Decode,
        prediction.timing.get(Stage::Decode) + taken_apart,
    );

    let start = Instant::now();
    let (outputs, id, form) = (
        std::mem::take(&mut asked.outputs),
        asked.id.clone(),
        asked.form,
    );
    let work = move |mut prediction: Prediction| {
        let tensors = prediction
            .take_tensors(&wanted)
            .map_err(|detail| Refusal::new(ErrorCode::Malformed, detail));
        let response = tensors.and_then(|tensors| encode(&prediction, tensors, &outputs, id, form));
        let pieces = response.and_then(|response| write(response, kind));
        (prediction, pieces)
    };
    let (mut prediction, pieces) = if prediction.weight() > HEAVY {
        let servable = Arc::clone(&prediction.servable);
        let outcome = api
            .predictor
            .offload(deadline, move || work(prediction))
            .await;
        outcome.map_err(|error| Failure {
            error,
            servable: Some(servable),
            unversioned: None,
        })?
    } else {
        work(prediction)
    };
    let pieces = pieces.map_err(|refusal| FailedRequest::of(&prediction, refusal))?;
    prediction.timing.set(Stage::Encode, start.elapsed());
    api.count_answered(Protocol::Grpc, context, &prediction);
    Ok((prediction, pieces))
}

fn encode(
    prediction: &Prediction,
    tensors: Vec<NamedTensor>,
    outputs: &[RequestedOutput],
    id: String,
    form: Form,
) -> Result<ModelInferResponse, Refusal> {
    let classification = |index| {
        outputs
            .get(index)
            .map_or(0, |output: &RequestedOutput| output.classification)
    };
    let tensors = tensors.into_iter().enumerate().map(|(index, tensor)| {
        oip::answer_output(&prediction.servable, tensor, classification(index))
    });
    let tensors = tensors.collect::<Result<_, _>>()?;
    let model = prediction.servable.id();
    let mut response = contents::answer(
        model.name.to_string(),
        model.version.to_string(),
        id,
        tensors,
        form,
    );
    if let Some(fallback) = &prediction.fallback {
        let text = |text: &str| InferParameter {
            parameter_choice: Some(ParameterChoice::StringParam(text.to_owned())),
        };
        response
            .parameters
            .insert("fallback".to_owned(), text(&fallback.to));
        response
            .parameters
            .insert("fallback_reason".to_owned(), text(fallback.reason.name()));
    }
    Ok(response)
}

/// Answers each message in its turn; a message that can't be answered is told so, and ends nothing.
/// One of which nothing came for as long as `patience` is ended.
pub async fn stream(
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
    patience: Duration,
    request: Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let context = context(&parts.headers);
    let messages = context
        .check()
        .and_then(|()| Messages::new(body, &parts.headers, api.config.max_body_bytes));
    let messages = match messages {
        Ok(messages) => messages,
        Err(refusal) => {
            return count(&api, &context, "", &FailedRequest::from(refusal)).into_http();
        }
    };
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    context.write_headers(response.headers_mut());
    let deadline = context.timeout.map(|timeout| context.started + timeout);
    let call = Arc::new(Call {
        api,
        headers: parts.headers,
        patience,
        deadline,
    });
    response.map(|_| Body::new(StreamBody::new(answers(call, messages, stopped))))
}

/// What the messages of a stream share.
struct Call {
    api: Arc<Api>,
    headers: HeaderMap,
    patience: Duration,
    /// Of the stream as a whole, where the client has set one.
    deadline: Option<Instant>,
}

enum Heard {
    Message(Received, Admission),
    /// There was no place for it.
    TooMany,
    /// Nothing more can be understood.
    End(Status),
}

type StreamFrame = Result<Frame<Bytes>, Status>;

/// What answers a message. Its place is given back when the client has room for the last frame, and before the next message is
/// asked for: whoever reads an answer can ask again.
struct Reply {
    frames: std::vec::IntoIter<StreamFrame>,
    _held: Option<Admission>,
}

impl Reply {
    fn new(frames: Vec<StreamFrame>, held: Option<Admission>) -> Reply {
        Reply {
            frames: frames.into_iter(),
            _held: held,
        }
    }
}

impl Iterator for Reply {
    type Item = StreamFrame;

    fn next(&mut self) -> Option<StreamFrame> {
        self.frames.next()
    }
}

fn answers(
    call: Arc<Call>,
    messages: Messages<Incoming>,
    stopped: watch::Receiver<bool>,
) -> impl Stream<Item = StreamFrame> + Send {
    let asking = Arc::clone(&call);
    let heard = streams::unfold(Some((messages, stopped)), move |state| {
        let call = Arc::clone(&asking);
        async move {
            let (mut messages, mut stopped) = state?;
            match next(&call, &mut messages, &mut stopped).await {
                Ok(Some(heard)) => Some((heard, Some((messages, stopped)))),
                Ok(None) => None,
                Err(refused) => {
                    let status = count(&call.api, &context(&call.headers), "", &refused);
                    Some((Heard::End(status), None))
                }
            }
        }
    });
    let answered = heard
        .map(move |heard| answer_heard(Arc::clone(&call), heard))
        .buffered(STREAM_DEPTH);
    // What comes behind the trailers is never asked for.
    let end = streams::once(async { Reply::new(vec![Ok(Frame::trailers(all_is_well()))], None) });
    answered.chain(end).flat_map(streams::iter)
}

/// The next message of a stream; the client may take its time before it, and the server may stop.
async fn next(
    call: &Call,
    messages: &mut Messages<Incoming>,
    stopped: &mut watch::Receiver<bool>,
) -> Result<Option<Heard>, FailedRequest> {
    let silent_until = Instant::now() + call.patience;
    let until = call
        .deadline
        .map_or(silent_until, |deadline| deadline.min(silent_until));
    let more = tokio::select! {
        more = tokio::time::timeout_at(until.into(), messages.more()) => more.map_err(|_| match until == silent_until {
            true => too_slow(call.patience),
            false => FailedRequest::from(Refusal::new(ErrorCode::DeadlineExceeded, "the deadline of the stream has passed".to_owned())),
        })?,
        _ = stopped.wait_for(|stop| *stop) => return Err(Refusal::new(ErrorCode::NotReady, "the server is shutting down".to_owned()).into()),
    };
    match more {
        Ok(true) => {}
        // A stream that is given up between two messages leaves nothing unanswered.
        Ok(false)
        | Err(Refusal {
            code: ErrorCode::Cancelled,
            ..
        }) => return Ok(None),
        Err(refusal) => return Err(refusal.into()),
    }
    let context = context(&call.headers);
    let guard = guard(&call.api, &context);
    let heard = async {
        let Some(head) = messages.head().await? else {
            return Ok(None);
        };
        // A message takes its place before its bytes take memory.
        match call.api.admit() {
            Some(held) => Ok(Some(Heard::Message(messages.rest(head).await?, held))),
            None => messages.skip(head).await.map(|()| Some(Heard::TooMany)),
        }
    };
    let timeout = call.api.config.read_timeout();
    let heard = tokio::time::timeout(timeout, heard).await;
    guard.finish();
    Ok(heard.map_err(|_| too_slow(timeout))??)
}

async fn answer_heard(call: Arc<Call>, heard: Heard) -> Reply {
    let admitted = match heard {
        Heard::Message(message, held) => Some((message, held)),
        Heard::TooMany => None,
        Heard::End(status) => {
            let mut trailers = HeaderMap::new();
            let written = status.add_header(&mut trailers);
            return Reply::new(vec![written.map(|()| Frame::trailers(trailers))], None);
        }
    };
    let mut context = context(&call.headers);
    context.timeout = call
        .deadline
        .map(|deadline| deadline.saturating_duration_since(context.started));
    let mut asked = InferRequest::default();
    let (answered, held) = match admitted {
        Some((message, held)) => {
            let guard = guard(&call.api, &context);
            let answered = answer(
                &call.api,
                &guard,
                &call.headers,
                message,
                &mut asked,
                Kind::Stream,
            )
            .await;
            guard.finish();
            (answered, Some(held))
        }
        None => (Err(overloaded()), None),
    };
    let pieces = answered.map(|(_, pieces)| pieces).or_else(|refused| {
        let error_message = count(&call.api, &context, &asked.model, &refused)
            .message()
            .to_owned();
        // The id says whose fault it is.
        write_told(&ModelStreamInferResponse {
            error_message,
            infer_response: Some(ModelInferResponse {
                id: asked.id,
                ..Default::default()
            }),
        })
    });
    let frames = match pieces {
        Ok(pieces) => pieces
            .into_iter()
            .map(|piece| Ok(Frame::data(piece)))
            .collect(),
        Err(Refusal { code, detail }) => vec![Err(status(code, detail))],
    };
    Reply::new(frames, held)
}

/// Counts a message whose caller leaves before its answer. What model it is for is known once it is taken apart.
fn guard<'a>(api: &'a Api, context: &'a Context) -> CancelGuard<'a> {
    CancelGuard::new(
        api,
        Protocol::Grpc,
        Target {
            model: Some(""),
            version: None,
        },
        context,
    )
}

fn overloaded() -> FailedRequest {
    FailedRequest::from(Refusal::new(
        ErrorCode::Overloaded,
        "the server has as many requests in flight as it takes; try again later".to_owned(),
    ))
}

fn too_slow(timeout: Duration) -> FailedRequest {
    FailedRequest::from(Refusal::new(
        ErrorCode::BodyTimeout,
        format!(
            "the message did not arrive within {} ms",
            timeout.as_millis()
        ),
    ))
}

/// What is told of a call whose message did not come in time.
pub fn give_up(api: &Api, context: &Context, timeout: Duration) -> Response<Body> {
    refused(api, context, &too_slow(timeout))
}

/// What is told of a call that is refused by its header fields.
pub fn refuse(api: &Api, context: &Context, code: ErrorCode, detail: String) -> Response<Body> {
    refused(api, context, &FailedRequest::from(Refusal { code, detail }))
}

fn refused(api: &Api, context: &Context, refused: &FailedRequest) -> Response<Body> {
    let mut response: Response<Body> = count(api, context, "", refused).into_http();
    context.write_headers(response.headers_mut());
    response
}

/// What is told of a call whose header fields are too large: in the words of HTTP, too, for whatever stands between.
pub fn refuse_head(
    api: &Api,
    headers: &HeaderMap,
    code: ErrorCode,
    detail: String,
) -> Response<Body> {
    let mut response = refuse(api, &context(headers), code, detail);
    *response.status_mut() =
        StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

/// Counts and logs what stopped a request, and gives what its caller is told.
fn count(api: &Api, context: &Context, model: &str, refused: &FailedRequest) -> Status {
    refused.count(
        api,
        Protocol::Grpc,
        error_status(refused.code),
        Target {
            model: Some(model),
            version: None,
        },
        context,
    );
    status(refused.code, refused.told(context).line())
}

/// The one way to tell an error: its text is cut to what clients take.
pub fn status(code: ErrorCode, detail: String) -> Status {
    let mut status = Status::new(Code::from_i32(code.grpc_status()), capped(detail));
    if code.is_retryable() {
        status
            .metadata_mut()
            .insert(RETRY_PUSHBACK, MetadataValue::from_static("1000"));
    }
    status
}

fn capped(mut detail: String) -> String {
    if detail.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL)
            .rev()
            .find(|at| detail.is_char_boundary(*at))
            .unwrap_or(0);
        detail.truncate(end);
        detail.push_str("...");
    }
    detail
}

/// What the headers say of a call; its deadline is the earlier of gRPC's and the one that predictd's own header sets.
pub fn context(headers: &HeaderMap) -> Context {
    let mut context = Context::new(headers);
    if let Some(value) = headers.get(GRPC_TIMEOUT) {
        match value.to_str().ok().and_then(parse_timeout) {
            Some(timeout) => context.timeout = Some(context.timeout.map_or(timeout, |own| own.min(timeout))),
            None => {
                context.fault = Some("the header grpc-timeout must be at most eight digits and a unit of H, M, S, m, u or n".to_owned())
            }
        }
    }
    context
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use crate::{
        api::grpc::infer::{MAX_DETAIL, parse_timeout, status},
        error::ErrorCode,
    };

    #[test]
    fn errors_are_cut_to_what_clients_take() {
        for (text, kept) in [("x", MAX_DETAIL), ("\u{20ac}", MAX_DETAIL - MAX_DETAIL % 3)] {
            let told = status(ErrorCode::Invalid, text.repeat(1 << 20));
            assert_eq!(told.code(), Code::InvalidArgument);
            assert_eq!(
                told.message(),
                format!("{}...", text.repeat(kept / text.len()))
            );
        }
        let whole = "x".repeat(MAX_DETAIL);
        assert_eq!(status(ErrorCode::Invalid, whole.clone()).message(), whole);
    }

    #[test]
    fn timeouts_have_a_unit() {
        let cases = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("1500u", Some(Duration::from_micros(1500))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("100000000S", None),
            ("-1S", None),
            ("1s", None),
            ("1", None),
            ("1\u{e9}", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
