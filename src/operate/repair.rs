//! Repair: one process moves the damaged end of a journal aside, and the other processes follow.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    actor::Actor,
    admin::status::ModelStatus,
    digest::Digest,
    error::text_with_sources,
    id::ModelName,
    journal::{
        DecisionDraft, Journal, JournalError,
        chain::ChainHead,
        entry::{Action, VersionRef},
        store::StoreError,
    },
    operate::{
        OperateError, Operator,
        decide::draft,
        is_due, lock,
        model::{ModelControl, Pending},
        trouble::{Damage, Trouble},
    },
    rollout::state::{ModelState, Places, RepairDetails},
};

/// The interval at which a process checks whether another process repaired the journal.
pub(super) const VERIFY_INTERVAL: Duration = Duration::from_secs(2);

/// The interval at which all entries are read again. The files of old entries may be changed at any
/// time.
const REREAD_INTERVAL: Duration = Duration::from_secs(60);

/// The version that is stable after a repair.
struct KeptVersion {
    version: VersionRef,
    why: &'static str,
}

/// A repair whose damaged entries are moved aside.
struct RepairOrder<'a> {
    details: RepairDetails,
    /// `None` if it is not known which version was stable.
    kept: Option<KeptVersion>,
    reason: String,
    actor: &'a Actor,
}

impl RepairOrder<'_> {
    /// The entry about the repair. `written`: the state after the entries that remain.
    fn repair(&self, written: &ModelState) -> DecisionDraft {
        DecisionDraft {
            from: written.stable.clone(),
            reason: Some(self.reason.clone()),
            details: serde_json::to_value(&self.details).ok(),
            ..draft(Action::Repair, self.actor.clone(), written.stable.clone())
        }
    }

    /// The decision that the kept version is stable. `None` if it is stable already.
    fn rollback(&self, written: &ModelState) -> Option<DecisionDraft> {
        let KeptVersion { version, why } = self.kept.as_ref()?;
        (written.stable.as_ref() != Some(version)).then(|| DecisionDraft {
            from: written.stable.clone(),
            reason: Some(format!("{why}: {}", self.reason)),
            ..draft(Action::Rollback, self.actor.clone(), Some(version.clone()))
        })
    }
}

