//! Tally: where one process counts what the arms of a step do, and how the counts of several processes are put together.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::rollout::{
    evidence::{ArmTotals, Evidence},
    split::SLOTS,
};

/// With more slots taken, most new keys would fall where others lie.
const FULL: usize = SLOTS / 8 * 7;
/// Different predictions that are counted apart; the rest is `other`.
const MAX_CLASSES: usize = 50;
/// Windows that are kept: the running one, and those that replicas with other clocks may still be in.
const WINDOWS: u32 = 4;

/// A set of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(Vec<u64>);

impl Default for Slots {
    fn default() -> Slots {
        Slots(vec![0; SLOTS / 64])
    }
}

impl Slots {
    fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot) / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    pub fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

/// Which keys an arm answered, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeySlots {
    pub seen: Slots,
    pub failed: Slots,
    pub nan: Slots,
}

/// What one process knows of a step: `evidence/MODEL/SEQ/REPLICA-BOOT.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvidenceShare {
    pub evidence: Evidence,
    /// By version; only where requests are assigned by a key.
    pub keys: BTreeMap<String, KeySlots>,
}

/// What all processes know together. A key that several saw counts once, as the first of them in this order has it.
pub fn combine<'a>(shares: impl Iterator<Item = &'a EvidenceShare> + Clone) -> Evidence {
    let mut all = Evidence::default();
    for share in shares.clone() {
        all.add(&share.evidence);
    }
    let mut keys: BTreeMap<&str, KeySlots> = BTreeMap::new();
    for (version, more) in shares.flat_map(|share| &share.keys) {
        let mine = keys.entry(version).or_default();
        let words = mine
            .seen
            .0
            .iter_mut()
            .zip(&mut mine.failed.0)
            .zip(&mut mine.nan.0);
        for (((seen, failed), nan), ((new, new_failed), new_nan)) in
            words.zip(more.seen.0.iter().zip(&more.failed.0).zip(&more.nan.0))
        {
            let first = new & !*seen;
            *failed |= new_failed & first;
            *nan |= new_nan & first;
            *seen |= first;
        }
    }
    for (version, keys) in keys {
        let totals = all.arms.entry(version.to_owned()).or_default();
        (totals.units, totals.failed, totals.nan) =
            (keys.seen.len(), keys.failed.len(), keys.nan.len());
        totals.full |= totals.units >= FULL as u64;
    }
    all
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome<'a> {
    /// With what was predicted first, where that can be counted.
    Answered { prediction: Option<&'a str> },
    /// The answer holds a number that is none.
    NotFinite,
    /// `lost`: by its run, which is counted among the runs, once.
    /// `callers`: that may be the caller's doing, and counts against no ceiling.
    Failed {
        kind: &'static str,
        lost: bool,
        callers: bool,
    },
}

/// How the units of a step are counted.
#[derive(Clone, Copy, Debug)]
pub struct TallyRules {
    /// By a key, of which only the first request counts.
    pub keyed: bool,
    pub window_seconds: f64,
    /// Answers that take longer are slow.
    pub ceiling: Option<Duration>,
}

/// The counts of one step in this process. The first arm is the stable one.
pub struct Tally {
    rules: TallyRules,
    arms: Vec<ArmTally>,
}

struct ArmTally {
    version: String,
    /// Slots whose first request is on its way or answered, here or elsewhere.
    claimed: Box<[AtomicU64]>,
    taken: AtomicUsize,
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    totals: ArmTotals,
    keys: KeySlots,
}

/// What is observed of one request.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// It counts as a unit.
    pub counts: bool,
    pub slot: u16,
    /// Seconds since the step began.
    pub at_seconds: f64,
}

impl Tally {
    pub fn new(versions: &[String], rules: TallyRules) -> Tally {
        let arm = |version: &String| ArmTally {
            version: version.clone(),
            claimed: (0..SLOTS / 64).map(|_| AtomicU64::new(0)).collect(),
            taken: AtomicUsize::new(0),
            collected: Mutex::default(),
        };
        Tally {
            rules,
            arms: versions.iter().map(arm).collect(),
        }
    }

    /// Whether a request is the first of its key in this arm and step; always, where there are no keys.
    pub fn claim(&self, arm: usize, slot: u16) -> bool {
        if !self.rules.keyed {
            return true;
        }
        let Some(arm) = self.arms.get(arm) else {
            return false;
        };
        arm.taken.load(Ordering::Relaxed) < FULL && arm.claim(slot)
    }

