//! The status and the history of a model, as documents of the admin API.

use std::time::Instant;

use crate::{
    admin::{
        history::History,
        rollout::{CandidateStatus, RolloutPhase, RolloutStatus},
        status::{Decision, ModelStatus, ModelStatuses, PendingDecision, RollbackReadiness},
    },
    clock,
    id::ModelName,
    journal::entry::Entry,
    operate::{
        OperateError, Operator, lock,
        model::{ModelControl, Pending},
        trouble::Trouble,
    },
    rollout::state::PhaseState,
    suggestion::Suggestion,
};

/// Maximum number of entries on one page of the history. It keeps a page below a few megabytes.
const MAX_ENTRIES: u64 = 1000;

impl Operator {
    pub(crate) fn status(&self, name: &str) -> Result<ModelStatus, OperateError> {
        let name = self.with_journal(name)?;
        let controlled = self.controlled(&name);
        let mut model = lock(&controlled);
        self.follow(&mut model);
        Ok(self.status_of(&model))
    }

    pub(crate) fn statuses(&self) -> ModelStatuses {
        let status = |name: &ModelName| {
            let controlled = self.controlled(name);
            let model = lock(&controlled);
            self.status_of(&model)
        };
        ModelStatuses {
            models: self.names().iter().map(status).collect(),
        }
    }

    /// Returns the name of a model that has a journal. A model that is served without a journal has
    /// no status yet.
    fn with_journal(&self, name: &str) -> Result<ModelName, OperateError> {
        ModelName::parse(name)
            .filter(|name| self.names().contains(name))
            .ok_or_else(|| OperateError::UnknownModel(name.to_owned()))
    }

    pub(super) fn status_of(&self, model: &ModelControl) -> ModelStatus {
        let state = &model.state;
        let (answers, outage) = self.answering(&model.name);
        let (not_answering, way_out) = outage.unzip();
        let trouble = model.trouble.as_ref();
        ModelStatus {
            model: model.name.to_string(),
            seq: model.head.seq,
            stable: state.stable.clone(),
            answers,
            not_answering,
            written: model.pending.is_empty(),
            pending: model.pending.iter().map(pending_decision).collect(),
            previous: state.previous().cloned(),
            rollback: readiness(model),
            trouble: trouble.map(Trouble::describe),
            suggestion: trouble
                .and_then(|trouble| trouble.suggestion(model.known))
                .or(way_out.flatten()),
            only_urgent: trouble.is_some_and(|trouble| !trouble.forbids(true)),
            last: state.last.clone().map(Decision::from),
            rollout: self.rollout_of(model),
        }
    }

    /// Problems that an operator must know about although requests are answered.
    pub(super) fn notices(&self, model: &ModelControl) -> Vec<String> {
        let trouble = model.trouble.as_ref().map(Trouble::describe);
        let pending = model.pending.iter().map(|pending| {
            let to = pending
                .entry
                .to
                .as_ref()
                .map(|to| to.version.as_str())
                .unwrap_or_default();
            format!(
                "{} {to} applies on this server only: it could not be written yet",
                pending.entry.action.name()
            )
        });
        let reserve = self.store.lacks_reserve().then(|| {
            "the disk of the state directory is full: no space is reserved for urgent decisions"
                .to_owned()
        });
        trouble.into_iter().chain(pending).chain(reserve).collect()
    }

    /// The version that answers requests that name no version. If there is none: the reason, and
    /// the command that helps.
    fn answering(
        &self,
        name: &ModelName,
    ) -> (Option<String>, Option<(String, Option<Suggestion>)>) {
        let snapshot = self.registry.snapshot();
        let Some(model) = snapshot.models.get(name) else {
            let reason = "it is not in the models directory".to_owned();
            return (None, Some((reason, Some(Suggestion::RestoreFiles))));
        };
        match model.outage(Instant::now()) {
            None => {
                let stable = model.stable.as_ref();
                (stable.map(|stable| stable.id().version.to_string()), None)
            }
            Some(outage) => (None, Some((outage.cause.to_string(), outage.suggestion))),
        }
    }

