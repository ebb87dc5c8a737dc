//! Rehearsal samples: an observer that keeps a few valid requests of each stable version.
//! Rehearsals of a rollback replay them.

use std::time::Instant;

use crate::predict::event::{AssignedRequest, Observer, PredictionEvent, SharedInput};

pub(super) struct RehearsalSamples;

impl Observer for RehearsalSamples {
    fn wants_input(&self, request: &AssignedRequest<'_>) -> bool {
        let samples = request.routed.samples.as_ref();
        samples.is_some_and(|samples| samples.is_due(request.now))
    }

    fn observe(&self, event: &PredictionEvent<'_>) {
        // A request that the stable version fails on is kept, too: a rollback is for such requests.
        if let (Some(samples), Some(SharedInput::Columns(columns))) =
            (&event.routed.samples, event.input)
        {
            samples.offer(columns, Instant::now());
        }
    }
}