    /// Counts one request that ended.
    pub fn observe(&self, arm: usize, unit: Unit, elapsed: Duration, outcome: &RequestOutcome<'_>) {
        let Some(arm) = self.arms.get(arm) else {
            return;
        };
        let mut collected = arm.lock();
        let Collected { totals, keys } = &mut *collected;
        totals.requests += 1;
        match outcome {
            RequestOutcome::Answered { .. } => totals.seconds += elapsed.as_secs_f64(),
            RequestOutcome::NotFinite => *totals.errors.entry("nan".to_owned()).or_default() += 1,
            RequestOutcome::Failed { kind, .. } => {
                *totals.errors.entry((*kind).to_owned()).or_default() += 1
            }
        }
        let lost = matches!(outcome, RequestOutcome::Failed { lost: true, .. });
        if !unit.counts || lost {
            return;
        }
        let (failed, nan) = (
            matches!(outcome, RequestOutcome::Failed { .. }),
            *outcome == RequestOutcome::NotFinite,
        );
        totals.units += 1;
        totals.failed += u64::from(failed);
        totals.nan += u64::from(nan);
        if self.rules.keyed {
            keys.seen.insert(unit.slot);
            if failed {
                keys.failed.insert(unit.slot);
            }
            if nan {
                keys.nan.insert(unit.slot);
            }
        }
        if let RequestOutcome::Answered {
            prediction: Some(prediction),
        } = outcome
        {
            let known = totals.predictions.len() < MAX_CLASSES
                || totals.predictions.contains_key(*prediction);
            let prediction = if known { prediction } else { "other" };
            match totals.predictions.get_mut(prediction) {
                Some(count) => *count += 1,
                None => {
                    totals.predictions.insert(prediction.to_owned(), 1);
                }
            }
        }
        let index = (unit.at_seconds / self.rules.window_seconds) as u32;
        let window = totals.windows.entry(index).or_default();
        window.units += 1;
        let callers = matches!(outcome, RequestOutcome::Failed { callers: true, .. });
        window.failed += u64::from((failed || nan) && !callers);
        window.slow += u64::from(self.rules.ceiling.is_some_and(|ceiling| elapsed > ceiling));
        while totals
            .windows
            .first_key_value()
            .is_some_and(|(oldest, _)| oldest + WINDOWS <= index)
        {
            totals.windows.pop_first();
        }
    }

    /// Counts a unit that the stable version and `arm` answered both.
    pub fn observe_pair(&self, arm: usize, counts: bool, differs: bool, difference: f64) {
        let Some(arm) = self.arms.get(arm).filter(|_| counts) else {
            return;
        };
        let pairs = &mut arm.lock().totals.pairs;
        pairs.pairs += 1;
        pairs.differ += u64::from(differs);
        pairs.difference += difference;
    }

    /// This process's part of the evidence.
    pub fn share(&self) -> EvidenceShare {
        let mut share = EvidenceShare::default();
        for arm in &self.arms {
            let collected = arm.lock();
            let mut totals = collected.totals.clone();
            totals.full = arm.taken.load(Ordering::Relaxed) >= FULL;
            share.evidence.arms.insert(arm.version.clone(), totals);
            if self.rules.keyed {
                share
                    .keys
                    .insert(arm.version.clone(), collected.keys.clone());
            }
        }
        share
    }

    /// Keys that other processes saw are theirs.
    pub fn yield_to(&self, other: &EvidenceShare) {
        for arm in &self.arms {
            for (mine, theirs) in other
                .keys
                .get(&arm.version)
                .iter()
                .flat_map(|keys| arm.claimed.iter().zip(&keys.seen.0))
            {
                let before = mine.fetch_or(*theirs, Ordering::Relaxed);
                arm.taken
                    .fetch_add((theirs & !before).count_ones() as usize, Ordering::Relaxed);
            }
        }
    }
}

