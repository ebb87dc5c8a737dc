//! `judge`: what follows from the evidence of a step. One pure function of totals; it may be asked as often as one likes.

use serde::{Deserialize, Serialize};

use crate::rollout::{evidence::Evidence, plan::Plan};

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub plan: &'a Plan,
    /// From 0.
    pub step: usize,
    pub stable: &'a str,
    pub candidates: &'a [String],
    /// Since the step began.
    pub evidence: &'a Evidence,
    /// Since the step began, without pauses.
    pub step_seconds: f64,
    pub rollout_seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Hold,
    /// To the next step; after the last one: promote.
    Advance,
    Abort,
    /// A person decides.
    Inconclusive,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// The guard that decided, and the candidate that it caught.
    pub guard: Option<Guard>,
    pub candidate: Option<String>,
    /// For a person.
    pub text: String,
    pub guards: Vec<GuardReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    Errors,
    Nan,
    Runs,
    EngineTime,
    Cost,
    Disagreement,
    Distribution,
    ErrorCeiling,
    P99Ceiling,
}

/// What one guard saw of one candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuardReport {
    pub guard: Guard,
    pub candidate: String,
    /// `keys`, `requests`, `runs` or `pairs`.
    pub unit: &'static str,
    /// Units of the candidate, and the share of them that counts against it.
    pub count: u64,
    pub share: f64,
    /// Likewise of stable; `None` for a budget or a ceiling.
    pub stable_count: Option<u64>,
    pub stable_share: Option<f64>,
    /// The margin above stable's share, or the budget, or the ceiling.
    pub margin: f64,
    /// Evidence that the candidate is worse by more than the margin; at `limit` it counts as shown.
    pub e_value: f64,
    pub limit: f64,
    /// Evidence that it is not, and its limit.
    pub e_value_fine: f64,
    pub limit_fine: f64,
    pub state: GuardState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum GuardState {
    /// Shown not to be worse.
    Clear,
    /// Neither is shown yet.
    Open,
    /// Shown to be worse.
    Violated,
    NoData,
    /// And why; it holds no step back.
    NotJudged(&'static str),
}

/// What follows from the evidence.
pub fn judge(case: &Case<'_>) -> Judgement {
    let units = case.evidence.arms.values().map(|arm| arm.units).sum::<u64>();
    let text = format!("holds at step {}: {units} {}", case.step + 1, case.plan.key.units());
    Judgement { verdict: Verdict::Hold, guard: None, candidate: None, text, guards: Vec::new() }
}
