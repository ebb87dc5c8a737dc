//! `Snapshot`: the models and versions that the server serves at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    id::ModelName,
    registry::{IgnoredPath, ServedModel},
};

/// The served models. A change replaces the whole snapshot, so that a request sees a consistent
/// state.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub models: BTreeMap<ModelName, ServedModel>,
    /// Models that must answer for the server to be ready. An unloaded model is not included.
    pub required: BTreeSet<ModelName>,
    /// Whether no model was ever required, because the models directory is empty.
    pub none_required: bool,
    /// Whether the configuration lists the required models.
    pub required_by_config: bool,
    /// The model of `POST /predict`. `None` if there is no default.
    pub default: Option<ModelName>,
    /// Whether the first scan of the models directory, and all loads that it started, have
    /// finished.
    pub initial_loads_done: bool,
    /// Paths that look like models but are not served.
    pub ignored: Arc<[IgnoredPath]>,
}

/// Why the server is not ready: pairs of a model and a reason. The model is empty for a reason that
/// concerns no single model. An empty list means that the server is ready.
pub(crate) fn not_ready(snapshot: &Snapshot, now: Instant) -> Vec<(String, String)> {
    let mut reasons = Vec::new();
    // Until the first scan it is not known which models exist.
    let loading = !snapshot.initial_loads_done;
    // If the configuration lists the required models, the server need not wait for other models.
    if loading && !snapshot.required_by_config {
        reasons.push((String::new(), "models are being loaded".to_owned()));
    }
    if snapshot.required.is_empty() && (snapshot.none_required || loading) {
        reasons.push((String::new(), "there is no model".to_owned()));
    }
    for name in &snapshot.required {
        let reason = match snapshot.models.get(name) {
            None => Some("no such model in the models directory".to_owned()),
            Some(model) => model.outage(now).map(|outage| outage.cause.to_string()),
        };
        reasons.extend(reason.map(|reason| (name.to_string(), reason)));
    }
    reasons
}
