//! All Prometheus series as typed handles. Each part of the server has one struct that declares its
//! series.

mod engine;
mod models;
mod process;
mod requests;
mod rollouts;
pub(crate) mod runs;
mod series;
pub(crate) mod statistics;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    Encoder, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

pub(crate) use engine::EngineMetrics;
pub(crate) use models::{LoadOutcome, LoadedInfo, ModelMetrics};
pub(crate) use requests::{Protocol, RequestMetrics, Stage};
pub(crate) use rollouts::{RolloutMetrics, ShadowMetrics};

use crate::metrics::{
    engine::EngineSeries, process::ProcessMetrics, requests::RequestSeries, runs::Runs,
    series::series,
};

const SECONDS_PER_HOUR: f64 = 3600.0;
/// Approximate size of the exposition text for a few models, in bytes.
const TEXT_BYTES: usize = 32 << 10;

series! {
    /// Metrics of the process itself.
    pub(crate) struct ServerMetrics {
        build_info: IntGaugeVec = "predictd_build_info", "The running build.",
            labels: &["version", "commit", "onnxruntime"];
        pub log_lines_dropped: IntCounter = "predictd_log_lines_dropped_total",
            "Log lines dropped because the writer was too slow.";
        admin_requests: IntCounterVec = "predictd_admin_requests_total",
            "Answers of the admin listener.", labels: &["route", "code"];
        pub connections: IntGauge = "predictd_open_connections", "Open client connections.";
    }
}

impl ServerMetrics {
    pub(crate) fn set_build_info(&self, version: &str, commit: &str, onnxruntime: &str) {
        self.build_info
            .with_label_values(&[version, commit, onnxruntime])
            .set(1);
    }

    /// Counts an answer of the admin listener. `route`: the pattern of the route, such as
    /// `/admin/models/{name}`. It is empty if the path has no route.
    pub(crate) fn count_admin_answer(&self, route: &str, status: u16) {
        let mut buffer = itoa::Buffer::new();
        self.admin_requests
            .with_label_values(&[route, buffer.format(status)])
            .inc();
    }
}

#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: RequestSeries,
    engine: EngineSeries,
    pub models: ModelMetrics,
    pub rollouts: RolloutMetrics,
    pub server: ServerMetrics,
    /// The lock makes concurrent scrapes update the series one after the other.
    process: Option<Arc<Mutex<ProcessMetrics>>>,
    dollars_per_core_second: f64,
    unrouted: Arc<RequestMetrics>,
    /// The metrics of requests that reached no version, by model. Only models of the server are
    /// keys, whatever names requests contain.
    unversioned: Arc<Mutex<HashMap<String, Arc<RequestMetrics>>>>,
}

/// The handles for the series of one version. They are created at load, so that the hot path needs
/// no lookup.
pub(crate) struct VersionMetrics {
    pub requests: RequestMetrics,
    stages: [Histogram; Stage::ALL.len()],
    pub instances: IntCounter,
    pub inflight: IntGauge,
    pub engine: EngineMetrics,
}

impl VersionMetrics {
    pub(crate) fn observe_stage(&self, stage: Stage, elapsed: Duration) {
        if let Some(histogram) = self.stages.get(stage as usize) {
            histogram.observe(elapsed.as_secs_f64());
        }
    }
}

