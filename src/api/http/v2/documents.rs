//! The documents of the Open Inference Protocol other than predictions: metadata, readiness,
//! configuration, statistics, index.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    admin::repository::IndexRequest,
    api::{
        Api,
        context::Context,
        http::{
            path::target,
            response::{RETRY_AFTER, json_document, refuse_unrouted},
            v2::{ModelPath, V2, name_and_version},
        },
        oip::{self, ConfiguredTensor, ModelConfiguration},
        refusal::Refusal,
    },
    document,
    metrics::statistics::Total,
    tensor::signature::TensorSpec,
};

/// Maximum size of the body of an index request. The body contains one option.
const MAX_INDEX_BODY: usize = 64 << 10;

pub(crate) async fn server(request: Request) -> Response {
    let document = json!({"name": oip::SERVER_NAME, "version": oip::SERVER_VERSION, "extensions": oip::EXTENSIONS});
    respond(&request, &document)
}

pub(crate) async fn live(State(api): State<Arc<Api>>, request: Request) -> Response {
    probe(&request, "live", api.is_alive())
}

pub(crate) async fn ready(State(api): State<Arc<Api>>, request: Request) -> Response {
    probe(&request, "ready", api.is_ready())
}

pub(crate) async fn model_ready(
    State(api): State<Arc<Api>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let (name, version) = name_and_version(path);
    let target = target(&name, version.as_deref());
    let ready = oip::is_ready(&api.registry.snapshot(), target);
    let draining = api.draining.load(Ordering::Relaxed);
    match ready {
        Ok(ready) => with_status(
            &request,
            &json!({"name": name, "ready": ready && !draining}),
            ready && !draining,
        ),
        Err(refusal) => refuse(&api, &request, &refusal),
    }
}

pub(crate) async fn metadata(
    State(api): State<Arc<Api>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let (name, version) = name_and_version(path);
    let target = target(&name, version.as_deref());
    let metadata = oip::model_metadata(&api.registry.snapshot(), target);
    let document = metadata.map(|metadata| {
        json!({
            "name": metadata.name,
            "versions": metadata.versions,
            "platform": oip::PLATFORM,
            "inputs": tensors(&metadata.inputs, &metadata.symbols.inputs),
            "outputs": tensors(&metadata.outputs, &metadata.symbols.outputs),
        })
    });
    answer(&api, &request, document)
}

/// Describes tensors with the members of the protocol. A parameter contains the graph's names of
/// the dimensions.
fn tensors(specs: &[TensorSpec], symbols: &[Vec<String>]) -> Vec<Value> {
    let tensor = |(index, spec): (usize, &TensorSpec)| {
        let shape: Vec<i64> = spec
            .shape
            .0
            .iter()
            .map(|dim| oip::dim_to_wire(*dim))
            .collect();
        let mut document =
            json!({"name": &*spec.name, "datatype": spec.datatype.protocol_name(), "shape": shape});
        let names = symbols
            .get(index)
            .filter(|names| names.iter().any(|name| !name.is_empty()));
        if let (Some(names), Some(members)) = (names, document.as_object_mut()) {
            members.insert("parameters".to_owned(), json!({"dimensions": names}));
        }
        document
    };
    specs.iter().enumerate().map(tensor).collect()
}

pub(crate) async fn configuration(
    State(api): State<Arc<Api>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let (name, version) = name_and_version(path);
    let target = target(&name, version.as_deref());
    let configuration = oip::model_configuration(&api.registry.snapshot(), target);
    let document = configuration.map(|configuration| configuration_document(&configuration));
    answer(&api, &request, document)
}

fn configuration_document(configuration: &ModelConfiguration) -> Value {
    let tensors = |tensors: &[ConfiguredTensor]| -> Value {
        tensors.iter().map(configured_tensor_document).collect()
    };
    let instances = json!({
        "name": configuration.name,
        "kind": "KIND_CPU",
        "count": configuration.instances,
    });
    let mut document = json!({
        "name": configuration.name,
        "platform": oip::PLATFORM,
        "backend": oip::BACKEND,
        "version_policy": {"specific": {"versions": [configuration.version]}},
        "max_batch_size": configuration.max_batch_size,
        "input": tensors(&configuration.inputs),
        "output": tensors(&configuration.outputs),
        "instance_group": [instances],
        "default_model_filename": "model.onnx",
    });
    // The delay is absent if requests do not share runs, as in Triton's own configurations.
    let delay = configuration.max_queue_delay_us;
    if let (Some(delay), Some(members)) = (delay, document.as_object_mut()) {
        let batching = json!({"max_queue_delay_microseconds": delay});
        members.insert("dynamic_batching".to_owned(), batching);
    }
    document
}

