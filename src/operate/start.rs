//! Starting a rollout: the candidates are loaded, compared with the stable version, and checked
//! against the plan.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    actor::Actor,
    admin::{
        requests::{PlanChoice, StartRequest},
        start::{CandidateReport, DecisionEvidence, DryRun, PlannedRollout},
        status::ModelStatus,
    },
    journal::{
        DecisionDraft,
        entry::{Action, VersionRef},
    },
    operate::{OperateError, Operator, compatibility::CallerCompatibility, model::ModelControl},
    package::serving::Risk,
    registry::{servable::Servable, traffic::CandidateArm},
    rollout::{
        plan::{AssignmentKey, PlanStep, RolloutPlan},
        state::StartDetails,
    },
    schema::Schema,
};

/// The response to a request to start a rollout.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Started {
    Rollout(Box<ModelStatus>),
    DryRun(Box<DryRun>),
}

/// Results of comparing the candidates of a rollout with the stable version.
#[derive(Default)]
struct Comparison {
    reports: Vec<CandidateReport>,
    /// Differences that break callers of the stable version.
    breaking: Vec<String>,
    /// Differences that do not break today's callers. A rollback would break callers that already
    /// use the new values.
    forward_only: Vec<String>,
    /// The highest risk that a candidate's package declares. `None` if no package declares one.
    risk: Option<Risk>,
}

impl Operator {
    /// Starts a rollout. A dry run only reports which rollout would start.
    pub(crate) fn start(
        &self,
        name: &str,
        request: &StartRequest,
        actor: &Actor,
    ) -> Result<Started, OperateError> {
        let name = self.known(name)?;
        check_candidates(&request.to)?;
        self.with(&name, |model| may_start(model, &request.to))?;
        let candidates: Result<Vec<VersionRef>, OperateError> = request
            .to
            .iter()
            .map(|version| self.ensure_loaded(&name, version))
            .collect();
        let outcome = candidates.and_then(|candidates| {
            self.with(&name, |model| {
                self.start_loaded(model, candidates, request, actor)
            })
        });
        // If a rollout started, it keeps the candidates loaded. If none started, the candidates are
        // not needed.
        for version in &request.to {
            self.release(&name, version);
        }
        outcome
    }

    fn start_loaded(
        &self,
        model: &mut ModelControl,
        candidates: Vec<VersionRef>,
        request: &StartRequest,
        actor: &Actor,
    ) -> Result<Started, OperateError> {
        // Another order may have come first while the candidates were loaded.
        may_start(model, &request.to)?;
        let from = model.state.stable.clone().ok_or(OperateError::NoStable)?;
        let stable = self
            .decided(&model.name, &from)
            .ok_or_else(|| OperateError::StableNotLoaded(from.to_string()))?;
        let comparison = self.compare(model, &stable, &candidates, &request.accept_unproved)?;
        let mut plan = choose_plan(request.plan.as_ref(), comparison.risk)?;
        // A high risk always needs a second operator, regardless of the plan.
        plan.approve |= comparison.risk == Some(Risk::High);
        let schema = stable.package().map(|package| &package.parts.input);
        check_plan(&plan, &candidates, schema)?;
        check_consent(&comparison, &from, request)?;
        if plan.approve && !actor.is_verified() {
            return Err(OperateError::NotVerified(plan.name));
        }
        if request.dry_run {
            return Ok(Started::DryRun(Box::new(DryRun {
                dry_run: true,
                would_start: PlannedRollout {
                    model: model.name.to_string(),
                    from,
                    to: candidates,
                    plan,
                    candidates: comparison.reports,
                },
            })));
        }
        let details = StartDetails {
            thresholds: self.thresholds(model, &plan.guards),
            candidates: candidates.clone(),
            forward_only: !comparison.forward_only.is_empty(),
            accepted: request.accept_unproved.clone(),
            plan,
        };
        let draft = DecisionDraft {
            action: Action::Start,
            actor: actor.clone(),
            from: Some(from),
            to: candidates.into_iter().next(),
            strategy: Some(details.plan.name.clone()),
            reason: request.reason.clone(),
            evidence: DecisionEvidence {
                candidates: comparison.reports,
                ..DecisionEvidence::default()
            }
            .to_value(),
            details: serde_json::to_value(details).ok(),
        };
        self.append(model, draft)?;
        Ok(Started::Rollout(Box::new(self.status_of(model))))
    }

