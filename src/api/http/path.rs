//! Path parameters. If a path is not valid UTF-8, its parameters are empty. No model has an empty
//! name, so the answer is that the model is not found.

use axum::extract::{Path, rejection::PathRejection};

use crate::registry::route::Target;

pub(super) type OnePart = Result<Path<String>, PathRejection>;
pub(super) type TwoParts = Result<Path<(String, String)>, PathRejection>;

pub(super) fn one(path: OnePart) -> String {
    path.map(|Path(part)| part).unwrap_or_default()
}

pub(super) fn two(path: TwoParts) -> (String, String) {
    path.map(|Path(parts)| parts).unwrap_or_default()
}

/// Creates the target for a path that names a model.
pub(super) fn target<'a>(model: &'a str, version: Option<&'a str>) -> Target<'a> {
    Target {
        model: Some(model),
        version,
    }
}
