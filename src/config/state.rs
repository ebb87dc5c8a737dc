//! `[state]`: the journal, and what belongs to it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::InvalidKey;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// Directory of decisions (the journal of rollouts), their evidence, and the packages that passed the gate. Several replicas may
    /// share it. Empty: in memory only, so that a restart forgets all decisions.
    pub url: String,
    /// Copies of the stable package and of the previous one are kept below it, so that neither is lost if somebody cleans the models
    /// directory or packs other files under an old version. They take as much room as the packages, and leave 64 MiB of the file
    /// system free (or a twentieth of it, if that is less).
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
    /// The local directory of `state.url`; `None` if the state is in memory only.
    pub fn directory(&self) -> Option<PathBuf> {
        (!self.url.is_empty())
            .then(|| PathBuf::from(self.url.strip_prefix("file://").unwrap_or(&self.url)))
    }

    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        if self.url.contains("://") && !self.url.starts_with("file://") {
            let reason = " must be a local directory or a file:// URL";
            return Err(InvalidKey::new("state.url", reason));
        }
        Ok(())
    }
}
