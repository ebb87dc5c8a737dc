//! The details of journal entries about a rollout, as they are written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    journal::entry::{Entry, VersionRef},
    rollout::{judge::GuardMetric, plan::RolloutPlan, state::EntryProblem},
};

/// The details of a `start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartDetails {
    pub plan: RolloutPlan,
    pub candidates: Vec<VersionRef>,
    /// An operator accepted that a rollback would break callers that adopt what is new in the
    /// candidate.
    #[serde(default)]
    pub forward_only: bool,
    /// Differences that are not proved harmless and that an operator accepted.
    #[serde(default)]
    pub accepted: Vec<String>,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// The details of an `approve` or `advance`, which begins a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepDetails {
    /// From 0.
    pub step: usize,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// The details of a `pause` by the judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseDetails {
    /// The guard that was inconclusive.
    #[serde(default)]
    pub guard: Option<GuardMetric>,
}

/// A run above these thresholds counts as slow or expensive. They are written when a step begins,
/// so that they are the same on every replica and do not follow the runs of the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thresholds {
    /// Nanoseconds of an engine run, by bucket of rows.
    pub time_ns: BTreeMap<u8, u64>,
    /// Nanoseconds of processor cores in an engine run, by bucket of rows: the cost without the
    /// price.
    pub core_ns: BTreeMap<u8, u64>,
}

pub(super) fn read_details<T: DeserializeOwned>(entry: &Entry) -> Result<T, EntryProblem> {
    let value = entry.details.clone().ok_or(EntryProblem::NoDetails)?;
    serde_json::from_value(value)
        .map_err(|error| EntryProblem::UnreadableDetails(error.to_string()))
}
