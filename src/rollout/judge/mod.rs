//! The judge: decides about a step from its evidence. It is a pure function of totals. Any number
//! of calls is allowed without weakening its statistical promise.

mod comparison;
mod guard;
mod guard_reports;
mod measurement;
mod wording;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use guard::{GuardMetric, GuardReport, GuardState};

use crate::rollout::{
    evidence::{ArmTotals, Evidence},
    figures::duration,
    plan::{OnDisagreement, PlanStep, RolloutPlan},
};

/// The input of the judge.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The plan of the rollout.
    pub plan: &'a RolloutPlan,
    /// The index of the step, from 0.
    pub step: usize,
    /// The stable version, as a key of `evidence.arms`.
    pub stable: &'a str,
    /// The candidates, as keys of `evidence.arms`.
    pub candidates: &'a [String],
    /// The evidence since the step began.
    pub evidence: &'a Evidence,
    /// The seconds since the step began, without pauses.
    pub step_seconds: f64,
    /// The seconds since the rollout began.
    pub rollout_seconds: f64,
    /// Guards whose violation an operator accepted. Only guards of predictions can be accepted,
    /// because a better model may predict differently.
    pub accepted: &'a [GuardMetric],
}

/// The decision of the judge about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Stay in the step.
    Hold,
    /// Go to the next step. After the last step: promote the candidate.
    Advance,
    /// End the rollout. The stable version answers all requests again.
    Abort,
    /// An operator must decide.
    Inconclusive,
}

/// The result of one judgement of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The decision.
    pub verdict: Verdict,
    /// The guard that decided. `None` if no single guard did.
    pub guard: Option<GuardMetric>,
    /// The candidate that violated `guard`.
    pub candidate: Option<String>,
    /// The verdict with its reasons, for operators.
    pub text: String,
    /// The result of each guard for each candidate.
    pub guards: Vec<GuardReport>,
}

impl Judgement {
    /// A verdict that was not decided by a single guard.
    fn of(verdict: Verdict, text: String, guards: Vec<GuardReport>) -> Judgement {
        Judgement {
            verdict,
            guard: None,
            candidate: None,
            text,
            guards,
        }
    }
}

/// Judges the step. The order of the checks matters: a violation aborts the rollout even before the
/// minimum times have passed.
pub fn judge(case: &Case<'_>) -> Judgement {
    let Some(step) = case.plan.steps.get(case.step) else {
        return Judgement::of(
            Verdict::Inconclusive,
            format!("the plan has no step {}", case.step + 1),
            Vec::new(),
        );
    };
    let judged = StepCase::new(case, step);
    let guards: Vec<GuardReport> = case
        .candidates
        .iter()
        .flat_map(|candidate| judged.guard_reports(candidate))
        .collect();
    if let Some(worst) = worst(&guards) {
        let (verdict, text) = judged.violation(worst);
        return Judgement {
            verdict,
            guard: Some(worst.guard),
            candidate: Some(worst.candidate.clone()),
            text,
            guards,
        };
    }
    let waits = judged.reasons_to_wait(&guards);
    let (place, reasons) = (judged.place(), waits.join("; "));
    // This check comes after the violations and before `advance`: a rollout that exceeded its time
    // limit must not be promoted.
    if case.rollout_seconds >= case.plan.max_seconds as f64 {
        let elapsed = duration(case.rollout_seconds);
        let text = format!("inconclusive at {place} after {elapsed}: {reasons}");
        return Judgement::of(Verdict::Inconclusive, text, guards);
    }
    if waits.is_empty() {
        let text = format!(
            "passed {place} after {}: {}",
            judged.units(),
            judged.clear_rates(&guards).join(", ")
        );
        return Judgement::of(Verdict::Advance, text, guards);
    }
    if judged.cannot_collect_more() {
        let text =
            format!("inconclusive at {place}: the limit of tracked keys is reached; {reasons}");
        return Judgement::of(Verdict::Inconclusive, text, guards);
    }
    let text = format!("stays at {place} after {}: {reasons}", judged.units());
    Judgement::of(Verdict::Hold, text, guards)
}

/// The e-value at which a test counts as shown: the number of tests divided by the plan's `alpha`.
///
/// The promise covers the whole rollout. It is therefore divided evenly among all guards of all
/// steps and candidates (the union bound). Guards that only pause are included, so that the promise
/// also covers false pauses.
pub fn limit(plan: &RolloutPlan, candidates: usize) -> f64 {
    let tests: usize = plan
        .steps
        .iter()
        .map(|step| {
            GuardMetric::ALL
                .iter()
                // A guard that can't decide in a step uses no part of the promise.
                .filter(|guard| guard.decides_in(plan, step))
                .count()
        })
        .sum();
    (tests * candidates.max(1)).max(1) as f64 / plan.alpha
}

