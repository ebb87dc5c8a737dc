//! `ArmRuns`: the engine runs of one arm during a step of a rollout.

use std::sync::Arc;

use crate::{
    metrics::runs::{Runs, RunsView},
    registry::servable::Servable,
    rollout::evidence::WARM_RUNS,
};

/// The engine runs of one arm since the step began, in this process.
#[derive(Default)]
pub(super) struct ArmRuns {
    counters: Option<Arc<Runs>>,
    base: RunsView,
    /// Runs from counters that no longer exist because the version was loaded again.
    carried: RunsView,
    pub threads: usize,
}

impl ArmRuns {
    pub(super) fn read(&mut self, servable: Option<&Arc<Servable>>) -> RunsView {
        if let Some(servable) = servable {
            self.follow(servable);
        }
        let mut view = self.carried.clone();
        if let Some(counters) = &self.counters {
            view.add(&counters.view().since(&self.base));
        }
        view
    }

    fn follow(&mut self, servable: &Servable) {
        let counters = &servable.metrics.engine.runs;
        let same = self
            .counters
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, counters));
        if !same {
            if let Some(gone) = self.counters.replace(Arc::clone(counters)) {
                self.carried.add(&gone.view().since(&self.base));
            }
            // Counters that exist when the step begins also contain the runs before it.
            self.base = counters.view();
        }
        let now = counters.view();
        if now.total() < WARM_RUNS {
            // The first runs after a load are slow, because caches are empty and memory is
            // allocated. Only their failures count.
            self.base = now.with_failures_of(&self.base);
        }
        self.threads = servable.intra_op_threads;
    }
}
