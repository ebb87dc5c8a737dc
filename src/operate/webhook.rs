//! Webhook: tells a chat, or whatever listens there, of each decision that this process wrote. It delays none of them.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use ureq::Agent;

use crate::{
    config::WebhookUrl,
    journal::entry::{Action, Entry, VersionRef},
    metrics::Metrics,
};

/// Decisions that may wait to be told.
const QUEUE: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Before the second try and the third, the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long the end of the server waits for what is still to be told.
const LAST_WAIT: Duration = Duration::from_secs(2);

pub struct Webhook {
    /// `None`: it is over.
    queue: Option<SyncSender<Entry>>,
    ended: Mutex<Receiver<()>>,
    metrics: Metrics,
}

impl Webhook {
    /// `None` where no URL is set.
    pub fn start(url: &WebhookUrl, metrics: &Metrics) -> io::Result<Option<Webhook>> {
        let Some(address) = url.as_str() else {
            return Ok(None);
        };
        let (queue, decisions) = mpsc::sync_channel(QUEUE);
        let (end, ended) = mpsc::channel();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // What is meant for one place goes nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("predictd/", env!("CARGO_PKG_VERSION")));
        let teller = Teller {
            agent: config.build().new_agent(),
            url: address.to_owned(),
            host: url.host().to_owned(),
            metrics: metrics.clone(),
        };
        let run = move || {
            for entry in decisions {
                teller.tell(&entry);
            }
            drop(end);
        };
        thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(run)?;
        Ok(Some(Webhook {
            queue: Some(queue),
            ended: Mutex::new(ended),
            metrics: metrics.clone(),
        }))
    }

    pub fn tell(&self, entry: &Entry) {
        if self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(entry.clone()).is_err())
        {
            self.metrics.webhook_failures.inc();
            tracing::error!(model = %entry.model, seq = entry.seq, "the webhook is not told of a decision: too many wait");
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.queue = None;
        let _ = self
            .ended
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(LAST_WAIT);
    }
}

/// What the thread needs.
struct Teller {
    agent: Agent,
    /// Where chats are told something the whole URL is the secret.
    url: String,
    host: String,
    metrics: Metrics,
}

impl Teller {
    fn tell(&self, entry: &Entry) {
        let body = message(entry).to_string();
        let mut outcome = self.post(&body);
        for pause in PAUSES {
            let Err(reason) = &outcome else { break };
            tracing::info!(host = self.host, model = %entry.model, seq = entry.seq, reason, "the webhook is tried again");
            thread::park_timeout(pause);
            outcome = self.post(&body);
        }
        if let Err(reason) = outcome {
            self.metrics.webhook_failures.inc();
            tracing::error!(host = self.host, model = %entry.model, seq = entry.seq, reason, "the webhook was not told of a decision");
        }
    }

    fn post(&self, body: &str) -> Result<(), String> {
        let answer = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .send(body)
            .map_err(|error| match error {
                // These name the URL.
                ureq::Error::BadUri(_)
                | ureq::Error::Http(_)
                | ureq::Error::RequireHttpsOnly(_) => "the URL can't be used".to_owned(),
                error => error.to_string(),
            })?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("it answers {}", answer.status().as_u16()))
        }
    }
}

fn message(entry: &Entry) -> Value {
    json!({
        "model": entry.model,
        "action": entry.action,
        "seq": entry.seq,
        "at": entry.at,
        "actor": entry.actor,
        "from": entry.from,
        "to": entry.to,
        "strategy": entry.strategy,
        "reason": entry.reason,
        "text": text(entry),
    })
}

/// One line for a person: what chats show.
fn text(entry: &Entry) -> String {
    let version = |named: &Option<VersionRef>| {
        named
            .as_ref()
            .map_or("nothing", |named| named.version.as_str())
            .to_owned()
    };
    let (from, to) = (version(&entry.from), version(&entry.to));
    let plan = entry
        .strategy
        .as_ref()
        .map(|plan| format!(" by plan {plan}"))
        .unwrap_or_default();
    let what = match entry.action {
        Action::Adopt => format!("{to} is the first stable version"),
        Action::Start => format!(
            "a rollout of {} beside {from}{plan} begins",
            candidates(entry).unwrap_or(to)
        ),
        Action::Approve => format!("the rollout of {to} is approved"),
        Action::Advance => format!("the rollout of {to} goes on to its next step"),
        Action::Pause => format!("the rollout of {to} is paused"),
        Action::Resume => format!("the rollout of {to} goes on"),
        Action::Promote => format!("{to} is the stable version now, after {from}"),
        Action::Abort => format!("the rollout of {to} is aborted; {from} answers everybody"),
        Action::Rollback => format!("rolled back from {from} to {to}"),
        Action::Repair => {
            format!("the damaged end of its journal was set aside; {to} answers everybody")
        }
    };
    let reason = entry
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    format!(
        "{}: {what}, by {}{reason} (entry {})",
        entry.model, entry.actor, entry.seq
    )
}

/// All of them, where a rollout has several.
fn candidates(entry: &Entry) -> Option<String> {
    let candidates = entry.details.as_ref()?.get("candidates")?.as_array()?;
    let versions: Vec<&str> = candidates
        .iter()
        .filter_map(|named| named.get("version")?.as_str())
        .collect();
    (!versions.is_empty()).then(|| versions.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        journal::{chain::tests::entry, entry::Action},
        operate::webhook::{message, text},
    };

    #[test]
    fn a_line_says_who_did_what_and_why() {
        let of = |action| text(&entry(action));
        assert_eq!(
            of(Action::Rollback),
            "churn: rolled back from 1.0.0 to 1.1.0, by alice: better (entry 0)"
        );
        assert_eq!(
            of(Action::Abort),
            "churn: the rollout of 1.1.0 is aborted; 1.0.0 answers everybody, by alice: better (entry 0)"
        );
        let mut start = entry(Action::Start);
        start.details = Some(json!({"candidates": [{"version": "1.1.0"}, {"version": "2.0.0"}]}));
        start.strategy = Some("ab".to_owned());
        start.reason = None;
        assert_eq!(
            text(&start),
            "churn: a rollout of 1.1.0, 2.0.0 beside 1.0.0 by plan ab begins, by alice (entry 0)"
        );
    }

    #[test]
    fn programs_get_its_members() {
        let message = message(&entry(Action::Promote));
        let names: Vec<&String> = message.as_object().unwrap().keys().collect();
        assert_eq!(
            names,
            [
                "model", "action", "seq", "at", "actor", "from", "to", "strategy", "reason", "text"
            ]
        );
        assert_eq!(
            (&message["action"], &message["to"]["version"]),
            (&json!("promote"), &json!("1.1.0"))
        );
    }
}
