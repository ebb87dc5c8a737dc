//! `ModelSettings`: the settings that apply to each model.

use std::collections::BTreeMap;

use crate::config::{
    fallback::FallbackConfig,
    model::{ModelConfig, Oip},
    monitor::MonitorConfig,
    runtime::{BatchingConfig, RuntimeConfig},
};

/// The sections `[runtime]`, `[batching]`, `[monitor]` and every `[model.NAME]`. A model's own table
/// overrides the general sections. The parts that load models use this type instead of the whole
/// configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelSettings {
    pub runtime: RuntimeConfig,
    pub batching: BatchingConfig,
    pub monitor: MonitorConfig,
    pub model: BTreeMap<String, ModelConfig>,
}

impl ModelSettings {
    pub(crate) fn batching(&self, model: &str) -> BatchingConfig {
        let general = &self.batching;
        let Some(own) = self.model.get(model).map(|model| &model.batching) else {
            return general.clone();
        };
        BatchingConfig {
            max_batch_size: own.max_batch_size.unwrap_or(general.max_batch_size),
            max_delay_us: own.max_delay_us.unwrap_or(general.max_delay_us),
            queue_capacity: own.queue_capacity.unwrap_or(general.queue_capacity),
            max_rows_per_run: own.max_rows_per_run.unwrap_or(general.max_rows_per_run),
        }
    }

    /// The maximum delay of a run in microseconds, if the model's own table sets it.
    pub(crate) fn own_delay(&self, model: &str) -> Option<u64> {
        self.model.get(model)?.batching.max_delay_us
    }

    /// The number of workers, if the model's own table sets it.
    pub(crate) fn own_workers(&self, model: &str) -> Option<usize> {
        self.model.get(model)?.workers
    }

    /// The number of workers of each version; 0 means that the server chooses.
    pub(crate) fn workers(&self, model: &str) -> usize {
        self.own_workers(model).unwrap_or(self.runtime.workers)
    }

    /// The memory limit in bytes of all engines of one version. `None` means no limit.
    pub(crate) fn memory_limit(&self, model: &str) -> Option<u64> {
        let own = self
            .model
            .get(model)
            .and_then(|model| model.memory_limit_bytes);
        Some(own.unwrap_or(self.runtime.memory_limit_bytes)).filter(|limit| *limit > 0)
    }

    pub(crate) fn oip(&self, model: &str) -> Oip {
        self.model
            .get(model)
            .and_then(|model| model.oip)
            .unwrap_or_default()
    }

    pub(crate) fn fallback(&self, model: &str) -> Option<&FallbackConfig> {
        self.model.get(model)?.fallback.as_ref()
    }

    /// The value of `[model.NAME] version`: the stable version at the first start.
    pub(crate) fn pinned(&self, model: &str) -> Option<&str> {
        self.model.get(model)?.version.as_deref()
    }
}
