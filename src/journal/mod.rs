//! The journal: every decision with its actor and reason. A change of the order or the content is
//! noticed.
//!
//! Each entry is a file `journal/MODEL/00000042.json` below `state.url`. A file is created only if
//! it does not exist. If two writers write the same number, on one machine or on a shared store,
//! one succeeds and the other gets an error.

pub(crate) mod chain;
pub(crate) mod entry;
pub(crate) mod store;

use crate::{
    actor::Actor,
    clock,
    digest::Digest,
    id,
    journal::{
        chain::{ChainError, ChainHead},
        entry::{Action, Entry, VersionRef},
        store::{Store, StoreError},
    },
};

/// A decision before it is written.
#[derive(Clone, Debug)]
pub(crate) struct DecisionDraft {
    pub action: Action,
    pub actor: Actor,
    pub from: Option<VersionRef>,
    pub to: Option<VersionRef>,
    pub strategy: Option<String>,
    pub reason: Option<String>,
    pub evidence: Option<serde_json::Value>,
    pub details: Option<serde_json::Value>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Another writer wrote an entry with this number. Read the new entries and decide again.
    #[error("another decision came first")]
    Lost,
    /// The state directory is empty, or is not the same directory as before, for example because it
    /// is not mounted.
    #[error(
        "the state directory can't be written: entry {seq} of {model}, which comes before the new one, is missing"
    )]
    MissingPredecessor { model: String, seq: u64 },
    #[error(
        "the state directory can't be written: the disk is full, and its last free space is reserved for urgent decisions"
    )]
    OnlyReserveLeft,
    #[error("the state directory can't be written")]
    Unserializable(#[source] serde_json::Error),
    #[error("the state directory can't be written: the entry is missing after it was written")]
    NotStored,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// The problem with entry 1 of a journal that is empty although there were decisions.
pub(crate) const LOST_BEGINNING: &str = "the entry is missing, though the state directory has packages or evidence of earlier decisions";

/// The journals of all models.
#[derive(Clone)]
pub(crate) struct Journal {
    store: Store,
}

fn entry_path(model: &str, seq: u64) -> String {
    format!("journal/{model}/{seq:08}.json")
}

impl Journal {
    pub(crate) fn new(store: Store) -> Journal {
        Journal { store }
    }

    /// The models that have a journal.
    pub(crate) fn models(&self) -> Result<Vec<String>, StoreError> {
        self.store.list_directories("journal")
    }

    /// The text of an entry. `None` if the entry is not written yet.
    pub(crate) fn text(&self, model: &str, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(&entry_path(model, seq))
    }

    /// Reads the entry after `head` and moves `head` to it. Returns `None` if the entry does not
    /// exist yet.
    pub(crate) fn next(
        &self,
        model: &str,
        head: &mut ChainHead,
    ) -> Result<Option<Entry>, JournalError> {
        match self.text(model, head.seq + 1)? {
            Some(text) => Ok(Some(chain::read_entry(&text, model, head)?)),
            None => Ok(None),
        }
    }

    /// The file names of the entries after `head`. If the next entry is missing but later ones
    /// exist, the next entry was removed.
    pub(crate) fn beyond_gap(
        &self,
        model: &str,
        head: &ChainHead,
    ) -> Result<Vec<String>, StoreError> {
        // Other files, such as an operator's copy of an entry, do not have a name of this form.
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

    /// A new directory for damaged entries.
    pub(crate) fn new_damaged_directory(model: &str) -> String {
        format!("damaged/{model}/{}", id::PredictionId::new())
    }

    /// Moves entry `first` and all later entries to the directory `place`. Returns the number of
    /// moved entries.
    pub(crate) fn move_aside(
        &self,
        model: &str,
        first: u64,
        place: &str,
    ) -> Result<usize, StoreError> {
        let before = ChainHead {
            seq: first.saturating_sub(1),
            ..ChainHead::default()
        };
        let names = self.beyond_gap(model, &before)?;
        // Start with the last entry. If the process is interrupted, the remaining journal has no
        // gap.
        for name in names.iter().rev() {
            self.store.rename(
                &format!("journal/{model}/{name}"),
                &format!("{place}/{name}"),
            )?;
        }
        Ok(names.len())
    }

    /// All directories with damaged entries of the model.
    pub(crate) fn damaged_directories(&self, model: &str) -> Result<Vec<String>, StoreError> {
        let directory = format!("damaged/{model}");
        Ok(self
            .store
            .list_directories(&directory)?
            .into_iter()
            .map(|place| format!("{directory}/{place}"))
            .collect())
    }

    /// Whether the state directory has packages or evidence of the model. Only decisions create
    /// them, so a model with them had a journal.
    pub(crate) fn has_traces_of_decisions(&self, model: &str) -> Result<bool, StoreError> {
        for place in ["packages", "evidence"] {
            match self.store.list_directories(&format!("{place}/{model}")) {
                // An unfinished copy is not a sign of an earlier decision.
                Ok(traces) if traces.iter().all(|trace| trace.starts_with('.')) => {}
                Ok(_) => return Ok(true),
                Err(error @ StoreError::Late { .. }) => return Err(error),
                // The directory does not exist, so it contains no traces of a decision.
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Writes the decision as the entry after `head`, and moves `head` to it. Returns the entry
    /// once it is on disk.
    pub(crate) fn append(
        &self,
        head: &mut ChainHead,
        mut entry: Entry,
    ) -> Result<Entry, JournalError> {
        self.check_predecessor(&entry.model, head)?;
        // Only urgent decisions and repairs may use the reserved disk space.
        let may_use_reserve = entry.action.may_use_reserve();
        if !may_use_reserve && !self.store.keep_reserve() {
            return Err(JournalError::OnlyReserveLeft);
        }
        let text = chain::seal(&mut entry, head).map_err(JournalError::Unserializable)?;
        let path = entry_path(&entry.model, entry.seq);
        let written = match self.store.create(&path, text.clone()) {
            // The disk may be full. The second attempt can use the reserved disk space.
            Err(StoreError::Failed { .. }) if may_use_reserve && self.store.give_up_reserve() => {
                self.store.create(&path, text)
            }
            written => written,
        };
        // Read the entry back to find out what was written: the answer of a write can be lost, and
        // a write can report a failure after it took effect.
        match (written, self.text(&entry.model, entry.seq)) {
            (_, Ok(Some(text))) => {
                let mut next = head.clone();
                let stored = chain::read_entry(&text, &entry.model, &mut next)?;
                // Both entries are valid. The id shows which writer's entry was stored.
                if stored.id != entry.id {
                    return Err(JournalError::Lost);
                }
                *head = next;
                // The next urgent decision needs reserved disk space, too.
                self.store.keep_reserve();
                Ok(stored)
            }
            (Err(error), _) | (Ok(()), Err(error)) => Err(error.into()),
            (Ok(()), Ok(None)) => Err(JournalError::NotStored),
        }
    }

    /// Checks that the entry at `head` still exists unchanged.
    fn check_predecessor(&self, model: &str, head: &ChainHead) -> Result<(), JournalError> {
        if head.seq == 0 {
            return Ok(());
        }
        match self.text(model, head.seq)? {
            // A new entry after a missing one would make the rest of the chain invalid.
            None => Err(JournalError::MissingPredecessor {
                model: model.to_owned(),
                seq: head.seq,
            }),
            // Another replica repaired the journal and moved the predecessor aside.
            Some(text) if Digest::of(&text).to_string() != head.sha256 => Err(JournalError::Lost),
            Some(_) => Ok(()),
        }
    }
}

impl DecisionDraft {
    /// Turns the draft into an entry with an id and the current time. `Journal::append` fills in
    /// the number and the hashes.
    pub(crate) fn into_entry(self, model: &str) -> Entry {
        let DecisionDraft {
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
        journal::{
            DecisionDraft, Journal, JournalError, chain::ChainHead, entry::Action, store::Store,
        },
    };

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().join("state")).unwrap();
        (directory, Journal::new(store))
    }

    fn draft(actor: &str) -> DecisionDraft {
        DecisionDraft {
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
    fn entries_are_read_in_the_order_of_writing() {
        let (_directory, journal) = journal();
        let mut head = ChainHead::default();
        for actor in ["a", "b", "c"] {
            journal
                .append(&mut head, draft(actor).into_entry("churn"))
                .unwrap();
        }
        assert_eq!(journal.models().unwrap(), ["churn"]);
        let mut reader = ChainHead::default();
        let mut actors = Vec::new();
        while let Some(entry) = journal.next("churn", &mut reader).unwrap() {
            actors.push(entry.actor.to_string());
        }
        assert_eq!(actors, ["a", "b", "c"]);
        assert_eq!(reader, head);
    }

    #[test]
    fn one_of_many_writers_of_a_number_wins() {
        let (_directory, journal) = journal();
        let barrier = Arc::new(Barrier::new(8));
        let writers = (0..8).map(|index| {
            let (journal, barrier) = (journal.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                journal.append(
                    &mut ChainHead::default(),
                    draft(&index.to_string()).into_entry("churn"),
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
                .all(|error| matches!(error, JournalError::Lost))
        );
    }

    #[test]
    fn an_entry_that_was_taken_away_is_noticed() {
        let (directory, journal) = journal();
        let mut head = ChainHead::default();
        for actor in ["a", "b", "c"] {
            journal
                .append(&mut head, draft(actor).into_entry("churn"))
                .unwrap();
        }
        fs_err::remove_file(directory.path().join("state/journal/churn/00000002.json")).unwrap();
        let mut reader = ChainHead::default();
        while journal.next("churn", &mut reader).unwrap().is_some() {}
        assert_eq!(reader.seq, 1);
        assert_eq!(
            journal.beyond_gap("churn", &reader).unwrap(),
            ["00000003.json"]
        );
    }
}
