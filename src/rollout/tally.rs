//! `Tally`: counts the results of a step's arms in one process. `combine` adds up the counts of
//! several processes.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use crate::rollout::slots::Slots;
use crate::rollout::{
    evidence::{ArmTotals, Evidence, WindowTotals},
    split::SLOTS,
};

/// Number of used slots at which an arm is full. Above it, most further keys would share a slot
/// with another key and would not be counted.
const FULL: usize = SLOTS / 8 * 7;

/// Maximum number of predictions that are counted separately. All others are counted as `other`.
const MAX_CLASSES: usize = 50;

/// Number of windows that are kept: the current one, and earlier ones for replicas whose clocks
/// differ.
const WINDOWS: u32 = 4;

/// The keys that an arm answered, and the keys whose first request had a bad result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeySlots {
    pub seen: Slots,
    pub failed: Slots,
    pub nan: Slots,
}

impl KeySlots {
    /// Adds the keys of another process. A key that both processes counted keeps its result from
    /// this one.
    fn add(&mut self, other: &KeySlots) {
        let own = self
            .seen
            .words_mut()
            .iter_mut()
            .zip(self.failed.words_mut())
            .zip(self.nan.words_mut());
        let others = other
            .seen
            .words()
            .iter()
            .zip(other.failed.words())
            .zip(other.nan.words());
        for (((seen, failed), nan), ((other_seen, other_failed), other_nan)) in own.zip(others) {
            let new = other_seen & !*seen;
            *failed |= other_failed & new;
            *nan |= other_nan & new;
            *seen |= new;
        }
    }
}

/// The counts of one process. Stored as `evidence/MODEL/SEQ/REPLICA-BOOT.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EvidenceShare {
    pub evidence: Evidence,
    /// The keys of each version. Empty unless requests are assigned by a key.
    pub keys: BTreeMap<String, KeySlots>,
}

/// Adds up the counts of all processes. A key that several processes counted is counted once, with
/// the result of the first of these processes.
pub(crate) fn combine<'a>(shares: impl Iterator<Item = &'a EvidenceShare> + Clone) -> Evidence {
    let mut all = Evidence::default();
    for share in shares.clone() {
        all.add(&share.evidence);
    }
    let mut keys: BTreeMap<&str, KeySlots> = BTreeMap::new();
    for (version, more) in shares.flat_map(|share| &share.keys) {
        keys.entry(version).or_default().add(more);
    }
    // The sums contain keys that several processes counted more than once.
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
pub(crate) enum RequestOutcome<'a> {
    /// The request was answered. `prediction` is its first prediction, if that can be counted.
    Answered { prediction: Option<&'a str> },
    /// The answer contains NaN or infinity.
    NotFinite,
    Failed {
        kind: &'static str,
        /// Whether the whole engine run failed. The run is counted once, no matter how many
        /// requests it contained.
        lost: bool,
        /// Whether the caller may have caused the failure, so that it does not count against a
        /// ceiling.
        callers: bool,
    },
}

/// The rules by which the units of a step are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TallyRules {
    /// Whether requests are assigned by a key. If so, only the first request of each key is a unit.
    pub keyed: bool,
    pub window_seconds: f64,
    /// The time above which an answer is slow. `None` means that no answer is slow.
    pub ceiling: Option<Duration>,
}

/// The counts of one step in this process. The first arm is the stable version.
pub(crate) struct Tally {
    rules: TallyRules,
    arms: Vec<ArmTally>,
}

struct ArmTally {
    version: String,
    /// The slots of keys whose first request arrived, in this or another process.
    claimed: Box<[AtomicU64]>,
    /// The number of claimed slots.
    taken: AtomicUsize,
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    totals: ArmTotals,
    keys: KeySlots,
}

/// The part of a request's assignment that is needed to count the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// Whether the request is a unit, which is true for the first request of its key.
    pub counts: bool,
    pub slot: u16,
    /// Seconds since the step began.
    pub at_seconds: f64,
}

