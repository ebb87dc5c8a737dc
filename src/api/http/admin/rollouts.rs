//! `/admin/...`: what is decided of a model, and decisions about it.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::to_bytes,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{
        context::Context,
        http::{
            admin::{Admin, MAX_BODY, refuse},
            encoding,
        },
        refusal::Refusal,
    },
    error::ErrorCode,
    operate::{OperateError, Operator, PromoteRequest, RollbackRequest, StartRequest},
    security::tokens::Actor,
};

pub fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/admin/models", get(statuses))
        .route("/admin/models/{name}", get(status))
        .route("/admin/models/{name}/history", get(history))
        .route("/admin/models/{name}/history/repair", post(repair))
        .route("/admin/models/{name}/rollback", post(rollback))
        .route("/admin/models/{name}/rollout/{order}", post(rollout))
}

impl From<OperateError> for Refusal {
    fn from(error: OperateError) -> Refusal {
        match error {
            OperateError::Unknown(detail) => (ErrorCode::NotFound, detail),
            OperateError::Refused(detail) => (ErrorCode::Invalid, detail),
            OperateError::Forbidden(detail) => (ErrorCode::Forbidden, detail),
            OperateError::Conflict(detail) => (ErrorCode::Conflict, detail),
            OperateError::Unwritable(detail) => (ErrorCode::NotReady, detail),
            OperateError::Malformed(detail) => (ErrorCode::Malformed, detail),
        }
    }
}

/// What an order says beside its name.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reason {
    reason: Option<String>,
}

type Name = Result<Path<String>, PathRejection>;

async fn statuses(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    answer(&admin, request, |operator, _| Ok(operator.statuses())).await
}

async fn status(State(admin): State<Arc<Admin>>, path: Name, request: Request) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    answer(&admin, request, move |operator, _| operator.status(&name)).await
}

async fn history(State(admin): State<Arc<Admin>>, path: Name, request: Request) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let query = request.uri().query().unwrap_or_default();
    let first = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("from=")?.parse().ok())
        .unwrap_or(1);
    answer(&admin, request, move |operator, _| {
        operator.history(&name, first)
    })
    .await
}

async fn repair(
    State(admin): State<Arc<Admin>>,
    Extension(Actor(actor)): Extension<Actor>,
    path: Name,
    request: Request,
) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    answer(&admin, request, move |operator, body| {
        operator.repair(&name, parse::<Reason>(body)?.reason, &actor)
    })
    .await
}

async fn rollback(
    State(admin): State<Arc<Admin>>,
    Extension(Actor(actor)): Extension<Actor>,
    path: Name,
    request: Request,
) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    answer(&admin, request, move |operator, body| {
        operator.rollback(&name, &parse::<RollbackRequest>(body)?, &actor)
    })
    .await
}

async fn rollout(
    State(admin): State<Arc<Admin>>,
    Extension(Actor(actor)): Extension<Actor>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let (name, order) = path.map(|Path(names)| names).unwrap_or_default();
    let work = move |operator: &Operator, body: &[u8]| {
        let reason = || parse::<Reason>(body).map(|body| body.reason);
        match order.as_str() {
            "start" => operator.start(&name, &parse::<StartRequest>(body)?, &actor),
            "promote" => operator.promote(&name, &parse::<PromoteRequest>(body)?, &actor),
            "approve" => operator.approve(&name, reason()?, &actor),
            "pause" => operator.pause(&name, reason()?, &actor),
            "resume" => operator.resume(&name, reason()?, &actor),
            "abort" => operator.abort(&name, reason()?, &actor),
            other => Err(OperateError::Unknown(format!(
                "there is no order \"{other}\": start, approve, pause, resume, promote, abort"
            ))),
        }
    };
    answer(&admin, request, work).await
}

/// An empty body is an empty object.
fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, OperateError> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| OperateError::Malformed(format!("the body: {error}")))
}

/// Decisions are written to a disk or a bucket: off the network threads.
async fn answer(
    admin: &Arc<Admin>,
    request: Request,
    work: impl FnOnce(&Operator, &[u8]) -> Result<Value, OperateError> + Send + 'static,
) -> Response {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, axum::body::Body::empty());
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return refuse(
            &request,
            &(
                ErrorCode::BodyTooLarge,
                format!("the body may have at most {MAX_BODY} bytes"),
            ),
        );
    };
    let operator = Arc::clone(&admin.operator);
    let outcome = tokio::task::spawn_blocking(move || work(&operator, &body)).await;
    match outcome {
        Ok(Ok(document)) => {
            let context = Context::new(request.headers());
            let mut response = encoding::answer(
                request.headers(),
                "application/json",
                format!("{document}\n").into_bytes(),
            );
            context.write_headers(response.headers_mut());
            response
        }
        Ok(Err(error)) => refuse(&request, &error.into()),
        Err(_) => refuse(
            &request,
            &(
                ErrorCode::Internal,
                "the order could not be carried out".to_owned(),
            ),
        ),
    }
}
