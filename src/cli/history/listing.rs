//! Lists the entries of a journal, as text and as JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use crate::{
    admin::history::JournalHead,
    cli::{
        history::{
            entry_text::{RolloutPosition, describe},
            verify::BadEntry,
        },
        paint::{Paint, Style},
        stored_journal::{InvalidEntry, StoredJournal},
    },
    document,
    id::ModelName,
    journal::{chain::ChainHead, entry::Entry},
};

#[derive(Serialize)]
pub(super) struct ListedHistory {
    model: String,
    entries: Vec<ListedEntry>,
    /// null if no server knows the end of the journal.
    head: Option<JournalHead>,
    /// The first invalid entry of the whole journal. Absent if all are valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    bad: Option<BadEntry>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ListedEntry {
    /// The entry as it is stored, with members that this program may not know.
    Stored(Value),
    Unreadable {
        seq: u64,
        unreadable: String,
    },
}

impl StoredJournal {
    /// The number of the first entry to list.
    fn first(&self, limit: Option<usize>) -> u64 {
        let shown = limit.and_then(|limit| self.texts.keys().rev().take(limit).next_back());
        match (limit, shown) {
            (Some(_), Some(first)) => *first,
            (Some(_), None) => u64::MAX,
            (None, _) => 0,
        }
    }

    /// The JSON output.
    pub(super) fn document(
        &self,
        model: &ModelName,
        verified: &Result<ChainHead, InvalidEntry>,
        limit: Option<usize>,
    ) -> ListedHistory {
        let entries = self.texts.range(self.first(limit)..);
        let entries = entries.map(|(seq, text)| match document::parse_value(text) {
            Ok(entry) => ListedEntry::Stored(entry),
            Err(error) => ListedEntry::Unreadable {
                seq: *seq,
                unreadable: error.to_string(),
            },
        });
        ListedHistory {
            model: model.to_string(),
            entries: entries.collect(),
            head: self.head.clone().map(JournalHead::from),
            bad: verified.as_ref().err().map(BadEntry::from),
        }
    }

    pub(super) fn list(&self, limit: Option<usize>, paint: Paint) -> String {
        let mut text = String::new();
        let first = self.first(limit);
        let mut expected = if limit.is_some() { first } else { 1 };
        let mut position = RolloutPosition::default();
        let bad = |line: String| paint.paint(Style::Bad, &line);
        let missing = |from: u64, to: u64| {
            bad(format!(
                "{from:>6}  {} missing here",
                if from == to {
                    "is".to_owned()
                } else {
                    format!("to {to}: are")
                }
            ))
        };
        // Writing to a String does not fail.
        for (seq, stored) in &self.texts {
            let entry = document::parse::<Entry>(stored);
            if let Ok(entry) = &entry {
                position.follow(entry);
            }
            if *seq < first {
                continue;
            }
            if *seq > expected {
                let _ = writeln!(text, "{}", missing(expected, seq - 1));
            }
            expected = seq + 1;
            match entry {
                Ok(entry) => describe(*seq, &entry, &position, paint, &mut text),
                Err(error) => {
                    let _ = writeln!(text, "{}", bad(format!("{seq:>6}  can't be read: {error}")));
                }
            }
        }
        if self.last() >= expected && limit != Some(0) {
            let _ = writeln!(text, "{}", missing(expected, self.last()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{
        cli::{paint::Paint, stored_journal::StoredJournal},
        journal::{
            chain::{ChainHead, tests::entry},
            entry::{Action, Entry},
        },
    };

    #[test]
    fn a_bad_entry_hides_no_other_from_the_list() {
        let intact = |seq, action| {
            let entry = Entry {
                seq,
                ..entry(action)
            };
            (seq, serde_json::to_vec(&entry).unwrap())
        };
        let damaged = (3, b"{".to_vec());
        let stored = StoredJournal {
            texts: BTreeMap::from([
                intact(1, Action::Adopt),
                damaged,
                intact(4, Action::Promote),
            ]),
            head: Some(ChainHead {
                seq: 5,
                ..ChainHead::default()
            }),
            trouble: None,
        };
        let list = stored.list(None, Paint::OFF);
        let lines: Vec<&str> = list
            .lines()
            .filter(|line| !line.starts_with("        "))
            .collect();
        assert!(
            lines[0].starts_with("     1  ") && lines[0].contains("adopt"),
            "{list}"
        );
        assert_eq!(lines[1], "     2  is missing here");
        assert!(lines[2].starts_with("     3  can't be read"), "{list}");
        assert!(
            lines[3].starts_with("     4  ") && lines[3].contains("promote "),
            "{list}"
        );
        assert_eq!(lines[4], "     5  is missing here");
        assert!(stored.list(Some(1), Paint::OFF).starts_with("     4  "));
        assert_eq!(stored.list(Some(0), Paint::OFF), "");
    }
}
