//! The versions that are loaded, and the version that answers each request.

mod commander;
pub(crate) mod decision;
mod directories;
pub mod gate;
mod gate_cache;
mod ignored;
mod integrity;
pub(crate) mod loader;
pub(crate) mod package_copies;
mod reconcile;
pub(crate) mod request_samples;
mod root_fault;
pub(crate) mod route;
pub(crate) mod servable;
mod served_model;
mod snapshot;
mod source;
pub(crate) mod traffic;
pub(crate) mod trial;
pub(crate) mod version_label;
mod version_state;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

pub(crate) use commander::{Commander, ControlError, Order};
pub(crate) use gate_cache::GateCache;
pub(crate) use ignored::{IgnoredPath, IgnoredReason};
pub(crate) use served_model::{OutageCause, ServedModel};
pub(crate) use snapshot::{Snapshot, not_ready};
pub(crate) use version_state::{VersionFault, VersionState, VersionStatus};
pub(crate) use watch::{Adopter, Watch, WatchParts};

use crate::{
    id::ModelName,
    journal::entry::VersionRef,
    metrics::RequestMetrics,
    registry::{decision::ModelDecision, servable::Servable},
};

/// The current snapshot and the current decisions. A request reads the snapshot with one atomic
/// load.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// The lock is held while a snapshot is built and stored. Otherwise a snapshot from before a
    /// decision could replace one from after the decision.
    decisions: Arc<Mutex<BTreeMap<ModelName, Arc<ModelDecision>>>>,
}

impl Registry {
    /// A registry that serves a single version, for a command that answers without a server.
    pub(crate) fn of_one(servable: Arc<Servable>, unversioned: Arc<RequestMetrics>) -> Registry {
        let name = servable.id().name.clone();
        let model = ServedModel {
            stable: Some(servable),
            decided: None,
            withdrawn: BTreeSet::new(),
            trouble: None,
            notices: Vec::new(),
            previous: None,
            traffic: None,
            fallback: None,
            samples: None,
            versions: BTreeMap::new(),
            unversioned,
            pinned: None,
            unloaded: false,
        };
        let registry = Registry::default();
        registry.snapshot.store(Arc::new(Snapshot {
            models: BTreeMap::from([(name.clone(), model)]),
            default: Some(name),
            initial_loads_done: true,
            ..Snapshot::default()
        }));
        registry
    }

    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Applies a decision, starting with the next request. This loads nothing and reads no disk.
    pub(crate) fn decide(&self, name: &ModelName, decision: ModelDecision) {
        // The lock is held until the snapshot is stored: see the comment on `decisions`.
        let mut decisions = self.decisions();
        let decision = Arc::new(decision);
        decisions.insert(name.clone(), Arc::clone(&decision));
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        if let Some(model) = snapshot.models.get_mut(name) {
            model.follow(&decision);
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    pub(crate) fn decision(&self, name: &ModelName) -> Option<Arc<ModelDecision>> {
        self.decisions().get(name).cloned()
    }

    /// The stable and the previous version of every model. A restart and a rollback need them.
    pub(crate) fn stable_and_previous(&self) -> Vec<(ModelName, VersionRef)> {
        let decisions = self.decisions();
        let mut versions = Vec::new();
        for (name, decision) in &*decisions {
            let decided = decision.stable.iter().chain(&decision.previous);
            versions.extend(decided.map(|named| (name.clone(), named.clone())));
        }
        versions
    }

    /// Publishes the loaded versions together with the current decisions.
    fn publish(&self, mut snapshot: Snapshot) {
        let decisions = self.decisions();
        for (name, model) in &mut snapshot.models {
            if let Some(decision) = decisions.get(name) {
                model.follow(decision);
            }
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    fn decisions(&self) -> MutexGuard<'_, BTreeMap<ModelName, Arc<ModelDecision>>> {
        self.decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Paths in the models directory that look like models but are not served. Contains the directory
/// itself if it is probably the wrong one.
pub(crate) fn ignored(root: &Path) -> Vec<IgnoredPath> {
    root_fault::ignored_paths(root, &source::list(root))
}

/// The directories `NAME/VERSION` below `root`.
pub(crate) fn version_directories(root: &Path) -> Vec<PathBuf> {
    // A root that can't be listed gives no directories. `ignored` reports the problem.
    let models = source::list(root).unwrap_or_default().models;
    models
        .into_values()
        .flat_map(BTreeMap::into_values)
        .map(|found| found.directory)
        .collect()
}
