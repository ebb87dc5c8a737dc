//! HTTP: every path in one table.

pub mod admin;
mod body;
mod cors;
mod docs;
mod encode;
mod encoding;
mod exchange;
mod invocations;
mod models;
mod negotiation;
mod openapi;
mod predict;
mod probes;
mod problem;
mod rows;
pub mod serve;
mod v1;
pub mod v2;

pub use openapi::examples;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};

use http::Method;

use crate::{
    api::{Api, context::Context, http::exchange::refuse_unrouted},
    config::Platform,
    error::ErrorCode,
};

pub fn router(api: Arc<Api>) -> Router {
    let router = Router::new()
        .route("/", get(docs::index))
        .route("/predict", post(predict::default_model))
        .route("/models/{name}/predict", post(predict::stable_version))
        .route(
            "/models/{name}/versions/{version}/predict",
            post(predict::one_version),
        )
        .route("/models", get(models::list))
        .route("/models/{name}", get(models::model))
        .route("/models/{name}/versions/{version}", get(models::version))
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .route("/healthz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(docs::page))
        .route("/docs/{file}", get(docs::asset))
        .merge(v2::routes())
        .merge(v1::routes())
        .merge(invocations::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&api));
    let cors = cors::layer(&api.config.cors_origins);
    let router = if api.platform == Platform::default() {
        router
    } else {
        router.layer(middleware::from_fn_with_state(api, vertex))
    };
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// The routes that Vertex AI names in the environment, whatever else they may be routes of.
async fn vertex(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if asks_for(
        &request,
        &Method::POST,
        api.platform.vertex_predict_route.as_deref(),
    ) {
        return v1::default_model(&api, request).await;
    }
    if asks_for(
        &request,
        &Method::GET,
        api.platform.vertex_health_route.as_deref(),
    ) {
        return invocations::ping(State(api)).await;
    }
    next.run(request).await
}

fn asks_for(request: &Request, method: &Method, route: Option<&str>) -> bool {
    request.method() == method && route == Some(request.uri().path())
}

async fn no_route(State(api): State<Arc<Api>>, request: Request) -> Response {
    let context = Context::new(request.headers());
    let detail = format!(
        "there is no route {}; / lists what there is",
        request.uri().path()
    );
    refuse_path(&api, &request, ErrorCode::NotFound, &detail, &context)
}

async fn wrong_method(State(api): State<Arc<Api>>, request: Request) -> Response {
    let context = Context::new(request.headers());
    let detail = format!(
        "{} does not answer {}",
        request.uri().path(),
        request.method()
    );
    refuse_path(
        &api,
        &request,
        ErrorCode::MethodNotAllowed,
        &detail,
        &context,
    )
}

/// In the form of the dialect that the path belongs to.
fn refuse_path(
    api: &Api,
    request: &Request,
    code: ErrorCode,
    detail: &str,
    context: &Context,
) -> Response {
    let path = request.uri().path();
    if path == "/v2" || path.starts_with("/v2/") {
        return refuse_unrouted(api, v2::V2, code, detail, context);
    }
    if path == "/v1" || path.starts_with("/v1/") {
        return refuse_unrouted(api, v1::V1, code, detail, context);
    }
    if invocations::PATHS.contains(&path) {
        return refuse_unrouted(api, invocations::Invocations, code, detail, context);
    }
    refuse_unrouted(api, predict::Predict, code, detail, context)
}
