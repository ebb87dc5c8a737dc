//! `[admin]`: the operators' listener.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    listen::{Listen, OptionalListen},
    webhook_url::WebhookUrl,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Address of the operators' listener: rollouts, rollback, load, unload; empty: off. Beyond loopback it needs a token_file.
    pub listen: OptionalListen,
    /// A file with lines of "NAME TOKEN": the operators. A client sends "Authorization: Bearer TOKEN". Empty: no token is required.
    pub token_file: PathBuf,
    /// Each decision that this process writes (start, advance, pause, promote, abort, rollback ...) is posted to this URL as JSON with a
    /// member "text" that chats show. It is tried three times and never delays a decision. Only its host is ever logged. Empty: none.
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
