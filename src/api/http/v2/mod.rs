//! The Open Inference Protocol v2 over HTTP, with Triton's extensions.

pub(crate) mod documents;
mod input_reader;
mod parameters;
pub mod request;
pub(crate) mod response;

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
        error_report::ErrorReport,
        http::{
            body,
            dialect::{Dialect, EncodedResponse, ParsedRequest},
            exchange::exchange,
            path::target,
            response::refuse_unrouted,
            v2::request::HttpInferRequest,
        },
        oip::{RequestedOutput, error_status},
        refusal::Refusal,
    },
    error::ErrorCode,
    metrics::Protocol,
    predict::{Input, Prediction},
};

/// The dialect of the Open Inference Protocol v2. Requests and responses contain tensors. Errors
/// are `{"error": "..."}`.
#[derive(Clone, Copy)]
pub(crate) struct V2;

/// The parts of a request that its response depends on.
pub(crate) struct V2ResponseOptions {
    /// The request id, which the response repeats. `None` if the request has none.
    id: Option<String>,
    outputs: Vec<RequestedOutput>,
    /// Whether outputs are sent as bytes, unless an output has its own option.
    binary_output: bool,
}

pub(crate) fn routes() -> Router<Arc<Api>> {
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
        .route("/v2/repository/models/{name}/load", post(refuse_control))
        .route("/v2/repository/models/{name}/unload", post(refuse_control))
}

/// The path parameters: the name and, in some routes, the version.
type ModelPath = Result<Path<Vec<(String, String)>>, PathRejection>;

/// Returns the name and the version. A path that is not valid UTF-8 gives the empty name, which no
/// model has.
fn name_and_version(path: ModelPath) -> (String, Option<String>) {
    // One handler serves both routes: the one with a version and the one without.
    let mut parts = path
        .map(|Path(parts)| parts)
        .unwrap_or_default()
        .into_iter()
        .map(|(_, value)| value);
    (parts.next().unwrap_or_default(), parts.next())
}

async fn infer(State(api): State<Arc<Api>>, path: ModelPath, request: Request) -> Response {
    let (name, version) = name_and_version(path);
    exchange(&api, V2, target(&name, version.as_deref()), request).await
}

/// Refuses to load or unload a model. This listener never changes which models are served.
async fn refuse_control(State(api): State<Arc<Api>>, request: Request) -> Response {
    let refusal = Refusal::new(
        ErrorCode::Unsupported,
        "models are loaded and unloaded on the admin listener (admin.listen)",
    );
    refuse_unrouted(&api, V2, &refusal, &Context::new(request.headers()))
}

impl Dialect for V2 {
    type ResponseOptions = V2ResponseOptions;

    fn protocol(self) -> Protocol {
        Protocol::V2
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal> {
        body::check_any_json(headers)
    }

    /// The body of the request, not the `Accept` header, selects one of the two types.
    fn response_types(self) -> &'static [&'static str] {
        &["application/json", "application/octet-stream"]
    }

    fn binary_offset(self, headers: &HeaderMap) -> Option<usize> {
        header_length(headers).ok().flatten()
    }

    fn parse(
        self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<ParsedRequest<V2ResponseOptions>, Refusal> {
        let request = request::read(&body, header_length(headers)?)?;
        Ok(into_request(request, |options| options))
    }

    fn encode(
        self,
        options: &V2ResponseOptions,
        prediction: &mut Prediction,
    ) -> Result<EncodedResponse, Refusal> {
        response::write(options, prediction)
    }

    fn status(self, code: ErrorCode) -> u16 {
        error_status(code)
    }

    fn write_error(self, error: &ErrorReport<'_>, _: &Context) -> (&'static str, Vec<u8>) {
        ("application/json", error_text(error))
    }
}

/// Converts a request of this dialect, or one inside a request of another dialect. The caller adds
/// its own options.
pub(crate) fn into_request<O>(
    request: HttpInferRequest,
    options: impl FnOnce(V2ResponseOptions) -> O,
) -> ParsedRequest<O> {
    let outputs = request
        .outputs
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let own = V2ResponseOptions {
        id: request.id,
        outputs: request.outputs,
        binary_output: request.binary_output,
    };
    ParsedRequest {
        input: Input::Tensors(request.inputs),
        outputs,
        priority: request.priority,
        timeout: request.timeout,
        options: options(own),
    }
}

/// The error body of this protocol and of KServe v1: `{"error": "..."}`.
pub(crate) fn error_text(error: &ErrorReport<'_>) -> Vec<u8> {
    json!({"error": error.line()}).to_string().into_bytes()
}

/// The value of `Inference-Header-Content-Length`: the number of bytes of JSON before the binary
/// data. `None` without the header.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    // Without the header, the whole body is JSON.
    let Some(value) = headers.get(response::HEADER_LENGTH) else {
        return Ok(None);
    };
    let length = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Refusal::malformed("inference-header-content-length must be a number of bytes")
    })
}
