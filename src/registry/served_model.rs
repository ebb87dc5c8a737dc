//! `ServedModel`: the versions of a model, and the version that answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    config::FallbackConfig,
    engine::Unready,
    id::Version,
    journal::entry::VersionRef,
    metrics::RequestMetrics,
    registry::{
        VersionState, VersionStatus,
        decision::ModelDecision,
        request_samples::RequestSamples,
        servable::Servable,
        traffic::{Traffic, available},
        version_state::UnansweredVersion,
    },
    rollout::role::VersionRole,
    suggestion::Suggestion,
};

#[derive(Clone)]
pub(crate) struct ServedModel {
    /// The version that answers requests without a version. `None` if no version answers.
    pub stable: Option<Arc<Servable>>,
    /// The stable version in the journal. It may not be loaded.
    pub decided: Option<VersionRef>,
    /// Versions that a rollback or an abort took out of use.
    pub withdrawn: BTreeSet<String>,
    /// The problem that prevents decisions about the model, and what an operator can do about it.
    /// `None` without a problem.
    pub trouble: Option<(String, Option<Suggestion>)>,
    /// Notices for operators about problems that do not prevent answers to requests.
    pub notices: Vec<String>,
    /// The target of a rollback. `None` if it is not loaded.
    pub previous: Option<Arc<Servable>>,
    /// The running rollout. `None` if there is none.
    pub traffic: Option<Arc<Traffic>>,
    /// The fallback that answers if the version fails. `None` if none is configured.
    pub fallback: Option<Arc<FallbackConfig>>,
    /// Samples of requests for rehearsals of a rollback. `None` without a previous version.
    pub samples: Option<Arc<RequestSamples>>,
    pub versions: BTreeMap<Version, VersionStatus>,
    /// Metrics of requests for which no version was found.
    pub unversioned: Arc<RequestMetrics>,
    pub pinned: Option<Version>,
    /// Whether an operator unloaded the model.
    pub unloaded: bool,
}

/// Why a model does not answer, and what an operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    pub cause: OutageCause,
    pub suggestion: Option<Suggestion>,
}

/// Why a model does not answer. The texts contain their causes, because callers read them alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutageCause {
    /// The stable version is loaded, but its workers do not answer.
    #[error(transparent)]
    Engine(Unready),
    #[error("it was unloaded by an operator")]
    Unloaded,
    #[error("no version")]
    NoVersion,
    #[error("{}", join_causes(decision.as_ref(), versions))]
    NotLoaded {
        /// The part that the journal or the configuration causes. `None` if they cause nothing.
        decision: Option<UnansweredDecision>,
        /// The newest version comes first, because operators are probably waiting for it.
        versions: Vec<UnansweredVersion>,
    },
}

/// The version that should answer according to the journal or the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnansweredDecision {
    /// `trouble` is the text for operators. Its type belongs to the control plane.
    #[error("its journal does not say which version is stable: {trouble}")]
    Unknown { trouble: String },
    #[error("the stable version {0} of the journal does not answer")]
    Stable(VersionRef),
    #[error("the stable version {0} of the journal does not answer, its files are missing")]
    FilesMissing(VersionRef),
    #[error("the pinned version {0} does not answer")]
    Pinned(Version),
}

fn join_causes(decision: Option<&UnansweredDecision>, versions: &[UnansweredVersion]) -> String {
    let decision = decision.map(ToString::to_string);
    let versions = versions.iter().map(ToString::to_string);
    let causes: Vec<String> = decision.into_iter().chain(versions).collect();
    causes.join("; ")
}

impl ServedModel {
    pub(crate) fn version(&self, version: &str) -> Option<&VersionStatus> {
        self.versions
            .iter()
            .find(|(known, _)| known.as_str() == version)
            .map(|(_, status)| status)
    }

    /// Why requests without a version are not answered. `None` if they are answered.
    pub(crate) fn outage(&self, now: Instant) -> Option<Outage> {
        if let Some(stable) = &self.stable {
            // A loaded version can still fail to answer, if all its workers hang.
            return stable.batcher.unready_reason(now).map(|reason| Outage {
                cause: OutageCause::Engine(reason),
                suggestion: None,
            });
        }
        if self.unloaded {
            return Some(Outage {
                cause: OutageCause::Unloaded,
                suggestion: Some(Suggestion::LoadModel),
            });
        }
        let (decision, suggestion) = self.outage_by_decision();
        let versions = self.versions.iter().rev();
        let versions: Vec<UnansweredVersion> = versions
            .map(|(version, status)| UnansweredVersion::new(version.as_str(), &status.state))
            .collect();
        let cause = if decision.is_none() && versions.is_empty() {
            OutageCause::NoVersion
        } else {
            OutageCause::NotLoaded { decision, versions }
        };
        Some(Outage { cause, suggestion })
    }

