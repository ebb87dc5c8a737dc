//! Simulates rollouts of candidates with known rates, judged after every observation.
//!
//! The judge is called only if its verdict can have changed. This shortcut is exact: one more
//! observation x lets ln E grow by at most -ln P(x; θ), where θ are the most likely rates that the
//! hypothesis allows, at the last call. While the sum of these terms is below the distance to the
//! limit, no limit is reached.

#![allow(dead_code, reason = "the bench and the test use different parts")]

use std::sync::atomic::{AtomicU64, Ordering};

use predictd::rollout::{
    evidence::{ArmTotals, Evidence, RunTotals, WindowTotals},
    judge::{self, Case, GuardMetric, Judgement, Verdict},
    plan::{Guards, PlanStep, RolloutPlan},
    sequential::{self, Proportion},
    split::KeyHash,
};

pub const STABLE: usize = 0;
pub const CANDIDATE: usize = 1;

/// xorshift64* (Marsaglia 2003, Vigna 2016), seeded by splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng((z ^ (z >> 31)) | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2f64.powi(-53)
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }
}

/// Random hits with a given rate. The number of misses until the next hit is drawn from the
/// geometric distribution, which has the same law as one draw per observation, and is faster.
struct Hits {
    p: f64,
    misses: u64,
}

impl Hits {
    fn new(p: f64, rng: &mut Rng) -> Hits {
        let mut hits = Hits { p, misses: 0 };
        hits.draw(rng);
        hits
    }

    fn draw(&mut self, rng: &mut Rng) {
        // The numerator is in (0, 1]. A rate of 0 never hits, because the quotient is infinite and
        // saturates.
        let u = 1.0 - rng.uniform();
        self.misses = if self.p >= 1.0 {
            0
        } else {
            (u.ln() / (-self.p).ln_1p()).abs() as u64
        };
    }

    fn next(&mut self, rng: &mut Rng) -> bool {
        if self.misses > 0 {
            self.misses -= 1;
            return false;
        }
        self.draw(rng);
        true
    }
}

/// The random events of one arm.
struct Behaviour {
    error: Hits,
    nan: Hits,
    late: Hits,
    run_failed: Hits,
    slow: Hits,
    expensive: Hits,
}

impl Behaviour {
    fn new(rates: &Rates, rng: &mut Rng) -> Behaviour {
        Behaviour {
            error: Hits::new(rates.error, rng),
            nan: Hits::new(rates.nan, rng),
            late: Hits::new(rates.late, rng),
            run_failed: Hits::new(rates.run_failed, rng),
            slow: Hits::new(rates.slow, rng),
            expensive: Hits::new(rates.expensive, rng),
        }
    }

    /// The number of next units that are certainly good, at most `most`.
    fn good(&mut self, most: u64) -> u64 {
        let good = most
            .min(self.error.misses)
            .min(self.nan.misses)
            .min(self.late.misses);
        for hits in [&mut self.error, &mut self.nan, &mut self.late] {
            hits.misses -= good;
        }
        good
    }
}

/// The true rates of an arm.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub error: f64,
    pub nan: f64,
    pub late: f64,
    pub run_failed: f64,
    pub slow: f64,
    pub expensive: f64,
}

pub const GOOD: Rates = Rates {
    error: 0.01,
    nan: 0.002,
    late: 0.01,
    run_failed: 0.002,
    slow: 0.05,
    expensive: 0.05,
};

/// The dependence between requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    /// Requests are independent, and each is a run of one row.
    Independent,
    /// A key fails always or never. It is counted at its first request.
    Keys,
    /// Like `Keys`, but every request is counted, which is wrong.
    KeysCountedSingly,
    /// Stable's runs are mostly full ones (64 rows), the candidate's mostly single rows. A failed
    /// run is counted as a run.
    Batches,
    /// Like `Batches`, but the units of a failed run are counted, which is wrong.
    BatchesCountedByUnits,
}

