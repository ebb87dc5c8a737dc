//! Rolling back: restores an earlier stable version, or ends the rollout in progress. The restored
//! version is still loaded, so it answers the next request.

use crate::{
    actor::Actor,
    admin::{requests::RollbackRequest, start::DecisionEvidence, status::ModelStatus},
    clock,
    id::ModelName,
    journal::{
        DecisionDraft,
        entry::{Action, VersionRef},
    },
    operate::{
        OperateError, Operator,
        compatibility::CallerCompatibility,
        error::{EarlierDecision, EndedUse},
        model::ModelControl,
        start::check_digest,
    },
    package::serving::Risk,
    rollout::figures::duration,
    suggestion::Suggestion,
};

impl Operator {
    pub(crate) fn rollback(
        &self,
        name: &str,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        let target = self.with(&name, |model| self.target(model, request))?;
        let Some(target) = target else {
            return self.with(&name, |model| self.end_rollout(model, request, actor));
        };
        let to = self.ensure_loaded(&name, &target)?;
        let outcome = self.with(&name, |model| self.restore(model, to, request, actor));
        self.release(&name, &target);
        outcome
    }

    /// The version to restore. `None` if the order is to end the rollout in progress.
    fn target(
        &self,
        model: &ModelControl,
        request: &RollbackRequest,
    ) -> Result<Option<String>, OperateError> {
        let stable = model.state.stable.as_ref();
        let is_stable = |version: &String| stable.is_some_and(|stable| stable.version == *version);
        if model.state.has_begun() && request.to.as_ref().is_none_or(is_stable) {
            return Ok(None);
        }
        let to = match (&request.to, model.state.previous()) {
            (Some(version), _) => version.clone(),
            (None, Some(previous)) => previous.version.clone(),
            (None, None) => return Err(self.no_previous(model)),
        };
        if is_stable(&to) {
            return Err(match earlier_decision(model) {
                Some(already) => OperateError::AlreadyDecided(already),
                None => OperateError::AlreadyStable(to),
            });
        }
        if !self.exists(model, &to) {
            return Err(OperateError::UnknownVersion {
                model: model.name.to_string(),
                version: to,
            });
        }
        if !model.state.proven.contains(&to) {
            if !request.never_stable {
                return Err(OperateError::NeverStable(to));
            }
            if request.reason.is_none() {
                return Err(OperateError::ReasonRequired(
                    "a rollback to a version that was never stable",
                ));
            }
        }
        Ok(Some(to))
    }

    fn no_previous(&self, model: &ModelControl) -> OperateError {
        match &model.trouble {
            // The journal was not read, so the previous stable version is unknown.
            Some(trouble) if !model.known => model.trouble_error(trouble),
            _ => OperateError::NoPrevious {
                already: earlier_decision(model),
                withdrawn: self.withdrawn(model),
                suggestion: self.other_version(model),
            },
        }
    }

    /// Makes a loaded version stable again.
    fn restore(
        &self,
        model: &mut ModelControl,
        to: VersionRef,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        // Another order may have come first while the version was loaded.
        if model.state.stable.as_ref() == Some(&to) {
            return Err(OperateError::AlreadyStable(to.to_string()));
        }
        let previous = model.state.previous().map(|previous| &previous.version);
        if request.to.is_none() && previous != Some(&to.version) {
            return Err(OperateError::Superseded { last: None });
        }
        check_digest(model, &to)?;
        if !model.state.proven.contains(&to.version) {
            self.check_never_stable(model, &to)?;
        }
        let from = model.state.stable.clone();
        self.write_rollback(model, (from, Some(to)), request, actor)
    }

    /// Ends the rollout in progress: the stable version answers all requests.
    fn end_rollout(
        &self,
        model: &mut ModelControl,
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let candidate = model.rollout()?.candidates.first().cloned();
        let stable = model.state.stable.clone();
        self.write_rollback(model, (candidate, stable), request, actor)
    }

