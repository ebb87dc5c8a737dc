//! `judge`: what follows from the evidence of a step. One pure function of totals; it may be asked as often as one likes.

use std::{borrow::Cow, collections::BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rollout::{
    evidence::{ArmTotals, Evidence, RunTotals, WindowTotals},
    figures::{duration, number, percent},
    plan::{OnDisagreement, PlanStep, RolloutPlan},
    sequential::{self, Proportion},
};

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub plan: &'a RolloutPlan,
    /// From 0.
    pub step: usize,
    pub stable: &'a str,
    pub candidates: &'a [String],
    /// Since the step began.
    pub evidence: &'a Evidence,
    /// Since the step began, without pauses.
    pub step_seconds: f64,
    pub rollout_seconds: f64,
    /// Guards that a person has looked at and let pass: a better model predicts otherwise. Only those of the predictions can be.
    pub accepted: &'a [GuardMetric],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub guard: Option<GuardMetric>,
    pub candidate: Option<String>,
    /// For a person.
    pub text: String,
    pub guards: Vec<GuardReport>,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GuardMetric {
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuardReport {
    pub guard: GuardMetric,
    pub candidate: String,
    /// `keys`, `requests`, `runs` or `pairs`.
    pub unit: Cow<'static, str>,
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
    /// The class that the predictions differ in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(flatten)]
    pub state: GuardState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    NotJudged(Cow<'static, str>),
}

/// What follows from the evidence.
pub fn judge(case: &Case<'_>) -> Judgement {
    let Some(step) = case.plan.steps.get(case.step) else {
        return said(
            Verdict::Inconclusive,
            format!("the plan has no step {}", case.step + 1),
            Vec::new(),
        );
    };
    let limit = limit(case.plan, case.candidates.len());
    let at = Look {
        case,
        step,
        limit,
        limit_fine: 1.0 / case.plan.alpha,
        empty: ArmTotals::default(),
    };
    let guards: Vec<GuardReport> = case
        .candidates
        .iter()
        .flat_map(|candidate| at.guards(candidate))
        .collect();
    if let Some(worst) = worst(&guards) {
        let pauses = worst.guard.of_predictions()
            && case.plan.guards.on_disagreement == OnDisagreement::Pause;
        let (verdict, word) = if pauses {
            (Verdict::Inconclusive, "inconclusive")
        } else {
            (Verdict::Abort, "aborted")
        };
        let text = format!(
            "{word} at {} after {}: {}",
            at.place(),
            at.after(worst),
            at.evidence(worst)
        );
        return Judgement {
            verdict,
            guard: Some(worst.guard),
            candidate: Some(worst.candidate.clone()),
            text,
            guards,
        };
    }
    let waits = at.waits(&guards);
    if case.rollout_seconds >= case.plan.max_seconds as f64 {
        let text = format!(
            "inconclusive at {} after {}: {}",
            at.place(),
            duration(case.rollout_seconds),
            waits.join("; ")
        );
        return said(Verdict::Inconclusive, text, guards);
    }
    if waits.is_empty() {
        let rates: Vec<String> = guards
            .iter()
            .filter(|report| report.state == GuardState::Clear)
            .map(|report| at.seen(report))
            .collect();
        let text = format!(
            "passed {} after {}: {}",
            at.place(),
            at.units(),
            rates.join(", ")
        );
        return said(Verdict::Advance, text, guards);
    }
    // A full candidate sees nothing more: only a person can decide, once the least time is over.
    let full = case
        .candidates
        .iter()
        .any(|candidate| at.arm(candidate).full);
    if full && !case.plan.hold(case.step) && case.step_seconds >= step.min_seconds() as f64 {
        let text = format!(
            "inconclusive at {}: no room for further keys; {}",
            at.place(),
            waits.join("; ")
        );
        return said(Verdict::Inconclusive, text, guards);
    }
    let text = format!(
        "holds at {} after {}: {}",
        at.place(),
        at.units(),
        waits.join("; ")
    );
    said(Verdict::Hold, text, guards)
}

/// The limit of one test: the promise, split evenly over every guard of every step and candidate. Guards that only pause are among
/// them, so that the promise holds for false pauses, too.
pub fn limit(plan: &RolloutPlan, candidates: usize) -> f64 {
    let tests: usize = plan
        .steps
        .iter()
        .map(|step| {
            GuardMetric::ALL
                .iter()
                .filter(|guard| guard.tested(plan, step))
                .count()
        })
        .sum();
    (tests * candidates.max(1)).max(1) as f64 / plan.alpha
}

impl GuardMetric {
    pub const ALL: [GuardMetric; 9] = [
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

    fn of_predictions(self) -> bool {
        matches!(self, GuardMetric::Disagreement | GuardMetric::Distribution)
    }

    /// Is it in the plan?
    fn planned(self, plan: &RolloutPlan) -> bool {
        match self {
            GuardMetric::Disagreement => plan.guards.disagreement_budget.is_some(),
            GuardMetric::Distribution => plan.guards.distribution_budget.is_some(),
            GuardMetric::P99Ceiling => plan.guards.p99_ceiling_ms.is_some(),
            _ => true,
        }
    }

    /// May it decide in this step?
    fn tested(self, plan: &RolloutPlan, step: &PlanStep) -> bool {
        let here = match self {
            GuardMetric::ErrorCeiling => true,
            GuardMetric::P99Ceiling => !matches!(step, PlanStep::Shadow { .. }),
            _ => step.concurrent(),
        };
        here && self.planned(plan)
    }
}

/// A case and what is the same for all of its guards.
struct Look<'a> {
    case: &'a Case<'a>,
    step: &'a PlanStep,
    limit: f64,
    limit_fine: f64,
    /// What an arm did of which nothing is known.
    empty: ArmTotals,
}

/// What a guard saw, before it is compared with the limits; the e-values as logarithms.
struct Seen {
    unit: &'static str,
    share: Proportion,
    stable: Option<Proportion>,
    margin: f64,
    worse: f64,
    fine: f64,
    /// By how much the limit is raised.
    factor: f64,
    detail: Option<String>,
}

/// A bucket of rows counts for `advance` where it holds this share of the runs of either arm: a rare one would hold a step for ever.
const COMMON_BUCKET: f64 = 0.05;

/// Of the 99th percentile: the share of answers that may be later.
const LATE: f64 = 0.01;

impl Look<'_> {
    fn arm(&self, version: &str) -> &ArmTotals {
        self.case.evidence.arms.get(version).unwrap_or(&self.empty)
    }

    fn guards(&self, candidate: &str) -> impl Iterator<Item = GuardReport> {
        let planned = GuardMetric::ALL
            .into_iter()
            .filter(|guard| guard.planned(self.case.plan));
        planned.map(move |guard| self.report(guard, candidate))
    }

    fn report(&self, guard: GuardMetric, candidate: &str) -> GuardReport {
        let (arm, stable) = (self.arm(candidate), self.arm(self.case.stable));
        let seen = self.see(guard, arm, stable);
        let limit = self.limit * seen.factor;
        let state = if let Some(reason) = self.not_tested(guard) {
            GuardState::NotJudged(Cow::Borrowed(reason))
        } else if seen.worse >= limit.ln() {
            GuardState::Violated
        } else if let Some(reason) = self.not_comparable(guard, arm, stable) {
            GuardState::NotJudged(Cow::Borrowed(reason))
        } else if seen.share.of == 0 || seen.stable.is_some_and(|stable| stable.of == 0) {
            GuardState::NoData
        } else if seen.fine >= self.limit_fine.ln() {
            GuardState::Clear
        } else {
            GuardState::Open
        };
        GuardReport {
            guard,
            candidate: candidate.to_owned(),
            unit: Cow::Borrowed(seen.unit),
            count: seen.share.of,
            share: seen.share.value(),
            stable_count: seen.stable.map(|stable| stable.of),
            stable_share: seen.stable.map(Proportion::value),
            margin: seen.margin,
            e_value: finite(seen.worse),
            limit,
            e_value_fine: finite(seen.fine),
            limit_fine: self.limit_fine,
            detail: seen.detail,
            state,
        }
    }

    fn not_tested(&self, guard: GuardMetric) -> Option<&'static str> {
        if guard.of_predictions() && self.case.accepted.contains(&guard) {
            Some("accepted by a person")
        } else if guard.tested(self.case.plan, self.step) {
            None
        } else if self.step.concurrent() {
            Some("its answers reach nobody in a shadow")
        } else {
            Some("no stable arm beside it")
        }
    }

    /// Data that there will never be must not hold a step for ever.
    fn not_comparable(
        &self,
        guard: GuardMetric,
        arm: &ArmTotals,
        stable: &ArmTotals,
    ) -> Option<&'static str> {
        match guard {
            GuardMetric::Runs | GuardMetric::EngineTime | GuardMetric::Cost
                if runs(arm) == 0 || runs(stable) == 0 =>
            {
                Some(NO_RUNS)
            }
            GuardMetric::Runs | GuardMetric::EngineTime | GuardMetric::Cost
                if common(arm, stable).next().is_none() =>
            {
                Some("the arms have no size of run in common")
            }
            GuardMetric::EngineTime | GuardMetric::Cost
                if common(arm, stable)
                    .all(|(candidate, stable)| timed(candidate) == 0 || timed(stable) == 0) =>
            {
                Some("stable had too few runs before the step to tell what is slow")
            }
            GuardMetric::Disagreement
                if arm.pairs.pairs == 0 && !matches!(self.step, PlanStep::Shadow { .. }) =>
            {
                Some("no pairs in this step")
            }
            GuardMetric::Distribution
                if arm.predictions.is_empty() && stable.predictions.is_empty() =>
            {
                Some("no predictions to compare")
            }
            _ => None,
        }
    }

    fn see(&self, guard: GuardMetric, arm: &ArmTotals, stable: &ArmTotals) -> Seen {
        let guards = &self.case.plan.guards;
        match guard {
            GuardMetric::Errors => self.see_units(
                Proportion::new(arm.failed, arm.units),
                Proportion::new(stable.failed, stable.units),
                guards.error_margin,
            ),
            GuardMetric::Nan => self.see_units(
                Proportion::new(arm.nan, arm.units),
                Proportion::new(stable.nan, stable.units),
                guards.nan_margin,
            ),
            GuardMetric::Runs => see_runs(
                arm,
                stable,
                |runs| Proportion::new(runs.failed, runs.runs),
                guards.run_margin,
            ),
            GuardMetric::EngineTime => see_runs(
                arm,
                stable,
                |runs| Proportion::new(runs.slow, timed(runs)),
                guards.engine_time_margin,
            ),
            GuardMetric::Cost => see_runs(
                arm,
                stable,
                |runs| Proportion::new(runs.dear, timed(runs)),
                guards.cost_margin,
            ),
            GuardMetric::Disagreement => {
                let share = Proportion::new(arm.pairs.differ, arm.pairs.pairs);
                let budget = guards.disagreement_budget.unwrap_or(1.0);
                let (worse, fine) = (
                    sequential::above(share, budget),
                    sequential::below(share, budget),
                );
                Seen {
                    unit: "pairs",
                    share,
                    stable: None,
                    margin: budget,
                    worse,
                    fine,
                    factor: 1.0,
                    detail: None,
                }
            }
            GuardMetric::Distribution => {
                self.see_distribution(arm, stable, guards.distribution_budget.unwrap_or(1.0))
            }
            GuardMetric::ErrorCeiling => {
                let fine =
                    sequential::below(Proportion::new(arm.failed, arm.units), guards.error_ceiling);
                self.see_windows(arm, |window| window.failed, guards.error_ceiling, fine)
            }
            GuardMetric::P99Ceiling => self.see_windows(arm, |window| window.slow, LATE, 0.0),
        }
    }

    fn see_units(&self, share: Proportion, stable: Proportion, margin: f64) -> Seen {
        let (worse, fine) = (
            sequential::worse(share, stable, margin),
            sequential::fine(share, stable, margin),
        );
        Seen {
            unit: self.unit(),
            share,
            stable: Some(stable),
            margin,
            worse,
            fine,
            factor: 1.0,
            detail: None,
        }
    }

    /// Every class, in both directions. At most 1 / budget classes can be more frequent than the budget, so that others are never
    /// tested in earnest; the limit is raised by twice their number, or by twice the number seen if that is more.
    fn see_distribution(&self, arm: &ArmTotals, stable: &ArmTotals, budget: f64) -> Seen {
        let (of, stable_of) = (
            arm.predictions.values().sum(),
            stable.predictions.values().sum(),
        );
        let classes: BTreeSet<&String> = arm
            .predictions
            .keys()
            .chain(stable.predictions.keys())
            .collect();
        let factor = 2.0 * (classes.len() as f64).max((1.0 / budget).ceil());
        let none = Proportion::new(0, of);
        let mut seen = Seen {
            unit: self.unit(),
            share: none,
            stable: Some(Proportion::new(0, stable_of)),
            margin: budget,
            worse: f64::NEG_INFINITY,
            fine: f64::INFINITY,
            factor,
            detail: None,
        };
        for class in classes {
            let count = |arm: &ArmTotals| arm.predictions.get(class).copied().unwrap_or_default();
            let (share, other) = (
                Proportion::new(count(arm), of),
                Proportion::new(count(stable), stable_of),
            );
            let worse = sequential::worse(share, other, budget)
                .max(sequential::worse(other, share, budget));
            let fine =
                sequential::fine(share, other, budget).min(sequential::fine(other, share, budget));
            seen.fine = seen.fine.min(fine);
            if worse > seen.worse {
                seen = Seen {
                    share,
                    stable: Some(other),
                    worse,
                    detail: Some(class.clone()),
                    ..seen
                };
            }
        }
        seen
    }

    /// Each window is a test of its own, which begins anew: a candidate that turns bad after a good week is seen as soon as one that
    /// is bad from the start. The shares 6 / (π² (w + 1)²) of all windows w add up to 1.
    fn see_windows(
        &self,
        arm: &ArmTotals,
        hits: impl Fn(&WindowTotals) -> u64,
        ceiling: f64,
        fine: f64,
    ) -> Seen {
        let tests = arm.windows.iter().map(|(window, totals)| {
            let share = Proportion::new(hits(totals), totals.units);
            let factor = (std::f64::consts::PI * (f64::from(*window) + 1.0)).powi(2) / 6.0;
            (share, factor, sequential::above(share, ceiling))
        });
        let worst = tests.max_by(|(_, a, x), (_, b, y)| (x - a.ln()).total_cmp(&(y - b.ln())));
        let (share, factor, worse) = worst.unwrap_or((
            Proportion::default(),
            std::f64::consts::PI.powi(2) / 6.0,
            0.0,
        ));
        Seen {
            unit: self.unit(),
            share,
            stable: None,
            margin: ceiling,
            worse,
            fine,
            factor,
            detail: None,
        }
    }

    fn unit(&self) -> &'static str {
        self.case.plan.key.units()
    }

    /// Why the step is not over; none: it is.
    fn waits(&self, guards: &[GuardReport]) -> Vec<String> {
        let mut waits = Vec::new();
        if self.case.plan.hold(self.case.step) {
            waits.push("a person decides".to_owned());
        }
        let least = self.step.min_seconds();
        if self.case.step_seconds < least as f64 {
            waits.push(format!(
                "{} of {}",
                duration(self.case.step_seconds),
                duration(least as f64)
            ));
        }
        let stable = self.step.concurrent().then_some(self.case.stable);
        for version in self
            .case
            .candidates
            .iter()
            .map(String::as_str)
            .chain(stable)
        {
            let (units, least) = (self.arm(version).units, self.step.min_requests());
            if units == 0 {
                waits.push(format!("no traffic for {version}"));
            } else if units < least {
                waits.push(format!("{units} of {least} {} of {version}", self.unit()));
            }
        }
        for report in guards {
            if self.holds_back(report) {
                waits.push(format!(
                    "not yet shown to be as good: {}",
                    self.fine_evidence(report)
                ));
            }
        }
        waits
    }

    /// A ceiling is an emergency brake, not a goal: it holds a step back only where nothing else is judged.
    fn holds_back(&self, report: &GuardReport) -> bool {
        let unknown = matches!(report.state, GuardState::Open | GuardState::NoData);
        match report.guard {
            GuardMetric::P99Ceiling => false,
            GuardMetric::ErrorCeiling => unknown && !self.step.concurrent(),
            _ => unknown,
        }
    }

    /// `step 2 (5 %)`
    fn place(&self) -> String {
        let what = match self.step {
            PlanStep::Shadow { share, .. } => format!("shadow {}", percent(*share)),
            PlanStep::Canary { weight, .. } => percent(*weight),
            PlanStep::Ab { .. } | PlanStep::BlueGreen { .. } => self.step.kind().to_owned(),
        };
        format!("step {} ({what})", self.case.step + 1)
    }

    /// `412 keys`, of the arm with the fewest.
    fn units(&self) -> String {
        let units = self
            .case
            .candidates
            .iter()
            .map(|candidate| self.arm(candidate).units)
            .min()
            .unwrap_or_default();
        format!("{units} {}", self.unit())
    }

    fn after(&self, report: &GuardReport) -> String {
        let count = match report.guard {
            GuardMetric::ErrorCeiling | GuardMetric::P99Ceiling => {
                self.arm(&report.candidate).units
            }
            _ => report.count,
        };
        let whose = if self.case.candidates.len() > 1 {
            format!(" of {}", report.candidate)
        } else {
            String::new()
        };
        format!("{count} {}{whose}", report.unit)
    }

    /// `error rate 3.1 % against 0.2 %`
    fn seen(&self, report: &GuardReport) -> String {
        let share = percent(report.share);
        let window = || {
            format!(
                "of {} {} in {} s",
                report.count, report.unit, self.case.plan.guards.window_seconds
            )
        };
        let what = match report.guard {
            GuardMetric::Errors => format!("error rate {share}"),
            GuardMetric::Nan => format!("answers that are no number {share}"),
            GuardMetric::Runs => format!("failed runs {share}"),
            GuardMetric::EngineTime => format!("slow runs {share}"),
            GuardMetric::Cost => format!("dear runs {share}"),
            GuardMetric::Disagreement => format!(
                "pairs that differ {share}, budget {}",
                percent(report.margin)
            ),
            GuardMetric::Distribution => format!(
                "predictions of \"{}\" {share}",
                report.detail.as_deref().unwrap_or_default()
            ),
            GuardMetric::ErrorCeiling => format!(
                "error rate {share} {}, ceiling {}",
                window(),
                percent(report.margin)
            ),
            GuardMetric::P99Ceiling => {
                let ceiling = self.case.plan.guards.p99_ceiling_ms.unwrap_or_default();
                format!(
                    "later than {ceiling} ms {share} {}, ceiling {}",
                    window(),
                    percent(report.margin)
                )
            }
        };
        match report.stable_share {
            Some(stable) => format!("{what} against {}", percent(stable)),
            None => what,
        }
    }

    /// `error rate 3.1 % against 0.2 % (e-value 671, limit 500)`
    fn evidence(&self, report: &GuardReport) -> String {
        format!(
            "{} (e-value {}, limit {})",
            self.seen(report),
            number(report.e_value),
            number(report.limit)
        )
    }

    fn fine_evidence(&self, report: &GuardReport) -> String {
        if report.state == GuardState::NoData {
            return format!("{} (no data)", report.guard.name());
        }
        let (e_value, limit) = (number(report.e_value_fine), number(report.limit_fine));
        format!(
            "{}, margin {} (e-value {e_value}, limit {limit})",
            self.seen(report),
            percent(report.margin)
        )
    }
}

