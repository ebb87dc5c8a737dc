//! State: what a model's journal says, entry by entry. The fold is pure; every replica and every restart comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    actor::{Actor, Cause},
    clock,
    journal::{
        Journal, JournalError,
        chain::Head,
        entry::{Action, Entry, VersionRef},
    },
    rollout::{judge::GuardMetric, plan::RolloutPlan},
};

/// What a `start` says beside its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartDetails {
    pub plan: RolloutPlan,
    pub candidates: Vec<VersionRef>,
    /// Rollback breaks callers who begin to use what is new; somebody said that this is known.
    #[serde(default)]
    pub forward_only: bool,
    /// Differences that could not be shown to be harmless, and that somebody answers for.
    #[serde(default)]
    pub accepted: Vec<String>,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// What an `approve` or `advance` says: a step begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDetails {
    pub step: usize,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// What a `pause` says: which guard could not decide, where the judge paused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseDetails {
    #[serde(default)]
    pub guard: Option<GuardMetric>,
}

/// Above these a run counts as slow, or dear. Frozen when a step begins, the same on every replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Nanoseconds of an engine run, by bucket of rows.
    pub time_ns: BTreeMap<u8, u64>,
    /// Nanoseconds of cores in an engine run, by bucket of rows: what a run costs, less the price.
    pub core_ns: BTreeMap<u8, u64>,
}

