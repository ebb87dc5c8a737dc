//! Statistical tests that stay valid when they are evaluated after every observation: e-processes
//! of summed counts.
//!
//! An *e-process* of a hypothesis H0 is a number E that starts at 1. If H0 is true, its expectation
//! is at most 1 at any time at which one may stop. By Ville's inequality (1939) the probability
//! that E *ever* reaches 1/α is at most α. The test may therefore be evaluated after every
//! observation and stopped at any time.
//!
//! Each E here is a quotient of likelihoods,
//!
//! ```text
//!        mixture of the likelihood over the rates, by a prior      ∫ L(θ) dW(θ)
//!   E =  ----------------------------------------------------  =  --------------
//!        largest likelihood that H0 allows                         sup_H0 L(θ)
//! ```
//!
//! For the true rates θ₀ of H0, ∫ L dW / L(θ₀) is a martingale (Robbins' method of mixtures, 1970),
//! and E is never above it. This is universal inference (Wasserman, Ramdas and Balakrishnan, 2020,
//! section 8). L is a product of p^k (1-p)^(n-k), so that sums are sufficient and the order of the
//! observations does not matter. The sizes of the arms may differ and change, as long as the
//! assignment of a unit does not depend on outcomes in the future.
//!
//! If units are assigned at random with a constant weight, the rates need not even be constant. The
//! joint distributions of arm and outcome that H0 allows form a convex set, for which L(θ) /
//! L(projection of θ on the set) is a supermartingale (Grünwald, de Heide and Koolen, 2024). E is
//! below the mixture of these supermartingales too. So an hour in which both arms fail does not
//! look like a bad candidate.
//!
//! Two alternatives were considered:
//!
//! - Lindon and Malek (2022) test the arm, given that a failure happened. Their test needs about
//!   half the observations, because it need not learn the rate of the stable version. But it is
//!   valid only if every unit's arm is drawn with exactly the weight that the test assumes, also
//!   among the counted units.
//! - The mixture SPRT of Johari, Pekelis and Walsh (2015) treats proportions as normal. With 1
//!   failure in 1,000 and 500 units they are not.
//!
//! The functions named `log_e_...` return ln E.

/// The parameters of a Beta distribution.
#[derive(Clone, Copy)]
struct Prior(f64, f64);

/// The prior of a worse candidate's rate. A worse candidate may fail at any rate, and often fails
/// always.
const WORSE_CANDIDATE: Prior = Prior(0.3, 0.5);
/// The prior of acceptable rates, which are small: half of the probability is below 0.03, and a
/// quarter is below 0.001.
const SMALL: Prior = Prior(0.2, 1.0);
/// Jeffreys' prior, for a rate about which nothing is known.
const ANY: Prior = Prior(0.5, 0.5);

/// Maximum number of Newton steps. Bisection alone needs about 50 steps for the precision below.
const MAX_ITERATIONS: usize = 100;

/// A proportion: `hits` of `of` units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proportion {
    /// The number of units that count against the version. At most `of`.
    pub hits: u64,
    /// The number of all units.
    pub of: u64,
}

impl Proportion {
    /// Creates a proportion. If there are more hits than units, `of` hits are counted.
    pub fn new(hits: u64, of: u64) -> Proportion {
        Proportion {
            // Evidence is read from files. A damaged file must not make `rest` underflow.
            hits: hits.min(of),
            of,
        }
    }

    /// The share of hits, from 0 to 1. It is 0 without units.
    pub fn value(self) -> f64 {
        if self.of == 0 {
            0.0
        } else {
            self.hits as f64 / self.of as f64
        }
    }

    fn k(self) -> f64 {
        self.hits as f64
    }

    /// The number of units that are not hits: n - k.
    fn rest(self) -> f64 {
        (self.of - self.hits) as f64
    }

    fn log_likelihood(self, p: f64) -> f64 {
        times_ln(self.k(), p) + times_ln(self.rest(), 1.0 - p)
    }

    /// ln ∫ p^k (1-p)^(n-k) Beta(p; a, b) dp = ln B(a + k, b + n - k) - ln B(a, b).
    fn log_mixture(self, Prior(a, b): Prior) -> f64 {
        ln_beta(a + self.k(), b + self.rest()) - ln_beta(a, b)
    }

