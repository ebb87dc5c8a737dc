//! Repair: the damaged end of a journal is set aside by one process, and the others follow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    digest::Digest,
    id::ModelName,
    journal::{Draft, Journal, JournalError, chain::Head, entry::Action, store::StoreError},
    operate::{
        Controlled, OperateError, Operator, command::refused, is_due, lock, trouble::Trouble,
    },
    rollout::state::ModelState,
};

/// How often a process looks whether the journal that it knows the end of was repaired by another.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// How often all entries are read once more.
const REREAD: Duration = Duration::from_secs(60);

/// What is told of entries that a repair took away without having been able to write that down.
pub(super) const UNNAMED: &str = "was set aside without an entry that says so";

impl Operator {
    /// Sets the damaged end of a journal aside, and writes that down. Nothing is deleted.
    pub fn repair(
        &self,
        name: &str,
        reason: Option<String>,
        actor: &str,
    ) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        let Some(reason) = reason.filter(|reason| !reason.is_empty()) else {
            return Err(OperateError::Malformed(
                "whoever repairs a journal gives a reason: --reason TEXT".to_owned(),
            ));
        };
        let controlled = self.controlled(&name);
        let mut model = lock(&controlled);
        self.read_on(&mut model, true);
        let (seq, detail) = match model.trouble.clone() {
            Some(Trouble::Damaged { seq, detail, .. } | Trouble::Overwritten { seq, detail }) => {
                (seq, detail)
            }
            Some(trouble @ Trouble::Unreadable(_)) => {
                return Err(OperateError::Unwritable(
                    trouble.describe(&name, model.known),
                ));
            }
            None => {
                return refused(format!(
                    "the journal of {name} is whole: there is nothing to repair"
                ));
            }
        };
        let answering = model.state.stable.clone();
        let unwritable = |error: StoreError| OperateError::Unwritable(error.to_string());
        // Those of a repair that was begun and not finished are named with it.
        let mut places = self.unnamed_places(&model).map_err(unwritable)?;
        let place = Journal::new_place_aside(name.as_str());
        if self
            .journal
            .set_aside(name.as_str(), seq, &place)
            .map_err(unwritable)?
            > 0
            || places.is_empty()
        {
            places.push(place.clone());
        }
        tracing::warn!(model = %name, seq, detail, place, actor, "the damaged end of the journal is set aside");
        model.trouble = None;
        if model.head.seq >= seq {
            self.fold_anew(&mut model);
        }
        let draft = Draft {
            action: Action::Repair,
            actor: actor.to_owned(),
            from: model.written.stable.clone(),
            to: model.written.stable.clone(),
            strategy: None,
            reason: Some(reason.clone()),
            evidence: None,
            details: Some(json!({
                "damaged": seq,
                "detail": detail,
                "set_aside": if let [place] = places.as_slice() { json!(place) } else { json!(places) },
            })),
        };
        if let Err(error) = self.append(&mut model, draft) {
            // Without the entry nobody would know that there was more.
            model.trouble = Some(Trouble::Damaged {
                seq,
                detail: UNNAMED.to_owned(),
                further: true,
            });
            self.enforce(&mut model);
            return Err(error);
        }
        // What answered until now was decided beyond the damage: it is decided once more, and goes on.
        if let Some(answering) =
            answering.filter(|answering| model.state.stable.as_ref() != Some(answering))
        {
            let draft = Draft {
                action: Action::Rollback,
                actor: actor.to_owned(),
                from: model.state.stable.clone(),
                to: Some(answering),
                strategy: None,
                reason: Some(format!("what answered before the repair goes on: {reason}")),
                evidence: None,
                details: None,
            };
            self.append(&mut model, draft)?;
        }
        Ok(self.status_of(&model))
    }

    /// Forgets what was read, and reads what stands there now.
    fn fold_anew(&self, model: &mut Controlled) {
        (model.head, model.written, _) =
            ModelState::fold(&self.journal, model.name.as_str(), |_| ());
        let dropped = model.settle();
        self.tell_dropped(&model.name, &dropped);
    }

    /// Places with entries that were set aside by a repair whose own entry was never written.
    pub(super) fn unnamed_places(&self, model: &Controlled) -> Result<Vec<String>, StoreError> {
        let mut places = self.journal.places_aside(model.name.as_str())?;
        places.retain(|place| !model.written.set_aside.contains(place));
        Ok(places)
    }

    /// Takes over a journal that was repaired before the end that this process knows, and notices one that is not what was read.
    pub(super) fn follow_repair(&self, model: &mut Controlled) {
        if model.head.seq == 0 || model.looked.elapsed() < LOOK {
            return;
        }
        model.looked = Instant::now();
        self.adopt_repair(model);
    }

    /// The same, now.
    pub(super) fn adopt_repair(&self, model: &mut Controlled) {
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
        tracing::warn!(model = %model.name, seq = head.seq, "another replica repaired the journal; what stands there now is followed");
        (model.head, model.written) = (head, state);
        model.trouble = None;
        let dropped = model.settle();
        self.tell_dropped(&model.name, &dropped);
        self.enforce(model);
    }

    /// Reads all that was read up to `head` once more: what is wrong with it now.
    pub(super) fn overwritten(
        &self,
        name: &ModelName,
        head: &Head,
    ) -> Result<Option<Trouble>, JournalError> {
        let mut at = Head::default();
        while at.seq < head.seq {
            let seq = at.seq + 1;
            let detail = match self.journal.next(name.as_str(), &mut at) {
                Ok(Some(_)) => continue,
                Ok(None)
                    if self
                        .journal
                        .beyond_gap(name.as_str(), &Head::default())?
                        .is_empty() =>
                {
                    return Ok(Some(Trouble::Unreadable(format!(
                        "the state vanished: entry {} of {name}, which was read before, and all others are not there",
                        head.seq
                    ))));
                }
                Ok(None) => "is missing".to_owned(),
                Err(JournalError::Chain(error)) => error.detail,
                Err(error) => return Err(error),
            };
            return Ok(Some(Trouble::Overwritten {
                seq,
                detail: format!("{detail} (it was read before, and what was read holds here)"),
            }));
        }
        let detail = "is another than was read before".to_owned();
        Ok((at.sha256 != head.sha256).then_some(Trouble::Overwritten {
            seq: head.seq,
            detail,
        }))
    }

    /// Reads the whole journal of each model once more, a model at a time: also what lies in its middle must still be there tomorrow.
    pub(super) fn reread(&self) {
        if !is_due(&self.reread, REREAD) {
            return;
        }
        for name in self.names() {
            let controlled = self.controlled(&name);
            // Nothing is locked meanwhile: a rollback must not wait for it.
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
