//! `ModelControl`: the decisions about one model, as this process knows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    id::{ModelName, Version},
    journal::{
        chain::ChainHead,
        entry::{Action, Entry, VersionRef},
    },
    operate::{
        arm_runs::ArmRuns,
        error::OperateError,
        trouble::{RefusedByTrouble, Trouble},
    },
    registry::traffic::ActiveStep,
    rollout::{
        evidence::Evidence,
        judge::Judgement,
        state::{ModelState, RolloutState},
        tally::EvidenceShare,
    },
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

/// An urgent decision that applies in this process and could not be written yet.
pub(super) struct Pending {
    /// The entry to write. Its number and hashes are filled in when it is written.
    pub entry: Entry,
    /// The id of the rollout that the decision ends. `None` if it ends no rollout.
    pub rollout: Option<String>,
}

impl Pending {
    /// Whether the decision still changes anything after the decisions of other replicas.
    pub(super) fn is_due(&self, state: &ModelState) -> bool {
        let same_rollout =
            state.rollout.as_ref().map(|rollout| &rollout.id) == self.rollout.as_ref();
        match self.entry.action {
            Action::Adopt => state.stable.is_none(),
            Action::Abort => same_rollout,
            // The order came before the journal could be read.
            _ if self.entry.from.is_none() => {
                state.stable != self.entry.to || state.rollout.is_some()
            }
            // The decision is still due in two cases: its rollout is still running, or the version
            // that it rolls back from is still stable. That version may be a candidate that was
            // promoted since.
            _ => {
                state.rollout.is_some() && same_rollout
                    || state.stable == self.entry.from && state.stable != self.entry.to
            }
        }
    }
}

/// The result of the last rehearsal.
#[derive(Default)]
pub(super) struct RollbackRehearsal {
    pub ready: bool,
    /// The reason why a rollback would not work. Empty if it would work, or was not rehearsed yet.
    pub reason: String,
    /// The version that was rehearsed last, and the time. `None` before the first rehearsal.
    pub tried: Option<(VersionRef, Instant)>,
}

impl RollbackRehearsal {
    /// Whether the rehearsal was about that version.
    pub(super) fn is_of(&self, previous: Option<&VersionRef>) -> bool {
        self.tried.as_ref().map(|(version, _)| version) == previous
    }
}

/// The copies that were made last, or were found to be intact.
#[derive(Clone)]
pub(super) struct Copies {
    /// The versions that need a copy, or may keep one: the stable version, the previous version,
    /// and candidates.
    pub versions: Vec<VersionRef>,
    pub at: Instant,
    /// Whether the copies of other versions were removed.
    pub tidied: bool,
}

/// The evidence for the current step of a rollout, from this process and from the other processes.
pub(super) struct RunningStep {
    pub step: Arc<ActiveStep>,
    /// The stable version, then the candidates.
    pub versions: Vec<String>,
    pub runs: BTreeMap<String, ArmRuns>,
    /// The evidence of other processes, by the name of their object.
    pub others: BTreeMap<String, EvidenceShare>,
    /// The names of the objects with evidence that can't be read.
    pub unreadable: BTreeSet<String>,
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
