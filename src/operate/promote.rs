//! Promoting a candidate: it becomes the stable version.

use crate::{
    actor::Actor,
    admin::{requests::PromoteRequest, start::DecisionEvidence, status::ModelStatus},
    journal::{
        DecisionDraft,
        entry::{Action, VersionRef},
    },
    operate::{OperateError, Operator, model::ModelControl},
    rollout::state::{PhaseState, RolloutState},
};

impl Operator {
    pub(crate) fn promote(
        &self,
        name: &str,
        request: &PromoteRequest,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| self.promote_candidate(model, request, actor))?;
        // The returned status says whether a rollback to the previous version would work.
        self.rehearse_one(&name);
        self.with(&name, |model| Ok(self.status_of(model)))
    }

    fn promote_candidate(
        &self,
        model: &mut ModelControl,
        request: &PromoteRequest,
        actor: &Actor,
    ) -> Result<(), OperateError> {
        let rollout = model.rollout()?;
        if rollout.phase == PhaseState::AwaitsApproval {
            return Err(OperateError::AwaitsApproval);
        }
        let to = winner(rollout, request.to.as_deref())?;
        let strategy = Some(rollout.plan.name.clone());
        if self.decided(&model.name, &to).is_none() {
            return Err(OperateError::NotLoaded(to.to_string()));
        }
        if !request.without_way_back {
            self.check_rollback_path(model, &to)
                .map_err(|error| OperateError::NoWayBack(Box::new(error)))?;
        } else if request.reason.is_none() {
            return Err(OperateError::ReasonRequired(
                "a promotion without a rollback path",
            ));
        }
        let evidence = model.step.as_ref().and_then(|running| {
            DecisionEvidence {
                without_way_back: Some(request.without_way_back),
                ..DecisionEvidence::of_totals(&running.evidence)
            }
            .to_value()
        });
        let draft = DecisionDraft {
            action: Action::Promote,
            actor: actor.clone(),
            from: model.state.stable.clone(),
            to: Some(to),
            strategy,
            reason: request.reason.clone(),
            evidence,
            details: None,
        };
        self.append(model, draft).map(|_| ())
    }
}

/// Returns the candidate to promote.
fn winner(rollout: &RolloutState, to: Option<&str>) -> Result<VersionRef, OperateError> {
    match (to, rollout.candidates.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(OperateError::SeveralCandidates),
        (Some(version), candidates) => candidates
            .iter()
            .find(|named| named.version == version)
            .cloned()
            .ok_or_else(|| OperateError::NotACandidate(version.to_owned())),
    }
}
