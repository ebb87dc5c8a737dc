//! `GET /models...`: the served models and their versions.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde::Serialize;

use crate::{
    api::{
        Api,
        context::Context,
        http::{
            model_documents::{
                CandidateWeight, ModelList, ModelOverview, PackageDocuments, RolloutStep,
                ServingSettings, VersionDetails, VersionSummary,
            },
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
        ServedModel, Snapshot, VersionStatus, gate::Batching, servable::Servable, traffic::Traffic,
        version_label::VersionLabel,
    },
};

pub(super) async fn list(State(api): State<Arc<Api>>, request: Request) -> Response {
    let snapshot = api.registry.snapshot();
    let models = snapshot
        .models
        .iter()
        .map(|(name, model)| overview(&snapshot, name, model))
        .collect();
    respond(&request, &ModelList { models })
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
            let error = PredictError::Route(Box::new(error));
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

fn respond(request: &Request, document: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    text.push(b'\n');
    json_document(request, text)
}

fn overview(snapshot: &Snapshot, name: &ModelName, model: &ServedModel) -> ModelOverview {
    let version = |servable: &Arc<Servable>| servable.id().version.to_string();
    ModelOverview {
        name: name.to_string(),
        default: snapshot.default.as_ref() == Some(name),
        required: snapshot.required.contains(name),
        stable: model.stable.as_ref().map(version),
        awaited: model.awaited().map(|named| named.version.clone()),
        previous: model.previous.as_ref().map(version),
        rollout: model.traffic.as_ref().map(|traffic| rollout(traffic)),
        pinned: model.pinned.as_ref().map(ToString::to_string),
        versions: model
            .versions
            .iter()
            .map(|(version, status)| summary(model, version, status))
            .collect(),
    }
}

fn rollout(traffic: &Traffic) -> RolloutStep {
    let step = &traffic.step;
    let candidates = step.candidates.iter().zip(&step.weights);
    RolloutStep {
        plan: step.plan.name.clone(),
        step: step.number,
        candidates: candidates
            .map(|(named, weight)| CandidateWeight {
                version: named.version.clone(),
                weight: *weight,
            })
            .collect(),
        shadow_share: step.shadow_share,
    }
}

fn summary(model: &ServedModel, version: &Version, status: &VersionStatus) -> VersionSummary {
    // Only a loaded version can be described.
    let loaded = status.state.servable();
    VersionSummary {
        version: version.to_string(),
        state: status.state.load_state(),
        reason: status.state.reason(),
        warning: status.warning.clone(),
        role: loaded.map(|servable| model.role(servable)),
        digest: loaded.map(|servable| servable.digest().to_owned()),
        verified: loaded.map(|servable| servable.contents.is_verified()),
        created: loaded
            .and_then(|servable| servable.package())
            .map(|package| package.manifest.created.clone()),
    }
}

fn details(
    name: &ModelName,
    model: &ServedModel,
    version: &Version,
    status: &VersionStatus,
) -> VersionDetails {
    let loaded = status.state.servable();
    let package = loaded.and_then(|servable| servable.package());
    VersionDetails {
        summary: summary(model, version, status),
        name: name.to_string(),
        package: package.map(|package| PackageDocuments {
            schema: package.parts.schema_document.clone(),
            evaluation: package
                .parts
                .evaluation
                .as_ref()
                .map(|evaluation| evaluation.document.clone()),
            model_card: package.parts.card.clone(),
            provenance: package.manifest.provenance.clone(),
        }),
        files: loaded.map(|servable| servable.contents.manifest().files.clone()),
        serving: loaded.map(|servable| serving(servable)),
    }
}

fn serving(servable: &Servable) -> ServingSettings {
    let not_batched_because = match &servable.batching {
        Batching::Rows => None,
        Batching::None { because } => Some(because.clone()),
    };
    ServingSettings {
        workers: servable.workers,
        intra_op_threads: servable.intra_op_threads,
        batched: not_batched_because.is_none(),
        not_batched_because,
        max_batch_size: servable.batcher.policy().max_batch_size,
        risk: servable
            .package()
            .and_then(|package| package.parts.serving.risk),
    }
}
