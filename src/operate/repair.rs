//! Repair: the damaged end of a journal is set aside by one process, and the others follow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    journal::{Draft, Journal, chain::Head, entry::Action, store::StoreError},
    operate::{Controlled, OperateError, Operator, command::refused, lock, trouble::Trouble},
    package::digest::Digest,
    rollout::state::ModelState,
};

/// How often a process looks whether the journal that it knows the end of was repaired by another.
const LOOK: Duration = Duration::from_secs(2);

/// What is told of entries that a repair took away without having been able to write that down.
pub(super) const UNNAMED: &str = "was set aside without an entry that says so";

impl Operator {
    /// Sets the damaged end of a journal aside, and writes that down. Nothing is deleted.
    pub fn repair(&self, name: &str, reason: Option<String>, actor: &str) -> Result<Value, OperateError> {
        let name = self.known(name)?;
        let Some(reason) = reason.filter(|reason| !reason.is_empty()) else {
            return Err(OperateError::Malformed("whoever repairs a journal gives a reason: --reason TEXT".to_owned()));
        };
        let controlled = self.controlled(&name);
        let mut model = lock(&controlled);
        self.read_on(&mut model, true);
        let Some(Trouble::Damaged { seq, detail, .. }) = model.trouble.clone() else {
            return match &model.trouble {
                Some(trouble) => Err(OperateError::Unwritable(trouble.describe(&name))),
                None => refused(format!("the journal of {name} is whole: there is nothing to repair")),
            };
        };
        let unwritable = |error: StoreError| OperateError::Unwritable(error.to_string());
        // Those of a repair that was begun and not finished are named with it.
        let mut places = self.unnamed_places(&model).map_err(unwritable)?;
        let place = Journal::new_place_aside(name.as_str());
        if self.journal.set_aside(name.as_str(), seq, &place).map_err(unwritable)? > 0 || places.is_empty() {
            places.push(place.clone());
        }
        tracing::warn!(model = %name, seq, detail, place, actor, "the damaged end of the journal is set aside");
        model.trouble = None;
        let draft = Draft {
            action: Action::Repair,
            actor: actor.to_owned(),
            from: model.written.stable.clone(),
            to: model.written.stable.clone(),
            strategy: None,
            reason: Some(reason),
            evidence: None,
            details: Some(json!({
                "damaged": seq,
                "detail": detail,
                "set_aside": if let [place] = places.as_slice() { json!(place) } else { json!(places) },
            })),
        };
        if let Err(error) = self.append(&mut model, draft) {
            // Without the entry nobody would know that there was more.
            model.trouble = Some(Trouble::Damaged { seq, detail: UNNAMED.to_owned(), further: true });
            self.enforce(&mut model);
            return Err(error);
        }
        Ok(self.status_of(&model))
    }

    /// Places with entries that were set aside by a repair whose own entry was never written.
    pub(super) fn unnamed_places(&self, model: &Controlled) -> Result<Vec<String>, StoreError> {
        let mut places = self.journal.places_aside(model.name.as_str())?;
        places.retain(|place| !model.written.set_aside.contains(place));
        Ok(places)
    }

    /// Takes over a journal that was repaired before the end that this process knows. Whatever else becomes of what was read once is
    /// `history --verify`'s to find.
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
        let Ok(text) = self.journal.text(name, model.head.seq) else { return };
        if text.is_some_and(|text| Digest::of(&text).to_string() == model.head.sha256) {
            return;
        }
        let (mut head, mut state, mut repaired) = (Head::default(), ModelState::default(), false);
        loop {
            match self.journal.next(name, &mut head) {
                Ok(Some(entry)) if state.apply(&entry).is_ok() => {
                    repaired |= entry.action == Action::Repair && entry.seq <= model.head.seq;
                }
                Ok(None) if repaired => break,
                _ => return,
            }
        }
        tracing::warn!(model = %model.name, seq = head.seq, "another replica repaired the journal; what stands there now is followed");
        (model.head, model.written) = (head, state);
        let dropped = model.settle();
        self.tell_dropped(&model.name, &dropped);
        self.enforce(model);
    }
}
