//! `GET /admin/models/{name}/history`: a page of the journal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::journal::chain::ChainHead;

/// A page of at most 1000 entries.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct History {
    /// The name of the model.
    pub model: String,
    /// The number of the first entry in `entries`.
    pub first: u64,
    /// The stored text of each entry, starting at `first`. Its hash can be checked. null for an
    /// entry that is missing.
    pub entries: Vec<Option<String>>,
    /// Whether more entries follow.
    pub truncated: bool,
    /// The end of the journal, as far as this server knows it.
    pub head: JournalHead,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct JournalHead {
    /// The number of the last entry. 0 for an empty journal.
    pub seq: u64,
    /// SHA-256 of the last entry's text, as 64 hex digits.
    pub sha256: String,
}

impl From<ChainHead> for JournalHead {
    fn from(head: ChainHead) -> JournalHead {
        JournalHead {
            seq: head.seq,
            sha256: head.sha256,
        }
    }
}

impl From<JournalHead> for ChainHead {
    fn from(head: JournalHead) -> ChainHead {
        ChainHead {
            seq: head.seq,
            sha256: head.sha256,
        }
    }
}