/// The bucket of the runs is a stratum: the same number of rows takes the same time. A stratum counts from when both arms have been in
/// it; until then nothing of it has been looked at. Stable's share is that of the candidate's mix of buckets.
fn see_runs(
    arm: &ArmTotals,
    stable: &ArmTotals,
    share: impl Fn(&RunTotals) -> Proportion,
    margin: f64,
) -> Seen {
    let both: Vec<(Proportion, Proportion)> = arm
        .runs
        .iter()
        .filter_map(|(bucket, totals)| Some((share(totals), share(stable.runs.get(bucket)?))))
        .filter(|(candidate, stable)| candidate.of > 0 && stable.of > 0)
        .collect();
    let (mut of, mut count, mut stable_of, mut expected) = (0, 0, 0, 0.0);
    for (candidate, stable) in &both {
        of += candidate.of;
        count += candidate.hits;
        stable_of += stable.of;
        expected += candidate.of as f64 * stable.value();
    }
    let stable_hits = if of == 0 {
        0.0
    } else {
        expected / of as f64 * stable_of as f64
    };
    let shared = common(arm, stable).map(|(candidate, stable)| (share(candidate), share(stable)));
    let fine = sequential::fine_in_all(
        shared.filter(|(candidate, stable)| candidate.of > 0 && stable.of > 0),
        margin,
    );
    Seen {
        unit: "runs",
        share: Proportion::new(count, of),
        stable: Some(Proportion::new(stable_hits.round() as u64, stable_of)),
        margin,
        worse: sequential::worse_in_some(both, margin),
        fine,
        factor: 1.0,
        detail: None,
    }
}

