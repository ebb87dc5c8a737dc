//! Trouble: why nothing can be decided of a model, and what is left of it all the same.

use crate::id::ModelName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The state can't be read now. What was read before holds.
    Unreadable(String),
    /// The entry `seq` is not what it should be. What comes before it holds; `further`: other entries lie beyond.
    Damaged {
        seq: u64,
        detail: String,
        further: bool,
    },
    /// The entry `seq` was read, and is not what it was. All that was read holds.
    Overwritten { seq: u64, detail: String },
}

impl Trouble {
    /// Whether a decision must not be made. An urgent one waits until it can be written.
    pub fn forbids(&self, urgent: bool) -> bool {
        matches!(self, Trouble::Damaged { .. }) || !urgent
    }

    /// Whether nothing was ever decided, as far as can be told: the first choice may be made, and holds in this process.
    pub fn leaves_a_choice(&self) -> bool {
        matches!(
            self,
            Trouble::Damaged {
                seq: 1,
                further: false,
                ..
            }
        )
    }

    /// `known`: the journal was read before.
    pub fn describe(&self, name: &ModelName, known: bool) -> String {
        match self {
            Trouble::Unreadable(detail) if known => detail.clone(),
            Trouble::Unreadable(detail) => {
                format!(
                    "{detail}; `predictd rollback {name} --to VERSION --never-stable --reason TEXT` has a version answer on this server until the state can be read"
                )
            }
            Trouble::Damaged { seq, detail, .. } | Trouble::Overwritten { seq, detail } => {
                format!(
                    "journal damaged at entry {seq}, which {detail}; `predictd history {name} --repair --reason TEXT` sets the damaged end aside"
                )
            }
        }
    }
}
