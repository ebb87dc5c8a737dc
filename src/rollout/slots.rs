//! `Slots`: a set of hashed keys.

use serde::{Deserialize, Serialize};

use crate::rollout::split::SLOTS;

/// A bit per slot. Serialized as base64 of little-endian words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots(Vec<u64>);

impl Default for Slots {
    fn default() -> Slots {
        Slots(vec![0; SLOTS / 64])
    }
}

impl Slots {
    pub(super) fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot) / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn encode(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        base64_simd::STANDARD.encode_to_string(bytes)
    }

    fn decode(text: &str) -> Option<Slots> {
        let bytes = base64_simd::STANDARD.decode_to_vec(text).ok()?;
        let words: Vec<u64> = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|chunk| u64::from_le_bytes(*chunk))
            .collect();
        // Evidence from a server with a different number of slots can't be combined.
        (bytes.len() == SLOTS / 8).then_some(Slots(words))
    }
}

impl Serialize for Slots {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Slots, D::Error> {
        let text = String::deserialize(deserializer)?;
        Slots::decode(&text).ok_or_else(|| serde::de::Error::custom("not a set of slots"))
    }
}
