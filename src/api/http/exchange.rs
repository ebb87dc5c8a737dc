//! Exchange: handles one HTTP request of any dialect, from its headers to its response.

use std::sync::Arc;

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, header};

use crate::{
    api::{
        Api,
        call::Call,
        call_frame::{CallFrame, ModelQuery},
        cancellation::CancelGuard,
        context::Context,
        decompress::decompress,
        failed_request::FailedRequest,
        http::{
            body::{self, BodyLimits},
            content_encoding::{self, ContentEncoding},
            dialect::{Dialect, EncodedResponse, ParsedRequest},
            negotiation,
            response::{refuse, respond},
        },
        refusal::Refusal,
    },
    error::ErrorCode,
    predict::{HEAVY_VALUES, Prediction},
    registry::route::Target,
};

/// Longer texts are parsed on threads for heavy work, not on the network threads. Parsing 64 KiB
/// takes about 0.2 ms.
const HEAVY_TEXT_BYTES: usize = 64 << 10;

/// Answers one request. The state of the future is several kilobytes. It is on the heap, because
/// the router moves the future of a handler several times before it starts.
pub(super) fn exchange<'a, D: Dialect>(
    api: &'a Arc<Api>,
    dialect: D,
    target: Target<'a>,
    request: Request,
) -> BoxFuture<'a, Response> {
    Box::pin(handle(api, dialect, target, request))
}

async fn handle<D: Dialect>(
    api: &Arc<Api>,
    dialect: D,
    target: Target<'_>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let context = Context::new(&parts.headers);
    let call = Call {
        api,
        protocol: dialect.protocol(),
        target,
        context: &context,
    };
    let guard = CancelGuard::new(call);
    let answered = answer(dialect, &guard, parts.headers, body).await;
    guard.finish();
    match answered {
        Ok(response) => response,
        Err(failed) => refuse(dialect, call, &failed.named_deadline(&context)),
    }
}

async fn answer<D: Dialect>(
    dialect: D,
    guard: &CancelGuard<'_>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, FailedRequest> {
    let call = guard.call;
    // The admission is kept until the response is in memory. Nothing that takes memory happens
    // before it.
    let _admission = call.api.admit()?;
    // These checks need only the headers, so they come before the body is read.
    call.context.check()?;
    dialect.check_headers(&headers)?;
    // Check this before the body is read: the caller learns at once that no response would be
    // acceptable.
    negotiation::choose(&headers, dialect.response_types())?;
    let mut frame = CallFrame::new(guard);
    let offset = dialect.binary_offset(&headers);
    let body = receive_body(&frame, &headers, body, offset).await?;
    let is_heavy = dialect.text_bytes(&headers, &body) > HEAVY_TEXT_BYTES;
    // The headers are moved to the work and back, so that no request copies them.
    let parse = move || {
        let request = dialect.parse(&headers, body)?;
        Ok((request, headers))
    };
    let parsed = frame.parse(is_heavy, parse).await;
    // A wrong path is reported before a wrong body.
    let (request, headers) = parsed.map_err(|failed| {
        call.api
            .predictor
            .unknown_target(call.target)
            .map_or(failed, FailedRequest::from)
    })?;
    let ParsedRequest {
        input,
        outputs,
        priority,
        timeout,
        options,
    } = request;
    let query = ModelQuery {
        target: call.target,
        headers: &headers,
        input,
        outputs: &outputs,
        priority,
        timeout,
    };
    let prediction = frame.predict(query).await?;
    let is_heavy = prediction.weight() > HEAVY_VALUES;
    let encode = move |prediction: &mut Prediction| {
        let response = dialect.encode(&options, prediction)?;
        Ok(compress(response, &headers))
    };
    let (prediction, (response, encoding)) = frame.encode(prediction, is_heavy, encode).await?;
    Ok(respond(call, &prediction, response, encoding))
}

/// Reads the body within the limits on size and time, and decompresses it.
async fn receive_body(
    frame: &CallFrame<'_>,
    headers: &HeaderMap,
    body: Body,
    offset: Option<usize>,
) -> Result<Bytes, FailedRequest> {
    let call = frame.call;
    let config = &call.api.config;
    let max_bytes = config.max_body_bytes;
    let limit = config.read_timeout().min(config.request_timeout());
    // The caller's deadline also limits the upload. If it is the earlier limit, the refusal names
    // it.
    let is_callers = call.context.timeout.is_some_and(|timeout| timeout < limit);
    let timeout = if is_callers { frame.time_left() } else { limit };
    let limits = BodyLimits { max_bytes, timeout };
    let body =
        body::read(headers, body, limits, offset)
            .await
            .map_err(|refusal| match refusal.code {
                // The caller's own deadline passed, not the server's limit.
                ErrorCode::BodyTimeout if is_callers => Refusal::new(
                    ErrorCode::DeadlineExceeded,
                    "the body had not arrived by the deadline",
                ),
                _ => refusal,
            })?;
    match body::content_encoding(headers)? {
        None => Ok(body),
        Some(encoding) => {
            let work = move || decompress(&encoding, &body, max_bytes);
            Box::pin(frame.offload(work)).await
        }
    }
}

/// Compresses the response if the caller accepts this and the response becomes smaller. Binary
/// tensors hardly become smaller, so they are not compressed.
fn compress(
    response: EncodedResponse,
    headers: &HeaderMap,
) -> (EncodedResponse, Option<ContentEncoding>) {
    if !response.tensors.is_empty() || !headers.contains_key(header::ACCEPT_ENCODING) {
        return (response, None);
    }
    let (text, encoding) = content_encoding::compress(headers, response.text);
    (EncodedResponse { text, ..response }, encoding)
}
