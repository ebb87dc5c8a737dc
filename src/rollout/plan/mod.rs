//! `RolloutPlan`: the steps of a rollout, and the guards of its candidates. A plan is built in, or
//! is read from TOML.

mod builtin;
mod error;
mod guards;
mod key;
mod parse;
mod step;

pub use error::{PlanError, PlanFault};
pub use guards::{Guards, OnDisagreement};
pub use key::AssignmentKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use step::PlanStep;

/// How a candidate becomes the stable version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutPlan {
    /// The name of the plan. It must not be empty.
    pub name: String,
    /// Maximum probability that a candidate that is not worse is aborted, over the whole rollout
    /// and all candidates.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// The number of seconds after which an undecided rollout is inconclusive.
    #[serde(default = "default_max_seconds")]
    pub max_seconds: u64,
    /// The part of a request that determines the version that answers it.
    #[serde(default, skip_serializing_if = "AssignmentKey::is_prediction_id")]
    pub key: AssignmentKey,
    /// Whether a second operator must approve before the rollout starts.
    #[serde(default)]
    pub approve: bool,
    /// The guards of the candidates.
    #[serde(default)]
    pub guards: Guards,
    /// The steps in their order. At least one step is required.
    pub steps: Vec<PlanStep>,
}

fn default_alpha() -> f64 {
    0.01
}

/// The default of `max_seconds`, a week.
fn default_max_seconds() -> u64 {
    7 * 86_400
}

/// Maximum of `max_seconds`, a hundred days. A longer rollout would be a second service.
const MAX_SECONDS: u64 = 8_640_000;

impl RolloutPlan {
    /// Whether the step waits for an operator, regardless of the judge's verdict.
    pub fn hold(&self, step: usize) -> bool {
        match self.steps.get(step) {
            Some(PlanStep::Ab { .. }) => true,
            Some(PlanStep::Shadow { hold, .. } | PlanStep::Canary { hold, .. }) => *hold,
            _ => false,
        }
    }

    /// The share of the units that each of `candidates` candidates answers in a step. The stable
    /// version answers the rest.
    pub fn weights(&self, step: usize, candidates: usize) -> Vec<f64> {
        let each = |weight: f64| vec![weight; candidates];
        // A division by 0 would give infinite weights.
        let number = candidates.max(1) as f64;
        match self.steps.get(step) {
            Some(PlanStep::Canary { weight, .. }) => each(weight / number),
            Some(PlanStep::Ab {
                weights: Some(weights),
                ..
            }) => weights.iter().copied().take(candidates).collect(),
            Some(PlanStep::Ab { weights: None, .. }) => each(1.0 / (number + 1.0)),
            Some(PlanStep::BlueGreen { .. }) => each(1.0 / number),
            Some(PlanStep::Shadow { .. }) | None => each(0.0),
        }
    }

    /// The share of the requests that the candidates answer for comparison only.
    pub fn shadow_share(&self, step: usize) -> f64 {
        match self.steps.get(step) {
            Some(PlanStep::Shadow { share, .. }) => *share,
            _ => 0.0,
        }
    }

    /// Checks all values. Plans from TOML, the API and the journal are all checked.
    pub fn check(&self) -> Result<(), PlanFault> {
        if self.name.is_empty() {
            return Err(PlanFault::EmptyName);
        }
        check_range("alpha", self.alpha, 1e-9, 0.5)?;
        check_range(
            "max_seconds",
            self.max_seconds as f64,
            1.0,
            MAX_SECONDS as f64,
        )?;
        self.guards.check()?;
        if self.steps.is_empty() {
            return Err(PlanFault::NoSteps);
        }
        let mut before = 0.0;
        let mut least: u64 = 0;
        for (index, step) in self.steps.iter().enumerate() {
            step.check(&|key: &str| format!("steps[{index}].{key}"))?;
            // A plan can contain any number. An overflow must not make the sum small.
            least = least.saturating_add(step.min_seconds());
            // A smaller weight would move units from the candidate back to the stable version, and
            // their users would see the answers change twice.
            if let Some(weight) = step.largest_weight() {
                if weight < before {
                    return Err(PlanFault::FallingWeight {
                        index,
                        weight,
                        before,
                    });
                }
                before = weight;
            }
        }
        if least > self.max_seconds {
            return Err(PlanFault::MaxSecondsTooShort { least });
        }
        Ok(())
    }
}

fn check_range(key: &str, value: f64, least: f64, most: f64) -> Result<(), PlanFault> {
    // NaN is outside every range.
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(PlanFault::OutOfRange {
            key: key.to_owned(),
            least,
            most,
            value,
        })
    }
}

#[cfg(test)]
mod tests;
