//! Command: what operators may order of a model, each checked against what is known now and then written.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    clock::{self, ms_of_rfc3339},
    id::{ModelName, Version},
    journal::{
        Draft,
        entry::{Action, VersionRef},
    },
    operate::{Controlled, OperateError, Operator, gate::Compatibility, lock},
    package::serving::Risk,
    registry::{State, traffic::Arm},
    rollout::{
        figures::duration,
        plan::{Key, Plan, Step},
        state::{PauseDetails, Phase, RolloutState, StartDetails, StepDetails},
    },
};

/// How long an order waits for a version that must be loaded first.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);
const LOAD_TICK: Duration = Duration::from_millis(10);

/// The plan of a rollout: a built-in one by its name, or a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PlanChoice {
    Name(String),
    /// TOML, as `docs/rollouts.md` describes it.
    Text(String),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartRequest {
    /// The candidates; several for an A/B test.
    pub to: Vec<String>,
    /// Absent: by the risk that the candidate's package names.
    pub plan: Option<PlanChoice>,
    pub dry_run: bool,
    /// A rollback would break callers who begin to use what is new, and that is known.
    pub allow_forward_only: bool,
    /// Differences that could not be shown to be harmless, by their pointers.
    pub accept_unproved: Vec<String>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRequest {
    /// Which of several candidates.
    pub to: Option<String>,
    /// Also where a rollback would not work.
    pub without_way_back: bool,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Absent: the stable version before this one.
    pub to: Option<String>,
    /// Also to a version that never was stable, and so was never rolled out: what a rollout asks for is asked for here.
    pub never_stable: bool,
    pub reason: Option<String>,
}

pub(super) fn refused<T>(detail: impl Into<String>) -> Result<T, OperateError> {
    Err(OperateError::Refused(detail.into()))
}

impl Operator {
    pub(super) fn known(&self, name: &str) -> Result<ModelName, OperateError> {
        let unknown = || OperateError::Unknown(format!("there is no model \"{name}\""));
        let name = ModelName::parse(name).ok_or_else(unknown)?;
        let served = self.registry.snapshot().models.contains_key(&name);
        if served || self.names().contains(&name) {
            Ok(name)
        } else {
            Err(unknown())
        }
    }

    /// Runs `work` on what is decided of a model at this moment.
    fn with<T>(
        &self,
        name: &ModelName,
        work: impl FnOnce(&mut Controlled) -> Result<T, OperateError>,
    ) -> Result<T, OperateError> {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        self.read_on(&mut model, true);
        // Whether the decision can wait to be written is its own to say.
        if let Some(trouble) = model
            .trouble
            .as_ref()
            .filter(|trouble| trouble.forbids(true))
        {
            return Err(OperateError::Unwritable(format!(
                "nothing can be decided of {name}: {}",
                trouble.describe(name, model.known)
            )));
        }
        work(&mut model)
    }

    /// The identity of a version that is loaded, or is loaded now. Nothing is held meanwhile: other orders go on.
    fn ensure_loaded(&self, name: &ModelName, version: &str) -> Result<VersionRef, OperateError> {
        let parsed = Version::parse(version)
            .ok_or_else(|| OperateError::Refused(format!("\"{version}\" is not a version")))?;
        let deadline = Instant::now() + LOAD_PATIENCE;
        // Held first, and looked at then: what is loaded may just be going.
        self.want(name, &parsed, true);
        let mut looked = false;
        let outcome = loop {
            if let Some(servable) = self.loaded(name, version) {
                break Ok(VersionRef {
                    version: version.to_owned(),
                    digest: servable.digest().to_owned(),
                });
            }
            let state = {
                let snapshot = self.registry.snapshot();
                let Some(model) = snapshot.models.get(name) else {
                    break refused(format!("model {name} is not in the models directory"));
                };
                if model.unloaded {
                    break refused(format!(
                        "model {name} was unloaded by an operator; load it first"
                    ));
                }
                model.version(version).map(|status| {
                    (
                        status.state.name(),
                        status.state.reason(),
                        matches!(status.state, State::Refused(_)),
                    )
                })
            };
            match state {
                None if !looked => {
                    looked = true;
                    if let Some(commander) = self.commander.get() {
                        commander.look();
                    }
                }
                None => {
                    let known = lock(&self.controlled(name))
                        .state
                        .digests
                        .contains_key(version);
                    break refused(if known {
                        format!("{name} {version} can't answer: its files are gone")
                    } else {
                        format!("there is no version {version} of {name}")
                    });
                }
                Some((_, reason, true)) => {
                    break refused(format!(
                        "{name} {version} was refused: {}",
                        reason.unwrap_or_default()
                    ));
                }
                Some((state, reason, false)) if Instant::now() >= deadline => {
                    let reason = reason
                        .map(|reason| format!(": {reason}"))
                        .unwrap_or_default();
                    break refused(format!("{name} {version} is still {state}{reason}"));
                }
                Some(_) => thread::park_timeout(LOAD_TICK),
            }
        };
        if outcome.is_err() {
            self.want(name, &parsed, false);
        }
        outcome
    }

    fn want(&self, name: &ModelName, version: &Version, wanted: bool) {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        model.wanted.retain(|other| other != version);
        if wanted {
            model.wanted.push(version.clone());
        }
        self.enforce(&mut model);
    }

    /// Starts a rollout, or with `dry_run` says what it would be.
    pub fn start(
        &self,
        name: &str,
        request: &StartRequest,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        if request.to.is_empty() {
            return Err(OperateError::Malformed(
                "name the candidate: --to VERSION".to_owned(),
            ));
        }
        if let Some(twice) = request
            .to
            .iter()
            .enumerate()
            .find(|(at, version)| request.to.iter().take(*at).any(|other| other == *version))
        {
            return Err(OperateError::Malformed(format!(
                "{} is named twice",
                twice.1
            )));
        }
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
        // From here on the rollout itself keeps them loaded, or nothing does.
        for version in request
            .to
            .iter()
            .filter_map(|version| Version::parse(version))
        {
            self.want(&name, &version, false);
        }
        outcome
    }

    fn start_loaded(
        &self,
        model: &mut Controlled,
        candidates: Vec<VersionRef>,
        request: &StartRequest,
        actor: &str,
    ) -> Result<Value, OperateError> {
        may_start(model, &request.to)?;
        let name = model.name.clone();
        let Some(from) = model.state.stable.clone() else {
            return refused("there is no stable version to roll out from");
        };
        let Some(stable) = self.decided(&name, &from) else {
            return refused(format!("the stable version {from} is not loaded"));
        };
        let mut reports = Vec::new();
        let (mut breaking, mut forward_only) = (Vec::new(), Vec::new());
        let mut risk = None;
        for named in &candidates {
            let Some(candidate) = self.decided(&name, named) else {
                return refused(format!("{named} is not loaded any more"));
            };
            if model
                .state
                .digests
                .get(&named.version)
                .is_some_and(|digest| *digest != named.digest)
            {
                return refused(format!(
                    "{named} is not the package that was decided on under this version before; its digest differs"
                ));
            }
            let compatibility = Compatibility::of(&stable, &candidate, &request.accept_unproved);
            if let Some(unused) = compatibility.unused().first() {
                return refused(format!(
                    "{unused} is no difference that is unproved; nothing is to be accepted there"
                ));
            }
            if compatibility.is_breaking() {
                breaking.extend(compatibility.lines());
            } else if Arm::new(&stable, &candidate).is_none() {
                breaking.push(format!("{named} can't take what {from} decodes"));
            } else if compatibility.is_forward_only() {
                forward_only.extend(compatibility.lines());
            }
            reports
                .push(json!({"version": named.version, "compatibility": compatibility.to_value()}));
            risk = risk.max(
                candidate
                    .package()
                    .and_then(|package| package.parts.serving.risk)
                    .map(rank),
            );
        }
        let mut plan = choose(request.plan.as_ref(), risk)?;
        // Whatever plan was named: a high risk is for two to take.
        plan.approve |= risk == Some(rank(Risk::High));
        check_plan(
            &plan,
            &candidates,
            stable.package().map(|package| &package.parts.input),
        )?;
        if !breaking.is_empty() {
            return refused(format!(
                "callers of {from} would break:\n{}",
                breaking.join("\n")
            ));
        }
        if !(forward_only.is_empty() || request.allow_forward_only && request.reason.is_some()) {
            let lines = forward_only.join("\n");
            return refused(format!(
                "a rollback would break callers who begin to use what is new; --allow-forward-only --reason \"...\" if that is meant:\n{lines}"
            ));
        }
        if !request.accept_unproved.is_empty() && request.reason.is_none() {
            return refused("whoever accepts what is unproved gives a reason: --reason \"...\"");
        }
        if plan.approve && !is_verified(actor) {
            return Err(OperateError::Forbidden(format!(
                "plan \"{}\" needs two verified names: set admin.token_file, and send a token",
                plan.name
            )));
        }
        let summary = json!({
            "model": name.as_str(), "from": from, "to": candidates, "plan": plan, "candidates": reports,
        });
        if request.dry_run {
            return Ok(json!({"dry_run": true, "would_start": summary}));
        }
        let thresholds = self.thresholds(model, &plan.guards);
        let details = StartDetails {
            plan: plan.clone(),
            candidates: candidates.clone(),
            forward_only: !forward_only.is_empty(),
            accepted: request.accept_unproved.clone(),
            thresholds,
        };
        let draft = Draft {
            action: Action::Start,
            actor: actor.to_owned(),
            from: Some(from),
            to: candidates.first().cloned(),
            strategy: Some(plan.name.clone()),
            reason: request.reason.clone(),
            evidence: Some(json!({"candidates": reports})),
            details: serde_json::to_value(details).ok(),
        };
        self.append(model, draft)?;
        Ok(self.status_of(model))
    }

    pub fn approve(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| {
            let rollout = running(model)?;
            if rollout.phase != Phase::AwaitsApproval {
                return refused("this rollout does not wait for an approval");
            }
            if !is_verified(actor) || actor == rollout.starter {
                let detail = format!(
                    "a second verified name must approve what {} started",
                    rollout.starter
                );
                return Err(OperateError::Forbidden(detail));
            }
            if let Some(gone) = rollout
                .candidates
                .iter()
                .find(|named| self.decided(&name, named).is_none())
            {
                return refused(format!("{gone} is not loaded; look at the server's log"));
            }
            let details = StepDetails {
                step: 0,
                thresholds: self.thresholds(model, &rollout.plan.guards),
            };
            self.write(
                model,
                Action::Approve,
                actor,
                reason,
                serde_json::to_value(details).ok(),
            )
        })
    }

    pub fn pause(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| match running(model)?.phase {
            Phase::Running => self.write(
                model,
                Action::Pause,
                actor,
                reason,
                serde_json::to_value(PauseDetails::default()).ok(),
            ),
            Phase::Paused { .. } => refused("the rollout is paused already"),
            Phase::AwaitsApproval => refused("the rollout has not begun: it waits for an approval"),
        })
    }

    pub fn resume(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| match running(model)?.phase {
            Phase::Paused { .. } => self.write(model, Action::Resume, actor, reason, None),
            _ => refused("the rollout is not paused"),
        })
    }

    pub fn abort(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        self.with(&name, |model| {
            running(model)?;
            self.write(model, Action::Abort, actor, reason, None)
        })
    }

    pub fn promote(
        &self,
        name: &str,
        request: &PromoteRequest,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        let promoted = self.with(&name, |model| {
            let rollout = running(model)?;
            if rollout.phase == Phase::AwaitsApproval {
                return refused("the rollout has not begun: it waits for an approval");
            }
            let to = match (&request.to, rollout.candidates.as_slice()) {
                (None, [only]) => only.clone(),
                (None, _) => return refused("there are several candidates: name one with --to"),
                (Some(version), candidates) => match candidates.iter().find(|named| named.version == *version) {
                    Some(named) => named.clone(),
                    None => return refused(format!("{version} is not a candidate of this rollout")),
                },
            };
            if self.decided(&name, &to).is_none() {
                return refused(format!("{to} is not loaded"));
            }
            if request.without_way_back && request.reason.is_none() {
                return refused("whoever gives up the way back gives a reason: --reason \"...\"");
            }
            if !request.without_way_back {
                self.check_way_back(model, &to).or_else(|detail| {
                    refused(format!("there would be no way back: {detail}; --without-way-back --reason \"...\" if that is meant"))
                })?;
            }
            let (from, strategy) = (model.state.stable.clone(), model.state.rollout.as_ref().map(|rollout| rollout.plan.name.clone()));
            let evidence = model.step.as_ref().and_then(|running| serde_json::to_value(&running.evidence).ok());
            let reason = request.reason.clone();
            let evidence = evidence.map(|totals| json!({"totals": totals, "without_way_back": request.without_way_back}));
            let draft =
                Draft { action: Action::Promote, actor: actor.to_owned(), from, to: Some(to), strategy, reason, evidence, details: None };
            self.append(model, draft)?;
            Ok(())
        });
        promoted?;
        // Whoever promotes asks next whether there is a way back.
        self.rehearse_one(&name);
        self.with(&name, |model| Ok(self.status_of(model)))
    }

    /// Puts a former version back. What was kept loaded answers the next request.
    pub fn rollback(
        &self,
        name: &str,
        request: &RollbackRequest,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        let target = self.with(&name, |model| {
            let stable = model.state.stable.as_ref();
            let to_stable = request.to.is_none() || request.to.as_ref() == stable.map(|stable| &stable.version);
            if model.state.has_begun() && to_stable {
                return Ok(None);
            }
            let to = match (&request.to, model.state.previous()) {
                (Some(version), _) => version.clone(),
                (None, Some(previous)) => previous.version.clone(),
                (None, None) if !model.known => {
                    let detail = model.trouble.as_ref().map(|trouble| trouble.describe(&name, false)).unwrap_or_default();
                    return Err(OperateError::Unwritable(detail));
                }
                (None, None) => {
                    let already = already(model).map(|already| format!("{already}; ")).unwrap_or_default();
                    return refused(format!("{already}there is no stable version before this one{}", self.elsewhere(model)));
                }
            };
            match stable {
                Some(stable) if stable.version == to => {
                    refused(already(model).unwrap_or_else(|| format!("{to} is the stable version already")))
                }
                _ if !self.is_known(model, &to) => refused(format!("there is no version {to} of {name}")),
                _ if !(model.state.proven.contains(&to) || request.never_stable && request.reason.is_some()) => {
                    let advice = "--never-stable --reason \"...\" if that is meant";
                    refused(format!(
                        "{to} was never stable, so that this is no rollback: `predictd rollout start {name} --to {to}` brings it there; {advice}"
                    ))
                }
                _ => Ok(Some(to)),
            }
        })?;
        let Some(target) = target else {
            return self.with(&name, |model| self.end_by_rollback(model, request, actor));
        };
        let to = self.ensure_loaded(&name, &target)?;
        let outcome = self.with(&name, |model| {
            if model.state.stable.as_ref() == Some(&to) {
                return refused(format!("{to} is the stable version already"));
            }
            if request.to.is_none() && model.state.previous().map(|previous| &previous.version) != Some(&target) {
                return Err(OperateError::Conflict("another decision came first; look at the status and decide anew".to_owned()));
            }
            if let Some(digest) = model.state.digests.get(&to.version).filter(|digest| **digest != to.digest) {
                return refused(format!("the files of {to} are not those that were decided on: the journal says {digest}"));
            }
            if !model.state.proven.contains(&to.version) {
                self.check_never_stable(model, &to)?;
            }
            let from = model.state.stable.clone();
            self.roll_back(model, from, Some(to.clone()), request, actor)
        });
        if let Some(version) = Version::parse(&target) {
            self.want(&name, &version, false);
        }
        outcome
    }

    /// Ends the rollout that runs: the stable version answers everybody.
    fn end_by_rollback(
        &self,
        model: &mut Controlled,
        request: &RollbackRequest,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let candidate = running(model)?.candidates.first().cloned();
        let stable = model.state.stable.clone();
        self.roll_back(model, candidate, stable, request, actor)
    }

    fn roll_back(
        &self,
        model: &mut Controlled,
        from: Option<VersionRef>,
        to: Option<VersionRef>,
        request: &RollbackRequest,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let ends = model
            .state
            .rollout
            .as_ref()
            .map(|rollout| rollout.plan.name.clone());
        let totals = model
            .step
            .as_ref()
            .map(|running| json!({"totals": running.evidence}));
        let draft = Draft {
            action: Action::Rollback,
            actor: actor.to_owned(),
            from,
            to,
            strategy: ends,
            reason: request.reason.clone(),
            evidence: totals,
            details: None,
        };
        self.append(model, draft)?;
        Ok(self.status_of(model))
    }

    /// The commands that lead to another version, where there is none before the stable one.
    fn elsewhere(&self, model: &Controlled) -> String {
        let stable = model
            .state
            .stable
            .as_ref()
            .map(|stable| stable.version.as_str());
        let directory = self.config.models.root.join(model.name.as_str());
        // What somebody just left, or the judge stopped, is the fault that one wants to be rid of.
        let fits = |version: &String| {
            Some(version.as_str()) != stable
                && !model.state.left.contains_key(version)
                && directory.join(version).is_dir()
        };
        let others: Vec<String> = self
            .available(&model.name)
            .into_iter()
            .filter(fits)
            .collect();
        match (
            others
                .iter()
                .rev()
                .find(|version| model.state.proven.contains(*version)),
            others.last(),
        ) {
            (Some(proven), _) => format!(
                "; `predictd rollback {} --to {proven}` names one",
                model.name
            ),
            (None, Some(other)) => {
                format!(
                    "; `predictd rollback {} --to {other} --never-stable --reason TEXT` takes one that never was stable",
                    model.name
                )
            }
            (None, None) => ", and no other version that is loaded is one to go to".to_owned(),
        }
    }

    /// Whether there is such a version, or was one.
    fn is_known(&self, model: &Controlled, version: &str) -> bool {
        let snapshot = self.registry.snapshot();
        let served = snapshot
            .models
            .get(&model.name)
            .is_some_and(|served| served.version(version).is_some());
        served
            || model.state.digests.contains_key(version)
            || self
                .config
                .models
                .root
                .join(model.name.as_str())
                .join(version)
                .is_dir()
    }

    /// What nobody tried yet may break callers: an emergency is no reason not to look.
    fn check_never_stable(&self, model: &Controlled, to: &VersionRef) -> Result<(), OperateError> {
        let stable = model
            .state
            .stable
            .as_ref()
            .and_then(|stable| self.decided(&model.name, stable));
        let (Some(old), Some(new)) = (stable, self.decided(&model.name, to)) else {
            return Ok(());
        };
        let compatibility = Compatibility::of(&old, &new, &[]);
        if compatibility.is_breaking() {
            return refused(format!(
                "callers of {} would break:\n{}",
                old.id().version,
                compatibility.lines().join("\n")
            ));
        }
        if new.package().and_then(|package| package.parts.serving.risk) == Some(Risk::High) {
            return refused(format!(
                "{to} is of high risk: a rollout and a second name bring it to its callers"
            ));
        }
        Ok(())
    }

    /// A decision about the rollout that runs.
    fn write(
        &self,
        model: &mut Controlled,
        action: Action,
        actor: &str,
        reason: Option<String>,
        details: Option<Value>,
    ) -> Result<Value, OperateError> {
        let rollout = running(model)?;
        let totals = model
            .step
            .as_ref()
            .filter(|_| action == Action::Abort)
            .map(|running| json!({"totals": running.evidence}));
        let draft = Draft {
            action,
            actor: actor.to_owned(),
            from: model.state.stable.clone(),
            to: rollout.candidates.first().cloned(),
            strategy: Some(rollout.plan.name.clone()),
            reason,
            evidence: totals,
            details,
        };
        self.append(model, draft)?;
        Ok(self.status_of(model))
    }
}

