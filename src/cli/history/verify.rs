//! `--verify`: reports whether the entries form a valid hash chain.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    cli::{
        CommandOutcome,
        stored_journal::{EntryFault, InvalidEntry, StoredJournal},
    },
    error::text_with_sources,
    id::ModelName,
};

/// The JSON output.
#[derive(Serialize)]
struct VerifiedJournal<'a> {
    model: &'a str,
    ok: bool,
    /// The number of valid entries.
    entries: u64,
    /// The SHA-256 of the last entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bad: Option<BadEntry>,
    /// The number of the last entry, valid or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
}

/// The first invalid entry.
#[derive(Serialize)]
struct BadEntry {
    seq: u64,
    detail: String,
}

pub(super) fn report(
    model: &ModelName,
    stored: &StoredJournal,
    json: bool,
) -> anyhow::Result<CommandOutcome> {
    let model = model.as_str();
    let verified = stored.verify(model).and_then(|head| match &stored.trouble {
        None => Ok(head),
        Some(trouble) => Err(InvalidEntry {
            seq: head.seq + 1,
            fault: EntryFault::Reported(trouble.clone()),
        }),
    });
    let (outcome, document, text) = match &verified {
        Ok(head) => {
            let document = VerifiedJournal {
                model,
                ok: true,
                entries: head.seq,
                sha256: Some(&head.sha256),
                bad: None,
                last: None,
            };
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
            let document = VerifiedJournal {
                model,
                ok: false,
                entries: seq - 1,
                sha256: None,
                bad: Some(BadEntry {
                    seq: *seq,
                    detail: text_with_sources(fault),
                }),
                last: Some(stored.last()),
            };
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
    match json {
        true => say!("{}", serde_json::to_string(&document)?),
        false => say!("{text}"),
    }
    Ok(outcome)
}

pub(super) fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}
