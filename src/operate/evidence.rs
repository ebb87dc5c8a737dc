//! Evidence of the current step: the counts of this process, the counts of the other processes, and
//! their sum.

use std::time::{Duration, Instant};

use crate::{
    document,
    id::ModelName,
    metrics::runs::RunsView,
    operate::{
        Operator,
        model::{ModelControl, RunningStep},
    },
    rollout::{
        evidence::{ArmTotals, RunTotals},
        plan::Guards,
        state::Thresholds,
        tally::{EvidenceShare, combine},
    },
};

/// The interval at which processes exchange their evidence.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum number of runs of one size for a threshold. Fewer runs say too little about a high
/// quantile.
const MIN_RUNS_FOR_THRESHOLD: u64 = 40;
/// Number of windows for which lost runs are reported. The judge does not use older ones.
const LOSS_WINDOWS: usize = 4;
const SECONDS_PER_HOUR: f64 = 3600.0;

impl Operator {
    /// Reads the engine runs of the arms since the step began, in this process.
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

    /// The evidence that this process has collected.
    fn share(
        &self,
        name: &ModelName,
        running: &mut RunningStep,
        thresholds: &Thresholds,
    ) -> EvidenceShare {
        let mut share = running.step.tally.share();
        let window =
            running.step.seconds(Instant::now()) / running.step.plan.guards.window_seconds as f64;
        for (version, view, threads) in self.read_runs(name, running) {
            let arm = share.evidence.arms.entry(version.clone()).or_default();
            // A lost run has no units in the counts. For the ceilings it counts as one failed unit.
            let lost = running.lost.entry(version).or_default();
            let failed: u64 = view.0.values().map(|runs| runs.failed).sum();
            let new = failed.saturating_sub(lost.values().sum());
            if new > 0 {
                *lost.entry(window as u32).or_default() += new;
            }
            for (window, count) in lost.iter().rev().take(LOSS_WINDOWS) {
                let totals = arm.windows.entry(*window).or_default();
                totals.units += count;
                totals.failed += count;
            }
            add_runs(arm, &view, threads, thresholds);
            arm.cost_dollars =
                arm.compute_seconds * self.settings.cost.dollars_per_core_hour / SECONDS_PER_HOUR;
        }
        share
    }

    /// Reads the evidence of the other processes.
    pub(super) fn read_others(&self, name: &ModelName, running: &mut RunningStep) {
        let directory = format!("evidence/{name}/{:08}", running.step.seq);
        let own = format!("{}.json", self.process);
        let Ok(files) = self.store.list(&directory) else {
            return;
        };
        for file in files.into_iter().filter(|file| *file != own) {
            let path = format!("{directory}/{file}");
            // An object that can't be read now was read before, or is read the next time.
            let Ok(Some(text)) = self.store.read(&path) else {
                continue;
            };
            match document::parse::<EvidenceShare>(&text) {
                Ok(share) => {
                    running.step.tally.yield_to(&share);
                    running.unreadable.remove(&file);
                    running.others.insert(file, share);
                }
                Err(error) => {
                    running.others.remove(&file);
                    // Once for each object, not once for each reading.
                    if running.unreadable.insert(file) {
                        self.metrics.models.source_errors.inc();
                        tracing::warn!(
                            model = %name,
                            path,
                            error = error.to_string(),
                            "the evidence of another replica can't be read and is left out"
                        );
                    }
                }
            }
        }
    }

    /// Adds up the evidence of all processes for the current step.
    pub(super) fn gather(&self, model: &mut ModelControl) {
        let thresholds = model
            .state
            .rollout
            .as_ref()
            .map(|rollout| rollout.thresholds.clone())
            .unwrap_or_default();
        let Some(mut running) = model.step.take() else {
            return;
        };
        let own = self.share(&model.name, &mut running, &thresholds);
        let due = running
            .exchanged
            .is_none_or(|at| at.elapsed() >= EXCHANGE_INTERVAL);
        if due {
            running.exchanged = Some(Instant::now());
            self.read_others(&model.name, &mut running);
            self.write_share(&model.name, &mut running, &own);
        }
        // Floating-point sums depend on the order. Sorting by name gives the same order in every
        // process.
        let mut shares: Vec<(&str, &EvidenceShare)> = running
            .others
            .iter()
            .map(|(name, share)| (name.as_str(), share))
            .collect();
        shares.push((&self.process, &own));
        shares.sort_by_key(|(name, _)| *name);
        running.evidence = combine(shares.iter().map(|(_, share)| *share));
        model.step = Some(running);
    }

    fn write_share(&self, name: &ModelName, running: &mut RunningStep, own: &EvidenceShare) {
        if *own == running.written {
            return;
        }
        let path = format!(
            "evidence/{name}/{:08}/{}.json",
            running.step.seq, self.process
        );
        let written = serde_json::to_vec(own).map(|text| self.store.replace(&path, text));
        match written {
            Ok(Ok(())) => running.written = own.clone(),
            _ => self.metrics.models.source_errors.inc(),
        }
    }

    /// The thresholds above which a run counts as slow or expensive in the next step: quantiles of
    /// the stable version's runs until now.
    pub(super) fn thresholds(&self, model: &ModelControl, guards: &Guards) -> Thresholds {
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
            if runs.successes() >= MIN_RUNS_FOR_THRESHOLD
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
}

/// Adds one arm's engine runs, by the size of their batch.
fn add_runs(arm: &mut ArmTotals, view: &RunsView, threads: usize, thresholds: &Thresholds) {
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
            expensive: over(core_ns),
            untimed: if thresholds.time_ns.contains_key(bucket) {
                0
            } else {
                runs.successes()
            },
        };
        arm.runs.insert(*bucket, totals);
        arm.compute_seconds += runs.total_ns() / 1e9 * threads as f64;
    }
}
