//! `NamePath`: the model name in the path of a request.

use axum::extract::{Path, rejection::PathRejection};

/// The model name in a path. It is an error if the path is not valid UTF-8.
pub(super) type NamePath = Result<Path<String>, PathRejection>;

/// The name of the model. It is empty if the path is not valid UTF-8; no model has this name.
pub(super) fn model_name(path: NamePath) -> String {
    path.map(|Path(name)| name).unwrap_or_default()
}
