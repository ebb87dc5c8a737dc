//! `Evidence`: the results of a rollout's arms since a step began, summed over replicas and
//! restarts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of a version's first runs after a load that are not compared. They are slow, because
/// caches are empty and memory is allocated.
pub const WARM_RUNS: u64 = 64;

/// The evidence of one step. `add` adds the evidence of another replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// The totals of each version, including the stable version.
    pub arms: BTreeMap<String, ArmTotals>,
}

/// The results of one version.
///
/// A *unit* is what the rollout assigns to a version. If the plan has a key, a unit is a key, and
/// only the first request of the key in the step counts. Otherwise each request is a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ArmTotals {
    /// The number of all requests. It is shown, but not tested: the requests of one key are not
    /// independent.
    pub requests: u64,
    /// The failures of all requests, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Seconds from the routing to the answer, summed over all answered requests.
    pub seconds: f64,
    /// The number of units that the step assigned to the version, answered or not.
    pub units: u64,
    /// The number of units that were not answered. Units of a failed engine run are not included:
    /// `runs` counts that run. Otherwise a version with small batches would seem to fail more
    /// often.
    pub failed: u64,
    /// The number of units with NaN or infinity in the answer.
    pub nan: u64,
    /// Whether the limit of counted keys is reached, so that the step collects no more evidence.
    pub full: bool,
    /// Engine runs, grouped by their number of rows. Bucket b contains the runs of more than
    /// 2^(b-1) and at most 2^b rows.
    pub runs: BTreeMap<u8, RunTotals>,
    /// The number of units by their first prediction, which is a class or the bin of a number.
    pub predictions: BTreeMap<String, u64>,
    /// Units by time. Window w starts w * `window_seconds` seconds after the start of the step. Old
    /// windows are dropped.
    pub windows: BTreeMap<u32, WindowTotals>,
    /// Units that both the stable version and this version answered.
    pub pairs: PairTotals,
    /// The time in seconds for which the engine used processor cores.
    pub compute_seconds: f64,
    /// The cost of these seconds in dollars.
    pub cost_dollars: f64,
}

/// The engine runs of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunTotals {
    /// The number of all runs in the bucket.
    pub runs: u64,
    /// The number of runs that failed as a whole.
    pub failed: u64,
    /// The number of runs above the time threshold, which is fixed when the step begins.
    pub slow: u64,
    /// The number of expensive runs, which are above the cost threshold. It is fixed when the step
    /// begins.
    #[serde(alias = "dear")]
    pub expensive: u64,
    /// The number of runs without a threshold, because the stable version had too few runs of this
    /// size before the step.
    pub untimed: u64,
}

/// The units of one window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WindowTotals {
    /// The number of units in the window, answered or not.
    pub units: u64,
    /// The number of units in the window that were not answered.
    pub failed: u64,
    /// The number of units whose answer took longer than the plan's ceiling for the 99th
    /// percentile.
    pub slow: u64,
}

/// Pairs of answers to the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PairTotals {
    /// The number of pairs.
    pub pairs: u64,
    /// The number of pairs with different labels, or with numbers that differ by more than the
    /// tolerance.
    pub differ: u64,
    /// The sum of the absolute differences between the first numbers of the answers.
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
        self.expensive += other.expensive;
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
