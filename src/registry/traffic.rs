//! `Traffic`: the assignment of a model's requests to the stable version and the candidates of a
//! rollout.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    id::Version,
    journal::entry::VersionRef,
    metrics::ShadowMetrics,
    registry::{VersionState, VersionStatus, servable::Servable},
    rollout::{plan::RolloutPlan, split::KeyHash, tally::Tally},
    schema::binding::Binding,
};

/// The current step of a rollout, with the counts of this process.
pub(crate) struct ActiveStep {
    /// The id of the rollout, which is the salt of its assignment.
    pub salt: String,
    pub plan: RolloutPlan,
    /// The index of the step, from 0.
    pub number: usize,
    /// The sequence number of the journal entry that began the step.
    pub seq: u64,
    pub candidates: Vec<VersionRef>,
    /// The share of the units that each candidate answers, from 0 to 1.
    pub weights: Vec<f64>,
    /// The share of the requests that the candidates answer for comparison only, from 0 to 1.
    pub shadow_share: f64,
    pub tally: Tally,
    /// The metrics of the shadow copies, by candidate.
    pub shadow_metrics: Vec<ShadowMetrics>,
    /// The age of the step when this process first read it.
    pub age: Duration,
    pub learned: Instant,
}

impl ActiveStep {
    /// The seconds since the step began, on any replica.
    pub(crate) fn seconds(&self, now: Instant) -> f64 {
        (self.age + now.saturating_duration_since(self.learned)).as_secs_f64()
    }
}

/// The current step, with its candidates that are loaded.
pub(crate) struct Traffic {
    pub step: Arc<ActiveStep>,
    /// The candidates in their order. `None` for a candidate that is not loaded: the stable version
    /// answers its share.
    pub arms: Vec<Option<CandidateArm>>,
}

/// A candidate that can answer requests decoded by the stable version.
pub(crate) struct CandidateArm {
    pub servable: Arc<Servable>,
    /// Converts the columns of the stable version to those of the candidate. `None` if both are
    /// bare graphs with the same tensors.
    pub binding: Option<Binding>,
}

impl Traffic {
    pub(super) fn new(
        step: &Arc<ActiveStep>,
        stable: &Servable,
        versions: &BTreeMap<Version, VersionStatus>,
    ) -> Traffic {
        let arm = |named: &VersionRef| CandidateArm::new(stable, available(versions, named)?);
        Traffic {
            step: Arc::clone(step),
            arms: step.candidates.iter().map(arm).collect(),
        }
    }

    /// The candidate that answers a request, with its index. `None` if the stable version answers.
    pub(crate) fn assign(&self, hash: KeyHash, now: Instant) -> Option<(usize, &CandidateArm)> {
        // Arm 0 is the stable version.
        let index = hash.assign.arm(&self.step.weights).checked_sub(1)?;
        // The stable version also answers the share of a candidate whose workers hang.
        let arm = self
            .arms
            .get(index)?
            .as_ref()
            .filter(|arm| arm.servable.batcher.unready_reason(now).is_none())?;
        Some((index, arm))
    }

    /// The candidates that answer a copy of the request for comparison, with their indices.
    pub(crate) fn shadows(&self, hash: KeyHash) -> impl Iterator<Item = (usize, &CandidateArm)> {
        let chosen = hash.shadow.below(self.step.shadow_share);
        let arms = self.arms.iter().enumerate().filter(move |_| chosen);
        arms.filter_map(|(index, arm)| Some((index, arm.as_ref()?)))
    }
}

impl CandidateArm {
    /// Returns `None` if the candidate can't use the columns that the stable version decodes. A
    /// rollout never starts with such a version, but a replica may load a different stable version
    /// after the start.
    pub(crate) fn new(stable: &Servable, candidate: &Arc<Servable>) -> Option<CandidateArm> {
        let binding = match (stable.package(), candidate.package()) {
            (Some(old), Some(new)) => Some(Binding::new(&old.parts.input, &new.parts.input).ok()?),
            // Without schemas it is not known how to convert the tensors.
            (None, None) if stable.graph == candidate.graph => None,
            _ => return None,
        };
        Some(CandidateArm {
            servable: Arc::clone(candidate),
            binding,
        })
    }
}

/// The loaded version with this number and this digest.
pub(crate) fn available<'a>(
    versions: &'a BTreeMap<Version, VersionStatus>,
    named: &VersionRef,
) -> Option<&'a Arc<Servable>> {
    match &versions.get(&Version::parse(&named.version)?)?.state {
        // A different package with the same number is not the version in the decision.
        VersionState::Available(servable) if servable.digest() == named.digest => Some(servable),
        _ => None,
    }
}
