//! Exchange: one request of whatever dialect, from the admission to the answer. What dialects have in common is here, once:
//! limits, decompression, deadlines, metrics, log, headers.

use std::{
    borrow::Cow,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request, response::Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};

use crate::{
    api::{
        Api,
        cancellation::CancelGuard,
        context::{Context, X_FALLBACK, fallback_header},
        http::{
            body::{self, BodyLimits},
            encoding::{self, Encoding},
            negotiation,
            probes::RETRY_AFTER,
        },
        refusal::{ErrorReport, FailedRequest, Refusal},
    },
    error::ErrorCode,
    metrics::{Protocol, Stage},
    predict::{Failure, HEAVY_VALUES, Input, PredictRequest, Prediction, Priority, Timing},
    registry::{route::Target, servable::Servable},
};

const X_PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
const X_MODEL_NAME: HeaderName = HeaderName::from_static("x-model-name");
const X_MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
const X_MODEL_DIGEST: HeaderName = HeaderName::from_static("x-model-digest");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Texts above this are taken apart off the network threads.
const HEAVY_TEXT_BYTES: usize = 64 << 10;

/// How a protocol reads its requests and writes its answers and errors.
pub trait Dialect: Copy + Send + Sync + 'static {
    /// What the answer has to know of the request.
    type Wish: Send + 'static;

    fn protocol(self) -> Protocol;

    /// Whether this body can be one of the dialect's, as its headers say; asked before it is read.
    fn check(self, headers: &HeaderMap) -> Result<(), Refusal>;

    /// The media types of its answers, the one that it prefers first.
    fn offers(self) -> &'static [&'static str] {
        &["application/json"]
    }

    /// Bytes in front of binary data, which is to lie in memory as the graph takes it.
    fn binary_offset(self, headers: &HeaderMap) -> Option<usize> {
        let _ = headers;
        None
    }

    /// Bytes that decoding goes through one by one.
    fn text_bytes(self, headers: &HeaderMap, body: &Bytes) -> usize {
        self.binary_offset(headers).unwrap_or(body.len())
    }

    fn decode(self, headers: &HeaderMap, body: Bytes) -> Result<Call<Self::Wish>, Refusal>;

    fn encode(self, wish: &Self::Wish, prediction: &mut Prediction) -> Result<Reply, Refusal>;

    /// The status that this dialect has for an error.
    fn status(self, code: ErrorCode) -> u16 {
        code.http_status()
    }

    /// The error in the dialect's own form; status and common headers are set by the exchange.
    fn refuse(self, error: &ErrorReport<'_>, context: &Context) -> (&'static str, Vec<u8>);
}

/// A request, taken apart.
pub struct Call<W> {
    pub input: Input,
    /// Outputs that are named; none: all.
    pub wanted: Vec<String>,
    pub priority: Priority,
    pub timeout: Option<Duration>,
    pub wish: W,
}

impl<W> Call<W> {
    pub fn new(input: Input, wish: W) -> Call<W> {
        Call {
            input,
            wanted: Vec::new(),
            priority: Priority::default(),
            timeout: None,
            wish,
        }
    }
}

/// An answer's bytes: text, and binary data behind it that is not copied.
pub struct Reply {
    pub content_type: &'static str,
    pub text: Vec<u8>,
    pub data: Vec<Bytes>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    pub fn json(text: Vec<u8>) -> Reply {
        Reply {
            content_type: "application/json",
            text,
            data: Vec::new(),
            headers: Vec::new(),
        }
    }
}

/// Answers one request.
pub async fn exchange<D: Dialect>(
    api: &Arc<Api>,
    dialect: D,
    target: Target<'_>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let context = Context::new(&parts.headers);
    let guard = CancelGuard::new(api, dialect.protocol(), target, &context);
    let answered = answer(api, dialect, &guard, parts.headers, body).await;
    guard.finish();
    match answered {
        Ok(response) => response,
        Err(refused) => refuse(
            api,
            dialect,
            target,
            &context,
            &refused.named_deadline(&context),
        ),
    }
}

