//! `[models]`: the models directory.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::error::{InvalidKey, at_least_one},
    id::ModelName,
};

/// More often would load the disk for nothing; less often would seem to be off.
const POLL_SECONDS: std::ops::RangeInclusive<f64> = 0.01..=86_400.0;
const REHEARSE_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=86_400.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// Directory of packages, each in NAME/VERSION/.
    pub root: PathBuf,
    /// The model that answers POST /predict; empty: the only model.
    pub default: String,
    /// Models that must answer before the server is ready; empty: those found at the start.
    pub required: Vec<String>,
    /// "": a new version answers only under its own route. "newest": it takes over as soon as it is verified.
    pub promote: Promote,
    /// The interval between two scans of the directory.
    pub poll_seconds: f64,
    /// true: graphs without a manifest (NAME/1/model.onnx, as Triton has them) are not served.
    pub require_manifest: bool,
    /// Versions of each model that are loaded, newest first (a pinned one is always loaded). Incomplete and refused ones don't count.
    pub keep_versions: usize,
    /// A version whose files are incomplete and have not changed for this long is refused until they change.
    pub copy_timeout_ms: u64,
    /// The time limit of the process in which a package is tried before it may enter this one.
    pub gate_timeout_ms: u64,
    /// The memory limit of that process.
    pub gate_memory_bytes: u64,
    /// The interval between two rehearsals of a rollback, so that it is known to work.
    pub rehearse_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Promote {
    /// A new version waits for a decision.
    #[default]
    #[serde(rename = "")]
    Never,
    #[serde(rename = "newest")]
    Newest,
}

impl Default for ModelsConfig {
    fn default() -> ModelsConfig {
        ModelsConfig {
            root: PathBuf::from("models"),
            default: String::new(),
            required: Vec::new(),
            promote: Promote::Never,
            poll_seconds: 2.0,
            require_manifest: false,
            keep_versions: 2,
            copy_timeout_ms: 60_000,
            gate_timeout_ms: 60_000,
            gate_memory_bytes: 8 << 30,
            rehearse_seconds: 60.0,
        }
    }
}

impl ModelsConfig {
    pub fn poll_interval(&self) -> Duration {
        Duration::from_secs_f64(self.poll_seconds)
    }

    pub fn rehearse_interval(&self) -> Duration {
        Duration::from_secs_f64(self.rehearse_seconds)
    }

    pub fn copy_timeout(&self) -> Duration {
        Duration::from_millis(self.copy_timeout_ms)
    }

    pub fn gate_timeout(&self) -> Duration {
        Duration::from_millis(self.gate_timeout_ms)
    }

    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        at_least_one(&[
            ("models.keep_versions", self.keep_versions as u64),
            ("models.copy_timeout_ms", self.copy_timeout_ms),
            ("models.gate_timeout_ms", self.gate_timeout_ms),
            ("models.gate_memory_bytes", self.gate_memory_bytes),
        ])?;
        for (key, value, range) in [
            ("models.poll_seconds", self.poll_seconds, POLL_SECONDS),
            (
                "models.rehearse_seconds",
                self.rehearse_seconds,
                REHEARSE_SECONDS,
            ),
        ] {
            // NaN is in no range.
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(InvalidKey::new(
                    key,
                    format!(" must be from {least} to {most}"),
                ));
            }
        }
        let default = Some(&self.default).filter(|name| !name.is_empty());
        let required = self.required.iter().map(|name| ("models.required", name));
        let names = required.chain(default.map(|name| ("models.default", name)));
        for (key, name) in names {
            check_model_name(key, name)?;
        }
        Ok(())
    }
}

pub(super) fn check_model_name(key: &str, name: &str) -> Result<(), InvalidKey> {
    match ModelName::parse(name) {
        Some(_) => Ok(()),
        None => Err(InvalidKey::new(
            key,
            format!(": \"{name}\" is not a model name"),
        )),
    }
}
