//! `[state]`: the state directory with the journal.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::{InvalidKey, KeyFault};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StateConfig {
    /// State directory: the journal of decisions, the evidence of rollouts, the results of the load
    /// gate, and copies of packages. Replicas may share it. Empty: decisions are kept in memory
    /// only, and a restart loses them.
    pub url: String,
    /// Keep copies of the stable and of the previous package in the state directory. A copy is
    /// served if the package is deleted from the models directory, or if other files are packed
    /// under its version. Copies are as large as the packages, and leave 64 MiB of the file system
    /// free (or a twentieth of it, if that is less).
    pub keep_packages: bool,
}

impl Default for StateConfig {
    fn default() -> StateConfig {
        StateConfig {
            url: "state".to_owned(),
            keep_packages: true,
        }
    }
}

impl StateConfig {
    /// The local directory of `state.url`. `None` if decisions are kept in memory only.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        (!self.url.is_empty())
            .then(|| PathBuf::from(self.url.strip_prefix("file://").unwrap_or(&self.url)))
    }

    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        if self.url.contains("://") && !self.url.starts_with("file://") {
            return Err(InvalidKey::new("state.url", KeyFault::NotADirectory));
        }
        Ok(())
    }
}
