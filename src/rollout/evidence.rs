//! `Evidence`: what the arms of a rollout did since a step began, as sums over replicas and
//! restarts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of runs after a load of a version that are not compared: they are slow, because
/// caches are empty and memory is allocated.
pub const WARM_RUNS: u64 = 64;

/// The evidence of one step. `add` adds the evidence of another replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// By version. The stable version is one of them.
    pub arms: BTreeMap<String, ArmTotals>,
}

/// What one version did.
///
/// A *unit* is what the rollout assigns: a key, of which only the first request in the step counts,
/// or a single request if the plan has no key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ArmTotals {
    /// All requests. They are shown, and not tested: the requests of one key are not independent.
    pub requests: u64,
    /// The failures of all requests, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Seconds from the routing to the answer, summed over all answered requests.
    pub seconds: f64,
    /// Units that the step assigned to the version, answered or not.
    pub units: u64,
    /// Units that were not answered. Units of a failed engine run are not among them: `runs` counts
    /// that run. Otherwise a version with small batches would seem to fail more often.
    pub failed: u64,
    /// Units with NaN or infinity in the answer.
    pub nan: u64,
    /// There is no room for further keys: the step collects no more evidence.
    pub full: bool,
    /// Engine runs by their number of rows: bucket b has the runs of more than 2^(b-1) and at most
    /// 2^b rows.
    pub runs: BTreeMap<u8, RunTotals>,
    /// Units by their first prediction: a class, or the bin of a number.
    pub predictions: BTreeMap<String, u64>,
    /// Units by time: window w starts w * `window_seconds` seconds after the step. Old windows are
    /// dropped.
    pub windows: BTreeMap<u32, WindowTotals>,
    /// Units that both the stable version and this version answered.
    pub pairs: PairTotals,
    /// Seconds of processor cores that the engine used.
    pub compute_seconds: f64,
    /// The cost of these seconds in dollars.
    pub cost_dollars: f64,
}

/// The engine runs of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunTotals {
    /// All runs of the bucket.
    pub runs: u64,
    /// Runs that failed as a whole.
    pub failed: u64,
    /// Runs above the threshold of time, which is fixed when the step begins.
    pub slow: u64,
    /// Expensive runs: above the threshold of cost, which is fixed when the step begins.
    pub dear: u64,
    /// Runs without a threshold: the stable version had too few runs of this size before the step.
    pub untimed: u64,
}

/// The units of one window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WindowTotals {
    /// Units of the window, answered or not.
    pub units: u64,
    /// Units of the window that were not answered.
    pub failed: u64,
    /// Units whose answer took longer than the plan's ceiling for the 99th percentile.
    pub slow: u64,
}

/// Pairs of answers to the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PairTotals {
    /// The number of pairs.
    pub pairs: u64,
    /// Pairs with different labels, or with numbers that differ by more than the tolerance.
    pub differ: u64,
    /// The sum of |difference| of the first numbers of the answers.
    pub difference: f64,
}

impl Evidence {
    pub(crate) fn add(&mut self, other: &Evidence) {
        for (version, totals) in &other.arms {
            self.arms.entry(version.clone()).or_default().add(totals);
        }
    }
}

impl ArmTotals {
    pub(crate) fn add(&mut self, other: &ArmTotals) {
        self.requests += other.requests;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.seconds += other.seconds;
        self.units += other.units;
        self.failed += other.failed;
        self.nan += other.nan;
        self.full |= other.full;
        for (bucket, totals) in &other.runs {
            self.runs.entry(*bucket).or_default().add(totals);
        }
        for (prediction, count) in &other.predictions {
            *self.predictions.entry(prediction.clone()).or_default() += count;
        }
        for (window, totals) in &other.windows {
            self.windows.entry(*window).or_default().add(totals);
        }
        self.pairs.add(&other.pairs);
        self.compute_seconds += other.compute_seconds;
        self.cost_dollars += other.cost_dollars;
    }
}

impl RunTotals {
    fn add(&mut self, other: &RunTotals) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.slow += other.slow;
        self.dear += other.dear;
        self.untimed += other.untimed;
    }
}

impl WindowTotals {
    fn add(&mut self, other: &WindowTotals) {
        self.units += other.units;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

impl PairTotals {
    fn add(&mut self, other: &PairTotals) {
        self.pairs += other.pairs;
        self.differ += other.differ;
        self.difference += other.difference;
    }
}
