//! Traffic: which versions answer a model's requests, as its journal decided and as far as they are loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    id::Version,
    journal::entry::VersionRef,
    metrics::ShadowMetrics,
    package::{PackageError, manifest},
    registry::{
        Model, VersionState, VersionStatus, request_samples::RequestSamples, servable::Servable,
    },
    rollout::{plan::RolloutPlan, split::KeyHash, tally::Tally},
    schema::binding::Binding,
    suggestion::Suggestion,
};

/// What was decided of one model.
#[derive(Clone, Default)]
pub struct ModelDecision {
    pub stable: Option<VersionRef>,
    /// Where a rollback leads.
    pub previous: Option<VersionRef>,
    /// Of every version that was ever decided on: what was decided on is the package with this digest, and no other.
    pub digests: BTreeMap<String, String>,
    /// Versions that were left by a rollback or an abort: nobody is sent there.
    pub left: BTreeSet<String>,
    pub step: Option<Arc<ActiveStep>>,
    /// Kept loaded besides: somebody is about to decide on them.
    pub wanted: Vec<Version>,
    /// Nothing may be decided, not even a first choice.
    pub trouble: Option<(String, Option<Suggestion>)>,
    /// What an operator must know although requests are answered.
    pub notices: Vec<String>,
}

impl ModelDecision {
    /// Versions that must be loaded, whatever else is kept.
    pub fn needed(&self) -> Vec<Version> {
        let candidates = self.step.iter().flat_map(|step| &step.candidates);
        let decided = self
            .stable
            .iter()
            .chain(&self.previous)
            .chain(candidates)
            .filter_map(|named| Version::parse(&named.version));
        decided.chain(self.wanted.iter().cloned()).collect()
    }
}

/// Why files with this digest are not what was decided on under the version; `digests`: of every version that ever was.
pub fn digest_conflict(
    digests: &BTreeMap<String, String>,
    version: &Version,
    digest: &str,
) -> Option<PackageError> {
    let decided = digests
        .get(version.as_str())
        .filter(|decided| *decided != digest)?;
    let detail = format!(
        "has the digest {digest}, but the journal knows this version as {decided}; a changed package needs a version of its own: `predictd pack DIR --bump`"
    );
    Some(PackageError::new("journal", manifest::FILE, detail))
}

/// The step of a rollout that runs now, and what this process counts in it.
pub struct ActiveStep {
    /// The rollout's id: the salt of its assignment.
    pub salt: String,
    pub plan: RolloutPlan,
    pub number: usize,
    /// The entry that began it.
    pub seq: u64,
    pub candidates: Vec<VersionRef>,
    /// The share of the units that each candidate answers.
    pub weights: Vec<f64>,
    /// The share of the requests that the candidates answer for comparison only.
    pub shadow_share: f64,
    pub tally: Tally,
    /// By candidate.
    pub shadow_metrics: Vec<ShadowMetrics>,
    /// How old the step was when this process learned of it.
    pub age: Duration,
    pub learned: Instant,
}

impl ActiveStep {
    /// Seconds since the step began, anywhere.
    pub fn seconds(&self, now: Instant) -> f64 {
        (self.age + now.saturating_duration_since(self.learned)).as_secs_f64()
    }
}

/// A step whose candidates are there.
pub struct Traffic {
    pub step: Arc<ActiveStep>,
    /// In the order of the candidates; `None` where one is not loaded: its share is stable's, at once.
    pub arms: Vec<Option<CandidateArm>>,
}

/// A candidate that can answer what stable decoded.
pub struct CandidateArm {
    pub servable: Arc<Servable>,
    /// From stable's columns to its own; `None`: both are bare graphs that take the same tensors.
    pub binding: Option<Binding>,
}

