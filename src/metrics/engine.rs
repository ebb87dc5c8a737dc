//! Metrics of the engines.

use std::{sync::Arc, time::Duration};

use prometheus::{Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntGauge, IntGaugeVec};

use crate::metrics::{
    runs::Runs,
    series::{ROWS, series},
    statistics::Statistics,
};

series! {
    pub(super) struct EngineSeries {
        pub(super) queue_depth: IntGaugeVec = "predictd_queue_depth", "Requests waiting for an engine.",
            labels: &["model", "version"];
        pub(super) batch_size: HistogramVec = "predictd_batch_size", "Rows in one run of the engine.",
            labels: &["model", "version"], buckets: ROWS;
        pub(super) compute: CounterVec = "predictd_compute_seconds_total",
            "Core seconds spent in the engine.", labels: &["model", "version"];
        pub(super) cost: CounterVec = "predictd_cost_dollars_total",
            "Price of the core seconds spent in the engine.", labels: &["model", "version"];
        pub(super) worker_panics: IntCounter = "predictd_worker_panics_total",
            "Panics caught in engine workers.";
        pub(super) wedged_workers: IntGauge = "predictd_wedged_workers",
            "Abandoned engine threads that have not come back.";
    }
}

/// The metrics of one version's batcher and workers.
#[derive(Clone)]
pub(crate) struct EngineMetrics {
    pub(super) statistics: Arc<Statistics>,
    pub runs: Arc<Runs>,
    pub queue_depth: IntGauge,
    pub(super) batch_size: Histogram,
    pub(super) compute: Counter,
    pub(super) cost: Counter,
    pub worker_panics: IntCounter,
    pub wedged_workers: IntGauge,
    pub(super) dollars_per_core_second: f64,
}

impl EngineMetrics {
    /// Counts a run of `rows` rows that used `cores` cores for the duration `elapsed`.
    pub(crate) fn observe_run(&self, rows: usize, elapsed: Duration, cores: usize) {
        self.statistics.observe_run(rows, elapsed);
        self.runs.observe(rows, elapsed);
        self.batch_size.observe(rows as f64);
        let core_seconds = elapsed.as_secs_f64() * cores as f64;
        self.compute.inc_by(core_seconds);
        // Without a configured price, the series stays at 0.
        if self.dollars_per_core_second > 0.0 {
            self.cost
                .inc_by(core_seconds * self.dollars_per_core_second);
        }
    }
}