impl Operator {
    /// Moves the damaged end of a journal aside, and writes an entry about this. Nothing is
    /// deleted.
    pub(crate) fn repair(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<ModelStatus, OperateError> {
        let name = self.known(name)?;
        let reason = reason
            .filter(|reason| !reason.is_empty())
            .ok_or(OperateError::ReasonRequired("the repair of a journal"))?;
        let controlled = self.controlled(&name);
        // No lock is held while the whole journal is read, because a rollback must not wait for it.
        let head = lock(&controlled).head.clone();
        let found = self.overwritten(&name, &head);
        let mut model = lock(&controlled);
        self.follow(&mut model);
        self.note_damage(&mut model, &head, found);
        let (seq, detail) = damage(&model)?;
        let kept = self.kept_version(&model);
        let places = self
            .move_aside(&model, seq)
            .map_err(OperateError::JournalUnreadable)?;
        if !places.is_empty() {
            tracing::warn!(
                model = %name,
                seq,
                detail,
                place = ?places,
                actor = %actor,
                "the damaged end of the journal is moved aside"
            );
        }
        let details = RepairDetails {
            damaged: seq,
            detail,
            set_aside: places.into(),
        };
        let order = RepairOrder {
            details,
            kept,
            reason,
            actor,
        };
        self.write_repair(&mut model, order)?;
        // A failure sets `model.trouble`, which is logged. The next tick tries again.
        let _ = self.flush(&mut model);
        Ok(self.status_of(&model))
    }

    /// Notes a problem that was found in the entries up to `head`, unless a problem before it is
    /// known.
    fn note_damage(
        &self,
        model: &mut ModelControl,
        head: &ChainHead,
        found: Result<Option<Trouble>, JournalError>,
    ) {
        let Some(trouble) = found.unwrap_or_else(|error| Some(error.into())) else {
            return;
        };
        // The entries were read before the lock was taken.
        let is_current = model.head == *head;
        let is_first = match (&model.trouble, &trouble) {
            (None, _) => true,
            (Some(Trouble::Damaged { seq: known, .. }), Trouble::Overwritten { seq, .. }) => {
                seq < known
            }
            _ => false,
        };
        if is_current && is_first {
            self.set_trouble(model, trouble);
        }
    }

    /// The version that is stable after a repair. Pending decisions apply after it, so it is the
    /// version that they change.
    fn kept_version(&self, model: &ModelControl) -> Option<KeptVersion> {
        let state = if model.pending.is_empty() {
            &model.state
        } else {
            &model.written
        };
        let kept = state.stable.clone().map(|version| KeptVersion {
            version,
            why: "the version that was stable before the repair stays stable",
        });
        kept.or_else(|| self.only_copy(&model.name))
    }

    /// Writes the repair, and the decision that keeps the stable version: the original decision may
    /// be among the damaged entries. Both take effect together, so that no request is answered by
    /// another version in between.
    fn write_repair(
        &self,
        model: &mut ModelControl,
        order: RepairOrder<'_>,
    ) -> Result<(), OperateError> {
        let name = model.name.clone();
        let seq = order.details.damaged;
        let has_moved = order.details.set_aside != Places::default();
        let (mut head, mut written) = if model.head.seq >= seq {
            let (head, state, _) = ModelState::fold(&self.journal, name.as_str(), |_| ());
            (head, state)
        } else {
            (model.head.clone(), model.written.clone())
        };
        let repair = order.repair(&written).into_entry(name.as_str());
        let mut entries = Vec::new();
        match self.journal.append(&mut head, repair) {
            Ok(entry) => {
                written.apply(&entry)?;
                entries.push(entry);
            }
            Err(error) => {
                if has_moved {
                    // Without its entry, no reader would know that the journal was longer.
                    (model.head, model.written) = (head, written);
                    model.trouble = Some(Trouble::Damaged {
                        seq,
                        damage: Arc::new(Damage::Unlisted),
                        further: true,
                    });
                    self.settle_and_enforce(model);
                }
                self.metrics.models.source_errors.inc();
                return Err(match error {
                    JournalError::Lost => self.superseded(model),
                    error => OperateError::NotWritten(error),
                });
            }
        }
        if let Some(rollback) = order.rollback(&written) {
            let rollback = rollback.into_entry(name.as_str());
            match self.journal.append(&mut head, rollback.clone()) {
                Ok(entry) => {
                    written.apply(&entry)?;
                    entries.push(entry);
                }
                // It applies before the other pending decisions, and is written with them.
                Err(_) => model.pending.insert(
                    0,
                    Pending {
                        entry: rollback,
                        rollout: None,
                    },
                ),
            }
        }
        model.trouble = None;
        (model.head, model.written) = (head, written);
        self.settle_and_enforce(model);
        entries.iter().for_each(|entry| self.report_decided(entry));
        Ok(())
    }

    /// Moves entry `seq` and all later entries to a new directory. Returns this directory, and the
    /// directories of earlier repairs that no `Repair` entry lists.
    fn move_aside(&self, model: &ModelControl, seq: u64) -> Result<Vec<String>, StoreError> {
        // An earlier repair that did not finish also moved entries.
        let mut places = self.unlisted_directories(model)?;
        let place = Journal::new_damaged_directory(model.name.as_str());
        let moved = self.journal.move_aside(model.name.as_str(), seq, &place)?;
        if moved > 0 {
            places.push(place);
        }
        Ok(places)
    }

    /// The version with the only copy in the state directory. Copies exist of the stable version
    /// and of the previous one, so the only copy is of the stable version.
    fn only_copy(&self, name: &ModelName) -> Option<KeptVersion> {
        Some(KeptVersion {
            version: self.kept.only_version(name)?,
            why: "the state directory has only a copy of this version",
        })
    }

    /// The directories of entries that a repair moved aside, but that no `Repair` entry lists.
    pub(super) fn unlisted_directories(
        &self,
        model: &ModelControl,
    ) -> Result<Vec<String>, StoreError> {
        let mut places = self.journal.damaged_directories(model.name.as_str())?;
        places.retain(|place| !model.written.set_aside.contains(place));
        Ok(places)
    }

    /// Adopts a journal that another replica repaired, and notices a journal whose entries changed.
    pub(super) fn follow_repair(&self, model: &mut ModelControl) {
        if model.head.seq == 0 || model.verified_at.elapsed() < VERIFY_INTERVAL {
            return;
        }
        model.verified_at = Instant::now();
        self.adopt_repair(model);
    }

    /// Does the same as `follow_repair`, without waiting for the interval.
    pub(super) fn adopt_repair(&self, model: &mut ModelControl) {
        let name = model.name.as_str();
        let Ok(text) = self.journal.text(name, model.head.seq) else {
            return;
        };
        if text.is_some_and(|text| Digest::of(&text).to_string() == model.head.sha256) {
            return;
        }
        let mut repaired = false;
        let (head, state, end) = ModelState::fold(&self.journal, name, |entry| {
            repaired |= entry.action == Action::Repair && entry.seq <= model.head.seq;
        });
        if end.is_err() || !repaired {
            if let Ok(Some(trouble)) = self.overwritten(&model.name, &model.head) {
                self.set_trouble(model, trouble);
            }
            return;
        }
        tracing::warn!(
            model = %model.name,
            seq = head.seq,
            "another replica repaired the journal; this server follows the repaired journal"
        );
        (model.head, model.written) = (head, state);
        model.trouble = None;
        self.settle_and_enforce(model);
    }

    /// Reads the entries up to `head` again. Returns the problem with them; `None` if they are
    /// unchanged.
    pub(super) fn overwritten(
        &self,
        name: &ModelName,
        head: &ChainHead,
    ) -> Result<Option<Trouble>, JournalError> {
        let mut at = ChainHead::default();
        while at.seq < head.seq {
            let seq = at.seq + 1;
            let damage = match self.journal.next(name.as_str(), &mut at) {
                Ok(Some(_)) => continue,
                Ok(None)
                    if self
                        .journal
                        .beyond_gap(name.as_str(), &ChainHead::default())?
                        .is_empty() =>
                {
                    return Ok(Some(Trouble::Vanished {
                        model: name.clone(),
                        seq: head.seq,
                        directory_remains: self.store.is_same_directory(),
                    }));
                }
                Ok(None) => Damage::Missing,
                Err(JournalError::Chain(error)) => error.fault.into(),
                Err(error) => return Err(error),
            };
            return Ok(Some(Trouble::Overwritten {
                seq,
                damage: Arc::new(damage),
            }));
        }
        Ok((at.sha256 != head.sha256).then(|| Trouble::Overwritten {
            seq: head.seq,
            damage: Arc::new(Damage::Replaced),
        }))
    }

    /// Reads the whole journal of each model again, one model at a time, to notice damage in the
    /// middle of a journal.
    pub(super) fn reread(&self) {
        if !is_due(&self.reread_at, REREAD_INTERVAL) {
            return;
        }
        for name in self.names() {
            let controlled = self.controlled(&name);
            // No lock is held while the disk is read, because a rollback must not wait for it.
            let head = lock(&controlled).head.clone();
            let Ok(Some(trouble)) = self.overwritten(&name, &head) else {
                continue;
            };
            let mut model = lock(&controlled);
            self.adopt_repair(&mut model);
            if model.head == head && model.trouble.is_none() {
                self.set_trouble(&mut model, trouble);
            }
        }
    }
}

/// The number of the entry to repair from, and the description of the damage for the log and the
/// journal.
fn damage(model: &ModelControl) -> Result<(u64, String), OperateError> {
    match &model.trouble {
        Some(Trouble::Damaged { seq, damage, .. } | Trouble::Overwritten { seq, damage }) => {
            Ok((*seq, text_with_sources(damage)))
        }
        // Only the journal is gone, so a new one begins.
        Some(
            trouble @ Trouble::Vanished {
                directory_remains: true,
                ..
            },
        ) => Ok((1, trouble.describe())),
        Some(trouble @ (Trouble::Unreadable(_) | Trouble::Vanished { .. })) => {
            Err(model.trouble_error(trouble))
        }
        None => Err(OperateError::NothingToRepair(model.name.to_string())),
    }
}
