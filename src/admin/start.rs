//! The answer to a dry run of a start, and the evidence in the journal entry of a real start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serde_json::Value;

use crate::{
    compat::CompatibilityReport,
    journal::entry::VersionRef,
    rollout::{evidence::Evidence, judge::GuardReport, plan::RolloutPlan},
};

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
    /// The counts of each version since the start of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Evidence>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<CandidateReport>,
    /// Whether the operator promoted a version although a rollback would not work. Absent for
    /// decisions other than a promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_way_back: Option<bool>,
}

impl DecisionEvidence {
    pub(crate) fn of_totals(totals: &Evidence) -> DecisionEvidence {
        DecisionEvidence {
            totals: Some(totals.clone()),
            ..DecisionEvidence::default()
        }
    }

    /// The member `evidence` of a journal entry.
    pub(crate) fn to_value(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}
