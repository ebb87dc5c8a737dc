//! Suggestion: the action that an operator can take after a refusal or an outage. Each front end
//! formats it: the commands as a command line, the admin API as members of a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Suggestion {
    /// Name the candidate version of a rollout.
    NameCandidate,
    /// Name a built-in plan, or send the text of a plan.
    ChoosePlan,
    /// Repeat the request with a reason.
    GiveReason,
    /// Start the rollout anyway. This requires a reason, because a rollback would break callers who
    /// use the new values.
    AllowForwardOnly,
    /// Promote anyway. This requires a reason, because a rollback would not work.
    PromoteWithoutWayBack,
    /// Abort the rollout in progress first.
    AbortRollout,
    /// Start a rollout to the version.
    StartRollout { to: String },
    /// Roll back to the version.
    RollBack { to: String },
    /// Roll back to a version that was never stable. This requires a reason. Without `to`, the
    /// operator chooses the version.
    RollBackToNeverStable { to: Option<String> },
    /// Start a rollout to the version, or roll back to it. The version was never stable, so a
    /// rollback requires a reason.
    RollOutOrBack { to: String },
    /// Move the damaged end of the journal aside. This requires a reason.
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
