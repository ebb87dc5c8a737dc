//! Orders about the rollout in progress: approve, pause, resume, abort.

use serde_json::Value;

use crate::{
    actor::Actor,
    admin::{start::DecisionEvidence, status::ModelStatus},
    journal::{DecisionDraft, entry::Action},
    operate::{OperateError, Operator, model::ModelControl},
    rollout::state::{PauseDetails, PhaseState, StepDetails},
};

/// A decision about the rollout in progress.
struct RolloutDecision<'a> {
    action: Action,
    actor: &'a Actor,
    reason: Option<String>,
    details: Option<Value>,
}

impl Operator {
    /// Approves a rollout as the second operator.
    pub(crate) fn approve(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| {
            let rollout = model.rollout()?;
            if rollout.phase != PhaseState::AwaitsApproval {
                return Err(OperateError::NotAwaitingApproval);
            }
            if !actor.is_verified() || *actor == rollout.starter {
                return Err(OperateError::SecondOperatorRequired {
                    starter: rollout.starter.to_string(),
                });
            }
            let gone = rollout
                .candidates
                .iter()
                .find(|named| self.decided(&name, named).is_none());
            if let Some(gone) = gone {
                return Err(OperateError::NotLoaded(gone.to_string()));
            }
            let details = StepDetails {
                step: 0,
                thresholds: self.thresholds(model, &rollout.plan.guards),
            };
            self.decide_rollout(
                model,
                RolloutDecision {
                    action: Action::Approve,
                    actor,
                    reason,
                    details: serde_json::to_value(details).ok(),
                },
            )
        })
    }

    /// Keeps a rollout at its current step.
    pub(crate) fn pause(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| match model.rollout()?.phase {
            PhaseState::Running => self.decide_rollout(
                model,
                RolloutDecision {
                    action: Action::Pause,
                    actor,
                    reason,
                    details: serde_json::to_value(PauseDetails::default()).ok(),
                },
            ),
            PhaseState::Paused { .. } => Err(OperateError::AlreadyPaused),
            PhaseState::AwaitsApproval => Err(OperateError::AwaitsApproval),
        })
    }

    /// Continues a paused rollout.
    pub(crate) fn resume(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| match model.rollout()?.phase {
            PhaseState::Paused { .. } => self.decide_rollout(
                model,
                RolloutDecision {
                    action: Action::Resume,
                    actor,
                    reason,
                    details: None,
                },
            ),
            PhaseState::Running | PhaseState::AwaitsApproval => Err(OperateError::NotPaused),
        })
    }

    /// Ends a rollout: the stable version answers all requests.
    pub(crate) fn abort(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| {
            self.decide_rollout(
                model,
                RolloutDecision {
                    action: Action::Abort,
                    actor,
                    reason,
                    details: None,
                },
            )
        })
    }

    fn decide_rollout(
        &self,
        model: &mut ModelControl,
        decision: RolloutDecision<'_>,
    ) -> Result<ModelStatus, OperateError> {
        let rollout = model.rollout()?;
        // Only an abort ends the step. Therefore only its totals are final.
        let totals = model
            .step
            .as_ref()
            .filter(|_| decision.action == Action::Abort)
            .and_then(|running| DecisionEvidence::of_totals(&running.evidence).to_value());
        let draft = DecisionDraft {
            action: decision.action,
            actor: decision.actor.clone(),
            from: model.state.stable.clone(),
            to: rollout.candidates.first().cloned(),
            strategy: Some(rollout.plan.name.clone()),
            reason: decision.reason,
            evidence: totals,
            details: decision.details,
        };
        self.append(model, draft)?;
        Ok(self.status_of(model))
    }
}
