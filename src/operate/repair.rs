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
        DecisionDraft, Journal, JournalError, LOST_BEGINNING,
        chain::ChainHead,
        entry::{Action, VersionRef},
        store::StoreError,
    },
    operate::{
        OperateError, Operator,
        decide::draft,
        is_due, lock,
        model::ModelControl,
        trouble::{Damage, Trouble},
    },
    rollout::state::{ModelState, RepairDetails},
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
        let mut model = lock(&controlled);
        self.follow(&mut model);
        self.look_for_damage(&mut model);
        let (seq, detail) = damage(&model)?;
        let answering = model.state.stable.clone().map(|version| KeptVersion {
            version,
            why: "the version that answered before the repair keeps answering",
        });
        let answering = answering.or_else(|| self.only_copy(&name));
        let places = self
            .move_aside(&model, seq)
            .map_err(OperateError::JournalUnreadable)?;
        tracing::warn!(
            model = %name,
            seq,
            detail,
            place = ?places,
            actor = %actor,
            "the damaged end of the journal is moved aside"
        );
        model.trouble = None;
        if model.head.seq >= seq {
            self.read_again(&mut model);
        }
        let details = RepairDetails {
            damaged: seq,
            detail,
            set_aside: places.into(),
        };
        let repaired = DecisionDraft {
            from: model.written.stable.clone(),
            reason: Some(reason.clone()),
            details: serde_json::to_value(details).ok(),
            ..draft(Action::Repair, actor.clone(), model.written.stable.clone())
        };
        if let Err(error) = self.append(&mut model, repaired) {
            // Without this entry, no reader would know that the journal was longer.
            model.trouble = Some(Trouble::Damaged {
                seq,
                damage: Arc::new(Damage::Unlisted),
                further: true,
            });
            self.enforce(&mut model);
            return Err(error);
        }
        self.keep_answering(&mut model, answering, &reason, actor)?;
        Ok(self.status_of(&model))
    }

    /// Reads the whole journal again. Without an order, this is done once a minute only.
    fn look_for_damage(&self, model: &mut ModelControl) {
        if model.trouble.is_some() {
            return;
        }
        let found = self.overwritten(&model.name, &model.head);
        if let Some(trouble) = found.unwrap_or_else(|error| Some(error.into())) {
            self.set_trouble(model, trouble);
        }
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

    /// Decides again that the version that answered before the repair is stable. The original
    /// decision may be among the damaged entries, and a repair must not change any answers.
    fn keep_answering(
        &self,
        model: &mut ModelControl,
        answering: Option<KeptVersion>,
        reason: &str,
        actor: &Actor,
    ) -> Result<(), OperateError> {
        let Some(KeptVersion { version, why }) = answering else {
            return Ok(());
        };
        if model.state.stable.as_ref() == Some(&version) {
            return Ok(());
        }
        let rollback = DecisionDraft {
            from: model.state.stable.clone(),
            reason: Some(format!("{why}: {reason}")),
            ..draft(Action::Rollback, actor.clone(), Some(version))
        };
        self.append(model, rollback).map(|_| ())
    }

    /// Discards all entries that were read, and reads the journal again.
    fn read_again(&self, model: &mut ModelControl) {
        (model.head, model.written, _) =
            ModelState::fold(&self.journal, model.name.as_str(), |_| ());
        let dropped = model.settle();
        self.report_dropped(&model.name, &dropped);
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
        let dropped = model.settle();
        self.report_dropped(&model.name, &dropped);
        self.enforce(model);
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
        Some(Trouble::Vanished {
            directory_remains: true,
            ..
        }) => Ok((1, LOST_BEGINNING.to_owned())),
        Some(trouble @ (Trouble::Unreadable(_) | Trouble::Vanished { .. })) => {
            Err(model.trouble_error(trouble))
        }
        None => Err(OperateError::NothingToRepair(model.name.to_string())),
    }
}