    fn and(self, other: Proportion) -> Proportion {
        Proportion {
            hits: self.hits + other.hits,
            of: self.of + other.of,
        }
    }
}

/// ln E against p_candidate <= p_stable + margin. Evidence that the candidate is worse by more than
/// the margin.
pub fn log_e_worse(candidate: Proportion, stable: Proportion, margin: f64) -> f64 {
    // Outside of this range, p_stable + margin would not be a probability.
    let margin = margin.clamp(0.0, 1.0);
    let mixture = candidate.log_mixture(WORSE_CANDIDATE) + stable.log_mixture(SMALL);
    let allowed = candidate.value() <= stable.value() + margin;
    mixture - log_supremum(candidate, stable, margin, allowed)
}

/// ln E against p_candidate >= p_stable + margin. Evidence that the candidate is not worse by the
/// margin.
///
/// Half of the mixture assumes that the two rates are equal, which is true for most candidates.
pub fn log_e_not_worse(candidate: Proportion, stable: Proportion, margin: f64) -> f64 {
    let margin = margin.clamp(0.0, 1.0);
    let same = candidate.and(stable).log_mixture(SMALL);
    let apart = candidate.log_mixture(SMALL) + stable.log_mixture(SMALL);
    let allowed = candidate.value() >= stable.value() + margin;
    log_mean(same, apart) - log_supremum(candidate, stable, margin, allowed)
}

/// ln E against p <= limit.
pub fn log_e_above(proportion: Proportion, limit: f64) -> f64 {
    proportion.log_mixture(ANY) - proportion.log_likelihood(proportion.value().min(limit))
}

/// ln E against p >= limit.
pub fn log_e_below(proportion: Proportion, limit: f64) -> f64 {
    // Without units every rate is equally likely, and the value 0 would be meaningless.
    let most_likely = if proportion.of == 0 {
        limit
    } else {
        proportion.value().max(limit)
    };
    proportion.log_mixture(SMALL) - proportion.log_likelihood(most_likely)
}

/// ln E that the candidate is worse in some stratum, from pairs of candidate and stable version: Π
/// (1 + E) / 2, the mean over all sets of strata of the product of their E.
///
/// Each observation is in one stratum, so that a product of their e-processes is an e-process. A
/// stratum in which the arms are alike costs a factor of at most 2, not its whole E.
pub fn log_e_worse_in_some(
    strata: impl IntoIterator<Item = (Proportion, Proportion)>,
    margin: f64,
) -> f64 {
    strata
        .into_iter()
        .map(|(candidate, stable)| log_mean(log_e_worse(candidate, stable, margin), 0.0))
        .sum()
}

/// ln E against a candidate that is worse by the margin in every stratum: Π E.
pub fn log_e_not_worse_in_all(
    strata: impl IntoIterator<Item = (Proportion, Proportion)>,
    margin: f64,
) -> f64 {
    strata
        .into_iter()
        .map(|(candidate, stable)| log_e_not_worse(candidate, stable, margin))
        .sum()
}

/// ln((e^a + e^b) / 2), without overflow.
pub fn log_mean(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    // The difference of two infinities is NaN.
    if high.is_infinite() {
        high
    } else {
        high + ((low - high).exp().ln_1p() - std::f64::consts::LN_2)
    }
}

/// The maximum of ln L on one side of the line p_candidate = p_stable + margin. If `allowed` is
/// true, the observed rates are on that side and maximise L. Otherwise the maximum is on the line,
/// because ln L is concave.
fn log_supremum(candidate: Proportion, stable: Proportion, margin: f64, allowed: bool) -> f64 {
    if allowed {
        candidate.log_likelihood(candidate.value()) + stable.log_likelihood(stable.value())
    } else {
        let p = most_likely_on_line(candidate, stable, margin);
        candidate.log_likelihood(p + margin) + stable.log_likelihood(p)
    }
}