/// What a model's journal comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelState {
    pub stable: Option<VersionRef>,
    /// Stable versions of before, the latest last: the way back.
    pub former: Vec<VersionRef>,
    pub rollout: Option<RolloutState>,
    /// Every version that was ever stable.
    pub proven: BTreeSet<String>,
    /// The digest of every version that was ever decided on.
    pub digests: BTreeMap<String, String>,
    /// How the last decision about the stable version or a rollout came about.
    pub last: Option<Decided>,
    /// Versions that were left, by a rollback or an abort, and not brought back since: by which decision.
    pub left: BTreeMap<String, Decided>,
    /// Transitions so far, by action and who caused them.
    pub transitions: BTreeMap<(Action, Cause), u64>,
    /// Where repairs put what they took out of the journal.
    pub set_aside: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub seq: u64,
    pub at: String,
    pub actor: Actor,
    pub action: Action,
    pub from: Option<VersionRef>,
    pub to: Option<VersionRef>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RolloutState {
    /// The id of the entry that started it; also the salt of its assignment.
    pub id: String,
    pub starter: Actor,
    pub plan: RolloutPlan,
    pub candidates: Vec<VersionRef>,
    pub phase: PhaseState,
    pub step: usize,
    /// The entry that began the step: what is collected since lies under this number.
    pub step_seq: u64,
    pub thresholds: Thresholds,
    pub forward_only: bool,
    pub accepted: Vec<String>,
    /// Guards that could not decide, and whose case a person decided by resuming.
    pub waived: BTreeSet<GuardMetric>,
    step_began_ms: u64,
    /// Since when the plan's longest time runs: the start, or the last time that a person said to go on.
    patience_began_ms: u64,
    /// Time of this step spent in pauses that are over.
    paused_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhaseState {
    /// The plan asks for a second name.
    AwaitsApproval,
    Running,
    Paused {
        since_ms: u64,
        by: Actor,
        reason: String,
        guard: Option<GuardMetric>,
    },
}

impl RolloutState {
    /// Seconds that the step has run, pauses left out.
    pub fn step_seconds(&self, now_ms: u64) -> f64 {
        let until = if let PhaseState::Paused { since_ms, .. } = self.phase {
            since_ms
        } else {
            now_ms
        };
        until
            .saturating_sub(self.step_began_ms)
            .saturating_sub(self.paused_ms) as f64
            / 1000.0
    }

    /// Seconds since the step began, as the windows of its evidence are counted.
    pub fn step_age_seconds(&self, now_ms: u64) -> f64 {
        now_ms.saturating_sub(self.step_began_ms) as f64 / 1000.0
    }

    /// Seconds that the plan's longest time has run.
    pub fn patience_seconds(&self, now_ms: u64) -> f64 {
        now_ms.saturating_sub(self.patience_began_ms) as f64 / 1000.0
    }

    fn begin_step(&mut self, details: StepDetails, seq: u64, at_ms: u64) {
        self.phase = PhaseState::Running;
        self.step = details.step;
        self.thresholds = details.thresholds;
        (self.step_seq, self.step_began_ms, self.paused_ms) = (seq, at_ms, 0);
        self.waived.clear();
    }
}

/// An entry that can't follow from what came before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal entry {seq}: {detail}")]
pub struct Contradiction {
    pub seq: u64,
    pub detail: String,
}

/// What ends a journal before its last entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

/// Where a repair put what it took out of the journal.
fn places_aside(entry: &Entry) -> Vec<String> {
    let places = entry
        .details
        .as_ref()
        .and_then(|details| details.get("set_aside"));
    let places = places.map_or(&[][..], |places| {
        places
            .as_array()
            .map_or(std::slice::from_ref(places), Vec::as_slice)
    });
    places
        .iter()
        .filter_map(|place| place.as_str().map(str::to_owned))
        .collect()
}

fn details<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, String> {
    let value = entry.details.clone().ok_or("has no details")?;
    serde_json::from_value(value).map_err(|error| format!("its details can't be read: {error}"))
}

impl ModelState {
    /// What a journal comes to from its start on, as far as it goes together; `seen` is told of each entry.
    pub fn fold(
        journal: &Journal,
        model: &str,
        mut seen: impl FnMut(&Entry),
    ) -> (Head, ModelState, Result<(), FoldError>) {
        let (mut head, mut state) = (Head::default(), ModelState::default());
        loop {
            let mut next = head.clone();
            let outcome = match journal.next(model, &mut next) {
                Ok(None) => return (head, state, Ok(())),
                Ok(Some(entry)) => state
                    .apply(&entry)
                    .map(|()| seen(&entry))
                    .map_err(FoldError::from),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = outcome {
                return (head, state, Err(error));
            }
            head = next;
        }
    }

    /// What is so once `entry` is written.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Contradiction> {
        let wrong = |detail: String| Contradiction {
            seq: entry.seq,
            detail,
        };
        for named in entry.from.iter().chain(&entry.to) {
            let known = self
                .digests
                .entry(named.version.clone())
                .or_insert_with(|| named.digest.clone());
            if *known != named.digest {
                return Err(wrong(format!("version {} has two digests", named.version)));
            }
        }
        let candidates: Vec<VersionRef> = self
            .rollout
            .iter()
            .flat_map(|rollout| rollout.candidates.iter().cloned())
            .collect();
        let before = self.stable.clone();
        self.follow(entry).map_err(wrong)?;
        self.proven
            .extend(self.stable.iter().map(|stable| stable.version.clone()));
        *self
            .transitions
            .entry((entry.action, entry.actor.cause()))
            .or_default() += 1;
        let decided = Decided {
            seq: entry.seq,
            at: entry.at.clone(),
            actor: entry.actor.clone(),
            action: entry.action,
            from: entry.from.clone(),
            to: entry.to.clone(),
            reason: entry.reason.clone(),
        };
        if matches!(
            entry.action,
            Action::Rollback | Action::Abort | Action::Repair
        ) {
            self.left.extend(
                candidates
                    .into_iter()
                    .chain(before)
                    .map(|named| (named.version, decided.clone())),
            );
        }
        // What answers, and what a rollback leads to, was not left for good.
        for named in self.stable.iter().chain(&self.former) {
            self.left.remove(&named.version);
        }
        self.last = Some(decided);
        Ok(())
    }

    fn follow(&mut self, entry: &Entry) -> Result<(), String> {
        let at_ms = clock::ms_of_rfc3339(&entry.at).ok_or("its time can't be read")?;
        let to = || {
            entry
                .to
                .clone()
                .ok_or_else(|| "names no version".to_owned())
        };
        match entry.action {
            Action::Adopt => {
                if self.rollout.is_some() {
                    return Err("a version is adopted during a rollout".to_owned());
                }
                if let Some(before) = self.stable.replace(to()?) {
                    self.leave(before);
                }
            }
            Action::Start => {
                if self.rollout.is_some() {
                    return Err("a rollout starts during another".to_owned());
                }
                let start: StartDetails = details(entry)?;
                start
                    .plan
                    .check()
                    .map_err(|detail| format!("its plan: {detail}"))?;
                for candidate in &start.candidates {
                    self.digests
                        .insert(candidate.version.clone(), candidate.digest.clone());
                }
                let phase = if start.plan.approve {
                    PhaseState::AwaitsApproval
                } else {
                    PhaseState::Running
                };
                self.rollout = Some(RolloutState {
                    id: entry.id.clone(),
                    starter: entry.actor.clone(),
                    plan: start.plan,
                    candidates: start.candidates,
                    phase,
                    step: 0,
                    step_seq: entry.seq,
                    thresholds: start.thresholds,
                    forward_only: start.forward_only,
                    accepted: start.accepted,
                    waived: BTreeSet::new(),
                    step_began_ms: at_ms,
                    patience_began_ms: at_ms,
                    paused_ms: 0,
                });
            }
            Action::Approve | Action::Advance => {
                let step: StepDetails = details(entry)?;
                let rollout = self.running()?;
                if step.step >= rollout.plan.steps.len() {
                    return Err("its plan has no such step".to_owned());
                }
                if entry.action == Action::Approve {
                    rollout.patience_began_ms = at_ms;
                }
                rollout.begin_step(step, entry.seq, at_ms);
            }
            Action::Pause => {
                let guard = entry
                    .details
                    .is_some()
                    .then(|| details::<PauseDetails>(entry))
                    .transpose()?
                    .and_then(|details| details.guard);
                let phase = PhaseState::Paused {
                    since_ms: at_ms,
                    by: entry.actor.clone(),
                    reason: entry.reason.clone().unwrap_or_default(),
                    guard,
                };
                self.running()?.phase = phase;
            }
            Action::Resume => {
                let rollout = self.running()?;
                if let PhaseState::Paused {
                    since_ms, guard, ..
                } = &rollout.phase
                {
                    rollout.paused_ms += at_ms.saturating_sub(*since_ms);
                    rollout.waived.extend(*guard);
                    rollout.patience_began_ms = at_ms;
                    rollout.phase = PhaseState::Running;
                }
            }
            Action::Promote => {
                let to = to()?;
                self.rollout = None;
                if let Some(before) = self.stable.replace(to) {
                    self.leave(before);
                }
            }
            Action::Abort => {
                self.running()?;
                self.rollout = None;
            }
            // What was decided beyond the damage is not known: a candidate may have been aborted there.
            Action::Repair => {
                self.rollout = None;
                self.set_aside.extend(places_aside(entry));
            }
            Action::Rollback => {
                let to = to()?;
                if self.rollout.take().is_some() && self.stable.as_ref() == Some(&to) {
                    return Ok(());
                }
                let before = self.stable.replace(to.clone());
                // Back along the way that was come: what lies ahead is no way back. Elsewhere: here is one now.
                match self.former.iter().rposition(|former| *former == to) {
                    Some(at) => self.former.truncate(at),
                    None => self.former.extend(before),
                }
            }
        }
        Ok(())
    }

    /// Whether a rollout gives or gave traffic to its candidates, so that a rollback ends it.
    pub fn has_begun(&self) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|rollout| rollout.phase != PhaseState::AwaitsApproval)
    }

    fn running(&mut self) -> Result<&mut RolloutState, String> {
        self.rollout
            .as_mut()
            .ok_or_else(|| "there is no rollout that it could be about".to_owned())
    }

    fn leave(&mut self, before: VersionRef) {
        if self.stable.as_ref() != Some(&before) {
            self.former.push(before);
        }
    }

    /// Where a rollback without a name leads.
    pub fn previous(&self) -> Option<&VersionRef> {
        self.former.last()
    }
}