    fn rollout_of(&self, model: &ModelControl) -> Option<RolloutStatus> {
        let rollout = model.state.rollout.as_ref()?;
        let number = rollout.candidates.len();
        let at_rest = matches!(model.trouble, Some(Trouble::Damaged { .. }));
        let (phase, why) = match &rollout.phase {
            _ if at_rest => (RolloutPhase::AtRest, None),
            PhaseState::AwaitsApproval => (RolloutPhase::AwaitsApproval, None),
            PhaseState::Running => (RolloutPhase::Running, None),
            PhaseState::Paused { by, reason, .. } => {
                (RolloutPhase::Paused, Some(format!("{by}: {reason}")))
            }
        };
        let running = model.step.as_ref();
        let judgement = running.and_then(|running| running.judgement.as_ref());
        let candidates = rollout.candidates.iter().map(|named| CandidateStatus {
            version: named.version.clone(),
            digest: named.digest.clone(),
            loaded: self.loaded(&model.name, &named.version).is_some(),
        });
        Some(RolloutStatus {
            id: rollout.id.clone(),
            plan: rollout.plan.clone(),
            starter: rollout.starter.clone(),
            candidates: candidates.collect(),
            phase,
            why,
            step: rollout.step,
            steps: rollout.plan.steps.len(),
            this_step: rollout.plan.steps.get(rollout.step).cloned(),
            step_seconds: rollout.step_seconds(clock::now_ms()),
            weights: if at_rest {
                vec![0.0; number]
            } else {
                rollout.plan.weights(rollout.step, number)
            },
            shadow_share: if at_rest {
                0.0
            } else {
                rollout.plan.shadow_share(rollout.step)
            },
            evidence: running.map(|running| running.evidence.clone()),
            verdict: judgement.map(|judgement| judgement.verdict),
            text: judgement.map(|judgement| judgement.text.clone()),
            guards: judgement.map(|judgement| judgement.guards.clone()),
        })
    }

    /// One page of the journal, starting at entry `first`, as stored.
    pub(crate) fn history(&self, name: &str, first: u64) -> Result<History, OperateError> {
        let name = self.with_journal(name)?;
        let head = {
            let controlled = self.controlled(&name);
            let mut model = lock(&controlled);
            self.follow(&mut model);
            model.head.clone()
        };
        let first = first.max(1);
        // Entries beyond a gap are part of the history: a reader that verifies the history must see
        // them.
        let beyond = self
            .journal
            .beyond_gap(name.as_str(), &head)
            .map_err(OperateError::JournalUnreadable)?;
        let last = beyond
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .fold(head.seq, u64::max);
        let end = last.min(first.saturating_add(MAX_ENTRIES - 1));
        let mut entries = Vec::new();
        for seq in first..=end {
            let text = self
                .journal
                .text(name.as_str(), seq)
                .map_err(OperateError::JournalUnreadable)?;
            entries.push(text.map(|text| String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(History {
            model: name.to_string(),
            first,
            entries,
            truncated: end < last,
            head: head.into(),
        })
    }
}

fn pending_decision(pending: &Pending) -> PendingDecision {
    let Entry {
        action,
        to,
        at,
        actor,
        reason,
        ..
    } = pending.entry.clone();
    PendingDecision {
        action,
        to,
        at,
        actor,
        reason,
    }
}

fn readiness(model: &ModelControl) -> RollbackReadiness {
    // The last rehearsal may have been about another version.
    if !model.rehearsal.is_of(model.state.previous()) {
        return RollbackReadiness {
            ready: false,
            reason: String::new(),
        };
    }
    RollbackReadiness {
        ready: model.rehearsal.ready,
        reason: model.rehearsal.reason.clone(),
    }
}
