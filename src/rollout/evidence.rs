//! Evidence: what the arms of a rollout did since a step began, as sums that add up over replicas and restarts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that is known of one step. Sums of several replicas are added by `add`.
/// Runs of a version after its load that no other is compared with.
pub const WARM_RUNS: u64 = 64;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// By version; the stable one is among them.
    pub arms: BTreeMap<String, ArmTotals>,
}

/// What one arm did.
///
/// A *unit* is what is assigned: a key, of which only the first request of the step counts, or a request where requests are
/// assigned one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ArmTotals {
    /// All requests, and their failures by kind: for people. Requests of one key share their fate, so nothing is tested by them.
    pub requests: u64,
    pub errors: BTreeMap<String, u64>,
    /// Seconds from the routing to the answer, summed over all answered requests.
    pub seconds: f64,
    pub units: u64,
    /// Units that were not answered, for a reason of their own. Those of a failed run are counted in `runs` alone, also where it held
    /// only one: else an arm whose runs are small would seem to fail more often.
    pub failed: u64,
    /// Units whose answer holds a number that is none.
    pub nan: u64,
    /// There is no room for further keys: nothing more is collected in this step.
    pub full: bool,
    /// Engine runs by the number of their rows: bucket b holds those of more than 2^(b-1) and at most 2^b rows.
    pub runs: BTreeMap<u8, RunTotals>,
    /// Units by what was predicted first: a class, or the bin of a number.
    pub predictions: BTreeMap<String, u64>,
    /// Units by time: window w holds those of the seconds from w * `window_seconds` on since the step began. Old ones are dropped.
    pub windows: BTreeMap<u32, WindowTotals>,
    /// Units that the stable version and this one answered both.
    pub pairs: PairTotals,
    /// Seconds of cores spent in the engine, and what they cost in dollars.
    pub compute_seconds: f64,
    pub cost_dollars: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunTotals {
    pub runs: u64,
    /// Runs that failed as a whole.
    pub failed: u64,
    /// Runs above the threshold of time, and above that of cost, both frozen when the step began.
    pub slow: u64,
    pub dear: u64,
    /// Runs that were compared with no threshold: stable had too few of their size before the step.
    pub untimed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WindowTotals {
    pub units: u64,
    pub failed: u64,
    /// Units answered later than the plan's ceiling of the 99th percentile.
    pub slow: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PairTotals {
    pub pairs: u64,
    /// Pairs whose label differs, or a number by more than the tolerance.
    pub differ: u64,
    /// |difference| of the first number of the answers, summed.
    pub difference: f64,
}

impl Evidence {
    pub fn add(&mut self, other: &Evidence) {
        for (version, totals) in &other.arms {
            self.arms.entry(version.clone()).or_default().add(totals);
        }
    }
}

impl ArmTotals {
    pub fn add(&mut self, other: &ArmTotals) {
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
            let mine = self.runs.entry(*bucket).or_default();
            mine.runs += totals.runs;
            mine.failed += totals.failed;
            mine.slow += totals.slow;
            mine.dear += totals.dear;
            mine.untimed += totals.untimed;
        }
        for (what, count) in &other.predictions {
            *self.predictions.entry(what.clone()).or_default() += count;
        }
        for (window, totals) in &other.windows {
            let mine = self.windows.entry(*window).or_default();
            mine.units += totals.units;
            mine.failed += totals.failed;
            mine.slow += totals.slow;
        }
        self.pairs.pairs += other.pairs.pairs;
        self.pairs.differ += other.pairs.differ;
        self.pairs.difference += other.pairs.difference;
        self.compute_seconds += other.compute_seconds;
        self.cost_dollars += other.cost_dollars;
    }
}
