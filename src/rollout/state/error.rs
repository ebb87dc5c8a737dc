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

/// Why an entry can't be applied. Each text is a clause that can stand after the number of the
/// entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryProblem {
    #[error("version {version} has two digests")]
    TwoDigests { version: String },
    #[error("the entry's time can't be read")]
    UnreadableTime,
    #[error("the entry names no version")]
    NoVersion,
    #[error("the entry has no details")]
    NoDetails,
    #[error("the entry's details can't be read")]
    UnreadableDetails(#[source] DocumentError),
    #[error("a version is adopted during a rollout")]
    AdoptedDuringRollout,
    #[error("a rollout starts while another is in progress")]
    StartedDuringRollout,
    #[error("the entry's plan is invalid")]
    Plan(#[from] PlanFault),
    #[error("the rollout's plan has no such step")]
    NoSuchStep,
    #[error("the entry is about a rollout, but no rollout is in progress")]
    NoRollout,
}