impl Traffic {
    fn new(
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

    /// The candidate that answers, by its place; `None`: stable does.
    ///
    /// One whose workers hang answers nobody: its share is stable's, too.
    pub fn assign(&self, hash: KeyHash, now: Instant) -> Option<(usize, &CandidateArm)> {
        let index = hash.assign.arm(&self.step.weights).checked_sub(1)?;
        let arm = self
            .arms
            .get(index)?
            .as_ref()
            .filter(|arm| arm.servable.batcher.unready_reason(now).is_none())?;
        Some((index, arm))
    }

    /// The candidates that are to answer for comparison.
    pub fn shadows(&self, hash: KeyHash) -> impl Iterator<Item = (usize, &CandidateArm)> {
        let chosen = hash.shadow.below(self.step.shadow_share);
        let arms = self.arms.iter().enumerate().filter(move |_| chosen);
        arms.filter_map(|(index, arm)| Some((index, arm.as_ref()?)))
    }
}

impl CandidateArm {
    /// `None`: it can't take what stable decodes. A rollout of such a version does not start; a file can still be lost.
    pub fn new(stable: &Servable, candidate: &Arc<Servable>) -> Option<CandidateArm> {
        let binding = match (stable.package(), candidate.package()) {
            (Some(old), Some(new)) => Some(Binding::new(&old.parts.input, &new.parts.input).ok()?),
            (None, None) if stable.graph == candidate.graph => None,
            _ => return None,
        };
        Some(CandidateArm {
            servable: Arc::clone(candidate),
            binding,
        })
    }
}

/// The loaded version that was decided on, and not another under its name.
pub fn available<'a>(
    versions: &'a BTreeMap<Version, VersionStatus>,
    named: &VersionRef,
) -> Option<&'a Arc<Servable>> {
    match &versions.get(&Version::parse(&named.version)?)?.state {
        VersionState::Available(servable) if servable.digest() == named.digest => Some(servable),
        _ => None,
    }
}

impl Model {
    /// Lets the decision take effect, as far as its versions are loaded.
    pub fn follow(&mut self, decision: &ModelDecision) {
        let find = |named: &Option<VersionRef>| {
            named
                .as_ref()
                .filter(|_| !self.unloaded)
                .and_then(|named| available(&self.versions, named))
        };
        let (decided, previous) = (
            find(&decision.stable).cloned(),
            find(&decision.previous).cloned(),
        );
        // Where what was decided elsewhere is not loaded here yet, what answered until now goes on: a replica that lags is no outage.
        let until_now = self
            .stable
            .take()
            .filter(|servable| !self.unloaded && self.is_loaded(servable));
        let stable = decided.or(until_now.filter(|_| decision.stable.is_some()));
        let is_decided = |servable: &&Arc<Servable>| {
            decision
                .stable
                .as_ref()
                .is_some_and(|named| named.digest == servable.digest())
        };
        let traffic = decision
            .step
            .as_ref()
            .zip(stable.as_ref().filter(is_decided));
        self.traffic =
            traffic.map(|(step, stable)| Arc::new(Traffic::new(step, stable, &self.versions)));
        let samples = match (&self.samples, &stable) {
            (Some(samples), Some(stable)) if samples.is_of(stable) => Some(Arc::clone(samples)),
            (_, Some(stable)) if previous.is_some() => Some(Arc::new(RequestSamples::new(stable))),
            _ => None,
        };
        (self.stable, self.previous, self.samples) = (stable, previous, samples);
        self.decided = decision.stable.clone();
        self.left.clone_from(&decision.left);
        self.trouble.clone_from(&decision.trouble);
        self.notices.clone_from(&decision.notices);
    }

    fn is_loaded(&self, servable: &Arc<Servable>) -> bool {
        let state = self
            .versions
            .get(&servable.id().version)
            .map(|status| &status.state);
        matches!(state, Some(VersionState::Available(loaded)) if Arc::ptr_eq(loaded, servable))
    }

    /// The version that was decided on, where another answers because that one is not loaded.
    pub fn awaited(&self) -> Option<&VersionRef> {
        let (stable, decided) = (self.stable.as_ref()?, self.decided.as_ref()?);
        (stable.id().version.as_str() != decided.version || stable.digest() != decided.digest)
            .then_some(decided)
    }

    /// What a loaded version is for, as `predictd_model_info` says it.
    pub fn role(&self, servable: &Arc<Servable>) -> &'static str {
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
            _ if is(&self.stable) => "stable",
            Some(traffic) if traffic.step.shadow_share > 0.0 => "shadow",
            Some(_) => "candidate",
            None if is(&self.previous) => "previous",
            None => "idle",
        }
    }
}
