//! Every Prometheus series as a typed handle. Each part has a struct in which each of its series is
//! declared once.

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

use prometheus::{Encoder, Histogram, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub(crate) use engine::EngineMetrics;
pub(crate) use models::{LoadOutcome, LoadedInfo, ModelMetrics};
pub(crate) use requests::{Protocol, RequestMetrics, Stage};
pub(crate) use rollouts::{RolloutMetrics, ShadowMetrics};

use crate::metrics::{
    engine::EngineSeries, process::ProcessMetrics, requests::RequestSeries, runs::Runs,
    series::series,
};

const SECONDS_PER_HOUR: f64 = 3600.0;
/// About the size of the text for a few models.
const TEXT_BYTES: usize = 32 << 10;

series! {
    /// The process itself.
    pub(crate) struct ServerMetrics {
        build_info: IntGaugeVec = "predictd_build_info", "The running build.",
            labels: &["version", "commit", "onnxruntime"];
        pub log_lines_dropped: IntCounter = "predictd_log_lines_dropped_total",
            "Log lines dropped because the writer was too slow.";
        pub connections: IntGauge = "predictd_open_connections", "Open client connections.";
    }
}

impl ServerMetrics {
    pub(crate) fn set_build_info(&self, version: &str, commit: &str, onnxruntime: &str) {
        self.build_info
            .with_label_values(&[version, commit, onnxruntime])
            .set(1);
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
    process: Option<ProcessMetrics>,
    dollars_per_core_second: f64,
    unrouted: Arc<RequestMetrics>,
    /// By model. Only models of the server appear here, whatever names requests contain.
    unversioned: Arc<Mutex<HashMap<String, Arc<RequestMetrics>>>>,
}

/// The handles of one version, made once at load so that the hot path looks nothing up.
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
    /// `dollars_per_core_hour`: the price of a core; 0 if it is not configured.
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
            // They are read from /proc.
            process: cfg!(target_os = "linux")
                .then(|| ProcessMetrics::register(&registry))
                .transpose()?,
            registry,
            dollars_per_core_second: dollars_per_core_hour / SECONDS_PER_HOUR,
            unversioned: Arc::default(),
        })
    }

    /// Requests that reached no model: `model=""`.
    pub(crate) fn unrouted(&self) -> &Arc<RequestMetrics> {
        &self.unrouted
    }

    /// Requests to a known model that reached no version: `version=""`.
    pub(crate) fn unversioned(&self, model: &str) -> Arc<RequestMetrics> {
        let mut known = self
            .unversioned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RequestMetrics::new(&self.requests, model, ""));
        Arc::clone(known.entry(model.to_owned()).or_insert_with(new))
    }

    /// Handles of one version. The series that a dashboard divides by exist from here on, with 0.
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

    /// Removes series of an unloaded version, so that a server that runs for long does not collect
    /// them. Totals stay.
    pub(crate) fn forget_version(&self, model: &str, version: &str) {
        let labels = [model, version];
        // A series that does not exist is as good as removed.
        for stage in Stage::ALL {
            let labels = [model, version, stage.name()];
            let _ = self.requests.stages.remove_label_values(&labels);
        }
        let _ = self.requests.inflight.remove_label_values(&labels);
        let _ = self.engine.queue_depth.remove_label_values(&labels);
        let _ = self.engine.batch_size.remove_label_values(&labels);
    }

    /// Panics of background threads are counted with those of workers: both mean a defect.
    pub(crate) fn panics(&self) -> &IntCounter {
        &self.engine.worker_panics
    }

    /// Abandoned engine threads that have not come back.
    pub(crate) fn wedged_workers(&self) -> i64 {
        self.engine.wedged_workers.get()
    }

    /// The exposition text (Prometheus text format 0.0.4).
    pub(crate) fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(process) = &self.process {
            process.update();
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
        all.sort_unstable();
        let text = all
            .into_iter()
            .fold(String::new(), |mut text, (name, labels, help)| {
                let _ = writeln!(text, "{name}{{{}}} {help}", labels.join(","));
                text
            });
        insta::assert_snapshot!(text);
    }
}
