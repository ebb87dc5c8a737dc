//! Tests that stay valid however often one looks: e-processes of summed counts.
//!
//! An *e-process* of a hypothesis H0 is a number E that starts at 1 and whose expectation, whenever one stops, is at most 1 if H0 is
//! true. By Ville's inequality (1939) the probability that it *ever* reaches 1/α is then at most α: one may look after every
//! observation, and stop when one likes.
//!
//! Each E here is a quotient of likelihoods,
//!
//! ```text
//!        mixture of the likelihood over the rates, by a prior      ∫ L(θ) dW(θ)
//!   E =  ----------------------------------------------------  =  --------------
//!        largest likelihood that H0 allows                         sup_H0 L(θ)
//! ```
//!
//! For the true rates θ₀ of H0, ∫ L dW / L(θ₀) is a martingale (Robbins' method of mixtures, 1970), and E is never above it: that is
//! universal inference (Wasserman, Ramdas and Balakrishnan, 2020, section 8). L is a product of p^k (1-p)^(n-k), so sums suffice, the
//! order does not matter, and the arms may be of any, and of changing, size as long as what is assigned does not depend on outcomes
//! to come.
//!
//! Where units are assigned at random with a constant weight the rates need not even be constant: the joint distributions of arm and
//! outcome that H0 allows form a convex set, for which L(θ) / L(projection of θ on it) is a supermartingale (Grünwald, de Heide and
//! Koolen, 2024), and E is below the mixture of those, too. An hour in which both arms fail does not look like a bad candidate.
//!
//! Considered: the test of Lindon and Malek (2022) of the arm, given that a failure happened, and its like with a margin. It needs
//! about half the observations, since it does not pay for learning stable's rate, but holds only while every unit's arm is drawn with
//! exactly the weight that the test is told, also among the units that are counted. The mixture SPRT of Johari, Pekelis and Walsh
//! (2015) treats shares as normal, which at 1 failure in 1,000 and 500 units they are not.
//!
//! All functions return ln E.

/// A Beta distribution's parameters.
#[derive(Clone, Copy)]
struct Prior(f64, f64);

/// A worse candidate may fail at any rate, also always.
const WORSE_CANDIDATE: Prior = Prior(0.3, 0.5);
/// Rates worth having are small: half of this prior lies below 0.03, a quarter below 0.001.
const SMALL: Prior = Prior(0.2, 1.0);
/// Jeffreys' prior.
const ANY: Prior = Prior(0.5, 0.5);

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proportion {
    pub hits: u64,
    pub of: u64,
}

impl Proportion {
    pub fn new(hits: u64, of: u64) -> Proportion {
        Proportion {
            hits: hits.min(of),
            of,
        }
    }

    /// 0 of none.
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

