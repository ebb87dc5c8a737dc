//! Orders of operators: load a model now, or unload it.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::{
    id::ModelName,
    registry::{
        VersionState,
        commander::{ControlError, Order},
        watch::RegistryLoop,
    },
};

/// An order that waits for loads or unloads.
pub(super) struct PendingOrder {
    name: ModelName,
    order: Order,
    done: oneshot::Sender<Result<(), ControlError>>,
}

impl RegistryLoop {
    pub(super) fn begin_order(
        &mut self,
        name: ModelName,
        order: Order,
        done: oneshot::Sender<Result<(), ControlError>>,
    ) {
        // The operator may have copied the files just before the order.
        if order == Order::Load {
            self.scan();
        }
        let Some(model) = self.models.get_mut(&name) else {
            let _ = done.send(Err(ControlError::Unknown));
            return;
        };
        match order {
            Order::Load => {
                model.unloaded = false;
                // The reason of a rejection may no longer exist, for example insufficient memory.
                for tracked in model.versions.values_mut() {
                    if matches!(tracked.state, VersionState::Refused(_)) {
                        tracked.state = VersionState::Idle;
                    }
                }
            }
            Order::Unload => model.unloaded = true,
        }
        tracing::warn!(model = %name, order = ?order, "an operator's order");
        self.orders.push(PendingOrder { name, order, done });
    }

    /// Answers the orders that have been carried out.
    pub(super) fn answer_orders(&mut self) {
        for pending in std::mem::take(&mut self.orders) {
            // An operator who disconnected needs no answer. The order is carried out anyway.
            if pending.done.is_closed() {
                continue;
            }
            // The answer contains the final outcome, not the start of a load.
            if self.is_busy(&pending.name) {
                self.orders.push(pending);
                continue;
            }
            let outcome = self.order_outcome(&pending);
            let _ = pending.done.send(outcome);
        }
    }

    fn order_outcome(&self, pending: &PendingOrder) -> Result<(), ControlError> {
        let snapshot = self.parts.registry.snapshot();
        let Some(model) = snapshot.models.get(&pending.name) else {
            return Err(ControlError::Unknown);
        };
        if model.unloaded && pending.order == Order::Unload {
            return Ok(());
        }
        match model.outage(Instant::now()) {
            None => Ok(()),
            Some(outage) => Err(ControlError::Failed(outage.cause)),
        }
    }
}
