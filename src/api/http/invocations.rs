//! SageMaker and MLflow: `POST /invocations`, in JSON, CSV and JSON Lines.

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
use serde_json::{json, value::RawValue};

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
            predictions::{
                cells, output_names, write_columns, write_prediction, write_predictions,
            },
            response::RETRY_AFTER,
            row_request::{RequestData, RequestMembers, ResponseLayout},
            row_writer::{check_rows, write_fallback},
            v2,
        },
        oip::error_status,
        refusal::Refusal,
    },
    decode::{
        csv_table::{self, CsvTable, Header},
        json_error::{not_finite, pointer_at},
        json_rows::JsonRows,
        row_origin::RowOrigin,
    },
    error::ErrorCode,
    metrics::Protocol,
    predict::{Input, Prediction},
    registry::route::Target,
};

const TARGET_MODEL: &str = "x-amzn-sagemaker-target-model";
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");

/// Takes rows, answers with predictions; errors are `{"error_code": "...", "message": "..."}`.
#[derive(Clone, Copy)]
pub struct Invocations;

/// The parts of a request that its response depends on.
pub struct ResponseOptions {
    layout: ResponseLayout,
    format: Format,
    /// The name of `format` that the caller uses: three names mean JSON Lines.
    media_type: &'static str,
    /// Echoed.
    custom_attributes: Option<HeaderValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    JsonLines,
}

/// More concurrent requests of one batch transform do not make a server faster.
const MAX_TRANSFORMS: usize = 64;

/// All routes of the dialect.
pub const PATHS: [&str; 5] = [
    "/ping",
    "/health",
    "/version",
    "/execution-parameters",
    "/invocations",
];

pub fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/health", get(ping))
        .route("/version", get(version))
        .route("/execution-parameters", get(execution_parameters))
        .route("/invocations", post(invoke))
}

