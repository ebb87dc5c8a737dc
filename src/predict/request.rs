//! A request to the data plane, whatever protocol it came by.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::{
    engine::queue::Priority,
    predict::input::Input,
    registry::{route::Target, servable::Servable},
};

pub(crate) struct PredictRequest<'a> {
    pub target: Target<'a>,
    pub input: Input,
    /// Names of the outputs that the caller wants; empty means all outputs.
    pub wanted: &'a [String],
    pub deadline: Instant,
    pub priority: Priority,
    /// Looks up a header of HTTP, or a metadata key of gRPC, by its lowercase name.
    pub header: &'a (dyn Fn(&str) -> Option<Vec<u8>> + Sync),
    pub answering: &'a AnsweringVersion,
}

/// The version that will answer a request, once it is known. A request whose caller leaves is
/// counted for it.
#[derive(Default)]
pub(crate) struct AnsweringVersion(Mutex<Option<Arc<Servable>>>);

impl AnsweringVersion {
    pub(crate) fn set(&self, servable: &Arc<Servable>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(servable));
    }

    pub(crate) fn get(&self) -> Option<Arc<Servable>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
