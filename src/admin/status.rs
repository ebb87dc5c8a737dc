//! `GET /admin/models` and `GET /admin/models/{name}`: the decisions about a model, and whether
//! they took effect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    actor::Actor,
    admin::{error_document::Suggestion, nullable, rollout::RolloutStatus},
    journal::entry::{Action, VersionRef},
    rollout::state::DecisionRecord,
};

/// The status of every model that has a journal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelStatuses {
    pub models: Vec<ModelStatus>,
}

/// The status of one model. It is also the answer to every order that was carried out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ModelStatus {
    /// The name of the model.
    pub model: String,
    /// The number of the last journal entry.
    pub seq: u64,
    /// The stable version according to the journal. null if there is none.
    #[serde(deserialize_with = "nullable")]
    pub stable: Option<VersionRef>,
    /// The version that answers requests that name no version. null if no version answers.
    #[serde(deserialize_with = "nullable")]
    pub answers: Option<String>,
    /// The reason why no version answers. null if a version answers.
    #[serde(deserialize_with = "nullable")]
    pub not_answering: Option<String>,
    /// Whether every decision that applies is written in the journal.
    pub written: bool,
    /// Decisions that apply on this server only, because the state directory can't be written.
    pub pending: Vec<PendingDecision>,
    /// The version that a rollback would restore. null if there is none.
    #[serde(deserialize_with = "nullable")]
    pub previous: Option<VersionRef>,
    pub rollback: RollbackReadiness,
    /// The problem that prevents new decisions. null if there is none.
    #[serde(deserialize_with = "nullable")]
    pub trouble: Option<String>,
    /// The action that an operator can take about the problem. null if there is no suggestion.
    #[serde(deserialize_with = "nullable")]
    pub suggestion: Option<Suggestion>,
    /// Whether only a rollback or an abort is accepted because of the problem.
    pub only_urgent: bool,
    /// The last decision. null if there is none.
    #[serde(deserialize_with = "nullable")]
    pub last: Option<Decision>,
    /// The rollout in progress. null if there is none.
    #[serde(deserialize_with = "nullable")]
    pub rollout: Option<RolloutStatus>,
}

/// A decision that applies but is not written yet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PendingDecision {
    pub action: Action,
    #[serde(deserialize_with = "nullable")]
    pub to: Option<VersionRef>,
    /// The time of the decision (RFC 3339, UTC).
    pub at: String,
    pub actor: Actor,
    #[serde(deserialize_with = "nullable")]
    pub reason: Option<String>,
}

/// The result of the last rehearsal of a rollback.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RollbackReadiness {
    /// Whether a rollback would work.
    pub ready: bool,
    /// The reason why a rollback would not work. Empty if no rollback was rehearsed yet.
    pub reason: String,
}

/// A decision from the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Decision {
    /// The number of its journal entry.
    pub seq: u64,
    /// The time of the decision (RFC 3339, UTC).
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
