//! `PlanStep`: a step of a rollout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    document::DocumentProblem,
    rollout::plan::{PlanFault, check_range, parse::step_keys},
};

/// Minimum weight: one unit in a hundred thousand. With a smaller weight a step would never end.
const SMALLEST_WEIGHT: f64 = 1e-5;

/// One step of a rollout. Its member `kind` contains its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", try_from = "StepMembers")]
#[schemars(!try_from, deny_unknown_fields)]
pub enum PlanStep {
    /// The candidate answers copies of a share of the requests. Its answers are compared and
    /// discarded.
    Shadow {
        /// The share of the requests that are copied, from 0 to 1.
        share: f64,
        /// Minimum duration of the step in seconds, without pauses.
        #[serde(default)]
        min_seconds: u64,
        /// Minimum number of requests for each candidate in the step.
        #[serde(default)]
        min_requests: u64,
        /// Whether the step waits until an operator decides.
        #[serde(default)]
        hold: bool,
    },
    /// The candidate answers a share of the units.
    Canary {
        /// The share of the units, from 0 to 1.
        weight: f64,
        /// Minimum duration of the step in seconds, without pauses.
        #[serde(default)]
        min_seconds: u64,
        /// Minimum number of requests for each candidate in the step.
        #[serde(default)]
        min_requests: u64,
        /// Whether the step waits until an operator decides.
        #[serde(default)]
        hold: bool,
    },
    /// The stable version and the candidates both answer requests, until an operator decides.
    Ab {
        /// The share of each candidate. Without it, the stable version and the candidates have
        /// equal shares.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<Vec<f64>>,
        /// Minimum duration of the step in seconds, without pauses.
        #[serde(default)]
        min_seconds: u64,
        /// Minimum number of requests for each candidate in the step.
        #[serde(default)]
        min_requests: u64,
    },
    /// The candidate answers all units at once. The stable version stays loaded.
    BlueGreen {
        /// Minimum duration of the step in seconds, without pauses.
        #[serde(default)]
        min_seconds: u64,
        /// Minimum number of requests for each candidate in the step.
        #[serde(default)]
        min_requests: u64,
    },
}

/// The members of a step of any kind. serde's own reader of such an enum forgets the place of a
/// value, so its error would name the step and not the member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepMembers {
    kind: StepKind,
    share: Option<f64>,
    weight: Option<f64>,
    weights: Option<Vec<f64>>,
    #[serde(default)]
    min_seconds: u64,
    #[serde(default)]
    min_requests: u64,
    hold: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StepKind {
    Shadow,
    Canary,
    Ab,
    BlueGreen,
}

#[derive(Debug, thiserror::Error)]
enum StepFault {
    #[error(transparent)]
    Missing(DocumentProblem),
    #[error("a step of kind \"{kind}\" has no member \"{member}\"")]
    Foreign {
        kind: &'static str,
        member: &'static str,
    },
}

fn missing(member: &'static str) -> StepFault {
    StepFault::Missing(DocumentProblem::MissingMember(member))
}

impl TryFrom<StepMembers> for PlanStep {
    type Error = StepFault;

    fn try_from(members: StepMembers) -> Result<PlanStep, StepFault> {
        let StepMembers {
            kind,
            share,
            weight,
            weights,
            min_seconds,
            min_requests,
            hold,
        } = members;
        let given = [
            ("share", share.is_some()),
            ("weight", weight.is_some()),
            ("weights", weights.is_some()),
            ("hold", hold.is_some()),
        ];
        let hold = hold.unwrap_or_default();
        let step = match kind {
            StepKind::Shadow => PlanStep::Shadow {
                share: share.ok_or(missing("share"))?,
                min_seconds,
                min_requests,
                hold,
            },
            StepKind::Canary => PlanStep::Canary {
                weight: weight.ok_or(missing("weight"))?,
                min_seconds,
                min_requests,
                hold,
            },
            StepKind::Ab => PlanStep::Ab {
                weights,
                min_seconds,
                min_requests,
            },
            StepKind::BlueGreen => PlanStep::BlueGreen {
                min_seconds,
                min_requests,
            },
        };
        let own = step_keys(step.kind());
        let foreign = given
            .into_iter()
            .find(|(member, is_given)| *is_given && !own.contains(member));
        match foreign {
            Some((member, _)) => Err(StepFault::Foreign {
                kind: step.kind(),
                member,
            }),
            None => Ok(step),
        }
    }
}

