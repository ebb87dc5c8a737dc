//! Suggestion: what an operator can do about a refusal or an outage. It is a value, and each front
//! end words it: the commands as a command line, the admin API as members of a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Suggestion {
    /// Name the candidate version of a rollout.
    NameCandidate,
    /// Give a reason with the order.
    GiveReason,
    /// Start the rollout all the same, with a reason: a rollback would break callers that adopt
    /// what is new.
    AllowForwardOnly,
    /// Promote all the same, with a reason: a rollback would not work.
    PromoteWithoutWayBack,
    /// Abort the rollout in progress first.
    AbortRollout,
    /// Start a rollout to the version.
    StartRollout { to: String },
    /// Roll back to the version.
    RollBack { to: String },
    /// Roll back to the version, or to any version if it is absent, though it never was stable;
    /// with a reason.
    RollBackToNeverStable { to: Option<String> },
    /// Start a rollout to the version; or roll back to it with a reason, though it never was
    /// stable.
    RollOutOrBack { to: String },
    /// Set the damaged end of the journal aside, with a reason.
    RepairJournal,
    /// Configure operators with tokens, and send a token.
    ConfigureOperators,
    /// Load the model.
    LoadModel,
    /// Put the files of a version into the models directory.
    RestoreFiles,
    /// A suggestion of a newer server.
    #[serde(other)]
    Other,
}
