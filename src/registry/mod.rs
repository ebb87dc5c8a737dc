//! Which versions are loaded, and which of them answers.

mod commander;
pub mod gate;
mod gate_cache;
mod ignored;
mod integrity;
pub mod loader;
pub mod package_copies;
mod reconcile;
pub mod request_samples;
pub mod route;
pub mod servable;
mod source;
mod tracked;
pub mod traffic;
pub mod trial;
pub mod version_label;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwap;

pub use commander::{Commander, ControlError, Order};
pub use gate_cache::GateCache;
pub use ignored::{IgnoredPath, IgnoredReason};
pub use watch::{Adopter, Watch, WatchParts};

use crate::{
    config::FallbackConfig,
    id::{ModelName, Version},
    journal::entry::VersionRef,
    metrics::RequestMetrics,
    package::PackageError,
    registry::{
        request_samples::RequestSamples,
        servable::Servable,
        traffic::{ModelDecision, Traffic},
    },
    suggestion::Suggestion,
};

/// What is served at one moment; replaced whole, never changed.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub models: BTreeMap<ModelName, Model>,
    /// Models without which the server is not ready.
    pub required: BTreeSet<ModelName>,
    /// There never was any.
    pub none_required: bool,
    /// The configuration names the required models.
    pub named: bool,
    /// The model of `POST /predict`.
    pub default: Option<ModelName>,
    /// The first look at the directory and all loads that followed from it are done.
    pub settled: bool,
    /// What was meant as a model and is not served.
    pub ignored: Arc<[IgnoredPath]>,
}

#[derive(Clone)]
pub struct Model {
    /// What answers requests without a version.
    pub stable: Option<Arc<Servable>>,
    /// The version that was decided on, loaded or not.
    pub decided: Option<VersionRef>,
    /// Versions that were left by a rollback or an abort.
    pub left: BTreeSet<String>,
    /// Why no decision about it is possible, and what an operator can do about that.
    pub trouble: Option<(String, Option<Suggestion>)>,
    /// What an operator must know of its journal although requests are answered.
    pub notices: Vec<String>,
    /// The loaded version that a rollback leads to.
    pub previous: Option<Arc<Servable>>,
    /// A rollout under way.
    pub traffic: Option<Arc<Traffic>>,
    /// What answers where a version can't.
    pub fallback: Option<Arc<FallbackConfig>>,
    /// Requests to try the way back on; `None` where there is none.
    pub samples: Option<Arc<RequestSamples>>,
    pub versions: BTreeMap<Version, VersionStatus>,
    /// Handles for requests that find no version.
    pub unversioned: Arc<RequestMetrics>,
    pub pinned: Option<Version>,
    /// An operator unloaded it.
    pub unloaded: bool,
}

#[derive(Clone)]
pub struct VersionStatus {
    pub state: VersionState,
    /// Something about the directory of a loaded version that an operator must know.
    pub warning: Option<String>,
}

/// The life of a version.
#[derive(Clone)]
pub enum VersionState {
    /// Files are still to come.
    Incomplete {
        missing: String,
    },
    Loading,
    Available(Arc<Servable>),
    /// Unloaded; requests that hold it are still answered.
    Draining,
    /// It failed the gate and never answers.
    Refused(PackageError),
    /// On disk, but not among the versions that are kept loaded.
    Idle,
}

