//! The body of every error answer of the admin API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use crate::suggestion::Suggestion;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ErrorDocument {
    /// The error message.
    pub error: String,
    /// The action that the caller can take. Absent if there is no suggestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
    /// The suggestion as a request of this API. Absent if there is no suggestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
