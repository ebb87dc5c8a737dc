//! Following the journal: reads the decisions of other replicas, and notices damage.

use std::sync::Arc;

use crate::{
    id::ModelName,
    journal::{JournalError, chain::ChainHead, entry::Entry},
    operate::{
        Operator,
        model::ModelControl,
        repair::VERIFY_INTERVAL,
        trouble::{Damage, Trouble},
    },
    rollout::state::EntryProblem,
};

/// Whether entries were written before this server started, or by another replica since then.
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

    /// Reads the entries that other replicas wrote since the last call, and counts and logs them.
    pub(super) fn follow(&self, model: &mut ModelControl) {
        self.read(model, Reading::Follow);
    }

    fn read(&self, model: &mut ModelControl, reading: Reading) {
        let before = model.head.seq;
        let mut trouble = self.read_to_end(model, reading);
        // If an entry that was read is missing now, the problem remains until the entry is back.
        if trouble.is_none() && model.known && model.trouble.is_some() {
            trouble = self.still_overwritten(model);
        }
        if trouble != model.trouble {
            self.report_trouble(model, trouble.as_ref());
            model.trouble = trouble;
        } else if model.head.seq == before && reading == Reading::Follow && model.known {
            return;
        }
        // A damaged journal also counts as known: its entries before the damage were read.
        model.known |= !model.trouble.as_ref().is_some_and(Trouble::is_unreadable);
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
            .unwrap_or_else(|error| Some(error.into()))
    }

    fn report_trouble(&self, model: &ModelControl, trouble: Option<&Trouble>) {
        match trouble {
            Some(trouble) => {
                let detail = trouble.log_line(&model.name, model.known);
                tracing::error!(
                    model = %model.name,
                    trouble = detail,
                    "no decision about this model can be written"
                );
            }
            None => tracing::info!(model = %model.name, "the journal can be read again"),
        }
        if trouble.is_some_and(Trouble::is_unreadable) {
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

    /// Reads the journal entry by entry. Returns the problem that prevents reading it to its end.
    fn read_to_end(&self, model: &mut ModelControl, reading: Reading) -> Option<Trouble> {
        let name = model.name.clone();
        loop {
            let seq = model.head.seq + 1;
            let mut head = model.head.clone();
            match self.journal.next(name.as_str(), &mut head) {
                Ok(Some(entry)) => {
                    if let Err(problem) = self.take_read(model, head, &entry, reading) {
                        return Some(self.damaged(&name, seq, problem));
                    }
                }
                // Before anything was read, only entries beyond a gap show that there is a gap.
                Ok(None) if !model.known || model.trouble.is_some() => {
                    return self.check_end(model, seq);
                }
                Ok(None) => return None,
                Err(JournalError::Chain(error)) => {
                    return Some(self.damaged(&name, seq, error.fault));
                }
                Err(error) => return Some(error.into()),
            }
        }
    }

    /// Applies an entry that was read. The error says how the entry contradicts the entries before
    /// it.
    fn take_read(
        &self,
        model: &mut ModelControl,
        head: ChainHead,
        entry: &Entry,
        reading: Reading,
    ) -> Result<(), EntryProblem> {
        // This process wrote the entry, but the answer of the store was lost.
        let own = model
            .pending
            .iter()
            .position(|pending| pending.entry.id == entry.id);
        if let Some(own) = own {
            model.pending.remove(own);
        }
        model.written.apply(entry).map_err(|error| error.problem)?;
        model.head = head;
        // Settle after each entry. A pending decision that one entry made pointless must not take
        // effect again after the next entry.
        if model.known && !model.pending.is_empty() {
            let dropped = model.settle();
            self.report_dropped(&model.name, &dropped);
        }
        if reading == Reading::Follow && own.is_none() {
            self.report(entry, "another replica decided");
        }
        Ok(())
    }

    fn damaged(&self, name: &ModelName, seq: u64, damage: impl Into<Damage>) -> Trouble {
        let at = ChainHead {
            seq,
            ..ChainHead::default()
        };
        let beyond = self.journal.beyond_gap(name.as_str(), &at);
        Trouble::Damaged {
            seq,
            damage: Arc::new(damage.into()),
            further: beyond.is_ok_and(|beyond| !beyond.is_empty()),
        }
    }

    /// Checks whether the journal really ends here, or whether entries before or after this point
    /// were removed.
    fn check_end(&self, model: &ModelControl, seq: u64) -> Option<Trouble> {
        match self.journal.beyond_gap(model.name.as_str(), &model.head) {
            Ok(beyond) if beyond.is_empty() => {}
            Ok(_) => return Some(self.damaged(&model.name, seq, Damage::Missing)),
            Err(error) => return Some(error.into()),
        }
        match self.unlisted_directories(model) {
            Ok(places) if !places.is_empty() => Some(Trouble::Damaged {
                seq,
                damage: Arc::new(Damage::Unlisted),
                further: true,
            }),
            Ok(_) if model.head.seq == 0 => self.lost_beginning(&model.name),
            Ok(_) => None,
            Err(error) => Some(error.into()),
        }
    }

    /// Detects a journal that seems to be empty although objects exist that only decisions create.
    fn lost_beginning(&self, name: &ModelName) -> Option<Trouble> {
        match self.journal.has_traces_of_decisions(name.as_str()) {
            Ok(true) => Some(Trouble::Damaged {
                seq: 1,
                damage: Arc::new(Damage::LostBeginning),
                further: true,
            }),
            Ok(false) => None,
            Err(error) => Some(error.into()),
        }
    }
}