/// A full run, and its bucket.
const FULL: (u64, u8) = (64, 6);

/// Keys with Zipf popularity: the k-th key is k^-1.1 times as frequent as the first (an exponent of
/// web traffic).
pub struct Zipf {
    /// Walker's alias table (1977): for each place, the probability of its own key, and the key
    /// that it gives otherwise.
    places: Vec<(f64, usize)>,
}

impl Zipf {
    pub fn new(keys: usize, exponent: f64) -> Zipf {
        let weights: Vec<f64> = (1..=keys)
            .map(|rank| (rank as f64).powf(-exponent))
            .collect();
        let total: f64 = weights.iter().sum();
        let mut places: Vec<(f64, usize)> = weights
            .iter()
            .map(|weight| weight / total * keys as f64)
            .zip(0..)
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..keys).partition(|key| places[*key].0 < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.pop()) {
            places[less].1 = more;
            places[more].0 -= 1.0 - places[less].0;
            if places[more].0 < 1.0 {
                small.push(more)
            } else {
                large.push(more)
            }
        }
        Zipf { places }
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let u = rng.uniform() * self.places.len() as f64;
        let (chance, other) = self.places[u as usize];
        if u.fract() < chance {
            u as usize
        } else {
            other
        }
    }
}

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

/// The bound on the growth of ln E since it was computed: -ln P for each stratum, arm and outcome.
struct Bound {
    missing: f64,
    growth: [[[f64; 2]; 2]; 2],
}

impl Bound {
    fn never() -> Bound {
        Bound {
            missing: f64::INFINITY,
            growth: [[[0.0; 2]; 2]; 2],
        }
    }

    fn new(missing: f64, points: [(f64, f64); 2]) -> Bound {
        let growth = points.map(|(candidate, stable)| {
            [stable, candidate].map(|p: f64| [-(1.0 - p).ln(), -p.ln()])
        });
        Bound { missing, growth }
    }

    fn see(&mut self, stratum: usize, arm: usize, hit: bool) {
        self.missing -= self.growth[stratum][arm][usize::from(hit)];
    }

    fn see_misses(&mut self, arm: usize, count: u64) {
        self.missing -= self.growth[0][arm][0] * count as f64;
    }

    /// Whether the distance to the limit may be used up, allowing for the rounding of many sums.
    fn spent(&self) -> bool {
        self.missing <= 1e-6
    }
}

/// The most likely rates (of candidate and stable) that a hypothesis allows, found by bisection.
fn allowed(
    candidate: Proportion,
    stable: Proportion,
    margin: f64,
    candidate_is_worse: bool,
) -> (f64, f64) {
    let (c, s) = (candidate.value(), stable.value());
    if candidate.of == 0 || stable.of == 0 {
        return match (candidate_is_worse, candidate.of) {
            (false, 0) => (s, s),
            (false, _) => (c, (c - margin).max(0.0)),
            (true, 0) => (s.min(1.0 - margin) + margin, s.min(1.0 - margin)),
            (true, _) => (c.max(margin), 0.0),
        };
    }
    if (c <= s + margin) != candidate_is_worse || c == s + margin {
        return (c, s);
    }
    if margin == 0.0 {
        let p = (candidate.hits + stable.hits) as f64 / (candidate.of + stable.of) as f64;
        return (p, p);
    }
    let (k, n, l, m) = (
        candidate.hits as f64,
        candidate.of as f64,
        stable.hits as f64,
        stable.of as f64,
    );
    let over = |count: f64, p: f64| if count == 0.0 { 0.0 } else { count / p };
    let slope = |p: f64| {
        over(k, p + margin) - over(n - k, 1.0 - p - margin) + over(l, p) - over(m - l, 1.0 - p)
    };
    let (mut low, mut high) = (
        s.min(c - margin).max(0.0),
        s.max(c - margin).min(1.0 - margin),
    );
    for _ in 0..50 {
        let p = 0.5 * (low + high);
        if slope(p) > 0.0 { low = p } else { high = p }
    }
    (high + margin, high)
}