impl Tally {
    pub(crate) fn new(versions: &[String], rules: TallyRules) -> Tally {
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

    /// Whether a request is the first of its key in this arm and step. Without keys, every request
    /// is.
    pub(crate) fn claim(&self, arm: usize, slot: u16) -> bool {
        if !self.rules.keyed {
            return true;
        }
        let Some(arm) = self.arms.get(arm) else {
            return false;
        };
        // Concurrent requests may exceed the limit by a few keys, which is harmless.
        arm.taken.load(Ordering::Relaxed) < FULL && arm.claim(slot)
    }

    /// Counts a request that ended.
    pub(crate) fn observe(
        &self,
        arm: usize,
        unit: Unit,
        elapsed: Duration,
        outcome: &RequestOutcome<'_>,
    ) {
        let Some(arm) = self.arms.get(arm) else {
            return;
        };
        // Each request takes one lock, for a few additions.
        let mut collected = arm.lock();
        collected.count_request(elapsed, outcome);
        // The guard of the runs counts a lost request. Counting it here, too, would be unfair to
        // small batches.
        let lost = matches!(outcome, RequestOutcome::Failed { lost: true, .. });
        if unit.counts && !lost {
            collected.count_unit(self.rules, unit, elapsed, outcome);
        }
    }

    /// Counts a unit that both the stable version and `arm` answered.
    pub(crate) fn observe_pair(&self, arm: usize, counts: bool, differs: bool, difference: f64) {
        let Some(arm) = self.arms.get(arm).filter(|_| counts) else {
            return;
        };
        let pairs = &mut arm.lock().totals.pairs;
        pairs.pairs += 1;
        pairs.differ += u64::from(differs);
        pairs.difference += difference;
    }

    /// The counts of this process, for the state directory.
    pub(crate) fn share(&self) -> EvidenceShare {
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

    /// Claims the keys that another process counted, so that this process does not count them
    /// again.
    pub(crate) fn yield_to(&self, other: &EvidenceShare) {
        for arm in &self.arms {
            if let Some(keys) = other.keys.get(&arm.version) {
                arm.claim_all(&keys.seen);
            }
        }
    }
}

impl Collected {
    fn count_request(&mut self, elapsed: Duration, outcome: &RequestOutcome<'_>) {
        let totals = &mut self.totals;
        totals.requests += 1;
        let error = match outcome {
            RequestOutcome::Answered { .. } => {
                totals.seconds += elapsed.as_secs_f64();
                return;
            }
            RequestOutcome::NotFinite => "nan",
            RequestOutcome::Failed { kind, .. } => kind,
        };
        *totals.errors.entry(error.to_owned()).or_default() += 1;
    }

    fn count_unit(
        &mut self,
        rules: TallyRules,
        unit: Unit,
        elapsed: Duration,
        outcome: &RequestOutcome<'_>,
    ) {
        let failed = matches!(outcome, RequestOutcome::Failed { .. });
        let nan = *outcome == RequestOutcome::NotFinite;
        self.totals.units += 1;
        self.totals.failed += u64::from(failed);
        self.totals.nan += u64::from(nan);
        if rules.keyed {
            self.keys.seen.insert(unit.slot);
            if failed {
                self.keys.failed.insert(unit.slot);
            }
            if nan {
                self.keys.nan.insert(unit.slot);
            }
        }
        if let RequestOutcome::Answered {
            prediction: Some(prediction),
        } = outcome
        {
            self.totals.count_prediction(prediction);
        }
        let callers = matches!(outcome, RequestOutcome::Failed { callers: true, .. });
        let window = self.totals.window_at(unit.at_seconds, rules.window_seconds);
        window.units += 1;
        // The ceiling is absolute. If failures that callers cause counted, callers could abort any
        // rollout.
        window.failed += u64::from((failed || nan) && !callers);
        window.slow += u64::from(rules.ceiling.is_some_and(|ceiling| elapsed > ceiling));
    }
}

impl ArmTotals {
    fn count_prediction(&mut self, prediction: &str) {
        let counted =
            self.predictions.len() < MAX_CLASSES || self.predictions.contains_key(prediction);
        let prediction = if counted { prediction } else { "other" };
        // Only the first occurrence allocates memory.
        match self.predictions.get_mut(prediction) {
            Some(count) => *count += 1,
            None => {
                self.predictions.insert(prediction.to_owned(), 1);
            }
        }
    }

    /// The window for a time since the step began. Drops old windows.
    fn window_at(&mut self, seconds: f64, window_seconds: f64) -> &mut WindowTotals {
        let index = (seconds / window_seconds) as u32;
        while let Some((oldest, _)) = self.windows.first_key_value()
            && oldest + WINDOWS <= index
        {
            self.windows.pop_first();
        }
        self.windows.entry(index).or_default()
    }
}

impl ArmTally {
    /// Claims a slot. Of several concurrent requests, one succeeds.
    fn claim(&self, slot: u16) -> bool {
        let bit = 1 << (slot % 64);
        let Some(word) = self.claimed.get(usize::from(slot) / 64) else {
            return false;
        };
        // Most requests are not the first of their key, and a load is cheaper than a write.
        let first = word.load(Ordering::Relaxed) & bit == 0
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        self.taken.fetch_add(usize::from(first), Ordering::Relaxed);
        first
    }

    fn claim_all(&self, slots: &Slots) {
        for (own, others) in self.claimed.iter().zip(slots.words()) {
            let before = own.fetch_or(*others, Ordering::Relaxed);
            let new = (others & !before).count_ones() as usize;
            self.taken.fetch_add(new, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bin of a number between two powers of two, as text.
pub(crate) fn bin(value: f64) -> String {
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
    fn the_first_request_of_each_key_counts() {
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
    fn a_full_set_reports_that_it_is_full() {
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
