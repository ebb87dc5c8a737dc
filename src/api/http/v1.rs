//! KServe v1, TensorFlow Serving and Vertex AI: `POST /v1/models/NAME:predict`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        Api,
        context::Context,
        error_report::ErrorReport,
        http::{
            body, content_encoding,
            dialect::{Dialect, EncodedResponse, ParsedRequest},
            exchange::exchange,
            predictions::{write_columns, write_predictions},
            response::refuse_unrouted,
            row_request::{RequestMembers, ResponseLayout},
            row_writer::write_fallback,
            v2,
        },
        oip::{self, error_status},
        refusal::Refusal,
    },
    error::ErrorCode,
    id::Version,
    metrics::Protocol,
    predict::Prediction,
    registry::{VersionState, VersionStatus, route::Target, version_label::VersionLabel},
    tensor::{DataType, Dim, signature::TensorSpec},
};

/// The name of the only signature. TensorFlow models may have several; an ONNX graph has one.
const SIGNATURE: &str = "serving_default";

/// Takes instances, answers with predictions; errors are `{"error": "..."}`.
#[derive(Clone, Copy)]
pub struct V1;

pub fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/models", get(list))
        .route("/v1/models/{model_verb}", get(status_of_model).post(model))
        .route("/v1/models/{name}/metadata", get(metadata_of_model))
        .route(
            "/v1/models/{name}/versions/{version_verb}",
            get(status_of_version).post(version),
        )
        .route(
            "/v1/models/{name}/versions/{version}/metadata",
            get(metadata_of_version),
        )
        .route(
            "/v1/models/{name}/labels/{label_verb}",
            get(status_of_label).post(label),
        )
        .route(
            "/v1/models/{name}/labels/{label}/metadata",
            get(metadata_of_label),
        )
}

type OnePart = Result<Path<String>, PathRejection>;
type TwoParts = Result<Path<(String, String)>, PathRejection>;

/// A path that is not valid UTF-8 names no model: the empty name is unknown.
fn one(path: OnePart) -> String {
    path.map(|Path(part)| part).unwrap_or_default()
}

fn two(path: TwoParts) -> (String, String) {
    path.map(|Path(parts)| parts).unwrap_or_default()
}

/// Splits `churn:predict` at the last colon. Neither names nor versions have a colon.
fn split_verb(text: &str) -> (&str, &str) {
    text.rsplit_once(':').unwrap_or((text, ""))
}

fn has_verb(text: &str) -> bool {
    text.contains(':')
}

async fn model(State(api): State<Arc<Api>>, path: OnePart, request: Request) -> Response {
    let part = one(path);
    let (name, verb) = split_verb(&part);
    act(
        &api,
        verb,
        Target {
            model: Some(name),
            version: None,
        },
        request,
    )
    .await
}

async fn version(State(api): State<Arc<Api>>, path: TwoParts, request: Request) -> Response {
    let (name, part) = two(path);
    let (version, verb) = split_verb(&part);
    act(
        &api,
        verb,
        Target {
            model: Some(&name),
            version: Some(version),
        },
        request,
    )
    .await
}

async fn label(State(api): State<Arc<Api>>, path: TwoParts, request: Request) -> Response {
    let (name, part) = two(path);
    let (label, verb) = split_verb(&part);
    match check_label(label) {
        Ok(()) => {
            act(
                &api,
                verb,
                Target {
                    model: Some(&name),
                    version: Some(label),
                },
                request,
            )
            .await
        }
        Err(refusal) => refuse(&api, &request, &refusal),
    }
}

fn check_label(label: &str) -> Result<(), Refusal> {
    let unknown = || {
        let known = VersionLabel::ALL.map(VersionLabel::name).join(", ");
        Refusal::new(
            ErrorCode::NotFound,
            format!("there is no label \"{label}\"; known are {known}"),
        )
    };
    VersionLabel::parse(label).map(drop).ok_or_else(unknown)
}

async fn act(api: &Arc<Api>, verb: &str, target: Target<'_>, request: Request) -> Response {
    let refusal = match verb {
        "predict" => return exchange(api, V1, target, request).await,
        "classify" | "regress" | "explain" => Refusal::new(
            ErrorCode::Unsupported,
            format!(":{verb} is not offered; :predict is"),
        ),
        // An empty name is a path that is not valid UTF-8, and is not found.
        "" if target.model.is_some_and(|name| !name.is_empty()) => {
            let refusal = Refusal::new(
                ErrorCode::MethodNotAllowed,
                "POST needs a verb after the name: NAME:predict",
            );
            return refuse_method(api, &request, &refusal, "GET,HEAD");
        }
        _ => Refusal::new(
            ErrorCode::NotFound,
            format!("there is no verb \"{verb}\"; known is predict"),
        ),
    };
    refuse(api, &request, &refusal)
}