/// What answers already, since a decision by which another version was left: told to whoever decides the same a second time.
fn already(model: &Controlled) -> Option<String> {
    let (stable, last) = (model.state.stable.as_ref()?, model.state.last.as_ref()?);
    let ago = ms_of_rfc3339(&last.at).map_or(0, |at_ms| clock::now_ms().saturating_sub(at_ms));
    let ago = duration((ago / 1000) as f64);
    let left = match last.action {
        Action::Rollback => format!("{} was left", last.from.as_ref()?.version),
        Action::Abort => format!("the rollout of {} was aborted", last.to.as_ref()?.version),
        _ => return None,
    };
    Some(format!(
        "{} answers already; {left} {ago} ago by {} (entry {})",
        stable.version, last.actor, last.seq
    ))
}

fn running(model: &Controlled) -> Result<&RolloutState, OperateError> {
    model.state.rollout.as_ref().ok_or_else(|| {
        OperateError::Refused(format!("there is no rollout of {} under way", model.name))
    })
}

fn may_start(model: &Controlled, to: &[String]) -> Result<(), OperateError> {
    if let Some(rollout) = &model.state.rollout {
        let versions: Vec<&str> = rollout
            .candidates
            .iter()
            .map(|named| named.version.as_str())
            .collect();
        let detail = format!(
            "a rollout of {} is under way, started by {}; abort it first",
            versions.join(", "),
            rollout.starter
        );
        return Err(OperateError::Conflict(detail));
    }
    if let Some(stable) = model
        .state
        .stable
        .as_ref()
        .filter(|stable| to.contains(&stable.version))
    {
        return refused(format!("{stable} is the stable version already"));
    }
    Ok(())
}

