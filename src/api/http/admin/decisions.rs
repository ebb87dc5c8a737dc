//! `/admin/models/...`: the decisions about a model, and orders for new decisions.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    actor::Actor,
    admin::requests::{PromoteRequest, ReasonRequest, RollbackRequest, StartRequest},
    api::{
        http::admin::{
            Admin,
            answer::{document, read_body, refuse},
            name_path::{NamePath, model_name},
        },
        refusal::Refusal,
    },
    error::ErrorCode,
    operate::{OperateError, Operator},
};

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/admin/models", get(statuses))
        .route("/admin/models/{name}", get(status))
        .route("/admin/models/{name}/drift", get(drift))
        .route("/admin/models/{name}/history", get(history))
        .route("/admin/models/{name}/history/repair", post(repair))
        .route("/admin/models/{name}/rollback", post(rollback))
        .route("/admin/models/{name}/rollout/start", post(start))
        .route("/admin/models/{name}/rollout/promote", post(promote))
        .route("/admin/models/{name}/rollout/{order}", post(decide))
}

async fn statuses(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    answer(&admin, request, |operator, _| Ok(operator.statuses())).await
}

async fn status(State(admin): State<Arc<Admin>>, path: NamePath, request: Request) -> Response {
    let name = model_name(path);
    answer(&admin, request, move |operator, _| operator.status(&name)).await
}

async fn history(State(admin): State<Arc<Admin>>, path: NamePath, request: Request) -> Response {
    let name = model_name(path);
    let from = query_value(&request, "from");
    let Ok(first) = from.map_or(Ok(1), str::parse) else {
        let detail = "`from` must be a whole number: the number of the first entry to return";
        return refuse(&request, Refusal::new(ErrorCode::Malformed, detail));
    };
    answer(&admin, request, move |operator, _| {
        operator.history(&name, first)
    })
    .await
}

async fn drift(State(admin): State<Arc<Admin>>, path: NamePath, request: Request) -> Response {
    let name = model_name(path);
    let version = query_value(&request, "version").map(str::to_owned);
    answer(&admin, request, move |operator, _| {
        operator.drift(&name, version.as_deref())
    })
    .await
}

/// The value of a parameter in the query. `None` without the parameter.
fn query_value<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let mut pairs = request.uri().query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

async fn repair(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: NamePath,
    request: Request,
) -> Response {
    let name = model_name(path);
    answer(&admin, request, move |operator, body| {
        operator.repair(&name, parse::<ReasonRequest>(body)?.reason, &actor)
    })
    .await
}

async fn rollback(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: NamePath,
    request: Request,
) -> Response {
    let name = model_name(path);
    answer(&admin, request, move |operator, body| {
        operator.rollback(&name, &parse::<RollbackRequest>(body)?, &actor)
    })
    .await
}

async fn start(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: NamePath,
    request: Request,
) -> Response {
    let name = model_name(path);
    answer(&admin, request, move |operator, body| {
        operator.start(&name, &parse::<StartRequest>(body)?, &actor)
    })
    .await
}

async fn promote(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: NamePath,
    request: Request,
) -> Response {
    let name = model_name(path);
    answer(&admin, request, move |operator, body| {
        operator.promote(&name, &parse::<PromoteRequest>(body)?, &actor)
    })
    .await
}

/// Handles the orders whose body contains only a reason.
async fn decide(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let (name, order) = path.map(|Path(names)| names).unwrap_or_default();
    answer(&admin, request, move |operator, body| {
        let reason = || parse::<ReasonRequest>(body).map(|body| body.reason);
        match order.as_str() {
            "approve" => operator.approve(&name, reason()?, &actor),
            "pause" => operator.pause(&name, reason()?, &actor),
            "resume" => operator.resume(&name, reason()?, &actor),
            "abort" => operator.abort(&name, reason()?, &actor),
            _ => Err(OperateError::UnknownOrder(order)),
        }
    })
    .await
}

/// Parses the body of an order. An empty body counts as an empty object.
fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, OperateError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    crate::document::parse(body).map_err(OperateError::Body)
}

/// Runs `work` on a separate thread, because it may write to a disk or a bucket.
async fn answer<T: Serialize + Send + 'static>(
    admin: &Arc<Admin>,
    request: Request,
    work: impl FnOnce(&Operator, &[u8]) -> Result<T, OperateError> + Send + 'static,
) -> Response {
    let (request, body) = read_body(request).await;
    let body = match body {
        Ok(body) => body,
        Err(refusal) => return refuse(&request, refusal),
    };
    let operator = Arc::clone(&admin.operator);
    match tokio::task::spawn_blocking(move || work(&operator, &body)).await {
        Ok(Ok(answer)) => document(&request, &answer),
        Ok(Err(error)) => refuse(&request, error),
        // The work panicked. The log contains the place.
        Err(_) => {
            let detail = "the order could not be carried out";
            refuse(&request, Refusal::new(ErrorCode::Internal, detail))
        }
    }
}
