//! `Guards`: the limits for the harm that a candidate may cause.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rollout::plan::{PlanFault, check_range};

/// The metrics in which a candidate must not be worse. A margin is the accepted difference between
/// two shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guards {
    /// The margin for the share of units that were not answered.
    pub error_margin: f64,
    /// The margin for the share of units with NaN in the answer.
    pub nan_margin: f64,
    /// The margin for the share of engine runs that failed, among runs with a similar number of
    /// rows.
    pub run_margin: f64,
    /// A run is slow if it takes longer than this quantile of the stable version's runs before the
    /// step. Only runs in the same bucket of rows are compared. The same rule applies to the cost
    /// of a run.
    pub engine_time_quantile: f64,
    /// A run that is faster than this is never slow or expensive: a time of a few microseconds
    /// depends on the processor's caches.
    pub engine_time_floor_ms: f64,
    /// The margin for the share of slow runs.
    pub engine_time_margin: f64,
    /// The margin for the share of expensive runs.
    pub cost_margin: f64,
    /// Two answers differ if their numbers differ by more than this.
    pub disagreement_tolerance: f64,
    /// The share of pairs of answers that may differ. Without it, pairs are not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disagreement_budget: Option<f64>,
    /// The difference that the share of a predicted class (or bin of numbers) may have. Without it,
    /// the distribution of predictions is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution_budget: Option<f64>,
    /// The action if the answers disagree too much: pause or abort.
    pub on_disagreement: OnDisagreement,
    /// The share of failed units in a window above which the candidate is aborted at once,
    /// regardless of the stable version.
    pub error_ceiling: f64,
    /// The ceiling for the 99th percentile of the time from the request to the answer in a window.
    /// Without it, this time is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ceiling_ms: Option<f64>,
    /// The length of a window in seconds.
    pub window_seconds: u64,
}

/// The action if a candidate's predictions differ by more than their budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDisagreement {
    /// The rollout pauses and an operator decides, because a better model also predicts
    /// differently.
    #[default]
    Pause,
    /// The rollout is aborted.
    Abort,
}

impl Default for Guards {
    fn default() -> Guards {
        Guards {
            error_margin: 0.005,
            nan_margin: 0.005,
            run_margin: 0.005,
            engine_time_quantile: 0.95,
            engine_time_floor_ms: 0.2,
            engine_time_margin: 0.05,
            cost_margin: 0.05,
            disagreement_tolerance: 1e-3,
            disagreement_budget: None,
            distribution_budget: None,
            on_disagreement: OnDisagreement::Pause,
            error_ceiling: 0.10,
            p99_ceiling_ms: None,
            window_seconds: 60,
        }
    }
}

impl Guards {
    #[rustfmt::skip]
    pub(super) fn check(&self) -> Result<(), PlanFault> {
        let ranges = [
            ("error_margin", Some(self.error_margin), 0.0, 1.0),
            ("nan_margin", Some(self.nan_margin), 0.0, 1.0),
            ("run_margin", Some(self.run_margin), 0.0, 1.0),
            // The extreme quantiles would need more runs than a step has.
            ("engine_time_quantile", Some(self.engine_time_quantile), 0.5, 0.999),
            ("engine_time_floor_ms", Some(self.engine_time_floor_ms), 0.0, 60_000.0),
            ("engine_time_margin", Some(self.engine_time_margin), 0.0, 1.0),
            ("cost_margin", Some(self.cost_margin), 0.0, 1.0),
            ("disagreement_tolerance", Some(self.disagreement_tolerance), 0.0, f64::MAX),
            ("disagreement_budget", self.disagreement_budget, 0.0, 1.0),
            // The judge tests 1 / budget classes.
            ("distribution_budget", self.distribution_budget, 0.001, 1.0),
            ("error_ceiling", Some(self.error_ceiling), 0.0, 1.0),
            ("p99_ceiling_ms", self.p99_ceiling_ms, 0.001, 86_400_000.0),
            ("window_seconds", Some(self.window_seconds as f64), 1.0, 86_400.0),
        ];
        for (key, value, least, most) in ranges {
            if let Some(value) = value {
                check_range(&format!("guards.{key}"), value, least, most)?;
            }
        }
        Ok(())
    }
}
