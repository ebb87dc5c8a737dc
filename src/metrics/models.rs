//! Metrics of loads and of loaded versions.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use crate::metrics::series::{SECONDS, series};

series! {
    pub(crate) struct ModelMetrics {
        info: IntGaugeVec = "predictd_model_info", "A loaded version.",
            labels: &["model", "version", "digest", "role", "verified"];
        load_duration: HistogramVec = "predictd_model_load_duration_seconds",
            "Time to verify and load a version.",
            labels: &["model", "version", "outcome", "reason"], buckets: SECONDS;
        loads: IntCounterVec = "predictd_model_loads_total", "Attempts to load a version.",
            labels: &["model", "version", "outcome", "reason"];
        ignored: IntGaugeVec = "predictd_models_ignored",
            "Directories that look like a model or a version and are not served, or are served though their files are missing.",
            labels: &["reason"];
        pub source_errors: IntCounter = "predictd_source_errors_total",
            "Failed reads of the models directory or the state directory.";
    }
}

/// The outcome of an attempt to load a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadOutcome<'a> {
    Loaded,
    Refused { reason: &'a str },
}

/// The labels of a loaded version in `predictd_model_info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadedInfo<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub digest: &'a str,
    /// Whether the hashes of its files matched a manifest.
    pub verified: bool,
}

impl ModelMetrics {
    pub(crate) fn observe_load(
        &self,
        model: &str,
        version: &str,
        outcome: LoadOutcome<'_>,
        elapsed: Duration,
    ) {
        let (outcome, reason) = match outcome {
            LoadOutcome::Loaded => ("loaded", ""),
            LoadOutcome::Refused { reason } => ("refused", reason),
        };
        let labels = [model, version, outcome, reason];
        self.loads.with_label_values(&labels).inc();
        self.load_duration
            .with_label_values(&labels)
            .observe(elapsed.as_secs_f64());
    }

    /// Replaces the published role of a version. `None` means that the version is not loaded.
    pub(crate) fn set_role(
        &self,
        loaded: LoadedInfo<'_>,
        former: Option<&str>,
        role: Option<&str>,
    ) {
        let LoadedInfo {
            model,
            version,
            digest,
            verified,
        } = loaded;
        let verified = if verified { "true" } else { "false" };
        if let Some(role) = role {
            self.info
                .with_label_values(&[model, version, digest, role, verified])
                .set(1);
        }
        if let Some(former) = former.filter(|former| Some(*former) != role) {
            // A series that does not exist needs no removal.
            let _ = self
                .info
                .remove_label_values(&[model, version, digest, former, verified]);
        }
    }

    /// Sets the number of ignored directories. `reason` comes from a closed set.
    pub(crate) fn set_ignored(&self, reason: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.ignored.with_label_values(&[reason]).set(count);
    }
}
