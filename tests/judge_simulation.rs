//! The error rate that the judge promises, by simulation. `benches/judge.rs` simulates many more
//! rollouts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic: that is how it fails"
)]

#[path = "../benches/judge/simulation.rs"]
mod simulation;

use predictd::rollout::{
    judge::{GuardMetric, Verdict},
    plan::RolloutPlan,
};
use simulation::{
    GOOD, Outcome, Rates, Traffic, World, Zipf, errors_alone, interval, many, rollout, tight,
};

fn aborted(outcomes: &[Outcome]) -> u64 {
    outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Abort)
        .count() as u64
}

/// Whether the number of aborts is compatible with a true share of 1 %.
fn keeps_its_promise(aborted: u64, of: u64) -> bool {
    interval(aborted, of).0 <= 0.01
}

#[test]
fn good_candidates_are_not_aborted() {
    let zipf = Zipf::new(2_000, 1.1);
    for traffic in [Traffic::Independent, Traffic::Keys, Traffic::Batches] {
        for (weight, horizon) in [(0.01, 10_000), (0.5, 2_000)] {
            let plan = tight(weight);
            let world = World {
                plan: &plan,
                traffic,
                zipf: &zipf,
                stable: GOOD,
                candidate: GOOD,
                requests_per_second: 20.0,
                horizon,
            };
            let outcomes = many(300, |seed| rollout(&world, seed, false));
            assert!(
                keeps_its_promise(aborted(&outcomes), 300),
                "{traffic:?} {weight}: {}",
                aborted(&outcomes)
            );
        }
    }
}

/// Requests that succeed or fail together are one unit of evidence, not several.
#[test]
fn dependent_requests_must_not_count_as_separate_units() {
    let zipf = Zipf::new(2_000, 1.1);
    for traffic in [Traffic::KeysCountedSingly, Traffic::BatchesCountedByUnits] {
        let plan = tight(0.5);
        let rates = Rates {
            run_failed: 0.02,
            ..GOOD
        };
        let world = World {
            plan: &plan,
            traffic,
            zipf: &zipf,
            stable: rates,
            candidate: rates,
            requests_per_second: 100.0,
            horizon: 50_000,
        };
        let outcomes = many(100, |seed| rollout(&world, seed, false));
        assert!(
            !keeps_its_promise(aborted(&outcomes), 100),
            "{traffic:?}: {}",
            aborted(&outcomes)
        );
    }
}

#[test]
fn bad_candidates_are_aborted() {
    let zipf = Zipf::new(1, 1.0);
    let plan = RolloutPlan::parse(
        "name = \"one\"\n[[steps]]\nkind = \"canary\"\nweight = 0.2\nmin_requests = 100\n",
    )
    .unwrap();
    let cases = [
        (
            Rates {
                error: 0.05,
                ..GOOD
            },
            GuardMetric::Errors,
        ),
        (Rates { nan: 0.05, ..GOOD }, GuardMetric::Nan),
        (
            Rates {
                run_failed: 0.05,
                ..GOOD
            },
            GuardMetric::Runs,
        ),
        (Rates { slow: 0.4, ..GOOD }, GuardMetric::EngineTime),
        (
            Rates {
                expensive: 0.4,
                ..GOOD
            },
            GuardMetric::Cost,
        ),
    ];
    for (candidate, guard) in cases {
        let world = World {
            plan: &plan,
            traffic: Traffic::Independent,
            zipf: &zipf,
            stable: GOOD,
            candidate,
            requests_per_second: 100.0,
            horizon: 100_000,
        };
        let outcomes = many(20, |seed| rollout(&world, seed, false));
        let right = outcomes
            .iter()
            .filter(|outcome| outcome.verdict == Verdict::Abort && outcome.guard == Some(guard))
            .count();
        assert!(right >= 19, "{guard:?}: {right}");
    }
}

/// A candidate that is as good reaches the end of the plan.
#[test]
fn good_candidates_reach_the_end_of_the_plan() {
    let zipf = Zipf::new(1, 1.0);
    let plan = RolloutPlan::builtin("low").unwrap();
    let rates = Rates {
        error: 0.001,
        nan: 0.0,
        run_failed: 0.0,
        ..GOOD
    };
    let world = World {
        plan: &plan,
        traffic: Traffic::Independent,
        zipf: &zipf,
        stable: rates,
        candidate: rates,
        requests_per_second: 100.0,
        horizon: 3_000_000,
    };
    let outcomes = many(10, |seed| rollout(&world, seed, false));
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.verdict == Verdict::Advance && outcome.units.len() == 3),
        "{outcomes:?}"
    );
}

/// The simulation calls the judge only when its verdict can have changed. The verdicts must be
/// those of a call after every request.
#[test]
fn skipped_calls_of_the_judge_do_not_change_the_verdict() {
    let zipf = Zipf::new(2_000, 1.1);
    let bad = Rates {
        error: 0.05,
        slow: 0.1,
        ..GOOD
    };
    let cases = [
        (tight(0.3), Traffic::Independent, GOOD, 1_500),
        (tight(0.3), Traffic::Independent, bad, 1_500),
        (tight(0.3), Traffic::KeysCountedSingly, GOOD, 3_000),
        (
            tight(0.3),
            Traffic::BatchesCountedByUnits,
            Rates {
                run_failed: 0.05,
                ..GOOD
            },
            30_000,
        ),
        (
            RolloutPlan::builtin("low").unwrap(),
            Traffic::Independent,
            Rates {
                error: 0.0,
                nan: 0.0,
                run_failed: 0.0,
                ..GOOD
            },
            100_000,
        ),
    ];
    let mut decided = 0;
    for (mut plan, traffic, candidate, horizon) in cases {
        for step in &mut plan.steps {
            if let predictd::rollout::plan::PlanStep::Canary { min_seconds, .. } = step {
                *min_seconds = 10;
            }
        }
        let stable = if candidate.error == 0.0 {
            candidate
        } else {
            GOOD
        };
        let world = World {
            plan: &plan,
            traffic,
            zipf: &zipf,
            stable,
            candidate,
            requests_per_second: 50.0,
            horizon,
        };
        let pairs = many(6, |seed| {
            (rollout(&world, seed, false), rollout(&world, seed, true))
        });
        for (fast, slow) in pairs {
            assert_eq!(
                (fast.verdict, fast.guard, &fast.units, fast.requests),
                (slow.verdict, slow.guard, &slow.units, slow.requests)
            );
            assert_eq!(fast.text, slow.text);
            decided += usize::from(fast.verdict != Verdict::Hold);
        }
    }
    assert!(decided >= 10, "{decided}");
}

/// A test for a fixed sample size is evaluated after every unit.
#[test]
fn a_fixed_sample_test_that_is_repeated_breaks_the_promise() {
    let found = many(200, |seed| {
        errors_alone(0.5, 0.0, (0.05, 0.05), [100.0, 3600.0], 5_000, seed)
    });
    let count = |test: usize| found.iter().filter(|found| found[test].is_some()).count() as u64;
    assert!(keeps_its_promise(count(0), 200), "{}", count(0));
    assert!(interval(count(2), 200).0 > 0.05, "{}", count(2));
}