    /// Those that are no hits.
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

/// Evidence against p_candidate <= p_stable + margin: that the candidate is worse by more.
pub fn worse(candidate: Proportion, stable: Proportion, margin: f64) -> f64 {
    let margin = margin.clamp(0.0, 1.0);
    let mixture = candidate.log_mixture(WORSE_CANDIDATE) + stable.log_mixture(SMALL);
    let inside = candidate.value() <= stable.value() + margin;
    mixture - log_supremum(candidate, stable, margin, inside)
}

/// Evidence against p_candidate >= p_stable + margin: that the candidate is not worse by as much. Half of the mixture says that the
/// two rates are the same, which is what most candidates' are.
pub fn fine(candidate: Proportion, stable: Proportion, margin: f64) -> f64 {
    let margin = margin.clamp(0.0, 1.0);
    let same = candidate.and(stable).log_mixture(SMALL);
    let apart = candidate.log_mixture(SMALL) + stable.log_mixture(SMALL);
    let inside = candidate.value() >= stable.value() + margin;
    half_each(same, apart) - log_supremum(candidate, stable, margin, inside)
}

/// Evidence against p <= limit.
pub fn above(share: Proportion, limit: f64) -> f64 {
    share.log_mixture(ANY) - share.log_likelihood(share.value().min(limit))
}

/// Evidence against p >= limit.
pub fn below(share: Proportion, limit: f64) -> f64 {
    let most = if share.of == 0 {
        limit
    } else {
        share.value().max(limit)
    };
    share.log_mixture(SMALL) - share.log_likelihood(most)
}

/// Evidence that in some stratum the candidate is worse: Π (1 + E) / 2, the mean over all sets of strata of the product of their E.
/// Each observation lies in one stratum, so a product of their e-processes is one; and a stratum in which the arms are alike costs a
/// factor of 2 at most, not its whole E. Pairs of candidate and stable.
pub fn worse_in_some(
    strata: impl IntoIterator<Item = (Proportion, Proportion)>,
    margin: f64,
) -> f64 {
    strata
        .into_iter()
        .map(|(candidate, stable)| half_each(worse(candidate, stable, margin), 0.0))
        .sum()
}

/// Evidence against a candidate that is worse by the margin in every stratum: Π E.
pub fn fine_in_all(strata: impl IntoIterator<Item = (Proportion, Proportion)>, margin: f64) -> f64 {
    strata
        .into_iter()
        .map(|(candidate, stable)| fine(candidate, stable, margin))
        .sum()
}

/// ln((e^a + e^b) / 2)
pub fn half_each(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high.is_infinite() {
        high
    } else {
        high + ((low - high).exp().ln_1p() - std::f64::consts::LN_2)
    }
}

/// The largest ln L on one side of p_candidate = p_stable + margin: of the rates seen where they lie on that side, else on the
/// line itself, for ln L is concave.
fn log_supremum(candidate: Proportion, stable: Proportion, margin: f64, inside: bool) -> f64 {
    if inside {
        candidate.log_likelihood(candidate.value()) + stable.log_likelihood(stable.value())
    } else {
        let p = on_the_line(candidate, stable, margin);
        candidate.log_likelihood(p + margin) + stable.log_likelihood(p)
    }
}

/// The most likely p_stable where p_candidate = p_stable + margin (Farrington and Manning, 1990), by Newton's method within a bracket:
/// each arm alone would have its own rate, so the answer lies between the two. The likelihood is flat there, an error of 1e-9
/// relative vanishes in it.
fn on_the_line(candidate: Proportion, stable: Proportion, margin: f64) -> f64 {
    if margin == 0.0 {
        return candidate.and(stable).value();
    }
    let (own, shifted) = (
        stable.value().min(1.0 - margin),
        (candidate.value() - margin).max(0.0),
    );
    let (mut low, mut high) = match (candidate.of, stable.of) {
        (_, 0) => (shifted, shifted),
        (0, _) => (own, own),
        _ => (own.min(shifted), own.max(shifted)),
    };
    let slope = |p: f64| {
        let terms = [
            (candidate.k(), p + margin),
            (-candidate.rest(), 1.0 - p - margin),
            (stable.k(), p),
            (-stable.rest(), 1.0 - p),
        ];
        terms
            .iter()
            .filter(|(count, _)| *count != 0.0)
            .fold((0.0, 0.0), |(first, second), (count, at)| {
                (first + count / at, second - count.abs() / (at * at))
            })
    };
    let mut p = 0.5 * (low + high);
    for _ in 0..100 {
        let (first, second) = slope(p);
        if first > 0.0 {
            low = p;
        } else {
            high = p;
        }
        let step = p - first / second;
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

    /// P(k of n), exactly enough.
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
                // p = x^20 / (x^20 + (1-x)^20) takes the poles at both ends away.
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
        ];
        for margin in MARGINS {
            for candidate in counts.map(|(k, n)| Proportion::new(k, n)) {
                for stable in counts.map(|(k, n)| Proportion::new(k, n)) {
                    let mut best = [f64::NEG_INFINITY; 2];
                    // All pairs of rates of a fine mesh, closer near 0.
                    let mesh: Vec<f64> = (0..=100)
                        .map(|i| f64::from(i) / 100.0)
                        .flat_map(|x| [x * x * x, x])
                        .collect();
                    for p in &mesh {
                        for q in mesh
                            .iter()
                            .copied()
                            .chain([p + margin])
                            .filter(|q| *q <= 1.0)
                        {
                            let likelihood =
                                candidate.log_likelihood(q) + stable.log_likelihood(*p);
                            if q <= p + margin {
                                best[0] = best[0].max(likelihood);
                            }
                            if q >= p + margin {
                                best[1] = best[1].max(likelihood);
                            }
                        }
                    }
                    let inside = candidate.value() <= stable.value() + margin;
                    let worse = log_supremum(candidate, stable, margin, inside);
                    let fine = log_supremum(
                        candidate,
                        stable,
                        margin,
                        candidate.value() >= stable.value() + margin,
                    );
                    for (exact, mesh) in [(worse, best[0]), (fine, best[1])] {
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
            }
        }
    }

    /// At any fixed time: the expectation, over all outcomes, is at most 1 wherever H0 holds.
    #[test]
    fn expectations() {
        let rates = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0];
        for margin in MARGINS {
            for (n, m) in [(1, 1), (5, 40), (40, 5), (25, 25)] {
                for stable_rate in rates {
                    for candidate_rate in rates
                        .into_iter()
                        .chain([stable_rate + margin])
                        .filter(|rate| *rate <= 1.0)
                    {
                        let expectation = |test: fn(Proportion, Proportion, f64) -> f64| {
                            pairs(n, m)
                                .map(|(c, s)| {
                                    binomial(c, candidate_rate)
                                        * binomial(s, stable_rate)
                                        * test(c, s, margin).exp()
                                })
                                .filter(|term| !term.is_nan())
                                .sum::<f64>()
                        };
                        if candidate_rate <= stable_rate + margin {
                            assert!(expectation(worse) <= 1.0 + 1e-9);
                        }
                        if candidate_rate >= stable_rate + margin {
                            assert!(expectation(fine) <= 1.0 + 1e-9);
                        }
                    }
                }
            }
        }
    }

    /// The probability, exactly, that a test ever reaches 1/alpha in 80 observations of each arm, with a look after each.
    fn ever(
        test: impl Fn(Proportion, Proportion) -> f64,
        candidate_rate: f64,
        stable_rate: f64,
        alpha: f64,
    ) -> f64 {
        const N: usize = 80;
        let limit = (1.0 / alpha).ln();
        let mut alive = vec![vec![0.0; N + 1]; N + 1];
        alive[0][0] = 1.0;
        let mut crossed = 0.0;
        for step in 0..2 * N {
            let (is_candidate, rate) = if step % 2 == 0 {
                (true, candidate_rate)
            } else {
                (false, stable_rate)
            };
            let (n, m) = (step as u64 / 2 + 1, step.div_ceil(2) as u64);
            let mut next = vec![vec![0.0; N + 1]; N + 1];
            for (k, row) in alive.iter().enumerate() {
                for (l, &probability) in row.iter().enumerate() {
                    for (hit, chance) in [(1, rate), (0, 1.0 - rate)] {
                        let (k, l) = if is_candidate {
                            (k + hit, l)
                        } else {
                            (k, l + hit)
                        };
                        if probability * chance > 0.0 {
                            next[k][l] += probability * chance;
                        }
                    }
                }
            }
            for (k, row) in next.iter_mut().enumerate() {
                for (l, probability) in row.iter_mut().enumerate() {
                    if *probability > 0.0
                        && test(Proportion::new(k as u64, n), Proportion::new(l as u64, m)) >= limit
                    {
                        crossed += *probability;
                        *probability = 0.0;
                    }
                }
            }
            alive = next;
        }
        crossed
    }

    #[test]
    fn looking_after_every_observation() {
        for (margin, stable, alpha) in [
            (0.0, 0.05, 0.1),
            (0.0, 0.5, 0.1),
            (0.1, 0.02, 0.05),
            (0.05, 0.3, 0.1),
        ] {
            let false_alarms = ever(|c, s| worse(c, s, margin), stable + margin, stable, alpha);
            assert!(false_alarms <= alpha, "{false_alarms}");
            assert!(
                ever(
                    |c, s| worse(c, s, margin),
                    stable + margin + 0.45,
                    stable,
                    alpha
                ) > 0.8
            );
            let false_comfort = ever(|c, s| fine(c, s, margin), stable + margin, stable, alpha);
            assert!(false_comfort <= alpha, "{false_comfort}");
        }
        for (limit, alpha) in [(0.01, 0.05), (0.1, 0.05), (0.5, 0.1)] {
            assert!(ever(|c, _| above(c, limit), limit, 0.5, alpha) <= alpha);
            assert!(ever(|c, _| below(c, limit), limit, 0.5, alpha) <= alpha);
            assert!(ever(|c, _| above(c, limit), limit + 0.4, 0.5, alpha) > 0.9);
        }
        assert!(ever(|c, _| below(c, 0.5), 0.1, 0.5, 0.01) > 0.9);
        // A test that is made for one look only would be caught here.
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
    fn edges() {
        let none = Proportion::default();
        for margin in MARGINS {
            close(worse(none, none, margin), 0.0, 1e-12);
            close(fine(none, none, margin), 0.0, 1e-12);
            for some in [
                Proportion::new(0, 50),
                Proportion::new(50, 50),
                Proportion::new(3, 50),
            ] {
                assert!(worse(some, none, margin) <= 0.0 && worse(none, some, margin) <= 0.0);
            }
            assert!(
                fine(Proportion::new(50, 50), none, margin) <= 0.0
                    && fine(none, Proportion::new(0, 50), margin) <= 0.0
            );
        }
        // What fails in less than half of the time is not worse by a half, whatever it is compared with.
        assert!(fine(Proportion::new(3, 50), none, 0.5) > 0.0);
        close(above(none, 0.1), 0.0, 1e-12);
        close(below(none, 0.1), 0.0, 1e-12);
        // Nothing is worse than stable by more than 1.
        assert!(worse(Proportion::new(50, 50), Proportion::new(0, 50), 1.0) <= 0.0);
        assert_eq!(
            fine(Proportion::new(49, 50), Proportion::new(0, 50), 1.0),
            f64::INFINITY
        );
        // What H0 makes impossible happened.
        assert_eq!(above(Proportion::new(1, 10), 0.0), f64::INFINITY);
        assert_eq!(below(Proportion::new(9, 10), 1.0), f64::INFINITY);
        // A candidate that always fails, against a stable that never does.
        assert!(worse(Proportion::new(5, 5), Proportion::new(0, 500), 0.005) > 10.0);
        assert!(worse(Proportion::new(0, 500), Proportion::new(5, 5), 0.005) < 0.0);
        assert_eq!(Proportion::new(9, 4), Proportion::new(4, 4));
        // Large counts stay finite and right: 2 % against 1 % is certain, and so is 1 % against 1 % with a margin.
        let million = 1_000_000_000;
        assert!(
            worse(
                Proportion::new(million / 50, million),
                Proportion::new(million / 100, million),
                0.005
            ) > 1e4
        );
        assert!(
            fine(
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
        let alone = worse(worse_one.0, worse_one.1, 0.05);
        let among = worse_in_some([alike, worse_one, alike], 0.05);
        assert!(
            among < alone && among > alone - 3.0 * std::f64::consts::LN_2,
            "{among} of {alone}"
        );
        close(worse_in_some([], 0.05), 0.0, 0.0);
        close(
            fine_in_all([alike, alike], 0.05),
            2.0 * fine(alike.0, alike.1, 0.05),
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
            // Where there is evidence at all: below 1, E says little, and of a few units it may say less with one failure more.
            let shown = worse(candidate, stable, margin) > 0.0;
            if shown && k < n {
                prop_assert!(worse(more, stable, margin) >= worse(candidate, stable, margin) - 1e-9);
            }
            if shown && l < m {
                prop_assert!(worse(candidate, stable_more, margin) <= worse(candidate, stable, margin) + 1e-9);
            }
            prop_assert!(!worse(candidate, stable, margin).is_nan() && !fine(candidate, stable, margin).is_nan());
            // Both cannot be shown at once.
            prop_assert!(worse(candidate, stable, margin) <= 0.0 || fine(candidate, stable, margin) <= 0.0);
        }
    }
}
