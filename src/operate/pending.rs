//! Pending decisions: urgent decisions that apply in this process and could not be written yet.
//! They are written before any other decision.

use crate::{
    id::ModelName,
    journal::{JournalError, entry::Entry},
    operate::{
        OperateError, Operator,
        model::{ModelControl, Pending},
    },
};

impl Operator {
    /// Lets an urgent decision take effect in this process. It is written later.
    pub(super) fn apply_unwritten(
        &self,
        model: &mut ModelControl,
        entry: Entry,
        error: &str,
    ) -> Result<Entry, OperateError> {
        let entry = Entry {
            seq: model.next_seq(),
            ..entry
        };
        let rollout = model
            .state
            .rollout
            .as_ref()
            .map(|rollout| rollout.id.clone());
        let mut state = model.state.clone();
        state.apply(&entry)?;
        model.state = state;
        model.pending.push(Pending {
            entry: entry.clone(),
            rollout,
        });
        tracing::error!(
            model = %model.name,
            action = entry.action.name(),
            error,
            "a decision can't be written yet; it applies on this server, and will be written as \
             soon as possible"
        );
        self.enforce(model);
        Ok(entry)
    }

    /// Writes the pending decisions in their order.
    pub(super) fn flush(&self, model: &mut ModelControl) -> Result<(), JournalError> {
        while let Some(pending) = model.pending.first() {
            let mut head = model.head.clone();
            match self.journal.append(&mut head, pending.entry.clone()) {
                Ok(entry) => {
                    model.pending.remove(0);
                    self.take(model, head, &entry)?;
                    tracing::warn!(
                        model = %model.name,
                        seq = entry.seq,
                        action = entry.action.name(),
                        "a pending decision is written"
                    );
                }
                Err(error) => {
                    // Another replica decided first. Its decision may make this one pointless.
                    if matches!(error, JournalError::Lost) {
                        self.adopt_repair(model);
                        self.follow(model);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Computes the state that applies after a change of the written state, and lets it take effect.
    pub(super) fn settle_and_enforce(&self, model: &mut ModelControl) {
        let dropped = model.settle();
        self.report_dropped(&model.name, &dropped);
        self.enforce(model);
    }

    /// Logs pending decisions that other replicas' decisions made pointless.
    pub(super) fn report_dropped(&self, name: &ModelName, dropped: &[Entry]) {
        for entry in dropped {
            let to = entry
                .to
                .as_ref()
                .map(|to| to.version.as_str())
                .unwrap_or_default();
            tracing::warn!(
                model = %name,
                action = entry.action.name(),
                to,
                cause = entry.actor.cause().name(),
                "a pending decision is dropped: a decision of another replica made it pointless"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        actor::Actor,
        journal::{
            DecisionDraft,
            entry::{Action, VersionRef},
        },
        operate::{decide, model::Pending},
        rollout::state::ModelState,
    };

    fn version(version: &str) -> VersionRef {
        VersionRef {
            version: version.to_owned(),
            digest: format!("sha256:{version}"),
        }
    }

    fn draft(action: Action, from: Option<&str>, to: &str) -> DecisionDraft {
        let actor = Actor::Verified("someone".to_owned());
        DecisionDraft {
            from: from.map(version),
            ..decide::draft(action, actor, Some(version(to)))
        }
    }

    #[test]
    fn a_rollback_is_due_until_another_replica_left_the_same_version() {
        let mut state = ModelState::default();
        for (action, to) in [(Action::Adopt, "1"), (Action::Promote, "2")] {
            state
                .apply(&draft(action, None, to).into_entry("m"))
                .unwrap();
        }
        let pending = Pending {
            entry: draft(Action::Rollback, Some("2"), "1").into_entry("m"),
            rollout: None,
        };
        assert!(pending.is_due(&state));
        // Another replica rolled back as well, and then promoted a third version.
        state
            .apply(&draft(Action::Rollback, Some("2"), "1").into_entry("m"))
            .unwrap();
        assert!(!pending.is_due(&state));
        state
            .apply(&draft(Action::Promote, Some("1"), "3").into_entry("m"))
            .unwrap();
        assert!(!pending.is_due(&state));
    }
}