const PAIRS: [GuardMetric; 5] = [
    GuardMetric::Errors,
    GuardMetric::Nan,
    GuardMetric::Runs,
    GuardMetric::EngineTime,
    GuardMetric::Cost,
];

/// A step in progress.
struct Stage<'a> {
    world: &'a World<'a>,
    step: usize,
    limit: f64,
    arms: [ArmTotals; 2],
    window: u32,
    worse: [Bound; 5],
    fine: [Bound; 5],
    ceilings: [Bound; 2],
    /// The current seconds of the step and of the rollout.
    seconds: (f64, f64),
}

impl<'a> Stage<'a> {
    fn new(world: &'a World<'a>, step: usize) -> Stage<'a> {
        let mut stage = Stage {
            world,
            step,
            limit: judge::limit(world.plan, 1),
            arms: [ArmTotals::default(), ArmTotals::default()],
            window: 0,
            worse: std::array::from_fn(|_| Bound::never()),
            fine: std::array::from_fn(|_| Bound {
                missing: 0.0,
                ..Bound::never()
            }),
            ceilings: std::array::from_fn(|_| Bound::never()),
            seconds: (0.0, 0.0),
        };
        for index in 0..5 {
            stage.refresh(index, false);
        }
        stage.refresh_ceilings();
        stage
    }

    fn concurrent(&self) -> bool {
        self.world.plan.steps[self.step].concurrent()
    }

    /// The counts of a guard by stratum, for the candidate and the stable version.
    fn strata(&self, guard: GuardMetric) -> [(Proportion, Proportion); 2] {
        let guards = |arm: &ArmTotals| match guard {
            GuardMetric::Errors => [
                Proportion::new(arm.failed, arm.units),
                Proportion::default(),
            ],
            GuardMetric::Nan => [Proportion::new(arm.nan, arm.units), Proportion::default()],
            _ => [0, FULL.1].map(|bucket| {
                let runs = arm.runs.get(&bucket).copied().unwrap_or_default();
                let hits = match guard {
                    GuardMetric::Runs => runs.failed,
                    GuardMetric::EngineTime => runs.slow,
                    _ => runs.dear,
                };
                Proportion::new(hits, runs.runs)
            }),
        };
        let ([c, d], [s, t]) = (guards(&self.arms[CANDIDATE]), guards(&self.arms[STABLE]));
        [(c, s), (d, t)]
    }

    fn margin(&self, guard: GuardMetric) -> f64 {
        let guards: &Guards = &self.world.plan.guards;
        match guard {
            GuardMetric::Errors => guards.error_margin,
            GuardMetric::Nan => guards.nan_margin,
            GuardMetric::Runs => guards.run_margin,
            GuardMetric::EngineTime => guards.engine_time_margin,
            _ => guards.cost_margin,
        }
    }

    fn refresh(&mut self, index: usize, fine: bool) {
        let guard = PAIRS[index];
        if !self.concurrent() {
            return;
        }
        let (margin, strata) = (self.margin(guard), self.strata(guard));
        let points = |worse: bool| {
            strata.map(|(candidate, stable)| allowed(candidate, stable, margin, worse))
        };
        let both = || {
            strata
                .into_iter()
                .filter(|(candidate, stable)| candidate.of > 0 && stable.of > 0)
        };
        if fine {
            let e_value = match index {
                0 | 1 => sequential::log_e_not_worse(strata[0].0, strata[0].1, margin),
                _ => sequential::log_e_not_worse_in_all(both(), margin),
            };
            self.fine[index] =
                Bound::new((1.0 / self.world.plan.alpha).ln() - e_value, points(true));
        } else {
            let e_value = match index {
                0 | 1 => sequential::log_e_worse(strata[0].0, strata[0].1, margin),
                _ => sequential::log_e_worse_in_some(both(), margin),
            };
            self.worse[index] = Bound::new(self.limit.ln() - e_value, points(false));
        }
    }

    fn refresh_ceilings(&mut self) {
        let factor = (std::f64::consts::PI * (f64::from(self.window) + 1.0)).powi(2) / 6.0;
        let window = self.arms[CANDIDATE]
            .windows
            .get(&self.window)
            .copied()
            .unwrap_or_default();
        let late = self
            .world
            .plan
            .guards
            .p99_ceiling_ms
            .map(|_| (window.slow, 0.01));
        for (index, test) in [
            Some((window.failed, self.world.plan.guards.error_ceiling)),
            late,
        ]
        .into_iter()
        .enumerate()
        {
            if let Some((hits, ceiling)) = test {
                let share = Proportion::new(hits, window.units);
                // Before the first observation, all allowed rates are equally likely.
                let p = if share.of == 0 {
                    ceiling
                } else {
                    share.value().min(ceiling)
                };
                let missing = (self.limit * factor).ln() - sequential::log_e_above(share, ceiling);
                self.ceilings[index] = Bound::new(missing, [(p, 0.0); 2]);
            }
        }
    }

    fn unit(&mut self, arm: usize, failed: bool, nan: bool, late: bool) {
        let totals = &mut self.arms[arm];
        totals.units += 1;
        totals.failed += u64::from(failed);
        totals.nan += u64::from(nan);
        for (index, hit) in [failed, nan].into_iter().enumerate() {
            self.worse[index].see(0, arm, hit);
            self.fine[index].see(0, arm, hit);
        }
        if arm == CANDIDATE {
            // Only the current window can still change.
            if !totals.windows.contains_key(&self.window) {
                totals.windows.clear();
            }
            let window = totals.windows.entry(self.window).or_default();
            *window = WindowTotals {
                units: window.units + 1,
                failed: window.failed + u64::from(failed),
                slow: window.slow + u64::from(late),
            };
            self.ceilings[0].see(0, arm, failed);
            self.ceilings[1].see(0, arm, late);
        }
    }

    /// The units of a batch: sequences of good units, each followed by one unit that is drawn
    /// singly.
    fn units_of_batch(&mut self, arm: usize, does: &mut Behaviour, rows: u64, rng: &mut Rng) {
        let mut left = rows;
        while left > 0 {
            let good = does.good(left);
            self.good_units(arm, good);
            left -= good;
            if left > 0 {
                self.unit(
                    arm,
                    does.error.next(rng),
                    does.nan.next(rng),
                    does.late.next(rng),
                );
                left -= 1;
            }
        }
    }

    fn good_units(&mut self, arm: usize, count: u64) {
        if count == 0 {
            return;
        }
        self.unit(arm, false, false, false);
        let more = count - 1;
        self.arms[arm].units += more;
        for bound in self
            .worse
            .iter_mut()
            .take(2)
            .chain(self.fine.iter_mut().take(2))
        {
            bound.see_misses(arm, more);
        }
        if let Some(window) = self.arms[arm].windows.get_mut(&self.window) {
            window.units += more;
            self.ceilings
                .iter_mut()
                .for_each(|bound| bound.see_misses(arm, more));
        }
    }

    fn run(&mut self, arm: usize, full: bool, failed: bool, slow: bool, expensive: bool) {
        let totals = self.arms[arm]
            .runs
            .entry(if full { FULL.1 } else { 0 })
            .or_default();
        *totals = RunTotals {
            runs: totals.runs + 1,
            failed: totals.failed + u64::from(failed),
            // A failed run has no engine time.
            slow: totals.slow + u64::from(slow && !failed),
            dear: totals.dear + u64::from(expensive && !failed),
            untimed: 0,
        };
        let first = totals.runs == 1;
        for (index, hit) in [(2, failed), (3, slow), (4, expensive)]
            .into_iter()
            .take(if failed { 1 } else { 3 })
        {
            self.worse[index].see(usize::from(full), arm, hit);
            self.fine[index].see(usize::from(full), arm, hit);
            if first {
                self.refresh(index, false);
                self.fine[index].missing = 0.0;
            }
        }
    }

    /// Calls the judge if its verdict may differ from `Hold`.
    fn look(&mut self) -> Option<Judgement> {
        let mut ask = false;
        for index in 0..5 {
            if self.worse[index].spent() {
                self.refresh(index, false);
                ask |= self.worse[index].spent();
            }
        }
        if self.ceilings.iter().any(Bound::spent) {
            self.refresh_ceilings();
            ask |= self.ceilings.iter().any(Bound::spent);
        }
        let step = &self.world.plan.steps[self.step];
        let enough = |arm: &ArmTotals| arm.units >= step.min_requests();
        let enough =
            enough(&self.arms[CANDIDATE]) && (!step.concurrent() || enough(&self.arms[STABLE]));
        if enough
            && self.seconds.0 >= step.min_seconds() as f64
            && self
                .fine
                .iter()
                .all(|bound| bound.spent() || !self.concurrent())
        {
            for index in 0..5 {
                self.refresh(index, true);
            }
            ask |= self
                .fine
                .iter()
                .all(|bound| bound.spent() || !self.concurrent());
        }
        if !ask {
            return None;
        }
        Some(self.judged()).filter(|judgement| judgement.verdict != Verdict::Hold)
    }

    fn judged(&self) -> Judgement {
        let evidence = Evidence {
            arms: [
                ("stable".to_owned(), self.arms[STABLE].clone()),
                ("candidate".to_owned(), self.arms[CANDIDATE].clone()),
            ]
            .into(),
        };
        judge::judge(&Case {
            plan: self.world.plan,
            step: self.step,
            stable: "stable",
            candidates: &["candidate".to_owned()],
            evidence: &evidence,
            step_seconds: self.seconds.0,
            rollout_seconds: self.seconds.1,
            accepted: &[],
        })
    }
}