fn is_verified(actor: &str) -> bool {
    !actor.starts_with("unverified:")
}

/// Risks in their order.
fn rank(risk: Risk) -> u8 {
    match risk {
        Risk::Low => 0,
        Risk::Medium => 1,
        Risk::High => 2,
    }
}

fn choose(choice: Option<&PlanChoice>, risk: Option<u8>) -> Result<Plan, OperateError> {
    let name = match (choice, risk) {
        (Some(PlanChoice::Text(text)), _) => {
            return Plan::parse(text)
                .map_err(|error| OperateError::Malformed(format!("the plan: {error}")));
        }
        (Some(PlanChoice::Name(name)), _) => name.as_str(),
        (None, Some(0)) => "low",
        (None, Some(2)) => "high",
        (None, _) => "medium",
    };
    let unknown = || {
        OperateError::Malformed(format!(
            "there is no plan \"{name}\"; there are {}, or a file",
            Plan::BUILTIN.join(", ")
        ))
    };
    Plan::builtin(name).ok_or_else(unknown)
}

fn check_plan(
    plan: &Plan,
    candidates: &[VersionRef],
    schema: Option<&crate::schema::Schema>,
) -> Result<(), OperateError> {
    let only_ab = plan
        .steps
        .iter()
        .all(|step| matches!(step, Step::Ab { .. } | Step::Shadow { .. }));
    if candidates.len() > 1 && !only_ab {
        return refused(format!(
            "plan \"{}\" is for one candidate; several take a plan of ab and shadow steps",
            plan.name
        ));
    }
    for step in &plan.steps {
        if let Step::Ab {
            weights: Some(weights),
            ..
        } = step
            && weights.len() != candidates.len()
        {
            return refused(format!(
                "plan \"{}\" has {} weights for {} candidates",
                plan.name,
                weights.len(),
                candidates.len()
            ));
        }
    }
    if let Key::Field(field) = &plan.key
        && schema.and_then(|schema| schema.column(field)).is_none()
    {
        return refused(format!(
            "plan \"{}\" assigns by the field \"{field}\", which the stable version does not have",
            plan.name
        ));
    }
    Ok(())
}
