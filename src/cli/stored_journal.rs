//! `StoredJournal`: the stored entries of a model's journal, valid or not, from a server or from a
//! state directory.

use std::{collections::BTreeMap, path::Path};

use anyhow::bail;

use crate::{
    admin::history::History,
    cli::client::{Client, ClientError},
    document,
    journal::{
        Journal, LOST_BEGINNING,
        chain::{self, ChainFault, ChainHead},
        entry::Entry,
        store::Store,
    },
    suggestion::Suggestion,
};

/// The stored entries of a journal, valid or not. A damaged entry does not hide the others.
pub(crate) struct StoredJournal {
    pub(super) texts: BTreeMap<u64, Vec<u8>>,
    /// The last entry that the server has read or written, even if its file was removed since.
    /// `None` without a server.
    pub(super) head: Option<ChainHead>,
    /// The problem with the journal that its entries do not show: the one that the server reports,
    /// or that all entries are missing.
    pub(super) trouble: Option<ReportedTrouble>,
}

/// A problem with a journal, as the server reports it.
#[derive(Clone, Debug)]
pub(crate) struct ReportedTrouble {
    pub text: String,
    pub suggestion: Option<Suggestion>,
}

/// Gets entry `first` and all later entries from a server.
pub(crate) fn fetch(
    client: &Client,
    model: &str,
    first: u64,
) -> Result<StoredJournal, ClientError> {
    let mut stored = StoredJournal {
        texts: BTreeMap::new(),
        head: None,
        trouble: None,
    };
    let mut from = first;
    loop {
        let page: History = client
            .get(&format!("/{model}/history?from={from}"))?
            .read()?;
        let number = page.entries.len() as u64;
        let found = page.entries.iter().any(Option::is_some);
        let texts = (from..)
            .zip(page.entries)
            .filter_map(|(seq, text)| Some((seq, text?.into_bytes())));
        stored.texts.extend(texts);
        stored.head = Some(page.head.into());
        from += number;
        // A renamed file can claim any number, so a gap of a whole page may be of any length. Stop
        // here.
        if !page.truncated || !found {
            return Ok(stored);
        }
    }
}

/// Reads all entries in a state directory, including those after a gap.
pub(crate) fn read(directory: &Path, model: &str) -> anyhow::Result<StoredJournal> {
    let journal = Journal::new(Store::local(directory.to_path_buf())?);
    let names = journal.beyond_gap(model, &ChainHead::default())?;
    let mut texts = BTreeMap::new();
    for seq in names
        .iter()
        .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
    {
        if let Some(text) = journal.text(model, seq)? {
            texts.insert(seq, text);
        }
    }
    let mut trouble = None;
    if texts.is_empty() && journal.has_traces_of_decisions(model)? {
        trouble = Some(ReportedTrouble {
            text: format!("journal damaged at entry 1: {LOST_BEGINNING}"),
            suggestion: Some(Suggestion::RepairJournal),
        });
    } else if texts.is_empty() {
        bail!(
            "{} contains no journal of {model}; --state takes the directory that state.url names",
            directory.display()
        );
    }
    Ok(StoredJournal {
        texts,
        head: None,
        trouble,
    })
}

/// The first invalid entry.
#[derive(Debug, thiserror::Error)]
#[error("entry {seq}")]
pub(super) struct InvalidEntry {
    pub(super) seq: u64,
    #[source]
    pub(super) fault: EntryFault,
}

/// Why an entry is invalid. Each text is a clause that can stand after the number of the entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryFault {
    #[error("the entry is missing")]
    Missing,
    #[error("the entry is missing, but the server has seen it")]
    SeenAndMissing,
    #[error("the entry is valid, but is not the entry that the server has seen: it was replaced")]
    Replaced,
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// The text of the server about its journal, or of the state directory about a lost one.
    #[error("{}", .0.text)]
    Reported(ReportedTrouble),
}

impl StoredJournal {
    pub(super) fn last(&self) -> u64 {
        let stored = self.texts.last_key_value().map_or(0, |(seq, _)| *seq);
        stored.max(self.head.as_ref().map_or(0, |head| head.seq))
    }

