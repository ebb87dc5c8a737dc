//! `GET /readyz?verbose`: every model with its versions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{admin::nullable, suggestion::Suggestion};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Readiness {
    /// Every required model answers, and the server is not shutting down.
    pub ready: bool,
    /// The models that are not ready; absent if the server is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<NotReady>,
    /// Present with `?verbose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelReadiness>>,
    /// Directories that look like a model or a version and are not served; present with `?verbose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<Vec<IgnoredDirectory>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NotReady {
    /// The name of the model; empty for a reason that concerns the whole server.
    pub model: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelReadiness {
    pub name: String,
    /// The server is not ready without this model.
    pub required: bool,
    /// Requests without a version are answered.
    pub ready: bool,
    #[serde(deserialize_with = "nullable")]
    pub reason: Option<String>,
    /// What an operator can do about the reason.
    #[serde(deserialize_with = "nullable")]
    pub suggestion: Option<Suggestion>,
    /// The version that answers requests without a version.
    #[serde(deserialize_with = "nullable")]
    pub stable: Option<String>,
    /// What an operator should know although requests are answered.
    pub notices: Vec<String>,
    /// The lowest version first.
    pub versions: Vec<VersionReadiness>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct VersionReadiness {
    pub version: String,
    /// `incomplete`, `loading`, `available`, `draining`, `refused` or `idle`.
    pub state: String,
    /// Of an available version: `stable`, `candidate`, `previous` or `loaded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Why the version does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A problem with the files of a version that is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct IgnoredDirectory {
    pub path: String,
    /// A short name of the reason.
    pub reason: String,
    /// What happens to the directory, in words.
    pub outcome: String,
    pub detail: String,
}