    fn write_rollback(
        &self,
        model: &mut ModelControl,
        (from, to): (Option<VersionRef>, Option<VersionRef>),
        request: &RollbackRequest,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let rollout = model.state.rollout.as_ref();
        let draft = DecisionDraft {
            action: Action::Rollback,
            actor: actor.clone(),
            from,
            to,
            strategy: rollout.map(|rollout| rollout.plan.name.clone()),
            reason: request.reason.clone(),
            evidence: model
                .step
                .as_ref()
                .and_then(|running| DecisionEvidence::of_totals(&running.evidence).to_value()),
            details: None,
        };
        self.append(model, draft)?;
        Ok(self.status_of(model))
    }

    /// Suggests another version to roll back to if there is no previous stable version.
    fn other_version(&self, model: &ModelControl) -> Option<Suggestion> {
        let stable = model.state.stable.as_ref();
        let directory = self.settings.models.root.join(model.name.as_str());
        // A version that a rollback or an abort ended is a version that the operator wants to get
        // rid of.
        let fits = |version: &String| {
            stable.is_none_or(|stable| stable.version != *version)
                && !model.state.withdrawn.contains_key(version)
                && directory.join(version).is_dir()
        };
        let mut others = self.available(&model.name);
        others.retain(fits);
        let proven = others
            .iter()
            .rev()
            .find(|version| model.state.proven.contains(*version))
            .cloned();
        match (proven, others.pop()) {
            (Some(to), _) => Some(Suggestion::RollBack { to }),
            (None, Some(to)) => Some(Suggestion::RollBackToNeverStable { to: Some(to) }),
            (None, None) => None,
        }
    }

    /// The loaded versions that a rollback or an abort took out of use.
    fn withdrawn(&self, model: &ModelControl) -> Vec<String> {
        let mut versions = self.available(&model.name);
        versions.retain(|version| model.state.withdrawn.contains_key(version));
        versions
    }

    /// Whether the version exists, or existed.
    fn exists(&self, model: &ModelControl, version: &str) -> bool {
        let snapshot = self.registry.snapshot();
        let served = snapshot
            .models
            .get(&model.name)
            .is_some_and(|served| served.version(version).is_some());
        let directory = |name: &ModelName| self.settings.models.root.join(name.as_str());
        served
            || model.state.digests.contains_key(version)
            || directory(&model.name).join(version).is_dir()
    }

    /// Refuses a version that no rollout tried, because it may break callers. An emergency does not
    /// change this.
    fn check_never_stable(
        &self,
        model: &ModelControl,
        to: &VersionRef,
    ) -> Result<(), OperateError> {
        let stable = model
            .state
            .stable
            .as_ref()
            .and_then(|stable| self.decided(&model.name, stable));
        // If no stable version is loaded, there are no callers that could break.
        let (Some(old), Some(new)) = (stable, self.decided(&model.name, to)) else {
            return Ok(());
        };
        let compatibility = CallerCompatibility::of(&old, &new, &[]);
        if compatibility.is_breaking() {
            return Err(OperateError::Breaking {
                stable: old.id().version.to_string(),
                differences: compatibility.lines(),
            });
        }
        match new.package().and_then(|package| package.parts.serving.risk) {
            Some(Risk::High) => Err(OperateError::HighRisk(to.to_string())),
            _ => Ok(()),
        }
    }
}

/// Describes the rollback or abort since which the current version answers. This is the answer to
/// an operator who gives the same order again.
fn earlier_decision(model: &ModelControl) -> Option<Box<EarlierDecision>> {
    let (stable, last) = (model.state.stable.as_ref()?, model.state.last.as_ref()?);
    let at_ms = clock::ms_of_rfc3339(&last.at);
    let elapsed_ms = at_ms.map_or(0, |at_ms| clock::now_ms().saturating_sub(at_ms));
    let ago = duration((elapsed_ms / 1000) as f64);
    let ended = match last.action {
        Action::Rollback => EndedUse::RolledBack(last.from.as_ref()?.version.clone()),
        Action::Abort => EndedUse::Aborted(last.to.as_ref()?.version.clone()),
        _ => return None,
    };
    Some(Box::new(EarlierDecision {
        stable: stable.version.clone(),
        ended,
        ago,
        actor: last.actor.clone(),
        seq: last.seq,
    }))
}
