//! Watch: shows a rollout until it ends, and tells by the exit code how it ended.

use std::{
    collections::BTreeMap,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cli::{
        Outcome,
        client::{Client, ClientError},
        history,
        paint::{Paint, is_terminal},
        rollout::{path, status::Status, statuses, text},
    },
    id::ModelName,
    journal::entry::{Action, Entry},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a server may be away, for a restart.
const ABSENCE: Duration = Duration::from_secs(60);

/// What ends the rollout that runs.
const ENDS: [Action; 4] = [
    Action::Abort,
    Action::Promote,
    Action::Rollback,
    Action::Repair,
];

/// The rollouts that are watched: by model, the id of each and the last entry under which it ran.
type Running = BTreeMap<String, (String, u64)>;

pub fn run(client: &Client, model: Option<&ModelName>, json: bool) -> anyhow::Result<Outcome> {
    let terminal = is_terminal() && !json;
    let paint = Paint::stdout();
    let mut shown = String::new();
    let mut running: Option<Running> = None;
    let mut outcome = Outcome::Done;
    let mut away: Option<Instant> = None;
    loop {
        let document = match client.get(&path(model)) {
            Ok(document) => document,
            // The first question must be answered.
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Silent { .. }))
                if running.is_some() =>
            {
                if away.is_none() {
                    let _ = writeln!(
                        std::io::stderr(),
                        "predictd: {error}\n  it is asked again for {} s",
                        ABSENCE.as_secs()
                    );
                }
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > ABSENCE {
                    return Err(error.into());
                }
                thread::park_timeout(INTERVAL);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        away = None;
        let models = statuses(document.clone())?;
        if terminal {
            redraw(&text(&models, paint));
        } else {
            let gist: Vec<String> = models.iter().map(Status::gist).collect();
            if gist.concat() != shown {
                show(&document, &models, json, shown.is_empty())?;
                shown = gist.concat();
            }
        }
        let watched = match &mut running {
            Some(watched) => watched,
            None => {
                let now: Running = models.iter().filter_map(of).collect();
                // Asked too late: the last one may be what is meant.
                if let (true, Some(model)) = (now.is_empty(), model) {
                    return Ok(last_end(client, model, json)?);
                }
                running.insert(now)
            }
        };
        for status in &models {
            let Some((id, seq)) = watched.get_mut(&status.model) else {
                continue;
            };
            if status
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.id == *id)
            {
                *seq = status.seq;
                continue;
            }
            if end(client, status, *seq, json)? == Outcome::Failed {
                outcome = Outcome::Failed;
            }
            watched.remove(&status.model);
        }
        if watched.is_empty() {
            return Ok(outcome);
        }
        thread::park_timeout(INTERVAL);
    }
}

fn of(status: &Status) -> Option<(String, (String, u64))> {
    Some((
        status.model.clone(),
        (status.rollout.as_ref()?.id.clone(), status.seq),
    ))
}

fn show(document: &Value, models: &[Status], json: bool, first: bool) -> serde_json::Result<()> {
    if json {
        say!("{}", serde_json::to_string(document)?);
    } else {
        say!(
            "{}{}",
            if first { "" } else { "\n" },
            text(models, Paint::OFF)
        );
    }
    Ok(())
}

/// Over what stood there before, line by line: a screen that is cleared first flickers.
fn redraw(text: &str) {
    let mut screen = String::from("\x1b[H");
    for line in text.lines() {
        screen.push_str(line);
        screen.push_str("\x1b[K\n");
    }
    say!("{screen}\x1b[J");
}

/// How a rollout ended that still ran under entry `seq`: by the first decision after that which ends one.
fn end(client: &Client, status: &Status, seq: u64, json: bool) -> Result<Outcome, ClientError> {
    let journal = history::fetch(client, &status.model, seq + 1)?;
    if let Some(entry) = journal.entries().find(|entry| ENDS.contains(&entry.action)) {
        return Ok(tell(&entry, json));
    }
    if !json {
        // A rollback or an abort is in force before it is written.
        let last = status.last.as_ref();
        let how = last
            .map(|last| format!(": {} by {}, not written yet", last.action, last.actor))
            .filter(|_| !status.is_written());
        say!(
            "\nthe rollout ended{}",
            how.unwrap_or_else(|| ", and the journal does not show how".to_owned())
        );
    }
    Ok(Outcome::Failed)
}

/// How the last rollout of a model ended, if there was one.
fn last_end(client: &Client, model: &ModelName, json: bool) -> Result<Outcome, ClientError> {
    let journal = history::fetch(client, model.as_str(), 1)?;
    let mut ended = None;
    let mut running = false;
    for entry in journal.entries() {
        running |= entry.action.name() == "start";
        if running && ENDS.contains(&entry.action) {
            running = false;
            ended = Some(entry);
        }
    }
    if ended.is_none() && !json {
        say!("\nthere is no rollout to wait for");
    }
    Ok(ended.map_or(Outcome::Done, |entry| tell(&entry, json)))
}

/// Only a rollout that reached its end went well.
fn tell(entry: &Entry, json: bool) -> Outcome {
    let candidate = match entry.action {
        Action::Rollback => &entry.from,
        Action::Repair => &None,
        _ => &entry.to,
    };
    if !json {
        let of = candidate
            .as_ref()
            .map(|named| format!(" of {}", named.version))
            .unwrap_or_default();
        let reason = entry
            .reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        say!(
            "\nthe rollout{of} ended: {} by {} (entry {}){reason}",
            entry.action.name(),
            entry.actor,
            entry.seq
        );
    }
    if entry.action == Action::Promote {
        Outcome::Done
    } else {
        Outcome::Failed
    }
}
