//! `GET /livez` and `GET /readyz?verbose`: whether the server is alive, and every model with its
//! versions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{admin::nullable, suggestion::Suggestion};
pub(crate) use crate::{load_state::LoadState, rollout::role::VersionRole};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Liveness {
    /// Whether the server is alive. If it is not, it must be restarted.
    pub live: bool,
    /// The reason why the server is not alive. Absent if it is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Readiness {
    /// Whether every required model answers and the server is not shutting down.
    pub ready: bool,
    /// The models that are not ready. Absent if the server is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<NotReady>,
    /// All models. Present with `?verbose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelReadiness>>,
    /// Directories that look like a model or a version but are not served. Present with `?verbose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<Vec<IgnoredDirectory>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NotReady {
    /// The name of the model. Empty for a reason that concerns the whole server.
    pub model: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelReadiness {
    pub name: String,
    /// Whether the server is ready only if this model is ready.
    pub required: bool,
    /// Whether requests that name no version are answered.
    pub ready: bool,
    #[serde(deserialize_with = "nullable")]
    pub reason: Option<String>,
    /// The action that an operator can take. null if there is no suggestion.
    #[serde(deserialize_with = "nullable")]
    pub suggestion: Option<Suggestion>,
    /// The version that answers requests that name no version. null if there is none.
    #[serde(deserialize_with = "nullable")]
    pub stable: Option<String>,
    /// Problems that an operator must know about although requests are answered.
    pub notices: Vec<String>,
    /// The versions, lowest first.
    pub versions: Vec<VersionReadiness>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct VersionReadiness {
    pub version: String,
    pub state: LoadState,
    /// The role of an available version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<VersionRole>,
    /// The reason why the version does not answer. Absent if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A problem with the files of a loaded version. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct IgnoredDirectory {
    pub path: String,
    /// A short code for the reason.
    pub reason: String,
    /// The consequence for the directory, as a sentence.
    pub outcome: String,
    pub detail: String,
}
