//! Measures each guard for one candidate, and reports the result.

use std::{borrow::Cow, collections::BTreeSet, f64::consts::PI};

use crate::rollout::{
    evidence::{ArmTotals, WindowTotals},
    judge::{
        GuardMetric, GuardReport, GuardState, StepCase,
        comparison::{measure_runs, runs_not_comparable, timed_runs},
        measurement::Measurement,
    },
    plan::PlanStep,
    sequential::{self, Proportion},
};

/// The share of answers that may exceed the 99th percentile.
const LATE_SHARE: f64 = 0.01;

/// Maximum logarithm for which the exponential is safely finite. The exact limit is e^709.
const MAX_LOG_E: f64 = 690.0;

impl StepCase<'_> {
    pub(super) fn guard_reports(&self, candidate: &str) -> impl Iterator<Item = GuardReport> {
        let planned = GuardMetric::ALL
            .into_iter()
            .filter(|guard| guard.is_in(self.case.plan));
        planned.map(move |guard| self.report(guard, candidate))
    }

    fn report(&self, guard: GuardMetric, candidate: &str) -> GuardReport {
        let (arm, stable) = (self.arm(candidate), self.arm(self.case.stable));
        let measured = self.measure(guard, arm, stable);
        let limit = self.limit * measured.limit_factor;
        // Without units of the stable version, both shares would be 0 and look equal.
        let no_stable = measured.stable.is_some_and(|stable| stable.of == 0);
        // A violation counts even if the rest of the evidence can't be compared.
        let state = if let Some(reason) = self.not_decided_here(guard) {
            GuardState::NotJudged(Cow::Borrowed(reason))
        } else if measured.log_e_worse >= limit.ln() {
            GuardState::Violated
        } else if let Some(reason) = self.not_comparable(guard, arm, stable) {
            GuardState::NotJudged(Cow::Borrowed(reason))
        } else if measured.candidate.of == 0 || no_stable {
            GuardState::NoData
        } else if measured.log_e_fine >= self.limit_fine.ln() {
            GuardState::Clear
        } else {
            GuardState::Open
        };
        GuardReport {
            guard,
            candidate: candidate.to_owned(),
            unit: Cow::Borrowed(measured.unit),
            count: measured.candidate.of,
            share: measured.candidate.value(),
            stable_count: measured.stable.map(|stable| stable.of),
            stable_share: measured.stable.map(Proportion::value),
            margin: measured.margin,
            e_value: finite_exp(measured.log_e_worse),
            limit,
            e_value_fine: finite_exp(measured.log_e_fine),
            limit_fine: self.limit_fine,
            detail: measured.detail,
            state,
        }
    }

    fn not_decided_here(&self, guard: GuardMetric) -> Option<&'static str> {
        if guard.is_of_predictions() && self.case.accepted.contains(&guard) {
            Some("accepted by a person")
        } else if guard.decides_in(self.case.plan, self.step) {
            None
        } else if self.step.concurrent() {
            Some("no caller gets its answers in a shadow step")
        } else {
            Some("the stable version answers nothing in this step")
        }
    }

    /// Why data for a comparison can never arrive. Without this reason the guard would delay the
    /// step for ever.
    fn not_comparable(
        &self,
        guard: GuardMetric,
        arm: &ArmTotals,
        stable: &ArmTotals,
    ) -> Option<&'static str> {
        match guard {
            _ if guard.is_of_runs() => runs_not_comparable(arm, stable, guard != GuardMetric::Runs),
            GuardMetric::Disagreement
                // In a shadow step pairs will arrive, so the guard waits for them.
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

    fn measure(&self, guard: GuardMetric, arm: &ArmTotals, stable: &ArmTotals) -> Measurement {
        let guards = &self.case.plan.guards;
        match guard {
            GuardMetric::Errors => self.compare_units(
                Proportion::new(arm.failed, arm.units),
                Proportion::new(stable.failed, stable.units),
                guards.error_margin,
            ),
            GuardMetric::Nan => self.compare_units(
                // A failed unit has no answer and therefore no NaN. It still counts as a unit, for
                // both arms.
                Proportion::new(arm.nan, arm.units),
                Proportion::new(stable.nan, stable.units),
                guards.nan_margin,
            ),
            GuardMetric::Runs => measure_runs(
                arm,
                stable,
                |runs| Proportion::new(runs.failed, runs.runs),
                guards.run_margin,
            ),
            GuardMetric::EngineTime => measure_runs(
                arm,
                stable,
                |runs| Proportion::new(runs.slow, timed_runs(runs)),
                guards.engine_time_margin,
            ),
            GuardMetric::Cost => measure_runs(
                arm,
                stable,
                |runs| Proportion::new(runs.expensive, timed_runs(runs)),
                guards.cost_margin,
            ),
            GuardMetric::Disagreement => {
                measure_pairs(arm, guards.disagreement_budget.unwrap_or(1.0))
            }
            GuardMetric::Distribution => {
                self.compare_classes(arm, stable, guards.distribution_budget.unwrap_or(1.0))
            }
            GuardMetric::ErrorCeiling => {
                let failed = Proportion::new(arm.failed, arm.units);
                Measurement {
                    log_e_fine: sequential::log_e_below(failed, guards.error_ceiling),
                    ..self.worst_window(arm, |window| window.failed, guards.error_ceiling)
                }
            }
            GuardMetric::P99Ceiling => self.worst_window(arm, |window| window.slow, LATE_SHARE),
        }
    }

    fn compare_units(&self, candidate: Proportion, stable: Proportion, margin: f64) -> Measurement {
        Measurement {
            unit: self.unit(),
            candidate,
            stable: Some(stable),
            margin,
            log_e_worse: sequential::log_e_worse(candidate, stable, margin),
            log_e_fine: sequential::log_e_not_worse(candidate, stable, margin),
            limit_factor: 1.0,
            detail: None,
        }
    }

    /// Compares the share of every class in both directions, and reports the class that differs
    /// most.
    ///
    /// The limit is raised by twice the number of tests. At most 1 / budget classes can have a
    /// share above the budget, and classes with smaller shares can't differ by more than the
    /// budget. If more classes occur, their number determines the limit.
    fn compare_classes(&self, arm: &ArmTotals, stable: &ArmTotals, budget: f64) -> Measurement {
        let (of, stable_of) = (
            arm.predictions.values().sum(),
            stable.predictions.values().sum(),
        );
        let classes: BTreeSet<&String> = arm
            .predictions
            .keys()
            .chain(stable.predictions.keys())
            .collect();
        let mut measured = Measurement {
            unit: self.unit(),
            candidate: Proportion::new(0, of),
            stable: Some(Proportion::new(0, stable_of)),
            margin: budget,
            log_e_worse: f64::NEG_INFINITY,
            log_e_fine: f64::INFINITY,
            limit_factor: 2.0 * (classes.len() as f64).max((1.0 / budget).ceil()),
            detail: None,
        };
        for class in classes {
            let count = |arm: &ArmTotals| arm.predictions.get(class).copied().unwrap_or_default();
            let candidate = Proportion::new(count(arm), of);
            let other = Proportion::new(count(stable), stable_of);
            let log_e_worse = sequential::log_e_worse(candidate, other, budget)
                // Both a higher and a lower share of a class are a difference.
                .max(sequential::log_e_worse(other, candidate, budget));
            let log_e_fine = sequential::log_e_not_worse(candidate, other, budget)
                .min(sequential::log_e_not_worse(other, candidate, budget));
            // Every class must be shown to be fine.
            measured.log_e_fine = measured.log_e_fine.min(log_e_fine);
            if log_e_worse > measured.log_e_worse {
                measured.log_e_worse = log_e_worse;
                measured.candidate = candidate;
                measured.stable = Some(other);
                measured.detail = Some(class.clone());
            }
        }
        measured
    }

    /// Tests every time window against a ceiling, and reports the worst window.
    ///
    /// Each window is a separate test. A candidate that becomes bad after a good week is therefore
    /// found as fast as one that is bad from the start. Window w gets the share 6 / (π² (w + 1)²)
    /// of the allowed error probability. These shares add up to 1 over all windows.
    fn worst_window(
        &self,
        arm: &ArmTotals,
        hits: impl Fn(&WindowTotals) -> u64,
        ceiling: f64,
    ) -> Measurement {
        let tests = arm.windows.iter().map(|(window, totals)| {
            let proportion = Proportion::new(hits(totals), totals.units);
            let factor = (PI * (f64::from(*window) + 1.0)).powi(2) / 6.0;
            (
                proportion,
                factor,
                sequential::log_e_above(proportion, ceiling),
            )
        });
        // The worst window is the one that exceeds its own limit most.
        let worst = tests.max_by(|(_, a, x), (_, b, y)| (x - a.ln()).total_cmp(&(y - b.ln())));
        let (candidate, limit_factor, log_e_worse) =
            worst.unwrap_or((Proportion::default(), PI.powi(2) / 6.0, 0.0));
        Measurement {
            unit: self.unit(),
            candidate,
            stable: None,
            margin: ceiling,
            log_e_worse,
            // A ceiling needs no proof that the candidate is fine.
            log_e_fine: 0.0,
            limit_factor,
            detail: None,
        }
    }
}

fn measure_pairs(arm: &ArmTotals, budget: f64) -> Measurement {
    let differing = Proportion::new(arm.pairs.differ, arm.pairs.pairs);
    Measurement {
        unit: "pairs",
        candidate: differing,
        stable: None,
        margin: budget,
        log_e_worse: sequential::log_e_above(differing, budget),
        log_e_fine: sequential::log_e_below(differing, budget),
        limit_factor: 1.0,
        detail: None,
    }
}

/// e^x, limited so that JSON can represent it.
fn finite_exp(log: f64) -> f64 {
    log.min(MAX_LOG_E).exp()
}