async fn answer<D: Dialect>(
    api: &Arc<Api>,
    dialect: D,
    guard: &CancelGuard<'_>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, FailedRequest> {
    let CancelGuard {
        target,
        context,
        answering,
        ..
    } = guard;
    let overloaded = || {
        Refusal::new(
            ErrorCode::Overloaded,
            "the server has as many requests in flight as it takes; try again later".to_owned(),
        )
    };
    let _admission = api.admit().ok_or_else(overloaded)?;
    context.check()?;
    dialect.check(&headers)?;
    negotiation::choose(&headers, dialect.offers())?;
    let mut deadline = context.deadline(api.config.request_timeout());
    let max_bytes = api.config.max_body_bytes;
    let limit = api.config.read_timeout().min(api.config.request_timeout());
    let impatient = context.timeout.is_some_and(|timeout| timeout < limit);
    let timeout = if impatient {
        deadline.saturating_duration_since(Instant::now())
    } else {
        limit
    };
    let offset = dialect.binary_offset(&headers);
    let mut body = body::read(&headers, body, BodyLimits { max_bytes, timeout }, offset)
        .await
        .map_err(|refusal| match refusal.code {
            ErrorCode::BodyTimeout if impatient => Refusal::new(
                ErrorCode::DeadlineExceeded,
                "the body had not arrived by the deadline".to_owned(),
            ),
            _ => refusal,
        })?;
    if body::is_compressed(&headers) {
        let sent = headers.clone();
        body = api
            .predictor
            .offload(deadline, move || body::decompress(&sent, &body, max_bytes))
            .await??;
    }
    let wanted = if headers.contains_key(header::ACCEPT_ENCODING) {
        Some(headers.clone())
    } else {
        None
    };
    let start = Instant::now();
    let call = if dialect.text_bytes(&headers, &body) > HEAVY_TEXT_BYTES {
        let sent = headers.clone();
        api.predictor
            .offload(deadline, move || dialect.decode(&sent, body))
            .await??
    } else {
        dialect.decode(&headers, body)?
    };
    let taken_apart = start.elapsed();
    if let Some(timeout) = call.timeout {
        deadline = deadline.min(context.started + timeout);
    }
    let Call {
        input,
        wanted: outputs,
        priority,
        wish,
        ..
    } = call;
    let header = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
    let request = PredictRequest {
        target: *target,
        input,
        wanted: &outputs,
        deadline,
        priority,
        header: &header,
        answering,
    };
    let mut prediction = api.predictor.predict(request).await?;
    prediction.timing.set(
        Stage::Decode,
        prediction.timing.get(Stage::Decode) + taken_apart,
    );

    let start = Instant::now();
    let work = move |mut prediction: Prediction| {
        let reply = dialect
            .encode(&wish, &mut prediction)
            .map(|reply| encoded(reply, wanted.as_ref()));
        (prediction, reply)
    };
    let (mut prediction, reply) = if prediction.weight() > HEAVY_VALUES {
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
    let reply = reply.map_err(|refusal| FailedRequest::of(&prediction, refusal))?;
    prediction.timing.set(Stage::Encode, start.elapsed());
    Ok(respond(
        api,
        dialect.protocol(),
        context,
        &prediction,
        reply,
    ))
}

/// The answer's bytes, compressed where that is wanted and pays; binary data never does.
fn encoded(reply: Reply, headers: Option<&HeaderMap>) -> (Reply, Option<Encoding>) {
    match headers {
        Some(headers) if reply.data.is_empty() => {
            let (text, encoding) = encoding::encoded(headers, reply.text);
            (Reply { text, ..reply }, encoding)
        }
        _ => (reply, None),
    }
}

fn respond(
    api: &Api,
    protocol: Protocol,
    context: &Context,
    prediction: &Prediction,
    reply: (Reply, Option<Encoding>),
) -> Response {
    let (reply, encoding) = reply;
    let body = match reply.data.is_empty() {
        true => Body::from(reply.text),
        false => Body::new(Pieces::new(reply.text, reply.data)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.reserve(12);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(reply.content_type),
    );
    headers.extend(reply.headers);
    encoding::write_header(headers, encoding);
    write_names(&prediction.servable, headers);
    // One allocation for all that is new in this answer.
    let mut text = BytesMut::with_capacity(128);
    text.extend_from_slice(prediction.id.write(&mut [0; 26]).as_bytes());
    let prediction_id = text.split().freeze();
    server_timing(&prediction.timing, &mut text);
    let values = [
        (X_PREDICTION_ID, prediction_id),
        (SERVER_TIMING, text.freeze()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            headers.insert(name, value);
        }
    }
    if let Some(value) = prediction.fallback.as_ref().and_then(fallback_header) {
        headers.insert(X_FALLBACK, value);
    }
    context.write_headers(headers);
    api.count_answered(protocol, context, prediction);
    response
}

/// `decode;dur=0.021, ...` in milliseconds; what the client calls decoding includes the preprocessing.
fn server_timing(timing: &Timing, text: &mut BytesMut) {
    let spans: [(&[u8], Duration); 4] = [
        (
            b"decode;dur=",
            timing.get(Stage::Decode) + timing.get(Stage::Preprocess),
        ),
        (b", queue;dur=", timing.get(Stage::Queue)),
        (b", infer;dur=", timing.get(Stage::Infer)),
        (
            b", encode;dur=",
            timing.get(Stage::Postprocess) + timing.get(Stage::Encode),
        ),
    ];
    let mut digits = itoa::Buffer::new();
    for (name, elapsed) in spans {
        let microseconds = elapsed.as_micros() as u64;
        text.extend_from_slice(name);
        text.extend_from_slice(digits.format(microseconds / 1000).as_bytes());
        text.extend_from_slice(b".");
        // Three digits: a one in front keeps the zeros.
        text.extend_from_slice(
            digits
                .format(1000 + microseconds % 1000)
                .as_bytes()
                .get(1..)
                .unwrap_or_default(),
        );
    }
}

fn refuse<D: Dialect>(
    api: &Api,
    dialect: D,
    target: Target<'_>,
    context: &Context,
    refused: &FailedRequest,
) -> Response {
    refused.count(
        api,
        dialect.protocol(),
        dialect.status(refused.code),
        target,
        context,
    );
    let mut response = error_response(dialect, &refused.told(context), context);
    // Which version failed is what somebody wants to know in the middle of a rollout.
    if let Some(servable) = refused.servable() {
        write_names(servable, response.headers_mut());
    }
    response
}

fn write_names(servable: &Servable, headers: &mut HeaderMap) {
    let names = &servable.names;
    for (name, value) in [
        (X_MODEL_NAME, &names.model),
        (X_MODEL_VERSION, &names.version),
        (X_MODEL_DIGEST, &names.digest),
    ] {
        if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
            headers.insert(name, value);
        }
    }
}

/// An error that no model is to blame for: counted without one, in the dialect's form.
pub fn refuse_unrouted<D: Dialect>(
    api: &Api,
    dialect: D,
    code: ErrorCode,
    detail: &str,
    context: &Context,
) -> Response {
    api.count_unrouted(dialect.protocol(), code, dialect.status(code), context);
    error_response(
        dialect,
        &ErrorReport {
            code,
            detail: Cow::Borrowed(detail),
            faults: &[],
            more: 0,
        },
        context,
    )
}

fn error_response<D: Dialect>(dialect: D, told: &ErrorReport<'_>, context: &Context) -> Response {
    let (content_type, text) = dialect.refuse(told, context);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(dialect.status(told.code))
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    write_error_headers(told.code, headers);
    context.write_headers(headers);
    response
}

/// What an error says beside its text.
pub fn write_error_headers(code: ErrorCode, headers: &mut HeaderMap) {
    if code.is_retryable() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if matches!(code, ErrorCode::BodyTimeout | ErrorCode::BodyTooLarge) {
        // The rest of the body was not read: this connection can't carry another request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A body of several pieces, of known length, that are sent as they lie.
struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    fn new(text: Vec<u8>, data: Vec<Bytes>) -> Pieces {
        let pieces: VecDeque<Bytes> = std::iter::once(Bytes::from(text))
            .chain(data)
            .filter(|piece| !piece.is_empty())
            .collect();
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces { pieces, left }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, time::Duration};

    use bytes::{Bytes, BytesMut};
    use http_body_util::BodyExt;
    use hyper::body::Body;

    use crate::{
        api::{
            http::exchange::{Pieces, server_timing},
            refusal::ErrorReport,
        },
        error::ErrorCode,
        metrics::Stage,
        predict::Timing,
        schema::fault::Fault,
    };

    #[test]
    fn timing_is_in_milliseconds() {
        let mut timing = Timing::default();
        timing.set(Stage::Decode, Duration::from_micros(20));
        timing.set(Stage::Preprocess, Duration::from_micros(1));
        timing.set(Stage::Infer, Duration::from_micros(12_345));
        let mut text = BytesMut::new();
        server_timing(&timing, &mut text);
        assert_eq!(
            text,
            "decode;dur=0.021, queue;dur=0.000, infer;dur=12.345, encode;dur=0.000"
        );
    }

    #[tokio::test]
    async fn pieces_are_sent_as_they_lie() {
        let data = Bytes::from(vec![7u8; 100]);
        let mut pieces = Pieces::new(b"head".to_vec(), vec![data.clone(), Bytes::new()]);
        assert_eq!(pieces.size_hint().exact(), Some(104));
        let mut frames = Vec::new();
        while let Some(frame) = pieces.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(frames, [Bytes::from_static(b"head"), data.clone()]);
        assert_eq!(frames[1].as_ptr(), data.as_ptr());
        assert!(pieces.is_end_stream());
    }

    #[test]
    fn an_error_of_many_faults_is_one_line() {
        let fault = |keyword| Fault {
            pointer: "/instances/0/age".to_owned(),
            keyword,
            detail: "must be an integer".to_owned(),
        };
        let faults = [fault("type"), fault("inputs"), fault("type"), fault("type")];
        let told = |faults, more| {
            ErrorReport {
                code: ErrorCode::Invalid,
                detail: Cow::Borrowed("the detail"),
                faults,
                more,
            }
            .line()
        };
        assert_eq!(told(&[], 0), "the detail");
        assert_eq!(told(&faults[..1], 0), "/instances/0/age must be an integer");
        assert_eq!(
            told(&faults, 5),
            "/instances/0/age must be an integer; must be an integer; /instances/0/age must be an integer; and 6 more"
        );
    }
}