impl ArmTally {
    fn claim(&self, slot: u16) -> bool {
        let bit = 1 << (slot % 64);
        let Some(word) = self.claimed.get(usize::from(slot) / 64) else {
            return false;
        };
        let first = word.load(Ordering::Relaxed) & bit == 0
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        self.taken.fetch_add(usize::from(first), Ordering::Relaxed);
        first
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bin in which a number is counted: between two powers of two.
pub fn bin(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let power = value.abs().log2().floor();
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}..{sign}{}", power.exp2(), (power + 1.0).exp2())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::rollout::tally::{
        EvidenceShare, FULL, RequestOutcome, Tally, TallyRules, Unit, bin, combine,
    };

    const RULES: TallyRules = TallyRules {
        keyed: true,
        window_seconds: 60.0,
        ceiling: Some(Duration::from_millis(10)),
    };

    fn request(
        tally: &Tally,
        arm: usize,
        slot: u16,
        at_seconds: f64,
        outcome: &RequestOutcome<'_>,
    ) {
        let unit = Unit {
            counts: tally.claim(arm, slot),
            slot,
            at_seconds,
        };
        tally.observe(arm, unit, Duration::from_millis(1), outcome);
    }

    fn versions() -> Vec<String> {
        vec!["1.0.0".to_owned(), "1.1.0".to_owned()]
    }

    const FINE: RequestOutcome<'_> = RequestOutcome::Answered {
        prediction: Some("\"stay\""),
    };
    const FAILED: RequestOutcome<'_> = RequestOutcome::Failed {
        kind: "inference",
        lost: false,
        callers: false,
    };

    #[test]
    fn of_each_key_the_first_request_counts() {
        let tally = Tally::new(&versions(), RULES);
        for outcome in [FINE, FAILED, FAILED] {
            request(&tally, 1, 7, 0.0, &outcome);
        }
        request(&tally, 1, 8, 0.0, &FAILED);
        request(
            &tally,
            1,
            9,
            0.0,
            &RequestOutcome::Failed {
                kind: "timeout",
                lost: true,
                callers: false,
            },
        );
        let share = tally.share();
        let candidate = &combine([&share].into_iter()).arms["1.1.0"];
        assert_eq!(
            (candidate.requests, candidate.units, candidate.failed),
            (5, 2, 1)
        );
        assert_eq!(candidate.errors["inference"], 3);
        assert_eq!(candidate.predictions["\"stay\""], 1);
    }

    #[test]
    fn a_key_that_two_processes_saw_counts_once_and_restarts_keep_it() {
        let (first, second) = (
            Tally::new(&versions(), RULES),
            Tally::new(&versions(), RULES),
        );
        request(&first, 1, 7, 0.0, &FAILED);
        request(&second, 1, 7, 0.0, &FINE);
        request(&second, 1, 8, 0.0, &FAILED);
        let text = serde_json::to_string(&first.share()).unwrap();
        let first: EvidenceShare = serde_json::from_str(&text).unwrap();
        let shares = [first.clone(), second.share()];
        let candidate = &combine(shares.iter()).arms["1.1.0"];
        assert_eq!((candidate.units, candidate.failed), (2, 2));
        let restarted = Tally::new(&versions(), RULES);
        restarted.yield_to(&first);
        assert!(!restarted.claim(1, 7) && restarted.claim(1, 8) && restarted.claim(0, 7));
    }

    #[test]
    fn a_full_set_says_so_and_stops() {
        let tally = Tally::new(&versions(), RULES);
        let counted = (0..=u16::MAX / 2)
            .filter(|slot| tally.claim(1, *slot))
            .count();
        assert_eq!(counted, FULL);
        assert!(tally.share().evidence.arms["1.1.0"].full);
    }

    #[test]
    fn windows_are_dropped_when_they_are_old() {
        let tally = Tally::new(
            &versions(),
            TallyRules {
                keyed: false,
                ..RULES
            },
        );
        for minute in 0..10 {
            request(&tally, 1, 0, f64::from(minute) * 60.0, &FAILED);
        }
        let totals = &tally.share().evidence.arms["1.1.0"];
        assert_eq!(
            totals.windows.keys().copied().collect::<Vec<_>>(),
            [6, 7, 8, 9]
        );
        assert_eq!((totals.units, totals.windows[&9].failed), (10, 1));
    }

    #[test]
    fn numbers_are_binned_by_their_size() {
        assert_eq!(
            [0.0, 0.3, 1.0, 100.0, -3.0].map(bin),
            ["0", "0.25..0.5", "1..2", "64..128", "-2..-4"]
        );
    }
}