    /// The part of an outage that is caused by the journal or the configuration.
    fn outage_by_decision(&self) -> (Option<UnansweredDecision>, Option<Suggestion>) {
        if let Some((trouble, suggestion)) = &self.trouble {
            let trouble = trouble.clone();
            let unknown = UnansweredDecision::Unknown { trouble };
            return (Some(unknown), suggestion.clone());
        }
        if let Some(decided) = &self.decided {
            let version = Version::parse(&decided.version);
            let unanswered = if version.is_some_and(|version| self.versions.contains_key(&version))
            {
                UnansweredDecision::Stable(decided.clone())
            } else {
                UnansweredDecision::FilesMissing(decided.clone())
            };
            return (Some(unanswered), Some(self.replacement()));
        }
        (self.pinned.clone().map(UnansweredDecision::Pinned), None)
    }

    /// Suggests the newest loaded version as a replacement for a stable version that is lost. A
    /// withdrawn version is never suggested.
    fn replacement(&self) -> Suggestion {
        let loaded = |status: &VersionStatus| matches!(status.state, VersionState::Available(_));
        let other =
            self.versions.iter().rev().find(|(version, status)| {
                loaded(status) && !self.withdrawn.contains(version.as_str())
            });
        match other {
            Some((version, _)) => Suggestion::RollBackToNeverStable {
                to: Some(version.to_string()),
            },
            None => Suggestion::RestoreFiles,
        }
    }

    /// Applies the parts of a decision whose versions are loaded.
    pub(crate) fn follow(&mut self, decision: &ModelDecision) {
        let find = |named: &Option<VersionRef>| {
            let named = named.as_ref().filter(|_| !self.unloaded)?;
            available(&self.versions, named).cloned()
        };
        let (decided, previous) = (find(&decision.stable), find(&decision.previous));
        // It is not an outage if a replica has not loaded the new stable version yet: the current
        // version continues to answer.
        let until_now = self
            .stable
            .take()
            .filter(|servable| !self.unloaded && self.is_loaded(servable));
        let stable = decided.or(until_now.filter(|_| decision.stable.is_some()));
        // The candidates were compared with the stable version of the journal, not with the version
        // that answers in its place.
        let compared = stable.as_ref().filter(|servable| {
            let named = decision.stable.as_ref();
            named.is_some_and(|named| named.digest == servable.digest())
        });
        self.traffic = decision
            .step
            .as_ref()
            .zip(compared)
            .map(|(step, stable)| Arc::new(Traffic::new(step, stable, &self.versions)));
        // Samples contain the columns of the version that decoded them, so a new stable version
        // starts without samples.
        self.samples = match (&self.samples, &stable) {
            (Some(samples), Some(stable)) if samples.is_of(stable) => Some(Arc::clone(samples)),
            (_, Some(stable)) if previous.is_some() => Some(Arc::new(RequestSamples::new(stable))),
            _ => None,
        };
        (self.stable, self.previous) = (stable, previous);
        self.decided.clone_from(&decision.stable);
        self.withdrawn.clone_from(&decision.withdrawn);
        self.trouble.clone_from(&decision.trouble);
        self.notices.clone_from(&decision.notices);
    }

    fn is_loaded(&self, servable: &Arc<Servable>) -> bool {
        let state = self
            .versions
            .get(&servable.id().version)
            .map(|status| &status.state);
        // If the same version was loaded again, the old servable drains.
        matches!(state, Some(VersionState::Available(loaded)) if Arc::ptr_eq(loaded, servable))
    }

    /// The stable version of the journal, if it is not loaded and another version answers in its
    /// place.
    pub(crate) fn awaited(&self) -> Option<&VersionRef> {
        let (stable, decided) = (self.stable.as_ref()?, self.decided.as_ref()?);
        // The digest is also compared: a package that was packed again may have the same version
        // number.
        (stable.id().version.as_str() != decided.version || stable.digest() != decided.digest)
            .then_some(decided)
    }

    /// The role of a loaded version: the label `role` of `predictd_model_info`.
    pub(crate) fn role(&self, servable: &Arc<Servable>) -> VersionRole {
        let is = |other: &Option<Arc<Servable>>| {
            other
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, servable))
        };
        let candidate = self.traffic.as_ref().filter(|traffic| {
            traffic
                .arms
                .iter()
                .flatten()
                .any(|arm| Arc::ptr_eq(&arm.servable, servable))
        });
        match candidate {
            // The stable version is checked first, because a version may be a candidate and the
            // previous one at the same time.
            _ if is(&self.stable) => VersionRole::Stable,
            Some(traffic) if traffic.step.shadow_share > 0.0 => VersionRole::Shadow,
            Some(_) => VersionRole::Candidate,
            None if is(&self.previous) => VersionRole::Previous,
            None => VersionRole::Idle,
        }
    }
}
