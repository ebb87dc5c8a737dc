//! `Loader`: loads a version from its directory.

mod bare;
mod package;
mod resources;

use std::{path::Path, time::Duration};

pub(crate) use resources::worker_resources;

use crate::{
    clock,
    config::ModelSettings,
    engine::{
        Engine, EngineError, EngineFactory,
        infer::{OnnxEngine, OnnxFactory, Resources, Runtime},
    },
    id::ModelId,
    metrics::Metrics,
    package::{
        MODEL_FILE, PackageCheck, PackageError, bare as bare_graph,
        manifest::{self, Manifest},
    },
    registry::{
        gate::GateOptions,
        gate_cache::GateCache,
        ignored::IgnoredPath,
        loader::resources::WorkerPlan,
        package_copies::PackageCopies,
        servable::LoadedVersion,
        trial::{GateTrial, TrialResult},
    },
    tensor::Tensors,
};

/// A graph whose file changed within this time may be incomplete.
const ARRIVAL_TIME: Duration = Duration::from_secs(2);

/// The parts that all loads share.
pub(crate) struct Loader {
    pub runtime: Runtime,
    pub trial: GateTrial,
    pub gate_cache: GateCache,
    pub settings: ModelSettings,
    /// Whether directories without a manifest are refused.
    pub require_manifest: bool,
    pub metrics: Metrics,
    pub copies: PackageCopies,
    pub cores: usize,
}

/// Why a directory could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FailedLoad {
    /// Files are missing or too short. Every poll checks again.
    Incomplete(String),
    Refused(PackageError),
}

impl Loader {
    /// A description of the file that is missing or too short. `None` if a load is worthwhile.
    pub(crate) fn missing(&self, directory: &Path) -> Option<String> {
        if self.is_bare(directory) {
            return None;
        }
        if !directory.join(manifest::FILE).exists() {
            let fault = bare_graph::id_of(directory)
                .and_then(|id| IgnoredPath::file_name(directory, &id.version));
            return Some(fault.map_or_else(
                || "manifest.json is missing".to_owned(),
                |fault| fault.detail,
            ));
        }
        // The load rejects a manifest that can't be read.
        Manifest::read(directory).ok()?.incomplete_file(directory)
    }

    /// Whether the directory contains a graph without a manifest, and such graphs are served.
    pub(crate) fn is_bare(&self, directory: &Path) -> bool {
        !self.require_manifest
            && bare_graph::id_of(directory).is_some_and(|id| bare_graph::is_bare(directory, &id))
    }

    /// Whether the directory contains a bare graph whose file changed so recently that it may still
    /// grow.
    pub(crate) fn just_arrived(&self, directory: &Path) -> bool {
        let modified = || {
            fs_err::metadata(directory.join(MODEL_FILE))
                .ok()?
                .modified()
                .ok()
        };
        self.is_bare(directory)
            && modified().is_some_and(|modified| clock::is_recent(modified, ARRIVAL_TIME))
    }

    /// Lowers the priority of this thread, so that requests take precedence. Threads that it starts
    /// inherit the priority. Inside a run, such threads would keep the engine slow for ever.
    pub(crate) fn lower_priority(&self, id: &ModelId, directory: &Path, niceness: i32) {
        let size = if self.is_bare(directory) {
            fs_err::metadata(directory.join(MODEL_FILE)).map_or(0, |metadata| metadata.len())
        } else {
            Manifest::read(directory).map_or(0, |manifest| manifest.size())
        };
        let plan = WorkerPlan::of(&self.settings, self.cores, id.name.as_str(), size);
        if plan.intra_op_threads == 1
            && let Err(error) = rustix::process::setpriority_process(None, niceness)
        {
            tracing::debug!(error = %error, "the load goes on at normal priority");
        }
    }

