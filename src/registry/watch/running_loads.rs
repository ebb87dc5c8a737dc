//! `RunningLoads`: the loads in progress, each with a deadline.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::id::ModelId;

#[derive(Default)]
pub(super) struct RunningLoads {
    /// The loads by their number, with the time at which each is given up.
    loads: BTreeMap<u64, (ModelId, Instant)>,
    /// The number of the last load.
    last: u64,
}

impl RunningLoads {
    pub(super) fn len(&self) -> usize {
        self.loads.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    /// Returns a number that no other load has.
    pub(super) fn next_number(&mut self) -> u64 {
        // Numbers are never reused, so that a late result is not mistaken for the result of another
        // load.
        self.last += 1;
        self.last
    }

    pub(super) fn begin(&mut self, number: u64, id: ModelId, limit: Duration) {
        self.loads.insert(number, (id, Instant::now() + limit));
    }

    /// Removes a load that ended, and returns its version. `None` if the load was given up before.
    pub(super) fn end(&mut self, number: u64) -> Option<ModelId> {
        self.loads.remove(&number).map(|(id, _)| id)
    }

    /// The numbers of the loads whose deadline passed.
    pub(super) fn late(&self) -> Vec<u64> {
        let now = Instant::now();
        self.loads
            .iter()
            .filter(|(_, (_, deadline))| *deadline <= now)
            .map(|(number, _)| *number)
            .collect()
    }
}
