//! Path parameters. A path that is not valid UTF-8 has empty parameters: no model has the empty
//! name, so that it is not found.

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

/// The target of a path that names a model.
pub(super) fn target<'a>(model: &'a str, version: Option<&'a str>) -> Target<'a> {
    Target {
        model: Some(model),
        version,
    }
}
