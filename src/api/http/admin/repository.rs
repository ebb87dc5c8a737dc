//! The model repository extension of the Open Inference Protocol: load and unload.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};

use crate::{
    actor::Actor,
    admin::repository::{RepositoryAnswer, RepositoryOrder},
    api::{
        http::admin::{
            Admin,
            answer::{document, read_body, refuse},
            name_path::{NamePath, model_name},
        },
        refusal::Refusal,
    },
    error::ErrorCode,
    id::ModelName,
    registry::{ControlError, Order},
};

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/v2/repository/models/{name}/load", post(load))
        .route("/v2/repository/models/{name}/unload", post(unload))
}

async fn load(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: NamePath,
    request: Request,
) -> Response {
    order(&admin, &actor, path, Order::Load, request).await
}

async fn unload(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    path: NamePath,
    request: Request,
) -> Response {
    order(&admin, &actor, path, Order::Unload, request).await
}

async fn order(
    admin: &Admin,
    actor: &Actor,
    path: NamePath,
    order: Order,
    request: Request,
) -> Response {
    let name = model_name(path);
    let (request, body) = read_body(request).await;
    let outcome = match body {
        Ok(body) => carry_out(admin, actor, &name, order, &body).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(()) => document(&request, &RepositoryAnswer {}),
        Err(refusal) => refuse(&request, refusal),
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
        let detail = format!("there is no model \"{name}\" in the models directory");
        Refusal::new(ErrorCode::NotFound, detail)
    };
    let model = ModelName::parse(name).ok_or_else(unknown)?;
    let outcome = admin.commander.order(model, order).await;
    tracing::warn!(
        target: "predictd::admin",
        actor = %actor,
        model = %name,
        order = ?order,
        outcome = ?outcome,
        "an operator's order"
    );
    outcome.map_err(|error| match error {
        ControlError::Unknown => unknown(),
        ControlError::Failed(reason) => Refusal::new(
            ErrorCode::Invalid,
            format!("model {name} does not answer: {reason}"),
        ),
        ControlError::Gone => Refusal::new(ErrorCode::NotReady, "the server is shutting down"),
    })
}

/// The protocol lets a client send a configuration and files. Here both come only from the models
/// directory.
fn check_parameters(body: &[u8]) -> Result<(), Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let order: RepositoryOrder = crate::document::parse(body).map_err(|error| {
        Refusal::malformed(format!("the body must be an object, or empty: {error}"))
    })?;
    let mut names = order.parameters.iter().flatten().map(|(name, _)| name);
    if names.any(|name| name == "config" || name.starts_with("file:")) {
        return Err(Refusal::new(
            ErrorCode::Unsupported,
            "models and their configuration come from the models directory only",
        ));
    }
    Ok(())
}
