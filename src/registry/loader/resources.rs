//! The workers of a version, and the resources of each.

use crate::{config::ModelSettings, engine::infer::Resources};

/// Maximum size of a package that gets several workers. A larger package gets one worker with all
/// cores: a copy of the weights per worker would cost more memory than the second session gains
/// (measured: docs/performance.md).
pub(super) const LARGE_PACKAGE_BYTES: u64 = 16 << 20;

#[derive(Clone, Copy)]
pub(super) struct WorkerPlan {
    pub workers: usize,
    pub intra_op_threads: usize,
}

impl WorkerPlan {
    /// The workers of a package with `size` bytes. The configuration takes precedence.
    pub(super) fn of(settings: &ModelSettings, cores: usize, model: &str, size: u64) -> WorkerPlan {
        let large = size > LARGE_PACKAGE_BYTES;
        // 0 means that the server chooses.
        let workers = match settings.workers(model) {
            0 if large => 1,
            0 => cores,
            configured => configured,
        };
        let intra_op_threads = match settings.runtime.intra_op_threads {
            0 if large => (cores / workers).max(1),
            0 => 1,
            configured => configured,
        };
        WorkerPlan {
            workers,
            intra_op_threads,
        }
    }

    /// The limits of each worker's session. The workers share the memory limit of the model.
    pub(super) fn resources(self, settings: &ModelSettings, model: &str) -> Resources {
        let memory_bytes = settings
            .memory_limit(model)
            // The division must not result in a limit of 0.
            .map(|limit| (limit / self.workers.max(1) as u64).max(1));
        Resources {
            intra_op_threads: self.intra_op_threads,
            memory_bytes,
        }
    }
}

/// The limits of each worker's session for a package of `size` bytes.
pub(crate) fn worker_resources(
    settings: &ModelSettings,
    cores: usize,
    model: &str,
    size: u64,
) -> Resources {
    WorkerPlan::of(settings, cores, model, size).resources(settings, model)
}
