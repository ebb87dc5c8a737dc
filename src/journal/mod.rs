//! Journal: what was decided, by whom and why, in an order that cannot be altered unseen.
//!
//! `journal/MODEL/00000042.json` under `state.url`, one entry a file, written with create-if-absent: of two writers of one number
//! one wins, on one machine as on a shared bucket, and the other is told.

pub mod chain;
pub mod entry;
pub mod store;

use crate::{
    actor::Actor,
    clock,
    digest::Digest,
    id,
    journal::{
        chain::{ChainError, Head},
        entry::{Action, Entry, VersionRef},
        store::{Store, StoreError},
    },
};

/// A decision that is to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    pub action: Action,
    pub actor: Actor,
    pub from: Option<VersionRef>,
    pub to: Option<VersionRef>,
    pub strategy: Option<String>,
    pub reason: Option<String>,
    pub evidence: Option<serde_json::Value>,
    pub details: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else decided something meanwhile: read on, and decide anew.
    #[error("another decision came first")]
    Lost,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// The journal of all models.
#[derive(Clone)]
pub struct Journal {
    store: Store,
}

fn path(model: &str, seq: u64) -> String {
    format!("journal/{model}/{seq:08}.json")
}

impl Journal {
    pub fn new(store: Store) -> Journal {
        Journal { store }
    }

    /// Models that something was ever decided of.
    pub fn models(&self) -> Result<Vec<String>, StoreError> {
        self.store.list_directories("journal")
    }

    /// The text of one entry; `None`: it is not written yet.
    pub fn text(&self, model: &str, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(&path(model, seq))
    }

    /// The entry after `head`, if there is one by now; moves `head` on.
    pub fn next(&self, model: &str, head: &mut Head) -> Result<Option<Entry>, JournalError> {
        match self.text(model, head.seq + 1)? {
            Some(text) => Ok(Some(chain::open(&text, model, head)?)),
            None => Ok(None),
        }
    }

    /// Entries that lie beyond a gap, by their numbers: somebody took one away.
    pub fn beyond_gap(&self, model: &str, head: &Head) -> Result<Vec<String>, StoreError> {
        // Somebody's copy of an entry is none.
        let number = |name: &String| {
            name.strip_suffix(".json")
                .filter(|digits| digits.len() >= 8)?
                .parse::<u64>()
                .ok()
        };
        Ok(self
            .store
            .list(&format!("journal/{model}"))?
            .into_iter()
            .filter(|name| number(name) > Some(head.seq))
            .collect())
    }

    /// A place of its own for entries that are set aside.
    pub fn new_place_aside(model: &str) -> String {
        format!("damaged/{model}/{}", id::PredictionId::new())
    }

    /// Moves the entries from `first` on out of the journal to `place`. Returns how many there were.
    pub fn set_aside(&self, model: &str, first: u64, place: &str) -> Result<usize, StoreError> {
        let before = Head {
            seq: first.saturating_sub(1),
            ..Head::default()
        };
        let names = self.beyond_gap(model, &before)?;
        // The last first: what is left is a journal at every moment.
        for name in names.iter().rev() {
            self.store.rename(
                &format!("journal/{model}/{name}"),
                &format!("{place}/{name}"),
            )?;
        }
        Ok(names.len())
    }

    /// Where entries were ever set aside.
    pub fn places_aside(&self, model: &str) -> Result<Vec<String>, StoreError> {
        let directory = format!("damaged/{model}");
        Ok(self
            .store
            .list_directories(&directory)?
            .into_iter()
            .map(|place| format!("{directory}/{place}"))
            .collect())
    }

