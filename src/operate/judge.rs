//! Acting on the judge's verdict about the current step.

use serde_json::Value;

use crate::{
    actor::Actor,
    admin::start::DecisionEvidence,
    clock,
    error::text_with_sources,
    journal::{
        DecisionDraft,
        entry::{Action, VersionRef},
    },
    operate::{OperateError, Operator, model::ModelControl},
    rollout::{
        judge::{Case, GuardMetric, Judgement, Verdict, judge},
        state::{PauseDetails, PhaseState, StepDetails},
    },
};

/// Maximum of an e-value in the metrics, as a share of its limit. A higher value adds no certainty,
/// and would make plots unreadable.
const MAX_E_VALUE_SHARE: f64 = 1e6;

impl Operator {
    /// Judges the current step, and writes the decision that follows from the verdict.
    pub(super) fn judge(&self, model: &mut ModelControl) {
        let Some(judgement) = judge_step(model) else {
            return;
        };
        for report in &judgement.guards {
            let share = report.e_value / report.limit;
            self.metrics.rollouts.set_e_value(
                model.name.as_str(),
                &report.candidate,
                report.guard.name(),
                Some(share.min(MAX_E_VALUE_SHARE)),
            );
        }
        if let Some(running) = &mut model.step {
            running.judgement = Some(judgement.clone());
        }
        self.act(model, &judgement);
    }

    fn act(&self, model: &mut ModelControl, judgement: &Judgement) {
        let Some(rollout) = &model.state.rollout else {
            return;
        };
        let first = rollout.candidates.first().cloned();
        let paused = matches!(rollout.phase, PhaseState::Paused { .. });
        match judgement.verdict {
            // A paused rollout still answers requests, so a bad candidate is aborted during a
            // pause, too.
            Verdict::Abort => {
                let caught = judgement.candidate.as_ref().and_then(|version| {
                    rollout
                        .candidates
                        .iter()
                        .find(|named| named.version == *version)
                        .cloned()
                });
                self.decide_by_judge(model, Action::Abort, caught.or(first), judgement, None);
            }
            Verdict::Inconclusive if !paused => {
                let details = PauseDetails {
                    guard: judgement.guard,
                };
                let details = serde_json::to_value(details).ok();
                self.decide_by_judge(model, Action::Pause, first, judgement, details);
            }
            Verdict::Advance if !paused && rollout.step + 1 < rollout.plan.steps.len() => {
                let details = StepDetails {
                    step: rollout.step + 1,
                    thresholds: self.thresholds(model, &rollout.plan.guards),
                };
                let details = serde_json::to_value(details).ok();
                self.decide_by_judge(model, Action::Advance, first, judgement, details);
            }
            Verdict::Advance if !paused => self.promote_by_judge(model, judgement),
            Verdict::Hold | Verdict::Advance | Verdict::Inconclusive => {}
        }
    }

    /// Promotes a candidate that passed its last step. If a rollback would not work afterwards, an
    /// operator must decide.
    fn promote_by_judge(&self, model: &mut ModelControl, judgement: &Judgement) {
        let rollout = model.state.rollout.as_ref();
        let Some(to) = rollout.and_then(|rollout| rollout.candidates.first().cloned()) else {
            return;
        };
        match self.check_rollback_path(model, &to) {
            Ok(()) => self.decide_by_judge(model, Action::Promote, Some(to), judgement, None),
            Err(error) => {
                let judgement = Judgement {
                    text: format!(
                        "passed its last step, but can't be promoted: {}",
                        text_with_sources(&error)
                    ),
                    ..judgement.clone()
                };
                let details = serde_json::to_value(PauseDetails::default()).ok();
                self.decide_by_judge(model, Action::Pause, Some(to), &judgement, details);
            }
        }
    }

    fn decide_by_judge(
        &self,
        model: &mut ModelControl,
        action: Action,
        to: Option<VersionRef>,
        judgement: &Judgement,
        details: Option<Value>,
    ) {
        let evidence = model.step.as_ref().and_then(|running| {
            DecisionEvidence {
                guards: judgement.guards.clone(),
                ..DecisionEvidence::of_totals(&running.evidence)
            }
            .to_value()
        });
        let draft = DecisionDraft {
            action,
            actor: Actor::Judge,
            from: model.state.stable.clone(),
            to,
            strategy: model
                .state
                .rollout
                .as_ref()
                .map(|rollout| rollout.plan.name.clone()),
            reason: Some(judgement.text.clone()),
            evidence,
            details,
        };
        match self.append(model, draft) {
            // All replicas judge the same evidence. One writes the decision, and the others read
            // it.
            Ok(_) | Err(OperateError::Superseded { .. }) => {}
            Err(error) => {
                tracing::error!(
                    model = %model.name,
                    action = action.name(),
                    error = %text_with_sources(&error),
                    "the judge's decision could not be written"
                )
            }
        }
    }
}

fn judge_step(model: &ModelControl) -> Option<Judgement> {
    let now_ms = clock::now_ms();
    let (rollout, running, stable) = (
        model.state.rollout.as_ref()?,
        model.step.as_ref()?,
        model.state.stable.as_ref()?,
    );
    let candidates: Vec<String> = rollout
        .candidates
        .iter()
        .map(|named| named.version.clone())
        .collect();
    let accepted: Vec<GuardMetric> = rollout.waived.iter().copied().collect();
    Some(judge(&Case {
        plan: &rollout.plan,
        step: rollout.step,
        stable: &stable.version,
        candidates: &candidates,
        evidence: &running.evidence,
        accepted: &accepted,
        step_seconds: rollout.step_seconds(now_ms),
        rollout_seconds: rollout.time_limit_seconds(now_ms),
    }))
}
