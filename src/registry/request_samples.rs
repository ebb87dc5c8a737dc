//! RequestSamples: a few valid requests of the live traffic, in memory only, for trying the way back on them.

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

/// Requests that are kept: the latest ones, at most one each `INTERVAL`.
const KEPT: usize = 16;
const INTERVAL: Duration = Duration::from_millis(250);
/// Larger requests are not kept.
const MAX_ROWS: usize = 16;

/// The latest requests that a stable version decoded.
pub struct RequestSamples {
    /// Whose columns they are.
    servable: Weak<Servable>,
    /// A required field is personal: nothing is kept.
    forbidden: bool,
    /// Fields whose values are not kept.
    personal: Vec<ColumnId>,
    began: Instant,
    /// Milliseconds since then at which the next one is taken.
    next_ms: AtomicU64,
    kept: Mutex<VecDeque<Arc<Columns>>>,
}

impl RequestSamples {
    pub fn new(stable: &Arc<Servable>) -> RequestSamples {
        let personal = |package: &ModelPackage| {
            package
                .parts
                .input
                .columns()
                .iter()
                .any(|column| column.required && column.pii != Pii::None)
        };
        let optional = |package: &ModelPackage| {
            let columns = package.parts.input.columns().iter().enumerate();
            columns
                .filter(|(_, column)| column.pii != Pii::None)
                .map(|(id, _)| id)
                .collect()
        };
        RequestSamples {
            servable: Arc::downgrade(stable),
            forbidden: stable.package().is_none_or(personal),
            personal: stable.package().map(optional).unwrap_or_default(),
            began: Instant::now(),
            next_ms: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    pub fn is_of(&self, servable: &Arc<Servable>) -> bool {
        std::ptr::eq(self.servable.as_ptr(), Arc::as_ptr(servable))
    }

    /// Whether a request is to be kept now.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.forbidden && self.elapsed_ms(now) >= self.next_ms.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    /// Keeps a copy where one is due; costs one comparison where none is.
    pub fn offer(&self, columns: &Columns, now: Instant) {
        if self.forbidden || columns.rows > MAX_ROWS {
            return;
        }
        let now_ms = now.saturating_duration_since(self.began).as_millis() as u64;
        let due = self.next_ms.load(Ordering::Relaxed);
        let then = now_ms + INTERVAL.as_millis() as u64;
        if now_ms < due
            || self
                .next_ms
                .compare_exchange(due, then, Ordering::Relaxed, Ordering::Relaxed)
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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::new(columns));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    pub fn kept(&self) -> Vec<Arc<Columns>> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}
