//! Watches rollouts until they end. The exit code is 1 if one of them was not promoted.

use std::{
    collections::BTreeMap,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::{
    admin::status::ModelStatus,
    cli::{
        CommandOutcome,
        client::{Answer, Client, ClientError},
        paint::{Paint, is_terminal},
        rollout::{path, status_text::fingerprint, statuses, text},
        stored_journal,
    },
    error::text_with_sources,
    id::ModelName,
    journal::entry::{Action, Entry},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for which the server may be unreachable. A restart takes less.
const MAX_ABSENCE: Duration = Duration::from_secs(60);

/// The decisions that end a rollout.
const ENDS: [Action; 4] = [
    Action::Abort,
    Action::Promote,
    Action::Rollback,
    Action::Repair,
];

/// The watched rollouts: for each model, the rollout's id and the last entry at which the rollout
/// was running.
type WatchedRollouts = BTreeMap<String, (String, u64)>;

pub(super) fn run(
    client: &Client,
    model: Option<&ModelName>,
    json: bool,
) -> anyhow::Result<CommandOutcome> {
    let mut screen = Screen {
        terminal: is_terminal() && !json,
        json,
        shown: None,
    };
    let mut watched: Option<WatchedRollouts> = None;
    let mut outcome = CommandOutcome::Done;
    let mut unreachable_since: Option<Instant> = None;
    loop {
        let answer = match client.get(&path(model)) {
            Ok(answer) => answer,
            // The command waits for a server that restarts. However, the first request must be
            // answered.
            Err(error) if watched.is_some() && error.is_transient() => {
                wait_for_server(&mut unreachable_since, error)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        unreachable_since = None;
        let models = statuses(&answer, model)?;
        screen.show(&answer, &models)?;
        let watched = match &mut watched {
            Some(watched) => watched,
            None => {
                let now: WatchedRollouts = models.iter().filter_map(running).collect();
                // If no rollout is in progress, the operator may mean the last one.
                if let (true, Some(model)) = (now.is_empty(), model) {
                    return Ok(last_end(client, model, json)?);
                }
                watched.insert(now)
            }
        };
        if report_ends(client, &models, watched, json)? == CommandOutcome::Failed {
            outcome = CommandOutcome::Failed;
        }
        if watched.is_empty() {
            return Ok(outcome);
        }
        thread::park_timeout(INTERVAL);
    }
}

/// Waits before the next attempt. Returns the error if the server is unreachable for too long.
fn wait_for_server(since: &mut Option<Instant>, error: ClientError) -> Result<(), ClientError> {
    if since.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "predictd: {}\n  retrying for {} s",
            error.append_next_step(text_with_sources(&error)),
            MAX_ABSENCE.as_secs()
        );
    }
    if since.get_or_insert_with(Instant::now).elapsed() > MAX_ABSENCE {
        return Err(error);
    }
    thread::park_timeout(INTERVAL);
    Ok(())
}

fn running(status: &ModelStatus) -> Option<(String, (String, u64))> {
    let rollout = status.rollout.as_ref()?;
    Some((status.model.clone(), (rollout.id.clone(), status.seq)))
}

/// Reports the rollouts that ended since the last poll, and stops watching them.
fn report_ends(
    client: &Client,
    models: &[ModelStatus],
    watched: &mut WatchedRollouts,
    json: bool,
) -> Result<CommandOutcome, ClientError> {
    let mut outcome = CommandOutcome::Done;
    for status in models {
        let Some((id, seq)) = watched.get_mut(&status.model) else {
            continue;
        };
        let rollout = status.rollout.as_ref();
        if rollout.is_some_and(|rollout| rollout.id == *id) {
            *seq = status.seq;
            continue;
        }
        if end(client, status, *seq, json)? == CommandOutcome::Failed {
            outcome = CommandOutcome::Failed;
        }
        watched.remove(&status.model);
    }
    Ok(outcome)
}

/// The output. It prints a status only if the status changed.
struct Screen {
    terminal: bool,
    json: bool,
    shown: Option<String>,
}

impl Screen {
    fn show(&mut self, answer: &Answer, models: &[ModelStatus]) -> serde_json::Result<()> {
        if self.terminal {
            redraw(&text(models, Paint::stdout()));
            return Ok(());
        }
        let fingerprint: String = models.iter().map(fingerprint).collect();
        if self.shown.as_ref() == Some(&fingerprint) {
            return Ok(());
        }
        if self.json {
            say!("{}", serde_json::to_string(answer.value())?);
        } else {
            let gap = if self.shown.is_none() { "" } else { "\n" };
            say!("{gap}{}", text(models, Paint::OFF));
        }
        self.shown = Some(fingerprint);
        Ok(())
    }
}

/// Overwrites the screen line by line. Clearing the screen first would flicker.
fn redraw(text: &str) {
    let mut screen = String::from("\x1b[H");
    for line in text.lines() {
        screen.push_str(line);
        screen.push_str("\x1b[K\n");
    }
    say!("{screen}\x1b[J");
}

/// Reports the end of a rollout that was running at entry `seq`. The first entry after `seq` that
/// ends a rollout is its end.
fn end(
    client: &Client,
    status: &ModelStatus,
    seq: u64,
    json: bool,
) -> Result<CommandOutcome, ClientError> {
    let journal = stored_journal::fetch(client, &status.model, seq + 1)?;
    if let Some(entry) = journal.entries().find(|entry| ENDS.contains(&entry.action)) {
        return Ok(report(&entry, json));
    }
    if !json {
        // A rollback or an abort takes effect before it is written.
        let last = status.last.as_ref();
        let how = last
            .map(|last| {
                let (action, actor) = (last.action.name(), &last.actor);
                format!(": {action} by {actor}, not written yet")
            })
            .filter(|_| !status.written);
        say!(
            "\nthe rollout ended{}",
            how.unwrap_or_else(|| ", and the journal does not show how".to_owned())
        );
    }
    Ok(CommandOutcome::Failed)
}

/// Reports the end of the model's last rollout, if there was one.
fn last_end(client: &Client, model: &ModelName, json: bool) -> Result<CommandOutcome, ClientError> {
    let journal = stored_journal::fetch(client, model.as_str(), 1)?;
    let mut ended = None;
    let mut running = false;
    for entry in journal.entries() {
        running |= entry.action == Action::Start;
        if running && ENDS.contains(&entry.action) {
            running = false;
            ended = Some(entry);
        }
    }
    if ended.is_none() && !json {
        say!("\nthere is no rollout to watch");
    }
    Ok(ended.map_or(CommandOutcome::Done, |entry| report(&entry, json)))
}

/// Reports the entry that ended a rollout. The outcome is `Done` only for a promotion.
fn report(entry: &Entry, json: bool) -> CommandOutcome {
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
        CommandOutcome::Done
    } else {
        CommandOutcome::Failed
    }
}
