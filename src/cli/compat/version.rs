//! Opens a version on disk for the comparison.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context;

use crate::{
    app,
    cli::{compat::measurement::measure, measure::Measured},
    compat::ComparedVersion,
    config::{Config, Oip},
    document,
    engine::{
        EngineFactory,
        infer::{OnnxFactory, Runtime},
    },
    package::{
        Evaluation, MODEL_FILE, ModelPackage, PROFILE_FILE, Profile,
        bare::{self, BareGraph},
    },
    registry::gate::{Batching, GateOptions},
    tensor::signature::Signature,
};

/// A version on disk.
pub(super) struct OpenedVersion {
    pub(super) name: String,
    pub(super) digest: String,
    package: Option<ModelPackage>,
    labels: BTreeMap<String, Arc<[String]>>,
    graph: Signature,
    pub(super) profile: Option<Profile>,
    raw: bool,
    pub(super) measured: Measured,
}

pub(super) struct Opener<'a> {
    pub(super) config: &'a Config,
    pub(super) library: &'a Path,
    pub(super) raw: bool,
    pub(super) runtime: Option<Runtime>,
}

impl Opener<'_> {
    /// Runs the load gate for a version, and then opens it. The graph is opened in this process
    /// only after the version passed the gate.
    pub(super) fn version(&mut self, directory: &Path) -> anyhow::Result<OpenedVersion> {
        let bare = bare::id_of(directory)
            .filter(|id| bare::is_bare(directory, id))
            .map(|id| BareGraph::open(directory, &id))
            .transpose()?;
        let package = if bare.is_some() {
            None
        } else {
            Some(ModelPackage::open(directory).with_context(|| directory.display().to_string())?)
        };
        let id = package
            .as_ref()
            .map(|package| &package.id)
            .or(bare.as_ref().map(|bare| &bare.id))
            .context("has no name and version")?;
        let own_limit = package
            .as_ref()
            .and_then(|package| package.parts.serving.batching.max_batch_size)
            .unwrap_or(usize::MAX);
        let options = GateOptions {
            bare: bare.is_some(),
            max_batch_size: self
                .config
                .model_settings()
                .batching(id.name.as_str())
                .max_batch_size,
            intra_op_threads: self.config.runtime.intra_op_threads.max(1),
        };
        let passed = app::trial(&self.config.models, self.library, app::executable()?)
            .run(directory, options, &mut |_| {})
            .with_context(|| format!("{} does not pass the load gate", directory.display()))?;
        let rows = if passed.batching == Batching::Rows {
            options.max_batch_size.min(own_limit)
        } else {
            1
        };
        let measured = measure(directory, self.library, rows, options.intra_op_threads)?;
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => self.runtime.insert(Runtime::load(self.library)?),
        };
        let (mut factory, _) = OnnxFactory::open(runtime, &directory.join(MODEL_FILE), 1)?;
        if let Some(package) = &package {
            factory.feed(|name| package.parts.feeds(name));
        }
        let graph = bare.as_ref().map_or_else(
            || factory.signature().clone(),
            |bare| bare.refined(factory.signature()),
        );
        let profile = match fs_err::read_to_string(directory.join(PROFILE_FILE)) {
            Ok(text) => Some(document::parse(text.as_bytes()).context(PROFILE_FILE)?),
            Err(_) => None,
        };
        Ok(OpenedVersion {
            name: id.to_string(),
            digest: passed.digest,
            graph,
            profile,
            raw: self.raw
                || bare.is_some()
                || self.config.model_settings().oip(id.name.as_str()) == Oip::Graph,
            measured,
            labels: bare.map(|bare| bare.labels).unwrap_or_default(),
            package,
        })
    }
}

impl OpenedVersion {
    pub(super) fn side(&self) -> ComparedVersion<'_> {
        ComparedVersion {
            parts: self.package.as_ref().map(|package| &package.parts),
            graph: &self.graph,
            labels: Some(&self.labels),
            exposes_graph: self.raw,
        }
    }

    pub(super) fn evaluation(&self) -> Option<&Evaluation> {
        self.package.as_ref()?.parts.evaluation.as_ref()
    }
}
