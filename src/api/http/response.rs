//! Responses: the status, the headers and the body that are the same for all dialects.

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    api::{
        Api,
        call::Call,
        context::{Context, X_FALLBACK, fallback_header},
        error_report::ErrorReport,
        failed_request::FailedRequest,
        http::{
            content_encoding::{self, ContentEncoding},
            dialect::{Dialect, EncodedResponse},
            segmented_body::SegmentedBody,
        },
        refusal::Refusal,
    },
    error::ErrorCode,
    metrics::Stage,
    predict::{Prediction, Timing},
    registry::servable::Servable,
};

const X_PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
const X_MODEL_NAME: HeaderName = HeaderName::from_static("x-model-name");
const X_MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
const X_MODEL_DIGEST: HeaderName = HeaderName::from_static("x-model-digest");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The number of seconds after which a refused caller may try again.
pub(super) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// The usual number of headers of a prediction, including those of the dialect. With this capacity
/// the map is allocated only once.
const USUAL_HEADERS: usize = 12;

/// Counts an answered request. Returns its response.
pub(super) fn respond(
    call: Call<'_>,
    prediction: &Prediction,
    encoded: EncodedResponse,
    encoding: Option<ContentEncoding>,
) -> Response {
    // A body of one buffer does not need the type for segmented bodies.
    let body = match encoded.tensors.is_empty() {
        true => Body::from(encoded.text),
        false => Body::new(SegmentedBody::new(encoded.text, encoded.tensors)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.reserve(USUAL_HEADERS);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(encoded.content_type),
    );
    headers.extend(encoded.headers);
    content_encoding::write_header(headers, encoding);
    write_version(&prediction.servable, headers);
    // Both values that differ from response to response share one allocation.
    let mut text = BytesMut::with_capacity(128);
    text.extend_from_slice(prediction.id.write(&mut [0; 26]).as_bytes());
    let prediction_id = text.split().freeze();
    write_server_timing(&prediction.timing, &mut text);
    let values = [
        (X_PREDICTION_ID, prediction_id),
        (SERVER_TIMING, text.freeze()),
    ];
    // A value that is not allowed in a header is left out, because the prediction is useful without
    // it.
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            headers.insert(name, value);
        }
    }
    if let Some(value) = prediction.fallback.as_ref().and_then(fallback_header) {
        headers.insert(X_FALLBACK, value);
    }
    call.context.write_headers(headers);
    call.api
        .count_answered(call.protocol, call.context, prediction);
    response
}

/// Writes `decode;dur=0.021, ...` in milliseconds. `decode` includes preprocessing, and `encode`
/// includes postprocessing.
fn write_server_timing(timing: &Timing, text: &mut BytesMut) {
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
        // The number is formatted without floats, which would be slower.
        text.extend_from_slice(digits.format(microseconds / 1000).as_bytes());
        text.extend_from_slice(b".");
        // Adding 1000 and cutting off the first digit keeps leading zeros.
        text.extend_from_slice(
            digits
                .format(1000 + microseconds % 1000)
                .as_bytes()
                .get(1..)
                .unwrap_or_default(),
        );
    }
}

/// Creates a response with a JSON document that is not a prediction.
pub(super) fn json_document(request: &Request, text: Vec<u8>) -> Response {
    let mut response = content_encoding::respond(request.headers(), "application/json", text);
    Context::new(request.headers()).write_headers(response.headers_mut());
    response
}

/// Counts a request that no model answered. Returns its response.
pub(super) fn refuse<D: Dialect>(dialect: D, call: Call<'_>, failed: &FailedRequest) -> Response {
    failed.count(call, dialect.status(failed.code));
    let report = failed.report(call.context);
    let mut response = error_response(dialect, &report, call.context);
    // During a rollout, an operator must see which version failed.
    if let Some(servable) = failed.servable() {
        write_version(servable, response.headers_mut());
    }
    response
}

fn write_version(servable: &Servable, headers: &mut HeaderMap) {
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

/// Counts a request that is refused before its model is known. Returns its response.
pub(super) fn refuse_unrouted<D: Dialect>(
    api: &Api,
    dialect: D,
    refusal: &Refusal,
    context: &Context,
) -> Response {
    let status = dialect.status(refusal.code);
    api.count_unrouted(dialect.protocol(), refusal.code, status, context);
    error_response(dialect, &ErrorReport::from(refusal), context)
}

fn error_response<D: Dialect>(dialect: D, report: &ErrorReport<'_>, context: &Context) -> Response {
    let (content_type, text) = dialect.write_error(report, context);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(dialect.status(report.code))
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    write_error_headers(report.code, headers);
    context.write_headers(headers);
    response
}

/// Writes the headers that tell clients and proxies how to react to an error.
pub(super) fn write_error_headers(code: ErrorCode, headers: &mut HeaderMap) {
    if code.is_retryable() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if matches!(code, ErrorCode::BodyTimeout | ErrorCode::BodyTooLarge) {
        // The rest of the body was not read, so this connection can't carry another request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;

    use crate::{api::http::response::write_server_timing, metrics::Stage, predict::Timing};

    #[test]
    fn timing_is_in_milliseconds() {
        let mut timing = Timing::default();
        timing.set(Stage::Decode, Duration::from_micros(20));
        timing.set(Stage::Preprocess, Duration::from_micros(1));
        timing.set(Stage::Infer, Duration::from_micros(12_345));
        let mut text = BytesMut::new();
        write_server_timing(&timing, &mut text);
        assert_eq!(
            text,
            "decode;dur=0.021, queue;dur=0.000, infer;dur=12.345, encode;dur=0.000"
        );
    }
}
