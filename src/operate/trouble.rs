//! Trouble: a problem with the journal that prevents new decisions, and the decisions that are
//! possible anyway.

use std::{error::Error, fmt, sync::Arc};

use crate::{
    error::text_with_sources,
    id::ModelName,
    journal::{JournalError, LOST_BEGINNING, chain::ChainFault, store::StoreError},
    rollout::state::EntryProblem,
    suggestion::Suggestion,
};

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The state directory can't be read now. All decisions that were read stay valid.
    #[error(transparent)]
    Unreadable(Arc<JournalError>),
    /// Every entry of the journal is gone. All decisions that were read stay valid.
    #[error(
        "the journal vanished from the state directory: entry {seq} of {model}, which was read before, is missing, and so are all others"
    )]
    Vanished {
        model: ModelName,
        seq: u64,
        /// Whether the state directory is the same as before. If so, only the journal is gone.
        directory_remains: bool,
    },
    /// The entry `seq` is not valid. The decisions of the entries before it stay valid.
    #[error("journal damaged at entry {seq}")]
    Damaged {
        seq: u64,
        #[source]
        damage: Arc<Damage>,
        /// Whether other entries exist beyond the damage.
        further: bool,
    },
    /// The file of entry `seq` changed after it was read. All decisions that were read stay valid.
    #[error(
        "journal damaged at entry {seq} (this server read the entry earlier and still applies it)"
    )]
    Overwritten {
        seq: u64,
        #[source]
        damage: Arc<Damage>,
    },
}

/// What is wrong with an entry. Each text is a clause that can stand after `journal damaged at
/// entry 2: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the entry is missing")]
    Missing,
    /// The journal seems to be empty, but objects exist that only decisions create.
    #[error("{LOST_BEGINNING}")]
    LostBeginning,
    /// A repair moved entries aside, and then failed to write its own entry.
    #[error("the entry was moved aside without an entry that says so")]
    Unlisted,
    #[error("the entry differs from the entry that was read before")]
    Replaced,
    #[error(transparent)]
    Chain(#[from] ChainFault),
    #[error(transparent)]
    Problem(#[from] EntryProblem),
}

/// Two problems are the same if an operator reads the same about them: their sources can't be
/// compared.
impl PartialEq for Trouble {
    fn eq(&self, other: &Trouble) -> bool {
        // The members that no text shows, but that decide what an operator can do.
        let hidden = |trouble: &Trouble| match trouble {
            Trouble::Damaged { further, .. } => *further,
            Trouble::Vanished {
                directory_remains, ..
            } => *directory_remains,
            Trouble::Unreadable(_) | Trouble::Overwritten { .. } => false,
        };
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && hidden(self) == hidden(other)
            && self.describe() == other.describe()
    }
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Trouble {
        Trouble::Unreadable(Arc::new(error))
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        JournalError::from(error).into()
    }
}

impl Trouble {
    /// Whether the journal can't be read now, so that nothing is known about its entries.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Trouble::Unreadable(_) | Trouble::Vanished { .. })
    }

    /// Whether a decision must be refused. An urgent decision may take effect now and be written
    /// later.
    pub(super) fn forbids(&self, urgent: bool) -> bool {
        matches!(self, Trouble::Damaged { .. }) || !urgent
    }

    /// Whether the journal seems to be empty except for the damage. In this case the process may
    /// choose a first stable version, which applies only to this process.
    pub(super) fn allows_first_choice(&self) -> bool {
        matches!(
            self,
            Trouble::Damaged {
                seq: 1,
                further: false,
                ..
            }
        )
    }

    /// The text for operators, with its sources.
    pub(super) fn describe(&self) -> String {
        text_with_sources(self)
    }

    /// The command that helps. `known`: whether the journal was read before, so that the stable
    /// version is known.
    pub(super) fn suggestion(&self, known: bool) -> Option<Suggestion> {
        match self {
            Trouble::Vanished {
                directory_remains: true,
                ..
            } => Some(Suggestion::RepairJournal),
            Trouble::Unreadable(_) | Trouble::Vanished { .. } if known => None,
            Trouble::Unreadable(_) | Trouble::Vanished { .. } => {
                Some(Suggestion::RollBackToNeverStable { to: None })
            }
            Trouble::Damaged { .. } | Trouble::Overwritten { .. } => {
                Some(Suggestion::RepairJournal)
            }
        }
    }

    /// One line for the log that includes the suggested command, because the log has no front end
    /// that could add it.
    pub(super) fn log_line(&self, model: &ModelName, known: bool) -> String {
        let advice = match self.suggestion(known) {
            Some(Suggestion::RepairJournal) if self.is_unreadable() => {
                format!("; `predictd history {model} --repair --reason TEXT` begins a new journal")
            }
            Some(Suggestion::RepairJournal) => format!(
                "; `predictd history {model} --repair --reason TEXT` moves the damaged end aside"
            ),
            Some(_) => format!(
                "; `predictd rollback {model} --to VERSION --never-stable --reason TEXT` makes a version answer on this server until the state directory can be read"
            ),
            None => String::new(),
        };
        format!("{}{advice}", self.describe())
    }
}

