//! `Draining`: unloaded versions that requests still use.

use std::sync::Arc;

use crate::{
    id::{ModelName, Version},
    registry::{VersionState, servable::Servable, watch::RegistryLoop},
};

#[derive(Default)]
pub(super) struct Draining(Vec<Arc<Servable>>);

impl Draining {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, servable: Arc<Servable>) {
        self.0.push(servable);
    }

    /// Removes and returns the versions that no request uses.
    fn take_unused(&mut self) -> Vec<Arc<Servable>> {
        // The published snapshot no longer contains these versions, so their reference counts can
        // only decrease.
        let unused = |servable: &mut Arc<Servable>| {
            Arc::strong_count(servable) == 1 && servable.batcher.queue_len() == 0
        };
        self.0.extract_if(.., unused).collect()
    }
}

impl RegistryLoop {
    pub(super) fn unload(&mut self, name: &ModelName, version: &Version) {
        let Some(tracked) = self.models.version_mut(name, version) else {
            return;
        };
        if let VersionState::Available(servable) =
            std::mem::replace(&mut tracked.state, VersionState::Draining)
        {
            tracing::info!(
                model = %name,
                version = %version,
                removed = tracked.found.is_none(),
                "draining"
            );
            self.draining.add(servable);
        }
    }

    /// Frees the versions that finished draining.
    pub(super) fn release_drained(&mut self) {
        for servable in self.draining.take_unused() {
            let id = servable.id().clone();
            // The version is dropped on this thread instead of in a request, because freeing its
            // engines takes time.
            drop(servable);
            tracing::info!(model = %id.name, version = %id.version, "unloaded");
            let tracked = self.models.version_mut(&id.name, &id.version);
            // If the version was loaded again while it drained, its metrics belong to the new load.
            let loaded_again = tracked.as_ref().is_some_and(|tracked| {
                matches!(
                    tracked.state,
                    VersionState::Loading | VersionState::Available(_)
                )
            });
            if !loaded_again {
                self.parts
                    .metrics
                    .forget_version(id.name.as_str(), id.version.as_str());
            }
            if let Some(tracked) = tracked
                && matches!(tracked.state, VersionState::Draining)
            {
                tracked.state = VersionState::Idle;
            }
        }
    }
}
