//! `[runtime]`, `[batching]` and `[cost]`: the engines.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::{InvalidKey, KeyFault, at_least_one};

/// Maximum number of sessions or threads in the configuration. A larger number is probably a
/// mistake.
pub(crate) const MAX_THREADS: usize = 1024;

/// Maximum of `batching.max_delay_us`. No caller waits longer than this for a batch.
pub(super) const MAX_DELAY_US: u64 = 10_000_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimeConfig {
    /// Path of the ONNX Runtime library. Empty means ORT_DYLIB_PATH, then the directory of the
    /// executable, then .onnxruntime/.
    pub library: PathBuf,
    /// Sessions of a version, each with a copy of the weights. 0 means one per core for packages of
    /// up to 16 MiB, and one for larger ones.
    pub workers: usize,
    /// Threads in one run. 0 means one for packages of up to 16 MiB, and one per core for larger
    /// ones.
    pub intra_op_threads: usize,
    /// Number of hanging engine threads at which /livez fails. 0 means one per core.
    pub max_wedged: usize,
    /// Memory limit of the sessions of one version in bytes, weights included, shared equally by
    /// the workers. A request that needs more gets 503. 0 means no limit.
    pub memory_limit_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BatchingConfig {
    /// Maximum number of rows in a run that several requests share.
    pub max_batch_size: usize,
    /// Time that a run waits for more rows, at most 10 s. 0 adds no delay: a run takes the rows that are already
    /// in the queue.
    pub max_delay_us: u64,
    /// Maximum number of queued requests per version. Further requests get 503.
    pub queue_capacity: usize,
    /// Maximum number of rows in a run of a graph whose rows can't be split into several runs. A
    /// larger request is refused.
    pub max_rows_per_run: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CostConfig {
    /// Price of one core for one hour, for the metric predictd_cost_dollars_total.
    pub dollars_per_core_hour: f64,
}

impl Default for BatchingConfig {
    fn default() -> BatchingConfig {
        BatchingConfig {
            max_batch_size: 64,
            max_delay_us: 0,
            queue_capacity: 1024,
            max_rows_per_run: 65_536,
        }
    }
}

pub(super) fn check_delay(key: &str, delay_us: u64) -> Result<(), InvalidKey> {
    if delay_us <= MAX_DELAY_US {
        return Ok(());
    }
    Err(InvalidKey::new(
        key,
        KeyFault::DelayTooLong {
            limit: MAX_DELAY_US,
            value: delay_us,
        },
    ))
}

impl BatchingConfig {
    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        at_least_one(&[
            ("batching.max_batch_size", self.max_batch_size as u64),
            ("batching.queue_capacity", self.queue_capacity as u64),
            ("batching.max_rows_per_run", self.max_rows_per_run as u64),
        ])?;
        check_delay("batching.max_delay_us", self.max_delay_us)
    }
}

impl CostConfig {
    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        let price = self.dollars_per_core_hour;
        if price.is_finite() && price >= 0.0 {
            return Ok(());
        }
        Err(InvalidKey::new(
            "cost.dollars_per_core_hour",
            KeyFault::Negative(price),
        ))
    }
}
