//! Simulates rollouts of candidates with known rates, judged after every observation.
//!
//! The judge is called only if its verdict can have changed. This shortcut is exact: one more
//! observation x lets ln E grow by at most -ln P(x; θ), where θ are the most likely rates that the
//! hypothesis allows, at the last call. While the sum of these terms is below the distance to the
//! limit, no limit is reached.

#![allow(dead_code, reason = "the bench and the test use different parts")]

mod stage;
mod statistics;
mod traffic;

use std::sync::atomic::{AtomicU64, Ordering};

use predictd::rollout::{
    judge::{GuardMetric, Judgement, Verdict},
    plan::{Guards, PlanStep, RolloutPlan},
    sequential::{self, Proportion},
};

pub use statistics::interval;
#[allow(unused_imports, reason = "the test needs no quantiles")]
pub use statistics::quantile;
pub use traffic::{GOOD, Rates, Rng, Traffic, Zipf};

use stage::{Bound, Stage, allowed};
use traffic::{Behaviour, FULL, Hits, Keys};

pub const STABLE: usize = 0;
pub const CANDIDATE: usize = 1;

/// The environment of a simulated rollout.
pub struct World<'a> {
    pub plan: &'a RolloutPlan,
    pub traffic: Traffic,
    pub zipf: &'a Zipf,
    pub stable: Rates,
    pub candidate: Rates,
    pub requests_per_second: f64,
    /// Number of requests after which a step is given up.
    pub horizon: u64,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub guard: Option<GuardMetric>,
    pub text: String,
    /// The candidate's units until the verdict, by step.
    pub units: Vec<u64>,
    pub requests: u64,
}

/// Simulates one rollout from its first step to its end, judged after every observation.
/// `ask_always` calls the judge each time, which must not change the result.
pub fn rollout(world: &World<'_>, seed: u64, ask_always: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let keys = Keys::new(world.traffic, world.zipf, seed, &mut rng);
    let behaviours = [&world.stable, &world.candidate].map(|rates| Behaviour::new(rates, &mut rng));
    let mut arrivals = Arrivals {
        world,
        rng,
        keys,
        behaviours,
        requests: 0,
    };
    let mut outcome = Outcome {
        verdict: Verdict::Hold,
        guard: None,
        text: String::new(),
        units: Vec::new(),
        requests: 0,
    };
    for step in 0..world.plan.steps.len() {
        let mut stage = Stage::new(world, step);
        let judgement = run_step(&mut stage, &mut arrivals, ask_always);
        outcome.requests = arrivals.requests;
        outcome.units.push(stage.arms[CANDIDATE].units);
        let Some(judgement) = judgement else {
            return outcome;
        };
        outcome.verdict = judgement.verdict;
        outcome.guard = judgement.guard;
        outcome.text = judgement.text;
        if judgement.verdict != Verdict::Advance {
            return outcome;
        }
    }
    outcome
}

/// Runs a step until its verdict. `None`: the horizon came first.
fn run_step(
    stage: &mut Stage<'_>,
    arrivals: &mut Arrivals<'_>,
    ask_always: bool,
) -> Option<Judgement> {
    let world = arrivals.world;
    let weight = match &world.plan.steps[stage.step] {
        PlanStep::Shadow { share, .. } => share / (1.0 + share),
        _ => world
            .plan
            .weights(stage.step, 1)
            .first()
            .copied()
            .unwrap_or_default(),
    };
    arrivals.keys.start_step();
    let began = arrivals.requests as f64 / world.requests_per_second;
    while arrivals.requests < world.horizon {
        if !arrivals.next(stage, weight) {
            continue;
        }
        let seconds = arrivals.requests as f64 / world.requests_per_second;
        stage.set_time(seconds - began, seconds);
        let judgement = if ask_always {
            Some(stage.judged()).filter(|judgement| judgement.verdict != Verdict::Hold)
        } else {
            stage.look()
        };
        if judgement.is_some() {
            return judgement;
        }
    }
    None
}

/// The requests of a simulated rollout.
struct Arrivals<'a> {
    world: &'a World<'a>,
    rng: Rng,
    keys: Keys<'a>,
    behaviours: [Behaviour; 2],
    requests: u64,
}

