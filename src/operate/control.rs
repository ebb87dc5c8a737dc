//! Control: what happens by itself. Others' decisions are read, evidence is put together, the judge is asked, its verdict is written.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    clock,
    config::Promote,
    id::ModelName,
    journal::{
        Draft,
        entry::{Action, VersionRef},
    },
    metrics::runs::RunsView,
    operate::{Controlled, OperateError, Operator, RunningStep, gate::Compatibility, is_due, lock},
    package::serving::Risk,
    registry::State,
    rollout::{
        evidence::{Evidence, RunTotals},
        judge::{Case, Guard, Judgement, Verdict, judge},
        plan::Guards,
        state::{CONFIGURATION, JUDGE, PauseDetails, Phase, StepDetails, Thresholds},
        tally::{Share, combine},
    },
};

/// How often processes tell each other what they counted.
const EXCHANGE: Duration = Duration::from_secs(1);
/// How often it is looked whether the state has room for urgent decisions.
const RESERVE: Duration = Duration::from_secs(5);
/// Runs of a bucket from which its threshold is taken; fewer say too little of a high quantile.
const FEW_RUNS: u64 = 40;

impl Operator {
    /// One look at everything.
    pub fn tick(&self) {
        self.keep_reserve();
        self.reread();
        for name in self.names() {
            let controlled = self.controlled(&name);
            let mut model = lock(&controlled);
            self.read_on(&mut model, true);
            self.follow_repair(&mut model);
            if model.trouble.is_none() && !model.pending.is_empty() {
                // What fails is tried again at the next look.
                let _ = self.flush(&mut model);
            }
            if model.trouble.is_none() && model.pending.is_empty() {
                self.promote_newest(&mut model);
            }
            self.gather(&mut model);
            self.judge(&mut model);
        }
    }

    /// Room that was given up, or that a state of before never had, is taken as soon as there is some.
    fn keep_reserve(&self) {
        if !is_due(&self.reserved, RESERVE) {
            return;
        }
        let before = self.store.lacks_reserve();
        self.store.keep_reserve();
        if self.store.lacks_reserve() != before {
            for name in self.names() {
                self.enforce(&mut lock(&self.controlled(&name)));
            }
        }
    }

    /// Engine runs of the arms since the step began, in this process.
    pub(super) fn read_runs(
        &self,
        name: &ModelName,
        running: &mut RunningStep,
    ) -> Vec<(String, RunsView, usize)> {
        let loaded: Vec<_> = running
            .versions
            .iter()
            .map(|version| self.loaded(name, version))
            .collect();
        let versions = running.versions.iter().zip(&loaded);
        versions
            .filter_map(|(version, servable)| {
                let arm = running.runs.get_mut(version)?;
                let view = arm.read(servable.as_ref());
                Some((version.clone(), view, arm.threads))
            })
            .collect()
    }

    /// This process's part of the evidence, as of now.
    fn share(&self, name: &ModelName, running: &mut RunningStep, thresholds: &Thresholds) -> Share {
        let mut share = running.step.tally.share();
        let window =
            running.step.seconds(Instant::now()) / running.step.plan.guards.window_seconds as f64;
        for (version, view, threads) in self.read_runs(name, running) {
            // The units of a lost run are none; for the ceilings it is one that failed.
            let lost = running.lost.entry(version.clone()).or_default();
            let failed: u64 = view.0.values().map(|runs| runs.failed).sum();
            let new = failed.saturating_sub(lost.values().sum());
            if new > 0 {
                *lost.entry(window as u32).or_default() += new;
            }
            let arm = share.evidence.arms.entry(version).or_default();
            for (window, count) in lost.iter().rev().take(4) {
                let totals = arm.windows.entry(*window).or_default();
                totals.units += count;
                totals.failed += count;
            }
            for (bucket, runs) in &view.0 {
                let over = |ns: Option<u64>| ns.map_or(0, |ns| runs.at_least_ns(ns));
                let core_ns = thresholds
                    .core_ns
                    .get(bucket)
                    .map(|ns| ns / threads.max(1) as u64);
                let totals = RunTotals {
                    runs: runs.successes() + runs.failed,
                    failed: runs.failed,
                    slow: over(thresholds.time_ns.get(bucket).copied()),
                    dear: over(core_ns),
                    untimed: if thresholds.time_ns.contains_key(bucket) {
                        0
                    } else {
                        runs.successes()
                    },
                };
                arm.runs.insert(*bucket, totals);
                arm.compute_seconds += runs.total_ns() / 1e9 * threads as f64;
            }
            arm.cost_dollars =
                arm.compute_seconds * self.config.cost.dollars_per_core_hour / 3600.0;
        }
        share
    }

