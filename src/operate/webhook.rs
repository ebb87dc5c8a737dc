//! Webhook: tells others of decisions, where a URL is configured. Beside `cli::client` the only file that names `ureq`.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use ureq::Agent;

use crate::{journal::entry::Entry, metrics::Metrics};

/// Decisions that wait to be told; more are dropped and counted.
const CAPACITY: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The door to the thread that tells; it ends when the door is dropped.
pub struct Webhook {
    entries: SyncSender<Value>,
    metrics: Metrics,
}

impl Webhook {
    pub fn start(url: String, metrics: Metrics) -> std::io::Result<Webhook> {
        let (entries, inbox) = sync_channel(CAPACITY);
        let counted = metrics.clone();
        thread::Builder::new().name("webhook".to_owned()).spawn(move || work(&url, &inbox, &counted))?;
        Ok(Webhook { entries, metrics })
    }

    /// Never waits.
    pub fn tell(&self, entry: &Entry) {
        if self.entries.try_send(message(entry)).is_err() {
            self.metrics.webhook_failures.inc();
        }
    }
}

fn message(entry: &Entry) -> Value {
    let version = |named: &Option<crate::journal::entry::VersionRef>| named.as_ref().map(|named| named.version.clone());
    let (from, to) = (version(&entry.from), version(&entry.to));
    let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let versions: Vec<&str> = from.iter().chain(&to).map(String::as_str).collect();
    // `text` is what chat tools show.
    let text = format!("{}: {} {} by {}{reason}", entry.model, entry.action.name(), versions.join(" -> "), entry.actor);
    json!({
        "model": entry.model, "action": entry.action, "seq": entry.seq, "at": entry.at, "actor": entry.actor,
        "from": from, "to": to, "strategy": entry.strategy, "reason": entry.reason, "text": text,
    })
}

fn work(url: &str, inbox: &Receiver<Value>, metrics: &Metrics) {
    let config = Agent::config_builder().timeout_global(Some(TIMEOUT)).max_redirects(0).http_status_as_error(true);
    let agent = config.user_agent(concat!("predictd/", env!("CARGO_PKG_VERSION"))).build().new_agent();
    for message in inbox {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            let sent = agent.post(url).content_type("application/json").send(message.to_string());
            // The error's text is not told: it may hold the URL, and with it a secret.
            let Err(error) = sent else { break };
            let kind = match error {
                ureq::Error::StatusCode(status) => format!("it answered {status}"),
                ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
                ureq::Error::Io(error) => error.kind().to_string(),
                _ => "it could not be asked".to_owned(),
            };
            tracing::warn!(attempt, of = TRIES, error = kind, "the webhook was not told of a decision");
            if attempt == TRIES {
                metrics.webhook_failures.inc();
            } else {
                thread::park_timeout(pause);
                pause *= 4;
            }
        }
    }
}
