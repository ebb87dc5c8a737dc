//! `predictd history`: shows who decided what, when and why, and checks whether the journal was altered.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::bail;
use serde_json::{Value, json};

use crate::{
    admin::{
        history::History, requests::ReasonRequest, start::DecisionEvidence, status::ModelStatus,
    },
    cli::{
        CommandOutcome,
        client::{self, Client, ClientError, ServerArgs},
        paint::{Paint, Style, count, short},
        rollout::{plan::describe_step, progress::error_share, status},
    },
    id::ModelName,
    journal::{
        Journal,
        chain::{self, ChainHead},
        entry::{Action, Entry},
        store::Store,
    },
    rollout::{
        figures::{number, percent},
        judge::{GuardReport, GuardState},
        plan::RolloutPlan,
    },
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Check that no entry was altered or is missing
    ///
    /// Finds altered, missing and moved entries. With a server, it also finds entries that are missing at the end. Exit 0 or 1.
    #[arg(long)]
    verify: bool,
    /// Move the damaged end of the journal aside
    ///
    /// The server accepts decisions again afterwards. Nothing is deleted.
    #[arg(long, requires = "reason", conflicts_with_all = ["verify", "limit", "state"])]
    repair: bool,
    /// The reason for the repair, kept in the journal
    #[arg(long, value_name = "TEXT", requires = "repair")]
    reason: Option<String>,
    /// List the last N entries only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Read this state directory, without a server
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<CommandOutcome> {
    let model = &args.model;
    if args.repair {
        return repair(args);
    }
    let stored = match &args.state {
        Some(directory) => read(directory, model.as_str())?,
        None => fetch(&Client::new(&args.server, Some(model))?, model.as_str(), 1)?,
    };
    if args.verify {
        return Ok(report(model, &stored, args.json));
    }
    if args.json {
        say!(
            "{}",
            serde_json::to_string_pretty(&stored.document(model, args.limit))?
        );
    } else {
        let text = stored.list(args.limit, Paint::stdout());
        say!(
            "{}",
            if text.is_empty() {
                "there are no decisions about this model yet"
            } else {
                text.trim_end()
            }
        );
    }
    Ok(CommandOutcome::Done)
}

fn repair(args: &Args) -> anyhow::Result<CommandOutcome> {
    let client = Client::new(&args.server, Some(&args.model))?;
    let body = ReasonRequest {
        reason: args.reason.clone(),
    };
    let answer = client.post(&format!("/{}/history/repair", args.model), &body)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(answer.value())?);
        return Ok(CommandOutcome::Done);
    }
    let status: ModelStatus = answer.read()?;
    say!(
        "{}: repaired (entry {}); the damaged entries are in damaged/ in the state directory\n",
        args.model,
        status.seq
    );
    say!("{}", status::print(&status, Paint::stdout()).trim_end());
    Ok(CommandOutcome::Done)
}

/// The stored entries of a journal, valid or not. A damaged entry does not hide the others.
pub(super) struct StoredJournal {
    texts: BTreeMap<u64, Vec<u8>>,
    /// The last entry that the server has read or written, even if its file was removed since.
    head: Option<ChainHead>,
}

/// Gets all entries from `first` on from a server.
pub(super) fn fetch(
    client: &Client,
    model: &str,
    first: u64,
) -> Result<StoredJournal, ClientError> {
    let mut stored = StoredJournal {
        texts: BTreeMap::new(),
        head: None,
    };
    let mut from = first;
    loop {
        let page: History = client
            .get(&format!("/{model}/history?from={from}"))?
            .read()?;
        let number = page.entries.len() as u64;
        let found = page.entries.iter().any(Option::is_some);
        let texts = (from..)
            .zip(page.entries)
            .filter_map(|(seq, text)| Some((seq, text?.into_bytes())));
        stored.texts.extend(texts);
        stored.head = Some(page.head.into());
        from += number;
        // A gap of a whole page may be of any length: a renamed file can claim any number.
        if !page.truncated || !found {
            return Ok(stored);
        }
    }
}

