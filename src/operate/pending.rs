//! Pending: urgent decisions that are in force in this process and could not be written yet. They are written before any other.

use crate::{
    id::ModelName,
    journal::{
        JournalError,
        entry::{Action, Entry},
    },
    operate::{Controlled, OperateError, Operator},
    rollout::state::{Cause, ModelState},
};

pub(super) struct Pending {
    /// As it was decided; its place in the journal is filled in when it is written.
    pub(super) entry: Entry,
    /// The rollout that it ends.
    rollout: Option<String>,
}

impl Pending {
    /// Whether the decision still changes anything, after what others decided meanwhile.
    fn is_due(&self, state: &ModelState) -> bool {
        let same_rollout =
            state.rollout.as_ref().map(|rollout| &rollout.id) == self.rollout.as_ref();
        match self.entry.action {
            Action::Adopt => state.stable.is_none(),
            Action::Abort => same_rollout,
            // Ordered while nobody knew what was decided before.
            _ if self.entry.from.is_none() => {
                state.stable != self.entry.to || state.rollout.is_some()
            }
            // The rollout still runs, or what the rollback leads away from (its candidate, by now) is stable.
            _ => {
                state.rollout.is_some() && same_rollout
                    || state.stable == self.entry.from && state.stable != self.entry.to
            }
        }
    }
}

impl Controlled {
    /// What is in force: what is written, and then what waits to be. Returns what others' decisions made pointless.
    pub(super) fn settle(&mut self) -> Vec<Entry> {
        let mut state = self.written.clone();
        let mut dropped = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            pending.entry.seq = self.head.seq + 1 + self.pending.len() as u64;
            let mut next = state.clone();
            if pending.is_due(&state) && next.apply(&pending.entry).is_ok() {
                state = next;
                self.pending.push(pending);
            } else {
                dropped.push(pending.entry);
            }
        }
        self.state = state;
        dropped
    }
}

impl Operator {
    /// Lets an urgent decision take effect although it can't be written now.
    pub(super) fn hold(
        &self,
        model: &mut Controlled,
        entry: Entry,
        error: &str,
    ) -> Result<Entry, OperateError> {
        let entry = Entry {
            seq: model.head.seq + 1 + model.pending.len() as u64,
            ..entry
        };
        let rollout = model
            .state
            .rollout
            .as_ref()
            .map(|rollout| rollout.id.clone());
        let mut state = model.state.clone();
        state
            .apply(&entry)
            .map_err(|error| OperateError::Refused(error.to_string()))?;
        model.state = state;
        model.pending.push(Pending {
            entry: entry.clone(),
            rollout,
        });
        tracing::error!(model = %model.name, action = entry.action.name(), error, "a decision can't be written; it is in force on this server, and is written as soon as the state can be");
        self.enforce(model);
        Ok(entry)
    }

    /// Writes what waits, in its order.
    pub(super) fn flush(&self, model: &mut Controlled) -> Result<(), JournalError> {
        while let Some(pending) = model.pending.first() {
            let mut head = model.head.clone();
            match self.journal.append(&mut head, pending.entry.clone()) {
                Ok(entry) => {
                    model.pending.remove(0);
                    self.take(model, head, &entry)?;
                    tracing::warn!(model = %model.name, seq = entry.seq, action = entry.action.name(), "a decision that waited is written");
                }
                Err(error) => {
                    if error == JournalError::Lost {
                        self.adopt_repair(model);
                        self.read_on(model, true);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Tells of decisions that others' decisions made pointless.
    pub(super) fn tell_dropped(&self, name: &ModelName, dropped: &[Entry]) {
        for entry in dropped {
            let to = entry
                .to
                .as_ref()
                .map(|to| to.version.as_str())
                .unwrap_or_default();
            tracing::warn!(model = %name, action = entry.action.name(), to, cause = Cause::of(&entry.actor).name(), "a decision that waited is dropped: others decided meanwhile");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        journal::{
            Draft,
            entry::{Action, VersionRef},
        },
        operate::pending::Pending,
        rollout::state::ModelState,
    };

    fn version(version: &str) -> VersionRef {
        VersionRef {
            version: version.to_owned(),
            digest: format!("sha256:{version}"),
        }
    }

    fn draft(action: Action, from: Option<&str>, to: &str) -> Draft {
        let (from, to) = (from.map(version), Some(version(to)));
        Draft {
            action,
            actor: "someone".to_owned(),
            from,
            to,
            strategy: None,
            reason: None,
            evidence: None,
            details: None,
        }
    }

    #[test]
    fn a_rollback_is_due_until_others_left_the_version_that_it_leaves() {
        let mut state = ModelState::default();
        for (action, to) in [(Action::Adopt, "1"), (Action::Promote, "2")] {
            state.apply(&draft(action, None, to).decide("m")).unwrap();
        }
        let pending = Pending {
            entry: draft(Action::Rollback, Some("2"), "1").decide("m"),
            rollout: None,
        };
        assert!(pending.is_due(&state));
        // Somebody did the same elsewhere, and then went on to a version that nobody complained of.
        state
            .apply(&draft(Action::Rollback, Some("2"), "1").decide("m"))
            .unwrap();
        assert!(!pending.is_due(&state));
        state
            .apply(&draft(Action::Promote, Some("1"), "3").decide("m"))
            .unwrap();
        assert!(!pending.is_due(&state));
    }
}