async fn invoke(State(api): State<Arc<Api>>, request: Request) -> Response {
    // A name that is not valid text names no model. Without the header, the default model is meant.
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

/// Whether the server is ready, as a status without a document.
pub async fn ping(State(api): State<Arc<Api>>) -> Response {
    let mut response = Response::new(Body::from("\n"));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !api.is_ready() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
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

/// The limits by which a SageMaker batch transform sizes its requests.
async fn execution_parameters(State(api): State<Arc<Api>>, request: Request) -> Response {
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

fn format_of(media_type: &str) -> Option<Format> {
    match media_type {
        "text/csv" => Some(Format::Csv),
        "application/jsonlines" | "application/x-jsonlines" | "application/x-ndjson" => {
            Some(Format::JsonLines)
        }
        "application/json" => Some(Format::Json),
        _ => None,
    }
}

const JSON: &str = "application/json";

/// The media types of a response of rows.
const RESPONSE_TYPES: [&str; 5] = [
    JSON,
    "text/csv",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/x-ndjson",
];

/// The format that `Accept` chooses, and its media type.
fn accepted(headers: &HeaderMap) -> Result<(Format, &'static str), Refusal> {
    let chosen = negotiation::choose(headers, &RESPONSE_TYPES)?;
    Ok((format_of(chosen).unwrap_or(Format::Json), chosen))
}

/// The parameter of `text/csv; header=present|absent`, which tells whether the first line is a header (RFC 4180).
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
    type ResponseOptions = ResponseOptions;

    fn protocol(self) -> Protocol {
        Protocol::Invocations
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal> {
        match format_of(&media_type(headers).0) {
            Some(Format::Csv | Format::JsonLines) => body::check_charset(headers),
            _ => body::check_content_type(headers),
        }
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
    ) -> Result<ParsedRequest<ResponseOptions>, Refusal> {
        let (kind, parameters) = media_type(headers);
        let data = match format_of(&kind) {
            Some(Format::Csv) => RequestData::Rows(Input::Table(CsvTable {
                text: body,
                header: header_of(parameters)?,
            })),
            Some(Format::JsonLines) => RequestData::Rows(read_lines(&body)?),
            _ => read_json(&body)?,
        };
        let (format, media_type) = accepted(headers)?;
        if let RequestData::Tensors(_) = data {
            // Tensors are answered with tensors, which have no CSV form.
            negotiation::choose(headers, &[JSON])?;
        }
        let custom_attributes = headers.get(CUSTOM_ATTRIBUTES).cloned();
        Ok(data.into_request(|layout| ResponseOptions {
            layout,
            format,
            media_type,
            custom_attributes,
        }))
    }

    fn encode(
        self,
        options: &ResponseOptions,
        prediction: &mut Prediction,
    ) -> Result<EncodedResponse, Refusal> {
        let mut response = write(options, prediction)?;
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

/// Reads a JSON body: a data frame of pandas, `instances`, `inputs`, or one row.
fn read_json(body: &Bytes) -> Result<RequestData, Refusal> {
    let members = RequestMembers::read(body)?;
    if let Some(params) = members.get("params")
        && !is_empty_object(params)
    {
        return Err(Refusal::malformed(
            "\"params\" must be empty: models take no parameters",
        ));
    }
    let frame = |text: Bytes, names, origin| {
        RequestData::Rows(Input::Rows(JsonRows {
            text,
            names,
            frame: true,
            origin,
        }))
    };
    match members.only(&[
        "dataframe_split",
        "dataframe_records",
        "instances",
        "inputs",
    ])? {
        Some("dataframe_split") => {
            let split = members.inner("dataframe_split")?;
            let part = |name: &str| split.as_ref().and_then(|split| split.get(name)).cloned();
            let missing = |name: &str| {
                Refusal::malformed(format!("dataframe_split has no member \"{name}\""))
            };
            let columns = part("columns").ok_or_else(|| missing("columns"))?;
            let names: Vec<String> = serde_json::from_slice(&columns).map_err(|_| {
                Refusal::malformed("the columns of dataframe_split must be a list of names")
            })?;
            Ok(frame(
                part("data").ok_or_else(|| missing("data"))?,
                Some(names.clone()),
                RowOrigin::Split(names),
            ))
        }
        Some("dataframe_records") => Ok(frame(
            members
                .get("dataframe_records")
                .cloned()
                .unwrap_or_default(),
            None,
            RowOrigin::Records,
        )),
        Some("instances") => members.instances(),
        Some(_) => members.inputs(),
        // An object without any of these members is one row.
        None => {
            let text = Bytes::from([b"[", &body[..], b"]"].concat());
            Ok(RequestData::Rows(Input::Rows(JsonRows {
                text,
                names: None,
                frame: false,
                origin: RowOrigin::Body,
            })))
        }
    }
}

fn is_empty_object(text: &[u8]) -> bool {
    text == b"null"
        || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text)
            .is_ok_and(|object| object.is_empty())
}

/// Reads one row from each line. Each line is checked alone: the lines are joined to one array, in which a line with `1],[2`
/// would become two rows.
fn read_lines(body: &Bytes) -> Result<Input, Refusal> {
    let text =
        std::str::from_utf8(body).map_err(|_| Refusal::malformed("the body is not UTF-8"))?;
    let mut rows = Vec::with_capacity(body.len() + 2);
    let mut numbers = Vec::new();
    rows.push(b'[');
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        if let Err(error) = serde_json::from_str::<&RawValue>(line) {
            let why = not_finite(&error, line.as_bytes())
                .map(|why| format!(": {why}{}", pointer_at(line.as_bytes(), &error)))
                .unwrap_or_default();
            return Err(Refusal::malformed(format!(
                "line {} is not JSON{why}",
                index + 1
            )));
        }
        if rows.len() > 1 {
            rows.push(b',');
        }
        rows.extend_from_slice(line.trim().as_bytes());
        numbers.push(index + 1);
    }
    rows.push(b']');
    Ok(Input::Rows(JsonRows {
        text: Bytes::from(rows),
        names: None,
        frame: false,
        origin: RowOrigin::Lines(numbers),
    }))
}

fn write(
    options: &ResponseOptions,
    prediction: &mut Prediction,
) -> Result<EncodedResponse, Refusal> {
    if let ResponseLayout::Tensors(options) = &options.layout {
        return v2::response::write(options, prediction);
    }
    let mut text = Vec::with_capacity(64 + prediction.rows.min(65_536) * 64);
    match (options.format, &options.layout) {
        (Format::Json, ResponseLayout::Columns) => {
            text.extend_from_slice(b"{\"predictions\":");
            write_columns(prediction, &mut text)?;
            write_fallback(prediction, &mut text);
            text.push(b'}');
        }
        (Format::Json, _) => {
            text.extend_from_slice(b"{\"predictions\":");
            write_predictions(prediction, &mut text)?;
            write_fallback(prediction, &mut text);
            text.push(b'}');
        }
        (Format::JsonLines, _) => {
            check_rows(prediction)?;
            let names = output_names(&prediction.output);
            for row in 0..prediction.rows {
                write_prediction(&prediction.output, &names, row, &mut text);
                text.push(b'\n');
            }
        }
        (Format::Csv, _) => {
            check_rows(prediction)?;
            let names = output_names(&prediction.output);
            let rows = (0..prediction.rows).map(|row| cells(&prediction.output, &names, row));
            text = csv_table::write_lines(rows);
        }
    }
    let content_type = if options.format == Format::Csv {
        "text/csv; charset=utf-8"
    } else {
        options.media_type
    };
    Ok(EncodedResponse {
        content_type,
        ..EncodedResponse::json(text)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, header};

    use crate::{
        api::http::{
            invocations::{Format, accepted, read_json, read_lines},
            row_request::RequestData,
        },
        predict::Input,
    };

    #[test]
    fn accept_chooses_the_answer() {
        let accept = |text: &str| {
            accepted(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_str(text).unwrap(),
            )]))
        };
        assert_eq!(accept("text/csv"), Ok((Format::Csv, "text/csv")));
        assert_eq!(
            accept("text/html, application/jsonlines;q=0.9"),
            Ok((Format::JsonLines, "application/jsonlines"))
        );
        assert_eq!(
            accept("application/x-ndjson"),
            Ok((Format::JsonLines, "application/x-ndjson"))
        );
        assert_eq!(
            accept("text/csv;q=0.5, application/json"),
            Ok((Format::Json, "application/json"))
        );
        assert_eq!(accept("*/*"), Ok((Format::Json, "application/json")));
        assert_eq!(
            accepted(&HeaderMap::new()),
            Ok((Format::Json, "application/json"))
        );
        assert!(accept("text/html").is_err());
    }

    #[test]
    fn each_line_must_be_json_by_itself() {
        let read = |text: &'static str| match read_lines(&Bytes::from_static(text.as_bytes())) {
            Ok(Input::Rows(rows)) => Ok(String::from_utf8(rows.text.to_vec()).unwrap()),
            Ok(_) => panic!("no rows"),
            Err(refusal) => Err(refusal.detail),
        };
        assert_eq!(read("{\"a\":1}\r\n\n[2]\n").unwrap(), r#"[{"a":1},[2]]"#);
        for bad in ["1],[2", "{\"a\":1}\n{", "1 2"] {
            assert!(read(bad).unwrap_err().contains("is not JSON"), "{bad}");
        }
    }

    #[test]
    fn exactly_one_member_holds_the_data() {
        let read = |text: &'static str| read_json(&Bytes::from_static(text.as_bytes()));
        assert!(matches!(
            read(r#"{"instances":[1],"params":{}}"#),
            Ok(RequestData::Rows(_))
        ));
        assert!(matches!(
            read(r#"{"inputs":{"a":[1]}}"#),
            Ok(RequestData::Columns(_))
        ));
        assert!(matches!(
            read(r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[1]}]}"#),
            Ok(RequestData::Tensors(_))
        ));
        let bad = [
            r#"{"instances":[1],"inputs":[1]}"#,
            r#"{"instances":[1],"params":{"t":1}}"#,
            r#"{"instances":1}"#,
            r#"{"dataframe_split":{"data":[[1]]}}"#,
            r#"{"dataframe_split":{"columns":[1],"data":[[1]]}}"#,
            r#"{"dataframe_split":[]}"#,
            "[1]",
        ];
        for bad in bad {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
