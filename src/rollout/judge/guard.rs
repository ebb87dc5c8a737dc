//! `GuardMetric`: a metric in which a candidate must not be worse.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rollout::plan::{PlanStep, RolloutPlan};

/// A metric in which a candidate must not be worse than the stable version, or must stay within a
/// limit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GuardMetric {
    /// The share of units that were not answered.
    Errors,
    /// The share of units with NaN or infinity in the answer.
    Nan,
    /// The share of engine runs that failed.
    Runs,
    /// The share of slow engine runs.
    EngineTime,
    /// The share of expensive engine runs.
    Cost,
    /// The share of pairs of answers that differ.
    Disagreement,
    /// The difference in the share of a predicted class, or of a bin of numbers.
    Distribution,
    /// The share of units of a window that were not answered, compared with a fixed ceiling.
    ErrorCeiling,
    /// The 99th percentile of the time from the request to the answer, compared with a fixed
    /// ceiling.
    P99Ceiling,
}

/// The result of one guard for one candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuardReport {
    /// The metric that the guard compares.
    pub guard: GuardMetric,
    /// The version of the candidate.
    pub candidate: String,
    /// The kind of unit: `keys`, `requests`, `runs` or `pairs`.
    pub unit: Cow<'static, str>,
    /// The number of the candidate's units.
    pub count: u64,
    /// The share of these units that counts against the candidate, from 0 to 1.
    pub share: f64,
    /// The number of units of the stable version. `null` for a budget or a ceiling.
    pub stable_count: Option<u64>,
    pub(crate) stable_share: Option<f64>,
    /// The margin above the stable version's share. For other guards, the budget or the ceiling.
    pub margin: f64,
    /// The e-value of the claim that the candidate is worse by more than the margin. The claim
    /// counts as shown at `limit`.
    pub e_value: f64,
    /// The e-value at which the candidate counts as worse.
    pub limit: f64,
    /// The e-value of the claim that the candidate is not worse. The claim counts as shown at
    /// `limit_fine`.
    pub e_value_fine: f64,
    pub(crate) limit_fine: f64,
    /// The class of predictions whose share differs most. Absent for guards that do not compare
    /// predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The result that the evidence supports.
    #[serde(flatten)]
    pub state: GuardState,
}

/// The result that the evidence supports, for one guard of one candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum GuardState {
    /// The candidate is shown not to be worse.
    Clear,
    /// Nothing is shown yet.
    Open,
    /// The candidate is shown to be worse.
    Violated,
    /// No unit exists that could be judged.
    NoData,
    /// The guard is not judged, for this reason. It never delays a step.
    NotJudged(Cow<'static, str>),
}

impl GuardMetric {
    pub(crate) const ALL: [GuardMetric; 9] = [
        GuardMetric::Errors,
        GuardMetric::Nan,
        GuardMetric::Runs,
        GuardMetric::EngineTime,
        GuardMetric::Cost,
        GuardMetric::Disagreement,
        GuardMetric::Distribution,
        GuardMetric::ErrorCeiling,
        GuardMetric::P99Ceiling,
    ];

    /// The name in plans, documents and metrics.
    pub fn name(self) -> &'static str {
        match self {
            GuardMetric::Errors => "errors",
            GuardMetric::Nan => "nan",
            GuardMetric::Runs => "runs",
            GuardMetric::EngineTime => "engine_time",
            GuardMetric::Cost => "cost",
            GuardMetric::Disagreement => "disagreement",
            GuardMetric::Distribution => "distribution",
            GuardMetric::ErrorCeiling => "error_ceiling",
            GuardMetric::P99Ceiling => "p99_ceiling",
        }
    }

    /// Whether the guard compares predictions. A better candidate may predict differently.
    pub(super) fn is_of_predictions(self) -> bool {
        matches!(self, GuardMetric::Disagreement | GuardMetric::Distribution)
    }

    /// Whether the guard compares engine runs.
    pub(super) fn is_of_runs(self) -> bool {
        matches!(
            self,
            GuardMetric::Runs | GuardMetric::EngineTime | GuardMetric::Cost
        )
    }

    /// Whether the plan contains the guard.
    pub(super) fn is_in(self, plan: &RolloutPlan) -> bool {
        match self {
            GuardMetric::Disagreement => plan.guards.disagreement_budget.is_some(),
            GuardMetric::Distribution => plan.guards.distribution_budget.is_some(),
            GuardMetric::P99Ceiling => plan.guards.p99_ceiling_ms.is_some(),
            // The other guards have defaults and can't be disabled.
            _ => true,
        }
    }

    /// Whether the guard can decide in this step.
    pub(super) fn decides_in(self, plan: &RolloutPlan, step: &PlanStep) -> bool {
        let has_data = match self {
            GuardMetric::ErrorCeiling => true,
            // No caller waits for a shadow copy.
            GuardMetric::P99Ceiling => !matches!(step, PlanStep::Shadow { .. }),
            // A comparison needs units that the stable version answers at the same time.
            _ => step.concurrent(),
        };
        has_data && self.is_in(plan)
    }
}
