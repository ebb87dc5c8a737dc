//! `GET /admin/models/{name}/drift`: how far the inputs and predictions of a version moved from its
//! reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::nullable;

/// The drift of one version, on this server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DriftReport {
    /// The name of the model.
    pub model: String,
    pub version: String,
    /// SHA-256 of the package, as `sha256:` and 64 hex digits.
    pub digest: String,
    /// The windows, the shortest one first. Each ends now.
    pub windows: Vec<DriftWindow>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DriftWindow {
    /// The length of the window in seconds.
    pub seconds: u64,
    /// The time in seconds that the figures cover. Shorter than the window after a start, and longer
    /// by up to a tenth of it otherwise.
    pub covered_seconds: f64,
    /// The number of rows whose inputs were counted.
    pub rows: u64,
    /// The number of rows whose predictions were counted.
    pub predictions: u64,
    /// The features, then the predictions, each in the order of the profile.
    pub features: Vec<DriftedFeature>,
}

/// One input field or prediction in a window, against the reference. Shares are from 0 to 1.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DriftedFeature {
    pub name: String,
    /// The section of the profile: `features` or `predictions`.
    pub section: String,
    /// The number of values in the window, missing ones included.
    pub count: u64,
    /// The population stability index. null without values.
    #[serde(deserialize_with = "nullable")]
    pub psi: Option<f64>,
    /// The Jensen-Shannon distance in nats, from 0 to 0.8326. null without values.
    #[serde(deserialize_with = "nullable")]
    pub js: Option<f64>,
    /// The Kolmogorov-Smirnov statistic over the bins of a numeric feature, from 0 to 1. null without
    /// values, and for any other feature.
    #[serde(deserialize_with = "nullable")]
    pub ks: Option<f64>,
    /// The share of missing values.
    pub missing: f64,
    pub reference_missing: f64,
    /// The share of values in categories that the reference does not have.
    pub unseen: f64,
    /// The share of numbers outside of the reference's range.
    pub outside: f64,
    /// The shares of the bins among the values that are not missing.
    pub bins: Vec<DriftBin>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DriftBin {
    /// The category, or the range of numbers.
    pub name: String,
    pub reference: f64,
    pub observed: f64,
}
