//! The texts with which a judgement explains itself to operators.

use crate::rollout::{
    figures::{number, percent},
    judge::{GuardMetric, GuardReport, GuardState, StepCase},
    plan::PlanStep,
};

impl StepCase<'_> {
    /// The step, like `step 2 (5 %)`.
    pub(super) fn place(&self) -> String {
        let kind = match self.step {
            PlanStep::Shadow { share, .. } => format!("shadow {}", percent(*share)),
            PlanStep::Canary { weight, .. } => percent(*weight),
            PlanStep::Ab { .. } | PlanStep::BlueGreen { .. } => self.step.kind().to_owned(),
        };
        format!("step {} ({kind})", self.case.step + 1)
    }

    /// The number of units of the candidate with the fewest units, like `412 keys`.
    pub(super) fn units(&self) -> String {
        let units = self
            .case
            .candidates
            .iter()
            .map(|candidate| self.arm(candidate).units)
            .min()
            .unwrap_or_default();
        format!("{units} {}", self.unit())
    }

    /// The number of units of a report, like `412 keys`. With several candidates, like `412 keys of
    /// 1.2.0`.
    pub(super) fn count(&self, report: &GuardReport) -> String {
        let count = match report.guard {
            // The report about a ceiling counts the units of one window.
            GuardMetric::ErrorCeiling | GuardMetric::P99Ceiling => {
                self.arm(&report.candidate).units
            }
            _ => report.count,
        };
        let of = if self.case.candidates.len() > 1 {
            format!(" of {}", report.candidate)
        } else {
            String::new()
        };
        format!("{count} {}{of}", report.unit)
    }

    /// The rates of all guards that are shown to be fine.
    pub(super) fn clear_rates(&self, guards: &[GuardReport]) -> Vec<String> {
        guards
            .iter()
            .filter(|report| report.state == GuardState::Clear)
            .map(|report| self.rate(report))
            .collect()
    }

    /// The rate of a guard, like `error rate 3.1 % against 0.2 %`.
    fn rate(&self, report: &GuardReport) -> String {
        let (share, margin) = (percent(report.share), percent(report.margin));
        let rate = match report.guard {
            GuardMetric::Errors => format!("error rate {share}"),
            GuardMetric::Nan => format!("NaN answers {share}"),
            GuardMetric::Runs => format!("failed runs {share}"),
            GuardMetric::EngineTime => format!("slow runs {share}"),
            GuardMetric::Cost => format!("expensive runs {share}"),
            GuardMetric::Disagreement => format!("pairs that differ {share}, budget {margin}"),
            GuardMetric::Distribution => format!(
                "predictions of \"{}\" {share}",
                report.detail.as_deref().unwrap_or_default()
            ),
            GuardMetric::ErrorCeiling => {
                format!(
                    "error rate {share} {}, ceiling {margin}",
                    self.window(report)
                )
            }
            GuardMetric::P99Ceiling => format!(
                "later than {} ms {share} {}, ceiling {margin}",
                self.case.plan.guards.p99_ceiling_ms.unwrap_or_default(),
                self.window(report)
            ),
        };
        match report.stable_share {
            Some(stable) => format!("{rate} against {}", percent(stable)),
            None => rate,
        }
    }

    /// The units of a window, like `of 80 keys in 60 s`.
    fn window(&self, report: &GuardReport) -> String {
        format!(
            "of {} {} in {} s",
            report.count, report.unit, self.case.plan.guards.window_seconds
        )
    }

    /// The evidence that a candidate is worse, like `error rate 3.1 % against 0.2 % (e-value 671,
    /// limit 500)`.
    pub(super) fn evidence(&self, report: &GuardReport) -> String {
        format!(
            "{} (e-value {}, limit {})",
            self.rate(report),
            number(report.e_value),
            number(report.limit)
        )
    }

    /// The evidence that a candidate is not worse, like `error rate 0.6 % against 0.1 %, margin 0.5
    /// % (e-value 0.2, limit 100)`.
    pub(super) fn evidence_of_safety(&self, report: &GuardReport) -> String {
        if report.state == GuardState::NoData {
            return format!("{} (no data)", report.guard.name());
        }
        format!(
            "{}, margin {} (e-value {}, limit {})",
            self.rate(report),
            percent(report.margin),
            number(report.e_value_fine),
            number(report.limit_fine)
        )
    }
}
