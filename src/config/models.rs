//! `[models]`: the models directory.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::error::{InvalidKey, KeyFault, at_least_one},
    id::ModelName,
};

/// The allowed interval between scans. Shorter intervals would load the disk without a benefit.
/// Longer intervals would make the server look as if it did not scan.
const POLL_SECONDS: std::ops::RangeInclusive<f64> = 0.01..=86_400.0;
const REHEARSE_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=86_400.0;

/// Minimum of `models.gate_memory_bytes`. ONNX Runtime needs about a quarter of it for a small
/// model: for its library, and for the stacks of its threads.
const MIN_GATE_MEMORY_BYTES: u64 = 256 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelsConfig {
    /// Directory of the models, as NAME/VERSION/.
    pub root: PathBuf,
    /// Model that answers POST /predict. Empty means the only model.
    pub default: String,
    /// Models that must be able to answer before the server is ready. Empty means all models that
    /// are found at the start.
    pub required: Vec<String>,
    /// "": a new version answers only under its own route until a rollout. "newest": a verified
    /// version becomes stable automatically if it is newer than all versions before it and breaks
    /// no caller.
    pub promote: PromotePolicy,
    /// Interval between two scans of the models directory.
    pub poll_seconds: f64,
    /// If true, graphs without a manifest (NAME/1/model.onnx, as in a Triton repository) are not
    /// served.
    pub require_manifest: bool,
    /// Number of versions of each model that are loaded, newest first. A pinned version is always
    /// loaded. Incomplete and rejected versions don't count.
    pub keep_versions: usize,
    /// Time after which a version whose files are incomplete and unchanged is rejected, until its
    /// files change.
    pub copy_timeout_ms: u64,
    /// Time limit of the load gate, the child process that checks a package before the server loads
    /// it.
    pub gate_timeout_ms: u64,
    /// Memory limit of the load gate in bytes, in addition to the memory of the program itself.
    pub gate_memory_bytes: u64,
    /// Interval between two rehearsals of a rollback. A rehearsal checks that the previous version
    /// still answers.
    pub rehearse_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum PromotePolicy {
    /// A new version does not become stable without a decision of an operator.
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
            promote: PromotePolicy::Never,
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
    pub(crate) fn poll_interval(&self) -> Duration {
        Duration::from_secs_f64(self.poll_seconds)
    }

    pub(crate) fn rehearse_interval(&self) -> Duration {
        Duration::from_secs_f64(self.rehearse_seconds)
    }

    pub(crate) fn copy_timeout(&self) -> Duration {
        Duration::from_millis(self.copy_timeout_ms)
    }

    pub(crate) fn gate_timeout(&self) -> Duration {
        Duration::from_millis(self.gate_timeout_ms)
    }

    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        at_least_one(&[
            ("models.keep_versions", self.keep_versions as u64),
            ("models.copy_timeout_ms", self.copy_timeout_ms),
            ("models.gate_timeout_ms", self.gate_timeout_ms),
        ])?;
        if self.gate_memory_bytes < MIN_GATE_MEMORY_BYTES {
            return Err(InvalidKey::new(
                "models.gate_memory_bytes",
                KeyFault::GateMemory {
                    least: MIN_GATE_MEMORY_BYTES,
                    value: self.gate_memory_bytes,
                },
            ));
        }
        for (key, value, range) in [
            ("models.poll_seconds", self.poll_seconds, POLL_SECONDS),
            (
                "models.rehearse_seconds",
                self.rehearse_seconds,
                REHEARSE_SECONDS,
            ),
        ] {
            // A range does not contain NaN, so NaN is rejected here.
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(InvalidKey::new(
                    key,
                    KeyFault::OutOfRange {
                        least: *least,
                        most: *most,
                        value,
                    },
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
            KeyFault::NotAModelName(name.to_owned()),
        )),
    }
}
