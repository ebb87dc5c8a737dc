//! `Problem`: errors as RFC 9457 `application/problem+json`.

#![expect(clippy::indexing_slicing, reason = "members are set on documents made here as objects")]

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{api::http::context::Context, error::ErrorCode, package::fault::Fault};

/// Seconds after which a refused caller may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

pub struct Problem<'a> {
    code: ErrorCode,
    detail: String,
    faults: &'a [Fault],
}

impl<'a> Problem<'a> {
    pub fn new(code: ErrorCode, detail: String) -> Problem<'a> {
        Problem { code, detail, faults: &[] }
    }

    pub fn with_faults(code: ErrorCode, detail: String, faults: &'a [Fault]) -> Problem<'a> {
        Problem { code, detail, faults }
    }

    fn document(&self, context: &Context) -> Value {
        let mut document = json!({
            "type": format!("urn:predictd:error:{}", self.code.slug()),
            "title": self.code.title(),
            "status": self.code.http_status(),
            "detail": self.detail,
            "request_id": context.request_id.to_text(),
        });
        if !self.faults.is_empty() {
            let errors =
                self.faults.iter().map(|fault| json!({"pointer": fault.pointer, "keyword": fault.keyword, "detail": fault.detail}));
            document["errors"] = errors.collect();
        }
        document
    }

    pub fn to_json(&self, context: &Context) -> String {
        self.document(context).to_string()
    }

    pub fn into_response(self, context: &Context) -> Response {
        let mut response = Response::new(Body::from(self.to_json(context)));
        *response.status_mut() = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code.is_retryable() {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if matches!(self.code, ErrorCode::BodyTimeout | ErrorCode::BodyTooLarge) {
            // The rest of the body was not read: this connection can't carry another request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        context.write_headers(headers);
        response
    }
}
