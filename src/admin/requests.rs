//! The bodies of orders. An empty body counts as an empty object. An unknown member is refused,
//! because a misspelt safety option must not be ignored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /admin/models/{name}/rollout/start`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StartRequest {
    /// The candidate versions. An A/B test has several.
    pub to: Vec<String>,
    /// The plan. Absent: the risk that the candidate's package declares selects the plan.
    pub plan: Option<PlanChoice>,
    /// Whether to check everything but start nothing.
    pub dry_run: bool,
    /// Whether to start although a rollback would break callers who use the new values. Requires a
    /// reason.
    pub allow_forward_only: bool,
    /// Pointers to differences that are not proved to be harmless, and that the operator accepts.
    /// Requires a reason.
    pub accept_unproved: Vec<String>,
    /// The reason. It is kept in the journal.
    pub reason: Option<String>,
}

/// The plan of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", try_from = "PlanMembers")]
#[schemars(!try_from)]
pub(crate) enum PlanChoice {
    /// The name of a built-in plan.
    Name(String),
    /// A plan in TOML.
    Text(String),
}

/// Both members of a choice. The error for another value says that it must be an object, while
/// serde's own reader of an enum takes any text for the name of a variant.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PlanMembers {
    name: Option<String>,
    text: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected an object with one member, \"name\" (a built-in plan) or \"text\" (a plan in TOML)"
)]
struct PlanChoiceError;

impl TryFrom<PlanMembers> for PlanChoice {
    type Error = PlanChoiceError;

    fn try_from(members: PlanMembers) -> Result<PlanChoice, PlanChoiceError> {
        match members {
            PlanMembers {
                name: Some(name),
                text: None,
            } => Ok(PlanChoice::Name(name)),
            PlanMembers {
                name: None,
                text: Some(text),
            } => Ok(PlanChoice::Text(text)),
            _ => Err(PlanChoiceError),
        }
    }
}

/// The body of `POST /admin/models/{name}/rollout/promote`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PromoteRequest {
    /// The candidate to promote. Required if the rollout has several candidates.
    pub to: Option<String>,
    /// Whether to promote although a rollback would not work. Requires a reason.
    pub without_way_back: bool,
    /// The reason. It is kept in the journal.
    pub reason: Option<String>,
}

/// The body of `POST /admin/models/{name}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// The version to restore. Absent: ends the rollout in progress, or restores the previous
    /// stable version if no rollout is in progress.
    pub to: Option<String>,
    /// Whether to accept a version that was never stable. Requires a reason.
    pub never_stable: bool,
    /// The reason. It is kept in the journal.
    pub reason: Option<String>,
}

/// The body of every other order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReasonRequest {
    /// The reason. It is kept in the journal.
    pub reason: Option<String>,
}