impl VersionState {
    pub fn name(&self) -> &'static str {
        match self {
            VersionState::Incomplete { .. } => "incomplete",
            VersionState::Loading => "loading",
            VersionState::Available(_) => "available",
            VersionState::Draining => "draining",
            VersionState::Refused(_) => "refused",
            VersionState::Idle => "idle",
        }
    }

    /// Why this version does not answer.
    pub fn reason(&self) -> Option<String> {
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

impl Model {
    pub fn version(&self, version: &str) -> Option<&VersionStatus> {
        self.versions
            .iter()
            .find(|(known, _)| known.as_str() == version)
            .map(|(_, status)| status)
    }

    /// Why requests without a version are not answered; `None` while they are.
    pub fn outage(&self, now: Instant) -> Option<Outage> {
        if let Some(stable) = &self.stable {
            return stable.batcher.unready_reason(now).map(|reason| Outage {
                reason,
                suggestion: None,
            });
        }
        if self.unloaded {
            return Some(Outage {
                reason: "it was unloaded by an operator".to_owned(),
                suggestion: Some(Suggestion::LoadModel),
            });
        }
        let (first, suggestion) = self.outage_by_decision();
        let states = self.versions.iter().rev().map(|(version, status)| {
            let state = status.state.name();
            match status.state.reason() {
                Some(reason) => format!("{version} is {state}: {reason}"),
                None => format!("{version} is {state}"),
            }
        });
        let reasons: Vec<String> = first.into_iter().chain(states).collect();
        let reason = if reasons.is_empty() {
            "no version".to_owned()
        } else {
            reasons.join("; ")
        };
        Some(Outage { reason, suggestion })
    }

    /// The part of an outage that follows from the journal or the configuration.
    fn outage_by_decision(&self) -> (Option<String>, Option<Suggestion>) {
        if let Some((trouble, suggestion)) = &self.trouble {
            let reason = format!("its journal does not say which version is stable: {trouble}");
            return (Some(reason), suggestion.clone());
        }
        if let Some(decided) = &self.decided {
            let version = Version::parse(&decided.version);
            let gone = if version.is_some_and(|version| self.versions.contains_key(&version)) {
                ""
            } else {
                ", its files are missing"
            };
            let reason =
                format!("the stable version {decided} of the journal does not answer{gone}");
            return (Some(reason), Some(self.replacement()));
        }
        let pinned = self.pinned.as_ref();
        let reason = pinned.map(|pinned| format!("the pinned version {pinned} does not answer"));
        (reason, None)
    }

    /// The loaded version that can replace a stable one that is lost. A version that was left by a rollback is not one.
    fn replacement(&self) -> Suggestion {
        let available = |status: &VersionStatus| matches!(status.state, VersionState::Available(_));
        let other =
            self.versions.iter().rev().find(|(version, status)| {
                available(status) && !self.left.contains(version.as_str())
            });
        match other {
            Some((version, _)) => Suggestion::RollBackToNeverStable {
                to: Some(version.to_string()),
            },
            None => Suggestion::RestoreFiles,
        }
    }
}

/// Why a model does not answer, and what an operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    pub reason: String,
    pub suggestion: Option<Suggestion>,
}

/// The readers' side: one atomic load per request.
#[derive(Clone, Default)]
pub struct Registry {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Held while a snapshot is made, so that none undoes a decision.
    decisions: Arc<Mutex<BTreeMap<ModelName, Arc<ModelDecision>>>>,
}

impl Registry {
    /// A registry that serves one version and nothing else, for a command that answers without a server.
    pub fn of_one(servable: Arc<Servable>, unversioned: Arc<RequestMetrics>) -> Registry {
        let name = servable.id().name.clone();
        let model = Model {
            stable: Some(servable),
            decided: None,
            left: BTreeSet::new(),
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
            settled: true,
            ..Snapshot::default()
        }));
        registry
    }

    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Lets a decision take effect for the next request: nothing is loaded and no disk is asked.
    pub fn decide(&self, name: &ModelName, decision: ModelDecision) {
        let mut decisions = self.decisions();
        let decision = Arc::new(decision);
        decisions.insert(name.clone(), Arc::clone(&decision));
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        if let Some(model) = snapshot.models.get_mut(name) {
            model.follow(&decision);
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    pub fn decision(&self, name: &ModelName) -> Option<Arc<ModelDecision>> {
        self.decisions().get(name).cloned()
    }

    /// What answers, and what a rollback leads to, of every model.
    pub fn ways(&self) -> Vec<(ModelName, VersionRef)> {
        let decisions = self.decisions();
        let named =
            |(name, decision): (&ModelName, &Arc<ModelDecision>)| -> Vec<(ModelName, VersionRef)> {
                decision
                    .stable
                    .iter()
                    .chain(&decision.previous)
                    .map(|named| (name.clone(), named.clone()))
                    .collect()
            };
        decisions.iter().flat_map(named).collect()
    }

    /// Publishes what is loaded, under what is decided at this moment.
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

/// What lies in the models directory, was meant as a model and is not taken; the directory itself where it is the wrong one.
pub fn ignored(root: &Path) -> Vec<IgnoredPath> {
    ignored::of(root, &source::list(root))
}

/// Directories below `root` whose names are a model's and a version's.
pub fn version_directories(root: &Path) -> Vec<PathBuf> {
    let models = source::list(root).unwrap_or_default().models;
    models
        .into_values()
        .flat_map(BTreeMap::into_values)
        .map(|found| found.directory)
        .collect()
}

/// What stands between the server and being ready: (model, reason). Empty: ready.
pub fn not_ready(snapshot: &Snapshot, now: Instant) -> Vec<(String, String)> {
    let mut reasons = Vec::new();
    // Models that were named are waited for, others are not.
    if !snapshot.settled && !snapshot.named {
        reasons.push((String::new(), "models are being loaded".to_owned()));
    }
    if snapshot.required.is_empty() && (snapshot.none_required || !snapshot.settled) {
        reasons.push((String::new(), "there is no model".to_owned()));
    }
    for name in &snapshot.required {
        match snapshot.models.get(name) {
            None => reasons.push((
                name.to_string(),
                "no such model in the models directory".to_owned(),
            )),
            Some(model) => reasons.extend(
                model
                    .outage(now)
                    .map(|outage| (name.to_string(), outage.reason)),
            ),
        }
    }
    reasons
}
