//! The admin listener. Only this listener changes what the server does. It has its own address and
//! authentication.

mod answer;
mod authentication;
mod decisions;
mod hint;
mod name_path;
mod openapi;
mod repository;

use std::sync::Arc;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};

pub(crate) use authentication::Authentication;

use crate::{
    api::{
        Api,
        http::{admin::answer::refuse, probes, v2},
        refusal::Refusal,
    },
    error::ErrorCode,
    operate::Operator,
    registry::Commander,
};

/// The state that the handlers share.
pub(crate) struct Admin {
    pub api: Arc<Api>,
    pub commander: Commander,
    pub operator: Arc<Operator>,
    pub authentication: Authentication,
}

pub(crate) fn router(admin: Arc<Admin>) -> Router {
    let shared = Router::new()
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .route("/v2/repository/index", post(v2::documents::index))
        .with_state(Arc::clone(&admin.api));
    Router::new()
        .merge(repository::routes())
        .merge(decisions::routes())
        .route("/admin/openapi.json", get(openapi::openapi))
        .with_state(Arc::clone(&admin))
        .merge(shared)
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&admin),
            authentication::authenticate,
        ))
        // Outside of the authentication, so that refusals are counted, too.
        .layer(middleware::from_fn_with_state(admin, count))
}

/// Middleware that counts each answer by its route and status.
async fn count(
    State(admin): State<Arc<Admin>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let metrics = &admin.api.metrics.server;
    metrics.count_admin_answer(route, response.status().as_u16());
    response
}

async fn no_route(request: Request) -> Response {
    let path = request.uri().path();
    let detail = format!("there is no route {path} on the admin listener");
    refuse(&request, Refusal::new(ErrorCode::NotFound, detail))
}

async fn wrong_method(request: Request) -> Response {
    let (path, method) = (request.uri().path(), request.method());
    let detail = format!("{path} does not support {method}");
    refuse(&request, Refusal::new(ErrorCode::MethodNotAllowed, detail))
}