/// The most likely p_stable on the line p_candidate = p_stable + margin (Farrington and Manning,
/// 1990), by Newton's method within a bracket.
///
/// Each arm alone has its own most likely rate, and the result is between these two rates. The
/// likelihood is flat at its maximum: a relative error of 1e-10 has no effect.
fn most_likely_on_line(candidate: Proportion, stable: Proportion, margin: f64) -> f64 {
    if margin == 0.0 {
        return candidate.and(stable).value();
    }
    let own = stable.value().min(1.0 - margin);
    let shifted = (candidate.value() - margin).max(0.0);
    let (mut low, mut high) = match (candidate.of, stable.of) {
        (_, 0) => (shifted, shifted),
        (0, _) => (own, own),
        _ => (own.min(shifted), own.max(shifted)),
    };
    let mut p = 0.5 * (low + high);
    for _ in 0..MAX_ITERATIONS {
        let (first, second) = derivatives_on_line(candidate, stable, margin, p);
        if first > 0.0 {
            low = p;
        } else {
            high = p;
        }
        let step = p - first / second;
        // If a step leaves the bracket or is NaN, a bisection replaces it.
        let next = if step > low && step < high {
            step
        } else {
            0.5 * (low + high)
        };
        if (next - p).abs() <= 1e-10 * p {
            return next;
        }
        p = next;
    }
    p
}

/// The first and second derivative of ln L with respect to p_stable, on the line p_candidate =
/// p_stable + margin.
fn derivatives_on_line(
    candidate: Proportion,
    stable: Proportion,
    margin: f64,
    p: f64,
) -> (f64, f64) {
    let terms = [
        (candidate.k(), p + margin),
        (-candidate.rest(), 1.0 - p - margin),
        (stable.k(), p),
        (-stable.rest(), 1.0 - p),
    ];
    // A term without counts is 0. It must not become 0 / 0.
    terms
        .iter()
        .filter(|(count, _)| *count != 0.0)
        .fold((0.0, 0.0), |(first, second), (count, at)| {
            (first + count / at, second - count.abs() / (at * at))
        })
}

