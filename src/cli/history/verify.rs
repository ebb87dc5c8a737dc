//! `--verify`: reports whether the entries form a valid hash chain.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    cli::{
        CommandOutcome,
        stored_journal::{EntryFault, InvalidEntry, StoredJournal},
        suggestion::command,
    },
    error::text_with_sources,
    id::ModelName,
    journal::chain::ChainHead,
    suggestion::Suggestion,
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
pub(super) struct BadEntry {
    seq: u64,
    detail: String,
}

impl From<&InvalidEntry> for BadEntry {
    fn from(invalid: &InvalidEntry) -> BadEntry {
        BadEntry {
            seq: invalid.seq,
            detail: text_with_sources(&invalid.fault),
        }
    }
}

pub(super) fn report(
    model: &ModelName,
    stored: &StoredJournal,
    verified: &Result<ChainHead, InvalidEntry>,
    json: bool,
) -> anyhow::Result<CommandOutcome> {
    let (outcome, document, text) = match verified {
        Ok(head) => {
            let document = VerifiedJournal {
                model: model.as_str(),
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
        Err(invalid @ InvalidEntry { seq, .. }) => {
            let document = VerifiedJournal {
                model: model.as_str(),
                ok: false,
                entries: seq - 1,
                sha256: None,
                bad: Some(BadEntry::from(invalid)),
                last: Some(stored.last()),
            };
            let mut text = failure(invalid);
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
            text.push_str(&next_command(model, stored));
            (CommandOutcome::Failed, document, text)
        }
    };
    match json {
        true => say!("{}", serde_json::to_string(&document)?),
        false => say!("{text}"),
    }
    Ok(outcome)
}

/// The line that says what is wrong.
pub(super) fn failure(invalid: &InvalidEntry) -> String {
    match &invalid.fault {
        EntryFault::Reported(trouble) => format!("FAILED: {}", trouble.text),
        _ => format!("FAILED: {}", text_with_sources(invalid)),
    }
}

/// The line with the command that helps. Empty if there is none.
pub(super) fn next_command(model: &ModelName, stored: &StoredJournal) -> String {
    // The server knows whether a repair is possible now.
    let suggestion = match &stored.trouble {
        Some(trouble) => trouble.suggestion.as_ref(),
        None => Some(&Suggestion::RepairJournal),
    };
    let next = suggestion.and_then(|suggestion| command(suggestion, model.as_str()));
    next.map_or_else(String::new, |next| format!("\n  next: {next}"))
}

pub(super) fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}
