//! `--verify`: reports whether the entries form a valid hash chain.

use std::fmt::Write;

use serde_json::json;

use crate::{
    cli::{
        CommandOutcome,
        stored_journal::{EntryFault, InvalidEntry, StoredJournal},
    },
    error::text_with_sources,
    id::ModelName,
};

pub(super) fn report(model: &ModelName, stored: &StoredJournal, json: bool) -> CommandOutcome {
    let verified = stored
        .verify(model.as_str())
        .and_then(|head| match &stored.trouble {
            None => Ok(head),
            Some(trouble) => Err(InvalidEntry {
                seq: head.seq + 1,
                fault: EntryFault::Reported(trouble.clone()),
            }),
        });
    let (outcome, document, text) = match &verified {
        Ok(head) => {
            let document = json!({"model": model.as_str(), "ok": true, "entries": head.seq, "sha256": head.sha256});
            let last = if head.seq == 0 {
                String::new()
            } else {
                format!(", the last with sha256 {}", head.sha256)
            };
            (
                CommandOutcome::Done,
                document,
                format!("ok: {}{last}", entries(head.seq)),
            )
        }
        Err(invalid @ InvalidEntry { seq, fault }) => {
            let bad = json!({"seq": seq, "detail": text_with_sources(fault)});
            let document = json!({"model": model.as_str(), "ok": false, "entries": seq - 1, "bad": bad, "last": stored.last()});
            let mut text = match fault {
                EntryFault::Reported(trouble) => format!("FAILED: {trouble}"),
                _ => format!("FAILED: {}", text_with_sources(invalid)),
            };
            if *seq > 1 {
                let _ = write!(text, "\n  before it: {} valid", entries(seq - 1));
            }
            if stored.last() > *seq {
                let _ = write!(
                    text,
                    "\n  after it: {} that can't be verified",
                    entries(stored.last() - seq)
                );
            }
            (CommandOutcome::Failed, document, text)
        }
    };
    say!("{}", if json { document.to_string() } else { text });
    outcome
}

pub(super) fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}
