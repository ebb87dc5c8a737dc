//! Following the journal: the decisions of other replicas are read, and damage is noticed.

use crate::{
    id::ModelName,
    journal::{JournalError, chain::ChainHead, entry::Entry, store::StoreError},
    operate::{
        Operator,
        model::ModelControl,
        repair::{UNNAMED, VERIFY_INTERVAL},
        trouble::Trouble,
    },
    rollout::state::EntryProblem,
};

/// Whether entries that are read are old news or have just been written by another replica.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Replay,
    Follow,
}

impl Operator {
    /// Reads the journal at the start of the server.
    pub(super) fn replay(&self, model: &mut ModelControl) {
        self.read(model, Reading::Replay);
    }

    /// Reads the entries that others wrote meanwhile; they are counted and logged.
    pub(super) fn follow(&self, model: &mut ModelControl) {
        self.read(model, Reading::Follow);
    }

    fn read(&self, model: &mut ModelControl, reading: Reading) {
        let before = model.head.seq;
        let mut trouble = self.read_to_end(model, reading);
        // An entry that was read and is now missing stays a trouble until it is present again.
        if trouble.is_none() && model.known && model.trouble.is_some() {
            trouble = self.still_overwritten(model);
        }
        if trouble != model.trouble {
            self.report_trouble(model, trouble.as_ref());
            model.trouble = trouble;
        } else if model.head.seq == before && reading == Reading::Follow && model.known {
            return;
        }
        // The part of a damaged journal before the damage is known.
        model.known |= !matches!(model.trouble, Some(Trouble::Unreadable(_)));
        if model.head.seq != before {
            let dropped = model.settle();
            self.report_dropped(&model.name, &dropped);
        }
        self.enforce(model);
    }

    fn still_overwritten(&self, model: &ModelControl) -> Option<Trouble> {
        // Reading a whole journal at every tick would cost too much.
        let waits = matches!(model.trouble, Some(Trouble::Overwritten { .. }))
            && model.verified_at.elapsed() < VERIFY_INTERVAL;
        if waits {
            return model.trouble.clone();
        }
        self.overwritten(&model.name, &model.head)
            .unwrap_or_else(|error| Some(Trouble::Unreadable(error.to_string())))
    }

    fn report_trouble(&self, model: &ModelControl, trouble: Option<&Trouble>) {
        match trouble {
            Some(trouble) => {
                let detail = trouble.log_line(&model.name, model.known);
                tracing::error!(model = %model.name, trouble = detail, "no decision about this model can be written");
            }
            None => tracing::info!(model = %model.name, "the journal can be read again"),
        }
        if let Some(Trouble::Unreadable(_)) = trouble {
            self.metrics.models.source_errors.inc();
        }
    }

    pub(super) fn set_trouble(&self, model: &mut ModelControl, trouble: Trouble) {
        if model.trouble.as_ref() != Some(&trouble) {
            self.report_trouble(model, Some(&trouble));
            model.trouble = Some(trouble);
            self.enforce(model);
        }
    }

    /// Reads entry by entry. Returns what prevents reading the journal to its end.
    fn read_to_end(&self, model: &mut ModelControl, reading: Reading) -> Option<Trouble> {
        let name = model.name.clone();
        loop {
            let seq = model.head.seq + 1;
            let mut head = model.head.clone();
            match self.journal.next(name.as_str(), &mut head) {
                Ok(Some(entry)) => {
                    if let Err(problem) = self.take_read(model, head, &entry, reading) {
                        return self.damaged(&name, seq, problem.to_string());
                    }
                }
                // Before anything was read, entries beyond a gap are the only sign of the gap.
                Ok(None) if !model.known || model.trouble.is_some() => {
                    return self.check_end(model, seq);
                }
                Ok(None) => return None,
                Err(JournalError::Chain(error)) => {
                    return self.damaged(&name, seq, error.fault.to_string());
                }
                Err(error) => return Some(Trouble::Unreadable(error.to_string())),
            }
        }
    }

    /// Applies an entry that was read; the error says how the entry contradicts the ones before it.
    fn take_read(
        &self,
        model: &mut ModelControl,
        head: ChainHead,
        entry: &Entry,
        reading: Reading,
    ) -> Result<(), EntryProblem> {
        // This process wrote it, but the answer of the store was lost.
        let own = model
            .pending
            .iter()
            .position(|pending| pending.entry.id == entry.id);
        if let Some(own) = own {
            model.pending.remove(own);
        }
        model.written.apply(entry).map_err(|error| error.problem)?;
        model.head = head;
        // Entry by entry: a pending decision that one entry made pointless must not revive after
        // the next entry.
        if model.known && !model.pending.is_empty() {
            let dropped = model.settle();
            self.report_dropped(&model.name, &dropped);
        }
        if reading == Reading::Follow && own.is_none() {
            self.report(entry, "another replica decided");
        }
        Ok(())
    }

    fn damaged(&self, name: &ModelName, seq: u64, detail: String) -> Option<Trouble> {
        let at = ChainHead {
            seq,
            ..ChainHead::default()
        };
        let beyond = self.journal.beyond_gap(name.as_str(), &at);
        Some(Trouble::Damaged {
            seq,
            detail,
            further: beyond.is_ok_and(|beyond| !beyond.is_empty()),
        })
    }

    /// Whether the end that was reached is the real one, or entries before or beyond it were taken
    /// away.
    fn check_end(&self, model: &ModelControl, seq: u64) -> Option<Trouble> {
        let unreadable = |error: StoreError| Some(Trouble::Unreadable(error.to_string()));
        match self.journal.beyond_gap(model.name.as_str(), &model.head) {
            Ok(beyond) if beyond.is_empty() => {}
            Ok(_) => return self.damaged(&model.name, seq, "is missing".to_owned()),
            Err(error) => return unreadable(error),
        }
        match self.unnamed_places(model) {
            Ok(places) if !places.is_empty() => Some(Trouble::Damaged {
                seq,
                detail: UNNAMED.to_owned(),
                further: true,
            }),
            Ok(_) if model.head.seq == 0 => self.lost_beginning(&model.name),
            Ok(_) => None,
            Err(error) => unreadable(error),
        }
    }

    /// The journal seems to be empty, but objects exist that only decisions leave behind.
    fn lost_beginning(&self, name: &ModelName) -> Option<Trouble> {
        for place in ["packages", "evidence"] {
            match self.store.list_directories(&format!("{place}/{name}")) {
                // A copy that was never finished proves nothing.
                Ok(traces) if traces.iter().all(|trace| trace.starts_with('.')) => {}
                Ok(_) => {
                    let detail = "is missing, though the state has packages or evidence of earlier decisions";
                    return Some(Trouble::Damaged {
                        seq: 1,
                        detail: detail.to_owned(),
                        further: true,
                    });
                }
                Err(error @ StoreError::Late { .. }) => {
                    return Some(Trouble::Unreadable(error.to_string()));
                }
                // The directory does not exist, so no decision left anything in it.
                Err(_) => {}
            }
        }
        None
    }
}
