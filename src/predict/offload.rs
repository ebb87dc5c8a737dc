//! Moves work that would block a network thread for too long to other threads.

use std::{sync::Arc, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::predict::PredictError;

/// Runs heavy work, at most one piece of work per core at a time.
pub(super) struct Offload(Arc<Semaphore>);

impl Offload {
    pub(super) fn new(cores: usize) -> Offload {
        Offload(Arc::new(Semaphore::new(cores.max(1))))
    }

    /// Waits for a free core until `deadline`.
    pub(super) async fn permit(
        &self,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, PredictError> {
        tokio::time::timeout_at(deadline.into(), Arc::clone(&self.0).acquire_owned())
            .await
            .map_err(|_| PredictError::DeadlineExceeded)?
            .map_err(|_| PredictError::Broken)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PredictError> {
        let permit = self.permit(deadline).await?;
        run_with(permit, work).await
    }
}

/// Runs work that keeps its permit until it ends, even if the caller disconnects.
pub(super) async fn run_with<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PredictError> {
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.map_err(|_| PredictError::Broken)
}
