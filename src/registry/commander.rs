//! `Commander`: sends orders and decisions to the thread that loads and unloads versions.

use std::{sync::mpsc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    id::ModelName,
    registry::{OutageCause, loader::FailedLoad, servable::LoadedVersion},
};

/// Maximum time that a caller waits for a scan of the models directory.
const SCAN_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) enum Event {
    LoadEnded(LoadEnded),
    Control {
        name: ModelName,
        order: Order,
        done: oneshot::Sender<Result<(), ControlError>>,
    },
    /// A decision was made: different versions may be needed, and roles change.
    Decided,
    /// Scan the models directory now.
    Scan {
        done: mpsc::Sender<()>,
    },
    Stop,
}

pub(super) struct LoadEnded {
    /// The number under which the load was started.
    pub number: u64,
    /// The fingerprint of the files when the load started.
    pub fingerprint: u64,
    pub outcome: Result<Box<LoadedVersion>, FailedLoad>,
    pub elapsed: Duration,
}

/// An operator's order about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Scan the directory now and load the configured versions, including those that failed before.
    Load,
    /// Unload all versions, until the next `Load` or the next start of the server.
    Unload,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("there is no such model")]
    Unknown,
    /// The order was carried out.
    #[error("no version answers")]
    Failed(#[source] OutageCause),
    #[error("the server is shutting down")]
    Gone,
}

#[derive(Clone)]
pub(crate) struct Commander {
    pub(super) events: mpsc::Sender<Event>,
}

impl Commander {
    /// Gives an order about a model. Returns after the order was carried out or failed.
    pub(crate) async fn order(&self, name: ModelName, order: Order) -> Result<(), ControlError> {
        let (done, outcome) = oneshot::channel();
        self.events
            .send(Event::Control { name, order, done })
            .map_err(|_| ControlError::Gone)?;
        // The sender is dropped without an answer if the thread ends.
        outcome.await.unwrap_or(Err(ControlError::Gone))
    }

    /// Scans the models directory. Returns after the scan, or after `SCAN_TIMEOUT`.
    pub(crate) fn scan(&self) {
        let (done, scanned) = mpsc::channel();
        if self.events.send(Event::Scan { done }).is_ok() {
            // A slow scan continues in the background. The caller checks the snapshot anyway.
            let _ = scanned.recv_timeout(SCAN_TIMEOUT);
        }
    }

    /// Starts the loads, unloads and role changes that follow from a decision. The decision already
    /// applies to the next request.
    pub(crate) fn decided(&self) {
        // The send fails only during a shutdown. The decision is in the journal anyway.
        let _ = self.events.send(Event::Decided);
    }
}
