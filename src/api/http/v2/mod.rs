//! Open Inference Protocol v2 over REST, with Triton's extensions.

pub mod answer;
pub mod documents;
pub mod request;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;

use crate::{
    api::{
        Api,
        context::Context,
        http::{
            body,
            exchange::{Call, Dialect, Reply, exchange, refuse_unrouted},
            v2::request::InferRequest,
        },
        oip::{RequestedOutput, error_status},
        refusal::{ErrorReport, Refusal},
    },
    error::ErrorCode,
    metrics::Protocol,
    predict::{Input, Prediction},
    registry::route::Target,
};

/// Tensors in, tensors out; errors are `{"error": "..."}`.
#[derive(Clone, Copy)]
pub struct V2;

/// What an answer has to know of its request.
pub struct Wish {
    id: Option<String>,
    outputs: Vec<RequestedOutput>,
    binary_output: bool,
}

pub fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v2", get(documents::server))
        .route("/v2/", get(documents::server))
        .route("/v2/health/live", get(documents::live))
        .route("/v2/health/ready", get(documents::ready))
        .route("/v2/models/stats", get(documents::all_statistics))
        .route("/v2/models/{name}", get(documents::metadata))
        .route("/v2/models/{name}/ready", get(documents::model_ready))
        .route("/v2/models/{name}/config", get(documents::configuration))
        .route("/v2/models/{name}/stats", get(documents::statistics))
        .route("/v2/models/{name}/infer", post(infer))
        .route(
            "/v2/models/{name}/versions/{version}",
            get(documents::metadata),
        )
        .route(
            "/v2/models/{name}/versions/{version}/ready",
            get(documents::model_ready),
        )
        .route(
            "/v2/models/{name}/versions/{version}/config",
            get(documents::configuration),
        )
        .route(
            "/v2/models/{name}/versions/{version}/stats",
            get(documents::statistics),
        )
        .route("/v2/models/{name}/versions/{version}/infer", post(infer))
        .route("/v2/repository/index", post(documents::index))
        .route("/v2/repository/models/{name}/load", post(elsewhere))
        .route("/v2/repository/models/{name}/unload", post(elsewhere))
}

/// Name and, where the path has one, version.
type ModelPath = Result<Path<Vec<(String, String)>>, PathRejection>;

/// A path that is no text is the name of no model.
fn named(path: ModelPath) -> (String, Option<String>) {
    let mut parts = path
        .map(|Path(parts)| parts)
        .unwrap_or_default()
        .into_iter()
        .map(|(_, value)| value);
    (parts.next().unwrap_or_default(), parts.next())
}

async fn infer(State(api): State<Arc<Api>>, path: ModelPath, request: Request) -> Response {
    let (name, version) = named(path);
    exchange(
        &api,
        V2,
        Target {
            model: Some(&name),
            version: version.as_deref(),
        },
        request,
    )
    .await
}

async fn elsewhere(State(api): State<Arc<Api>>, request: Request) -> Response {
    let context = Context::new(request.headers());
    let detail = "models are loaded and unloaded on the admin listener (admin.listen)";
    refuse_unrouted(&api, V2, ErrorCode::Unsupported, detail, &context)
}

impl Dialect for V2 {
    type Wish = Wish;

    fn protocol(self) -> Protocol {
        Protocol::V2
    }

    fn check(self, headers: &HeaderMap) -> Result<(), Refusal> {
        body::check_any_json(headers)
    }

    /// Binary data comes where the request's body asks for it.
    fn offers(self) -> &'static [&'static str] {
        &["application/json", "application/octet-stream"]
    }

    fn binary_offset(self, headers: &HeaderMap) -> Option<usize> {
        header_length(headers).ok().flatten()
    }

    fn decode(self, headers: &HeaderMap, body: Bytes) -> Result<Call<Wish>, Refusal> {
        Ok(call(
            request::read(&body, header_length(headers)?)?,
            |wish| wish,
        ))
    }

    fn encode(self, wish: &Wish, prediction: &mut Prediction) -> Result<Reply, Refusal> {
        answer::write(wish, prediction)
    }

    fn status(self, code: ErrorCode) -> u16 {
        error_status(code)
    }

    fn refuse(self, error: &ErrorReport<'_>, _: &Context) -> (&'static str, Vec<u8>) {
        ("application/json", error_text(error))
    }
}

/// The call that a request makes; also where it came inside of another protocol's.
pub fn call<W>(request: InferRequest, wish: impl FnOnce(Wish) -> W) -> Call<W> {
    let wanted = request
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let own = Wish {
        id: request.id,
        outputs: request.outputs,
        binary_output: request.binary_output,
    };
    let call = Call::new(Input::Tensors(request.inputs), wish(own));
    Call {
        wanted,
        priority: request.priority,
        timeout: request.timeout,
        ..call
    }
}

/// `{"error": "..."}`
pub fn error_text(error: &ErrorReport<'_>) -> Vec<u8> {
    json!({"error": error.line()}).to_string().into_bytes()
}

/// `Inference-Header-Content-Length`.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(value) = headers.get(answer::HEADER_LENGTH) else {
        return Ok(None);
    };
    let length = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Refusal::new(
            ErrorCode::Malformed,
            "inference-header-content-length must be a number of bytes".to_owned(),
        )
    })
}
