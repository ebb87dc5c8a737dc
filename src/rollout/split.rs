//! `KeyHash`: the hash of a request's key, which determines the version that answers. Nothing is
//! stored: the same salt and key give the same hash on every replica and after every restart.

use std::io::{Cursor, Read};

/// The number of slots for keys that were counted in a step. A key is not counted if another key
/// already uses its slot.
pub const SLOTS: usize = 1 << 15;

/// A point in [0, 1), in units of 2^-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Three independent values of a key, from one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// Determines the version that answers.
    pub assign: Position,
    /// Determines whether the candidate answers a copy. If `assign` determined both, the shadow
    /// step and the canary step would have the same users.
    pub shadow: Position,
    /// The slot in which the key is counted, below `SLOTS`.
    pub slot: u16,
}

impl KeyHash {
    /// MurmurHash3 (x64, 128 bits; Appleby 2011) of the salt and the key. 64 bits determine the
    /// version, 48 bits the shadow copies, and 15 bits the slot.
    ///
    /// Every rollout has its own salt. Otherwise the same users would always get a new candidate
    /// first.
    pub fn of(salt: &[u8], key: &[u8]) -> KeyHash {
        // Reading from memory never fails.
        let hash =
            murmur3::murmur3_x64_128(&mut Cursor::new(salt).chain(key), 0).unwrap_or_default();
        let (low, high) = (hash as u64, (hash >> 64) as u64);
        KeyHash {
            assign: Position(low),
            // The slot uses the low bits, so that the two values are independent.
            shadow: Position(high & !0xffff),
            slot: (high & (SLOTS as u64 - 1)) as u16,
        }
    }
}

impl Position {
    /// Whether the position is below `share`. Every position is below a share of 1 or more.
    pub fn below(self, share: f64) -> bool {
        u128::from(self.0) < to_units(share)
    }

    /// The arm of the position: 0 is the stable version, and i is the candidate i - 1.
    ///
    /// Candidate i of n has the positions that start at i/n, so that a larger weight moves no unit
    /// away from a candidate. If a weight is above 1/n, the candidates follow each other without
    /// gaps instead.
    pub fn arm(self, weights: &[f64]) -> usize {
        // The width of each candidate's range of positions.
        let width = (1u128 << 64) / (weights.len().max(1) as u128);
        let fits = weights.iter().all(|weight| to_units(*weight) <= width);
        let mut start = 0;
        for (candidate, weight) in weights.iter().enumerate() {
            let end = start + to_units(*weight);
            if (start..end).contains(&u128::from(self.0)) {
                return candidate + 1;
            }
            start = if fits {
                width * (candidate as u128 + 1)
            } else {
                end
            };
        }
        0
    }
}

/// A share in units of 2^-64. It needs more than 64 bits, because a share of 1 is 2^64.
fn to_units(share: f64) -> u128 {
    // The cast saturates, and NaN becomes 0.
    (share.clamp(0.0, 1.0) * 2f64.powi(64)) as u128
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes(salt: &[u8], keys: u32) -> Vec<KeyHash> {
        (0..keys)
            .map(|key| KeyHash::of(salt, &key.to_le_bytes()))
            .collect()
    }

    /// Checks Pearson's statistic. Its mean is the number of cells minus one, and its variance is
    /// twice the mean.
    fn uniform(counts: &[u64]) {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let statistic: f64 = counts
            .iter()
            .map(|count| (*count as f64 - expected).powi(2) / expected)
            .sum();
        let free = (counts.len() - 1) as f64;
        assert!(
            (statistic - free).abs() < 5.0 * (2.0 * free).sqrt(),
            "{statistic} of {free}"
        );
    }

    #[test]
    fn a_known_hash() {
        // The reference implementation's h1 and h2 of "hello, world".
        let hash = KeyHash::of(b"hello, ", b"world");
        assert_eq!(
            (hash.assign, hash.shadow),
            (
                Position(0x342f_ac62_3a5e_bc8e),
                Position(0x4cdc_bc07_9642_0000)
            )
        );
        assert_eq!(hash, KeyHash::of(b"", b"hello, world"));
    }

    #[test]
    fn shares_converge() {
        let hashes = hashes(b"salt", 200_000);
        let weights = [0.01, 0.05, 0.3];
        let mut arms = [0u64; 4];
        for hash in &hashes {
            arms[hash.assign.arm(&weights)] += 1;
        }
        for (count, weight) in arms.iter().zip([0.64, 0.01, 0.05, 0.3]) {
            let (mean, variance) = (200_000.0 * weight, 200_000.0 * weight * (1.0 - weight));
            assert!(
                (*count as f64 - mean).abs() < 4.5 * f64::sqrt(variance),
                "{count} of {mean}"
            );
        }
    }

    #[test]
    fn the_three_places_and_two_salts_are_independent() {
        let (one, two) = (hashes(b"one", 160_000), hashes(b"two", 160_000));
        let cell = |a: u64, b: u64| ((a >> 60) * 16 + (b >> 60)) as usize;
        let mut counts = [[0u64; 256]; 4];
        for (a, b) in one.iter().zip(&two) {
            let slot = u64::from(a.slot) << 49;
            let pairs = [
                (a.assign.0, a.shadow.0),
                (a.assign.0, slot),
                (a.shadow.0, slot),
                (a.assign.0, b.assign.0),
            ];
            for (counts, (a, b)) in counts.iter_mut().zip(pairs) {
                counts[cell(a, b)] += 1;
            }
        }
        counts.iter().for_each(|counts| uniform(counts));
        let mut slots = vec![0u64; SLOTS];
        one.iter()
            .for_each(|hash| slots[usize::from(hash.slot)] += 1);
        uniform(&slots);
    }

    #[test]
    fn intervals_have_exact_ends() {
        let last = Position(u64::MAX);
        assert_eq!(
            (
                last.arm(&[1.0]),
                last.arm(&[0.999]),
                last.arm(&[]),
                Position(0).arm(&[0.0])
            ),
            (1, 0, 0, 0)
        );
        assert!(
            last.below(1.0)
                && last.below(7.0)
                && !last.below(f64::NAN)
                && !Position(0).below(0.0)
                && !Position(0).below(-1.0)
        );
        // If a weight is above 1/n, the ranges follow each other.
        assert_eq!(
            [0u64, 1 << 63, u64::MAX].map(|place| Position(place).arm(&[0.5, 0.3])),
            [1, 2, 0]
        );
        assert_eq!(
            [0u64, 10 << 60, 14 << 60].map(|place| Position(place).arm(&[0.6, 0.2])),
            [1, 2, 0]
        );
    }

    proptest! {
        #[test]
        fn sticky(salt: [u8; 16], key: Vec<u8>) {
            prop_assert_eq!(KeyHash::of(&salt, &key), KeyHash::of(&salt, &key));
            prop_assert!(usize::from(KeyHash::of(&salt, &key).slot) < SLOTS);
        }

        #[test]
        fn raising_a_weight_moves_nobody_back(place: u64, low in 0.0..1.0, more in 0.0..1.0, n in 1usize..5, which in 0usize..5) {
            let n_weight = |weight: f64| weight / n as f64;
            let mut weights = vec![n_weight(low); n];
            let before = Position(place).arm(&weights);
            weights[which % n] = n_weight(low + more * (1.0 - low));
            let after = Position(place).arm(&weights);
            prop_assert!(after == before || (before == 0 && after == which % n + 1), "{} became {}", before, after);
        }
    }
}
