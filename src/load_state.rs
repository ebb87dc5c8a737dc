//! `LoadState`: the state of a version on this server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LoadState {
    /// Files of the version are missing.
    Incomplete,
    /// The version is being verified and loaded.
    Loading,
    /// The version is loaded and can answer.
    Available,
    /// The version was unloaded. Requests that use it are still answered.
    Draining,
    /// The version failed a check and never answers.
    Refused,
    /// The version is on disk, but not among the versions that are kept loaded.
    Idle,
}

impl LoadState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LoadState::Incomplete => "incomplete",
            LoadState::Loading => "loading",
            LoadState::Available => "available",
            LoadState::Draining => "draining",
            LoadState::Refused => "refused",
            LoadState::Idle => "idle",
        }
    }
}
