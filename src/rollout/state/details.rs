//! The details of journal entries about a rollout, in their serialized form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    document,
    journal::entry::{Entry, VersionRef},
    rollout::{judge::GuardMetric, plan::RolloutPlan, state::EntryProblem},
};

/// The details of a `start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartDetails {
    pub plan: RolloutPlan,
    pub candidates: Vec<VersionRef>,
    /// Whether an operator accepted that a rollback would break callers who use the new values of
    /// the candidate.
    #[serde(default)]
    pub forward_only: bool,
    /// Differences that are not proved to be harmless and that an operator accepted.
    #[serde(default)]
    pub accepted: Vec<String>,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// The details of an `approve` or `advance`, which begins a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepDetails {
    /// The index of the step, from 0.
    pub step: usize,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// The details of a `pause` by the judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseDetails {
    /// The guard that was inconclusive. `None` if no single guard was.
    #[serde(default)]
    pub guard: Option<GuardMetric>,
}

/// The details of a `repair`. A reader accepts other members, so that every old entry stays valid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RepairDetails {
    /// The number of the first damaged entry.
    pub damaged: u64,
    /// What was wrong with it, as text: readers show it, and old entries have other texts.
    pub detail: String,
    pub set_aside: Places,
}

/// The directories to which a repair moved entries. A single one is written as a string.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Places {
    One(String),
    Several(Vec<String>),
}

impl Default for Places {
    fn default() -> Places {
        Places::Several(Vec::new())
    }
}

impl From<Vec<String>> for Places {
    fn from(mut places: Vec<String>) -> Places {
        match (places.pop(), places.is_empty()) {
            (Some(only), true) => Places::One(only),
            (last, _) => {
                places.extend(last);
                Places::Several(places)
            }
        }
    }
}

impl Places {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Places::One(place) => vec![place],
            Places::Several(places) => places,
        }
    }
}

/// The thresholds above which a run counts as slow or expensive. They are written when a step
/// begins, so that they are the same on every replica and do not depend on the runs of the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thresholds {
    /// The threshold for the time of an engine run in nanoseconds, by bucket of rows.
    pub time_ns: BTreeMap<u8, u64>,
    /// The threshold for the core time of an engine run in nanoseconds, by bucket of rows. It is
    /// the cost without the price.
    pub core_ns: BTreeMap<u8, u64>,
}

pub(super) fn read_details<T: DeserializeOwned>(entry: &Entry) -> Result<T, EntryProblem> {
    let details = entry.details.as_ref().ok_or(EntryProblem::NoDetails)?;
    document::read(details).map_err(EntryProblem::UnreadableDetails)
}
