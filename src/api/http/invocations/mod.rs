//! SageMaker and MLflow: `POST /invocations`, in JSON, CSV and JSON Lines.

mod request;
mod response;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{
    api::{
        Api,
        context::Context,
        error_report::ErrorReport,
        http::{
            body, content_encoding,
            dialect::{Dialect, EncodedResponse, ParsedRequest},
            exchange::exchange,
            negotiation,
            response::RETRY_AFTER,
            row_request::{RequestData, ResponseLayout},
        },
        oip::error_status,
        refusal::Refusal,
    },
    decode::csv_table::{CsvTable, Header},
    error::ErrorCode,
    metrics::Protocol,
    predict::{Input, Prediction},
    registry::route::Target,
};

const TARGET_MODEL: &str = "x-amzn-sagemaker-target-model";
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");

/// The dialect of SageMaker and MLflow. Requests contain rows, responses contain predictions.
/// Errors are `{"error_code": "...", "message": "..."}`.
#[derive(Clone, Copy)]
pub(super) struct Invocations;

/// The parts of a request that its response depends on.
pub(super) struct InvocationsResponseOptions {
    layout: ResponseLayout,
    format: BodyFormat,
    /// The media type of `format` that the caller uses. Three media types mean JSON Lines.
    media_type: &'static str,
    /// The request's header with custom attributes, which the response repeats.
    custom_attributes: Option<HeaderValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFormat {
    Json,
    Csv,
    JsonLines,
}

/// Maximum number of concurrent requests of a batch transform. More requests do not make a server
/// faster.
const MAX_TRANSFORMS: usize = 64;

/// All routes of the dialect.
pub(super) const PATHS: [&str; 5] = [
    "/ping",
    "/health",
    "/version",
    "/execution-parameters",
    "/invocations",
];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/health", get(ping))
        .route("/version", get(version))
        .route("/execution-parameters", get(execution_parameters))
        .route("/invocations", post(invoke))
}

async fn invoke(State(api): State<Arc<Api>>, request: Request) -> Response {
    // A name that is not valid UTF-8 finds no model. Without the header, the default model answers.
    let target = request
        .headers()
        .get(TARGET_MODEL)
        .map(|value| value.to_str().unwrap_or_default().to_owned());
    exchange(
        &api,
        Invocations,
        Target {
            model: target.as_deref(),
            version: None,
        },
        request,
    )
    .await
}

/// Reports whether the server is ready as a status, without a document.
pub(super) async fn ping(State(api): State<Arc<Api>>) -> Response {
    let mut response = Response::new(Body::from("\n"));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !api.is_ready() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        // SageMaker reads only the status.
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn version(request: Request) -> Response {
    content_encoding::respond(
        request.headers(),
        "text/plain; charset=utf-8",
        env!("CARGO_PKG_VERSION").into(),
    )
}

/// The limits with which a SageMaker batch transform sizes its requests.
async fn execution_parameters(State(api): State<Arc<Api>>, request: Request) -> Response {
    // SageMaker expects whole megabytes, at least one.
    let megabytes = (api.config.max_body_bytes >> 20).max(1);
    let document = json!({
        "MaxConcurrentTransforms": api.config.max_inflight.min(MAX_TRANSFORMS),
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": megabytes,
    });
    content_encoding::respond(
        request.headers(),
        "application/json",
        document.to_string().into_bytes(),
    )
}

/// The media type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> (String, Option<&str>) {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (kind, parameters) = text
        .split_once(';')
        .map_or((text, None), |(kind, parameters)| (kind, Some(parameters)));
    (kind.trim().to_ascii_lowercase(), parameters)
}

fn format_of(media_type: &str) -> Option<BodyFormat> {
    match media_type {
        "text/csv" => Some(BodyFormat::Csv),
        "application/jsonlines" | "application/x-jsonlines" | "application/x-ndjson" => {
            Some(BodyFormat::JsonLines)
        }
        "application/json" => Some(BodyFormat::Json),
        _ => None,
    }
}

const JSON: &str = "application/json";

/// The media types of responses that contain rows.
const RESPONSE_TYPES: [&str; 5] = [
    JSON,
    "text/csv",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/x-ndjson",
];

/// The format that the `Accept` header selects, and its media type.
fn accepted(headers: &HeaderMap) -> Result<(BodyFormat, &'static str), Refusal> {
    let chosen = negotiation::choose(headers, &RESPONSE_TYPES)?;
    Ok((format_of(chosen).unwrap_or(BodyFormat::Json), chosen))
}

