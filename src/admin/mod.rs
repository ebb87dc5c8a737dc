//! Documents of the admin API, typed once: the server writes them, the commands read them, and the
//! OpenAPI document and the console's TypeScript types are generated from them.
//!
//! A reader ignores members that it does not know, so that a newer server can add some. A member
//! that is missing is an error, also where its value may be null: a renamed member must not read as
//! an empty one.

pub(crate) mod history;
pub(crate) mod models;
pub(crate) mod refusal;
pub(crate) mod requests;
pub(crate) mod rollout;
pub(crate) mod start;
pub(crate) mod status;

use serde::{Deserialize, Deserializer};

/// Reads a member whose value may be null, but that must be present.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}
