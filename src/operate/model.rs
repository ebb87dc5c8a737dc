//! `ModelControl`: the decisions about one model, as this process knows them.

use std::time::Instant;

use crate::{
    id::{ModelName, Version},
    journal::{
        chain::ChainHead,
        entry::{Entry, VersionRef},
    },
    operate::{
        copies::Copies,
        error::OperateError,
        pending::Pending,
        rehearsal::RollbackRehearsal,
        running_step::RunningStep,
        trouble::{RefusedByTrouble, Trouble},
    },
    rollout::state::{ModelState, RolloutState},
};

pub(super) struct ModelControl {
    pub name: ModelName,
    /// The last entry that was read.
    pub head: ChainHead,
    /// The state of the model according to the entries up to `head`.
    pub written: ModelState,
    /// The state that applies now: `written`, then the pending decisions.
    pub state: ModelState,
    pub pending: Vec<Pending>,
    pub trouble: Option<Trouble>,
    /// The time when the end of the journal was last compared with `head`.
    pub verified_at: Instant,
    /// Whether the journal was read at least once, to its end or to the damage. Decisions that were
    /// read stay valid.
    pub known: bool,
    /// Versions that must stay loaded because an order waits for them.
    pub wanted: Vec<Version>,
    pub step: Option<RunningStep>,
    pub rehearsal: RollbackRehearsal,
    pub copies: Option<Copies>,
    /// The versions whose copies failed, and the time of the last attempt.
    pub failed_copies: Option<(Vec<VersionRef>, Instant)>,
    /// Versions that `models.promote` would make stable, but that callers of the stable version
    /// could not use.
    pub incompatible: Vec<VersionRef>,
}

impl ModelControl {
    pub(super) fn new(name: ModelName) -> ModelControl {
        ModelControl {
            name,
            head: ChainHead::default(),
            written: ModelState::default(),
            state: ModelState::default(),
            pending: Vec::new(),
            trouble: None,
            verified_at: Instant::now(),
            known: false,
            wanted: Vec::new(),
            step: None,
            rehearsal: RollbackRehearsal::default(),
            copies: None,
            failed_copies: None,
            incompatible: Vec::new(),
        }
    }

    /// Computes the state that applies now from the written state and the pending decisions.
    /// Returns the pending decisions that decisions of other replicas made pointless.
    pub(super) fn settle(&mut self) -> Vec<Entry> {
        let mut state = self.written.clone();
        let mut dropped = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            pending.entry.seq = self.next_seq();
            let mut next = state.clone();
            if pending.is_due(&state) && next.apply(&pending.entry).is_ok() {
                state = next;
                self.pending.push(pending);
            } else {
                dropped.push(pending.entry);
            }
        }
        self.state = state;
        dropped
    }

    /// Whether a repair kept no decision about the stable version, so that an operator must choose.
    pub(super) fn lacks_stable(&self) -> bool {
        self.known && self.head.seq > 0 && self.state.stable.is_none()
    }

    /// The number that the next decision will get when it is written.
    pub(super) fn next_seq(&self) -> u64 {
        self.head.seq + 1 + self.pending.len() as u64
    }

    /// The rollout in progress.
    pub(super) fn rollout(&self) -> Result<&RolloutState, OperateError> {
        let missing = || OperateError::NoRollout(self.name.to_string());
        self.state.rollout.as_ref().ok_or_else(missing)
    }

    /// The error that refuses a decision because of the journal's problem.
    pub(super) fn trouble_error(&self, trouble: &Trouble) -> OperateError {
        OperateError::Trouble(RefusedByTrouble {
            trouble: trouble.clone(),
            suggestion: trouble.suggestion(self.known),
        })
    }
}