    /// Writes the decision as the entry that follows `head`; moves `head` on. Returns once it is on the disk.
    pub fn append(&self, head: &mut Head, mut entry: Entry) -> Result<Entry, JournalError> {
        let model = &entry.model.clone();
        let failed = |detail: String| StoreError::Failed {
            doing: "written",
            detail,
        };
        if head.seq > 0 {
            match self.text(model, head.seq)? {
                // In a directory that was emptied, or that is not mounted, a chain would begin in its middle.
                None => {
                    return Err(failed(format!(
                        "entry {} of {model}, which it would follow, is not there",
                        head.seq
                    ))
                    .into());
                }
                // Another replica repaired the journal: this entry would follow one that is set aside.
                Some(text) if Digest::of(&text).to_string() != head.sha256 => {
                    return Err(JournalError::Lost);
                }
                Some(_) => {}
            }
        }
        if !entry.action.may_use_reserve() && !self.store.keep_reserve() {
            return Err(failed(
                "the disk is full, and what room comes free is kept for a rollback".to_owned(),
            )
            .into());
        }
        let text = chain::seal(&mut entry, head).map_err(|error| failed(error.to_string()))?;
        let path_of_entry = path(model, entry.seq);
        let written = match self.store.create(&path_of_entry, text.clone()) {
            Err(StoreError::Failed { .. })
                if entry.action.may_use_reserve() && self.store.give_up_reserve() =>
            {
                self.store.create(&path_of_entry, text)
            }
            written => written,
        };
        let seen = self.text(model, entry.seq);
        match (written, seen) {
            // What is read back decides: an answer can get lost, and a failure can come after the writing.
            (_, Ok(Some(text))) => {
                let mut next = head.clone();
                let there = chain::open(&text, model, &mut next)?;
                if there.id != entry.id {
                    return Err(JournalError::Lost);
                }
                *head = next;
                self.store.keep_reserve();
                Ok(there)
            }
            (Err(error), _) | (Ok(()), Err(error)) => Err(error.into()),
            (Ok(()), Ok(None)) => {
                Err(failed("the entry is not there after it was written".to_owned()).into())
            }
        }
    }
}

impl Draft {
    /// The decision, made now; its place in the journal is filled in when it is written.
    pub fn decide(self, model: &str) -> Entry {
        let Draft {
            action,
            actor,
            from,
            to,
            strategy,
            reason,
            evidence,
            details,
        } = self;
        Entry {
            id: id::PredictionId::new().to_string(),
            seq: 0,
            at: clock::rfc3339_of_ms(clock::now_ms()),
            actor,
            action,
            model: model.to_owned(),
            from,
            to,
            strategy,
            reason,
            evidence,
            details,
            previous_sha256: String::new(),
            sha256: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use crate::{
        actor::Actor,
        journal::{Draft, Journal, JournalError, chain::Head, entry::Action, store::Store},
    };

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().join("state")).unwrap();
        (directory, Journal::new(store))
    }

    fn draft(actor: &str) -> Draft {
        Draft {
            action: Action::Adopt,
            actor: Actor::Verified(actor.to_owned()),
            from: None,
            to: None,
            strategy: None,
            reason: None,
            evidence: None,
            details: None,
        }
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let (_directory, journal) = journal();
        let mut head = Head::default();
        for actor in ["a", "b", "c"] {
            journal
                .append(&mut head, draft(actor).decide("churn"))
                .unwrap();
        }
        assert_eq!(journal.models().unwrap(), ["churn"]);
        let mut reader = Head::default();
        let mut actors = Vec::new();
        while let Some(entry) = journal.next("churn", &mut reader).unwrap() {
            actors.push(entry.actor.to_string());
        }
        assert_eq!(actors, ["a", "b", "c"]);
        assert_eq!(reader, head);
    }

    #[test]
    fn of_many_writers_of_one_number_one_wins() {
        let (_directory, journal) = journal();
        let barrier = Arc::new(Barrier::new(8));
        let writers = (0..8).map(|index| {
            let (journal, barrier) = (journal.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                journal.append(
                    &mut Head::default(),
                    draft(&index.to_string()).decide("churn"),
                )
            })
        });
        let outcomes: Vec<_> = writers
            .collect::<Vec<_>>()
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(
            outcomes
                .iter()
                .flat_map(|outcome| outcome.as_ref().err())
                .all(|error| *error == JournalError::Lost)
        );
    }

    #[test]
    fn an_entry_that_was_taken_away_is_noticed() {
        let (directory, journal) = journal();
        let mut head = Head::default();
        for actor in ["a", "b", "c"] {
            journal
                .append(&mut head, draft(actor).decide("churn"))
                .unwrap();
        }
        fs_err::remove_file(directory.path().join("state/journal/churn/00000002.json")).unwrap();
        let mut reader = Head::default();
        while journal.next("churn", &mut reader).unwrap().is_some() {}
        assert_eq!(reader.seq, 1);
        assert_eq!(
            journal.beyond_gap("churn", &reader).unwrap(),
            ["00000003.json"]
        );
    }
}
