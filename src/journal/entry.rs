//! `Entry`: a decision in its written form. An entry is never rewritten, because its text is
//! hashed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actor::Actor;

/// The kind of a decision.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// The first choice of a stable version.
    Adopt,
    /// A rollout begins, or waits for the approval that its plan requires.
    Start,
    /// A second operator approves the rollout.
    Approve,
    /// The rollout advances to its next step.
    Advance,
    /// The rollout stays in its step until an operator resumes it.
    Pause,
    /// A paused rollout continues.
    Resume,
    /// The candidate becomes stable.
    Promote,
    /// The rollout ends, and the candidate gets no more traffic.
    Abort,
    /// A former stable version becomes stable again. If a rollout is in progress: the rollout ends,
    /// and the stable version stays.
    Rollback,
    /// Damaged entries were moved aside, and a rollout that was in progress ended.
    Repair,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Adopt => "adopt",
            Action::Start => "start",
            Action::Approve => "approve",
            Action::Advance => "advance",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Promote => "promote",
            Action::Abort => "abort",
            Action::Rollback => "rollback",
            Action::Repair => "repair",
        }
    }

    /// Whether the decision takes effect on this server even if it can't be written yet. These
    /// decisions protect callers, or choose the first version that answers.
    pub(crate) fn is_urgent(self) -> bool {
        matches!(self, Action::Adopt | Action::Abort | Action::Rollback)
    }

    /// Whether the decision may use the disk space that is reserved for a full disk. A repair may
    /// use it, because other decisions wait for the repair.
    pub(crate) fn may_use_reserve(self) -> bool {
        self.is_urgent() || self == Action::Repair
    }
}

/// A version, with the digest of its files at the time of the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionRef {
    pub version: String,
    /// The digest: `sha256:` and 64 hex digits.
    pub digest: String,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.version)
    }
}

/// The content of `journal/MODEL/00000042.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// A unique id. If the answer of the store is lost, the writer recognises its own entry by this
    /// id.
    pub id: String,
    /// The number of the entry. Numbers count from 1, without gaps.
    pub seq: u64,
    /// The time in UTC (RFC 3339, with milliseconds).
    pub at: String,
    pub actor: Actor,
    pub action: Action,
    pub model: String,
    /// The stable version before the decision. `None` if there was none.
    pub from: Option<VersionRef>,
    /// The version that the decision is about. `None` if it is about no version.
    pub to: Option<VersionRef>,
    /// The name of the rollout's plan. `None` if no rollout is involved.
    pub strategy: Option<String>,
    pub reason: Option<String>,
    /// The evidence for the decision: the judge's totals, and the compatibility of the versions.
    pub evidence: Option<Value>,
    /// Details that other entries do not contain: the plan, the candidates, the step.
    pub details: Option<Value>,
    /// The SHA-256 of the previous entry's text, 64 hex digits. Zeros in the first entry.
    pub previous_sha256: String,
    /// The SHA-256 of this entry's text with 64 zeros in place of this hash. Without it, nobody
    /// would notice a change of the last entry.
    pub sha256: String,
}