/// x ln p, with 0 ln 0 = 0.
fn times_ln(x: f64, p: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x * p.ln() }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARGINS: [f64; 5] = [0.0, 0.002, 0.05, 0.5, 1.0];

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance || a == b, "{a} is not {b}");
    }

    fn choose(n: u64, k: u64) -> f64 {
        (libm::lgamma(n as f64 + 1.0)
            - libm::lgamma(k as f64 + 1.0)
            - libm::lgamma((n - k) as f64 + 1.0))
        .exp()
    }

    /// P(k of n), with enough precision for the tests.
    fn binomial(share: Proportion, p: f64) -> f64 {
        choose(share.of, share.hits) * share.log_likelihood(p).exp()
    }

    fn pairs(candidate: u64, stable: u64) -> impl Iterator<Item = (Proportion, Proportion)> {
        (0..=candidate).flat_map(move |k| {
            (0..=stable).map(move |l| (Proportion::new(k, candidate), Proportion::new(l, stable)))
        })
    }

    #[test]
    fn mixtures_are_integrals() {
        for prior in [WORSE_CANDIDATE, SMALL, ANY] {
            for (hits, of) in [(0, 0), (0, 7), (3, 40), (9, 9), (1, 500)] {
                let share = Proportion::new(hits, of);
                // The substitution p = x^20 / (x^20 + (1-x)^20) removes the poles at both ends.
                let steps = 200_000;
                let integral: f64 = (1..steps)
                    .map(|i| {
                        let x = f64::from(i) / f64::from(steps);
                        let (u, v) = (x.powi(20), (1.0 - x).powi(20));
                        let (p, q) = (u / (u + v), v / (u + v));
                        let density = (prior.0 - 1.0) * p.ln() + (prior.1 - 1.0) * q.ln()
                            - ln_beta(prior.0, prior.1);
                        let likelihood = times_ln(share.k(), p) + times_ln(share.rest(), q);
                        (density + likelihood).exp() * 20.0 * p * q
                            / (x * (1.0 - x))
                            / f64::from(steps)
                    })
                    .sum();
                close(share.log_mixture(prior), integral.ln(), 1e-6);
            }
        }
    }

    /// Rates from 0 to 1, which are closer together near 0.
    fn mesh() -> Vec<f64> {
        (0..=100)
            .map(|i| f64::from(i) / 100.0)
            .flat_map(|x| [x * x * x, x])
            .collect()
    }

    /// The maximum of ln L on both sides of the line, over a fine mesh of pairs of rates.
    fn mesh_maxima(candidate: Proportion, stable: Proportion, margin: f64) -> [f64; 2] {
        let mut best = [f64::NEG_INFINITY; 2];
        let mesh = mesh();
        let pairs = mesh.iter().flat_map(|p| {
            let on_line = [p + margin];
            let rates: Vec<f64> = mesh.iter().copied().chain(on_line).collect();
            rates.into_iter().map(move |q| (*p, q))
        });
        for (p, q) in pairs.filter(|(_, q)| *q <= 1.0) {
            let likelihood = candidate.log_likelihood(q) + stable.log_likelihood(p);
            if q <= p + margin {
                best[0] = best[0].max(likelihood);
            }
            if q >= p + margin {
                best[1] = best[1].max(likelihood);
            }
        }
        best
    }

    fn check_suprema(candidate: Proportion, stable: Proportion, margin: f64) {
        let line = stable.value() + margin;
        let sides = [candidate.value() <= line, candidate.value() >= line];
        let maxima = mesh_maxima(candidate, stable, margin);
        for (allowed, mesh) in sides.into_iter().zip(maxima) {
            let exact = log_supremum(candidate, stable, margin, allowed);
            assert!(
                exact >= mesh - 1e-9,
                "{candidate:?} {stable:?} {margin}: {exact} below {mesh}"
            );
            assert!(
                exact <= mesh + 0.5 || exact == mesh,
                "{candidate:?} {stable:?} {margin}: {exact} above {mesh}"
            );
        }
    }

    #[test]
    fn suprema_are_maxima() {
        let counts = [
            (0, 1),
            (1, 1),
            (0, 30),
            (2, 30),
            (15, 30),
            (30, 30),
            (7, 4000),
            (0, 0),
        ]
        .map(|(k, n)| Proportion::new(k, n));
        for margin in MARGINS {
            for candidate in counts {
                for stable in counts {
                    check_suprema(candidate, stable, margin);
                }
            }
        }
    }

    /// The expectation of E over all outcomes of `n` candidate and `m` stable units.
    fn expectation(
        test: fn(Proportion, Proportion, f64) -> f64,
        (n, candidate_rate): (u64, f64),
        (m, stable_rate): (u64, f64),
        margin: f64,
    ) -> f64 {
        pairs(n, m)
            .map(|(c, s)| {
                binomial(c, candidate_rate) * binomial(s, stable_rate) * test(c, s, margin).exp()
            })
            .filter(|term| !term.is_nan())
            .sum()
    }

    /// Checks that the expectation at a fixed time is at most 1 for all rates that H0 allows.
    fn check_expectations(n: u64, m: u64, stable_rate: f64, margin: f64) {
        let line = stable_rate + margin;
        for candidate_rate in RATES.into_iter().chain([line]).filter(|rate| *rate <= 1.0) {
            let (candidate, stable) = ((n, candidate_rate), (m, stable_rate));
            if candidate_rate <= line {
                assert!(expectation(log_e_worse, candidate, stable, margin) <= 1.0 + 1e-9);
            }
            if candidate_rate >= line {
                assert!(expectation(log_e_not_worse, candidate, stable, margin) <= 1.0 + 1e-9);
            }
        }
    }

    const RATES: [f64; 8] = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0];

    #[test]
    fn expected_evidence_is_at_most_one_under_the_hypothesis() {
        for margin in MARGINS {
            for (n, m) in [(1, 1), (5, 40), (40, 5), (25, 25)] {
                for stable_rate in RATES {
                    check_expectations(n, m, stable_rate, margin);
                }
            }
        }
    }

    /// The number of observations of each arm in the function `ever`.
    const N: usize = 80;

    /// The probability of each pair of hits after another observation of an arm.
    fn observe(alive: &[Vec<f64>], is_candidate: bool, rate: f64) -> Vec<Vec<f64>> {
        let (k_step, l_step) = if is_candidate { (1, 0) } else { (0, 1) };
        let mut next = vec![vec![0.0; N + 1]; N + 1];
        for (k, row) in alive.iter().enumerate() {
            for (l, &probability) in row.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                next[k][l] += probability * (1.0 - rate);
                if rate > 0.0 {
                    next[k + k_step][l + l_step] += probability * rate;
                }
            }
        }
        next
    }

    /// The exact probability that a test ever reaches 1/alpha within `N` observations of each arm,
    /// if it is evaluated after each observation.
    fn ever(
        test: impl Fn(Proportion, Proportion) -> f64,
        candidate_rate: f64,
        stable_rate: f64,
        alpha: f64,
    ) -> f64 {
        let limit = (1.0 / alpha).ln();
        let mut alive = vec![vec![0.0; N + 1]; N + 1];
        alive[0][0] = 1.0;
        let mut crossed = 0.0;
        for step in 0..2 * N {
            let is_candidate = step % 2 == 0;
            let rate = if is_candidate {
                candidate_rate
            } else {
                stable_rate
            };
            let (n, m) = (step as u64 / 2 + 1, step.div_ceil(2) as u64);
            let reaches = |k: usize, l: usize| {
                test(Proportion::new(k as u64, n), Proportion::new(l as u64, m)) >= limit
            };
            alive = observe(&alive, is_candidate, rate);
            let states = alive
                .iter_mut()
                .enumerate()
                .flat_map(|(k, row)| row.iter_mut().enumerate().map(move |(l, p)| (k, l, p)));
            for (k, l, probability) in states {
                if *probability > 0.0 && reaches(k, l) {
                    crossed += std::mem::take(probability);
                }
            }
        }
        crossed
    }

    #[test]
    fn judging_after_every_observation_keeps_alpha() {
        for (margin, stable, alpha) in [
            (0.0, 0.05, 0.1),
            (0.0, 0.5, 0.1),
            (0.1, 0.02, 0.05),
            (0.05, 0.3, 0.1),
        ] {
            let false_alarms = ever(
                |c, s| log_e_worse(c, s, margin),
                stable + margin,
                stable,
                alpha,
            );
            assert!(false_alarms <= alpha, "{false_alarms}");
            assert!(
                ever(
                    |c, s| log_e_worse(c, s, margin),
                    stable + margin + 0.45,
                    stable,
                    alpha
                ) > 0.8
            );
            let false_comfort = ever(
                |c, s| log_e_not_worse(c, s, margin),
                stable + margin,
                stable,
                alpha,
            );
            assert!(false_comfort <= alpha, "{false_comfort}");
        }
        for (limit, alpha) in [(0.01, 0.05), (0.1, 0.05), (0.5, 0.1)] {
            assert!(ever(|c, _| log_e_above(c, limit), limit, 0.5, alpha) <= alpha);
            assert!(ever(|c, _| log_e_below(c, limit), limit, 0.5, alpha) <= alpha);
            assert!(ever(|c, _| log_e_above(c, limit), limit + 0.4, 0.5, alpha) > 0.9);
        }
        assert!(ever(|c, _| log_e_below(c, 0.5), 0.1, 0.5, 0.01) > 0.9);
        // A test that is valid for only one evaluation would fail here.
        let z = |c: Proportion, s: Proportion| {
            let pooled = c.and(s).value();
            let error =
                (pooled * (1.0 - pooled) * (1.0 / c.of as f64 + 1.0 / s.of.max(1) as f64)).sqrt();
            if error > 0.0 && (c.value() - s.value()) / error > 1.645 {
                f64::INFINITY
            } else {
                0.0
            }
        };
        assert!(ever(z, 0.5, 0.5, 0.05) > 0.2);
    }

    #[test]
    fn extreme_counts_have_finite_or_certain_evidence() {
        let none = Proportion::default();
        for margin in MARGINS {
            close(log_e_worse(none, none, margin), 0.0, 1e-12);
            close(log_e_not_worse(none, none, margin), 0.0, 1e-12);
            for some in [
                Proportion::new(0, 50),
                Proportion::new(50, 50),
                Proportion::new(3, 50),
            ] {
                assert!(
                    log_e_worse(some, none, margin) <= 0.0
                        && log_e_worse(none, some, margin) <= 0.0
                );
            }
            assert!(
                log_e_not_worse(Proportion::new(50, 50), none, margin) <= 0.0
                    && log_e_not_worse(none, Proportion::new(0, 50), margin) <= 0.0
            );
        }
        // A version that fails in less than half of its requests can't be worse than another one by
        // 0.5.
        assert!(log_e_not_worse(Proportion::new(3, 50), none, 0.5) > 0.0);
        close(log_e_above(none, 0.1), 0.0, 1e-12);
        close(log_e_below(none, 0.1), 0.0, 1e-12);
        // No version is worse than the stable one by more than 1.
        assert!(log_e_worse(Proportion::new(50, 50), Proportion::new(0, 50), 1.0) <= 0.0);
        assert_eq!(
            log_e_not_worse(Proportion::new(49, 50), Proportion::new(0, 50), 1.0),
            f64::INFINITY
        );
        // An event that is impossible under H0 happened.
        assert_eq!(log_e_above(Proportion::new(1, 10), 0.0), f64::INFINITY);
        assert_eq!(log_e_below(Proportion::new(9, 10), 1.0), f64::INFINITY);
        // The candidate always fails, and the stable version never fails.
        assert!(log_e_worse(Proportion::new(5, 5), Proportion::new(0, 500), 0.005) > 10.0);
        assert!(log_e_worse(Proportion::new(0, 500), Proportion::new(5, 5), 0.005) < 0.0);
        assert_eq!(Proportion::new(9, 4), Proportion::new(4, 4));
        // Large counts give finite and correct results: 2 % is certainly worse than 1 %, and 1 % is
        // certainly not worse than 1 % by the margin.
        let million = 1_000_000_000;
        assert!(
            log_e_worse(
                Proportion::new(million / 50, million),
                Proportion::new(million / 100, million),
                0.005
            ) > 1e4
        );
        assert!(
            log_e_not_worse(
                Proportion::new(million / 100, million),
                Proportion::new(million / 100, million),
                0.005
            ) > 1e4
        );
    }

    #[test]
    fn strata() {
        let alike = (Proportion::new(2, 40), Proportion::new(20, 400));
        let worse_one = (Proportion::new(30, 40), Proportion::new(20, 400));
        let alone = log_e_worse(worse_one.0, worse_one.1, 0.05);
        let among = log_e_worse_in_some([alike, worse_one, alike], 0.05);
        assert!(
            among < alone && among > alone - 3.0 * std::f64::consts::LN_2,
            "{among} of {alone}"
        );
        close(log_e_worse_in_some([], 0.05), 0.0, 0.0);
        close(
            log_e_not_worse_in_all([alike, alike], 0.05),
            2.0 * log_e_not_worse(alike.0, alike.1, 0.05),
            1e-12,
        );
    }

    proptest! {
        #[test]
        fn one_more_failure_is_more_evidence(n in 1u64..3000, m in 1u64..3000, k in 0.0..1.0, l in 0.0..1.0, margin in 0usize..5) {
            let (k, l) = ((k * n as f64) as u64, (l * m as f64) as u64);
            let margin = MARGINS[margin];
            let (candidate, stable) = (Proportion::new(k, n), Proportion::new(l, m));
            let (more, stable_more) = (Proportion::new(k + 1, n), Proportion::new(l + 1, m));
            // Checked only if there is evidence: an E below 1 means little, and with few units it
            // may decrease after one more failure.
            let shown = log_e_worse(candidate, stable, margin) > 0.0;
            if shown && k < n {
                prop_assert!(log_e_worse(more, stable, margin) >= log_e_worse(candidate, stable, margin) - 1e-9);
            }
            if shown && l < m {
                prop_assert!(log_e_worse(candidate, stable_more, margin) <= log_e_worse(candidate, stable, margin) + 1e-9);
            }
            prop_assert!(!log_e_worse(candidate, stable, margin).is_nan() && !log_e_not_worse(candidate, stable, margin).is_nan());
            // Both claims can't be shown at once.
            prop_assert!(log_e_worse(candidate, stable, margin) <= 0.0 || log_e_not_worse(candidate, stable, margin) <= 0.0);
        }
    }
}