/// Reads the parameter of `text/csv; header=present
/// absent`. It says whether the first line is a header (RFC 4180).
fn header_of(parameters: Option<&str>) -> Result<Header, Refusal> {
    let mut parameters = parameters
        .unwrap_or_default()
        .split(';')
        .filter_map(|part| part.trim().split_once('='));
    match parameters
        .find(|(name, _)| name.eq_ignore_ascii_case("header"))
        .map(|(_, value)| value.trim_matches('"').to_ascii_lowercase())
    {
        None => Ok(Header::Guess),
        Some(value) if value == "present" => Ok(Header::Present),
        Some(value) if value == "absent" => Ok(Header::Absent),
        Some(_) => Err(Refusal::new(
            ErrorCode::UnsupportedMediaType,
            "text/csv takes header=present or header=absent",
        )),
    }
}

impl Dialect for Invocations {
    type ResponseOptions = InvocationsResponseOptions;

    fn protocol(self) -> Protocol {
        Protocol::Invocations
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal> {
        match format_of(&media_type(headers).0) {
            Some(BodyFormat::Csv | BodyFormat::JsonLines) => body::check_charset(headers),
            _ => body::check_content_type(headers),
        }
        // The message lists all formats, because each check knows only its own format.
        .map_err(|refusal| {
            let detail = "send application/json, text/csv or application/jsonlines, in UTF-8";
            Refusal::new(refusal.code, detail)
        })
    }

    fn response_types(self) -> &'static [&'static str] {
        &RESPONSE_TYPES
    }

    fn parse(
        self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<ParsedRequest<InvocationsResponseOptions>, Refusal> {
        let (kind, parameters) = media_type(headers);
        let data = match format_of(&kind) {
            Some(BodyFormat::Csv) => RequestData::Rows(Input::Table(CsvTable {
                text: body,
                header: header_of(parameters)?,
            })),
            Some(BodyFormat::JsonLines) => RequestData::Rows(request::read_lines(&body)?),
            _ => request::read_json(&body)?,
        };
        let (format, media_type) = accepted(headers)?;
        if let RequestData::Tensors(_) = data {
            // The response contains tensors, which have no CSV form.
            negotiation::choose(headers, &[JSON])?;
        }
        let custom_attributes = headers.get(CUSTOM_ATTRIBUTES).cloned();
        Ok(data.into_request(|layout| InvocationsResponseOptions {
            layout,
            format,
            media_type,
            custom_attributes,
        }))
    }

    fn encode(
        self,
        options: &InvocationsResponseOptions,
        prediction: &mut Prediction,
    ) -> Result<EncodedResponse, Refusal> {
        let mut response = response::write(options, prediction)?;
        let echoed = options.custom_attributes.clone();
        response
            .headers
            .extend(echoed.map(|value| (CUSTOM_ATTRIBUTES, value)));
        Ok(response)
    }

    fn status(self, code: ErrorCode) -> u16 {
        error_status(code)
    }

    fn write_error(self, error: &ErrorReport<'_>, _: &Context) -> (&'static str, Vec<u8>) {
        // These are the error codes of MLflow's REST API.
        let code = match error.code {
            ErrorCode::NotFound => "RESOURCE_DOES_NOT_EXIST",
            ErrorCode::Overloaded | ErrorCode::NotReady | ErrorCode::DeadlineExceeded => {
                "TEMPORARILY_UNAVAILABLE"
            }
            ErrorCode::Inference | ErrorCode::Internal => "INTERNAL_ERROR",
            ErrorCode::Unsupported => "NOT_IMPLEMENTED",
            _ => "BAD_REQUEST",
        };
        (
            "application/json",
            json!({"error_code": code, "message": error.line()})
                .to_string()
                .into_bytes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use crate::api::http::invocations::{BodyFormat, accepted};

    #[test]
    fn accept_chooses_the_answer() {
        let accept = |text: &str| {
            accepted(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_str(text).unwrap(),
            )]))
        };
        assert_eq!(accept("text/csv"), Ok((BodyFormat::Csv, "text/csv")));
        assert_eq!(
            accept("text/html, application/jsonlines;q=0.9"),
            Ok((BodyFormat::JsonLines, "application/jsonlines"))
        );
        assert_eq!(
            accept("application/x-ndjson"),
            Ok((BodyFormat::JsonLines, "application/x-ndjson"))
        );
        assert_eq!(
            accept("text/csv;q=0.5, application/json"),
            Ok((BodyFormat::Json, "application/json"))
        );
        assert_eq!(accept("*/*"), Ok((BodyFormat::Json, "application/json")));
        assert_eq!(
            accepted(&HeaderMap::new()),
            Ok((BodyFormat::Json, "application/json"))
        );
        assert!(accept("text/html").is_err());
    }
}