fn configured_tensor_document(tensor: &ConfiguredTensor) -> Value {
    let mut document = json!({
        "name": tensor.name,
        "data_type": tensor.data_type,
        "dims": tensor.dims,
    });
    if let (false, Some(members)) = (tensor.label_filename.is_empty(), document.as_object_mut()) {
        let file = json!(tensor.label_filename);
        members.insert("label_filename".to_owned(), file);
    }
    document
}

pub(crate) async fn all_statistics(State(api): State<Arc<Api>>, request: Request) -> Response {
    let statistics = oip::statistics(&api.registry.snapshot(), None, None).map(statistics_document);
    answer(&api, &request, statistics)
}

pub(crate) async fn statistics(
    State(api): State<Arc<Api>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let (name, version) = name_and_version(path);
    let statistics = oip::statistics(&api.registry.snapshot(), Some(&name), version.as_deref())
        .map(statistics_document);
    answer(&api, &request, statistics)
}

fn statistics_document(models: Vec<oip::ModelStatistics>) -> Value {
    let total = |total: &Total| json!({"count": total.count, "ns": total.nanoseconds});
    let none = json!({"count": 0, "ns": 0});
    let model = |model: &oip::ModelStatistics| {
        let numbers = &model.numbers;
        let batches = numbers.batches.iter().map(|(rows, infer)| {
            // Only the whole run is timed, not its parts.
            json!({"batch_size": rows, "compute_input": none, "compute_infer": total(infer), "compute_output": none})
        });
        json!({
            "name": model.name,
            "version": model.version,
            "last_inference": numbers.last_inference_ms,
            "inference_count": numbers.inferences,
            "execution_count": numbers.executions,
            "inference_stats": {
                "success": total(&numbers.success),
                "fail": total(&numbers.fail),
                "queue": total(&numbers.queue),
                "compute_input": total(&numbers.compute_input),
                "compute_infer": total(&numbers.compute_infer),
                "compute_output": total(&numbers.compute_output),
                "cache_hit": none,
                "cache_miss": none,
            },
            "batch_stats": batches.collect::<Vec<_>>(),
        })
    };
    json!({"model_stats": models.iter().map(model).collect::<Vec<_>>()})
}

pub(crate) async fn index(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // The response needs the headers of the request.
    let request = Request::from_parts(parts, Body::empty());
    let only_ready = match to_bytes(body, MAX_INDEX_BODY).await {
        Ok(body) => wants_ready_only(&body),
        Err(_) => Err(Refusal::too_large(MAX_INDEX_BODY)),
    };
    let entries =
        only_ready.map(|only_ready| oip::repository_index(&api.registry.snapshot(), only_ready));
    answer(&api, &request, entries)
}

/// Whether the body is `{"ready": true}`, which selects only the versions that answer. Without a
/// body, the index contains all versions.
fn wants_ready_only(body: &[u8]) -> Result<bool, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(false);
    }
    let request: IndexRequest = document::parse(body).map_err(|error| {
        Refusal::malformed(format!(
            "the body must be an object like {{\"ready\": true}}: {error}"
        ))
    })?;
    Ok(request.ready == Some(true))
}

fn answer(api: &Api, request: &Request, document: Result<impl Serialize, Refusal>) -> Response {
    match document {
        Ok(document) => respond(request, &document),
        Err(refusal) => refuse(api, request, &refusal),
    }
}

fn refuse(api: &Api, request: &Request, refusal: &Refusal) -> Response {
    refuse_unrouted(api, V2, refusal, &Context::new(request.headers()))
}

fn respond(request: &Request, document: &impl Serialize) -> Response {
    json_document(request, serde_json::to_vec(document).unwrap_or_default())
}

fn probe(request: &Request, member: &str, is_good: bool) -> Response {
    with_status(request, &json!({member: is_good}), is_good)
}

/// Creates a response that no cache may keep, because a probe must see the current state.
fn with_status(request: &Request, document: &Value, is_good: bool) -> Response {
    let mut response = respond(request, document);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !is_good {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}