    /// Reads what the other processes counted.
    pub(super) fn read_others(&self, name: &ModelName, running: &mut RunningStep) {
        let directory = format!("evidence/{name}/{:08}", running.step.seq);
        let own = format!("{}.json", self.process);
        let Ok(files) = self.store.list(&directory) else {
            return;
        };
        for file in files.into_iter().filter(|file| *file != own) {
            let read = self.store.read(&format!("{directory}/{file}"));
            let share = read
                .ok()
                .flatten()
                .and_then(|text| serde_json::from_slice::<Share>(&text).ok());
            if let Some(share) = share {
                running.step.tally.yield_to(&share);
                running.others.insert(file, share);
            }
        }
    }

    /// Puts together what all processes know of the running step.
    fn gather(&self, model: &mut Controlled) {
        let thresholds = model
            .state
            .rollout
            .as_ref()
            .map(|rollout| rollout.thresholds.clone())
            .unwrap_or_default();
        let Some(mut running) = model.step.take() else {
            return;
        };
        let mine = self.share(&model.name, &mut running, &thresholds);
        if running.exchanged.is_none_or(|at| at.elapsed() >= EXCHANGE) {
            running.exchanged = Some(Instant::now());
            self.read_others(&model.name, &mut running);
            if mine != running.written {
                let path = format!(
                    "evidence/{}/{:08}/{}.json",
                    model.name, running.step.seq, self.process
                );
                let written = serde_json::to_vec(&mine).map(|text| self.store.replace(&path, text));
                match written {
                    Ok(Ok(())) => running.written = mine.clone(),
                    _ => self.metrics.source_errors.inc(),
                }
            }
        }
        // In the order of their names, which is the same in every process.
        let mut shares: Vec<(&str, &Share)> = running
            .others
            .iter()
            .map(|(name, share)| (name.as_str(), share))
            .collect();
        shares.push((&self.process, &mine));
        shares.sort_by_key(|(name, _)| *name);
        running.evidence = combine(shares.iter().map(|(_, share)| *share));
        model.step = Some(running);
    }

    fn judge(&self, model: &mut Controlled) {
        let now_ms = clock::now_ms();
        let (Some(rollout), Some(running), Some(stable)) =
            (&model.state.rollout, &mut model.step, &model.state.stable)
        else {
            return;
        };
        let candidates: Vec<String> = rollout
            .candidates
            .iter()
            .map(|named| named.version.clone())
            .collect();
        let accepted: Vec<Guard> = rollout.waived.iter().copied().collect();
        let case = Case {
            plan: &rollout.plan,
            step: rollout.step,
            stable: &stable.version,
            candidates: &candidates,
            evidence: &running.evidence,
            accepted: &accepted,
            step_seconds: rollout.step_seconds(now_ms),
            rollout_seconds: rollout.patience_seconds(now_ms),
        };
        let judgement = judge(&case);
        for report in &judgement.guards {
            let share = report.e_value / report.limit;
            self.metrics.set_e_value(
                model.name.as_str(),
                &report.candidate,
                report.guard.name(),
                Some(share.min(1e6)),
            );
        }
        let guards = rollout.plan.guards.clone();
        let paused = matches!(rollout.phase, Phase::Paused { .. });
        running.judgement = Some(judgement.clone());
        match judgement.verdict {
            Verdict::Abort => {
                let to = judgement.candidate.as_ref().and_then(|version| {
                    rollout
                        .candidates
                        .iter()
                        .find(|named| named.version == *version)
                });
                let to = to.or(rollout.candidates.first()).cloned();
                self.decide_by_judge(model, Action::Abort, to, &judgement, None);
            }
            Verdict::Inconclusive if !paused => {
                let details = PauseDetails {
                    guard: judgement.guard,
                };
                let to = rollout.candidates.first().cloned();
                self.decide_by_judge(
                    model,
                    Action::Pause,
                    to,
                    &judgement,
                    serde_json::to_value(details).ok(),
                );
            }
            Verdict::Advance if !paused && rollout.step + 1 < rollout.plan.steps.len() => {
                let to = rollout.candidates.first().cloned();
                let details = StepDetails {
                    step: rollout.step + 1,
                    thresholds: self.thresholds(model, &guards),
                };
                self.decide_by_judge(
                    model,
                    Action::Advance,
                    to,
                    &judgement,
                    serde_json::to_value(details).ok(),
                );
            }
            Verdict::Advance if !paused => self.promote_by_judge(model, &judgement),
            Verdict::Hold | Verdict::Advance | Verdict::Inconclusive => {}
        }
    }

