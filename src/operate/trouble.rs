//! Trouble: why no decision about a model can be written, and which decisions are possible all the
//! same.

use crate::{id::ModelName, suggestion::Suggestion};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The state can't be read now. Everything that was read before holds.
    Unreadable(String),
    /// The entry `seq` is not what it should be. The entries before it hold.
    Damaged {
        seq: u64,
        detail: String,
        /// Other entries exist beyond the damage.
        further: bool,
    },
    /// The entry `seq` was read, and its file changed afterwards. Everything that was read holds.
    Overwritten { seq: u64, detail: String },
}

impl Trouble {
    /// Whether a decision must be refused. An urgent decision may take effect and be written later.
    pub(super) fn forbids(&self, urgent: bool) -> bool {
        matches!(self, Trouble::Damaged { .. }) || !urgent
    }

    /// Whether the journal seems to be empty but for the damage: then a first stable version may be
    /// chosen, for this process.
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

    /// `known`: the journal was read before, so that the stable version is known.
    pub(super) fn suggestion(&self, known: bool) -> Option<Suggestion> {
        match self {
            Trouble::Unreadable(_) if known => None,
            Trouble::Unreadable(_) => Some(Suggestion::RollBackToNeverStable { to: None }),
            Trouble::Damaged { .. } | Trouble::Overwritten { .. } => {
                Some(Suggestion::RepairJournal)
            }
        }
    }

    /// One line for the log, which has no front end to word the suggestion.
    pub(super) fn log_line(&self, model: &ModelName, known: bool) -> String {
        let advice = match self.suggestion(known) {
            Some(Suggestion::RepairJournal) => format!(
                "; `predictd history {model} --repair --reason TEXT` sets the damaged end aside"
            ),
            Some(_) => format!(
                "; `predictd rollback {model} --to VERSION --never-stable --reason TEXT` makes a version answer on this server until the state can be read"
            ),
            None => String::new(),
        };
        format!("{}{advice}", self.describe())
    }
}