/// A decision that is refused because of the journal's problem. Its text and its source are those
/// of the problem.
#[derive(Debug)]
pub(crate) struct RefusedByTrouble {
    pub trouble: Trouble,
    pub suggestion: Option<Suggestion>,
}

impl fmt::Display for RefusedByTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble.fmt(f)
    }
}

impl Error for RefusedByTrouble {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.trouble.source()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        document,
        journal::chain::ChainFault,
        operate::trouble::{Damage, Trouble},
        rollout::{plan::RolloutPlan, state::EntryProblem},
    };

    /// A new variant must be added to the table below.
    fn is_listed(damage: &Damage) {
        match damage {
            Damage::Missing | Damage::LostBeginning | Damage::Unlisted | Damage::Replaced => {}
            Damage::Chain(
                ChainFault::Unreadable(_)
                | ChainFault::OtherNumber(_)
                | ChainFault::OtherModel(_)
                | ChainFault::OtherPredecessor
                | ChainFault::Altered,
            ) => {}
            Damage::Problem(
                EntryProblem::TwoDigests { .. }
                | EntryProblem::UnreadableTime
                | EntryProblem::NoVersion
                | EntryProblem::NoDetails
                | EntryProblem::UnreadableDetails(_)
                | EntryProblem::AdoptedDuringRollout
                | EntryProblem::StartedDuringRollout
                | EntryProblem::Plan(_)
                | EntryProblem::NoSuchStep
                | EntryProblem::NoRollout,
            ) => {}
        }
    }

    #[test]
    fn every_damage_is_a_clause_about_the_entry() {
        let no_steps = RolloutPlan {
            steps: Vec::new(),
            ..RolloutPlan::builtin("canary").unwrap()
        };
        let plan = no_steps.check().unwrap_err();
        let details = document::read::<u8>(&"x".into()).unwrap_err();
        let version = "1.0.0".to_owned();
        let cases: [(Damage, &str); 19] = [
            (Damage::Missing, "the entry is missing"),
            (
                Damage::LostBeginning,
                "the entry is missing, though the state directory has packages or evidence of \
                 earlier decisions",
            ),
            (
                Damage::Unlisted,
                "the entry was moved aside without an entry that says so",
            ),
            (
                Damage::Replaced,
                "the entry differs from the entry that was read before",
            ),
            (
                ChainFault::Unreadable(details.clone()).into(),
                "the entry can't be read: expected a whole number from 0 to 255, found \"x\"",
            ),
            (
                ChainFault::OtherNumber(3).into(),
                "the entry contains the number 3: entries were renamed",
            ),
            (
                ChainFault::OtherModel("iris".to_owned()).into(),
                "the entry belongs to the model iris",
            ),
            (
                ChainFault::OtherPredecessor.into(),
                "the entry does not match the entry before it: one of the two was altered, or an \
                 entry between them is missing",
            ),
            (
                ChainFault::Altered.into(),
                "the entry was altered: its content does not match its hash",
            ),
            (
                EntryProblem::TwoDigests { version }.into(),
                "version 1.0.0 has two digests",
            ),
            (
                EntryProblem::UnreadableTime.into(),
                "the entry's time can't be read",
            ),
            (EntryProblem::NoVersion.into(), "the entry names no version"),
            (EntryProblem::NoDetails.into(), "the entry has no details"),
            (
                EntryProblem::UnreadableDetails(details).into(),
                "the entry's details can't be read: expected a whole number from 0 to 255, found \"x\"",
            ),
            (
                EntryProblem::AdoptedDuringRollout.into(),
                "a version is adopted during a rollout",
            ),
            (
                EntryProblem::StartedDuringRollout.into(),
                "a rollout starts while another is in progress",
            ),
            (
                EntryProblem::Plan(plan).into(),
                "the entry's plan is invalid: `steps`: a plan has at least one step",
            ),
            (
                EntryProblem::NoSuchStep.into(),
                "the rollout's plan has no such step",
            ),
            (
                EntryProblem::NoRollout.into(),
                "the entry is about a rollout, but no rollout is in progress",
            ),
        ];
        for (damage, expected) in cases {
            is_listed(&damage);
            let trouble = Trouble::Damaged {
                seq: 2,
                damage: Arc::new(damage),
                further: false,
            };
            assert_eq!(
                trouble.describe(),
                format!("journal damaged at entry 2: {expected}")
            );
        }
    }
}
