//! The operators' listener: what changes something. Its own address, its own guard; the data plane changes nothing.

mod guard;
mod rollouts;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::to_bytes,
    extract::{Path, Request, State, rejection::PathRejection},
    middleware,
    response::Response,
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};

pub use guard::Guard;

use crate::{
    api::{
        Api,
        context::Context,
        http::{encoding, health, v2},
        oip::error_status,
        refusal::Refusal,
    },
    error::ErrorCode,
    id::ModelName,
    operate::Operator,
    registry::{Commander, ControlError, Order},
    security::tokens::Actor,
};

/// An order has a name in its path and next to nothing in its body.
const MAX_BODY: usize = 64 << 10;

/// What the handlers share.
pub struct Admin {
    pub api: Arc<Api>,
    pub commander: Commander,
    pub operator: Arc<Operator>,
    pub guard: Guard,
}

pub fn router(admin: Arc<Admin>) -> Router {
    let shared = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/v2/repository/index", post(v2::documents::index))
        .with_state(Arc::clone(&admin.api));
    Router::new()
        .route("/v2/repository/models/{name}/load", post(load))
        .route("/v2/repository/models/{name}/unload", post(unload))
        .merge(rollouts::routes())
        .with_state(Arc::clone(&admin))
        .merge(shared)
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(admin, guard::check))
}

async fn no_route(request: Request) -> Response {
    let detail = format!(
        "there is no route {} on the admin listener",
        request.uri().path()
    );
    refuse(&request, &(ErrorCode::NotFound, detail))
}

async fn wrong_method(request: Request) -> Response {
    let detail = format!(
        "{} does not answer {}",
        request.uri().path(),
        request.method()
    );
    refuse(&request, &(ErrorCode::MethodNotAllowed, detail))
}

type Name = Result<Path<String>, PathRejection>;

async fn load(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: Name,
    request: Request,
) -> Response {
    order(&admin, &actor, path, Order::Load, request).await
}

async fn unload(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: Name,
    request: Request,
) -> Response {
    order(&admin, &actor, path, Order::Unload, request).await
}

async fn order(
    admin: &Admin,
    actor: &Actor,
    path: Name,
    order: Order,
    request: Request,
) -> Response {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, axum::body::Body::empty());
    let outcome = match to_bytes(body, MAX_BODY).await {
        Ok(body) => carry_out(admin, actor, &name, order, &body).await,
        Err(_) => Err((
            ErrorCode::BodyTooLarge,
            format!("the body may have at most {MAX_BODY} bytes"),
        )),
    };
    match outcome {
        Ok(()) => {
            let context = Context::new(request.headers());
            let mut response =
                encoding::answer(request.headers(), "application/json", b"{}".to_vec());
            context.write_headers(response.headers_mut());
            response
        }
        Err(refusal) => refuse(&request, &refusal),
    }
}

async fn carry_out(
    admin: &Admin,
    actor: &Actor,
    name: &str,
    order: Order,
    body: &[u8],
) -> Result<(), Refusal> {
    check_parameters(body)?;
    let unknown = || {
        (
            ErrorCode::NotFound,
            format!("there is no model \"{name}\" in the models directory"),
        )
    };
    let model = ModelName::parse(name).ok_or_else(unknown)?;
    let outcome = admin.commander.order(model, order).await;
    tracing::warn!(target: "predictd::admin", actor = actor.0, model = %name, order = ?order, outcome = ?outcome, "an operator's order");
    outcome.map_err(|error| match error {
        ControlError::Unknown => unknown(),
        ControlError::Failed(reason) => (
            ErrorCode::Invalid,
            format!("model {name} does not answer: {reason}"),
        ),
        ControlError::Gone => (
            ErrorCode::NotReady,
            "the server is shutting down".to_owned(),
        ),
    })
}

/// A model is loaded from the models directory, and from nowhere else: neither a configuration nor files come in a request.
fn check_parameters(body: &[u8]) -> Result<(), Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let malformed = || {
        (
            ErrorCode::Malformed,
            "the body must be an object, or empty".to_owned(),
        )
    };
    let document: Value = serde_json::from_slice(body).map_err(|_| malformed())?;
    let parameters = document
        .as_object()
        .ok_or_else(malformed)?
        .get("parameters")
        .and_then(Value::as_object);
    match parameters
        .into_iter()
        .flatten()
        .find(|(name, _)| *name == "config" || name.starts_with("file:"))
    {
        Some(_) => Err((
            ErrorCode::Unsupported,
            "models and their configuration come from the models directory only".to_owned(),
        )),
        None => Ok(()),
    }
}

/// In the form and with the numbers of the protocol that the path belongs to.
fn refuse(request: &Request, (code, detail): &Refusal) -> Response {
    let status = if request.uri().path().starts_with("/admin/") {
        code.http_status()
    } else {
        error_status(*code)
    };
    let context = Context::new(request.headers());
    let mut response = encoding::answer(
        request.headers(),
        "application/json",
        json!({"error": detail}).to_string().into_bytes(),
    );
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    crate::api::http::exchange::write_error_headers(*code, response.headers_mut());
    context.write_headers(response.headers_mut());
    response
}
