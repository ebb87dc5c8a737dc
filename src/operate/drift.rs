//! The drift of a version, as a document of the admin API.

use std::time::Instant;

use crate::{
    admin::drift::{DriftBin, DriftReport, DriftWindow, DriftedFeature},
    id::Version,
    monitor::{FeatureDrift, Section, WindowDrift},
    operate::{OperateError, Operator},
    registry::VersionState,
};

impl Operator {
    /// The drift of a version. `version`: `None` means the version that answers.
    pub(crate) fn drift(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<DriftReport, OperateError> {
        let name = self.known(name)?;
        let snapshot = self.registry.snapshot();
        let model = snapshot
            .models
            .get(&name)
            .ok_or_else(|| OperateError::NotServed(name.to_string()))?;
        let servable = match version {
            None => model.stable.clone().ok_or(OperateError::NoStable)?,
            Some(text) => {
                let version = Version::parse(text)
                    .ok_or_else(|| OperateError::InvalidVersion(text.to_owned()))?;
                let loaded = self.loaded(&name, version.as_str());
                loaded.ok_or_else(|| OperateError::NotLoaded(text.to_owned()))?
            }
        };
        let id = servable.id();
        let monitor = servable
            .monitor
            .as_ref()
            .ok_or_else(|| OperateError::NotMonitored(id.to_string()))?;
        Ok(DriftReport {
            model: id.name.to_string(),
            version: id.version.to_string(),
            digest: servable.digest().to_owned(),
            windows: monitor
                .drift(Instant::now())
                .into_iter()
                .map(window)
                .collect(),
        })
    }

    /// Keeps the counts of all monitors for their windows.
    pub(super) fn tick_monitors(&self) {
        let now = Instant::now();
        let snapshot = self.registry.snapshot();
        let models = snapshot.models.values();
        for status in models.flat_map(|model| model.versions.values()) {
            if let VersionState::Available(servable) = &status.state
                && let Some(monitor) = &servable.monitor
            {
                monitor.tick(now);
            }
        }
    }
}

fn window(drift: WindowDrift) -> DriftWindow {
    DriftWindow {
        seconds: drift.length.as_secs(),
        covered_seconds: drift.covered.as_secs_f64(),
        rows: drift.rows,
        predictions: drift.predictions,
        features: drift.features.into_iter().map(feature).collect(),
    }
}

fn feature(drift: FeatureDrift) -> DriftedFeature {
    let section = match drift.section {
        Section::Features => "features",
        Section::Predictions => "predictions",
    };
    let bins = drift.bins.into_iter().map(|bin| DriftBin {
        name: bin.name,
        reference: bin.reference,
        observed: bin.observed,
    });
    DriftedFeature {
        name: drift.name,
        section: section.to_owned(),
        count: drift.count,
        psi: drift.psi,
        js: drift.js,
        ks: drift.ks,
        missing: drift.missing,
        reference_missing: drift.reference_missing,
        unseen: drift.unseen,
        outside: drift.outside,
        bins: bins.collect(),
    }
}