impl Arrivals<'_> {
    /// One request, or one batch. Returns whether it was counted.
    fn next(&mut self, stage: &mut Stage<'_>, weight: f64) -> bool {
        let arm = usize::from(self.rng.chance(weight));
        match self.world.traffic {
            Traffic::Independent => self.independent(stage, arm),
            Traffic::Keys | Traffic::KeysCountedSingly => return self.of_key(stage, weight),
            Traffic::Batches | Traffic::BatchesCountedByUnits => self.batch(stage, arm),
        }
        true
    }

    fn independent(&mut self, stage: &mut Stage<'_>, arm: usize) {
        let (does, rng) = (&mut self.behaviours[arm], &mut self.rng);
        self.requests += 1;
        stage.unit(
            arm,
            does.error.next(rng),
            does.nan.next(rng),
            does.late.next(rng),
        );
        stage.run(
            arm,
            false,
            does.run_failed.next(rng),
            does.slow.next(rng),
            does.expensive.next(rng),
        );
    }

    fn of_key(&mut self, stage: &mut Stage<'_>, weight: f64) -> bool {
        self.requests += 1;
        let error_rates = [self.world.stable.error, self.world.candidate.error];
        let request = self.keys.request(weight, error_rates, &mut self.rng);
        let counted = request.is_first || self.world.traffic == Traffic::KeysCountedSingly;
        if counted {
            let late = self.behaviours[request.arm].late.next(&mut self.rng);
            stage.unit(request.arm, request.failed, false, late);
        }
        counted
    }

    fn batch(&mut self, stage: &mut Stage<'_>, arm: usize) {
        let (does, rng) = (&mut self.behaviours[arm], &mut self.rng);
        let full = rng.chance(if arm == CANDIDATE { 0.01 } else { 0.5 });
        let rows = if full { FULL.0 } else { 1 };
        self.requests += rows;
        let failed = does.run_failed.next(rng);
        stage.run(
            arm,
            full,
            failed,
            does.slow.next(rng),
            does.expensive.next(rng),
        );
        if failed && self.world.traffic == Traffic::BatchesCountedByUnits {
            (0..rows).for_each(|_| stage.unit(arm, true, false, false));
        } else {
            stage.units_of_batch(arm, does, rows, rng);
        }
    }
}

/// Runs `count` simulations on all cores. The results are in the order of the seeds.
pub fn many<T: Send>(count: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<(u64, T)> = std::thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return mine;
                }
                mine.push((seed, one(seed)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, value)| value).collect()
}

/// A plan of one canary step with every guard, no margin, and ceilings equal to the rates of the
/// arms: the hardest case that alpha covers.
pub fn tight(weight: f64) -> RolloutPlan {
    let guards = Guards {
        error_margin: 0.0,
        nan_margin: 0.0,
        run_margin: 0.0,
        engine_time_margin: 0.0,
        cost_margin: 0.0,
        error_ceiling: GOOD.error,
        p99_ceiling_ms: Some(100.0),
        ..Guards::default()
    };
    let steps = vec![PlanStep::Canary {
        weight,
        min_seconds: 0,
        min_requests: u64::MAX,
        hold: false,
    }];
    RolloutPlan {
        guards,
        steps,
        max_seconds: 8_640_000,
        ..RolloutPlan::builtin("canary").unwrap()
    }
}

/// Judges errors only, with e-values at the given limits and with a z-test for a single look.
/// Returns the candidate's units until each finds that the candidate is worse.
pub fn errors_alone(
    weight: f64,
    margin: f64,
    rates: (f64, f64),
    limits: [f64; 2],
    units: u64,
    seed: u64,
) -> [Option<u64>; 3] {
    let mut rng = Rng::new(seed);
    let mut counts = [Proportion::default(); 2];
    let mut found = [None; 3];
    let mut bound = Bound::new(0.0, [(0.0, 0.0); 2]);
    let mut hits = [Hits::new(rates.1, &mut rng), Hits::new(rates.0, &mut rng)];
    while counts[CANDIDATE].of < units && found.iter().any(Option::is_none) {
        let arm = usize::from(rng.chance(weight));
        let hit = hits[arm].next(&mut rng);
        counts[arm] = Proportion::new(counts[arm].hits + u64::from(hit), counts[arm].of + 1);
        let [stable, candidate] = counts;
        bound.see(0, arm, hit);
        if bound.spent() {
            let e_value = sequential::log_e_worse(candidate, stable, margin);
            let mut missing = f64::INFINITY;
            for (limit, found) in limits
                .iter()
                .zip(&mut found)
                .filter(|(_, found)| found.is_none())
            {
                if e_value >= limit.ln() {
                    *found = Some(candidate.of);
                } else {
                    missing = missing.min(limit.ln() - e_value);
                }
            }
            bound = Bound::new(missing, [allowed(candidate, stable, margin, false); 2]);
        }
        // The z-test starts at 100 units and 5 failures, as textbooks recommend.
        let enough = candidate.of >= 100 && stable.of >= 100 && candidate.hits + stable.hits >= 5;
        if found[2].is_none() && enough {
            let (c, s) = (candidate.value(), stable.value());
            let variance = c * (1.0 - c) / candidate.of as f64 + s * (1.0 - s) / stable.of as f64;
            if c - s - margin > 2.326 * variance.sqrt() {
                found[2] = Some(candidate.of);
            }
        }
    }
    found
}
