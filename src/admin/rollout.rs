//! The rollout in progress, as the status of a model shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    actor::Actor,
    admin::nullable,
    rollout::{
        evidence::Evidence,
        judge::{GuardReport, Verdict},
        plan::{PlanStep, RolloutPlan},
    },
};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RolloutStatus {
    /// The id of the journal entry that started the rollout.
    pub id: String,
    pub plan: RolloutPlan,
    /// Who started it.
    pub starter: Actor,
    pub candidates: Vec<CandidateStatus>,
    pub phase: RolloutPhase,
    /// For a paused rollout: who paused it, and why.
    #[serde(deserialize_with = "nullable")]
    pub why: Option<String>,
    /// The index of the current step, from 0.
    pub step: usize,
    /// The number of steps in the plan.
    pub steps: usize,
    #[serde(deserialize_with = "nullable")]
    pub this_step: Option<PlanStep>,
    /// Seconds since the step began, without pauses.
    pub step_seconds: f64,
    /// The share of the traffic that each candidate answers, from 0 to 1, in the order of
    /// `candidates`.
    pub weights: Vec<f64>,
    /// The share of the traffic that is copied to the candidates, from 0 to 1.
    pub shadow_share: f64,
    /// What was counted since the step began, over all replicas.
    #[serde(deserialize_with = "nullable")]
    pub evidence: Option<Evidence>,
    #[serde(deserialize_with = "nullable")]
    pub verdict: Option<Verdict>,
    /// The verdict in words.
    #[serde(deserialize_with = "nullable")]
    pub text: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub guards: Option<Vec<GuardReport>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CandidateStatus {
    pub version: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// The version is loaded and can answer.
    pub loaded: bool,
}

/// The phase that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RolloutPhase {
    /// The plan requires a second verified operator.
    AwaitsApproval,
    Running,
    Paused,
    /// The journal is damaged, so that nobody could abort the rollout: candidates get no traffic.
    AtRest,
}
