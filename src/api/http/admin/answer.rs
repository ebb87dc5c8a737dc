//! Answers of the admin listener: documents, and refusals with a suggestion.

use axum::{body::to_bytes, extract::Request, response::Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::{
    admin::error_document::ErrorDocument,
    api::{
        context::Context,
        http::{admin::hint::hint, content_encoding, response::write_error_headers},
        oip::error_status,
        refusal::Refusal,
    },
    error::{ErrorCode, text_with_sources},
    operate::OperateError,
    suggestion::Suggestion,
};

/// Maximum size of the body of an order. A plan takes a few KiB; other bodies are shorter.
const MAX_BODY: usize = 64 << 10;

/// A refused order, with the suggestion for the operator.
pub(super) struct AdminRefusal {
    refusal: Refusal,
    suggestion: Option<Suggestion>,
}

impl From<Refusal> for AdminRefusal {
    fn from(refusal: Refusal) -> AdminRefusal {
        AdminRefusal {
            refusal,
            suggestion: None,
        }
    }
}

impl From<OperateError> for AdminRefusal {
    fn from(error: OperateError) -> AdminRefusal {
        AdminRefusal {
            refusal: Refusal::new(error.code(), text_with_sources(&error)),
            suggestion: error.suggestion(),
        }
    }
}

/// Reads the body of an order. The returned request has no body.
pub(super) async fn read_body(request: Request) -> (Request, Result<Bytes, Refusal>) {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| {
        Refusal::new(
            ErrorCode::BodyTooLarge,
            format!("the body may have at most {MAX_BODY} bytes"),
        )
    });
    (Request::from_parts(parts, axum::body::Body::empty()), body)
}

pub(super) fn document(request: &Request, document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(mut text) => {
            text.push(b'\n');
            let mut response =
                content_encoding::respond(request.headers(), "application/json", text);
            Context::new(request.headers()).write_headers(response.headers_mut());
            response
        }
        Err(error) => {
            tracing::error!(error = %error, "an answer can't be written");
            let detail = "the answer can't be written; the server's log says why";
            refuse(request, Refusal::new(ErrorCode::Internal, detail))
        }
    }
}

/// Creates the response for a refusal, with the status of the protocol that the path belongs to.
pub(super) fn refuse(request: &Request, refusal: impl Into<AdminRefusal>) -> Response {
    let AdminRefusal {
        refusal: Refusal { code, detail },
        suggestion,
    } = refusal.into();
    let status = if request.uri().path().starts_with("/admin/") {
        code.http_status()
    } else {
        error_status(code)
    };
    let body = ErrorDocument {
        error: detail,
        hint: suggestion
            .as_ref()
            .and_then(|suggestion| hint(suggestion, model_in(request.uri().path()))),
        suggestion,
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = content_encoding::respond(request.headers(), "application/json", body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    write_error_headers(code, response.headers_mut());
    Context::new(request.headers()).write_headers(response.headers_mut());
    response
}

/// The name of the model in the path of a request. `NAME` if the path contains none.
fn model_in(path: &str) -> &str {
    let mut parts = path.split('/').skip_while(|part| *part != "models");
    parts
        .nth(1)
        .filter(|name| !name.is_empty())
        .unwrap_or("NAME")
}
