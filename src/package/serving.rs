//! `Serving`: `serving.json`, how a version wants to be served.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serving {
    pub batching: ServingBatching,
    /// What a wrong answer costs; a rollout's plan follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// The answer, field by field, where the model can't give one; a configuration says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServingBatching {
    /// Rows that one run takes at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<usize>,
    /// Whether a row's answer is the same whatever rows share its run; unset: the golden examples decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub independent_rows: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Low,
    Medium,
    High,
}
