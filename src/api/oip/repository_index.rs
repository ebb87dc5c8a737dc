//! The model repository extension: the index of versions.

use crate::{
    admin::repository::{IndexEntry, IndexState},
    registry::{Snapshot, VersionState},
};

pub(crate) fn repository_index(snapshot: &Snapshot, only_ready: bool) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (name, model) in &snapshot.models {
        for (version, status) in &model.versions {
            let (state, reason) = match &status.state {
                VersionState::Available(_) => (IndexState::Ready, String::new()),
                VersionState::Loading => (
                    IndexState::Loading,
                    "it is being verified and loaded".to_owned(),
                ),
                VersionState::Draining => (
                    IndexState::Unloading,
                    "it finishes the requests in flight".to_owned(),
                ),
                VersionState::Idle if model.unloaded => {
                    (IndexState::Unavailable, "unloaded".to_owned())
                }
                VersionState::Idle => (
                    IndexState::Unavailable,
                    "not one of the versions that the configuration keeps loaded".to_owned(),
                ),
                state => (IndexState::Unavailable, state.reason().unwrap_or_default()),
            };
            if state == IndexState::Ready || !only_ready {
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
