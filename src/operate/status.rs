//! Status: what is decided of a model and how its rollout stands, for people and programs.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    clock,
    id::ModelName,
    journal::store::StoreError,
    operate::{Controlled, OperateError, Operator, lock, trouble::Trouble},
    rollout::state::Phase,
};

/// Entries in one answer.
const MAX_ENTRIES: u64 = 1000;

impl Operator {
    pub fn status(&self, name: &str) -> Result<Value, OperateError> {
        let name = self.served(name)?;
        let controlled = self.controlled(&name);
        let mut model = lock(&controlled);
        self.read_on(&mut model, true);
        Ok(self.status_of(&model))
    }

    pub fn statuses(&self) -> Value {
        let status = |name: &ModelName| {
            let controlled = self.controlled(name);
            let model = lock(&controlled);
            self.status_of(&model)
        };
        json!({"models": self.names().iter().map(status).collect::<Vec<_>>()})
    }

    fn served(&self, name: &str) -> Result<ModelName, OperateError> {
        let unknown = || OperateError::Unknown(format!("there is no model \"{name}\""));
        let name = ModelName::parse(name).ok_or_else(unknown)?;
        if self.names().contains(&name) {
            Ok(name)
        } else {
            Err(unknown())
        }
    }

    pub(super) fn status_of(&self, model: &Controlled) -> Value {
        let state = &model.state;
        let (answers, not_answering) = self.answering(&model.name);
        // What was tried was perhaps another way back.
        let tried = model.way_back.is_of(state.previous());
        json!({
            "model": model.name.as_str(),
            "seq": model.head.seq,
            "stable": state.stable,
            "answers": answers,
            "not_answering": not_answering,
            "written": model.pending.is_empty(),
            "pending": model.pending.iter().map(|pending| json!({
                "action": pending.entry.action, "to": pending.entry.to, "at": pending.entry.at,
                "actor": pending.entry.actor, "reason": pending.entry.reason,
            })).collect::<Vec<_>>(),
            "previous": state.previous(),
            "rollback": {"ready": tried && model.way_back.ready, "reason": if tried { model.way_back.reason.as_str() } else { "" }},
            "trouble": model.trouble.as_ref().map(|trouble| trouble.describe(&model.name, model.known)),
            // What protects callers can be decided all the same.
            "only_urgent": model.trouble.as_ref().is_some_and(|trouble| !trouble.forbids(true)),
            "last": state.last,
            "rollout": self.rollout_of(model),
        })
    }

    /// What an operator must know although requests are answered.
    pub(super) fn notices(&self, model: &Controlled) -> Vec<String> {
        let trouble = model
            .trouble
            .as_ref()
            .map(|trouble| trouble.describe(&model.name, model.known));
        let pending = model.pending.iter().map(|pending| {
            let to = pending
                .entry
                .to
                .as_ref()
                .map(|to| to.version.as_str())
                .unwrap_or_default();
            format!(
                "{} {to} is in force on this server only: it could not be written yet",
                pending.entry.action.name()
            )
        });
        let reserve = self
            .store
            .lacks_reserve()
            .then(|| "the state's disk is full: no room is kept for urgent decisions".to_owned());
        trouble.into_iter().chain(pending).chain(reserve).collect()
    }

    /// The version that answers requests without one, or why none does.
    fn answering(&self, name: &ModelName) -> (Option<String>, Option<String>) {
        let snapshot = self.registry.snapshot();
        let Some(model) = snapshot.models.get(name) else {
            return (None, Some("it is not in the models directory".to_owned()));
        };
        match model.ailment(Instant::now()) {
            None => (
                model
                    .stable
                    .as_ref()
                    .map(|stable| stable.id().version.to_string()),
                None,
            ),
            ailment => (None, ailment),
        }
    }

    /// The versions that are loaded, the lowest first.
    pub(super) fn available(&self, name: &ModelName) -> Vec<String> {
        let snapshot = self.registry.snapshot();
        let versions = snapshot
            .models
            .get(name)
            .into_iter()
            .flat_map(|model| &model.versions);
        let available = versions
            .filter(|(_, status)| matches!(status.state, crate::registry::State::Available(_)));
        available.map(|(version, _)| version.to_string()).collect()
    }

    fn rollout_of(&self, model: &Controlled) -> Option<Value> {
        let rollout = model.state.rollout.as_ref()?;
        let now_ms = clock::now_ms();
        let candidates = rollout.candidates.len();
        let step = rollout.plan.steps.get(rollout.step);
        let at_rest = matches!(model.trouble, Some(Trouble::Damaged { .. }));
        let (phase, why) = match &rollout.phase {
            // As it is enforced: nobody gets the candidates of a rollout that nobody could abort.
            _ if at_rest => ("at-rest", None),
            Phase::AwaitsApproval => ("awaits-approval", None),
            Phase::Running => ("running", None),
            Phase::Paused { by, reason, .. } => ("paused", Some(format!("{by}: {reason}"))),
        };
        let running = model.step.as_ref();
        let judgement = running.and_then(|running| running.judgement.as_ref());
        let loaded = |version: &str| self.loaded(&model.name, version).is_some();
        Some(json!({
            "id": rollout.id,
            "plan": rollout.plan,
            "starter": rollout.starter,
            "candidates": rollout.candidates.iter().map(|named| json!({
                "version": named.version, "digest": named.digest, "loaded": loaded(&named.version),
            })).collect::<Vec<_>>(),
            "phase": phase,
            "why": why,
            "step": rollout.step,
            "steps": rollout.plan.steps.len(),
            "this_step": step,
            "step_seconds": rollout.step_seconds(now_ms),
            "weights": if at_rest { vec![0.0; candidates] } else { rollout.plan.weights(rollout.step, candidates) },
            "shadow_share": if at_rest { Default::default() } else { rollout.plan.shadow_share(rollout.step) },
            "evidence": running.map(|running| &running.evidence),
            "verdict": judgement.map(|judgement| judgement.verdict),
            "text": judgement.map(|judgement| &judgement.text),
            "guards": judgement.map(|judgement| &judgement.guards),
        }))
    }

    /// The journal of a model from entry `first` on, as the texts that are stored; and where this process knows it to end.
    pub fn history(&self, name: &str, first: u64) -> Result<Value, OperateError> {
        let name = self.served(name)?;
        let head = {
            let controlled = self.controlled(&name);
            let mut model = lock(&controlled);
            self.read_on(&mut model, true);
            model.head.clone()
        };
        let first = first.max(1);
        let unreadable = |error: StoreError| OperateError::Unwritable(error.to_string());
        // Beyond a gap, too: whoever verifies must see it.
        let beyond = self
            .journal
            .beyond_gap(name.as_str(), &head)
            .map_err(unreadable)?;
        let last = beyond
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
            .fold(head.seq, u64::max);
        let end = last.min(first.saturating_add(MAX_ENTRIES - 1));
        let mut entries = Vec::new();
        for seq in first..=end {
            let text = self.journal.text(name.as_str(), seq).map_err(unreadable)?;
            entries.push(text.map(|text| String::from_utf8_lossy(&text).into_owned()));
        }
        let truncated = end < last;
        Ok(
            json!({"model": name.as_str(), "first": first, "entries": entries, "truncated": truncated, "head": {"seq": head.seq, "sha256": head.sha256}}),
        )
    }
}
