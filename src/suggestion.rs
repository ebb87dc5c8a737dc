//! Suggestion: the action that an operator can take after a refusal or an outage. Each front end
//! formats it: the commands as a command line, the admin API as members of a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Suggestion {
    /// Name the candidate version of a rollout.
    NameCandidate,
    /// Give a reason with the order.
    GiveReason,
    /// Start the rollout anyway, with a reason. A rollback would break callers who use the new
    /// values.
    AllowForwardOnly,
    /// Promote anyway, with a reason. A rollback would not work.
    PromoteWithoutWayBack,
    /// Abort the rollout in progress first.
    AbortRollout,
    /// Start a rollout to the version.
    StartRollout { to: String },
    /// Roll back to the version.
    RollBack { to: String },
    /// Roll back to a version that was never stable, with a reason. `None`: to any version.
    RollBackToNeverStable { to: Option<String> },
    /// Start a rollout to the version, or roll back to it with a reason. It was never stable.
    RollOutOrBack { to: String },
    /// Move the damaged end of the journal aside, with a reason.
    RepairJournal,
    /// Configure operators with tokens, and send a token.
    ConfigureOperators,
    /// Load the model.
    LoadModel,
    /// Put the files of the version back into the models directory.
    RestoreFiles,
    /// A suggestion that only a newer server knows.
    #[serde(other)]
    Other,
}
