//! The body of every answer of the admin API that is not a success.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use crate::suggestion::Suggestion;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ErrorDocument {
    /// The reason, for people.
    pub error: String,
    /// What the caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
    /// The suggestion in the words of this API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
