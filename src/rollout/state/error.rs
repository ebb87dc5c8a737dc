//! Why the rest of a journal can't be applied.

use crate::{journal::JournalError, rollout::plan::PlanFault};

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FoldError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

/// An entry that contradicts the entries before it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("journal entry {seq}: {problem}")]
pub(crate) struct Contradiction {
    pub seq: u64,
    pub problem: EntryProblem,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum EntryProblem {
    #[error("version {version} has two digests")]
    TwoDigests { version: String },
    #[error("its time can't be read")]
    UnreadableTime,
    #[error("names no version")]
    NoVersion,
    #[error("has no details")]
    NoDetails,
    #[error("its details can't be read: {0}")]
    UnreadableDetails(String),
    #[error("a version is adopted during a rollout")]
    AdoptedDuringRollout,
    #[error("a rollout starts while another is in progress")]
    StartedDuringRollout,
    #[error("its plan: {0}")]
    Plan(#[from] PlanFault),
    #[error("its plan has no such step")]
    NoSuchStep,
    #[error("no rollout is in progress")]
    NoRollout,
}
