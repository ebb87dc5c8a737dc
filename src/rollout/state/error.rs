//! Why the rest of a journal can't be applied.

use crate::{document::DocumentError, journal::JournalError, rollout::plan::PlanFault};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FoldError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

/// An entry that contradicts the entries before it.
#[derive(Debug, thiserror::Error)]
#[error("journal entry {seq}")]
pub(crate) struct Contradiction {
    pub seq: u64,
    #[source]
    pub problem: EntryProblem,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryProblem {
    #[error("version {version} has two digests")]
    TwoDigests { version: String },
    #[error("its time can't be read")]
    UnreadableTime,
    #[error("names no version")]
    NoVersion,
    #[error("has no details")]
    NoDetails,
    #[error("its details can't be read")]
    UnreadableDetails(#[source] DocumentError),
    #[error("a version is adopted during a rollout")]
    AdoptedDuringRollout,
    #[error("a rollout starts while another is in progress")]
    StartedDuringRollout,
    #[error("its plan")]
    Plan(#[from] PlanFault),
    #[error("its plan has no such step")]
    NoSuchStep,
    #[error("no rollout is in progress")]
    NoRollout,
}
