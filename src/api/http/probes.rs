//! Probes for load balancers, and metrics for Prometheus. No handler here waits for a model,
//! because a probe must answer under any load.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{self, RawQuery},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::{
    admin::readiness::{
        IgnoredDirectory, Liveness, ModelReadiness, NotReady, Readiness, VersionReadiness,
    },
    api::{
        Api,
        context::Context,
        http::{
            content_encoding, negotiation,
            predict::Predict,
            response::{RETRY_AFTER, refuse_unrouted},
        },
    },
    id::ModelName,
    registry::{IgnoredPath, ServedModel, Snapshot, VersionState, not_ready},
};

/// Reports whether the server is alive: it is alive if fewer engine threads hang than the limit.
pub(super) async fn live(extract::State(api): extract::State<Arc<Api>>) -> Response {
    if !api.is_alive() {
        let wedged = api.metrics.wedged_workers();
        return json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &Liveness {
                live: false,
                reason: Some(format!("{wedged} engine threads hang")),
            },
        );
    }
    let alive = Liveness {
        live: true,
        reason: None,
    };
    json_response(StatusCode::OK, &alive)
}

impl Api {
    /// Whether fewer engine threads hang than `runtime.max_wedged`.
    pub(crate) fn is_alive(&self) -> bool {
        let wedged = self.metrics.wedged_workers();
        usize::try_from(wedged).is_ok_and(|wedged| wedged < self.max_wedged) || wedged < 0
    }

    /// Whether every required model answers, and the server is not shutting down.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
            && not_ready(&self.registry.snapshot(), Instant::now()).is_empty()
    }
}

/// Reports whether the server is ready: every required model has a version that answers. `?verbose`
/// lists every version.
pub(super) async fn ready(
    extract::State(api): extract::State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Response {
    let snapshot = api.registry.snapshot();
    let now = Instant::now();
    // A shutdown is the first reason in the list. A load balancer then stops sending requests.
    let draining = api.draining.load(Ordering::Relaxed).then(|| NotReady {
        model: String::new(),
        reason: "the server is shutting down".to_owned(),
    });
    let reasons: Vec<NotReady> = draining
        .into_iter()
        .chain(
            not_ready(&snapshot, now)
                .into_iter()
                .map(|(model, reason)| NotReady { model, reason }),
        )
        .collect();
    let verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|item| item == "verbose" || item.starts_with("verbose="))
    });
    let document = Readiness {
        ready: reasons.is_empty(),
        reasons,
        // The lists are included only on request, because probes are frequent and the lists may be
        // long.
        models: verbose.then(|| {
            let models = snapshot.models.iter();
            models
                .map(|(name, model)| model_readiness(&snapshot, name, model, now))
                .collect()
        }),
        ignored: verbose.then(|| snapshot.ignored.iter().map(ignored_directory).collect()),
    };
    let status = if document.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(status, &document)
}

fn model_readiness(
    snapshot: &Snapshot,
    name: &ModelName,
    model: &ServedModel,
    now: Instant,
) -> ModelReadiness {
    let outage = model.outage(now);
    let versions = model.versions.iter().map(|(version, status)| {
        let role = match &status.state {
            VersionState::Available(servable) => Some(model.role(servable)),
            _ => None,
        };
        VersionReadiness {
            version: version.to_string(),
            state: status.state.load_state(),
            role,
            reason: status.state.reason(),
            warning: status.warning.clone(),
        }
    });
    let stable = model.stable.as_ref();
    ModelReadiness {
        name: name.to_string(),
        required: snapshot.required.contains(name),
        ready: outage.is_none(),
        reason: outage.as_ref().map(|outage| outage.cause.to_string()),
        suggestion: outage.and_then(|outage| outage.suggestion),
        stable: stable.map(|servable| servable.id().version.to_string()),
        notices: model.notices.clone(),
        versions: versions.collect(),
    }
}

fn ignored_directory(ignored: &IgnoredPath) -> IgnoredDirectory {
    IgnoredDirectory {
        path: ignored.path.to_string_lossy().into_owned(),
        reason: ignored.reason.name().to_owned(),
        outcome: ignored.reason.outcome().to_owned(),
        detail: ignored.detail.clone(),
    }
}

/// The metrics in the text format of Prometheus.
pub(super) async fn metrics(
    extract::State(api): extract::State<Arc<Api>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = negotiation::choose(&headers, &["text/plain"]) {
        return refuse_unrouted(&api, Predict, &refusal, &Context::new(&headers));
    }
    // The log's writer has its own counter. It is copied into the metric at each scrape.
    let dropped = (api.dropped_log_lines)();
    let counter = &api.metrics.server.log_lines_dropped;
    counter.inc_by(dropped.saturating_sub(counter.get()));
    match api.metrics.encode() {
        Ok(text) => {
            content_encoding::respond(&headers, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        Err(error) => {
            tracing::error!(error = %error, "the metrics can't be encoded");
            json_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"error": "the metrics can't be encoded"}),
            )
        }
    }
}

/// Creates a JSON response that no cache may keep, because a probe must see the current state.
fn json_response(status: StatusCode, document: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}
