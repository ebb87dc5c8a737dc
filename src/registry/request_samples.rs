//! `RequestSamples`: a few valid requests from the live traffic, in memory only. Rehearsals of a
//! rollback run them on the previous version.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    package::ModelPackage,
    registry::servable::Servable,
    schema::{
        Pii,
        columns::{ColumnId, Columns},
    },
};

/// Number of requests that are kept, which are the latest ones.
const CAPACITY: usize = 16;

/// Minimum time between two samples, so that the copies cost almost nothing under load.
const INTERVAL: Duration = Duration::from_millis(250);

/// Maximum number of rows in a sample. Sixteen larger requests could take gigabytes.
const MAX_ROWS: usize = 16;

/// The latest requests that a stable version decoded.
pub(crate) struct RequestSamples {
    /// The version that decoded the requests.
    // Weak: the samples must not keep an unloaded version in memory.
    servable: Weak<Servable>,
    /// Whether a required field contains personal data, so that no request may be kept.
    forbidden: bool,
    /// The optional fields with personal data. Their values are erased.
    personal: Vec<ColumnId>,
    began: Instant,
    /// The time of the next sample, in milliseconds since `began`.
    next_ms: AtomicU64,
    samples: Mutex<VecDeque<Arc<Columns>>>,
}

impl RequestSamples {
    pub(crate) fn new(stable: &Arc<Servable>) -> RequestSamples {
        let requires_personal = |package: &ModelPackage| {
            let mut columns = package.parts.input.columns().iter();
            columns.any(|column| column.required && column.pii != Pii::None)
        };
        let personal = |package: &ModelPackage| {
            let columns = package.parts.input.columns().iter().enumerate();
            columns
                .filter(|(_, column)| column.pii != Pii::None)
                .map(|(id, _)| id)
                .collect()
        };
        RequestSamples {
            servable: Arc::downgrade(stable),
            // A bare graph has no schema that would mark personal values.
            forbidden: stable.package().is_none_or(requires_personal),
            personal: stable.package().map(personal).unwrap_or_default(),
            began: Instant::now(),
            next_ms: AtomicU64::new(0),
            samples: Mutex::default(),
        }
    }

    pub(crate) fn is_of(&self, servable: &Arc<Servable>) -> bool {
        std::ptr::eq(self.servable.as_ptr(), Arc::as_ptr(servable))
    }

    /// Whether the next request is to be sampled.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.forbidden && self.elapsed_ms(now) >= self.next_ms.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    /// Keeps a copy of the request if a sample is due. Otherwise the call costs one comparison.
    pub(crate) fn offer(&self, columns: &Columns, now: Instant) {
        if self.forbidden || columns.rows > MAX_ROWS {
            return;
        }
        let now_ms = self.elapsed_ms(now);
        let due = self.next_ms.load(Ordering::Relaxed);
        if now_ms < due {
            return;
        }
        let next = now_ms + INTERVAL.as_millis() as u64;
        // Of several concurrent requests, only one is sampled.
        if self
            .next_ms
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        let mut columns = columns.clone();
        for id in &self.personal {
            if let Some(column) = columns.columns.get_mut(*id) {
                column.erase();
            }
        }
        // The clone is made before the lock is taken, so that other requests do not wait for it.
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Arc::new(columns));
        if samples.len() > CAPACITY {
            samples.pop_front();
        }
    }

    pub(crate) fn kept(&self) -> Vec<Arc<Columns>> {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}
