//! Commander: how operators and decisions command the loop that loads and unloads.

use std::{sync::mpsc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    id::ModelName,
    registry::{loader::LoadFailure, servable::LoadedVersion},
};

/// How long a look at the models directory is waited for.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

pub(super) enum Event {
    LoadEnded {
        attempt: u64,
        fingerprint: u64,
        outcome: Result<Box<LoadedVersion>, LoadFailure>,
        elapsed: Duration,
    },
    Control {
        name: ModelName,
        order: Order,
        done: oneshot::Sender<Result<(), ControlError>>,
    },
    /// Something was decided: other versions may be needed, and roles change.
    Decided,
    /// What lies in the directory is to be known now.
    Look {
        done: mpsc::Sender<()>,
    },
    Stop,
}

/// What an operator may want of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Look at its directory now, and load what is to be loaded; also what failed before.
    Load,
    /// Let go of all its versions, until it is loaded again or the server starts anew.
    Unload,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlError {
    Unknown,
    /// It was tried, and no version answers.
    Failed(String),
    /// The server is shutting down.
    Gone,
}

/// The operators' side.
#[derive(Clone)]
pub struct Commander {
    pub(super) events: mpsc::Sender<Event>,
}

impl Commander {
    /// Returns when the order is carried out, or can't be.
    pub async fn order(&self, name: ModelName, order: Order) -> Result<(), ControlError> {
        let (done, outcome) = oneshot::channel();
        self.events
            .send(Event::Control { name, order, done })
            .map_err(|_| ControlError::Gone)?;
        outcome.await.unwrap_or(Err(ControlError::Gone))
    }

    /// Returns once the directory was looked at.
    pub fn look(&self) {
        let (done, looked) = mpsc::channel();
        if self.events.send(Event::Look { done }).is_ok() {
            let _ = looked.recv_timeout(LOOK_PATIENCE);
        }
    }

    /// Has what was decided carried out: loads, unloads and roles. Traffic does not wait for it.
    pub fn decided(&self) {
        let _ = self.events.send(Event::Decided);
    }
}

/// An order that waits for loads.
pub(super) struct PendingOrder {
    pub name: ModelName,
    pub order: Order,
    pub done: oneshot::Sender<Result<(), ControlError>>,
}
