//! The hash chain of a journal: each entry contains the hash of the entry before. An entry that is
//! altered, removed or moved breaks the chain.

use crate::{
    digest::Digest,
    document::{self, DocumentError},
    journal::entry::Entry,
};

/// 64 zeros. They replace the predecessor's hash in the first entry, and an entry's own hash while
/// that hash is computed.
pub(crate) const ZERO_HASH: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// An entry that breaks the chain.
#[derive(Debug, thiserror::Error)]
#[error("journal entry {seq} of {model}")]
pub(crate) struct ChainError {
    pub model: String,
    pub seq: u64,
    #[source]
    pub fault: ChainFault,
}

/// How an entry breaks the chain. Each text is a clause that can stand after the number of the
/// entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainFault {
    #[error("the entry can't be read")]
    Unreadable(#[source] DocumentError),
    #[error("the entry contains the number {0}: entries were renamed")]
    OtherNumber(u64),
    #[error("the entry belongs to the model {0}")]
    OtherModel(String),
    #[error(
        "the entry does not match the entry before it: one of the two was altered, or an entry between them is missing"
    )]
    OtherPredecessor,
    #[error("the entry was altered: its content does not match its hash")]
    Altered,
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainHead {
    /// The number of the last entry. 0 for an empty chain.
    pub seq: u64,
    /// The hash of the last entry's text.
    pub sha256: String,
}

impl Default for ChainHead {
    fn default() -> ChainHead {
        ChainHead {
            seq: 0,
            sha256: ZERO_HASH.to_owned(),
        }
    }
}

/// Fills in the number and the two hashes of an entry that follows `head`. Returns the entry's
/// text.
pub(crate) fn seal(entry: &mut Entry, head: &ChainHead) -> serde_json::Result<Vec<u8>> {
    entry.seq = head.seq + 1;
    entry.previous_sha256.clone_from(&head.sha256);
    ZERO_HASH.clone_into(&mut entry.sha256);
    let text = to_text(entry)?;
    entry.sha256 = Digest::of(&text).to_string();
    to_text(entry)
}

/// The stored form of an entry: indented JSON that ends with a newline.
fn to_text(entry: &Entry) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(entry)?;
    text.push(b'\n');
    Ok(text)
}

/// The hash that a stored text must contain. It is computed from the text with `ZERO_HASH` in place
/// of the hash. The hash is the last member of the entry.
fn own_hash(text: &[u8]) -> Option<String> {
    const END: &[u8] = b"\"\n}\n";
    let hash_at = text.len().checked_sub(END.len() + ZERO_HASH.len())?;
    let (before, rest) = text.split_at_checked(hash_at)?;
    let (_, end) = rest.split_at_checked(ZERO_HASH.len())?;
    // If the hash were in another place, some bytes would not be covered by it.
    let well_formed = before.ends_with(b"\"sha256\": \"") && end == END;
    well_formed.then(|| Digest::of(&[before, ZERO_HASH.as_bytes(), END].concat()).to_string())
}

/// Reads the text of the entry after `head`, checks it, and moves `head` to it.
pub(crate) fn read_entry(
    text: &[u8],
    model: &str,
    head: &mut ChainHead,
) -> Result<Entry, ChainError> {
    let seq = head.seq + 1;
    let entry = check_entry(text, model, head).map_err(|fault| ChainError {
        model: model.to_owned(),
        seq,
        fault,
    })?;
    // `head` moves only after all checks: a caller continues from `head` after an error.
    *head = ChainHead {
        seq,
        sha256: Digest::of(text).to_string(),
    };
    Ok(entry)
}

fn check_entry(text: &[u8], model: &str, head: &ChainHead) -> Result<Entry, ChainFault> {
    let entry: Entry = document::parse(text).map_err(ChainFault::Unreadable)?;
    if entry.seq != head.seq + 1 {
        return Err(ChainFault::OtherNumber(entry.seq));
    }
    // Without this check, a whole journal could be copied to another model.
    if entry.model != model {
        return Err(ChainFault::OtherModel(entry.model));
    }
    if entry.previous_sha256 != head.sha256 {
        return Err(ChainFault::OtherPredecessor);
    }
    if own_hash(text).as_deref() != Some(&*entry.sha256) {
        return Err(ChainFault::Altered);
    }
    Ok(entry)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use crate::{
        actor::Actor,
        journal::{
            chain::{ChainHead, read_entry, seal},
            entry::{Action, Entry, VersionRef},
        },
    };

    pub(crate) fn entry(action: Action) -> Entry {
        let reference = |version: &str| VersionRef {
            version: version.to_owned(),
            digest: format!("sha256:{version}"),
        };
        Entry {
            id: format!("{}-1", action.name()),
            seq: 0,
            at: "2026-11-24T12:00:00.000Z".to_owned(),
            actor: Actor::Verified("alice".to_owned()),
            action,
            model: "churn".to_owned(),
            from: Some(reference("1.0.0")),
            to: Some(reference("1.1.0")),
            strategy: None,
            reason: Some("better".to_owned()),
            evidence: Some(serde_json::json!({"e_value": 12.5, "units": 412})),
            details: None,
            previous_sha256: String::new(),
            sha256: String::new(),
        }
    }

    fn chain() -> Vec<Vec<u8>> {
        let mut head = ChainHead::default();
        let actions = [
            Action::Adopt,
            Action::Start,
            Action::Advance,
            Action::Promote,
            Action::Rollback,
        ];
        let texts = actions.map(|action| {
            let text = seal(&mut entry(action), &head).unwrap();
            read_entry(&text, "churn", &mut head).unwrap();
            text
        });
        texts.to_vec()
    }

    fn verify(texts: &[Vec<u8>]) -> bool {
        let mut head = ChainHead::default();
        texts
            .iter()
            .all(|text| read_entry(text, "churn", &mut head).is_ok())
    }

    #[test]
    fn a_missing_or_moved_entry_is_found() {
        let texts = chain();
        assert!(verify(&texts));
        for missing in 0..texts.len() - 1 {
            let mut fewer = texts.clone();
            fewer.remove(missing);
            assert!(!verify(&fewer), "{missing}");
            let mut swapped = texts.clone();
            swapped.swap(missing, missing + 1);
            assert!(!verify(&swapped), "{missing}");
        }
        assert!(read_entry(&texts[0], "other", &mut ChainHead::default()).is_err());
    }

    proptest! {
        #[test]
        fn any_altered_byte_is_found(which in 0usize..5, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut texts = chain();
            let at = at.index(texts[which].len());
            texts[which][at] ^= 1 << bit;
            prop_assert!(!verify(&texts));
        }
    }
}
