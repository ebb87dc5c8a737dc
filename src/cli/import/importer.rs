//! `Importer`: creates the packages, and reports each of them.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::json;

use crate::{
    app,
    cli::{
        CommandOutcome,
        import::{ToArgs, golden::golden_lines},
        pack::{self, Packer, Sealed},
        staging::Staging,
        typed,
    },
    engine::infer::{OnnxFactory, Runtime},
    error::text_with_sources,
    id::ModelId,
    package::{
        GOLDEN_FILE, MODEL_FILE, PackageError, Parts,
        import::{Imported, copy_graph},
        manifest::Manifest,
    },
    tensor::signature::Signature,
};

/// The source files of one package.
pub(super) struct Place<'a> {
    pub(super) id: &'a ModelId,
    pub(super) graph: &'a Path,
    /// The source directory. Files outside this directory are not read.
    pub(super) root: &'a Path,
}

/// A package that was created.
pub(super) struct CreatedPackage {
    directory: PathBuf,
    digest: String,
    golden: usize,
    imported: Imported,
}

pub(super) struct Importer<'a> {
    to: &'a ToArgs,
    models: PathBuf,
    packer: Packer,
    runtime: Runtime,
    made: usize,
    /// The number of packages without golden examples.
    without_golden: usize,
    failed: usize,
}

impl<'a> Importer<'a> {
    pub(super) fn new(to: &'a ToArgs, models: PathBuf) -> anyhow::Result<Importer<'a>> {
        let config = to.config.load()?;
        let runtime = Runtime::load(&app::find_library(&config.runtime.library)?)?;
        Ok(Importer {
            to,
            models,
            packer: Packer::new(config)?,
            runtime,
            made: 0,
            without_golden: 0,
            failed: 0,
        })
    }

    /// Creates a package in a staging directory, runs the gate on it, and moves it into the models
    /// directory.
    pub(super) fn make(
        &self,
        place: &Place<'_>,
        import: impl FnOnce(&Signature, &[String]) -> Result<Imported, PackageError>,
    ) -> anyhow::Result<CreatedPackage> {
        let directory = self
            .models
            .join(place.id.name.as_str())
            .join(place.id.version.as_str());
        if fs_err::symlink_metadata(&directory).is_ok() {
            bail!(
                "{} already exists; nothing was changed",
                directory.display()
            );
        }
        let staging = Staging::within(
            &self.models,
            &format!("import-{}-{}", place.id.name, place.id.version),
        )?;
        let external = copy_graph(place.graph, Some(place.root), staging.path())?;
        let (_, mut engine) =
            OnnxFactory::open(&self.runtime, &staging.path().join(MODEL_FILE), 1)?;
        let signature = std::sync::Arc::clone(engine.signature());
        let mut imported = import(&signature, &external)?;
        imported.write(staging.path())?;
        let parts = Parts::read(staging.path())?;
        let golden = golden_lines(&parts, &parts.bind(&signature)?, &mut engine, &mut imported);
        if !golden.is_empty() {
            fs_err::write(
                staging.path().join(GOLDEN_FILE),
                golden
                    .iter()
                    .map(|line| format!("{line}\n"))
                    .collect::<String>(),
            )?;
        }
        drop(engine);
        let manifest = Manifest::of_directory(
            staging.path(),
            place.id,
            pack::created(),
            imported.provenance.clone(),
        )?;
        let manifest = match self.packer.seal(manifest, staging.path(), &mut |_| {})? {
            Sealed::Passed(manifest) => manifest,
            Sealed::Refused(error) => return Err(error.into()),
        };
        staging.publish(&directory)?;
        Ok(CreatedPackage {
            directory,
            digest: manifest.digest,
            golden: golden.len(),
            imported,
        })
    }

    pub(super) fn report(&mut self, label: &str, made: anyhow::Result<CreatedPackage>) {
        match made {
            Ok(made) => {
                self.made += 1;
                self.without_golden += usize::from(made.golden == 0);
                let Imported {
                    warnings, notes, ..
                } = &made.imported;
                for warning in warnings {
                    eprintln!("predictd: warning: {label}: {warning}");
                }
                if self.to.json {
                    let package = made.directory.to_string_lossy();
                    say!(
                        "{}",
                        json!({"model": label, "imported": true, "package": package, "digest": made.digest, "golden": made.golden, "warnings": warnings, "notes": notes})
                    );
                    return;
                }
                say!(
                    "imported {}  {}, {} golden examples",
                    made.directory.display(),
                    made.digest,
                    made.golden
                );
                for note in notes {
                    say!("  check   {note}");
                }
            }
            Err(error) => {
                self.failed += 1;
                if self.to.json {
                    say!(
                        "{}",
                        json!({"model": label, "imported": false, "error": text_with_sources(error.as_ref())})
                    );
                } else {
                    say!("FAILED   {label}: {}", text_with_sources(error.as_ref()));
                }
            }
        }
    }

    pub(super) fn end(&self) -> CommandOutcome {
        if self.made > 0 && !self.to.json {
            let output = typed(&self.models);
            say!("next:\n  predictd verify {output}\n  predictd serve --models {output}");
            if self.without_golden > 0 {
                say!(
                    "  write {GOLDEN_FILE}, with lines {{\"input\": ..., \"output\": ...}} of predictions from training, and pack again"
                );
            }
        }
        if self.failed == 0 {
            CommandOutcome::Done
        } else {
            CommandOutcome::Failed
        }
    }
}