impl PlanStep {
    /// The value of the member `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            PlanStep::Shadow { .. } => "shadow",
            PlanStep::Canary { .. } => "canary",
            PlanStep::Ab { .. } => "ab",
            PlanStep::BlueGreen { .. } => "blue-green",
        }
    }

    /// The minimum duration of the step in seconds.
    pub fn min_seconds(&self) -> u64 {
        match self {
            PlanStep::Shadow { min_seconds, .. }
            | PlanStep::Canary { min_seconds, .. }
            | PlanStep::Ab { min_seconds, .. }
            | PlanStep::BlueGreen { min_seconds, .. } => *min_seconds,
        }
    }

    /// The minimum number of units of each arm.
    pub fn min_requests(&self) -> u64 {
        match self {
            PlanStep::Shadow { min_requests, .. }
            | PlanStep::Canary { min_requests, .. }
            | PlanStep::Ab { min_requests, .. }
            | PlanStep::BlueGreen { min_requests, .. } => *min_requests,
        }
    }

    /// Whether the stable version answers units at the same time, so that the two can be compared.
    pub fn concurrent(&self) -> bool {
        match self {
            PlanStep::Shadow { .. } | PlanStep::Ab { .. } => true,
            PlanStep::Canary { weight, .. } => *weight < 1.0,
            // All units are assigned to the candidate.
            PlanStep::BlueGreen { .. } => false,
        }
    }

    /// The largest share of one candidate. `None` if it depends on the number of candidates.
    pub(super) fn largest_weight(&self) -> Option<f64> {
        match self {
            PlanStep::Shadow { .. } => Some(0.0),
            PlanStep::Canary { weight, .. } => Some(*weight),
            PlanStep::Ab { weights, .. } => weights
                .as_ref()
                .map(|weights| weights.iter().copied().fold(0.0, f64::max)),
            PlanStep::BlueGreen { .. } => Some(1.0),
        }
    }

    /// Checks the values. `path` returns the path of a key of this step in the plan.
    pub(super) fn check(&self, path: &impl Fn(&str) -> String) -> Result<(), PlanFault> {
        let check_share =
            |key: &str, value: f64| check_range(&path(key), value, SMALLEST_WEIGHT, 1.0);
        match self {
            PlanStep::Shadow { share, .. } => check_share("share", *share),
            PlanStep::Canary { weight, .. } => check_share("weight", *weight),
            PlanStep::Ab {
                weights: Some(weights),
                ..
            } => {
                for weight in weights {
                    check_share("weights", *weight)?;
                }
                // A comparison needs units of the stable version.
                if weights.is_empty() || weights.iter().sum::<f64>() >= 1.0 {
                    return Err(PlanFault::Weights {
                        key: path("weights"),
                    });
                }
                Ok(())
            }
            PlanStep::Ab { weights: None, .. } | PlanStep::BlueGreen { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{document, rollout::plan::PlanStep};

    #[test]
    fn a_step_has_the_members_of_its_kind() {
        for (step, expected) in [
            (
                json!({"kind": "shadow", "share": 0.5, "weight": 0.5}),
                "a step of kind \"shadow\" has no member \"weight\"",
            ),
            (
                json!({"kind": "ab", "hold": true}),
                "a step of kind \"ab\" has no member \"hold\"",
            ),
            (
                json!({"kind": "canary"}),
                "the member \"weight\" is missing",
            ),
            (
                json!({"kind": "canary", "weight": "half"}),
                "/weight: expected a number, found \"half\"",
            ),
        ] {
            let error = document::read::<PlanStep>(&step).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let step = json!({"kind": "blue-green"});
        let read: PlanStep = document::read(&step).unwrap();
        assert_eq!(read.kind(), "blue-green");
    }
}
