//! Refusals of connections, and of requests that do not reach the router. They are counted and
//! logged like other refused requests.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    api::{context::Context, http::problem::Problem, refusal::Refusal},
    metrics::{Metrics, Protocol},
};

/// Maximum time for writing a response to a connection that is then closed. A client that does not
/// read must not keep its connection slot.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Refuses a connection on which no request has reached hyper.
pub(super) async fn refuse_connection(mut stream: TcpStream, refusal: Refusal, metrics: Metrics) {
    let text = count(&refusal, &metrics);
    let _ = tokio::time::timeout(WRITE_TIMEOUT, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// Refuses a connection whose request hyper could not parse. `is_unanswered`: whether hyper's own
/// response was dropped. Hyper writes no response if the protocol is not HTTP/1.
pub(super) async fn refuse_unparsed(
    mut stream: TcpStream,
    refusal: Refusal,
    is_unanswered: bool,
    metrics: Metrics,
) {
    let text = count(&refusal, &metrics);
    if is_unanswered {
        let _ = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(text.as_bytes())).await;
    }
    linger(stream).await;
}

/// Counts and logs the refusal. Returns the bytes of its response.
fn count(refusal: &Refusal, metrics: &Metrics) -> String {
    // No head was parsed, so the request gets a new request id.
    let context = Context::new(&HeaderMap::new());
    count_refusal(refusal, &context, metrics);
    response_text(refusal, &context)
}

/// Counts and logs a refusal that concerns no model.
fn count_refusal(refusal: &Refusal, context: &Context, metrics: &Metrics) {
    let Refusal { code, detail } = refusal;
    let status = code.http_status();
    let elapsed = context.started.elapsed();
    // The refusal is counted for the native protocol, because the dialect is unknown without a
    // path.
    metrics
        .unrouted()
        .observe_error(Protocol::Predict, *code, status, elapsed);
    let request_id = context.request_id.to_text();
    tracing::warn!(
        target: "predictd::request",
        status,
        request_id,
        error = code.slug(),
        detail,
        "refused"
    );
}

/// A complete HTTP/1.1 response, for a connection whose request hyper can't answer.
fn response_text(refusal: &Refusal, context: &Context) -> String {
    let code = refusal.code;
    let body = Problem::from(refusal).to_json(context);
    let status =
        StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let retry = if code.is_retryable() {
        "retry-after: 1\r\n"
    } else {
        ""
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n{retry}x-request-id: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        context.request_id.to_text(),
        body.len()
    )
}

/// Closes a connection whose client may still be sending. If it were closed at once, the kernel
/// would reset it, and the client might lose the response.
async fn linger(mut stream: TcpStream) {
    let mut discarded = [0; 4 << 10];
    let _ = tokio::time::timeout(WRITE_TIMEOUT, async {
        stream.shutdown().await?;
        while stream.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}

/// The response to a request whose head is too large for this server, although hyper could parse
/// it.
pub(super) fn refuse_head(refusal: &Refusal, headers: &HeaderMap, metrics: &Metrics) -> Response {
    let context = Context::new(headers);
    count_refusal(refusal, &context, metrics);
    let mut response = Response::new(Body::from(Problem::from(refusal).to_json(&context)));
    *response.status_mut() =
        StatusCode::from_u16(refusal.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    // The body was not read, so this connection can't carry another request.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    context.write_headers(headers);
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use crate::{
        api::{
            context::Context, http::connections::connection_refusal::response_text,
            refusal::Refusal,
        },
        error::ErrorCode,
    };

    #[test]
    fn responses_have_the_length_that_they_state() {
        let context = Context::new(&HeaderMap::new());
        for (code, status) in [(ErrorCode::BodyTimeout, 408), (ErrorCode::Overloaded, 503)] {
            let text = response_text(&Refusal::new(code, "why"), &context);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(
                head.contains(&format!("content-length: {}\r\n", body.len())),
                "{head}"
            );
            let document: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(document["request_id"], context.request_id.to_text());
        }
    }
}
