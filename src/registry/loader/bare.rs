//! Loading a graph without a manifest.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    config::{MAX_THREADS, Oip},
    engine::{EngineFactory, queue::BatchPolicy},
    id::ModelId,
    package::{MODEL_FILE, PackageError, bare::BareGraph},
    registry::{
        gate::{self, Batching, GateOptions},
        loader::{Loader, check_digest, make_engines, resources::WorkerPlan},
        servable::{Contents, LoadedVersion},
        trial::TrialResult,
    },
};

impl Loader {
    pub(super) fn load_graph(
        &self,
        directory: &Path,
        id: &ModelId,
    ) -> Result<LoadedVersion, PackageError> {
        let bare = BareGraph::open(directory, id)?;
        log_ignored_keys(&bare);
        let model = id.name.as_str();
        let plan = self.workers_of_graph(&bare);
        let options = GateOptions {
            bare: true,
            max_batch_size: self.settings.batching(model).max_batch_size,
            intra_op_threads: plan.intra_op_threads,
        };
        // The digest does not cover the configuration file next to the versions.
        let extra = format!("{:?}", bare.config);
        let result = self.gate_result(directory, &bare.manifest, options, &extra)?;
        check_digest(&result, &bare.manifest, MODEL_FILE, "loaded")?;
        log_batching(id, &result);
        let resources = plan.resources(&self.settings, model);
        let (factory, first) = self.open(directory, id, &bare.manifest, resources)?;
        bare.check(factory.signature())?;
        let signature = bare.refined(factory.signature());
        let warm_up = result.warm.then(|| gate::zeros(&signature));
        let engines = make_engines(&factory, first, plan.workers, warm_up.as_ref())?;
        let policy = self.batch_policy(&bare, &result.batching);
        Ok(LoadedVersion {
            contents: Contents::Bare(Box::new(bare)),
            // A bare graph has no fields to expose.
            oip: Oip::Graph,
            windows: Vec::new(),
            engines,
            factory: Arc::new(factory),
            policy,
            batching: result.batching,
            without_rows: result.without_rows,
        })
    }

    /// The plan for the workers. The instance count of `config.pbtxt` is the number of workers,
    /// unless the server's configuration sets one for the model.
    fn workers_of_graph(&self, bare: &BareGraph) -> WorkerPlan {
        let model = bare.id.name.as_str();
        let mut plan = WorkerPlan::of(&self.settings, self.cores, model, bare.manifest.size());
        let instances = bare
            .config
            .as_ref()
            .and_then(|config| config.instance_count);
        if let Some(instances) = instances
            && self.settings.own_workers(model).is_none()
        {
            // A count that was written for a GPU server may be larger than this machine.
            plan.workers = instances.clamp(1, MAX_THREADS);
        }
        plan
    }

    fn batch_policy(&self, bare: &BareGraph, batching: &Batching) -> BatchPolicy {
        let model = bare.id.name.as_str();
        let configured = self.settings.batching(model);
        let max_batch_size = match (batching, bare.batching(configured.max_batch_size)) {
            (Batching::Rows, Ok(limit)) => limit,
            // Without a proof that the rows are independent, every request runs alone.
            _ => 1,
        };
        let graph_delay = bare
            .config
            .as_ref()
            .and_then(|config| config.dynamic_batching)
            .map_or(0, |batching| batching.max_queue_delay_us);
        // A delay in the server's configuration for the model takes precedence.
        let delay = self
            .settings
            .own_delay(model)
            .unwrap_or(configured.max_delay_us.max(graph_delay));
        BatchPolicy {
            max_batch_size,
            max_delay: Duration::from_micros(delay),
            queue_capacity: configured.queue_capacity,
            max_rows_per_run: configured.max_rows_per_run,
        }
    }
}

fn log_ignored_keys(bare: &BareGraph) {
    let ignored = bare.config.as_ref().map(|config| &config.ignored);
    if let Some(keys) = ignored.filter(|keys| !keys.is_empty()) {
        tracing::warn!(
            model = %bare.id.name,
            version = %bare.id.version,
            keys = keys.join(", "),
            "keys of config.pbtxt that are ignored"
        );
    }
}

fn log_batching(id: &ModelId, result: &TrialResult) {
    match &result.batching {
        Batching::Rows => {
            tracing::info!(model = %id.name, version = %id.version, "requests share runs");
        }
        Batching::None { because } => {
            tracing::info!(
                model = %id.name,
                version = %id.version,
                because = %because,
                "requests don't share runs"
            );
        }
    }
    if let Some(warning) = &result.warning {
        tracing::warn!(model = %id.name, version = %id.version, warning, "batching");
    }
}
