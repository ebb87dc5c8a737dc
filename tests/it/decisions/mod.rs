//! Decisions survive: servers that are killed at any moment, and several replicas on one state.

use serde_json::Value;

use crate::harness::{Deployment, ServerClient};

mod kill;
mod replicas;

const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "1.2.0"];

/// A plan that the judge advances from the first step to the second, which lasts until an operator
/// decides.
const PLAN: &str = "name = \"quick\"\nalpha = 0.4\n[guards]\nerror_margin = 0.9\nnan_margin = 0.9\n\
                    run_margin = 0.9\nengine_time_margin = 0.99\ncost_margin = 0.99\n\
                    error_ceiling = 0.99\n[[steps]]\nkind = \"canary\"\nweight = 0.4\n\
                    min_requests = 2\n[[steps]]\nkind = \"canary\"\nweight = 0.5\nhold = true\n";

/// All versions of churn, loaded at once.
fn deployment() -> Deployment {
    Deployment::new(&VERSIONS.map(|version| ("churn", version))).with("models.keep_versions", "3")
}

/// A journal entry, as far as the reference knows it.
#[derive(Debug)]
struct Entry {
    seq: u64,
    action: String,
    to: String,
    actor: String,
}

fn entries(server: &ServerClient) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |entry: &Value| Entry {
        seq: entry["seq"].as_u64().unwrap(),
        action: text(&entry["action"]),
        to: text(&entry["to"]["version"]),
        actor: text(&entry["actor"]),
    };
    server.history("churn").iter().map(read).collect()
}

/// The state that the entries of a journal add up to.
#[derive(Default)]
struct Reference {
    stable: String,
    /// The earlier stable versions to which rollbacks lead, the latest last.
    former: Vec<String>,
    candidate: Option<String>,
}

impl Reference {
    fn of(entries: &[Entry]) -> Reference {
        let mut state = Reference::default();
        entries.iter().for_each(|entry| state.apply(entry));
        state
    }

    fn apply(&mut self, entry: &Entry) {
        let to = &entry.to;
        match entry.action.as_str() {
            "adopt" => self.stable.clone_from(to),
            "start" => self.candidate = Some(to.clone()),
            "promote" => {
                self.former
                    .push(std::mem::replace(&mut self.stable, to.clone()));
                self.candidate = None;
            }
            "abort" => self.candidate = None,
            // A rollback during a rollout to the stable version only ends the rollout.
            "rollback" if self.candidate.take().is_some() && *to == self.stable => {}
            "rollback" => {
                match self.former.iter().rposition(|version| version == to) {
                    Some(at) => self.former.truncate(at),
                    None => self.former.push(self.stable.clone()),
                }
                self.stable.clone_from(to);
            }
            _ => {}
        }
    }
}
