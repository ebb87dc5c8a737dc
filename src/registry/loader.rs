//! Loader: from a directory to a version that is ready to answer, or the reason why not.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    config::Config,
    engine::{
        Engine, EngineFactory,
        infer::{OnnxFactory, Runtime},
        queue::BatchPolicy,
    },
    id::ModelId,
    metrics::Metrics,
    package::{
        MODEL_FILE, ModelPackage, PackageError,
        manifest::{self, Manifest},
    },
    registry::{
        gate::{self, Batching, GateOptions},
        remembered::Remembered,
        servable::Loaded,
        trial::{Trial, Verdict},
    },
};

/// Packages above this size get one worker with all cores: a copy of the weights per worker would cost more memory than
/// the second session gains (measured: docs/performance.md).
pub const LARGE_PACKAGE_BYTES: u64 = 16 << 20;

/// Everything that loads have in common.
pub struct Loader {
    pub runtime: Runtime,
    pub trial: Trial,
    pub remembered: Remembered,
    pub config: Config,
    pub metrics: Metrics,
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
        if !directory.join(manifest::FILE).exists() {
            return Some("manifest.json is missing".to_owned());
        }
        // A manifest that can't be read is the load's to refuse.
        Manifest::read(directory).ok()?.still_to_come(directory)
    }

    /// Makes this thread yield to traffic; all that it starts inherits that, so it may not start an engine's threads.
    pub fn lower_priority(&self, id: &ModelId, directory: &Path, niceness: i32) {
        let size = Manifest::read(directory).map_or(0, |manifest| manifest.size());
        let (_, intra_op_threads) = self.threads(id.name.as_str(), size);
        if intra_op_threads == 1
            && let Err(error) = rustix::process::setpriority_process(None, niceness)
        {
            tracing::debug!(error = %error, "the load goes on at normal priority");
        }
    }

    /// Verifies, loads and warms the package. Hashes are checked here, whatever was remembered.
    pub fn load(&self, directory: &Path, id: &ModelId) -> Result<Loaded, LoadFailure> {
        if let Some(missing) = self.missing(directory) {
            return Err(LoadFailure::Incomplete(missing));
        }
        let manifest = Manifest::read(directory).map_err(LoadFailure::Refused)?;
        self.load_complete(directory, id, &manifest).map_err(LoadFailure::Refused)
    }

    /// Workers and threads inside a run for a package of `size` bytes.
    pub fn threads(&self, model: &str, size: u64) -> (usize, usize) {
        let large = size > LARGE_PACKAGE_BYTES;
        let workers = match self.config.workers_of(model) {
            0 if large => 1,
            0 => self.cores,
            configured => configured,
        };
        let intra_op_threads = match self.config.runtime.intra_op_threads {
            0 if large => (self.cores / workers).max(1),
            0 => 1,
            configured => configured,
        };
        (workers, intra_op_threads)
    }

    fn load_complete(&self, directory: &Path, id: &ModelId, manifest: &Manifest) -> Result<Loaded, PackageError> {
        if manifest.name != id.name.as_str() || manifest.version != id.version.as_str() {
            let detail = format!("says {} {}, but lies in the directory of {} {}", manifest.name, manifest.version, id.name, id.version);
            return Err(PackageError::new("identity", "manifest.json", detail));
        }
        let batching = self.config.batching_of(id.name.as_str());
        let size = manifest.size();
        let (workers, intra_op_threads) = self.threads(id.name.as_str(), size);
        let options = GateOptions { max_batch_size: batching.max_batch_size, intra_op_threads };
        let verdict = self.verdict(directory, manifest, options)?;

        let package = ModelPackage::open(directory)?;
        if package.digest() != verdict.digest {
            return Err(PackageError::new("hashes", "manifest.json", "changed while it was being verified"));
        }
        let open = |error: crate::engine::EngineError| PackageError::new("graph", MODEL_FILE, error.to_string());
        let (factory, first) = OnnxFactory::open(&self.runtime, &package.model_path(), intra_op_threads).map_err(open)?;
        let transform = package.parts.bind(factory.signature())?;
        let factory = factory.with_recheck({
            let (manifest, directory) = (package.manifest.clone(), package.directory.clone());
            Box::new(move || manifest.check_files(&directory).map_err(|error| error.to_string()))
        });
        let warm_up = gate::first_run(&package.parts, &transform, factory.signature())?;
        let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(first)];
        while engines.len() < workers {
            engines.push(factory.make().map_err(open)?);
        }
        for engine in &mut engines {
            engine.run(&warm_up).map_err(|error| PackageError::new("warm-up", MODEL_FILE, error.to_string()))?;
        }
        let own_limit = package.parts.serving.batching.max_batch_size.unwrap_or(usize::MAX);
        let max_batch_size = if verdict.batching == Batching::Rows { batching.max_batch_size.min(own_limit) } else { 1 };
        let policy = BatchPolicy {
            max_batch_size,
            max_delay: Duration::from_micros(batching.max_delay_us),
            queue_capacity: batching.queue_capacity,
        };
        Ok(Loaded { package, transform, engines, factory: Arc::new(factory), policy, batching: verdict.batching })
    }

    fn verdict(&self, directory: &Path, manifest: &Manifest, options: GateOptions) -> Result<Verdict, PackageError> {
        if let Some(verdict) = self.remembered.get(&manifest.digest, options.max_batch_size) {
            return Ok(verdict);
        }
        let verdict = self.trial.run(directory, options, &mut |check| {
            tracing::debug!(package = %directory.display(), check = check.name, milliseconds = check.milliseconds, "passed");
        })?;
        if let Err(error) = self.remembered.put(&verdict, options.max_batch_size) {
            self.metrics.source_errors.inc();
            tracing::warn!(error = %error, "the gate's verdict could not be remembered; the next start will be slower");
        }
        Ok(verdict)
    }
}
