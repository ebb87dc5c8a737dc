//! The documents of the dialect other than predictions: the list of models, their status and their
//! metadata.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        Api,
        http::{
            path::{OnePart, TwoParts, one, target, two},
            response::json_document,
            v1::{SIGNATURE, check_label, has_verb, refuse, refuse_method},
        },
        oip,
        refusal::Refusal,
    },
    error::{ErrorCode, text_with_sources},
    id::{ModelName, Version},
    registry::{VersionState, VersionStatus, route::Target, version_label::VersionLabel},
    tensor::{DataType, Dim, signature::TensorSpec},
};

pub(super) async fn list(State(api): State<Arc<Api>>, request: Request) -> Response {
    let snapshot = api.registry.snapshot();
    let names: Vec<&str> = snapshot.models.keys().map(ModelName::as_str).collect();
    respond(&request, &json!({"models": names}))
}

pub(super) async fn status_of_model(
    State(api): State<Arc<Api>>,
    path: OnePart,
    request: Request,
) -> Response {
    let name = one(path);
    if has_verb(&name) {
        return refuse_get(&api, &request);
    }
    status(&api, &request, target(&name, None))
}

pub(super) async fn status_of_version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, version) = two(path);
    if has_verb(&version) {
        return refuse_get(&api, &request);
    }
    status(&api, &request, target(&name, Some(&version)))
}

pub(super) async fn status_of_label(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, label) = two(path);
    if has_verb(&label) {
        return refuse_get(&api, &request);
    }
    match check_label(&label) {
        Ok(()) => status(&api, &request, target(&name, Some(&label))),
        Err(refusal) => refuse(&api, &request, &refusal),
    }
}

/// Returns the status of a model: `name` and `ready` like KServe, and `model_version_status` like
/// TensorFlow Serving.
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
    // A draining server still answers requests, but reports not ready so that it gets no new ones.
    let ready = ready && !api.draining.load(Ordering::Relaxed);
    respond(
        request,
        &json!({"name": name, "ready": ready, "model_version_status": statuses}),
    )
}

fn version_status(version: &Version, status: &VersionStatus) -> Value {
    // TensorFlow Serving has the states START, LOADING, AVAILABLE, UNLOADING and END.
    let state = match &status.state {
        VersionState::Available(_) => "AVAILABLE",
        VersionState::Loading => "LOADING",
        VersionState::Draining => "UNLOADING",
        VersionState::Incomplete { .. } | VersionState::Idle => "START",
        VersionState::Refused(_) => "END",
    };
    // TensorFlow Serving reports a version that failed to load as an error in its status.
    let (code, message) = match &status.state {
        VersionState::Refused(error) => ("FAILED_PRECONDITION", text_with_sources(error)),
        _ => ("OK", String::new()),
    };
    json!({"version": version.as_str(), "state": state, "status": {"error_code": code, "error_message": message}})
}

pub(super) async fn metadata_of_model(
    State(api): State<Arc<Api>>,
    path: OnePart,
    request: Request,
) -> Response {
    let name = one(path);
    metadata(&api, &request, target(&name, None))
}

pub(super) async fn metadata_of_version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, version) = two(path);
    metadata(&api, &request, target(&name, Some(&version)))
}

pub(super) async fn metadata_of_label(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, label) = two(path);
    match check_label(&label) {
        Ok(()) => metadata(&api, &request, target(&name, Some(&label))),
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

/// Refuses a `GET` request to a path that ends in a verb, such as `:predict`. Such paths accept
/// only `POST`.
fn refuse_get(api: &Api, request: &Request) -> Response {
    let detail = format!(
        "{} does not support {}",
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

fn respond(request: &Request, document: &Value) -> Response {
    json_document(request, document.to_string().into_bytes())
}
