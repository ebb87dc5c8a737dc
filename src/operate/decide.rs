//! Making a decision: write it, let it take effect, report it.

use std::sync::Arc;

use crate::{
    actor::Actor,
    error::text_with_sources,
    journal::{
        DecisionDraft, JournalError,
        chain::ChainHead,
        entry::{Action, Entry, VersionRef},
        store::StoreOperation,
    },
    operate::{OperateError, Operator, model::ModelControl, trouble::Trouble},
};

/// Creates a draft that contains only an action, an actor and a version.
pub(super) fn draft(action: Action, actor: Actor, to: Option<VersionRef>) -> DecisionDraft {
    DecisionDraft {
        action,
        actor,
        from: None,
        to,
        strategy: None,
        reason: None,
        evidence: None,
        details: None,
    }
}

impl Operator {
    /// Writes a decision and lets it take effect. An urgent decision takes effect even if it can't
    /// be written yet.
    pub(super) fn append(
        &self,
        model: &mut ModelControl,
        draft: DecisionDraft,
    ) -> Result<Entry, OperateError> {
        let urgent = draft.action.is_urgent();
        if let Some(trouble) = &model.trouble {
            if trouble.forbids(urgent) {
                return Err(model.trouble_error(trouble));
            }
            // The last attempt to write failed a moment ago. Another attempt now would only delay
            // the decision.
            let why = trouble.log_line(&model.name, true);
            let entry = draft.into_entry(model.name.as_str());
            return self.hold_and_report(model, entry, &why);
        }
        let entry = draft.into_entry(model.name.as_str());
        match self.write_after_pending(model, &entry) {
            Ok((head, entry)) => {
                self.take(model, head, &entry)
                    .map_err(OperateError::Inconsistent)?;
                self.report_decided(&entry);
                Ok(entry)
            }
            Err(JournalError::Lost) => Err(self.superseded(model)),
            Err(error) => {
                self.metrics.models.source_errors.inc();
                if urgent {
                    self.hold_and_report(model, entry, &text_with_sources(&error))
                } else {
                    Err(OperateError::NotWritten(error))
                }
            }
        }
    }

    fn write_after_pending(
        &self,
        model: &mut ModelControl,
        entry: &Entry,
    ) -> Result<(ChainHead, Entry), JournalError> {
        self.flush(model)?;
        let mut head = model.head.clone();
        let entry = self.journal.append(&mut head, entry.clone())?;
        Ok((head, entry))
    }

    /// Handles the case that another replica wrote an entry under the number of this decision.
    pub(super) fn superseded(&self, model: &mut ModelControl) -> OperateError {
        self.adopt_repair(model);
        self.follow(model);
        OperateError::Superseded {
            last: model.state.last.clone().map(Box::new),
        }
    }

    fn hold_and_report(
        &self,
        model: &mut ModelControl,
        entry: Entry,
        why: &str,
    ) -> Result<Entry, OperateError> {
        let entry = self.apply_unwritten(model, entry, why)?;
        self.report_decided(&entry);
        Ok(entry)
    }

    pub(super) fn report_decided(&self, entry: &Entry) {
        self.report(entry, "decided");
        if let Some(webhook) = &self.webhook {
            webhook.notify(entry);
        }
    }

    pub(super) fn report(&self, entry: &Entry, event: &str) {
        let to = entry
            .to
            .as_ref()
            .map(|to| to.version.as_str())
            .unwrap_or_default();
        let reason = entry.reason.as_deref().unwrap_or_default();
        let action = entry.action.name();
        // The first choice of a version is routine. Every other decision changes the answers to
        // callers.
        if entry.action == Action::Adopt {
            tracing::info!(
                model = %entry.model,
                seq = entry.seq,
                action,
                to,
                actor = %entry.actor,
                reason,
                "{event}"
            );
        } else {
            tracing::warn!(
                model = %entry.model,
                seq = entry.seq,
                action,
                to,
                actor = %entry.actor,
                reason,
                "{event}"
            );
        }
        self.metrics.rollouts.count_transition(
            &entry.model,
            to,
            action,
            entry.actor.cause().name(),
        );
    }

    /// Lets a written entry take effect.
    pub(super) fn take(
        &self,
        model: &mut ModelControl,
        head: ChainHead,
        entry: &Entry,
    ) -> Result<(), JournalError> {
        if let Err(error) = model.written.apply(entry) {
            let trouble = Trouble::Damaged {
                seq: entry.seq,
                damage: Arc::new(error.problem.into()),
                further: false,
            };
            model.trouble = Some(trouble.clone());
            return Err(StoreOperation::Follow.failed(trouble).into());
        }
        model.head = head;
        self.settle_and_enforce(model);
        Ok(())
    }
}