    fn compare(
        &self,
        model: &ModelControl,
        stable: &Arc<Servable>,
        candidates: &[VersionRef],
        accepted: &[String],
    ) -> Result<Comparison, OperateError> {
        let mut comparison = Comparison::default();
        for named in candidates {
            let candidate = self
                .decided(&model.name, named)
                .ok_or_else(|| OperateError::NotLoaded(named.to_string()))?;
            check_digest(model, named)?;
            let compatibility = CallerCompatibility::of(stable, &candidate, accepted);
            if let Some(unused) = compatibility.unused().first() {
                return Err(OperateError::NothingToAccept(unused.clone()));
            }
            if compatibility.is_breaking() {
                comparison.breaking.extend(compatibility.lines());
            } else if CandidateArm::new(stable, &candidate).is_none() {
                comparison.breaking.push(format!(
                    "{named} can't use the columns that {} decodes",
                    stable.id().version
                ));
            } else if compatibility.is_forward_only() {
                comparison.forward_only.extend(compatibility.lines());
            }
            let declared = candidate
                .package()
                .and_then(|package| package.parts.serving.risk);
            comparison.risk = comparison.risk.max(declared);
            comparison.reports.push(CandidateReport {
                version: named.version.clone(),
                compatibility: compatibility.into_report(),
            });
        }
        Ok(comparison)
    }
}

fn check_candidates(versions: &[String]) -> Result<(), OperateError> {
    if versions.is_empty() {
        return Err(OperateError::NoCandidate);
    }
    for (index, version) in versions.iter().enumerate() {
        if versions.iter().take(index).any(|other| other == version) {
            return Err(OperateError::DuplicateCandidate(version.clone()));
        }
    }
    Ok(())
}

fn may_start(model: &ModelControl, to: &[String]) -> Result<(), OperateError> {
    if let Some(rollout) = &model.state.rollout {
        let candidates: Vec<&str> = rollout
            .candidates
            .iter()
            .map(|named| named.version.as_str())
            .collect();
        return Err(OperateError::RolloutInProgress {
            candidates: candidates.join(", "),
            starter: rollout.starter.to_string(),
        });
    }
    match &model.state.stable {
        Some(stable) if to.contains(&stable.version) => {
            Err(OperateError::AlreadyStable(stable.to_string()))
        }
        _ => Ok(()),
    }
}

/// Checks that the version has the same digest as in the first decision about it.
pub(super) fn check_digest(model: &ModelControl, named: &VersionRef) -> Result<(), OperateError> {
    match model.state.digests.get(&named.version) {
        Some(decided) if *decided != named.digest => Err(OperateError::DigestChanged {
            version: named.to_string(),
            decided: decided.clone(),
        }),
        _ => Ok(()),
    }
}

/// Checks that the operator accepts, with a reason, all differences that are not proved to be
/// harmless.
fn check_consent(
    comparison: &Comparison,
    stable: &VersionRef,
    request: &StartRequest,
) -> Result<(), OperateError> {
    if !comparison.breaking.is_empty() {
        return Err(OperateError::Breaking {
            stable: stable.to_string(),
            differences: comparison.breaking.clone(),
        });
    }
    let allowed = request.allow_forward_only && request.reason.is_some();
    if !comparison.forward_only.is_empty() && !allowed {
        return Err(OperateError::ForwardOnly {
            differences: comparison.forward_only.clone(),
        });
    }
    if !request.accept_unproved.is_empty() && request.reason.is_none() {
        return Err(OperateError::ReasonRequired(
            "accepting an unproved difference",
        ));
    }
    Ok(())
}

fn choose_plan(
    choice: Option<&PlanChoice>,
    risk: Option<Risk>,
) -> Result<RolloutPlan, OperateError> {
    let name = match (choice, risk) {
        (Some(PlanChoice::Text(text)), _) => {
            return RolloutPlan::parse(text).map_err(OperateError::Plan);
        }
        (Some(PlanChoice::Name(name)), _) => name.as_str(),
        (None, Some(Risk::Low)) => "low",
        (None, Some(Risk::High)) => "high",
        // A package that declares no risk may still be harmful.
        (None, Some(Risk::Medium) | None) => "medium",
    };
    RolloutPlan::builtin(name).ok_or_else(|| OperateError::UnknownPlan(name.to_owned()))
}

fn check_plan(
    plan: &RolloutPlan,
    candidates: &[VersionRef],
    schema: Option<&Schema>,
) -> Result<(), OperateError> {
    let only_ab = plan
        .steps
        .iter()
        .all(|step| matches!(step, PlanStep::Ab { .. } | PlanStep::Shadow { .. }));
    if candidates.len() > 1 && !only_ab {
        return Err(OperateError::PlanForOneCandidate(plan.name.clone()));
    }
    for step in &plan.steps {
        let PlanStep::Ab {
            weights: Some(weights),
            ..
        } = step
        else {
            continue;
        };
        if weights.len() != candidates.len() {
            return Err(OperateError::PlanWeights {
                plan: plan.name.clone(),
                weights: weights.len(),
                candidates: candidates.len(),
            });
        }
    }
    match &plan.key {
        AssignmentKey::Field(field) if schema.and_then(|schema| schema.column(field)).is_none() => {
            Err(OperateError::PlanField {
                plan: plan.name.clone(),
                field: field.clone(),
            })
        }
        _ => Ok(()),
    }
}