/// The default model, under the route that Vertex AI names.
pub async fn default_model(api: &Arc<Api>, request: Request) -> Response {
    exchange(api, V1, Target::default(), request).await
}

impl Dialect for V1 {
    type ResponseOptions = ResponseLayout;

    fn protocol(self) -> Protocol {
        Protocol::V1
    }

    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal> {
        body::check_any_json(headers)
    }

    fn parse(self, _: &HeaderMap, body: Bytes) -> Result<ParsedRequest<ResponseLayout>, Refusal> {
        let members = RequestMembers::read(&body)?;
        if let Some(signature) = members.get("signature_name") {
            let name: Option<String> = serde_json::from_slice(signature)
                .map_err(|_| Refusal::malformed("\"signature_name\" must be a string"))?;
            if name.is_some_and(|name| !name.is_empty() && name != SIGNATURE) {
                return Err(Refusal::malformed(format!(
                    "there is one signature, \"{SIGNATURE}\""
                )));
            }
        }
        let data = match members.only(&["instances", "inputs"])? {
            Some("instances") => members.instances()?,
            Some(_) => members.inputs()?,
            None => {
                return Err(Refusal::malformed(
                    "the request has neither \"instances\" nor \"inputs\"",
                ));
            }
        };
        Ok(data.into_request(|layout| layout))
    }

    fn encode(
        self,
        layout: &ResponseLayout,
        prediction: &mut Prediction,
    ) -> Result<EncodedResponse, Refusal> {
        let mut text = Vec::with_capacity(64 + prediction.rows.min(65_536) * 64);
        match layout {
            ResponseLayout::Tensors(options) => return v2::response::write(options, prediction),
            ResponseLayout::Rows => {
                text.extend_from_slice(b"{\"predictions\":");
                write_predictions(prediction, &mut text)?;
            }
            ResponseLayout::Columns => {
                text.extend_from_slice(b"{\"outputs\":");
                write_columns(prediction, &mut text)?;
            }
        }
        write_fallback(prediction, &mut text);
        text.push(b'}');
        Ok(EncodedResponse::json(text))
    }

    fn status(self, code: ErrorCode) -> u16 {
        error_status(code)
    }

    fn write_error(self, error: &ErrorReport<'_>, _: &Context) -> (&'static str, Vec<u8>) {
        ("application/json", v2::error_text(error))
    }
}

async fn list(State(api): State<Arc<Api>>, request: Request) -> Response {
    let snapshot = api.registry.snapshot();
    let names: Vec<&str> = snapshot
        .models
        .keys()
        .map(crate::id::ModelName::as_str)
        .collect();
    respond(&request, &json!({"models": names}))
}

async fn status_of_model(State(api): State<Arc<Api>>, path: OnePart, request: Request) -> Response {
    let name = one(path);
    if has_verb(&name) {
        return refuse_get(&api, &request);
    }
    status(
        &api,
        &request,
        Target {
            model: Some(&name),
            version: None,
        },
    )
}

async fn status_of_version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, version) = two(path);
    if has_verb(&version) {
        return refuse_get(&api, &request);
    }
    status(
        &api,
        &request,
        Target {
            model: Some(&name),
            version: Some(&version),
        },
    )
}

async fn status_of_label(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, label) = two(path);
    if has_verb(&label) {
        return refuse_get(&api, &request);
    }
    match check_label(&label) {
        Ok(()) => status(
            &api,
            &request,
            Target {
                model: Some(&name),
                version: Some(&label),
            },
        ),
        Err(refusal) => refuse(&api, &request, &refusal),
    }
}

/// KServe's `name` and `ready`, and TensorFlow Serving's `model_version_status`.
fn status(api: &Api, request: &Request, target: Target<'_>) -> Response {
    let snapshot = api.registry.snapshot();
    let ready = match oip::is_ready(&snapshot, target) {
        Ok(ready) => ready,
        Err(refusal) => return refuse(api, request, &refusal),
    };
    let name = target.model.unwrap_or_default();
    let model = snapshot.models.get(name);
    let label = target.version.and_then(VersionLabel::parse);
    let labelled = label
        .zip(model)
        .and_then(|(label, model)| model.labelled(name, label, Instant::now()).ok());
    let is_requested = |version: &Version| match target.version {
        Some(_) if label.is_some() => {
            labelled.is_some_and(|servable| servable.id().version == *version)
        }
        Some(name) => version.as_str() == name,
        None => true,
    };
    // TensorFlow Serving lists the newest version first.
    let versions = model
        .into_iter()
        .flat_map(|model| model.versions.iter().rev())
        .filter(|(version, _)| is_requested(version));
    let statuses: Vec<Value> = versions
        .map(|(version, status)| version_status(version, status))
        .collect();
    let ready = ready && !api.draining.load(Ordering::Relaxed);
    respond(
        request,
        &json!({"name": name, "ready": ready, "model_version_status": statuses}),
    )
}

