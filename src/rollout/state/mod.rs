//! `ModelState`: the state of a model, computed from its journal entry by entry. There is no other
//! input, so that every replica and every restart computes the same state.

mod details;
mod error;
mod rollout_state;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use details::{
    PauseDetails, Places, RepairDetails, StartDetails, StepDetails, Thresholds,
};
pub(crate) use error::{Contradiction, EntryProblem, FoldError};
pub(crate) use rollout_state::{PhaseState, RolloutState};

use crate::{
    actor::{Actor, Cause},
    clock,
    journal::{
        Journal,
        chain::ChainHead,
        entry::{Action, Entry, VersionRef},
    },
    rollout::state::details::read_details,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelState {
    pub stable: Option<VersionRef>,
    /// Former stable versions in order, the latest one last. Rollbacks return to them.
    pub former: Vec<VersionRef>,
    pub rollout: Option<RolloutState>,
    /// Every version that has been stable.
    pub proven: BTreeSet<String>,
    /// The digest of every version in a decision.
    pub digests: BTreeMap<String, String>,
    /// The last decision.
    pub last: Option<DecisionRecord>,
    /// Versions that a rollback, an abort or a repair took out of use, each with that decision. A
    /// version that becomes stable again is removed.
    pub withdrawn: BTreeMap<String, DecisionRecord>,
    /// The number of decisions so far, by action and cause.
    pub transitions: BTreeMap<(Action, Cause), u64>,
    /// The places to which repairs moved damaged entries.
    pub set_aside: BTreeSet<String>,
}

/// The parts of a journal entry that are part of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecisionRecord {
    pub seq: u64,
    pub at: String,
    pub actor: Actor,
    pub action: Action,
    pub from: Option<VersionRef>,
    pub to: Option<VersionRef>,
    pub reason: Option<String>,
}

impl DecisionRecord {
    fn of(entry: &Entry) -> DecisionRecord {
        DecisionRecord {
            seq: entry.seq,
            at: entry.at.clone(),
            actor: entry.actor.clone(),
            action: entry.action,
            from: entry.from.clone(),
            to: entry.to.clone(),
            reason: entry.reason.clone(),
        }
    }
}

impl ModelState {
    /// Reads a journal from its start. Returns the state after the last good entry, and the error
    /// if an entry could not be applied. `observe` gets each good entry.
    pub(crate) fn fold(
        journal: &Journal,
        model: &str,
        mut observe: impl FnMut(&Entry),
    ) -> (ChainHead, ModelState, Result<(), FoldError>) {
        let (mut head, mut state) = (ChainHead::default(), ModelState::default());
        loop {
            // `head` must stay at the last good entry if the next entry fails.
            let mut next = head.clone();
            let outcome = match journal.next(model, &mut next) {
                Ok(None) => return (head, state, Ok(())),
                Ok(Some(entry)) => state
                    .apply(&entry)
                    .map(|()| observe(&entry))
                    .map_err(FoldError::from),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = outcome {
                return (head, state, Err(error));
            }
            head = next;
        }
    }

    /// Applies an entry. After an error the state must not be used.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<(), Contradiction> {
        self.try_apply(entry).map_err(|problem| Contradiction {
            seq: entry.seq,
            problem,
        })
    }

    fn try_apply(&mut self, entry: &Entry) -> Result<(), EntryProblem> {
        for named in entry.from.iter().chain(&entry.to) {
            self.note_digest(named)?;
        }
        let before = self.stable.clone();
        // The candidates are read before the transition, because the transition may end the
        // rollout.
        let candidates: Vec<VersionRef> = self
            .rollout
            .iter()
            .flat_map(|rollout| rollout.candidates.iter().cloned())
            .collect();
        self.transition(entry)?;
        self.proven
            .extend(self.stable.iter().map(|stable| stable.version.clone()));
        *self
            .transitions
            .entry((entry.action, entry.actor.cause()))
            .or_default() += 1;
        let record = DecisionRecord::of(entry);
        if matches!(
            entry.action,
            Action::Rollback | Action::Abort | Action::Repair
        ) {
            let withdrawn = candidates.into_iter().chain(before);
            self.withdrawn
                .extend(withdrawn.map(|named| (named.version, record.clone())));
        }
        // The stable version and the targets of rollbacks are in use.
        for named in self.stable.iter().chain(&self.former) {
            self.withdrawn.remove(&named.version);
        }
        self.last = Some(record);
        Ok(())
    }

    /// Checks the digest: a version is the package with the digest of its first entry.
    fn note_digest(&mut self, named: &VersionRef) -> Result<(), EntryProblem> {
        let known = self
            .digests
            .entry(named.version.clone())
            .or_insert_with(|| named.digest.clone());
        if *known == named.digest {
            Ok(())
        } else {
            Err(EntryProblem::TwoDigests {
                version: named.version.clone(),
            })
        }
    }

