//! Compares the engine runs of two arms.

use crate::rollout::{
    evidence::{ArmTotals, RunTotals},
    judge::measurement::Measurement,
    sequential::{self, Proportion},
};

/// Minimum share of each arm's runs that a bucket of rows must contain to count for `advance`. A
/// rare bucket would keep a step waiting for ever.
const COMMON_BUCKET_SHARE: f64 = 0.05;

pub(super) const NO_RUNS: &str =
    "the first 64 runs of a version after its load are not compared, and an arm has no others";

/// Compares the arms bucket by bucket, because runs with the same number of rows take about the
/// same time. In statistical terms, the buckets are strata.
///
/// Only buckets in which both arms have runs are compared. The test of a bucket starts with the
/// first run of each arm, so that no earlier evidence is used. The stable version's share is
/// reported for the candidate's mix of buckets.
pub(super) fn measure_runs(
    arm: &ArmTotals,
    stable: &ArmTotals,
    proportion: impl Fn(&RunTotals) -> Proportion,
    margin: f64,
) -> Measurement {
    let strata: Vec<(Proportion, Proportion)> = arm
        .runs
        .iter()
        .filter_map(|(bucket, totals)| {
            Some((proportion(totals), proportion(stable.runs.get(bucket)?)))
        })
        // A bucket with runs of only one arm gives no information about the other arm.
        .filter(|(candidate, stable)| candidate.of > 0 && stable.of > 0)
        .collect();
    let (mut of, mut hits, mut stable_of, mut expected) = (0, 0, 0, 0.0);
    for (candidate, stable) in &strata {
        of += candidate.of;
        hits += candidate.hits;
        stable_of += stable.of;
        // The hits of the stable version, if it had the same number of runs in the bucket as the
        // candidate.
        expected += candidate.of as f64 * stable.value();
    }
    let stable_hits = if of == 0 {
        0.0
    } else {
        expected / of as f64 * stable_of as f64
    };
    let common = common_buckets(arm, stable)
        .map(|(candidate, stable)| (proportion(candidate), proportion(stable)));
    let log_e_fine = sequential::log_e_not_worse_in_all(
        common.filter(|(candidate, stable)| candidate.of > 0 && stable.of > 0),
        margin,
    );
    Measurement {
        unit: "runs",
        candidate: Proportion::new(hits, of),
        stable: Some(Proportion::new(stable_hits.round() as u64, stable_of)),
        margin,
        log_e_worse: sequential::log_e_worse_in_some(strata, margin),
        log_e_fine,
        limit_factor: 1.0,
        detail: None,
    }
}

/// The buckets that contain a considerable share of the runs of both arms.
pub(super) fn common_buckets<'a>(
    arm: &'a ArmTotals,
    stable: &'a ArmTotals,
) -> impl Iterator<Item = (&'a RunTotals, &'a RunTotals)> {
    let least = |arm: &ArmTotals| (run_count(arm) as f64 * COMMON_BUCKET_SHARE).max(1.0);
    let (of_arm, of_stable) = (least(arm), least(stable));
    let pairs = arm
        .runs
        .iter()
        .filter_map(|(bucket, totals)| Some((totals, stable.runs.get(bucket)?)));
    pairs.filter(move |(candidate, stable)| {
        candidate.runs as f64 >= of_arm && stable.runs as f64 >= of_stable
    })
}

/// Why the runs of the arms can't be compared.
pub(super) fn runs_not_comparable(
    arm: &ArmTotals,
    stable: &ArmTotals,
    needs_time: bool,
) -> Option<&'static str> {
    if run_count(arm) == 0 || run_count(stable) == 0 {
        return Some(NO_RUNS);
    }
    if common_buckets(arm, stable).next().is_none() {
        return Some("the arms have no size of run in common");
    }
    let untimed = common_buckets(arm, stable)
        .all(|(candidate, stable)| timed_runs(candidate) == 0 || timed_runs(stable) == 0);
    (needs_time && untimed)
        .then_some("stable had too few runs before the step to tell what is slow")
}

fn run_count(arm: &ArmTotals) -> u64 {
    arm.runs.values().map(|totals| totals.runs).sum()
}

/// The number of runs that were compared with a threshold. A failed run has no duration.
pub(super) fn timed_runs(runs: &RunTotals) -> u64 {
    runs.runs.saturating_sub(runs.untimed + runs.failed)
}
