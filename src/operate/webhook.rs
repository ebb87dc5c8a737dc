//! Webhook: posts each decision that this process makes to a URL, usually the URL of a chat. It
//! never delays a decision.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use serde::Serialize;
use ureq::Agent;

use crate::{
    actor::Actor,
    config::WebhookUrl,
    document,
    error::text_with_sources,
    journal::entry::{Action, Entry, VersionRef},
    metrics::Metrics,
    rollout::state::StartDetails,
};

/// Maximum number of decisions in the queue. Further decisions are dropped and counted.
const QUEUE: usize = 256;
/// The timeout of one attempt. A chat that takes longer is counted as unreachable.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pauses before the second and the third attempt. There is no fourth attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long a shutdown waits until the queued decisions are posted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Webhook {
    /// `None` once the shutdown began. The thread ends when the queue is closed.
    queue: Option<SyncSender<Entry>>,
    ended: Mutex<Receiver<()>>,
    metrics: Metrics,
}

impl Webhook {
    /// Starts the thread that posts decisions. Returns `None` if no URL is configured.
    pub(crate) fn start(url: &WebhookUrl, metrics: &Metrics) -> io::Result<Option<Webhook>> {
        let Some(address) = url.as_str() else {
            return Ok(None);
        };
        let (queue, decisions) = mpsc::sync_channel(QUEUE);
        let (end, ended) = mpsc::channel();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect must not send decisions to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("predictd/", env!("CARGO_PKG_VERSION")));
        let poster = Poster {
            agent: config.build().new_agent(),
            url: address.to_owned(),
            host: url.host().to_owned(),
            metrics: metrics.clone(),
        };
        let run = move || {
            for entry in decisions {
                poster.deliver(&entry);
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

    /// Queues a decision. Never waits.
    pub(crate) fn notify(&self, entry: &Entry) {
        if self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(entry.clone()).is_err())
        {
            self.metrics.rollouts.webhook_failures.inc();
            tracing::error!(
                model = %entry.model,
                seq = entry.seq,
                "a decision is not posted to the webhook: its queue is full"
            );
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
            .recv_timeout(DRAIN_TIMEOUT);
    }
}

/// Posts decisions, on its own thread.
struct Poster {
    agent: Agent,
    /// The URL. It is a secret: everyone who knows the URL of a chat's webhook can post to it.
    url: String,
    host: String,
    metrics: Metrics,
}

impl Poster {
    fn deliver(&self, entry: &Entry) {
        let body = serde_json::to_string(&WebhookMessage::of(entry)).unwrap_or_default();
        let mut outcome = self.post(&body);
        for pause in PAUSES {
            let Err(error) = &outcome else { break };
            tracing::info!(
                host = self.host,
                model = %entry.model,
                seq = entry.seq,
                error = %text_with_sources(error),
                "posting to the webhook failed; it will be tried again"
            );
            thread::park_timeout(pause);
            outcome = self.post(&body);
        }
        if let Err(error) = outcome {
            self.metrics.rollouts.webhook_failures.inc();
            tracing::error!(
                host = self.host,
                model = %entry.model,
                seq = entry.seq,
                error = %text_with_sources(&error),
                "a decision could not be posted to the webhook"
            );
        }
    }

    fn post(&self, body: &str) -> Result<(), PostError> {
        let answer = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .send(body)
            .map_err(|error| match error {
                // These errors contain the URL, which is a secret, so their text is not used.
                ureq::Error::BadUri(_)
                | ureq::Error::Http(_)
                | ureq::Error::RequireHttpsOnly(_) => PostError::Url,
                error => PostError::Transport(error),
            })?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(PostError::Status(answer.status().as_u16()))
        }
    }
}

/// The reason why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("the URL can't be used")]
    Url,
    #[error(transparent)]
    Transport(ureq::Error),
    #[error("the webhook answered with status {0}")]
    Status(u16),
}

/// The body that is posted. Programs read the members, and a chat shows `text`.
#[derive(Serialize)]
struct WebhookMessage<'a> {
    model: &'a str,
    action: Action,
    seq: u64,
    at: &'a str,
    actor: &'a Actor,
    from: Option<&'a VersionRef>,
    to: Option<&'a VersionRef>,
    strategy: Option<&'a str>,
    reason: Option<&'a str>,
    text: String,
}

impl WebhookMessage<'_> {
    fn of(entry: &Entry) -> WebhookMessage<'_> {
        WebhookMessage {
            model: &entry.model,
            action: entry.action,
            seq: entry.seq,
            at: &entry.at,
            actor: &entry.actor,
            from: entry.from.as_ref(),
            to: entry.to.as_ref(),
            strategy: entry.strategy.as_deref(),
            reason: entry.reason.as_deref(),
            text: text(entry),
        }
    }
}

/// The line of text that the chat shows.
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
            "a rollout from {from} to {}{plan} begins",
            candidates(entry).unwrap_or(to)
        ),
        Action::Approve => format!("the rollout of {to} is approved"),
        Action::Advance => format!("the rollout of {to} advances to its next step"),
        Action::Pause => format!("the rollout of {to} is paused"),
        Action::Resume => format!("the rollout of {to} is resumed"),
        Action::Promote => format!("{to} replaces {from} as the stable version"),
        Action::Abort => format!("the rollout of {to} is aborted; {from} answers all requests"),
        Action::Rollback => format!("rolled back from {from} to {to}"),
        Action::Repair => {
            format!("the damaged end of the journal was moved aside; {to} answers all requests")
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

/// All candidates of a rollout that starts.
fn candidates(entry: &Entry) -> Option<String> {
    let details: StartDetails = document::read(entry.details.as_ref()?).ok()?;
    let versions = details
        .candidates
        .iter()
        .map(|named| named.version.as_str());
    let versions: Vec<&str> = versions.collect();
    (!versions.is_empty()).then(|| versions.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        journal::{
            chain::tests::entry,
            entry::{Action, VersionRef},
        },
        operate::webhook::{WebhookMessage, text},
        rollout::{
            plan::RolloutPlan,
            state::{StartDetails, Thresholds},
        },
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
            "churn: the rollout of 1.1.0 is aborted; 1.0.0 answers all requests, by alice: better (entry 0)"
        );
        let mut start = entry(Action::Start);
        let candidate = |version: &str| VersionRef {
            version: version.to_owned(),
            digest: format!("sha256:{}", "0".repeat(64)),
        };
        let details = StartDetails {
            plan: RolloutPlan::builtin("ab").unwrap(),
            candidates: ["1.1.0", "2.0.0"].map(candidate).to_vec(),
            forward_only: false,
            accepted: Vec::new(),
            thresholds: Thresholds::default(),
        };
        start.details = Some(serde_json::to_value(details).unwrap());
        start.strategy = Some("ab".to_owned());
        start.reason = None;
        assert_eq!(
            text(&start),
            "churn: a rollout from 1.0.0 to 1.1.0, 2.0.0 by plan ab begins, by alice (entry 0)"
        );
    }

    #[test]
    fn programs_get_the_members_of_the_document() {
        let message = serde_json::to_value(WebhookMessage::of(&entry(Action::Promote))).unwrap();
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