/// The buckets that both arms often fill.
fn common<'a>(
    arm: &'a ArmTotals,
    stable: &'a ArmTotals,
) -> impl Iterator<Item = (&'a RunTotals, &'a RunTotals)> {
    let least = |arm: &ArmTotals| (runs(arm) as f64 * COMMON_BUCKET).max(1.0);
    let (of_arm, of_stable) = (least(arm), least(stable));
    let pairs = arm
        .runs
        .iter()
        .filter_map(|(bucket, totals)| Some((totals, stable.runs.get(bucket)?)));
    pairs.filter(move |(candidate, stable)| {
        candidate.runs as f64 >= of_arm && stable.runs as f64 >= of_stable
    })
}

/// That no run is compared is no word about their sizes.
const NO_RUNS: &str =
    "the first 64 runs of a version after its load are not compared, and an arm has no others";

/// Runs that are compared.
fn runs(arm: &ArmTotals) -> u64 {
    arm.runs.values().map(|totals| totals.runs).sum()
}

/// Runs that could be slow or dear. One that failed has no time.
fn timed(runs: &RunTotals) -> u64 {
    runs.runs.saturating_sub(runs.untimed + runs.failed)
}

/// Of the violated guards the one that is furthest above its limit; one that aborts before one that pauses.
fn worst(guards: &[GuardReport]) -> Option<&GuardReport> {
    let violated = guards
        .iter()
        .filter(|report| report.state == GuardState::Violated);
    violated.max_by(|a, b| {
        let above = |report: &GuardReport| report.e_value / report.limit;
        b.guard
            .of_predictions()
            .cmp(&a.guard.of_predictions())
            .then(above(a).total_cmp(&above(b)))
    })
}

