//! The bodies of orders. An empty body counts as an empty object; an unknown member is refused,
//! because a misspelt safety option must not be ignored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The body of `POST /admin/models/{name}/rollout/start`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StartRequest {
    /// The candidate versions; several for an A/B test.
    pub to: Vec<String>,
    /// Absent: the plan follows from the risk that the candidate's package declares.
    pub plan: Option<PlanChoice>,
    /// Check everything and start nothing.
    pub dry_run: bool,
    /// Start although a rollback would break callers that adopt what is new. Requires a reason.
    pub allow_forward_only: bool,
    /// Pointers of differences that are not proved harmless and that the operator accepts. Requires
    /// a reason.
    pub accept_unproved: Vec<String>,
    /// Kept in the journal.
    pub reason: Option<String>,
}

/// The plan of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum PlanChoice {
    /// A built-in plan.
    Name(String),
    /// A plan as TOML text.
    Text(String),
}

/// The body of `POST /admin/models/{name}/rollout/promote`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PromoteRequest {
    /// Required if the rollout has several candidates.
    pub to: Option<String>,
    /// Promote although a rollback would not work. Requires a reason.
    pub without_way_back: bool,
    /// Kept in the journal.
    pub reason: Option<String>,
}

/// The body of `POST /admin/models/{name}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// Absent: the rollout in progress ends; without one, the previous stable version is restored.
    pub to: Option<String>,
    /// Accept a version that never was stable. Requires a reason.
    pub never_stable: bool,
    /// Kept in the journal.
    pub reason: Option<String>,
}

/// The body of every other order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReasonRequest {
    /// Kept in the journal.
    pub reason: Option<String>,
}
