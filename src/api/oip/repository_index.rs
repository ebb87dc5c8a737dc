//! The model repository extension: the index of versions.

use crate::registry::{Snapshot, VersionState};

/// A version in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub name: String,
    pub version: String,
    /// The state: READY, LOADING, UNLOADING or UNAVAILABLE.
    pub state: &'static str,
    /// The reason why the version does not answer. Empty if it answers.
    pub reason: String,
}

pub(crate) fn repository_index(snapshot: &Snapshot, only_ready: bool) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (name, model) in &snapshot.models {
        for (version, status) in &model.versions {
            let (state, reason) = match &status.state {
                VersionState::Available(_) => ("READY", String::new()),
                VersionState::Loading => ("LOADING", "it is being verified and loaded".to_owned()),
                VersionState::Draining => {
                    ("UNLOADING", "it finishes the requests in flight".to_owned())
                }
                VersionState::Idle if model.unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
                VersionState::Idle => (
                    "UNAVAILABLE",
                    "not one of the versions that the configuration keeps loaded".to_owned(),
                ),
                state => ("UNAVAILABLE", state.reason().unwrap_or_default()),
            };
            if state == "READY" || !only_ready {
                entries.push(IndexEntry {
                    name: name.to_string(),
                    version: version.to_string(),
                    state,
                    reason,
                });
            }
        }
    }
    entries
}
