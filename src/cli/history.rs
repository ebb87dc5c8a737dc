//! `predictd history`: who changed what, when and why; and whether anybody altered it since.

use std::{fmt::Write, path::PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        Outcome,
        client::{self, Client, ClientError, ServerArgs},
        paint::{Paint, Style, count, percent},
    },
    id::ModelName,
    journal::{
        Journal,
        chain::{self, Head},
        entry::Entry,
        store::Store,
    },
};

#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "MODEL", value_parser = client::model)]
    model: ModelName,
    /// Check that no entry was altered, left out or put elsewhere; exit 1 where one was
    #[arg(long)]
    verify: bool,
    /// The latest entries only
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true, conflicts_with = "verify")]
    limit: usize,
    /// Read the journal in this directory (state.url), without a server
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// For programs: the entries as they are stored
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The texts of a journal as they are stored, and where it is known to end.
pub struct Told {
    first: u64,
    /// `None`: there is no such entry, though later ones are.
    texts: Vec<Option<String>>,
    /// Where the server knows it to end; nobody knows that of a directory.
    head: Option<Head>,
}

impl Told {
    /// Those that can be read.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.texts.iter().flatten().filter_map(|text| serde_json::from_str(text).ok())
    }
}

/// A page of the server's.
#[derive(Deserialize)]
struct Page {
    entries: Vec<Option<String>>,
    truncated: bool,
    head: PageHead,
}

#[derive(Deserialize)]
struct PageHead {
    seq: u64,
    sha256: String,
}

/// Entries from `first` on, page by page.
pub fn fetch(client: &Client, model: &str, first: u64) -> Result<Told, ClientError> {
    let mut told = Told { first: first.max(1), texts: Vec::new(), head: None };
    loop {
        let from = told.first + told.texts.len() as u64;
        let document = client.get(&format!("/{model}/history?from={from}"))?;
        let page: Page = serde_json::from_value(document).map_err(|_| client.foreign(200))?;
        let empty = page.entries.is_empty();
        told.texts.extend(page.entries);
        told.head = Some(Head { seq: page.head.seq, sha256: page.head.sha256 });
        if !page.truncated || empty {
            return Ok(told);
        }
    }
}

/// The same from a directory; also what lies beyond a gap.
fn read(directory: &std::path::Path, model: &str) -> anyhow::Result<Told> {
    let journal = Journal::new(Store::local(directory.to_path_buf())?);
    let names = journal.beyond_gap(model, &Head::default()).with_context(|| format!("reading {}", directory.display()))?;
    let numbers = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
    let mut texts = Vec::new();
    for seq in 1..=numbers.max().unwrap_or_default() {
        texts.push(journal.text(model, seq)?.map(|text| String::from_utf8_lossy(&text).into_owned()));
    }
    anyhow::ensure!(!texts.is_empty(), "{} holds no journal of {model}", directory.display());
    Ok(Told { first: 1, texts, head: None })
}

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let name = args.model.as_str();
    let told = match &args.state {
        Some(directory) => read(directory, name)?,
        None => fetch(&Client::new(&args.server, Some(&args.model))?, name, 1)?,
    };
    if args.verify {
        return Ok(verify(name, &told, args.json));
    }
    let skipped = told.texts.len().saturating_sub(args.limit);
    let shown = || told.texts.iter().enumerate().skip(skipped).map(|(index, text)| (told.first + index as u64, text));
    if args.json {
        let entries: Vec<Value> = shown().map(|(_, text)| text.as_deref().map_or(Value::Null, as_json)).collect();
        say!("{}", serde_json::to_string_pretty(&json!({"model": name, "entries": entries}))?);
        return Ok(Outcome::Done);
    }
    let paint = Paint::stdout();
    if skipped > 0 {
        say!("{skipped} earlier entries are not shown");
    }
    for (seq, text) in shown() {
        match text.as_deref().map(serde_json::from_str::<Entry>) {
            Some(Ok(entry)) => say!("{}", print(&entry, paint).trim_end()),
            Some(Err(error)) => say!("{}", paint.paint(Style::Bad, &format!("{seq:>5}  can't be read: {error}"))),
            None => say!("{}", paint.paint(Style::Bad, &format!("{seq:>5}  is missing"))),
        }
    }
    Ok(Outcome::Done)
}

fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn verify(model: &str, told: &Told, json: bool) -> Outcome {
    let outcome = check(model, told);
    let entries = told.texts.len() as u64;
    match &outcome {
        Ok(head) if json => say!("{}", json!({"model": model, "ok": true, "entries": entries, "sha256": head.sha256})),
        Err(detail) if json => say!("{}", json!({"model": model, "ok": false, "entries": entries, "detail": detail})),
        Ok(head) => {
            let known = if told.head.is_some() { "" } else { "; whether later ones were taken away, only a running server knows" };
            say!("ok: {entries} entries of {model}, each follows from the one before; the last has the SHA-256 {}{known}", head.sha256);
        }
        Err(detail) => say!("FAILED: {detail}"),
    }
    if outcome.is_ok() { Outcome::Done } else { Outcome::Failed }
}

fn check(model: &str, told: &Told) -> Result<Head, String> {
    let mut head = Head::default();
    for text in &told.texts {
        let Some(text) = text else {
            return Err(format!("journal entry {} of {model}: is missing, though later ones are there", head.seq + 1));
        };
        chain::open(text.as_bytes(), model, &mut head).map_err(|error| error.to_string())?;
    }
    match &told.head {
        Some(known) if known.seq > head.seq => {
            Err(format!("journal entry {} of {model}: is missing; the server knows of {} entries", head.seq + 1, known.seq))
        }
        Some(known) if known.seq == head.seq && known.sha256 != head.sha256 => {
            Err(format!("journal entry {} of {model}: is not the one that the server knows: it was replaced", head.seq))
        }
        _ => Ok(head),
    }
}

/// `    4  2026-11-24 12:00:03  abort      1.0.0 -> 1.2.0  by judge, plan canary`, and why.
fn print(entry: &Entry, paint: Paint) -> String {
    let at = entry.at.get(..19).unwrap_or(&entry.at).replace('T', " ");
    let from = entry.from.as_ref().map(|from| format!("{} -> ", from.version)).unwrap_or_default();
    let to = entry.to.as_ref().map(|to| to.version.as_str()).unwrap_or_default();
    let plan = entry.strategy.as_ref().map(|plan| format!(", plan {plan}")).unwrap_or_default();
    let step = entry.details.as_ref().and_then(|details| details.get("step")?.as_u64());
    let step = step.map(|step| format!(", step {}", step + 1)).unwrap_or_default();
    let style = match entry.action.name() {
        "abort" | "rollback" => Style::Bad,
        "promote" | "adopt" => Style::Good,
        _ => Style::Bold,
    };
    let action = paint.paint(style, &format!("{:<9}", entry.action.name()));
    let mut text = format!("{:>5}  {at}  {action} {from}{to}  by {}{plan}{step}\n", entry.seq, entry.actor);
    // Writing to a String does not fail.
    if let Some(reason) = entry.reason.as_deref().filter(|reason| !reason.is_empty()) {
        let _ = writeln!(text, "       {reason}");
    }
    if let Some(arms) = entry.evidence.as_ref().and_then(|evidence| evidence.pointer("/totals/arms")?.as_object()) {
        let arms: Vec<String> = arms.iter().map(|(version, arm)| figures(version, arm)).collect();
        let _ = writeln!(text, "       {}", paint.paint(Style::Dim, &arms.join("; ")));
    }
    text
}

fn figures(version: &str, arm: &Value) -> String {
    let number = |name: &str| arm.get(name).and_then(Value::as_u64).unwrap_or_default();
    let failed: u64 = arm.get("errors").and_then(Value::as_object).into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let requests = number("requests");
    format!("{version}: {} requests, {} failed", count(requests), percent(failed as f64 / requests.max(1) as f64))
}
