//! `Packer`: turns a directory of files into a package.

use std::path::{Path, PathBuf};

use crate::{
    app, clock,
    config::Config,
    package::{PackageError, manifest::Manifest},
    registry::{
        gate::{GateOptions, PassedCheck},
        trial::GateTrial,
    },
};

/// The result of the load gate on a new package.
pub(crate) enum Sealed {
    Passed(Manifest),
    Refused(PackageError),
}

/// Turns a directory of files into a package.
pub(crate) struct Packer {
    pub config: Config,
    library: PathBuf,
    trial: GateTrial,
}

impl Packer {
    pub(crate) fn new(config: Config) -> anyhow::Result<Packer> {
        let library = app::find_library(&config.runtime.library)?;
        let trial = app::trial(&config.models, &library, app::executable()?);
        Ok(Packer {
            config,
            library,
            trial,
        })
    }

    /// The path of the ONNX Runtime library.
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }

    /// Writes the manifest, runs the load gate, and adds the gate's findings to the manifest. The
    /// manifest stays even if the gate fails.
    pub(crate) fn seal(
        &self,
        mut manifest: Manifest,
        directory: &Path,
        report: &mut dyn FnMut(PassedCheck),
    ) -> anyhow::Result<Sealed> {
        let options = GateOptions {
            bare: false,
            max_batch_size: self
                .config
                .model_settings()
                .batching(&manifest.name)
                .max_batch_size,
            intra_op_threads: 1,
        };
        manifest.write(directory)?;
        let verdict = match self.trial.run(directory, options, report) {
            Ok(verdict) => verdict,
            Err(error) => return Ok(Sealed::Refused(error)),
        };
        manifest.runtime.opset = verdict.opset;
        manifest.write(directory)?;
        Ok(Sealed::Passed(manifest))
    }
}

/// The time of creation: the current time, or SOURCE_DATE_EPOCH for reproducible packages.
pub(crate) fn created() -> String {
    let epoch = std::env::var_os("SOURCE_DATE_EPOCH").and_then(|epoch| epoch.into_string().ok());
    clock::now_rfc3339(epoch.as_deref())
}
