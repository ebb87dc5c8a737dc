//! A request to the data plane, whatever its protocol.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::{
    engine::queue::Priority,
    metrics::Protocol,
    predict::input::Input,
    registry::{route::Target, servable::Servable},
};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestOrigin {
    /// The protocol. `None` if the request did not come over the network.
    pub protocol: Option<Protocol>,
    /// The id of the caller's trace (W3C trace context). `None` if the caller sent none.
    pub trace_id: Option<u128>,
}

pub(crate) struct PredictRequest<'a> {
    pub origin: RequestOrigin,
    pub target: Target<'a>,
    pub input: Input,
    /// Names of the outputs that the caller requests. Empty means all outputs.
    pub wanted: &'a [String],
    pub deadline: Instant,
    pub priority: Priority,
    /// Looks up an HTTP header or a gRPC metadata key by its lowercase name.
    pub header: &'a (dyn Fn(&str) -> Option<Vec<u8>> + Sync),
    pub answering: &'a AnsweringVersion,
}

/// The version that will answer a request, once it is known. If the caller disconnects, the request
/// is counted for this version.
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
