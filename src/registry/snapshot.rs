//! `Snapshot`: what the server serves at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    id::ModelName,
    package::PackageError,
    registry::{IgnoredPath, ServedModel, servable::Servable},
};

/// A change replaces the whole snapshot, so that a request sees a consistent state.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub models: BTreeMap<ModelName, ServedModel>,
    /// Models without which the server is not ready. An unloaded model is not among them.
    pub required: BTreeSet<ModelName>,
    /// No model was ever required: the models directory is empty.
    pub none_required: bool,
    /// The configuration lists the required models.
    pub required_by_config: bool,
    /// The model of `POST /predict`.
    pub default: Option<ModelName>,
    /// The first scan of the directory and all loads that followed from it ended.
    pub initial_loads_done: bool,
    /// Paths that look like models and are not served.
    pub ignored: Arc<[IgnoredPath]>,
}

#[derive(Clone)]
pub(crate) struct VersionStatus {
    pub state: VersionState,
    /// A warning for operators about the directory of the version.
    pub warning: Option<String>,
}

#[derive(Clone)]
pub(crate) enum VersionState {
    /// Files are missing.
    Incomplete {
        missing: String,
    },
    Loading,
    Available(Arc<Servable>),
    /// Unloaded. Requests that use it are still answered.
    Draining,
    /// It failed a check and never answers.
    Refused(PackageError),
    /// On disk, but not among the versions that are kept loaded.
    Idle,
}

impl VersionState {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            VersionState::Incomplete { .. } => "incomplete",
            VersionState::Loading => "loading",
            VersionState::Available(_) => "available",
            VersionState::Draining => "draining",
            VersionState::Refused(_) => "refused",
            VersionState::Idle => "idle",
        }
    }

    /// Why the version does not answer.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            VersionState::Incomplete { missing } => Some(missing.clone()),
            VersionState::Refused(error) => Some(format!("{}: {error}", error.check)),
            VersionState::Loading
            | VersionState::Available(_)
            | VersionState::Draining
            | VersionState::Idle => None,
        }
    }
}

/// Why the server is not ready: pairs of model and reason. The model is empty for a reason that
/// belongs to no model. An empty list means that the server is ready.
pub(crate) fn not_ready(snapshot: &Snapshot, now: Instant) -> Vec<(String, String)> {
    let mut reasons = Vec::new();
    // Until the first scan nobody knows which models exist.
    let loading = !snapshot.initial_loads_done;
    // With a list of required models the server need not wait for the others.
    if loading && !snapshot.required_by_config {
        reasons.push((String::new(), "models are being loaded".to_owned()));
    }
    if snapshot.required.is_empty() && (snapshot.none_required || loading) {
        reasons.push((String::new(), "there is no model".to_owned()));
    }
    for name in &snapshot.required {
        let reason = match snapshot.models.get(name) {
            None => Some("no such model in the models directory".to_owned()),
            Some(model) => model.outage(now).map(|outage| outage.reason),
        };
        reasons.extend(reason.map(|reason| (name.to_string(), reason)));
    }
    reasons
}