    /// Verifies, loads and warms the version. The hashes are checked even if the result of the gate
    /// is cached.
    pub(crate) fn load(&self, directory: &Path, id: &ModelId) -> Result<LoadedVersion, FailedLoad> {
        if let Some(missing) = self.missing(directory) {
            return Err(FailedLoad::Incomplete(missing));
        }
        let loaded = if self.is_bare(directory) {
            self.load_graph(directory, id)
        } else {
            self.load_package(directory, id)
        };
        loaded.map_err(FailedLoad::Refused)
    }

    /// The result of the gate, from the cache or from a run in another process. `extra` contains
    /// everything that determines the result and is not part of the digest.
    fn gate_result(
        &self,
        directory: &Path,
        manifest: &Manifest,
        options: GateOptions,
        extra: &str,
    ) -> Result<TrialResult, PackageError> {
        let cached = self
            .gate_cache
            .get(&manifest.digest, options.max_batch_size, extra);
        if let Some(result) = cached {
            return Ok(result);
        }
        // The gate runs in another process, because a graph that crashes the runtime must not end
        // the server.
        let result = self.trial.run(directory, options, &mut |check| {
            tracing::debug!(
                package = %directory.display(),
                check = check.name,
                milliseconds = check.milliseconds,
                "passed"
            );
        })?;
        if let Err(error) = self.gate_cache.put(&result, options.max_batch_size, extra) {
            // A full disk must not keep the version from being served.
            self.metrics.models.source_errors.inc();
            tracing::warn!(
                error = %error,
                "the gate's result could not be cached; the next start will be slower"
            );
        }
        Ok(result)
    }

    /// Opens a session of the verified files, and a factory for more sessions. If the files are
    /// changed or gone, the factory reads the copy in the state directory.
    fn open(
        &self,
        directory: &Path,
        id: &ModelId,
        manifest: &Manifest,
        resources: Resources,
    ) -> Result<(OnnxFactory, OnnxEngine), PackageError> {
        let (factory, first) =
            OnnxFactory::open(&self.runtime, &directory.join(MODEL_FILE), resources)
                .map_err(graph_error)?;
        let (manifest, directory) = (manifest.clone(), directory.to_path_buf());
        let copy = self
            .copies
            .directory(&id.name, id.version.as_str(), &manifest.digest);
        let verified = move || {
            // A worker may be replaced days later. By that time the files may have been
            // overwritten.
            let changed = match manifest.check_files(&directory) {
                Ok(()) => return Ok(directory.join(MODEL_FILE)),
                Err(error) => error,
            };
            let copy = copy
                .as_ref()
                .filter(|copy| manifest.check_files(copy).is_ok());
            copy.map(|copy| copy.join(MODEL_FILE))
                .ok_or_else(|| changed.into())
        };
        Ok((factory.with_verified_files(Box::new(verified)), first))
    }
}

fn graph_error(error: EngineError) -> PackageError {
    PackageError::caused_by(PackageCheck::Graph, MODEL_FILE, "", error)
}

/// Checks that the files did not change between the gate and the load. Otherwise the loaded files
/// would differ from those that the gate checked.
fn check_digest(
    result: &TrialResult,
    manifest: &Manifest,
    file: &str,
    doing: &str,
) -> Result<(), PackageError> {
    if result.digest == manifest.digest {
        return Ok(());
    }
    Err(PackageError::new(
        PackageCheck::Hashes,
        file,
        format!("changed while it was being {doing}"),
    ))
}

/// Creates an engine for each worker, and warms it with a run of `warm_up` if that is not `None`.
/// The first run of a session allocates memory and is slow.
fn make_engines(
    factory: &OnnxFactory,
    first: OnnxEngine,
    workers: usize,
    warm_up: Option<&Tensors>,
) -> Result<Vec<Box<dyn Engine>>, PackageError> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(first)];
    while engines.len() < workers {
        engines.push(factory.make().map_err(graph_error)?);
    }
    if let Some(warm_up) = warm_up {
        for engine in &mut engines {
            engine.run(warm_up).map_err(|error| {
                PackageError::caused_by(PackageCheck::WarmUp, MODEL_FILE, "", error)
            })?;
        }
    }
    Ok(engines)
}
