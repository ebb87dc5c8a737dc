//! `RolloutState`: the state of the rollout in progress.

use std::collections::BTreeSet;

use crate::{
    actor::Actor,
    journal::entry::{Entry, VersionRef},
    rollout::{
        judge::GuardMetric,
        plan::RolloutPlan,
        state::{StartDetails, StepDetails, Thresholds},
    },
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RolloutState {
    /// The id of the entry that started the rollout. It is also the salt of the assignment.
    pub id: String,
    pub starter: Actor,
    pub plan: RolloutPlan,
    pub candidates: Vec<VersionRef>,
    pub phase: PhaseState,
    /// The index of the step, from 0.
    pub step: usize,
    /// The sequence number of the entry that began the step. The evidence of the step is stored
    /// under it.
    pub step_seq: u64,
    pub thresholds: Thresholds,
    pub forward_only: bool,
    pub accepted: Vec<String>,
    /// Inconclusive guards of this step that an operator accepted by resuming.
    pub waived: BTreeSet<GuardMetric>,
    step_began_ms: u64,
    /// The time from which the plan's `max_seconds` count: the start of the rollout, its approval,
    /// or the last resume.
    limit_began_ms: u64,
    /// The total duration of the pauses in this step that ended.
    paused_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PhaseState {
    /// The rollout waits for the approval of a second operator.
    AwaitsApproval,
    Running,
    Paused {
        since_ms: u64,
        by: Actor,
        reason: String,
        /// The guard that was inconclusive. `None` if the judge did not pause the rollout.
        guard: Option<GuardMetric>,
    },
}

impl RolloutState {
    pub(super) fn start(entry: &Entry, details: StartDetails, at_ms: u64) -> RolloutState {
        RolloutState {
            id: entry.id.clone(),
            starter: entry.actor.clone(),
            phase: if details.plan.approve {
                PhaseState::AwaitsApproval
            } else {
                PhaseState::Running
            },
            plan: details.plan,
            candidates: details.candidates,
            step: 0,
            step_seq: entry.seq,
            thresholds: details.thresholds,
            forward_only: details.forward_only,
            accepted: details.accepted,
            waived: BTreeSet::new(),
            step_began_ms: at_ms,
            limit_began_ms: at_ms,
            paused_ms: 0,
        }
    }

    pub(super) fn begin_step(&mut self, details: StepDetails, seq: u64, at_ms: u64) {
        self.phase = PhaseState::Running;
        self.step = details.step;
        self.thresholds = details.thresholds;
        (self.step_seq, self.step_began_ms, self.paused_ms) = (seq, at_ms, 0);
        // A guard that an operator accepted in one step is judged again in the next.
        self.waived.clear();
    }

    pub(super) fn resume(&mut self, at_ms: u64) {
        let PhaseState::Paused {
            since_ms, guard, ..
        } = self.phase
        else {
            return;
        };
        self.paused_ms += at_ms.saturating_sub(since_ms);
        // The operator saw the reason of the pause and decided to continue.
        self.waived.extend(guard);
        self.restart_time_limit(at_ms);
        self.phase = PhaseState::Running;
    }

    pub(super) fn restart_time_limit(&mut self, at_ms: u64) {
        self.limit_began_ms = at_ms;
    }

    /// The seconds for which the step has run, without pauses.
    pub(crate) fn step_seconds(&self, now_ms: u64) -> f64 {
        let until = match self.phase {
            PhaseState::Paused { since_ms, .. } => since_ms,
            PhaseState::AwaitsApproval | PhaseState::Running => now_ms,
        };
        let elapsed_ms = until
            .saturating_sub(self.step_began_ms)
            // Clocks of replicas differ, so a plain difference could be negative.
            .saturating_sub(self.paused_ms);
        elapsed_ms as f64 / 1000.0
    }

    /// The seconds since the step began, including pauses. The windows of its evidence are based on
    /// this time.
    pub(crate) fn step_age_seconds(&self, now_ms: u64) -> f64 {
        now_ms.saturating_sub(self.step_began_ms) as f64 / 1000.0
    }

    /// The seconds that count towards the plan's `max_seconds`.
    pub(crate) fn time_limit_seconds(&self, now_ms: u64) -> f64 {
        now_ms.saturating_sub(self.limit_began_ms) as f64 / 1000.0
    }
}
