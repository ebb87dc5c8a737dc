//! Loading a package.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    engine::{EngineFactory, queue::BatchPolicy},
    id::ModelId,
    package::{
        ModelPackage, PackageError,
        manifest::{self, Manifest},
    },
    registry::{
        gate::{self, Batching, GateOptions},
        loader::{Loader, check_digest, make_engines, resources::WorkerPlan},
        servable::{Contents, LoadedVersion, Packaged},
    },
};

impl Loader {
    pub(super) fn load_package(
        &self,
        directory: &Path,
        id: &ModelId,
    ) -> Result<LoadedVersion, PackageError> {
        let manifest = Manifest::read(directory)?;
        manifest.check_identity(id)?;
        let model = id.name.as_str();
        let configured = self.settings.batching(model);
        let plan = WorkerPlan::of(&self.settings, self.cores, model, manifest.size());
        let options = GateOptions {
            bare: false,
            max_batch_size: configured.max_batch_size,
            intra_op_threads: plan.intra_op_threads,
        };
        let result = self.gate_result(directory, &manifest, options, "")?;

        // The package is opened again after the gate, including its hashes: the gate ran in another
        // process and may have taken minutes.
        let package = ModelPackage::open(directory)?;
        check_digest(&result, &package.manifest, manifest::FILE, "verified")?;
        let resources = plan.resources(&self.settings, model);
        let (mut factory, first) = self.open(directory, id, &package.manifest, resources)?;
        // `feed` must run before `bind`: it adds the optional inputs that the package sets to the
        // signature.
        factory.feed(|name| package.parts.feeds(name));
        let transform = package.parts.bind(factory.signature())?;
        let warm_up = result
            .warm
            .then(|| gate::first_run(&package.parts, &transform, factory.signature()))
            .transpose()?;
        let engines = make_engines(&factory, first, plan.workers, warm_up.as_ref())?;
        let own_limit = package.parts.serving.batching.max_batch_size;
        let policy = BatchPolicy {
            max_batch_size: match result.batching {
                Batching::Rows => configured
                    .max_batch_size
                    .min(own_limit.unwrap_or(usize::MAX)),
                // In this case the batcher runs one row at a time.
                Batching::None { .. } => 1,
            },
            max_delay: Duration::from_micros(configured.max_delay_us),
            queue_capacity: configured.queue_capacity,
            max_rows_per_run: configured.max_rows_per_run,
        };
        let packaged = Packaged::new(package, transform, factory.signature());
        Ok(LoadedVersion {
            contents: Contents::Package(Box::new(packaged)),
            oip: self.settings.oip(model),
            windows: self.settings.monitor.lengths(),
            engines,
            factory: Arc::new(factory),
            policy,
            batching: result.batching,
            without_rows: result.without_rows,
        })
    }
}
