//! `[admin]`: the admin listener.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    listen::{Listen, OptionalListen},
    webhook_url::WebhookUrl,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminConfig {
    /// Address of the admin listener: rollouts, rollback, load, unload. Empty disables it. An
    /// address that is not loopback requires a token_file.
    pub listen: OptionalListen,
    /// File that lists the operators, one line "NAME TOKEN" each. A client sends "Authorization:
    /// Bearer TOKEN". If it is empty, no token is required.
    pub token_file: PathBuf,
    /// URL to which each decision of this process (start, advance, pause, promote, abort, rollback
    /// ...) is posted as JSON, with a member "text" for chat systems. Each post is tried three
    /// times and never delays a decision. Only the host of the URL is logged. Empty disables it.
    pub webhook: WebhookUrl,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            listen: OptionalListen(Some(Listen::loopback(8082))),
            token_file: PathBuf::new(),
            webhook: WebhookUrl::default(),
        }
    }
}
