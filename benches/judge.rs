//! Simulates the judge with candidates of known rates: how often it aborts a good candidate, and
//! how soon a bad one. The tables are in `docs/judge.md`. `cargo bench --bench judge -- 1000`
//! simulates a tenth of the rollouts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench"
)]

#[path = "judge/simulation.rs"]
mod simulation;

use std::time::Instant;

use predictd::rollout::{
    judge::{Verdict, limit},
    plan::RolloutPlan,
};
use simulation::{
    GOOD, Outcome, Rates, Traffic, World, Zipf, errors_alone, interval, many, quantile, rollout,
    tight,
};

fn main() {
    // `cargo test` runs this bench too, and then needs few rollouts.
    let most = if std::env::args().any(|argument| argument == "--bench") {
        10_000
    } else {
        20
    };
    // Only the first argument counts: `make bench` passes numbers that are meant for criterion.
    let rollouts = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .unwrap_or(most);
    let began = Instant::now();
    false_aborts(rollouts);
    peeking(rollouts);
    errors(rollouts / 10);
    engine_time(rollouts / 10);
    whole_rollouts(rollouts / 20);
    println!(
        "\n{:.0} s of {} threads",
        began.elapsed().as_secs_f64(),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `0.12 % (0.06 to 0.21)`
fn share(hits: usize, of: usize) -> String {
    let (least, most) = interval(hits as u64, of as u64);
    format!(
        "{} ({:.2} to {:.2})",
        percent(hits as f64 / of as f64),
        least * 100.0,
        most * 100.0
    )
}

fn aborted(outcomes: &[Outcome]) -> usize {
    outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Abort)
        .count()
}

fn false_aborts(rollouts: u64) {
    println!("\n### False aborts, guaranteed: at most 1 %\n");
    println!("| requests | weight | candidate's units | rollouts | false aborts (95 %) |");
    println!("|---|---|---|---|---|");
    let zipf = Zipf::new(20_000, 1.1);
    let cases = [
        (Traffic::Independent, "independent"),
        (
            Traffic::Keys,
            "Zipf-distributed keys; failures depend on the key",
        ),
        (Traffic::Batches, "failures shared by batches"),
        (
            Traffic::KeysCountedSingly,
            "*wrong:* Zipf keys, every request counted",
        ),
        (
            Traffic::BatchesCountedByUnits,
            "*wrong:* failed batches counted by units",
        ),
    ];
    for (traffic, name) in cases {
        for (weight, horizon) in [(0.01, 100_000), (0.05, 40_000), (0.5, 20_000)] {
            let plan = tight(weight);
            let horizon =
                if traffic == Traffic::Batches || traffic == Traffic::BatchesCountedByUnits {
                    horizon * 20
                } else {
                    horizon
                };
            let world = World {
                plan: &plan,
                traffic,
                zipf: &zipf,
                stable: GOOD,
                candidate: GOOD,
                requests_per_second: 100.0,
                horizon,
            };

            let outcomes = many(rollouts, |seed| rollout(&world, seed, false));
            let units: Vec<u64> = sorted(outcomes.iter().map(|outcome| outcome.units[0]));
            let median = quantile(&units, 0.5).unwrap_or_default();
            println!(
                "| {name} | {} | {median} | {rollouts} | {} |",
                percent(weight),
                share(aborted(&outcomes), outcomes.len())
            );
        }
    }
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

fn peeking(rollouts: u64) {
    println!(
        "\n### Errors only, equal arms, a look after every unit, 10,000 units of the candidate\n"
    );
    println!(
        "| error rate | weight | e-value reaches 100 (95 %) | z-test at 1 % says worse (95 %) |"
    );
    println!("|---|---|---|---|");
    for (rate, weight) in [(0.001, 0.05), (0.01, 0.05), (0.01, 0.5), (0.1, 0.5)] {
        let found = many(rollouts, |seed| {
            errors_alone(weight, 0.0, (rate, rate), [100.0, 1e300], 10_000, seed)
        });
        let count = |test: usize| found.iter().filter(|found| found[test].is_some()).count();
        println!(
            "| {} | {} | {} | {} |",
            percent(rate),
            percent(weight),
            share(count(0), found.len()),
            share(count(2), found.len())
        );
    }
}

fn errors(rollouts: u64) {
    println!("\n### Units of the candidate until it is aborted: median (90 %)\n");
    println!(
        "| error rate | margin | weight | e-value 100 (alone) | e-value 4,100 (one of the 41 tests of `medium`) | z-test at 1 % with peeking |"
    );
    println!("|---|---|---|---|---|---|");
    let cases: [((f64, f64), &[f64]); 4] = [
        ((0.001, 0.01), &[0.0, 0.002, 0.005]),
        ((0.01, 0.02), &[0.0, 0.002, 0.005]),
        ((0.001, 0.05), &[0.005]),
        ((0.001, 1.0), &[0.005]),
    ];
    for ((stable, candidate), margins) in cases {
        for &margin in margins {
            for weight in [0.05, 0.5] {
                let most = 200_000;

                let found = many(rollouts, |seed| {
                    errors_alone(
                        weight,
                        margin,
                        (candidate, stable),
                        [100.0, 4100.0],
                        most,
                        seed,
                    )
                });
                let column = |test: usize| {
                    both(&sorted(
                        found.iter().map(|found| found[test].unwrap_or(most)),
                    ))
                };
                println!(
                    "| {} to {} | {} | {} | {} | {} | {} |",
                    percent(stable),
                    percent(candidate),
                    percent(margin),
                    percent(weight),
                    column(0),
                    column(1),
                    column(2)
                );
            }
        }
    }
}

fn both(sorted: &[u64]) -> String {
    format!(
        "{} ({})",
        quantile(sorted, 0.5).unwrap_or_default(),
        quantile(sorted, 0.9).unwrap_or_default()
    )
}

fn one_step(weight: f64) -> RolloutPlan {
    let text = format!(
        "name = \"one\"\n[[steps]]\nkind = \"canary\"\nweight = {weight}\nmin_seconds = 0\nmin_requests = 100\n"
    );
    RolloutPlan::parse(&text).unwrap()
}

/// Lognormal times with σ = 0.5: a doubled time raises the share above the 95 % quantile to 1 -
/// Φ(1.645 - ln 2 / 0.5) = 40 %.
fn engine_time(rollouts: u64) {
    println!(
        "\n### Runs of the candidate until it is aborted because its engine time doubled (5 % to 40 % slow): median (90 %)\n"
    );
    println!("| weight | runs | aborted |");
    println!("|---|---|---|");
    let zipf = Zipf::new(1, 1.0);
    for weight in [0.01, 0.05, 0.5] {
        let plan = one_step(weight);
        let candidate = Rates {
            slow: 0.398,
            ..GOOD
        };
        let world = world(&plan, &zipf, candidate, 1_000_000);

        let outcomes = many(rollouts, |seed| rollout(&world, seed, false));
        let units = sorted(outcomes.iter().map(|outcome| outcome.units[0]));
        println!(
            "| {} | {} | {} of {} |",
            percent(weight),
            both(&units),
            aborted(&outcomes),
            outcomes.len()
        );
    }
}

fn world<'a>(plan: &'a RolloutPlan, zipf: &'a Zipf, candidate: Rates, horizon: u64) -> World<'a> {
    let stable = GOOD;
    World {
        plan,
        traffic: Traffic::Independent,
        zipf,
        stable,
        candidate,
        requests_per_second: 100.0,
        horizon,
    }
}

/// The built-in plans with an equal candidate, without the guards of predictions.
fn whole_rollouts(rollouts: u64) {
    println!(
        "\n### Whole rollouts of an equal candidate: units of the candidate until each step's end, median (90 %)\n"
    );
    println!(
        "| plan | error rate | limit | by step | requests in all | promoted | false aborts (95 %) |"
    );
    println!("|---|---|---|---|---|---|---|");
    let zipf = Zipf::new(1, 1.0);
    for (name, error) in [
        ("low", 0.001),
        ("low", 0.01),
        ("medium", 0.001),
        ("medium", 0.005),
    ] {
        let mut plan = RolloutPlan::builtin(name).unwrap();
        plan.guards.disagreement_budget = None;
        plan.guards.distribution_budget = None;
        let rates = Rates {
            error,
            nan: 0.0,
            run_failed: 0.0001,
            ..GOOD
        };
        let world = World {
            stable: rates,
            ..world(&plan, &zipf, rates, 100_000_000)
        };

        let outcomes = many(rollouts, |seed| rollout(&world, seed, false));
        let passed: Vec<&Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.verdict == Verdict::Advance)
            .collect();
        let steps: Vec<String> = (0..plan.steps.len())
            .map(|step| both(&sorted(passed.iter().map(|outcome| outcome.units[step]))))
            .collect();
        let requests = both(&sorted(passed.iter().map(|outcome| outcome.requests)));
        println!(
            "| {name} | {} | {:.0} | {} | {requests} | {} of {} | {} |",
            percent(error),
            limit(&plan, 1),
            steps.join(", "),
            passed.len(),
            outcomes.len(),
            share(aborted(&outcomes), outcomes.len())
        );
    }
}