/// Simulates one rollout from its first step to its end, judged after every observation.
/// `ask_always` calls the judge each time, which must not change the result.
pub fn rollout(world: &World<'_>, seed: u64, ask_always: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut outcome = Outcome {
        verdict: Verdict::Hold,
        guard: None,
        text: String::new(),
        units: Vec::new(),
        requests: 0,
    };
    let keys = match world.traffic {
        Traffic::Keys | Traffic::KeysCountedSingly => world.zipf.places.len(),
        _ => 0,
    };
    let salt = seed.to_le_bytes();
    let positions: Vec<_> = (0..keys as u32)
        .map(|key| KeyHash::of(&salt, &key.to_le_bytes()).assign)
        .collect();
    // If the rates of the two versions are equal, a key fails in both or in neither.
    let fates: Vec<f64> = (0..keys).map(|_| rng.uniform()).collect();
    let mut behaviours =
        [&world.stable, &world.candidate].map(|rates| Behaviour::new(rates, &mut rng));
    for step in 0..world.plan.steps.len() {
        let mut stage = Stage::new(world, step);
        let weight = match &world.plan.steps[step] {
            PlanStep::Shadow { share, .. } => share / (1.0 + share),
            _ => world
                .plan
                .weights(step, 1)
                .first()
                .copied()
                .unwrap_or_default(),
        };
        let mut seen = vec![false; keys];
        let began = outcome.requests as f64 / world.requests_per_second;
        let judgement = loop {
            if outcome.requests >= world.horizon {
                break None;
            }
            let mut arm = usize::from(rng.chance(weight));
            match world.traffic {
                Traffic::Independent => {
                    outcome.requests += 1;
                    let does = &mut behaviours[arm];
                    stage.unit(
                        arm,
                        does.error.next(&mut rng),
                        does.nan.next(&mut rng),
                        does.late.next(&mut rng),
                    );
                    stage.run(
                        arm,
                        false,
                        does.run_failed.next(&mut rng),
                        does.slow.next(&mut rng),
                        does.expensive.next(&mut rng),
                    );
                }
                Traffic::Keys | Traffic::KeysCountedSingly => {
                    outcome.requests += 1;
                    let key = world.zipf.draw(&mut rng);
                    arm = positions[key].arm(&[weight]);
                    let rates = if arm == CANDIDATE {
                        &world.candidate
                    } else {
                        &world.stable
                    };
                    let fails = fates[key] < rates.error;
                    if !seen[key] || world.traffic == Traffic::KeysCountedSingly {
                        seen[key] = true;
                        stage.unit(arm, fails, false, behaviours[arm].late.next(&mut rng));
                    } else {
                        continue;
                    }
                }
                Traffic::Batches | Traffic::BatchesCountedByUnits => {
                    let full = rng.chance(if arm == CANDIDATE { 0.01 } else { 0.5 });
                    let rows = if full { FULL.0 } else { 1 };
                    outcome.requests += rows;
                    let does = &mut behaviours[arm];
                    let failed = does.run_failed.next(&mut rng);
                    stage.run(
                        arm,
                        full,
                        failed,
                        does.slow.next(&mut rng),
                        does.expensive.next(&mut rng),
                    );
                    if failed && world.traffic == Traffic::BatchesCountedByUnits {
                        (0..rows).for_each(|_| stage.unit(arm, true, false, false));
                    } else {
                        stage.units_of_batch(arm, does, rows, &mut rng);
                    }
                }
            }
            let seconds = outcome.requests as f64 / world.requests_per_second;
            stage.seconds = (seconds - began, seconds);
            let window = (stage.seconds.0 / world.plan.guards.window_seconds as f64) as u32;
            if window != stage.window {
                stage.window = window;
                stage.refresh_ceilings();
            }
            let judgement = if ask_always {
                Some(stage.judged()).filter(|judgement| judgement.verdict != Verdict::Hold)
            } else {
                stage.look()
            };
            if judgement.is_some() {
                break judgement;
            }
        };
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

/// The exact 95 % interval of a share, by bisection (Clopper and Pearson 1934).
pub fn interval(hits: u64, of: u64) -> (f64, f64) {
    let tail = |p: f64, from: u64, to: u64| -> f64 {
        (from..=to)
            .map(|k| {
                let choose = ln_factorial(of) - ln_factorial(k) - ln_factorial(of - k);
                let (k, rest) = (k as f64, (of - k) as f64);
                let times_ln = |x: f64, p: f64| if x == 0.0 { 0.0 } else { x * p.ln() };
                (choose + times_ln(k, p) + times_ln(rest, 1.0 - p)).exp()
            })
            .sum()
    };
    let solve = |rises: bool, value: &dyn Fn(f64) -> f64| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let p = 0.5 * (low + high);
            if (value(p) < 0.025) == rises {
                low = p
            } else {
                high = p
            }
        }
        0.5 * (low + high)
    };
    let least = if hits == 0 {
        0.0
    } else {
        solve(true, &|p| 1.0 - tail(p, 0, hits - 1))
    };
    let most = if hits == of {
        1.0
    } else {
        solve(false, &|p| tail(p, 0, hits))
    };
    (least, most)
}

fn ln_factorial(n: u64) -> f64 {
    if n < 256 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    // Stirling's series.
    let n = n as f64;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n)
        - 1.0 / (360.0 * n.powi(3))
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

/// The q-quantile of sorted numbers.
pub fn quantile(sorted: &[u64], q: f64) -> Option<u64> {
    sorted
        .get(((sorted.len() as f64 * q).ceil() as usize).max(1) - 1)
        .copied()
}