/// Reads all entries in a state directory, including those after a gap.
pub(super) fn read(directory: &Path, model: &str) -> anyhow::Result<StoredJournal> {
    let journal = Journal::new(Store::local(directory.to_path_buf())?);
    let names = journal.beyond_gap(model, &ChainHead::default())?;
    let mut texts = BTreeMap::new();
    for seq in names
        .iter()
        .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
    {
        if let Some(text) = journal.text(model, seq)? {
            texts.insert(seq, text);
        }
    }
    if texts.is_empty() {
        bail!(
            "{} contains no journal of {model}; --state takes the directory that state.url names",
            directory.display()
        );
    }
    Ok(StoredJournal { texts, head: None })
}

/// The first invalid entry.
#[derive(Debug, PartialEq, Eq)]
struct InvalidEntry {
    seq: u64,
    detail: String,
}

fn report(model: &ModelName, stored: &StoredJournal, json: bool) -> CommandOutcome {
    let verified = stored.verify(model.as_str());
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
                format!("ok: {} entries{last}", head.seq),
            )
        }
        Err(InvalidEntry { seq, detail }) => {
            let bad = json!({"seq": seq, "detail": detail});
            let document = json!({"model": model.as_str(), "ok": false, "entries": seq - 1, "bad": bad, "last": stored.last()});
            let mut text = format!("FAILED: entry {seq} {detail}");
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

fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}

impl StoredJournal {
    fn last(&self) -> u64 {
        let stored = self.texts.last_key_value().map_or(0, |(seq, _)| *seq);
        stored.max(self.head.as_ref().map_or(0, |head| head.seq))
    }

