//! Repeatable random numbers for tests that generate their cases.

#![allow(dead_code, reason = "each test program uses a part of this file")]

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

/// SplitMix64 (Steele, Lea, Flood 2014), which gives the same numbers on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// The seed and the number of cases: `PREDICTD_SEED` or a new seed, `PREDICTD_CASES` or `usual`.
pub fn seed_and_cases(usual: u64) -> (u64, usize) {
    let from_environment =
        |name: &str| std::env::var_os(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
    let seed = from_environment("PREDICTD_SEED")
        .unwrap_or_else(|| RandomState::new().build_hasher().finish());
    (
        seed,
        from_environment("PREDICTD_CASES").unwrap_or(usual) as usize,
    )
}
