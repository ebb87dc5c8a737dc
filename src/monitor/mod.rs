//! Monitors: how far the inputs and the predictions of a version moved from its reference.
//!
//! `bins` finds the bin of a value, `counters` counts without a lock, `windows` keeps the counts of
//! the past, and `drift` compares a window with the reference.

mod bins;
mod counters;
mod drift;
mod feature;
mod windows;

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use drift::{FeatureDrift, WindowDrift};
pub(crate) use feature::Section;

use crate::{
    monitor::{
        counters::Counters,
        feature::{Feature, OutputPlace},
        windows::Windows,
    },
    package::Profile,
    schema::{Schema, columns::Columns},
    transform::outputs::Outputs,
};

/// The monitor of one version. Its counters grow for ever; a window is the difference between two
/// moments.
pub(crate) struct VersionMonitor {
    inputs: Vec<Feature>,
    predictions: Vec<Feature>,
    /// The index of the counter of input rows. The next one counts rows of predictions.
    rows: usize,
    counters: Counters,
    /// The place of each prediction in the outputs. All outputs of a version have the same form, so
    /// the first ones show it.
    places: OnceLock<Vec<Option<OutputPlace>>>,
    windows: Mutex<Windows>,
}

impl VersionMonitor {
    /// A monitor of the features that both the profile and the schema have, in windows of these
    /// lengths. `None` if there are no features or no windows.
    pub(crate) fn new(
        profile: &Profile,
        schema: &Schema,
        lengths: &[Duration],
    ) -> Option<VersionMonitor> {
        let mut next = 0;
        let mut place = |width: usize| {
            let offset = next;
            next += width;
            offset
        };
        let inputs: Vec<Feature> = profile
            .features
            .iter()
            .filter_map(|(name, field)| Feature::of_input(name, field, schema, &mut place))
            .collect();
        let predictions: Vec<Feature> = profile
            .predictions
            .iter()
            .filter_map(|(name, field)| Feature::of_prediction(name, field, &mut place))
            .collect();
        if lengths.is_empty() || inputs.is_empty() && predictions.is_empty() {
            return None;
        }
        let rows = place(2);
        let counters = Counters::new(rows + 2);
        let windows = Windows::new(lengths, counters.len(), Instant::now());
        Some(VersionMonitor {
            inputs,
            predictions,
            rows,
            counters,
            places: OnceLock::new(),
            windows: Mutex::new(windows),
        })
    }

    /// Counts the inputs of a request, in the schema of this version.
    pub(crate) fn count_inputs(&self, columns: &Columns) {
        let Some(counts) = self.counters.of_this_thread() else {
            return;
        };
        for feature in &self.inputs {
            feature.count_input(columns, counts);
        }
        counts.add(self.rows, columns.rows as u64);
    }

    /// Counts the predictions for a request.
    pub(crate) fn count_predictions(&self, outputs: &Outputs) {
        let places = self.places.get_or_init(|| {
            self.predictions
                .iter()
                .map(|feature| OutputPlace::find(&feature.name, outputs))
                .collect()
        });
        let Some(counts) = self.counters.of_this_thread() else {
            return;
        };
        for (feature, place) in self.predictions.iter().zip(places) {
            if let Some(place) = place {
                feature.count_prediction(place, outputs, counts);
            }
        }
        counts.add(self.rows + 1, outputs.rows as u64);
    }

    /// Keeps the current counts for the windows, if it is time. Call it at least every second.
    pub(crate) fn tick(&self, now: Instant) {
        let mut windows = self.lock();
        if windows.is_due(now) {
            windows.keep(now, &self.counters.totals());
        }
    }

    /// The drift of all features in each window.
    pub(crate) fn drift(&self, now: Instant) -> Vec<WindowDrift> {
        let totals = self.counters.totals();
        let windows = self.lock().differences(now, &totals);
        windows
            .into_iter()
            .map(|window| {
                let count = |index: usize| window.counts.get(index).copied().unwrap_or_default();
                let features = self.inputs.iter().chain(&self.predictions);
                WindowDrift {
                    length: window.length,
                    covered: window.covered,
                    rows: count(self.rows),
                    predictions: count(self.rows + 1),
                    features: features
                        .map(|feature| FeatureDrift::of(feature, &window.counts))
                        .collect(),
                }
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