fn version_status(version: &Version, status: &VersionStatus) -> Value {
    let state = match &status.state {
        VersionState::Available(_) => "AVAILABLE",
        VersionState::Loading => "LOADING",
        VersionState::Draining => "UNLOADING",
        VersionState::Incomplete { .. } | VersionState::Idle => "START",
        VersionState::Refused(_) => "END",
    };
    let (code, message) = match &status.state {
        VersionState::Refused(error) => ("FAILED_PRECONDITION", error.to_string()),
        _ => ("OK", String::new()),
    };
    json!({"version": version.as_str(), "state": state, "status": {"error_code": code, "error_message": message}})
}

async fn metadata_of_model(
    State(api): State<Arc<Api>>,
    path: OnePart,
    request: Request,
) -> Response {
    let name = one(path);
    metadata(
        &api,
        &request,
        Target {
            model: Some(&name),
            version: None,
        },
    )
}

async fn metadata_of_version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, version) = two(path);
    metadata(
        &api,
        &request,
        Target {
            model: Some(&name),
            version: Some(&version),
        },
    )
}

async fn metadata_of_label(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, label) = two(path);
    match check_label(&label) {
        Ok(()) => metadata(
            &api,
            &request,
            Target {
                model: Some(&name),
                version: Some(&label),
            },
        ),
        Err(refusal) => refuse(&api, &request, &refusal),
    }
}

fn metadata(api: &Api, request: &Request, target: Target<'_>) -> Response {
    let servable = match oip::find(&api.registry.snapshot(), target) {
        Ok(servable) => servable,
        Err(refusal) => return refuse(api, request, &refusal),
    };
    let offered = servable.offered();
    let tensors = |specs: &[TensorSpec]| {
        specs
            .iter()
            .map(|spec| (spec.name.to_string(), tensor_info(spec)))
            .collect::<Map<_, _>>()
    };
    let signature = json!({"inputs": tensors(&offered.inputs), "outputs": tensors(&offered.outputs), "method_name": "tensorflow/serving/predict", "defaults": {}});
    let id = servable.id();
    let document = json!({
        "model_spec": {"name": id.name.as_str(), "signature_name": "", "version": id.version.as_str()},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    });
    respond(request, &document)
}

fn tensor_info(spec: &TensorSpec) -> Value {
    let dtype = match spec.datatype {
        DataType::Bool => "DT_BOOL",
        DataType::Uint8 => "DT_UINT8",
        DataType::Uint16 => "DT_UINT16",
        DataType::Uint32 => "DT_UINT32",
        DataType::Uint64 => "DT_UINT64",
        DataType::Int8 => "DT_INT8",
        DataType::Int16 => "DT_INT16",
        DataType::Int32 => "DT_INT32",
        DataType::Int64 => "DT_INT64",
        DataType::Fp16 => "DT_HALF",
        DataType::Bf16 => "DT_BFLOAT16",
        DataType::Fp32 => "DT_FLOAT",
        DataType::Fp64 => "DT_DOUBLE",
        DataType::Bytes => "DT_STRING",
    };
    // Protobuf's JSON format writes 64-bit numbers as strings.
    let size = |dim: &Dim| json!({"size": oip::dim_to_wire(*dim).to_string(), "name": ""});
    let dims: Vec<Value> = spec.shape.0.iter().map(size).collect();
    json!({"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": false}, "name": &*spec.name})
}

fn refuse(api: &Api, request: &Request, refusal: &Refusal) -> Response {
    refuse_unrouted(api, V1, refusal, &Context::new(request.headers()))
}

/// Refuses a `GET` of a path with a verb, which answers only `POST`.
fn refuse_get(api: &Api, request: &Request) -> Response {
    let detail = format!(
        "{} does not answer {}",
        request.uri().path(),
        request.method()
    );
    refuse_method(
        api,
        request,
        &Refusal::new(ErrorCode::MethodNotAllowed, detail),
        "POST",
    )
}

fn refuse_method(
    api: &Api,
    request: &Request,
    refusal: &Refusal,
    allowed: &'static str,
) -> Response {
    let mut response = refuse(api, request, refusal);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn respond(request: &Request, document: &Value) -> Response {
    let context = Context::new(request.headers());
    let mut response = content_encoding::respond(
        request.headers(),
        "application/json",
        document.to_string().into_bytes(),
    );
    context.write_headers(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use crate::api::http::v1::split_verb;

    #[test]
    fn the_verb_follows_the_last_colon() {
        assert_eq!(split_verb("churn:predict"), ("churn", "predict"));
        assert_eq!(split_verb("a:b:predict"), ("a:b", "predict"));
        assert_eq!(split_verb("churn"), ("churn", ""));
        assert_eq!(split_verb(":"), ("", ""));
    }
}