    /// The part of `apply` that depends on the action.
    fn transition(&mut self, entry: &Entry) -> Result<(), EntryProblem> {
        let at_ms = clock::ms_of_rfc3339(&entry.at).ok_or(EntryProblem::UnreadableTime)?;
        match entry.action {
            Action::Adopt if self.rollout.is_some() => {
                return Err(EntryProblem::AdoptedDuringRollout);
            }
            Action::Adopt => self.make_stable(target(entry)?),
            Action::Start => self.start(entry, at_ms)?,
            Action::Approve | Action::Advance => self.begin_step(entry, at_ms)?,
            Action::Pause => self.pause(entry, at_ms)?,
            Action::Resume => self.running()?.resume(at_ms),
            Action::Promote => {
                let to = target(entry)?;
                self.rollout = None;
                self.make_stable(to);
            }
            Action::Abort => {
                // An abort without a rollout is a contradiction.
                self.running()?;
                self.rollout = None;
            }
            // The damaged entries may have aborted the rollout, so it must not continue.
            Action::Repair => {
                self.rollout = None;
                self.set_aside.extend(places_aside(entry));
            }
            Action::Rollback => self.roll_back(target(entry)?),
        }
        Ok(())
    }

    fn start(&mut self, entry: &Entry, at_ms: u64) -> Result<(), EntryProblem> {
        if self.rollout.is_some() {
            return Err(EntryProblem::StartedDuringRollout);
        }
        let details: StartDetails = read_details(entry)?;
        details.plan.check()?;
        for candidate in &details.candidates {
            self.digests
                .insert(candidate.version.clone(), candidate.digest.clone());
        }
        self.rollout = Some(RolloutState::start(entry, details, at_ms));
        Ok(())
    }

    fn begin_step(&mut self, entry: &Entry, at_ms: u64) -> Result<(), EntryProblem> {
        let details: StepDetails = read_details(entry)?;
        let rollout = self.running()?;
        if details.step >= rollout.plan.steps.len() {
            return Err(EntryProblem::NoSuchStep);
        }
        // The wait for approval does not count towards the plan's `max_seconds`.
        if entry.action == Action::Approve {
            rollout.restart_time_limit(at_ms);
        }
        rollout.begin_step(details, entry.seq, at_ms);
        Ok(())
    }

    fn pause(&mut self, entry: &Entry, at_ms: u64) -> Result<(), EntryProblem> {
        // A pause by an operator has no details.
        let details = match entry.details {
            Some(_) => read_details(entry)?,
            None => PauseDetails::default(),
        };
        self.running()?.phase = PhaseState::Paused {
            since_ms: at_ms,
            by: entry.actor.clone(),
            reason: entry.reason.clone().unwrap_or_default(),
            guard: details.guard,
        };
        Ok(())
    }

    fn roll_back(&mut self, to: VersionRef) {
        // During a rollout, a rollback to the current stable version only ends the rollout.
        if self.rollout.take().is_some() && self.stable.as_ref() == Some(&to) {
            return;
        }
        let before = self.stable.replace(to.clone());
        match self.former.iter().rposition(|former| *former == to) {
            // A second rollback must go further back, instead of forward again.
            Some(at) => self.former.truncate(at),
            None => self.former.extend(before),
        }
    }

    fn make_stable(&mut self, to: VersionRef) {
        // A version that is promoted again must not become its own rollback target.
        if let Some(before) = self.stable.replace(to)
            && self.stable.as_ref() != Some(&before)
        {
            self.former.push(before);
        }
    }

    /// Whether a rollout is in progress and its candidates got traffic, so that a rollback ends it.
    pub(crate) fn has_begun(&self) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|rollout| rollout.phase != PhaseState::AwaitsApproval)
    }

    fn running(&mut self) -> Result<&mut RolloutState, EntryProblem> {
        self.rollout.as_mut().ok_or(EntryProblem::NoRollout)
    }

    /// The target of a rollback that names no version.
    pub(crate) fn previous(&self) -> Option<&VersionRef> {
        self.former.last()
    }
}

fn target(entry: &Entry) -> Result<VersionRef, EntryProblem> {
    entry.to.clone().ok_or(EntryProblem::NoVersion)
}

/// The places to which a repair moved damaged entries. The entry contains a string, or a list if
/// there are several.
fn places_aside(entry: &Entry) -> Vec<String> {
    read_details::<RepairDetails>(entry)
        .map(|details| details.set_aside.into_vec())
        .unwrap_or_default()
}
