//! Trouble: why nothing can be decided of a model, and what is left of it all the same.

use crate::id::ModelName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The state can't be read now. What was read before holds.
    Unreadable(String),
    /// The entry `seq` is not what it should be. What comes before it holds; `further`: other entries lie beyond.
    Damaged { seq: u64, detail: String, further: bool },
}

impl Trouble {
    /// Whether a decision must not be made. An urgent one waits until it can be written.
    pub fn forbids(&self, known: bool, urgent: bool) -> bool {
        match self {
            Trouble::Unreadable(_) => !(known && urgent),
            Trouble::Damaged { .. } => true,
        }
    }

    /// Whether nothing was ever decided, as far as can be told: the first choice may be made, and holds in this process.
    pub fn leaves_a_choice(&self) -> bool {
        matches!(self, Trouble::Damaged { seq: 1, further: false, .. })
    }

    pub fn describe(&self, name: &ModelName) -> String {
        match self {
            Trouble::Unreadable(detail) => detail.clone(),
            Trouble::Damaged { seq, detail, .. } => {
                format!(
                    "journal damaged at entry {seq}, which {detail}; `predictd history {name} --repair --reason TEXT` sets the damaged end aside"
                )
            }
        }
    }
}
