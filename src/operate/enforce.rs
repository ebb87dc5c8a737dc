//! Enforcing the decisions about a model: gives them to the registry for the next request, and
//! shows them in the metrics.

use std::sync::Arc;

use crate::{
    id::Version,
    operate::{Operator, model::ModelControl, trouble::Trouble},
    registry::decision::ModelDecision,
    rollout::state::PhaseState,
    suggestion::Suggestion,
};

/// Why a model whose journal was repaired does not answer.
const UNDECIDED: &str = "its journal was repaired and no longer says which version was stable; \
                         choose the version that shall answer";

impl Operator {
    /// Lets the decisions that apply now take effect for the next request. Loads nothing.
    pub(super) fn enforce(&self, model: &mut ModelControl) {
        self.change_step(model);
        let decision = self.decision(model);
        self.publish_weights(model, &decision);
        self.metrics
            .rollouts
            .set_journal_pending(model.name.as_str(), model.pending.len());
        self.registry.decide(&model.name, decision);
        if let Some(commander) = self.commander.get() {
            commander.decided();
        }
    }

    /// Begins, changes or ends the current step, to match the decisions that apply now.
    fn change_step(&self, model: &mut ModelControl) {
        let damaged = matches!(model.trouble, Some(Trouble::Damaged { .. }));
        // Nobody could abort a rollout whose journal is damaged. Therefore its candidates get no
        // traffic.
        let runs = model.known && !damaged;
        let rollout = model
            .state
            .rollout
            .as_ref()
            .filter(|rollout| runs && rollout.phase != PhaseState::AwaitsApproval);
        let seq = rollout.map(|rollout| rollout.step_seq);
        if model.step.as_ref().map(|running| running.step.seq) == seq {
            return;
        }
        let step = rollout
            .zip(model.state.stable.as_ref())
            .map(|(rollout, stable)| {
                let versions = std::iter::once(stable)
                    .chain(&rollout.candidates)
                    .map(|named| named.version.clone())
                    .collect();
                self.begin_step(&model.name, rollout, versions)
            });
        self.forget_step(model);
        model.step = step;
    }

    fn decision(&self, model: &ModelControl) -> ModelDecision {
        // A part of a journal may contradict the whole journal.
        let stable = model
            .state
            .stable
            .clone()
            .filter(|_| model.known || !model.pending.is_empty());
        // A candidate that waits for an approval must be loaded when the approval comes.
        let candidates = model
            .state
            .rollout
            .iter()
            .flat_map(|rollout| &rollout.candidates)
            .filter_map(|named| Version::parse(&named.version));
        let trouble = model
            .trouble
            .as_ref()
            .filter(|trouble| !model.known || !trouble.allows_first_choice())
            .map(|trouble| (trouble.describe(), trouble.suggestion(model.known)));
        let undecided = || {
            let suggestion = Suggestion::RollBackToNeverStable { to: None };
            (UNDECIDED.to_owned(), Some(suggestion))
        };
        ModelDecision {
            stable,
            previous: model.state.previous().cloned(),
            digests: model.state.digests.clone(),
            withdrawn: model.state.withdrawn.keys().cloned().collect(),
            step: model.step.as_ref().map(|running| Arc::clone(&running.step)),
            wanted: model.wanted.iter().cloned().chain(candidates).collect(),
            trouble: trouble.or_else(|| model.lacks_stable().then(undecided)),
            notices: self.notices(model),
        }
    }

    /// Sets the metrics for the share of the traffic that each version answers.
    fn publish_weights(&self, model: &ModelControl, decision: &ModelDecision) {
        let name = model.name.as_str();
        let before = self.registry.decision(&model.name);
        let now = versions_of(decision);
        let gone = before
            .iter()
            .flat_map(|before| versions_of(before))
            .filter(|version| !now.contains(version));
        for version in gone {
            self.metrics.rollouts.set_weight(name, &version, None);
        }
        let weights: &[f64] = decision.step.as_ref().map_or(&[], |step| &step.weights);
        if let Some(stable) = &decision.stable {
            let rest = (1.0 - weights.iter().sum::<f64>()).max(0.0);
            self.metrics
                .rollouts
                .set_weight(name, &stable.version, Some(rest));
        }
        let candidates = decision.step.iter().flat_map(|step| &step.candidates);
        for (candidate, weight) in candidates.zip(weights) {
            self.metrics
                .rollouts
                .set_weight(name, &candidate.version, Some(*weight));
        }
    }
}

/// The stable version, then the candidates.
fn versions_of(decision: &ModelDecision) -> Vec<String> {
    let candidates = decision.step.iter().flat_map(|step| &step.candidates);
    decision
        .stable
        .iter()
        .chain(candidates)
        .map(|named| named.version.clone())
        .collect()
}
