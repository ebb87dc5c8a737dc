//! Distances between two distributions over the same bins. They say how far a feature or a
//! prediction moved from its reference.

/// The share that an empty bin gets in `psi`. A share of 0 would make the index infinite.
const MIN_SHARE: f64 = 1e-4;

/// Pairs of counts, one pair for each bin: (reference, observed).
pub(crate) type BinCounts = [(f64, f64)];

/// The shares of both distributions. `None` if one of them is empty, because it has no shares.
fn shares(counts: &BinCounts) -> Option<impl Iterator<Item = (f64, f64)>> {
    let (all_reference, all_observed) = counts
        .iter()
        .fold((0.0, 0.0), |(p, q), counts| (p + counts.0, q + counts.1));
    (all_reference > 0.0 && all_observed > 0.0).then(|| {
        counts
            .iter()
            .map(move |(p, q)| (p / all_reference, q / all_observed))
    })
}

/// The population stability index: the sum of (q - p) ln(q / p) over all bins, where p is the share
/// of a bin in the reference and q the observed one. Each share counts at least 0.0001. It is the
/// symmetric Kullback-Leibler divergence (Jeffreys, 1946) of the two distributions. `None` if one
/// of them is empty.
pub(crate) fn psi(counts: &BinCounts) -> Option<f64> {
    let sum = shares(counts)?
        .map(|(p, q)| (p.max(MIN_SHARE), q.max(MIN_SHARE)))
        .map(|(p, q)| (q - p) * (q / p).ln())
        .sum();
    Some(sum)
}

/// The Jensen-Shannon distance (Endres and Schindelin, 2003): the square root of the mean of the
/// Kullback-Leibler divergences of both distributions from their mean, in nats. From 0 (equal) to
/// 0.8326, the square root of ln 2 (no bin in common). `None` if one distribution is empty.
pub(crate) fn jensen_shannon(counts: &BinCounts) -> Option<f64> {
    let term = |share: f64, mean: f64| {
        if share > 0.0 {
            share * (share / mean).ln()
        } else {
            0.0
        }
    };
    let divergence: f64 = shares(counts)?
        .map(|(p, q)| {
            let mean = (p + q) / 2.0;
            (term(p, mean) + term(q, mean)) / 2.0
        })
        .sum();
    // Rounding may give a value slightly below 0 for equal distributions.
    Some(divergence.max(0.0).sqrt())
}

/// The Kolmogorov-Smirnov statistic: the largest distance between the two cumulative distributions,
/// from 0 to 1. The bins must be in the order of their values. A binned statistic is at most the one
/// of the values themselves. `None` if one distribution is empty.
pub(crate) fn kolmogorov_smirnov(counts: &BinCounts) -> Option<f64> {
    let (largest, _) = shares(counts)?.fold((0.0_f64, 0.0), |(largest, sum), (p, q)| {
        let sum = sum + (q - p);
        (largest.max(f64::abs(sum)), sum)
    });
    Some(largest)
}

#[cfg(test)]
mod tests {
    use crate::distance::{jensen_shannon, kolmogorov_smirnov, psi};

    fn pairs(reference: &[f64], observed: &[f64]) -> Vec<(f64, f64)> {
        reference
            .iter()
            .copied()
            .zip(observed.iter().copied())
            .collect()
    }

    /// The expected values are SciPy's: `jensenshannon(p, q)`, and `ks_2samp(a, b).statistic` of
    /// samples with one value for each bin.
    #[test]
    fn the_distances_are_those_of_scipy() {
        for (reference, observed, index, js, ks) in [
            (
                vec![10.0, 20.0, 30.0, 40.0],
                vec![40.0, 30.0, 20.0, 10.0],
                0.912_869_638_293_567_3,
                0.326_251_644_112_674_5,
                0.4,
            ),
            (
                vec![5.0, 0.0, 95.0],
                vec![0.0, 50.0, 50.0],
                4.856_688_069_277_822,
                0.475_512_872_772_464_8,
                0.45,
            ),
            (
                vec![1.0, 2.0, 3.0, 0.0, 7.0],
                vec![1000.0, 2000.0, 2500.0, 100.0, 6000.0],
                0.043_044_175_472_961_445,
                0.060_176_034_454_615_87,
                0.027_851_458_885_941_65,
            ),
        ] {
            let counts = pairs(&reference, &observed);
            let close = |found: Option<f64>, expected: f64| {
                let found = found.unwrap();
                assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            };
            close(psi(&counts), index);
            close(jensen_shannon(&counts), js);
            close(kolmogorov_smirnov(&counts), ks);
        }
    }

    #[test]
    fn equal_distributions_have_no_distance_and_an_empty_one_has_none() {
        let same = pairs(&[1.0, 2.0, 0.0], &[10.0, 20.0, 0.0]);
        let empty = pairs(&[1.0, 2.0], &[0.0, 0.0]);
        for distance in [psi, jensen_shannon, kolmogorov_smirnov] {
            assert!(distance(&same).unwrap() < 1e-9);
            assert_eq!(distance(&empty), None);
            assert_eq!(distance(&[]), None);
        }
    }
}
