//! `[runtime]`, `[batching]` and `[cost]`: the engines.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::{InvalidKey, at_least_one};

/// More sessions or threads than this are a mistake in a file.
pub const MAX_THREADS: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Path of the ONNX Runtime library; empty: ORT_DYLIB_PATH, next to the executable, or .onnxruntime/.
    pub library: PathBuf,
    /// Sessions (each with a copy of the weights) of a version; 0: one per core for small models, one for large models.
    pub workers: usize,
    /// Threads in one run; 0: one for small models, all cores for large models.
    pub intra_op_threads: usize,
    /// Engine threads that may hang before /livez fails; 0: one per core.
    pub max_wedged: usize,
    /// Memory of the sessions of one version, weights included, in equal shares per worker; a request that needs more is answered 503.
    /// 0: no limit.
    pub memory_limit_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchingConfig {
    /// Rows of several requests that may share one run.
    pub max_batch_size: usize,
    /// How long a run may wait for more rows; 0 adds no delay and takes the rows that wait already.
    pub max_delay_us: u64,
    /// Requests that may wait for a version; more are answered 503.
    pub queue_capacity: usize,
    /// Rows of one run if a graph's rows can't be split into several runs; a request with more is refused.
    pub max_rows_per_run: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CostConfig {
    /// The price of a core for an hour, for predictd_cost_dollars_total.
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

impl BatchingConfig {
    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        at_least_one(&[
            ("batching.max_batch_size", self.max_batch_size as u64),
            ("batching.queue_capacity", self.queue_capacity as u64),
            ("batching.max_rows_per_run", self.max_rows_per_run as u64),
        ])
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
            " must be 0 or more",
        ))
    }
}
