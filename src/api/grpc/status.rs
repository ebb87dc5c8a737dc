//! gRPC statuses for errors, and responses that consist only of a status.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status, body::Body, metadata::MetadataValue};

use crate::{
    api::{
        Api, call::Call, context::Context, failed_request::FailedRequest,
        grpc::call_context::context, oip::error_status, refusal::Refusal,
    },
    error::ErrorCode,
    metrics::Protocol,
    registry::route::Target,
};

/// The header with the number of milliseconds after which a client that retries automatically may
/// try again.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Maximum size of an error's text in bytes. The text is sent as a header in which each non-ASCII
/// byte takes three bytes, and clients accept 8 KiB of headers. With a longer text, clients report
/// a protocol error instead of this error.
const MAX_DETAIL: usize = 2 << 10;

/// Converts a refusal to a status. Its text is cut so that it fits into the headers that clients
/// accept.
pub(super) fn status(refusal: Refusal) -> Status {
    let Refusal { code, detail } = refusal;
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
        // Cut between two characters, so that the text stays valid UTF-8.
        let end = (0..=MAX_DETAIL)
            .rev()
            .find(|at| detail.is_char_boundary(*at))
            .unwrap_or(0);
        detail.truncate(end);
        detail.push_str("...");
    }
    detail
}

/// Creates the call for a model. The name is empty until the message is read.
pub(super) fn grpc_call<'a>(api: &'a Api, context: &'a Context, model: &'a str) -> Call<'a> {
    Call {
        api,
        protocol: Protocol::Grpc,
        target: Target {
            model: Some(model),
            version: None,
        },
        context,
    }
}

/// Counts and logs a failed request. Returns the status for its caller.
pub(super) fn count(call: Call<'_>, failed: &FailedRequest) -> Status {
    failed.count(call, error_status(failed.code));
    status(Refusal::new(
        failed.code,
        failed.report(call.context).line(),
    ))
}

/// Counts and logs a failed request. Returns the response.
pub(super) fn refuse(call: Call<'_>, failed: &FailedRequest) -> Response<Body> {
    let mut response: Response<Body> = count(call, failed).into_http();
    call.context.write_headers(response.headers_mut());
    response
}

/// The response to a call whose headers are too large. The HTTP status is also set, because proxies
/// between client and server don't read the gRPC status.
pub(super) fn refuse_head(api: &Api, headers: &HeaderMap, refusal: Refusal) -> Response<Body> {
    let http_status = refusal.code.http_status();
    let context = context(headers);
    let mut response = refuse(grpc_call(api, &context, ""), &refusal.into());
    *response.status_mut() = StatusCode::from_u16(http_status).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

/// Creates the refusal of a call whose message did not arrive in time.
pub(super) fn message_timeout(timeout: Duration) -> Refusal {
    Refusal::new(
        ErrorCode::BodyTimeout,
        format!(
            "the message did not arrive within {} ms",
            timeout.as_millis()
        ),
    )
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use crate::{
        api::{
            grpc::status::{MAX_DETAIL, status},
            refusal::Refusal,
        },
        error::ErrorCode,
    };

    #[test]
    fn errors_are_cut_to_the_limit_of_clients() {
        let invalid = |detail: String| Refusal::new(ErrorCode::Invalid, detail);
        for (text, kept) in [("x", MAX_DETAIL), ("\u{20ac}", MAX_DETAIL - MAX_DETAIL % 3)] {
            let status = status(invalid(text.repeat(1 << 20)));
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(
                status.message(),
                format!("{}...", text.repeat(kept / text.len()))
            );
        }
        let whole = "x".repeat(MAX_DETAIL);
        assert_eq!(status(invalid(whole.clone())).message(), whole);
    }
}
