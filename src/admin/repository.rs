//! `/v2/repository/...`: the model repository extension of the Open Inference Protocol.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The body of a request for the index.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct IndexRequest {
    /// Whether the index contains only versions that answer.
    #[serde(default)]
    pub ready: Option<bool>,
}

/// A version in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct IndexEntry {
    /// The name of the model.
    pub name: String,
    pub version: String,
    pub state: IndexState,
    /// The reason why the version does not answer. Empty if it answers.
    pub reason: String,
}

/// The state of a version, in the protocol's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum IndexState {
    Ready,
    Loading,
    Unloading,
    Unavailable,
}

impl IndexState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            IndexState::Ready => "READY",
            IndexState::Loading => "LOADING",
            IndexState::Unloading => "UNLOADING",
            IndexState::Unavailable => "UNAVAILABLE",
        }
    }
}

/// The body of an order to load or unload a model.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RepositoryOrder {
    /// Parameters of the protocol. A configuration (`config`) and files (`file:...`) are refused;
    /// other parameters are ignored.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
}

/// The answer to an order that was carried out. It has no members.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RepositoryAnswer {}
