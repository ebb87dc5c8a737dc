//! Loader: from a directory to a version that is ready to answer, or the reason why not.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    clock,
    config::{Config, MAX_THREADS, Oip},
    engine::{
        Engine, EngineError, EngineFactory,
        infer::{OnnxEngine, OnnxFactory, Resources, Runtime},
        queue::BatchPolicy,
    },
    id::ModelId,
    metrics::Metrics,
    package::{
        MODEL_FILE, ModelPackage, PackageError,
        bare::{self, BareGraph},
        manifest::{self, Manifest},
    },
    registry::{
        gate::{self, Batching, GateOptions},
        gate_cache::GateCache,
        ignored::IgnoredPath,
        package_copies::PackageCopies,
        servable::{Contents, LoadedVersion, Packaged},
        trial::{GateTrial, TrialResult},
    },
    tensor::Tensors,
};

/// Packages above this size get one worker with all cores: a copy of the weights per worker would cost more memory than
/// the second session gains (measured: docs/performance.md).
pub const LARGE_PACKAGE_BYTES: u64 = 16 << 20;

/// A graph whose file changed within this time may still be being copied.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Everything that loads have in common.
pub struct Loader {
    pub runtime: Runtime,
    pub trial: GateTrial,
    pub remembered: GateCache,
    pub config: Config,
    pub metrics: Metrics,
    pub copies: PackageCopies,
    pub cores: usize,
}

/// Why a directory gave no version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// Files are missing or short: looked at again at each poll.
    Incomplete(String),
    Refused(PackageError),
}

impl Loader {
    /// What is still to come before a load makes sense.
    pub fn missing(&self, directory: &Path) -> Option<String> {
        if self.is_bare(directory) {
            return None;
        }
        if !directory.join(manifest::FILE).exists() {
            let fault = bare::id_of(directory)
                .and_then(|id| IgnoredPath::file_name(directory, &id.version));
            return Some(fault.map_or_else(
                || "manifest.json is missing".to_owned(),
                |fault| fault.detail,
            ));
        }
        // A manifest that can't be read is the load's to refuse.
        Manifest::read(directory).ok()?.incomplete_file(directory)
    }

    /// The identity that a graph without a manifest would have here; `None` where such graphs are not served.
    fn bare_id(&self, directory: &Path) -> Option<ModelId> {
        if self.config.models.require_manifest {
            None
        } else {
            bare::id_of(directory)
        }
    }

    /// Whether a graph without a manifest lies here and is to be served.
    pub fn is_bare(&self, directory: &Path) -> bool {
        self.bare_id(directory)
            .is_some_and(|id| bare::is_bare(directory, &id))
    }

    /// Whether a graph without a manifest came here so lately that it may still be coming.
    pub fn just_arrived(&self, directory: &Path) -> bool {
        let modified = || {
            fs_err::metadata(directory.join(MODEL_FILE))
                .ok()?
                .modified()
                .ok()
        };
        self.is_bare(directory)
            && modified().is_some_and(|modified| clock::is_recent(modified, ARRIVAL))
    }

    /// Makes this thread yield to traffic; all that it starts inherits that, so it may not start an engine's threads.
    pub fn lower_priority(&self, id: &ModelId, directory: &Path, niceness: i32) {
        let size = match self.is_bare(directory) {
            true => {
                fs_err::metadata(directory.join(MODEL_FILE)).map_or(0, |metadata| metadata.len())
            }
            false => Manifest::read(directory).map_or(0, |manifest| manifest.size()),
        };
        let (_, intra_op_threads) = self.threads(id.name.as_str(), size);
        if intra_op_threads == 1
            && let Err(error) = rustix::process::setpriority_process(None, niceness)
        {
            tracing::debug!(error = %error, "the load goes on at normal priority");
        }
    }

    /// Verifies, loads and warms the package. Hashes are checked here, whatever was remembered.
    pub fn load(&self, directory: &Path, id: &ModelId) -> Result<LoadedVersion, LoadFailure> {
        if let Some(missing) = self.missing(directory) {
            return Err(LoadFailure::Incomplete(missing));
        }
        if self.is_bare(directory) {
            return self.load_bare(directory, id).map_err(LoadFailure::Refused);
        }
        let manifest = Manifest::read(directory).map_err(LoadFailure::Refused)?;
        self.load_complete(directory, id, &manifest)
            .map_err(LoadFailure::Refused)
    }

    /// Workers and threads inside a run for a package of `size` bytes.
    pub fn threads(&self, model: &str, size: u64) -> (usize, usize) {
        threads(&self.config, self.cores, model, size)
    }

