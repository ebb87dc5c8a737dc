//! Begins and ends the counting of evidence for a step of a rollout.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    clock,
    id::ModelName,
    operate::{
        Operator,
        arm_runs::ArmRuns,
        model::{ModelControl, RunningStep},
    },
    registry::traffic::ActiveStep,
    rollout::{
        evidence::Evidence,
        state::RolloutState,
        tally::{EvidenceShare, Tally, TallyRules},
    },
};

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
            unreadable: BTreeSet::new(),
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