    /// The entries that can be parsed.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.texts
            .values()
            .filter_map(|text| document::parse(text).ok())
    }

    /// Checks the chain, and whether a problem was reported. Returns its end, or the first invalid
    /// entry.
    pub(super) fn verify(&self, model: &str) -> Result<ChainHead, InvalidEntry> {
        let head = self.verify_entries(model)?;
        match &self.trouble {
            None => Ok(head),
            Some(trouble) => Err(InvalidEntry {
                seq: head.seq + 1,
                fault: EntryFault::Reported(trouble.clone()),
            }),
        }
    }

    fn verify_entries(&self, model: &str) -> Result<ChainHead, InvalidEntry> {
        let mut head = ChainHead::default();
        while head.seq < self.last() {
            let seq = head.seq + 1;
            let bad = |fault| InvalidEntry { seq, fault };
            let Some(text) = self.texts.get(&seq) else {
                let known = self.head.as_ref().is_some_and(|head| head.seq >= seq);
                return Err(bad(if known {
                    EntryFault::SeenAndMissing
                } else {
                    EntryFault::Missing
                }));
            };
            chain::read_entry(text, model, &mut head).map_err(|error| bad(error.fault.into()))?;
            if self
                .head
                .as_ref()
                .is_some_and(|known| known.seq == seq && known.sha256 != head.sha256)
            {
                return Err(bad(EntryFault::Replaced));
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        cli::stored_journal::{EntryFault, InvalidEntry, StoredJournal},
        journal::{
            DecisionDraft, Journal,
            chain::{ChainFault, ChainHead},
            entry::{Action, VersionRef},
            store::Store,
        },
    };

    /// A journal of five decisions in the stored form, with the last entry that the server has
    /// read.
    fn stored() -> StoredJournal {
        let journal = Journal::new(Store::memory().unwrap());
        let mut head = ChainHead::default();
        let mut texts = std::collections::BTreeMap::new();
        for action in [
            Action::Adopt,
            Action::Promote,
            Action::Rollback,
            Action::Promote,
            Action::Rollback,
        ] {
            let draft = DecisionDraft {
                action,
                actor: crate::actor::Actor::Verified("ann".to_owned()),
                from: None,
                to: Some(VersionRef {
                    version: "1.0.0".to_owned(),
                    digest: "sha256:0".to_owned(),
                }),
                strategy: None,
                reason: Some("a good reason".to_owned()),
                evidence: None,
                details: None,
            };
            let entry = journal
                .append(&mut head, draft.into_entry("churn"))
                .unwrap();
            texts.insert(
                entry.seq,
                journal.text("churn", entry.seq).unwrap().unwrap(),
            );
        }
        StoredJournal {
            texts,
            head: Some(head),
            trouble: None,
        }
    }

    fn bad(stored: &StoredJournal) -> (u64, EntryFault) {
        let InvalidEntry { seq, fault } = stored.verify("churn").unwrap_err();
        (seq, fault)
    }

    #[test]
    fn changes_to_a_journal_are_found() {
        let whole = stored();
        assert_eq!(whole.verify("churn").unwrap(), whole.head.clone().unwrap());

        let mut altered = stored();
        let text = String::from_utf8(altered.texts.remove(&3).unwrap()).unwrap();
        altered
            .texts
            .insert(3, text.replace("good", "dull").into_bytes());
        assert!(matches!(
            bad(&altered),
            (3, EntryFault::Chain(ChainFault::Altered))
        ));

        let mut fewer = stored();
        fewer.texts.remove(&2);
        assert!(matches!(bad(&fewer), (2, EntryFault::SeenAndMissing)));
        fewer.head = None;
        assert!(matches!(bad(&fewer), (2, EntryFault::Missing)));

        let mut moved = stored();
        let (two, three) = (moved.texts[&2].clone(), moved.texts[&3].clone());
        moved.texts.extend([(2, three), (3, two)]);
        assert!(matches!(
            bad(&moved),
            (2, EntryFault::Chain(ChainFault::OtherNumber(3)))
        ));

        let mut cut = stored();
        cut.texts.remove(&5);
        assert_eq!(bad(&cut).0, 5, "the server has seen the last entry");

        let mut replaced = stored();
        replaced.texts = stored().texts; // Valid, with other ids and times.
        assert!(matches!(bad(&replaced), (5, EntryFault::Replaced)));
    }
}
