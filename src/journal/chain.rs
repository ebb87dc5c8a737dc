//! Chain: each entry names the hash of the one before, so that nothing can be altered, left out or put elsewhere unseen.

use crate::{digest::Digest, journal::entry::Entry};

/// 64 zeros: where nothing comes before, and while an entry's own hash is not known yet.
pub const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal entry {seq} of {model}: {detail}")]
pub struct ChainError {
    pub model: String,
    pub seq: u64,
    pub detail: String,
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    /// Of the last entry's text.
    pub sha256: String,
}

impl Default for Head {
    fn default() -> Head {
        Head {
            seq: 0,
            sha256: NONE.to_owned(),
        }
    }
}

/// The text of an entry that follows `head`: its number, its predecessor's hash and its own are filled in.
pub fn seal(entry: &mut Entry, head: &Head) -> serde_json::Result<Vec<u8>> {
    entry.seq = head.seq + 1;
    entry.previous_sha256.clone_from(&head.sha256);
    NONE.clone_into(&mut entry.sha256);
    let text = write(entry)?;
    entry.sha256 = Digest::of(&text).to_string();
    write(entry)
}

/// The text as it is stored: readable, with a line end.
fn write(entry: &Entry) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(entry)?;
    text.push(b'\n');
    Ok(text)
}

/// The hash that a stored text must name as its own: of the same text with zeros in that place, which is its end.
fn own_hash(text: &[u8]) -> Option<String> {
    const END: &[u8] = b"\"\n}\n";
    let hash_at = text.len().checked_sub(END.len() + NONE.len())?;
    let (before, rest) = text.split_at_checked(hash_at)?;
    let (_, end) = rest.split_at_checked(NONE.len())?;
    let whole = before.ends_with(b"\"sha256\": \"") && end == END;
    whole.then(|| Digest::of(&[before, NONE.as_bytes(), END].concat()).to_string())
}

/// Reads the entry that must follow `head`, and moves `head` on to it.
pub fn open(text: &[u8], model: &str, head: &mut Head) -> Result<Entry, ChainError> {
    let seq = head.seq + 1;
    let wrong = |detail: String| ChainError {
        model: model.to_owned(),
        seq,
        detail,
    };
    let entry: Entry =
        serde_json::from_slice(text).map_err(|error| wrong(format!("can't be read: {error}")))?;
    if entry.seq != seq {
        return Err(wrong(format!(
            "says that it is entry {}: entries were renamed",
            entry.seq
        )));
    }
    if entry.model != model {
        return Err(wrong(format!("is of the model {}", entry.model)));
    }
    if entry.previous_sha256 != head.sha256 {
        return Err(wrong("does not follow from the one before it: one of the two was altered, or one between them is missing".to_owned()));
    }
    if own_hash(text).as_deref() != Some(&*entry.sha256) {
        return Err(wrong(
            "was altered: its content does not have the hash that it names".to_owned(),
        ));
    }
    *head = Head {
        seq,
        sha256: Digest::of(text).to_string(),
    };
    Ok(entry)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use crate::{
        actor::Actor,
        journal::{
            chain::{Head, open, seal},
            entry::{Action, Entry, VersionRef},
        },
    };

    pub fn entry(action: Action) -> Entry {
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
        let mut head = Head::default();
        let actions = [
            Action::Adopt,
            Action::Start,
            Action::Advance,
            Action::Promote,
            Action::Rollback,
        ];
        let texts = actions.map(|action| {
            let text = seal(&mut entry(action), &head).unwrap();
            open(&text, "churn", &mut head).unwrap();
            text
        });
        texts.to_vec()
    }

    fn verify(texts: &[Vec<u8>]) -> bool {
        let mut head = Head::default();
        texts
            .iter()
            .all(|text| open(text, "churn", &mut head).is_ok())
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
        assert!(open(&texts[0], "other", &mut Head::default()).is_err());
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
