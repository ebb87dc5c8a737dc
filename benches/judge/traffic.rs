//! Simulated traffic: random events with known rates, keys, and the dependence between requests.

use predictd::rollout::split::{KeyHash, Position};

/// xorshift64* (Marsaglia 2003, Vigna 2016), seeded by splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng((z ^ (z >> 31)) | 1)
    }

    pub(super) fn bits(&mut self) -> u64 {
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
pub(super) struct Hits {
    pub(super) p: f64,
    pub(super) misses: u64,
}

impl Hits {
    pub(super) fn new(p: f64, rng: &mut Rng) -> Hits {
        let mut hits = Hits { p, misses: 0 };
        hits.draw(rng);
        hits
    }

    pub(super) fn draw(&mut self, rng: &mut Rng) {
        // The numerator is in (0, 1]. A rate of 0 never hits, because the quotient is infinite and
        // saturates.
        let u = 1.0 - rng.uniform();
        self.misses = if self.p >= 1.0 {
            0
        } else {
            (u.ln() / (-self.p).ln_1p()).abs() as u64
        };
    }

    pub(super) fn next(&mut self, rng: &mut Rng) -> bool {
        if self.misses > 0 {
            self.misses -= 1;
            return false;
        }
        self.draw(rng);
        true
    }
}

/// The random events of one arm.
pub(super) struct Behaviour {
    pub(super) error: Hits,
    pub(super) nan: Hits,
    pub(super) late: Hits,
    pub(super) run_failed: Hits,
    pub(super) slow: Hits,
    pub(super) expensive: Hits,
}

impl Behaviour {
    pub(super) fn new(rates: &Rates, rng: &mut Rng) -> Behaviour {
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
    pub(super) fn good(&mut self, most: u64) -> u64 {
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
pub(super) const FULL: (u64, u8) = (64, 6);

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

    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let u = rng.uniform() * self.places.len() as f64;
        let (chance, other) = self.places[u as usize];
        if u.fract() < chance {
            u as usize
        } else {
            other
        }
    }
}

/// The keys of a simulated rollout.
pub(super) struct Keys<'a> {
    zipf: &'a Zipf,
    assignments: Vec<Position>,
    /// A key fails in an arm whose error rate is above this. If the rates of the two versions are
    /// equal, a key fails in both or in neither.
    fails_above: Vec<f64>,
    seen: Vec<bool>,
}

/// A request of a key.
pub(super) struct KeyRequest {
    pub(super) arm: usize,
    pub(super) failed: bool,
    /// The first request of its key in this step.
    pub(super) is_first: bool,
}

impl<'a> Keys<'a> {
    /// `salt`: of the rollout. Traffic without keys has none.
    pub(super) fn new(traffic: Traffic, zipf: &'a Zipf, salt: u64, rng: &mut Rng) -> Keys<'a> {
        let count = match traffic {
            Traffic::Keys | Traffic::KeysCountedSingly => zipf.places.len(),
            _ => 0,
        };
        let salt = salt.to_le_bytes();
        Keys {
            zipf,
            assignments: (0..count as u32)
                .map(|key| KeyHash::of(&salt, &key.to_le_bytes()).assign)
                .collect(),
            fails_above: (0..count).map(|_| rng.uniform()).collect(),
            seen: vec![false; count],
        }
    }

    pub(super) fn start_step(&mut self) {
        self.seen.fill(false);
    }

    pub(super) fn request(
        &mut self,
        weight: f64,
        error_rates: [f64; 2],
        rng: &mut Rng,
    ) -> KeyRequest {
        let key = self.zipf.draw(rng);
        let arm = self.assignments[key].arm(&[weight]);
        KeyRequest {
            arm,
            failed: self.fails_above[key] < error_rates[arm],
            is_first: !std::mem::replace(&mut self.seen[key], true),
        }
    }
}