fn said(verdict: Verdict, text: String, guards: Vec<GuardReport>) -> Judgement {
    Judgement {
        verdict,
        guard: None,
        candidate: None,
        text,
        guards,
    }
}

/// e^x as a number that JSON can hold.
fn finite(log: f64) -> f64 {
    log.min(690.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::evidence::WARM_RUNS;

    const STABLE: &str = "1.0.0";
    const CANDIDATE: &str = "1.1.0";

    /// One canary step at 5 % with every guard; the time is over unless a test says otherwise.
    fn plan() -> RolloutPlan {
        RolloutPlan::parse(
            "name = \"test\"\nmax_seconds = 10000\nkey = \"header:x-user\"\n\
             [guards]\ndisagreement_budget = 0.1\ndistribution_budget = 0.1\np99_ceiling_ms = 200\n\
             [[steps]]\nkind = \"shadow\"\nshare = 0.5\nmin_requests = 100\n\
             [[steps]]\nkind = \"canary\"\nweight = 0.05\nmin_seconds = 600\nmin_requests = 500\n\
             [[steps]]\nkind = \"canary\"\nweight = 1.0\nmin_seconds = 600\nmin_requests = 500\n",
        )
        .unwrap()
    }

    fn arm(units: u64, failed: u64) -> ArmTotals {
        let runs = [(
            0,
            RunTotals {
                runs: units,
                slow: units / 20,
                dear: units / 20,
                ..RunTotals::default()
            },
        )];
        ArmTotals {
            requests: units,
            units,
            failed,
            runs: runs.into(),
            ..ArmTotals::default()
        }
    }

    fn evidence(candidate: ArmTotals, stable: ArmTotals) -> Evidence {
        Evidence {
            arms: [
                (CANDIDATE.to_owned(), candidate),
                (STABLE.to_owned(), stable),
            ]
            .into(),
        }
    }

    fn look(plan: &RolloutPlan, step: usize, evidence: &Evidence) -> Judgement {
        at(plan, step, evidence, 700.0, 700.0)
    }

    fn at(
        plan: &RolloutPlan,
        step: usize,
        evidence: &Evidence,
        step_seconds: f64,
        rollout_seconds: f64,
    ) -> Judgement {
        let candidates = [CANDIDATE.to_owned()];
        judge(&Case {
            plan,
            step,
            stable: STABLE,
            candidates: &candidates,
            evidence,
            step_seconds,
            rollout_seconds,
            accepted: &[],
        })
    }

    fn state(judgement: &Judgement, guard: GuardMetric) -> &GuardState {
        &judgement
            .guards
            .iter()
            .find(|report| report.guard == guard)
            .unwrap()
            .state
    }

    fn check(judgement: &Judgement, verdict: Verdict, text: &str) {
        assert_eq!(
            (judgement.verdict, judgement.text.as_str()),
            (verdict, text)
        );
    }

    #[test]
    fn a_worse_candidate() {
        let judgement = look(&plan(), 1, &evidence(arm(412, 30), arm(8000, 16)));
        let text = "aborted at step 2 (5 %) after 412 keys: error rate 7.3 % against 0.2 % (e-value 2.5e15, limit 1900)";
        check(&judgement, Verdict::Abort, text);
        assert_eq!(
            (judgement.guard, judgement.candidate.as_deref()),
            (Some(GuardMetric::Errors), Some(CANDIDATE))
        );
        // The same before any least time or number: nobody waits for a proof that there is.
        assert_eq!(
            at(&plan(), 1, &evidence(arm(40, 30), arm(800, 1)), 1.0, 1.0).verdict,
            Verdict::Abort
        );
        // A stable version that is worse is no harm.
        assert_ne!(
            look(&plan(), 1, &evidence(arm(412, 0), arm(8000, 700))).verdict,
            Verdict::Abort
        );
        let nan = ArmTotals {
            nan: 30,
            ..arm(412, 0)
        };
        let judgement = look(&plan(), 1, &evidence(nan, arm(8000, 16)));
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Abort, Some(GuardMetric::Nan))
        );
    }

    #[test]
    fn as_good() {
        let (plan, good) = (plan(), evidence(arm(5000, 5), arm(95_000, 95)));
        let judgement = look(&plan, 1, &good);
        let text = "passed step 2 (5 %) after 5000 keys: error rate 0.1 % against 0.1 %, \
                    answers that are no number 0 % against 0 %, failed runs 0 % against 0 %, slow runs 5 % against 5 %, \
                    dear runs 5 % against 5 %, error rate 0 % of 0 keys in 60 s, ceiling 10 %";
        // No windows: their guard has no data, and holds nothing back.
        check(
            &judgement,
            Verdict::Advance,
            &text.replace(", error rate 0 % of 0 keys in 60 s, ceiling 10 %", ""),
        );
        assert!(
            judgement
                .guards
                .iter()
                .all(|report| report.state != GuardState::Violated)
        );
        // Before its least time, and its least number.
        let judgement = at(&plan, 1, &good, 120.0, 120.0);
        check(
            &judgement,
            Verdict::Hold,
            "holds at step 2 (5 %) after 5000 keys: 2 min of 10 min",
        );
        let judgement = look(&plan, 1, &evidence(arm(400, 0), arm(95_000, 0)));
        assert!(
            judgement.text.contains("after 400 keys: 400 of 500 keys of 1.1.0; not yet shown to be as good: error rate 0 %"),
            "{}",
            judgement.text
        );
        // As many failures as the margin allows: neither worse nor fine.
        let judgement = look(&plan, 1, &evidence(arm(5000, 30), arm(95_000, 95)));
        assert_eq!(
            (judgement.verdict, state(&judgement, GuardMetric::Errors)),
            (Verdict::Hold, &GuardState::Open)
        );
        let judgement = at(
            &plan,
            1,
            &evidence(arm(5000, 30), arm(95_000, 95)),
            700.0,
            10_000.0,
        );
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Inconclusive, None)
        );
        assert!(
            judgement.text.starts_with("inconclusive at step 2 (5 %) after 2.78 h: not yet shown to be as good: error rate 0.6 %"),
            "{}",
            judgement.text
        );
    }

    #[test]
    fn no_traffic_is_no_success() {
        let (plan, nothing) = (plan(), Evidence::default());
        for step in 0..3 {
            let judgement = at(&plan, step, &nothing, 9_999.0, 9_999.0);
            assert_eq!(judgement.verdict, Verdict::Hold);
            assert!(
                judgement.text.contains("no traffic for 1.1.0"),
                "{}",
                judgement.text
            );
        }
        let judgement = look(&plan, 1, &evidence(arm(5000, 5), ArmTotals::default()));
        assert_eq!(judgement.verdict, Verdict::Hold);
        assert!(judgement.text.contains("no traffic for 1.0.0"));
        assert_eq!(
            at(&plan, 1, &nothing, 10_000.0, 10_000.0).verdict,
            Verdict::Inconclusive
        );
        assert_eq!(look(&plan, 3, &nothing).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn runs_of_the_same_size() {
        let runs = |runs: &[(u8, u64, u64)], units| ArmTotals {
            units,
            runs: runs
                .iter()
                .map(|(bucket, runs, slow)| {
                    (
                        *bucket,
                        RunTotals {
                            runs: *runs,
                            slow: *slow,
                            ..RunTotals::default()
                        },
                    )
                })
                .collect(),
            ..ArmTotals::default()
        };
        // Stable's large runs are slow, which says nothing of the candidate's small ones.
        let judgement = look(
            &plan(),
            1,
            &evidence(
                runs(&[(0, 2000, 100)], 5000),
                runs(&[(0, 5000, 250), (6, 5000, 5000)], 95_000),
            ),
        );
        assert_eq!(
            (
                judgement.verdict,
                state(&judgement, GuardMetric::EngineTime)
            ),
            (Verdict::Advance, &GuardState::Clear)
        );
        // Twice as slow in every size.
        let judgement = look(
            &plan(),
            1,
            &evidence(
                runs(&[(0, 60, 30), (3, 60, 30)], 400),
                runs(&[(0, 900, 45), (3, 900, 45)], 4000),
            ),
        );
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Abort, Some(GuardMetric::EngineTime))
        );
        assert!(judgement.text.starts_with(
            "aborted at step 2 (5 %) after 120 runs: slow runs 50 % against 5 % (e-value"
        ));
        // No size in common: not judged, and no reason to wait.
        let judgement = look(
            &plan(),
            1,
            &evidence(
                runs(&[(0, 5000, 250)], 5000),
                runs(&[(0, 2, 0), (6, 1500, 75)], 95_000),
            ),
        );
        assert_eq!(judgement.verdict, Verdict::Advance);
        assert_eq!(
            state(&judgement, GuardMetric::EngineTime),
            &GuardState::NotJudged("the arms have no size of run in common".into())
        );
        // None at all: those after a load are not compared.
        let judgement = look(
            &plan(),
            1,
            &evidence(runs(&[], 5000), runs(&[(0, 5000, 250)], 95_000)),
        );
        assert_eq!(
            state(&judgement, GuardMetric::EngineTime),
            &GuardState::NotJudged(NO_RUNS.into())
        );
        assert!(
            NO_RUNS.contains(&format!("the first {WARM_RUNS} runs")),
            "{NO_RUNS}"
        );
        // A run that failed counts once, however many units it held.
        let failed = |runs: u64, failed: u64| ArmTotals {
            units: runs,
            runs: [(
                0,
                RunTotals {
                    runs,
                    failed,
                    ..RunTotals::default()
                },
            )]
            .into(),
            ..ArmTotals::default()
        };
        let judgement = look(&plan(), 1, &evidence(failed(400, 40), failed(8000, 16)));
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Abort, Some(GuardMetric::Runs))
        );
    }

    #[test]
    fn predictions_that_differ_ask_a_person() {
        let pairs = |pairs, differ| {
            let pairs = crate::rollout::evidence::PairTotals {
                pairs,
                differ,
                difference: 0.0,
            };
            evidence(
                ArmTotals {
                    pairs,
                    ..arm(5000, 5)
                },
                arm(5000, 5),
            )
        };
        let mut plan = plan();
        assert_eq!(look(&plan, 0, &pairs(1000, 20)).verdict, Verdict::Advance);
        assert_eq!(look(&plan, 0, &pairs(0, 0)).verdict, Verdict::Hold);
        assert_eq!(look(&plan, 1, &pairs(0, 0)).verdict, Verdict::Advance);
        let judgement = look(&plan, 0, &pairs(1000, 300));
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Inconclusive, Some(GuardMetric::Disagreement))
        );
        assert!(
            judgement.text.starts_with("inconclusive at step 1 (shadow 50 %) after 1000 pairs: pairs that differ 30 %, budget 10 % (e")
        );
        // Once a person has accepted it.
        let candidates = [CANDIDATE.to_owned()];
        let differs = pairs(1000, 300);
        let case = Case {
            plan: &plan,
            step: 0,
            stable: STABLE,
            candidates: &candidates,
            evidence: &differs,
            step_seconds: 700.0,
            rollout_seconds: 700.0,
            accepted: &[GuardMetric::Disagreement, GuardMetric::Errors],
        };
        assert_eq!(judge(&case).verdict, Verdict::Advance);
        assert_ne!(
            state(&judge(&case), GuardMetric::Errors),
            &GuardState::NotJudged("accepted by a person".into())
        );
        plan.guards.on_disagreement = OnDisagreement::Abort;
        assert_eq!(look(&plan, 0, &pairs(1000, 300)).verdict, Verdict::Abort);

        let classes = |yes, no| ArmTotals {
            predictions: [("no".to_owned(), no), ("yes".to_owned(), yes)].into(),
            ..arm(5000, 5)
        };
        let judgement = look(
            &plan,
            1,
            &evidence(classes(2000, 3000), classes(2010, 2990)),
        );
        assert_eq!(
            (
                judgement.verdict,
                state(&judgement, GuardMetric::Distribution)
            ),
            (Verdict::Advance, &GuardState::Clear)
        );
        let judgement = look(
            &plan,
            1,
            &evidence(classes(3000, 2000), classes(2010, 2990)),
        );
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Abort, Some(GuardMetric::Distribution))
        );
        assert!(
            judgement.text.contains("predictions of \"") && judgement.text.contains(" % against "),
            "{}",
            judgement.text
        );
        // Less of a class, where the candidate has a new one, too.
        let mut fewer = classes(1000, 3000);
        fewer.predictions.insert("maybe".to_owned(), 1000);
        assert_eq!(
            look(&plan, 1, &evidence(fewer, classes(2010, 2990))).guard,
            Some(GuardMetric::Distribution)
        );
    }

    #[test]
    fn ceilings() {
        let windows = |totals: &[(u32, u64, u64, u64)], units| {
            let windows = totals.iter().map(|(window, units, failed, slow)| {
                (
                    *window,
                    WindowTotals {
                        units: *units,
                        failed: *failed,
                        slow: *slow,
                    },
                )
            });
            evidence(
                ArmTotals {
                    windows: windows.collect(),
                    ..arm(units, units / 1000)
                },
                arm(95_000, 95),
            )
        };
        // A good hour does not help a window in which half fails.
        for step in [1, 2] {
            let judgement = look(
                &plan(),
                step,
                &windows(&[(58, 100, 0, 0), (59, 100, 1, 0), (60, 80, 45, 0)], 8000),
            );
            assert_eq!(
                (judgement.verdict, judgement.guard),
                (Verdict::Abort, Some(GuardMetric::ErrorCeiling))
            );
            let text = "after 8000 keys: error rate 56 % of 80 keys in 60 s, ceiling 10 % (e-value";
            assert!(judgement.text.contains(text), "{}", judgement.text);
        }
        let judgement = look(&plan(), 1, &windows(&[(3, 200, 0, 26)], 8000));
        assert_eq!(
            (judgement.verdict, judgement.guard),
            (Verdict::Abort, Some(GuardMetric::P99Ceiling))
        );
        assert!(
            judgement
                .text
                .contains("later than 200 ms 13 % of 200 keys in 60 s, ceiling 1 %"),
            "{}",
            judgement.text
        );
        assert_eq!(
            look(&plan(), 1, &windows(&[(3, 200, 20, 2)], 8000)).verdict,
            Verdict::Advance
        );
        // The first window that may abort is the cheapest one.
        let limit_of =
            |window| look(&plan(), 1, &windows(&[(window, 200, 20, 2)], 8000)).guards[7].limit;
        assert!((limit_of(9) / limit_of(0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn all_units() {
        let plan = plan();
        let alone = |units, failed| {
            let windows = [(
                0,
                WindowTotals {
                    units,
                    failed,
                    slow: 0,
                },
            )]
            .into();
            Evidence {
                arms: [(
                    CANDIDATE.to_owned(),
                    ArmTotals {
                        windows,
                        ..arm(units, failed)
                    },
                )]
                .into(),
            }
        };
        // There is no stable arm, and none is waited for.
        let judgement = look(&plan, 2, &alone(600, 3));
        assert_eq!(judgement.verdict, Verdict::Advance);
        assert_eq!(
            state(&judgement, GuardMetric::Errors),
            &GuardState::NotJudged("no stable arm beside it".into())
        );
        assert_eq!(look(&plan, 2, &alone(600, 58)).verdict, Verdict::Hold);
        assert_eq!(
            look(&plan, 2, &alone(600, 200)).guard,
            Some(GuardMetric::ErrorCeiling)
        );
        assert_eq!(look(&plan, 2, &Evidence::default()).verdict, Verdict::Hold);
    }

    #[test]
    fn several_candidates_wait_for_a_person() {
        let plan = RolloutPlan::builtin("ab").unwrap();
        let candidates = [CANDIDATE.to_owned(), "1.2.0".to_owned()];
        let mut evidence = evidence(arm(50_000, 50), arm(50_000, 50));
        let look = |evidence: &Evidence| {
            let (step_seconds, rollout_seconds) = (90_000.0, 90_000.0);
            judge(&Case {
                plan: &plan,
                step: 0,
                stable: STABLE,
                candidates: &candidates,
                evidence,
                step_seconds,
                rollout_seconds,
                accepted: &[],
            })
        };
        evidence.arms.insert("1.2.0".to_owned(), arm(49_000, 49));
        check(
            &look(&evidence),
            Verdict::Hold,
            "holds at step 1 (ab) after 49000 requests: a person decides",
        );
        evidence.arms.insert("1.2.0".to_owned(), arm(49_000, 700));
        let judgement = look(&evidence);
        assert_eq!(
            (judgement.verdict, judgement.candidate.as_deref()),
            (Verdict::Abort, Some("1.2.0"))
        );
        assert!(judgement.text.starts_with(
            "aborted at step 1 (ab) after 49000 requests of 1.2.0: error rate 1.4 % against 0.1 %"
        ));
        assert_eq!(limit(&plan, 2), 2.0 * limit(&plan, 1));
    }

    #[test]
    fn no_room_for_further_keys() {
        let full = |seconds| {
            let candidate = ArmTotals {
                full: true,
                ..arm(32_768, 200)
            };
            at(
                &plan(),
                1,
                &evidence(candidate, arm(32_768, 33)),
                seconds,
                700.0,
            )
        };
        assert_eq!(full(599.0).verdict, Verdict::Hold);
        assert_eq!(full(600.0).verdict, Verdict::Inconclusive);
        assert!(
            full(600.0)
                .text
                .starts_with("inconclusive at step 2 (5 %): no room for further keys; not yet shown to be as good: error rate 0.61 %")
        );
    }

    #[test]
    fn the_promise_is_split() {
        // Shadow 8 (no p99), canary 9, all units 2 (the ceilings).
        assert!((limit(&plan(), 1) - 19.0 / 0.01).abs() < 1e-9);
        for name in RolloutPlan::BUILTIN {
            let plan = RolloutPlan::builtin(name).unwrap();
            assert!(limit(&plan, 1) >= 1.0 / plan.alpha);
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0.0312, 0.002, 0.00023456, 0.5, 1.0, 0.0, 0.996].map(percent),
            ["3.1 %", "0.2 %", "0.023 %", "50 %", "100 %", "0 %", "100 %"]
        );
        assert_eq!(
            [671.4, 0.01234, 2.0, 1e6, 12345.0].map(number),
            ["671", "0.0123", "2", "1.0e6", "12345"]
        );
        assert_eq!(
            [90.0, 120.0, 7200.0, 604_800.0, 0.0].map(duration),
            ["90 s", "2 min", "2 h", "7 d", "0 s"]
        );
    }

    #[test]
    fn a_report_is_readable_by_programs() {
        let judgement = look(&plan(), 2, &evidence(arm(412, 30), arm(8000, 16)));
        let json = serde_json::to_value(&judgement).unwrap();
        assert_eq!(json["verdict"], "hold");
        assert_eq!(json["guards"][0]["guard"], "errors");
        assert_eq!(json["guards"][0]["state"], "not_judged");
        assert_eq!(json["guards"][0]["reason"], "no stable arm beside it");
        for guard in GuardMetric::ALL {
            assert_eq!(serde_json::to_value(guard).unwrap(), guard.name());
        }
        // However strong the evidence is, it stays a number.
        let strong = evidence(arm(1_000_000, 1_000_000), arm(1_000_000, 0));
        assert!(
            serde_json::to_value(look(&plan(), 1, &strong)).unwrap()["guards"][0]["e_value"]
                .as_f64()
                .unwrap()
                > 1e200
        );
    }
}