    /// The candidate passed its last step. Where there would be no way back, a person decides.
    fn promote_by_judge(&self, model: &mut Controlled, judgement: &Judgement) {
        let Some(to) = model
            .state
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.candidates.first().cloned())
        else {
            return;
        };
        match self.check_way_back(model, &to) {
            Ok(()) => self.decide_by_judge(model, Action::Promote, Some(to), judgement, None),
            Err(detail) => {
                let text = format!("passed its last step, but is not promoted: {detail}");
                let told = Judgement {
                    text,
                    ..judgement.clone()
                };
                let details = serde_json::to_value(PauseDetails::default()).ok();
                self.decide_by_judge(model, Action::Pause, Some(to), &told, details);
            }
        }
    }

    fn decide_by_judge(
        &self,
        model: &mut Controlled,
        action: Action,
        to: Option<VersionRef>,
        judgement: &Judgement,
        details: Option<Value>,
    ) {
        let evidence = model
            .step
            .as_ref()
            .map(|running| evidence_of(&running.evidence, judgement));
        let draft = Draft {
            action,
            actor: JUDGE.to_owned(),
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
        // Another replica came to the same: then its entry was read instead.
        match self.append(model, draft) {
            Ok(_) | Err(OperateError::Conflict(_)) => {}
            Err(error) => {
                tracing::error!(model = %model.name, action = action.name(), error = ?error, "the judge's verdict could not be written")
            }
        }
    }

    /// What runs count as slow, or dear, from now on: by what the stable version's runs took so far.
    pub(super) fn thresholds(&self, model: &Controlled, guards: &Guards) -> Thresholds {
        let mut thresholds = Thresholds::default();
        let stable = model
            .state
            .stable
            .as_ref()
            .and_then(|stable| self.decided(&model.name, stable));
        let Some(stable) = stable else {
            return thresholds;
        };
        for (bucket, runs) in &stable.metrics.engine.runs.view().0 {
            if runs.successes() >= FEW_RUNS
                && let Some(ns) = runs.quantile_ns(guards.engine_time_quantile)
            {
                let ns = ns.max((guards.engine_time_floor_ms * 1e6) as u64);
                thresholds.time_ns.insert(*bucket, ns);
                thresholds
                    .core_ns
                    .insert(*bucket, ns * stable.intra_op_threads as u64);
            }
        }
        thresholds
    }

    /// `models.promote = "newest"`: a version newer than all that were ever decided on becomes stable by itself.
    fn promote_newest(&self, model: &mut Controlled) {
        let Some(stable) = model.state.stable.clone() else {
            return;
        };
        if self.config.models.promote != Promote::Newest
            || model.state.rollout.is_some()
            || self.config.pinned(model.name.as_str()).is_some()
        {
            return;
        }
        let newest = {
            let snapshot = self.registry.snapshot();
            let Some(shown) = snapshot.models.get(&model.name) else {
                return;
            };
            if shown
                .versions
                .values()
                .any(|status| matches!(status.state, State::Loading))
            {
                return;
            }
            let known = model
                .state
                .digests
                .keys()
                .filter_map(|version| crate::id::Version::parse(version))
                .max();
            let available = shown
                .versions
                .iter()
                .rev()
                .find_map(|(version, status)| match &status.state {
                    State::Available(servable) => {
                        Some((version.clone(), servable.digest().to_owned()))
                    }
                    _ => None,
                });
            available.filter(|(version, _)| Some(version) > known.as_ref())
        };
        let Some((version, digest)) = newest else {
            return;
        };
        let to = VersionRef {
            version: version.to_string(),
            digest,
        };
        if model.unfit.contains(&to) {
            return;
        }
        let (Some(old), Some(new)) = (
            self.decided(&model.name, &stable),
            self.decided(&model.name, &to),
        ) else {
            return;
        };
        let compatibility = Compatibility::of(&old, &new, &[]);
        let high = new.package().and_then(|package| package.parts.serving.risk) == Some(Risk::High);
        if compatibility.is_breaking() || compatibility.is_forward_only() || high {
            let detail = if high {
                "its package names a high risk".to_owned()
            } else {
                compatibility.lines().join("; ")
            };
            tracing::error!(model = %model.name, version = %version, detail, "the newest version is not promoted by itself; start a rollout");
            model.unfit.push(to);
            return;
        }
        let draft = Draft {
            action: Action::Promote,
            actor: CONFIGURATION.to_owned(),
            from: Some(stable),
            to: Some(to),
            strategy: None,
            reason: Some("models.promote = \"newest\"".to_owned()),
            evidence: Some(compatibility.to_value()),
            details: None,
        };
        if let Err(OperateError::Unwritable(detail)) = self.append(model, draft) {
            tracing::debug!(model = %model.name, detail, "the newest version can't be promoted");
        }
    }
}

/// What a verdict rests on, for the journal.
fn evidence_of(evidence: &Evidence, judgement: &Judgement) -> Value {
    json!({"totals": evidence, "guards": judgement.guards})
}