/// A case, and the values that all of its guards share.
struct StepCase<'a> {
    case: &'a Case<'a>,
    step: &'a PlanStep,
    /// The e-value at which a candidate counts as worse.
    limit: f64,
    /// The e-value at which a candidate counts as not worse.
    limit_fine: f64,
    /// The totals for an arm that has none.
    empty: ArmTotals,
}

impl<'a> StepCase<'a> {
    fn new(case: &'a Case<'a>, step: &'a PlanStep) -> StepCase<'a> {
        StepCase {
            case,
            step,
            limit: limit(case.plan, case.candidates.len()),
            // This limit is not divided among the tests. A step advances only if every guard is
            // shown to be fine, so a false `advance` needs a false result of the one guard that
            // should have failed.
            limit_fine: 1.0 / case.plan.alpha,
            empty: ArmTotals::default(),
        }
    }

    fn arm(&self, version: &str) -> &ArmTotals {
        self.case.evidence.arms.get(version).unwrap_or(&self.empty)
    }

    fn unit(&self) -> &'static str {
        self.case.plan.key.units()
    }

    /// The verdict about a violated guard, with its message.
    fn violation(&self, worst: &GuardReport) -> (Verdict, String) {
        let pauses = worst.guard.is_of_predictions()
            && self.case.plan.guards.on_disagreement == OnDisagreement::Pause;
        let (verdict, word) = if pauses {
            (Verdict::Inconclusive, "inconclusive")
        } else {
            (Verdict::Abort, "aborted")
        };
        let text = format!(
            "{word} at {} after {}: {}",
            self.place(),
            self.count(worst),
            self.evidence(worst)
        );
        (verdict, text)
    }

    /// Whether a candidate reached the limit of tracked keys, so that waiting would change nothing.
    /// The decision still waits for the minimum time of the step.
    fn cannot_collect_more(&self) -> bool {
        let full = self
            .case
            .candidates
            .iter()
            .any(|candidate| self.arm(candidate).full);
        full && !self.case.plan.hold(self.case.step)
            && self.case.step_seconds >= self.step.min_seconds() as f64
    }

    /// Why the step must continue. Empty if the step is complete.
    fn reasons_to_wait(&self, guards: &[GuardReport]) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.case.plan.hold(self.case.step) {
            reasons.push("a person decides".to_owned());
        }
        let least = self.step.min_seconds() as f64;
        if self.case.step_seconds < least {
            let (elapsed, least) = (duration(self.case.step_seconds), duration(least));
            reasons.push(format!("{elapsed} of {least}"));
        }
        let candidates = self.case.candidates.iter().map(String::as_str);
        let stable = self.step.concurrent().then_some(self.case.stable);
        reasons.extend(
            candidates
                .chain(stable)
                .filter_map(|version| self.missing_units(version)),
        );
        for report in guards {
            if self.holds_back(report) {
                reasons.push(format!(
                    "not yet shown to be as good: {}",
                    self.evidence_of_safety(report)
                ));
            }
        }
        reasons
    }

    fn missing_units(&self, version: &str) -> Option<String> {
        let (units, least) = (self.arm(version).units, self.step.min_requests());
        if units == 0 {
            Some(format!("no traffic for {version}"))
        } else if units < least {
            Some(format!("{units} of {least} {} of {version}", self.unit()))
        } else {
            None
        }
    }

    /// Whether an open guard keeps the step from advancing.
    fn holds_back(&self, report: &GuardReport) -> bool {
        let undecided = matches!(report.state, GuardState::Open | GuardState::NoData);
        match report.guard {
            // A ceiling only stops clear failures. Missing evidence about it is no reason to wait,
            // unless a comparison with the stable version is impossible.
            GuardMetric::P99Ceiling => false,
            GuardMetric::ErrorCeiling => undecided && !self.step.concurrent(),
            _ => undecided,
        }
    }
}

/// The violated guard that exceeds its limit most. A guard that aborts takes precedence over one
/// that pauses.
fn worst(guards: &[GuardReport]) -> Option<&GuardReport> {
    let violated = guards
        .iter()
        .filter(|report| report.state == GuardState::Violated);
    violated.max_by(|a, b| {
        let excess = |report: &GuardReport| report.e_value / report.limit;
        b.guard
            .is_of_predictions()
            // The order is reversed, so that the guards of predictions come last.
            .cmp(&a.guard.is_of_predictions())
            .then(excess(a).total_cmp(&excess(b)))
    })
}

#[cfg(test)]
mod tests;
