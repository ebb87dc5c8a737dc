//! `Servable`: a loaded version that answers.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    engine::{
        Engine, EngineFactory,
        batch::{Batcher, BatcherParts},
        queue::BatchPolicy,
        supervisor::Supervisor,
    },
    id::ModelId,
    metrics::{EngineMetrics, VersionMetrics},
    package::{ModelPackage, Transform},
    registry::gate::Batching,
};

/// Everything a request needs of one version. Holding the `Arc` keeps the version alive: a swap never cuts a request off.
pub struct Servable {
    pub package: ModelPackage,
    pub transform: Transform,
    pub batcher: Batcher,
    pub names: Names,
    pub batching: Batching,
    pub workers: usize,
    pub intra_op_threads: usize,
    pub metrics: VersionMetrics,
}

/// What every answer repeats, as bytes that are shared and not copied.
pub struct Names {
    pub model: Bytes,
    pub version: Bytes,
    pub digest: Bytes,
}

/// A version that was loaded and warmed, but has no threads yet.
pub struct Loaded {
    pub package: ModelPackage,
    pub transform: Transform,
    pub engines: Vec<Box<dyn Engine>>,
    pub factory: Arc<dyn EngineFactory>,
    pub policy: BatchPolicy,
    pub batching: Batching,
}

impl Servable {
    /// Starts the worker threads. They inherit the caller's priority, so a loader with a low one must not call this.
    pub fn start(loaded: Loaded, metrics: VersionMetrics, supervisor: &Arc<Supervisor>) -> std::io::Result<Servable> {
        let Loaded { package, transform, engines, factory, policy, batching } = loaded;
        let workers = engines.len();
        let intra_op_threads = factory.intra_op_threads();
        let engine_metrics: EngineMetrics = metrics.engine.clone();
        let name = package.id.to_string();
        let batcher =
            Batcher::start(BatcherParts { name, engines, factory, policy, metrics: engine_metrics, supervisor: Arc::clone(supervisor) })?;
        let shared = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let names = Names {
            model: shared(package.id.name.as_str()),
            version: shared(package.id.version.as_str()),
            digest: shared(package.digest()),
        };
        Ok(Servable { package, transform, batcher, names, batching, workers, intra_op_threads, metrics })
    }

    pub fn id(&self) -> &ModelId {
        &self.package.id
    }
}