    fn load_complete(
        &self,
        directory: &Path,
        id: &ModelId,
        manifest: &Manifest,
    ) -> Result<LoadedVersion, PackageError> {
        manifest.check_identity(id)?;
        let batching = self.config.batching_of(id.name.as_str());
        let size = manifest.size();
        let (workers, intra_op_threads) = self.threads(id.name.as_str(), size);
        let options = GateOptions {
            bare: false,
            max_batch_size: batching.max_batch_size,
            intra_op_threads,
        };
        let verdict = self.verdict(directory, manifest, options, "")?;

        let package = ModelPackage::open(directory)?;
        if package.digest() != verdict.digest {
            return Err(PackageError::new(
                "hashes",
                "manifest.json",
                "changed while it was being verified",
            ));
        }
        let resources = resources(&self.config, id.name.as_str(), (workers, intra_op_threads));
        let (mut factory, first) = self.open(directory, id, &package.manifest, resources)?;
        factory.feed(|name| package.parts.feeds(name));
        let transform = package.parts.bind(factory.signature())?;
        let warm_up = verdict
            .warm
            .then(|| gate::first_run(&package.parts, &transform, factory.signature()))
            .transpose()?;
        let engines = engines(&factory, first, workers, warm_up.as_ref())?;
        let own_limit = package
            .parts
            .serving
            .batching
            .max_batch_size
            .unwrap_or(usize::MAX);
        let max_batch_size = if verdict.batching == Batching::Rows {
            batching.max_batch_size.min(own_limit)
        } else {
            1
        };
        let policy = BatchPolicy {
            max_batch_size,
            max_delay: Duration::from_micros(batching.max_delay_us),
            queue_capacity: batching.queue_capacity,
            max_rows_per_run: batching.max_rows_per_run,
        };
        let contents = Contents::Package(Box::new(Packaged::new(
            package,
            transform,
            factory.signature(),
        )));
        let oip = self.config.oip_of(id.name.as_str());
        let (batching, without_rows) = (verdict.batching, verdict.without_rows);
        Ok(LoadedVersion {
            contents,
            oip,
            engines,
            factory: Arc::new(factory),
            policy,
            batching,
            without_rows,
        })
    }

    fn load_bare(&self, directory: &Path, id: &ModelId) -> Result<LoadedVersion, PackageError> {
        let bare = BareGraph::open(directory, id)?;
        if let Some(config) = bare
            .config
            .as_ref()
            .filter(|config| !config.ignored.is_empty())
        {
            tracing::warn!(model = %id.name, version = %id.version, keys = config.ignored.join(", "), "keys of config.pbtxt that are not read");
        }
        let configured = self.config.batching_of(id.name.as_str());
        let (mut workers, intra_op_threads) = self.threads(id.name.as_str(), bare.manifest.size());
        let own = self.config.model.get(id.name.as_str());
        let instances = bare
            .config
            .as_ref()
            .and_then(|config| config.instance_count);
        if let Some(instances) = instances.filter(|_| own.is_none_or(|own| own.workers.is_none())) {
            workers = instances.clamp(1, MAX_THREADS);
        }
        let options = GateOptions {
            bare: true,
            max_batch_size: configured.max_batch_size,
            intra_op_threads,
        };
        // The configuration lies outside of what the digest covers.
        let verdict = self.verdict(
            directory,
            &bare.manifest,
            options,
            &format!("{:?}", bare.config),
        )?;
        if verdict.digest != bare.manifest.digest {
            return Err(PackageError::new(
                "hashes",
                MODEL_FILE,
                "changed while it was being loaded",
            ));
        }
        match &verdict.batching {
            Batching::Rows => {
                tracing::info!(model = %id.name, version = %id.version, "requests share runs")
            }
            Batching::None { because } => {
                tracing::info!(model = %id.name, version = %id.version, because = %because, "requests don't share runs");
            }
        }
        if let Some(warning) = &verdict.warning {
            tracing::warn!(model = %id.name, version = %id.version, warning, "batching");
        }
        let resources = resources(&self.config, id.name.as_str(), (workers, intra_op_threads));
        let (factory, first) = self.open(directory, id, &bare.manifest, resources)?;
        bare.check(factory.signature())?;
        let signature = bare.refined(factory.signature());
        let warm_up = verdict.warm.then(|| gate::zeros(&signature));
        let engines = engines(&factory, first, workers, warm_up.as_ref())?;
        let max_batch_size = match (&verdict.batching, bare.batching(configured.max_batch_size)) {
            (Batching::Rows, Ok(limit)) => limit,
            _ => 1,
        };
        let own_delay = bare
            .config
            .as_ref()
            .and_then(|config| config.dynamic_batching)
            .map_or(0, |own| own.max_queue_delay_us);
        let delay = own
            .and_then(|own| own.batching.max_delay_us)
            .unwrap_or(configured.max_delay_us.max(own_delay));
        let policy = BatchPolicy {
            max_batch_size,
            max_delay: Duration::from_micros(delay),
            queue_capacity: configured.queue_capacity,
            max_rows_per_run: configured.max_rows_per_run,
        };
        let contents = Contents::Bare(Box::new(bare));
        let (batching, without_rows) = (verdict.batching, verdict.without_rows);
        Ok(LoadedVersion {
            contents,
            oip: Oip::Graph,
            engines,
            factory: Arc::new(factory),
            policy,
            batching,
            without_rows,
        })
    }