    /// The entries that can be parsed.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.texts
            .values()
            .filter_map(|text| serde_json::from_slice(text).ok())
    }

    /// The end of the chain, if all entries are valid.
    fn verify(&self, model: &str) -> Result<ChainHead, InvalidEntry> {
        let mut head = ChainHead::default();
        while head.seq < self.last() {
            let seq = head.seq + 1;
            let bad = |detail: &str| InvalidEntry {
                seq,
                detail: detail.to_owned(),
            };
            let Some(text) = self.texts.get(&seq) else {
                let known = self.head.as_ref().is_some_and(|head| head.seq >= seq);
                return Err(bad(if known {
                    "is missing, but the server has seen it"
                } else {
                    "is missing"
                }));
            };
            chain::read_entry(text, model, &mut head)
                .map_err(|error| bad(&error.fault.to_string()))?;
            if self
                .head
                .as_ref()
                .is_some_and(|known| known.seq == seq && known.sha256 != head.sha256)
            {
                return Err(bad(
                    "is valid, but is not the entry that the server has seen: it was replaced",
                ));
            }
        }
        Ok(head)
    }

    /// The number of the first entry that is listed.
    fn first(&self, limit: Option<usize>) -> u64 {
        let shown = limit.and_then(|limit| self.texts.keys().rev().take(limit).next_back());
        match (limit, shown) {
            (Some(_), Some(first)) => *first,
            (Some(_), None) => u64::MAX,
            (None, _) => 0,
        }
    }

    fn document(&self, model: &ModelName, limit: Option<usize>) -> Value {
        let entries = self.texts.range(self.first(limit)..).map(|(seq, text)| {
            match serde_json::from_slice::<Value>(text) {
                Ok(entry) => entry,
                Err(error) => json!({"seq": seq, "unreadable": error.to_string()}),
            }
        });
        let head = self
            .head
            .as_ref()
            .map(|head| json!({"seq": head.seq, "sha256": head.sha256}));
        json!({"model": model.as_str(), "entries": entries.collect::<Vec<_>>(), "head": head})
    }

    fn list(&self, limit: Option<usize>, paint: Paint) -> String {
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
            let entry = serde_json::from_slice::<Entry>(stored);
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

/// The plan and the step at an entry. Only the entries that start a rollout or a step contain them.
#[derive(Default)]
struct RolloutPosition {
    plan: Option<RolloutPlan>,
    step: usize,
}

impl RolloutPosition {
    fn follow(&mut self, entry: &Entry) {
        let detail = |key: &str| {
            entry
                .details
                .as_ref()
                .and_then(|details| details.get(key))
                .cloned()
        };
        match entry.action {
            Action::Start => {
                self.plan = detail("plan").and_then(|plan| serde_json::from_value(plan).ok());
                self.step = 0;
            }
            Action::Approve | Action::Advance => {
                let step = detail("step").and_then(|step| usize::try_from(step.as_u64()?).ok());
                self.step = step.unwrap_or(self.step);
            }
            _ => {}
        }
    }

    /// `plan medium, step 2 of 6 (canary 1 %)`
    fn describe(&self, strategy: &str) -> String {
        let plan = self.plan.as_ref().filter(|plan| plan.name == strategy);
        match plan.and_then(|plan| Some((plan.steps.len(), plan.steps.get(self.step)?))) {
            Some((steps, step)) => format!(
                "plan {strategy}, step {} of {steps} ({})",
                self.step + 1,
                describe_step(step)
            ),
            None => format!("plan {strategy}"),
        }
    }
}

fn describe(seq: u64, entry: &Entry, position: &RolloutPosition, paint: Paint, text: &mut String) {
    let version = |named: &Option<crate::journal::entry::VersionRef>| {
        named
            .as_ref()
            .map_or("-", |named| named.version.as_str())
            .to_owned()
    };
    let style = match entry.action {
        Action::Promote => Style::Good,
        Action::Abort | Action::Rollback => Style::Bad,
        Action::Pause => Style::Doubtful,
        _ => Style::Bold,
    };
    let place = entry
        .strategy
        .as_ref()
        .map(|strategy| format!("; {}", position.describe(strategy)))
        .unwrap_or_default();
    // A renamed file contains another number than its name.
    let renamed = if entry.seq == seq {
        String::new()
    } else {
        paint.paint(
            Style::Bad,
            &format!("  its content says entry {}", entry.seq),
        )
    };
    let _ = writeln!(
        text,
        "{seq:>6}  {}  {}  {} -> {}  by {}{place}{renamed}",
        paint.paint(Style::Dim, &entry.at),
        paint.paint(style, &format!("{:<8}", entry.action.name())),
        version(&entry.from),
        version(&entry.to),
        entry.actor
    );
    for line in entry
        .reason
        .iter()
        .flat_map(|reason| reason.lines())
        .chain(figures(entry).iter().map(String::as_str))
    {
        let _ = writeln!(text, "        {line}");
    }
}

/// The main figures of the evidence for a decision.
fn figures(entry: &Entry) -> Vec<String> {
    // An entry of another version of predictd may contain evidence in another format. It is listed without evidence.
    let evidence: DecisionEvidence = entry
        .evidence
        .clone()
        .and_then(|evidence| serde_json::from_value(evidence).ok())
        .unwrap_or_default();
    let mut lines = Vec::new();
    let arms: Vec<String> = evidence
        .totals
        .iter()
        .flat_map(|totals| &totals.arms)
        .map(|(version, arm)| {
            let (requests, failed) = (count(arm.requests), percent(error_share(arm)));
            format!("{version}: {requests} requests, {failed} failed")
        })
        .collect();
    if !arms.is_empty() {
        lines.push(arms.join("; "));
    }
    let violated = evidence
        .guards
        .iter()
        .filter(|guard| guard.state == GuardState::Violated);
    lines.extend(violated.map(guard_line));
    lines.extend(evidence.candidates.iter().map(|report| {
        let verdict = report.compatibility.verdict;
        format!("{}: {verdict}", report.version)
    }));
    if evidence.without_way_back {
        lines.push("promoted although a rollback would not work".to_owned());
    }
    if matches!(entry.action, Action::Adopt | Action::Start)
        && let Some(to) = &entry.to
    {
        lines.push(format!("{} is {}", to.version, short(&to.digest)));
    }
    lines
}

fn guard_line(guard: &GuardReport) -> String {
    let stable = guard
        .stable_share
        .map(|share| format!(" against {}", percent(share)))
        .unwrap_or_default();
    format!(
        "{} of {}: {}{stable}, e-value {}, limit {}",
        guard.guard.name(),
        guard.candidate,
        percent(guard.share),
        number(guard.e_value),
        number(guard.limit)
    )
}

#[cfg(test)]
mod tests {
    use crate::{
        cli::{
            history::{InvalidEntry, StoredJournal},
            paint::Paint,
        },
        journal::{
            DecisionDraft, Journal,
            chain::ChainHead,
            entry::{Action, VersionRef},
            store::Store,
        },
    };

    /// Five decisions in the form in which a server writes them, and the last entry that it has seen.
    fn stored() -> StoredJournal {
        let journal = Journal::new(Store::memory().unwrap());
        let mut head = ChainHead::default();
        let mut texts = std::collections::BTreeMap::new();
        for action in [
            Action::Adopt,
            Action::Promote,
            Action::Rollback,
            Action::Promote,
            Action::Rollback,
        ] {
            let draft = DecisionDraft {
                action,
                actor: crate::actor::Actor::Verified("ann".to_owned()),
                from: None,
                to: Some(VersionRef {
                    version: "1.0.0".to_owned(),
                    digest: "sha256:0".to_owned(),
                }),
                strategy: None,
                reason: Some("a good reason".to_owned()),
                evidence: None,
                details: None,
            };
            let entry = journal
                .append(&mut head, draft.into_entry("churn"))
                .unwrap();
            texts.insert(
                entry.seq,
                journal.text("churn", entry.seq).unwrap().unwrap(),
            );
        }
        StoredJournal {
            texts,
            head: Some(head),
        }
    }

    fn bad(stored: &StoredJournal) -> (u64, String) {
        let InvalidEntry { seq, detail } = stored.verify("churn").unwrap_err();
        (seq, detail)
    }

    #[test]
    fn what_was_done_to_a_journal_is_found() {
        let whole = stored();
        assert_eq!(whole.verify("churn").unwrap(), whole.head.clone().unwrap());

        let mut altered = stored();
        let text = String::from_utf8(altered.texts.remove(&3).unwrap()).unwrap();
        altered
            .texts
            .insert(3, text.replace("good", "dull").into_bytes());
        assert_eq!(bad(&altered).0, 3);
        assert!(
            bad(&altered).1.contains("was altered"),
            "{:?}",
            bad(&altered)
        );

        let mut fewer = stored();
        fewer.texts.remove(&2);
        assert_eq!(
            bad(&fewer),
            (2, "is missing, but the server has seen it".to_owned())
        );
        fewer.head = None;
        assert_eq!(bad(&fewer), (2, "is missing".to_owned()));

        let mut moved = stored();
        let (two, three) = (moved.texts[&2].clone(), moved.texts[&3].clone());
        moved.texts.extend([(2, three), (3, two)]);
        assert_eq!(bad(&moved).0, 2);
        assert!(bad(&moved).1.contains("renamed"), "{:?}", bad(&moved));

        let mut cut = stored();
        cut.texts.remove(&5);
        assert_eq!(bad(&cut).0, 5, "the server has seen the last entry");

        let mut replaced = stored();
        replaced.texts = stored().texts; // Valid, with other ids and times.
        assert_eq!(bad(&replaced).0, 5);
        assert!(
            bad(&replaced).1.contains("replaced"),
            "{:?}",
            bad(&replaced)
        );
    }

    #[test]
    fn a_bad_entry_hides_no_other_from_the_list() {
        let mut stored = stored();
        stored.texts.remove(&2);
        stored.texts.insert(3, b"{".to_vec());
        stored.texts.remove(&5);
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
