//! `Serving`: `serving.json`, the author's settings for serving a version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Serving {
    pub batching: ServingBatching,
    /// The cost of a wrong answer. It chooses the default plan of a rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// The fields of the answer if the model can't give one. The configuration says when it is
    /// used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServingBatching {
    /// Maximum number of rows in one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<usize>,
    /// Whether a row's answer is independent of the other rows of its run. If it is not set, the
    /// golden examples decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub independent_rows: Option<bool>,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Risk {
    Low,
    Medium,
    High,
}
