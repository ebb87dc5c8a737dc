//! Documents of the admin API. Each is defined once: the server writes these types, the commands
//! read them, and the OpenAPI document and the console's TypeScript types are generated from them.
//!
//! A reader ignores unknown members, so that a newer server can add some. A missing member is an
//! error, even if its value may be null: otherwise a renamed member would be read as null.

pub(crate) mod drift;
pub(crate) mod error_document;
pub(crate) mod history;
pub(crate) mod readiness;
pub(crate) mod repository;
pub(crate) mod requests;
pub(crate) mod rollout;
pub(crate) mod start;
pub(crate) mod status;

use serde::{Deserialize, Deserializer};

/// Reads a member that must be present, but whose value may be null.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}
