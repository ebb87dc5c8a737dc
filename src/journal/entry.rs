//! Entry: one decision, as it is written. Its text is hashed, so what is read is never written anew.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actor::Actor;

/// What was decided.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The first choice of a stable version.
    Adopt,
    /// A rollout begins, or waits for a second name where its plan asks for one.
    Start,
    /// A second person agrees.
    Approve,
    /// The rollout goes on to its next step.
    Advance,
    /// The rollout stays where it is until somebody resumes it.
    Pause,
    Resume,
    /// The candidate becomes stable.
    Promote,
    /// The candidate gets no traffic any more.
    Abort,
    /// A former stable version becomes stable again; during a rollout, the rollout ends and the stable version stays.
    Rollback,
    /// Damaged entries were set aside, and any rollout before them ended.
    Repair,
}

impl Action {
    pub fn name(self) -> &'static str {
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

    /// Takes effect here even where it can't be written yet: it protects callers, or nothing would answer.
    pub fn is_urgent(self) -> bool {
        matches!(self, Action::Adopt | Action::Abort | Action::Rollback)
    }

    /// May take the room that is kept for it on a full disk: others wait for it.
    pub fn may_use_reserve(self) -> bool {
        self.is_urgent() || self == Action::Repair
    }
}

/// A version, and what its files were when it was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionRef {
    pub version: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.version)
    }
}

/// The form of `journal/MODEL/00000042.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Unique, so that a writer whose answer got lost recognises its own entry.
    pub id: String,
    /// From 1 on, without gaps.
    pub seq: u64,
    /// RFC 3339, in UTC, with milliseconds.
    pub at: String,
    pub actor: Actor,
    pub action: Action,
    pub model: String,
    /// The stable version before.
    pub from: Option<VersionRef>,
    /// The version that the decision is about.
    pub to: Option<VersionRef>,
    /// The name of the rollout's plan.
    pub strategy: Option<String>,
    pub reason: Option<String>,
    /// What the decision rests on: the judge's totals, the compatibility that was found.
    pub evidence: Option<Value>,
    /// What a replay needs beyond that: the plan, the arms, the step.
    pub details: Option<Value>,
    /// SHA-256 of the text of the entry before, 64 hex digits; zeros for the first.
    pub previous_sha256: String,
    /// SHA-256 of this entry's text with 64 zeros here: the last entry has no successor that would tell of a change.
    pub sha256: String,
}
