//! The rollout in progress, as a part of the status of a model.

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
    /// The operator who started the rollout.
    pub starter: Actor,
    pub candidates: Vec<CandidateStatus>,
    pub phase: RolloutPhase,
    /// The actor who paused the rollout, and the reason. null if it is not paused.
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
    /// The counts since the step began, from all replicas. null if no step is running.
    #[serde(deserialize_with = "nullable")]
    pub evidence: Option<Evidence>,
    #[serde(deserialize_with = "nullable")]
    pub verdict: Option<Verdict>,
    /// The verdict as a sentence. null if there is no verdict.
    #[serde(deserialize_with = "nullable")]
    pub text: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub guards: Option<Vec<GuardReport>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CandidateStatus {
    pub version: String,
    /// The digest: `sha256:` and 64 hex digits.
    pub digest: String,
    /// Whether the version is loaded and can answer.
    pub loaded: bool,
}

/// The current phase of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RolloutPhase {
    /// The rollout waits for the approval of a second verified operator.
    AwaitsApproval,
    Running,
    Paused,
    /// The journal is damaged, so nobody could abort the rollout. Candidates get no traffic.
    AtRest,
}
