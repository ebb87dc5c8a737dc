//! `GET /models...`: the served models and their versions.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents that are created here as objects"
)]

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        context::Context,
        http::{
            path::{OnePart, TwoParts, one, two},
            predict::Predict,
            response::{json_document, refuse_unrouted},
        },
        refusal::Refusal,
    },
    error::ErrorCode,
    id::{ModelName, Version},
    predict::PredictError,
    registry::{
        ServedModel, Snapshot, VersionState, VersionStatus, gate::Batching, servable::Servable,
        traffic::Traffic, version_label::VersionLabel,
    },
};

pub(super) async fn list(State(api): State<Arc<Api>>, request: Request) -> Response {
    let snapshot = api.registry.snapshot();
    let models: Vec<Value> = snapshot
        .models
        .iter()
        .map(|(name, model)| overview(&snapshot, name, model))
        .collect();
    respond(&request, &json!({"models": models}))
}

pub(super) async fn model(
    State(api): State<Arc<Api>>,
    path: OnePart,
    request: Request,
) -> Response {
    let name = one(path);
    let snapshot = api.registry.snapshot();
    match snapshot.models.get_key_value(name.as_str()) {
        Some((name, model)) => respond(&request, &overview(&snapshot, name, model)),
        None => refuse_unknown(
            &api,
            &request,
            format!("there is no model \"{name}\"; /models lists the models"),
        ),
    }
}

pub(super) async fn version(
    State(api): State<Arc<Api>>,
    path: TwoParts,
    request: Request,
) -> Response {
    let (name, version) = two(path);
    let snapshot = api.registry.snapshot();
    // If the path contains a label, the document describes the version with that label.
    let label = VersionLabel::parse(&version).zip(snapshot.models.get(name.as_str()));
    let version = match label.map(|(label, model)| model.labelled(&name, label, Instant::now())) {
        Some(Ok(servable)) => servable.id().version.to_string(),
        Some(Err(error)) => {
            let error = PredictError::Route(error);
            let refusal = Refusal::new(error.code(), error.to_string());
            return refuse(&api, &request, &refusal);
        }
        None => version,
    };
    let found = snapshot
        .models
        .get_key_value(name.as_str())
        .and_then(|(name, model)| {
            let (version, status) = model
                .versions
                .iter()
                .find(|(known, _)| known.as_str() == version)?;
            Some((name, model, version, status))
        });
    match found {
        Some((name, model, version, status)) => {
            respond(&request, &details(name, model, version, status))
        }
        None => refuse_unknown(
            &api,
            &request,
            format!("model \"{name}\" has no version \"{version}\"; /models/{name} lists them"),
        ),
    }
}

fn refuse_unknown(api: &Api, request: &Request, detail: String) -> Response {
    refuse(api, request, &Refusal::new(ErrorCode::NotFound, detail))
}

fn refuse(api: &Api, request: &Request, refusal: &Refusal) -> Response {
    refuse_unrouted(api, Predict, refusal, &Context::new(request.headers()))
}

fn respond(request: &Request, document: &Value) -> Response {
    json_document(request, format!("{document}\n").into_bytes())
}

fn overview(snapshot: &Snapshot, name: &ModelName, model: &ServedModel) -> Value {
    let stable = model
        .stable
        .as_ref()
        .map(|servable| servable.id().version.to_string());
    let versions: Vec<Value> = model
        .versions
        .iter()
        .map(|(version, status)| summary(model, version, status))
        .collect();
    json!({
        "name": name.as_str(),
        "default": snapshot.default.as_ref() == Some(name),
        "required": snapshot.required.contains(name),
        "stable": stable,
        "awaited": model.awaited().map(|named| &named.version),
        "previous": model.previous.as_ref().map(|servable| servable.id().version.to_string()),
        "rollout": model.traffic.as_ref().map(|traffic| rollout(traffic)),
        "pinned": model.pinned.as_ref().map(Version::as_str),
        "versions": versions,
    })
}

/// The current step of the rollout. Its evidence is visible only on the admin listener.
fn rollout(traffic: &Traffic) -> Value {
    let step = &traffic.step;
    let candidates: Vec<Value> = step
        .candidates
        .iter()
        .zip(&step.weights)
        .map(|(named, weight)| json!({"version": named.version, "weight": weight}))
        .collect();
    json!({"plan": step.plan.name, "step": step.number, "candidates": candidates, "shadow_share": step.shadow_share})
}

fn summary(model: &ServedModel, version: &Version, status: &VersionStatus) -> Value {
    let mut entry = json!({"version": version.as_str(), "state": status.state.name()});
    if let Some(reason) = status.state.reason() {
        entry["reason"] = Value::String(reason);
    }
    if let Some(warning) = &status.warning {
        entry["warning"] = Value::String(warning.clone());
    }
    // Only a loaded version can be described.
    if let VersionState::Available(servable) = &status.state {
        entry["role"] = json!(model.role(servable));
        entry["digest"] = json!(servable.digest());
        entry["verified"] = json!(servable.contents.is_verified());
        if let Some(package) = servable.package() {
            entry["created"] = json!(package.manifest.created);
        }
    }
    entry
}

fn details(
    name: &ModelName,
    model: &ServedModel,
    version: &Version,
    status: &VersionStatus,
) -> Value {
    let mut document = summary(model, version, status);
    document["name"] = json!(name.as_str());
    if let VersionState::Available(servable) = &status.state {
        if let Some(package) = servable.package() {
            document["schema"] = package.parts.schema_document.clone();
            document["evaluation"] = json!(package.parts.evaluation);
            document["model_card"] = json!(package.parts.card);
            document["provenance"] = json!(package.manifest.provenance);
        }
        document["files"] = json!(servable.contents.manifest().files);
        document["serving"] = serving(servable);
    }
    document
}

fn serving(servable: &Servable) -> Value {
    // The reason tells the author of the model how to enable batching.
    let (batched, because) = match &servable.batching {
        Batching::Rows => (true, None),
        Batching::None { because } => (false, Some(because)),
    };
    json!({
        "workers": servable.workers,
        "intra_op_threads": servable.intra_op_threads,
        "batched": batched,
        "not_batched_because": because,
        "max_batch_size": servable.batcher.policy().max_batch_size,
        "risk": servable.package().and_then(|package| package.parts.serving.risk),
    })
}
