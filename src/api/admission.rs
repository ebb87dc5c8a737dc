//! Admission: limits the requests in flight, before a request's body takes memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{api::refusal::Refusal, error::ErrorCode};

/// The number of requests in flight.
#[derive(Default)]
pub(super) struct InflightRequests(Arc<AtomicUsize>);

impl InflightRequests {
    pub(super) fn admit(&self, limit: usize) -> Result<Admission, Refusal> {
        // The count is increased first and compared afterwards, so two concurrent requests can't
        // both get the last slot. A refused request decreases the count when its admission is
        // dropped.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let admission = Admission(Arc::clone(&self.0));
        if before < limit {
            return Ok(admission);
        }
        Err(Refusal::new(
            ErrorCode::Overloaded,
            "the server has reached its limit of requests in flight; try again later",
        ))
    }
}

/// Counts a request as in flight while this value exists. It is kept as long as the request takes
/// memory.
pub(super) struct Admission(Arc<AtomicUsize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
