//! `VersionRole`: the part that a loaded version has in the traffic of its model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VersionRole {
    /// It answers the requests that name no version.
    Stable,
    /// A rollout sends it copies of requests.
    Shadow,
    /// A rollout sends it a share of the requests.
    Candidate,
    /// It was stable before, and a rollback would restore it.
    Previous,
    /// It answers only the requests that name it.
    Idle,
}

impl VersionRole {
    /// The name in documents, and in the label `role` of `predictd_model_info`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            VersionRole::Stable => "stable",
            VersionRole::Shadow => "shadow",
            VersionRole::Candidate => "candidate",
            VersionRole::Previous => "previous",
            VersionRole::Idle => "idle",
        }
    }
}