impl Metrics {
    /// Creates all metrics. `dollars_per_core_hour` is the price of a core, or 0 if no price is
    /// configured.
    pub(crate) fn new(dollars_per_core_hour: f64) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let requests = RequestSeries::register(&registry)?;
        Ok(Metrics {
            unrouted: Arc::new(RequestMetrics::new(&requests, "", "")),
            requests,
            engine: EngineSeries::register(&registry)?,
            models: ModelMetrics::register(&registry)?,
            rollouts: RolloutMetrics::register(&registry)?,
            server: ServerMetrics::register(&registry)?,
            // The metrics of the process are read from /proc, which only Linux has.
            process: cfg!(target_os = "linux")
                .then(|| ProcessMetrics::register(&registry))
                .transpose()?
                .map(|process| Arc::new(Mutex::new(process))),
            registry,
            dollars_per_core_second: dollars_per_core_hour / SECONDS_PER_HOUR,
            unversioned: Arc::default(),
        })
    }

    /// Metrics of requests that reached no model. Their label is `model=""`.
    pub(crate) fn unrouted(&self) -> &Arc<RequestMetrics> {
        &self.unrouted
    }

    /// Metrics of requests to a known model that reached no version. Their label is `version=""`.
    pub(crate) fn unversioned(&self, model: &str) -> Arc<RequestMetrics> {
        let mut known = self
            .unversioned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RequestMetrics::new(&self.requests, model, ""));
        Arc::clone(known.entry(model.to_owned()).or_insert_with(new))
    }

    /// Handles for one version. The series that dashboards use as a divisor exist from this call
    /// on, with the value 0.
    pub(crate) fn version(&self, model: &str, version: &str) -> VersionMetrics {
        let labels = [model, version];
        self.requests.expect(model, version);
        let requests = RequestMetrics::new(&self.requests, model, version);
        requests.protocol_handles(Protocol::Predict);
        let stage = |stage: Stage| {
            let labels = [model, version, stage.name()];
            self.requests.stages.with_label_values(&labels)
        };
        VersionMetrics {
            stages: Stage::ALL.map(stage),
            instances: self.requests.instances.with_label_values(&labels),
            inflight: self.requests.inflight.with_label_values(&labels),
            engine: EngineMetrics {
                statistics: Arc::clone(&requests.statistics),
                runs: Arc::<Runs>::default(),
                queue_depth: self.engine.queue_depth.with_label_values(&labels),
                batch_size: self.engine.batch_size.with_label_values(&labels),
                compute: self.engine.compute.with_label_values(&labels),
                cost: self.engine.cost.with_label_values(&labels),
                worker_panics: self.engine.worker_panics.clone(),
                wedged_workers: self.engine.wedged_workers.clone(),
                dollars_per_core_second: self.dollars_per_core_second,
            },
            requests,
        }
    }

    /// Removes the series of an unloaded version, so that a long-running server does not accumulate
    /// them. Totals are kept.
    pub(crate) fn forget_version(&self, model: &str, version: &str) {
        let labels = [model, version];
        // A series that does not exist needs no removal.
        for stage in Stage::ALL {
            let labels = [model, version, stage.name()];
            let _ = self.requests.stages.remove_label_values(&labels);
        }
        let _ = self.requests.inflight.remove_label_values(&labels);
        let _ = self.engine.queue_depth.remove_label_values(&labels);
        let _ = self.engine.batch_size.remove_label_values(&labels);
    }

    /// The counter of panics. It counts panics in both background threads and workers, because both
    /// are defects.
    pub(crate) fn panics(&self) -> &IntCounter {
        &self.engine.worker_panics
    }

    /// The number of abandoned engine threads whose run has not returned.
    pub(crate) fn wedged_workers(&self) -> i64 {
        self.engine.wedged_workers.get()
    }

    /// The metrics in the Prometheus text format 0.0.4.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(process) = &self.process {
            process
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .update();
        }
        let mut text = Vec::with_capacity(TEXT_BYTES);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use crate::metrics::{
        ModelMetrics, RolloutMetrics, ServerMetrics, engine::EngineSeries, process::ProcessMetrics,
        requests::RequestSeries,
    };

    /// Dashboards and alerts depend on each name and label.
    #[test]
    fn series() {
        let mut all = [
            EngineSeries::DECLARED,
            ModelMetrics::DECLARED,
            ProcessMetrics::DECLARED,
            RequestSeries::DECLARED,
            RolloutMetrics::DECLARED,
            ServerMetrics::DECLARED,
        ]
        .concat();
        all.sort_unstable_by_key(|series| series.name);
        let text = all.into_iter().fold(String::new(), |mut text, series| {
            let labels = series.labels.join(",");
            let _ = writeln!(text, "{}{{{labels}}} {}", series.name, series.help);
            text
        });
        insta::assert_snapshot!(text);
    }
}
