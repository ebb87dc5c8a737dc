//! `ServedModel`: the versions of a model, and the version that answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    config::FallbackConfig,
    id::Version,
    journal::entry::VersionRef,
    metrics::RequestMetrics,
    registry::{
        VersionState, VersionStatus,
        decision::ModelDecision,
        request_samples::RequestSamples,
        servable::Servable,
        traffic::{Traffic, available},
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
    pub reason: String,
    pub suggestion: Option<Suggestion>,
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
                reason: reason.to_string(),
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
        // The newest version comes first, because operators are probably waiting for it.
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

    /// The part of an outage that is caused by the journal or the configuration.
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
