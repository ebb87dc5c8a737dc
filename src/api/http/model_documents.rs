//! The documents of `GET /models...`. The handlers write these types, and the OpenAPI document
//! describes them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    admin::readiness::{LoadState, VersionRole},
    package::{
        manifest::{FileEntry, Provenance},
        serving::Risk,
    },
};

/// The served models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ModelList {
    pub models: Vec<ModelOverview>,
}

/// A model and its versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ModelOverview {
    pub name: String,
    /// Whether `POST /predict` is answered by this model.
    pub default: bool,
    /// Whether the server is ready only if this model is ready.
    pub required: bool,
    /// The version that answers requests that name no version. null if there is none.
    pub stable: Option<String>,
    /// The version that was decided to be stable, but is not loaded. null if there is none.
    pub awaited: Option<String>,
    /// The version that a rollback would restore. null if there is none.
    pub previous: Option<String>,
    /// The rollout in progress. null if there is none.
    pub rollout: Option<RolloutStep>,
    /// The version that the configuration sets. null if it sets none.
    pub pinned: Option<String>,
    /// The versions, lowest first.
    pub versions: Vec<VersionSummary>,
}

/// The current step of a rollout. Its evidence is visible only on the admin listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct RolloutStep {
    /// The name of the plan.
    pub plan: String,
    /// The index of the step, from 0.
    pub step: usize,
    pub candidates: Vec<CandidateWeight>,
    /// The share of requests that are copied to the candidates.
    pub shadow_share: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct CandidateWeight {
    pub version: String,
    /// The share of requests that this candidate answers.
    pub weight: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct VersionSummary {
    pub version: String,
    pub state: LoadState,
    /// The reason why the version does not answer. Absent if it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A problem with the files of a loaded version. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The role of an available version. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<VersionRole>,
    /// The digest of an available version. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether a manifest verifies the files. Absent unless the version is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// The time at which the package was packed. Absent for a bare graph, and unless the version is
    /// available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// A version with the documents of its package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct VersionDetails {
    #[serde(flatten)]
    pub summary: VersionSummary,
    /// The name of the model.
    pub name: String,
    /// Absent for a bare graph, and unless the version is available.
    #[serde(flatten)]
    pub package: Option<PackageDocuments>,
    /// The files, by path. Absent unless the version is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, FileEntry>>,
    /// Absent unless the version is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingSettings>,
}

/// The documents of a package, as its author wrote them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct PackageDocuments {
    /// The content of `schema.json`.
    pub schema: Value,
    /// The content of `evaluation.json`. null if there is none.
    pub evaluation: Option<Value>,
    /// The content of `README.md`. null if there is none.
    pub model_card: Option<String>,
    pub provenance: Provenance,
}

/// How the server runs a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ServingSettings {
    pub workers: usize,
    pub intra_op_threads: usize,
    /// Whether requests share runs.
    pub batched: bool,
    /// The reason why requests do not share runs, for the author of the model. null if they do.
    pub not_batched_because: Option<String>,
    pub max_batch_size: usize,
    /// null if the package declares no risk.
    pub risk: Option<Risk>,
}
