//! The HTTP listener of the data plane: its routes, and one module per dialect.

pub(crate) mod admin;
mod body;
pub(crate) mod connections;
mod content_encoding;
mod cors;
mod dialect;
mod docs;
mod exchange;
mod invocations;
mod model_documents;
mod model_routes;
mod negotiation;
mod openapi;
mod path;
mod predict;
mod predictions;
mod probes;
mod problem;
mod response;
mod row_request;
mod row_writer;
mod schema_generator;
mod segmented_body;
mod v1;
pub mod v2;

pub(crate) use openapi::examples;

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
    api::{Api, context::Context, http::response::refuse_unrouted, refusal::Refusal},
    config::Platform,
    error::ErrorCode,
};

pub(crate) fn router(api: Arc<Api>) -> Router {
    let router = Router::new()
        .route("/", get(docs::index))
        .route("/predict", post(predict::default_model))
        .route("/models/{name}/predict", post(predict::stable_version))
        .route(
            "/models/{name}/versions/{version}/predict",
            post(predict::one_version),
        )
        .route("/models", get(model_routes::list))
        .route("/models/{name}", get(model_routes::model))
        .route(
            "/models/{name}/versions/{version}",
            get(model_routes::version),
        )
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
    // CORS is the outermost layer, so that a browser can also read the refusals of the layers
    // below.
    let cors = cors::layer(&api.config.cors_origins);
    // If the platform sets no routes, requests skip this comparison.
    let router = if api.platform == Platform::default() {
        router
    } else {
        router.layer(middleware::from_fn_with_state(api, vertex_routes))
    };
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// Handles the routes that Vertex AI sets in the environment. They take precedence over all other
/// routes.
async fn vertex_routes(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if is_route(
        &request,
        &Method::POST,
        api.platform.vertex_predict_route.as_deref(),
    ) {
        return v1::default_model(&api, request).await;
    }
    if is_route(
        &request,
        &Method::GET,
        api.platform.vertex_health_route.as_deref(),
    ) {
        return invocations::ping(State(api)).await;
    }
    next.run(request).await
}

fn is_route(request: &Request, method: &Method, route: Option<&str>) -> bool {
    request.method() == method && route == Some(request.uri().path())
}

async fn no_route(State(api): State<Arc<Api>>, request: Request) -> Response {
    let context = Context::new(request.headers());
    let detail = format!(
        "there is no route {}; / lists the routes",
        request.uri().path()
    );
    let refusal = Refusal::new(ErrorCode::NotFound, detail);
    refuse_path(&api, &request, &refusal, &context)
}

async fn wrong_method(State(api): State<Arc<Api>>, request: Request) -> Response {
    let context = Context::new(request.headers());
    let detail = format!(
        "{} does not support {}",
        request.uri().path(),
        request.method()
    );
    let refusal = Refusal::new(ErrorCode::MethodNotAllowed, detail);
    refuse_path(&api, &request, &refusal, &context)
}

/// Refuses a request in the error format of the dialect that its path belongs to.
fn refuse_path(api: &Api, request: &Request, refusal: &Refusal, context: &Context) -> Response {
    // The path selects the dialect even if the dialect has no such route, because clients can parse
    // only their own error format.
    let path = request.uri().path();
    if path == "/v2" || path.starts_with("/v2/") {
        return refuse_unrouted(api, v2::V2, refusal, context);
    }
    if path == "/v1" || path.starts_with("/v1/") {
        return refuse_unrouted(api, v1::V1, refusal, context);
    }
    if invocations::PATHS.contains(&path) {
        return refuse_unrouted(api, invocations::Invocations, refusal, context);
    }
    refuse_unrouted(api, predict::Predict, refusal, context)
}
