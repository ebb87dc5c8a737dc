//! The answer to a dry run of a start, and the evidence in the journal entry of a real start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{compat::CompatibilityReport, journal::entry::VersionRef, rollout::plan::RolloutPlan};

/// The answer to `POST /admin/models/{name}/rollout/start` with `dry_run`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DryRun {
    /// Always true.
    pub dry_run: bool,
    pub would_start: PlannedRollout,
}

/// The rollout that a start would begin.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PlannedRollout {
    /// The name of the model.
    pub model: String,
    /// The stable version.
    pub from: VersionRef,
    pub to: Vec<VersionRef>,
    pub plan: RolloutPlan,
    pub candidates: Vec<CandidateReport>,
}

/// The comparison of a candidate with the stable version: whether callers can use the candidate.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CandidateReport {
    pub version: String,
    pub compatibility: CompatibilityReport,
}

/// The evidence for a decision: the member `evidence` of its journal entry. Each kind of decision
/// fills in its own members.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DecisionEvidence {
    pub totals: Option<crate::rollout::evidence::Evidence>,
    pub guards: Vec<crate::rollout::judge::GuardReport>,
    pub candidates: Vec<CandidateReport>,
    pub without_way_back: bool,
}
