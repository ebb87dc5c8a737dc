//! `Servable`: a loaded version that answers requests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    config::Oip,
    engine::{
        Engine, EngineFactory,
        batch::{Batcher, BatcherParts},
        queue::BatchPolicy,
        supervisor::Supervisor,
    },
    id::ModelId,
    metrics::{EngineMetrics, VersionMetrics},
    monitor::VersionMonitor,
    package::{ModelPackage, Transform, bare::BareGraph, manifest::Manifest},
    registry::gate::Batching,
    tensor::signature::{Signature, Symbols, TensorSpec},
    transform::fields,
};

/// Everything that a request needs from a version. A request owns a clone of the `Arc`, so that an
/// unload never interrupts it.
pub(crate) struct Servable {
    pub contents: Contents,
    /// The inputs and outputs of the graph.
    pub graph: Signature,
    /// The inputs that have a default value in the graph.
    pub optional: Vec<TensorSpec>,
    pub symbols: Symbols,
    /// Whether tensor protocols expose the fields of a package or the tensors of the graph.
    pub oip: Oip,
    pub batcher: Batcher,
    pub names: ResponseNames,
    pub batching: Batching,
    /// Outputs of a bare graph that do not have one row per row of the inputs, with the reason.
    pub without_rows: BTreeMap<String, String>,
    pub workers: usize,
    pub intra_op_threads: usize,
    pub metrics: VersionMetrics,
    /// `None` if the package has no profile, or nothing is monitored.
    pub monitor: Option<VersionMonitor>,
}

/// The package or bare graph of a version.
pub(crate) enum Contents {
    Package(Box<Packaged>),
    /// A graph without a manifest.
    Bare(Box<BareGraph>),
}

/// A verified package, with its compiled preprocessing and postprocessing.
pub(crate) struct Packaged {
    pub package: ModelPackage,
    pub transform: Transform,
    /// The fields of the schema as tensors.
    pub fields: Signature,
}

impl Packaged {
    pub(crate) fn new(package: ModelPackage, transform: Transform, graph: &Signature) -> Packaged {
        let inputs = fields::inputs(&package.parts.input);
        let outputs = transform.postprocess.describe(graph);
        Packaged {
            package,
            transform,
            fields: Signature { inputs, outputs },
        }
    }
}

impl Contents {
    pub(crate) fn id(&self) -> &ModelId {
        match self {
            Contents::Package(packaged) => &packaged.package.id,
            Contents::Bare(bare) => &bare.id,
        }
    }

    /// The manifest of the package. For a bare graph it is computed from the files.
    pub(crate) fn manifest(&self) -> &Manifest {
        match self {
            Contents::Package(packaged) => &packaged.package.manifest,
            Contents::Bare(bare) => &bare.manifest,
        }
    }

    pub(crate) fn is_verified(&self) -> bool {
        matches!(self, Contents::Package(_))
    }

    /// A new monitor of the inputs and predictions. `None` without a profile or without windows.
    fn monitor(&self, windows: &[Duration]) -> Option<VersionMonitor> {
        match self {
            Contents::Package(packaged) => {
                let parts = &packaged.package.parts;
                VersionMonitor::new(parts.profile.as_ref()?, &parts.input, windows)
            }
            Contents::Bare(_) => None,
        }
    }
}

/// The names in every response. The bytes are shared, not copied.
pub(crate) struct ResponseNames {
    pub model: Bytes,
    pub version: Bytes,
    pub digest: Bytes,
}

/// A version that is loaded and warmed. Its worker threads have not started yet.
pub(crate) struct LoadedVersion {
    pub contents: Contents,
    pub oip: Oip,
    pub engines: Vec<Box<dyn Engine>>,
    pub factory: Arc<dyn EngineFactory>,
    pub policy: BatchPolicy,
    pub batching: Batching,
    pub without_rows: BTreeMap<String, String>,
    /// The windows of the monitor. Empty: the version is not monitored.
    pub windows: Vec<Duration>,
}

impl Servable {
    /// Starts the worker threads. They inherit the priority of the calling thread, so a loader
    /// thread with a low priority must not call this.
    pub(crate) fn start(
        loaded: LoadedVersion,
        metrics: VersionMetrics,
        supervisor: &Arc<Supervisor>,
    ) -> std::io::Result<Servable> {
        let LoadedVersion {
            contents,
            oip,
            engines,
            factory,
            policy,
            batching,
            without_rows,
            windows,
        } = loaded;
        let workers = engines.len();
        let intra_op_threads = factory.intra_op_threads();
        // The configuration of a bare graph may fix dimensions that are dynamic in the graph.
        let graph = match &contents {
            Contents::Package(_) => factory.signature().clone(),
            Contents::Bare(bare) => bare.refined(factory.signature()),
        };
        let optional = factory
            .optional()
            .iter()
            .map(|(spec, _)| spec.clone())
            .collect();
        let symbols = factory.symbols().clone();
        let engine_metrics: EngineMetrics = metrics.engine.clone();
        let name = contents.id().to_string();
        let batcher = Batcher::start(BatcherParts {
            name,
            engines,
            factory,
            policy,
            metrics: engine_metrics,
            supervisor: Arc::clone(supervisor),
        })?;
        let shared = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let id = contents.id();
        let names = ResponseNames {
            model: shared(id.name.as_str()),
            version: shared(id.version.as_str()),
            digest: shared(&contents.manifest().digest),
        };
        let monitor = contents.monitor(&windows);
        Ok(Servable {
            contents,
            graph,
            optional,
            symbols,
            oip,
            batcher,
            names,
            batching,
            without_rows,
            workers,
            intra_op_threads,
            metrics,
            monitor,
        })
    }

    pub(crate) fn id(&self) -> &ModelId {
        self.contents.id()
    }

    /// The digest: `sha256:` followed by 64 hex digits.
    pub(crate) fn digest(&self) -> &str {
        &self.contents.manifest().digest
    }

    /// The package. `None` for a bare graph.
    pub(crate) fn package(&self) -> Option<&ModelPackage> {
        match &self.contents {
            Contents::Package(packaged) => Some(&packaged.package),
            Contents::Bare(_) => None,
        }
    }

    /// The package, if tensor protocols expose its fields. `None` if they expose the graph.
    pub(crate) fn fields(&self) -> Option<&Packaged> {
        match &self.contents {
            Contents::Package(packaged) if self.oip == Oip::Fields => Some(packaged),
            _ => None,
        }
    }

    /// The tensors that tensor protocols expose.
    pub(crate) fn offered(&self) -> &Signature {
        self.fields()
            .map_or(&self.graph, |packaged| &packaged.fields)
    }

    /// The labels of the values in a row of an output, from a file next to the graph. `None`
    /// without this file.
    pub(crate) fn labels(&self) -> Option<&BTreeMap<String, Arc<[String]>>> {
        match &self.contents {
            Contents::Package(_) => None,
            Contents::Bare(bare) => Some(&bare.labels),
        }
    }

    /// Whether rows of several requests share runs.
    pub(crate) fn is_batched(&self) -> bool {
        self.batching == Batching::Rows
    }
}
