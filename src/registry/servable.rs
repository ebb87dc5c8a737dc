//! `Servable`: a loaded version that answers.

use std::{collections::BTreeMap, sync::Arc};

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
    package::{ModelPackage, Transform, bare::BareGraph, manifest::Manifest},
    registry::gate::Batching,
    tensor::signature::{Signature, Symbols, TensorSpec},
    transform::fields,
};

/// Everything a request needs of one version. Holding the `Arc` keeps the version alive: a swap never cuts a request off.
pub struct Servable {
    pub contents: Contents,
    /// The tensors of the graph itself.
    pub graph: Signature,
    /// Inputs that have a default in the graph.
    pub optional: Vec<TensorSpec>,
    pub symbols: Symbols,
    /// What callers of tensors see of a package.
    pub oip: Oip,
    pub batcher: Batcher,
    pub names: ResponseNames,
    pub batching: Batching,
    /// Outputs of a bare graph that have not a row for each row of the inputs, and why.
    pub without_rows: BTreeMap<String, String>,
    pub workers: usize,
    pub intra_op_threads: usize,
    pub metrics: VersionMetrics,
}

/// What a version was loaded from.
pub enum Contents {
    Package(Box<Packaged>),
    /// A graph for which no manifest vouches.
    Bare(Box<BareGraph>),
}

/// A verified package, its transformation, and its fields as tensors.
pub struct Packaged {
    pub package: ModelPackage,
    pub transform: Transform,
    pub fields: Signature,
}

impl Packaged {
    pub fn new(package: ModelPackage, transform: Transform, graph: &Signature) -> Packaged {
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
    pub fn id(&self) -> &ModelId {
        match self {
            Contents::Package(packaged) => &packaged.package.id,
            Contents::Bare(bare) => &bare.id,
        }
    }

    /// The manifest that was read, or that was made of what lay there.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Contents::Package(packaged) => &packaged.package.manifest,
            Contents::Bare(bare) => &bare.manifest,
        }
    }

    pub fn is_verified(&self) -> bool {
        matches!(self, Contents::Package(_))
    }
}

/// What every answer repeats, as bytes that are shared and not copied.
pub struct ResponseNames {
    pub model: Bytes,
    pub version: Bytes,
    pub digest: Bytes,
}

/// A version that was loaded and warmed, but has no threads yet.
pub struct LoadedVersion {
    pub contents: Contents,
    pub oip: Oip,
    pub engines: Vec<Box<dyn Engine>>,
    pub factory: Arc<dyn EngineFactory>,
    pub policy: BatchPolicy,
    pub batching: Batching,
    pub without_rows: BTreeMap<String, String>,
}

impl Servable {
    /// Starts the worker threads. They inherit the caller's priority, so a loader with a low one must not call this.
    pub fn start(
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
        } = loaded;
        let workers = engines.len();
        let intra_op_threads = factory.intra_op_threads();
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
        })
    }

    pub fn id(&self) -> &ModelId {
        self.contents.id()
    }

    /// `sha256:` and 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.contents.manifest().digest
    }

    /// What a package says beyond its graph; `None` for a bare graph.
    pub fn package(&self) -> Option<&ModelPackage> {
        match &self.contents {
            Contents::Package(packaged) => Some(&packaged.package),
            Contents::Bare(_) => None,
        }
    }

    /// The fields, where callers of tensors see them and not the graph.
    pub fn fields(&self) -> Option<&Packaged> {
        match &self.contents {
            Contents::Package(packaged) if self.oip == Oip::Fields => Some(packaged),
            _ => None,
        }
    }

    /// The tensors that callers see.
    pub fn offered(&self) -> &Signature {
        self.fields()
            .map_or(&self.graph, |packaged| &packaged.fields)
    }

    /// What the values of a row of the graph's outputs stand for, where a file beside the graph says it.
    pub fn labels(&self) -> Option<&BTreeMap<String, Arc<[String]>>> {
        match &self.contents {
            Contents::Package(_) => None,
            Contents::Bare(bare) => Some(&bare.labels),
        }
    }

    /// Whether rows of several requests share runs.
    pub fn is_batched(&self) -> bool {
        self.batching == Batching::Rows
    }
}
