//! Trouble: a problem with the journal that prevents new decisions, and the decisions that are
//! possible anyway.

use crate::{id::ModelName, suggestion::Suggestion};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The state directory can't be read now. All decisions that were read stay valid.
    Unreadable(String),
    /// The entry `seq` is not valid. The decisions of the entries before it stay valid.
    Damaged {
        seq: u64,
        detail: String,
        /// Whether other entries exist beyond the damage.
        further: bool,
    },
    /// The file of entry `seq` changed after it was read. All decisions that were read stay valid.
    Overwritten { seq: u64, detail: String },
}

impl Trouble {
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

    pub(super) fn describe(&self) -> String {
        match self {
            Trouble::Unreadable(detail) => detail.clone(),
            Trouble::Damaged { seq, detail, .. } | Trouble::Overwritten { seq, detail } => {
                format!("journal damaged at entry {seq}, which {detail}")
            }
        }
    }

    /// The command that helps. `known`: whether the journal was read before, so that the stable
    /// version is known.
    pub(super) fn suggestion(&self, known: bool) -> Option<Suggestion> {
        match self {
            Trouble::Unreadable(_) if known => None,
            Trouble::Unreadable(_) => Some(Suggestion::RollBackToNeverStable { to: None }),
            Trouble::Damaged { .. } | Trouble::Overwritten { .. } => {
                Some(Suggestion::RepairJournal)
            }
        }
    }

    /// One line for the log that includes the suggested command, because the log has no front end
    /// that could add it.
    pub(super) fn log_line(&self, model: &ModelName, known: bool) -> String {
        let advice = match self.suggestion(known) {
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
