//! A step of a simulated rollout, which calls the judge only if its verdict can have changed.

use predictd::rollout::{
    evidence::{ArmTotals, Evidence, RunTotals, WindowTotals},
    judge::{self, Case, GuardMetric, Judgement, Verdict},
    plan::Guards,
    sequential::{self, Proportion},
};

use super::{
    CANDIDATE, STABLE, World,
    traffic::{Behaviour, FULL, Rng},
};

/// The bound on the growth of ln E since it was computed: -ln P for each stratum, arm and outcome.
pub(super) struct Bound {
    missing: f64,
    growth: [[[f64; 2]; 2]; 2],
}

impl Bound {
    pub(super) fn never() -> Bound {
        Bound {
            missing: f64::INFINITY,
            growth: [[[0.0; 2]; 2]; 2],
        }
    }

    pub(super) fn new(missing: f64, points: [(f64, f64); 2]) -> Bound {
        let growth = points.map(|(candidate, stable)| {
            [stable, candidate].map(|p: f64| [-(1.0 - p).ln(), -p.ln()])
        });
        Bound { missing, growth }
    }

    pub(super) fn see(&mut self, stratum: usize, arm: usize, hit: bool) {
        self.missing -= self.growth[stratum][arm][usize::from(hit)];
    }

    pub(super) fn see_misses(&mut self, arm: usize, count: u64) {
        self.missing -= self.growth[0][arm][0] * count as f64;
    }

    /// Whether the distance to the limit may be used up, allowing for the rounding of many sums.
    pub(super) fn spent(&self) -> bool {
        self.missing <= 1e-6
    }
}

/// The most likely rates (of candidate and stable) that a hypothesis allows, found by bisection.
pub(super) fn allowed(
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
pub(super) struct Stage<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) step: usize,
    pub(super) limit: f64,
    pub(super) arms: [ArmTotals; 2],
    pub(super) window: u32,
    pub(super) worse: [Bound; 5],
    pub(super) fine: [Bound; 5],
    pub(super) ceilings: [Bound; 2],
    /// The current seconds of the step and of the rollout.
    pub(super) seconds: (f64, f64),
}

impl<'a> Stage<'a> {
    pub(super) fn new(world: &'a World<'a>, step: usize) -> Stage<'a> {
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

    pub(super) fn concurrent(&self) -> bool {
        self.world.plan.steps[self.step].concurrent()
    }

    /// The counts of a guard by stratum, for the candidate and the stable version.
    pub(super) fn strata(&self, guard: GuardMetric) -> [(Proportion, Proportion); 2] {
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
                    _ => runs.expensive,
                };
                Proportion::new(hits, runs.runs)
            }),
        };
        let ([c, d], [s, t]) = (guards(&self.arms[CANDIDATE]), guards(&self.arms[STABLE]));
        [(c, s), (d, t)]
    }

    pub(super) fn margin(&self, guard: GuardMetric) -> f64 {
        let guards: &Guards = &self.world.plan.guards;
        match guard {
            GuardMetric::Errors => guards.error_margin,
            GuardMetric::Nan => guards.nan_margin,
            GuardMetric::Runs => guards.run_margin,
            GuardMetric::EngineTime => guards.engine_time_margin,
            _ => guards.cost_margin,
        }
    }

    pub(super) fn refresh(&mut self, index: usize, fine: bool) {
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

    /// Sets the seconds of the step and of the rollout.
    pub(super) fn set_time(&mut self, step: f64, rollout: f64) {
        self.seconds = (step, rollout);
        let window = (step / self.world.plan.guards.window_seconds as f64) as u32;
        if window != self.window {
            self.window = window;
            self.refresh_ceilings();
        }
    }

    pub(super) fn refresh_ceilings(&mut self) {
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

    pub(super) fn unit(&mut self, arm: usize, failed: bool, nan: bool, late: bool) {
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
    pub(super) fn units_of_batch(
        &mut self,
        arm: usize,
        does: &mut Behaviour,
        rows: u64,
        rng: &mut Rng,
    ) {
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

    pub(super) fn good_units(&mut self, arm: usize, count: u64) {
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

    pub(super) fn run(
        &mut self,
        arm: usize,
        full: bool,
        failed: bool,
        slow: bool,
        expensive: bool,
    ) {
        let totals = self.arms[arm]
            .runs
            .entry(if full { FULL.1 } else { 0 })
            .or_default();
        *totals = RunTotals {
            runs: totals.runs + 1,
            failed: totals.failed + u64::from(failed),
            // A failed run has no engine time.
            slow: totals.slow + u64::from(slow && !failed),
            expensive: totals.expensive + u64::from(expensive && !failed),
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
    pub(super) fn look(&mut self) -> Option<Judgement> {
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

    pub(super) fn judged(&self) -> Judgement {
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
