//! `GET /admin/models` and `GET /admin/models/{name}`: what is decided about a model, and whether
//! that works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    actor::Actor,
    admin::{nullable, refusal::Suggestion, rollout::RolloutStatus},
    journal::entry::{Action, VersionRef},
    rollout::state::DecisionRecord,
};

/// Every model that has a journal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelStatuses {
    pub models: Vec<ModelStatus>,
}

/// The state of one model. Also the answer to every order that was carried out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelStatus {
    /// The name of the model.
    pub model: String,
    /// The number of the last journal entry.
    pub seq: u64,
    /// The version that the journal names as stable.
    #[serde(deserialize_with = "nullable")]
    pub stable: Option<VersionRef>,
    /// The version that answers requests without a version.
    #[serde(deserialize_with = "nullable")]
    pub answers: Option<String>,
    /// The reason why no version answers.
    #[serde(deserialize_with = "nullable")]
    pub not_answering: Option<String>,
    /// Every decision that is in force is also written in the journal.
    pub written: bool,
    /// Decisions that are in force on this server only, because the state can't be written.
    pub pending: Vec<PendingDecision>,
    /// The version that a rollback would restore.
    #[serde(deserialize_with = "nullable")]
    pub previous: Option<VersionRef>,
    pub rollback: RollbackReadiness,
    /// The reason why no decision can be written.
    #[serde(deserialize_with = "nullable")]
    pub trouble: Option<String>,
    /// What an operator can do about the trouble.
    #[serde(deserialize_with = "nullable")]
    pub suggestion: Option<Suggestion>,
    /// Despite the trouble, a rollback or an abort is accepted.
    pub only_urgent: bool,
    /// The last decision.
    #[serde(deserialize_with = "nullable")]
    pub last: Option<Decision>,
    /// The rollout in progress.
    #[serde(deserialize_with = "nullable")]
    pub rollout: Option<RolloutStatus>,
}

/// A decision that is in force and not yet written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PendingDecision {
    pub action: Action,
    #[serde(deserialize_with = "nullable")]
    pub to: Option<VersionRef>,
    /// RFC 3339, UTC.
    pub at: String,
    pub actor: Actor,
    #[serde(deserialize_with = "nullable")]
    pub reason: Option<String>,
}

/// The result of the last rehearsal of a rollback.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RollbackReadiness {
    /// A rollback would work.
    pub ready: bool,
    /// The reason why it would not; empty if it was not rehearsed yet.
    pub reason: String,
}

/// A decision as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Decision {
    /// The number of its journal entry.
    pub seq: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub actor: Actor,
    pub action: Action,
    #[serde(deserialize_with = "nullable")]
    pub from: Option<VersionRef>,
    #[serde(deserialize_with = "nullable")]
    pub to: Option<VersionRef>,
    #[serde(deserialize_with = "nullable")]
    pub reason: Option<String>,
}

impl From<DecisionRecord> for Decision {
    fn from(decided: DecisionRecord) -> Decision {
        let DecisionRecord {
            seq,
            at,
            actor,
            action,
            from,
            to,
            reason,
        } = decided;
        Decision {
            seq,
            at,
            actor,
            action,
            from,
            to,
            reason,
        }
    }
}
