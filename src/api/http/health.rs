//! Health for load balancers, metrics for Prometheus. Nothing here waits for a model.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

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
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        context::Context,
        http::{encoding, exchange::refuse_unrouted, negotiation, predict::Predict},
    },
    registry::{State, not_ready},
};

/// Alive as long as this answers and not too many engine threads hang.
pub async fn live(extract::State(api): extract::State<Arc<Api>>) -> Response {
    if !api.is_alive() {
        let wedged = api.metrics.wedged_workers.get();
        return json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"live": false, "reason": format!("{wedged} engine threads hang")}),
        );
    }
    json_response(StatusCode::OK, &json!({"live": true}))
}

/// Seconds after which a refused caller may try again.
pub const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl Api {
    /// Not too many engine threads hang.
    pub fn is_alive(&self) -> bool {
        let wedged = self.metrics.wedged_workers.get();
        usize::try_from(wedged).is_ok_and(|wedged| wedged < self.max_wedged) || wedged < 0
    }

    /// Every required model answers, and the server stays.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
            && not_ready(&self.registry.snapshot(), Instant::now()).is_empty()
    }
}

/// Ready when every required model has a version that answers; `?verbose` tells of every version.
pub async fn ready(
    extract::State(api): extract::State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Response {
    let snapshot = api.registry.snapshot();
    let now = Instant::now();
    let mut reasons: Vec<Value> = Vec::new();
    if api.draining.load(Ordering::Relaxed) {
        reasons.push(json!({"model": "", "reason": "the server is shutting down"}));
    }
    reasons.extend(
        not_ready(&snapshot, now)
            .into_iter()
            .map(|(model, reason)| json!({"model": model, "reason": reason})),
    );
    let ready = reasons.is_empty();
    let mut document = json!({"ready": ready});
    if !ready {
        document["reasons"] = Value::Array(reasons);
    }
    if query.is_some_and(|query| {
        query
            .split('&')
            .any(|item| item == "verbose" || item.starts_with("verbose="))
    }) {
        let models = snapshot.models.iter().map(|(name, model)| {
            let versions = model.versions.iter().map(|(version, status)| {
                let mut entry = json!({"version": version.as_str(), "state": status.state.name()});
                if let State::Available(servable) = &status.state {
                    entry["role"] = Value::from(model.role(servable));
                }
                if let Some(reason) = status.state.reason() {
                    entry["reason"] = Value::String(reason);
                }
                if let Some(warning) = &status.warning {
                    entry["warning"] = Value::String(warning.clone());
                }
                entry
            });
            let stable = model
                .stable
                .as_ref()
                .map(|servable| servable.id().version.to_string());
            let versions: Vec<Value> = versions.collect();
            json!({
                "name": name.as_str(),
                "required": snapshot.required.contains(name),
                "ready": model.ailment(now).is_none(),
                "reason": model.ailment(now),
                "stable": stable,
                "notices": model.notices,
                "versions": versions,
            })
        });
        document["models"] = models.collect();
        let ignored = snapshot.ignored.iter().map(|ignored| {
            let (path, reason) = (ignored.path.to_string_lossy(), ignored.reason);
            json!({"path": path, "reason": reason.name(), "outcome": reason.outcome(), "detail": ignored.detail})
        });
        document["ignored"] = ignored.collect();
    }
    json_response(
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        &document,
    )
}

pub async fn metrics(
    extract::State(api): extract::State<Arc<Api>>,
    headers: HeaderMap,
) -> Response {
    if let Err((code, detail)) = negotiation::choose(&headers, &["text/plain"]) {
        return refuse_unrouted(&api, Predict, code, &detail, &Context::new(&headers));
    }
    let dropped = (api.dropped_log_lines)();
    let counter = &api.metrics.log_lines_dropped;
    counter.inc_by(dropped.saturating_sub(counter.get()));
    match api.metrics.encode() {
        Ok(text) => encoding::answer(&headers, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => {
            tracing::error!(error = %error, "the metrics can't be encoded");
            json_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"error": "the metrics can't be encoded"}),
            )
        }
    }
}

/// Probes must see the present.
fn json_response(status: StatusCode, document: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{document}\n")));
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
