//! `RunningStep`: the evidence for the current step of a rollout, from this process and from the
//! other processes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    clock,
    id::ModelName,
    metrics::runs::{Runs, RunsView},
    operate::{Operator, model::ModelControl},
    registry::{servable::Servable, traffic::ActiveStep},
    rollout::{
        evidence::{Evidence, WARM_RUNS},
        judge::Judgement,
        state::RolloutState,
        tally::{EvidenceShare, Tally, TallyRules},
    },
};

pub(super) struct RunningStep {
    pub step: Arc<ActiveStep>,
    /// The stable version, then the candidates.
    pub versions: Vec<String>,
    pub runs: BTreeMap<String, ArmRuns>,
    /// The evidence of other processes, by the name of their object.
    pub others: BTreeMap<String, EvidenceShare>,
    /// The evidence of this process that was last written.
    pub written: EvidenceShare,
    pub exchanged: Option<Instant>,
    /// The sum of the evidence of all processes.
    pub evidence: Evidence,
    pub judgement: Option<Judgement>,
    /// The number of engine runs of each arm that this process lost, by the window in which the
    /// loss was noticed.
    pub lost: BTreeMap<String, BTreeMap<u32, u64>>,
}

/// The engine runs of one arm since the step began, in this process.
#[derive(Default)]
pub(super) struct ArmRuns {
    counters: Option<Arc<Runs>>,
    base: RunsView,
    /// Runs from counters that no longer exist because the version was loaded again.
    carried: RunsView,
    pub threads: usize,
}

impl ArmRuns {
    pub(super) fn read(&mut self, servable: Option<&Arc<Servable>>) -> RunsView {
        if let Some(servable) = servable {
            self.follow(servable);
        }
        let mut view = self.carried.clone();
        if let Some(counters) = &self.counters {
            view.add(&counters.view().since(&self.base));
        }
        view
    }

    fn follow(&mut self, servable: &Servable) {
        let counters = &servable.metrics.engine.runs;
        let same = self
            .counters
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, counters));
        if !same {
            if let Some(gone) = self.counters.replace(Arc::clone(counters)) {
                self.carried.add(&gone.view().since(&self.base));
            }
            // Counters that exist when the step begins also contain the runs before it.
            self.base = counters.view();
        }
        let now = counters.view();
        if now.total() < WARM_RUNS {
            // The first runs after a load are slow, because caches are empty and memory is
            // allocated. Only their failures count.
            self.base = now.with_failures_of(&self.base);
        }
        self.threads = servable.intra_op_threads;
    }
}

impl Operator {
    /// Starts counting a step. Reads the evidence that other processes, or this process before a
    /// restart, collected for the step. `versions`: the stable version, then the candidates.
    pub(super) fn begin_step(
        &self,
        name: &ModelName,
        rollout: &RolloutState,
        versions: Vec<String>,
    ) -> RunningStep {
        let mut running = RunningStep {
            step: Arc::new(self.active_step(name, &versions, rollout)),
            runs: versions
                .iter()
                .map(|version| (version.clone(), ArmRuns::default()))
                .collect(),
            versions,
            others: BTreeMap::new(),
            written: EvidenceShare::default(),
            exchanged: None,
            evidence: Evidence::default(),
            judgement: None,
            lost: BTreeMap::new(),
        };
        self.read_runs(name, &mut running);
        self.read_others(name, &mut running);
        running
    }

    fn active_step(
        &self,
        name: &ModelName,
        versions: &[String],
        rollout: &RolloutState,
    ) -> ActiveStep {
        let plan = &rollout.plan;
        let rules = TallyRules {
            keyed: !plan.key.is_prediction_id(),
            window_seconds: plan.guards.window_seconds as f64,
            ceiling: plan
                .guards
                .p99_ceiling_ms
                .map(|ms| Duration::from_secs_f64(ms / 1000.0)),
        };
        let shadow_metrics = |(stable, candidates): (&String, &[String])| -> Vec<_> {
            candidates
                .iter()
                .map(|candidate| {
                    self.metrics
                        .rollouts
                        .shadow(name.as_str(), stable, candidate)
                })
                .collect()
        };
        ActiveStep {
            salt: rollout.id.clone(),
            plan: plan.clone(),
            number: rollout.step,
            seq: rollout.step_seq,
            candidates: rollout.candidates.clone(),
            weights: plan.weights(rollout.step, rollout.candidates.len()),
            shadow_share: plan.shadow_share(rollout.step),
            tally: Tally::new(versions, rules),
            shadow_metrics: versions
                .split_first()
                .map(shadow_metrics)
                .unwrap_or_default(),
            age: Duration::from_secs_f64(rollout.step_age_seconds(clock::now_ms())),
            learned: Instant::now(),
        }
    }

    pub(super) fn forget_step(&self, model: &mut ModelControl) {
        let Some(running) = model.step.take() else {
            return;
        };
        let judged = running
            .judgement
            .iter()
            .flat_map(|judgement| &judgement.guards);
        for report in judged {
            self.metrics.rollouts.set_e_value(
                model.name.as_str(),
                &report.candidate,
                report.guard.name(),
                None,
            );
        }
    }
}