    /// A session of the verified files, and the factory of more: of these files, or of the copy that is kept where they are gone.
    fn open(
        &self,
        directory: &Path,
        id: &ModelId,
        manifest: &Manifest,
        resources: Resources,
    ) -> Result<(OnnxFactory, OnnxEngine), PackageError> {
        let (factory, first) =
            OnnxFactory::open(&self.runtime, &directory.join(MODEL_FILE), resources)
                .map_err(|error| load(&error))?;
        let (manifest, directory) = (manifest.clone(), directory.to_path_buf());
        let copy = self
            .copies
            .directory(&id.name, id.version.as_str(), &manifest.digest);
        let verified = move || {
            let changed = match manifest.check_files(&directory) {
                Ok(()) => return Ok(directory.join(MODEL_FILE)),
                Err(error) => error.to_string(),
            };
            let copy = copy
                .as_ref()
                .filter(|copy| manifest.check_files(copy).is_ok());
            copy.map(|copy| copy.join(MODEL_FILE)).ok_or(changed)
        };
        Ok((factory.with_verified_files(Box::new(verified)), first))
    }

    fn verdict(
        &self,
        directory: &Path,
        manifest: &Manifest,
        options: GateOptions,
        beside: &str,
    ) -> Result<TrialResult, PackageError> {
        if let Some(verdict) = self
            .remembered
            .get(&manifest.digest, options.max_batch_size, beside)
        {
            return Ok(verdict);
        }
        let verdict = self.trial.run(directory, options, &mut |check| {
            tracing::debug!(package = %directory.display(), check = check.name, milliseconds = check.milliseconds, "passed");
        })?;
        if let Err(error) = self
            .remembered
            .put(&verdict, options.max_batch_size, beside)
        {
            self.metrics.models.source_errors.inc();
            tracing::warn!(error = %error, "the gate's verdict could not be remembered; the next start will be slower");
        }
        Ok(verdict)
    }
}

fn threads(config: &Config, cores: usize, model: &str, size: u64) -> (usize, usize) {
    let large = size > LARGE_PACKAGE_BYTES;
    let workers = match config.workers_of(model) {
        0 if large => 1,
        0 => cores,
        configured => configured,
    };
    let intra_op_threads = match config.runtime.intra_op_threads {
        0 if large => (cores / workers).max(1),
        0 => 1,
        configured => configured,
    };
    (workers, intra_op_threads)
}

/// What each worker's session may take.
fn resources(
    config: &Config,
    model: &str,
    (workers, intra_op_threads): (usize, usize),
) -> Resources {
    let memory_bytes = config
        .memory_limit_of(model)
        .map(|limit| (limit / workers.max(1) as u64).max(1));
    Resources {
        intra_op_threads,
        memory_bytes,
    }
}

/// What each worker's session may take of a package of `size` bytes.
pub fn worker_resources(config: &Config, cores: usize, model: &str, size: u64) -> Resources {
    resources(config, model, threads(config, cores, model, size))
}

fn load(error: &EngineError) -> PackageError {
    PackageError::new("graph", MODEL_FILE, error.to_string())
}

/// An engine for each worker; warmed where there is something to warm them with.
fn engines(
    factory: &OnnxFactory,
    first: OnnxEngine,
    workers: usize,
    warm_up: Option<&Tensors>,
) -> Result<Vec<Box<dyn Engine>>, PackageError> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(first)];
    while engines.len() < workers {
        engines.push(factory.make().map_err(|error| load(&error))?);
    }
    if let Some(warm_up) = warm_up {
        for engine in &mut engines {
            engine
                .run(warm_up)
                .map_err(|error| PackageError::new("warm-up", MODEL_FILE, error.to_string()))?;
        }
    }
    Ok(engines)
}
