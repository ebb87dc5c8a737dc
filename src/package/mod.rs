//! A model at rest: the documents of a package, verified before they exist as values.

pub(crate) mod bare;
mod check;
pub(crate) mod draft;
mod error;
pub(crate) mod evaluation;
pub(crate) mod example_row;
pub(crate) mod golden;
pub(crate) mod guess;
pub mod import;
pub(crate) mod label_check;
pub mod manifest;
mod parts;
pub(crate) mod profile;
pub(crate) mod serving;
mod transform;
pub mod triton_config;
mod triton_text;
pub(crate) mod warmup_instance;

use std::path::{Path, PathBuf};

pub use check::PackageCheck;
pub use error::PackageError;
pub use evaluation::Evaluation;
pub use parts::Parts;
pub use profile::Profile;
pub use transform::{Transform, locate};

pub(crate) use crate::transform::{postprocess::PostprocessFault, row_fault::RowFault};

use crate::{id::ModelId, package::manifest::Manifest};

pub(crate) const MODEL_FILE: &str = "model.onnx";
pub(crate) const SCHEMA_FILE: &str = "schema.json";
pub(crate) const PREPROCESSING_FILE: &str = "preprocessing.json";
pub(crate) const GOLDEN_FILE: &str = "golden.jsonl";
pub(crate) const SERVING_FILE: &str = "serving.json";
pub(crate) const EVALUATION_FILE: &str = "evaluation.json";
pub(crate) const PROFILE_FILE: &str = "profile.json";

/// A package whose files matched the hashes of its manifest when it was opened, and whose documents
/// are well formed.
pub struct ModelPackage {
    pub(crate) id: ModelId,
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
    /// The documents of the package.
    pub parts: Parts,
}

impl ModelPackage {
    /// Reads the manifest, checks the files against it and reads the documents.
    pub fn open(directory: &Path) -> Result<ModelPackage, PackageError> {
        let manifest = Manifest::read(directory)?;
        let id = manifest.id().ok_or_else(|| {
            PackageError::new(
                PackageCheck::Manifest,
                manifest::FILE,
                "has no valid name and version",
            )
        })?;
        // This check comes before the documents are read, because only the packed bytes may be
        // parsed.
        manifest.check_files(directory)?;
        let parts = Parts::read(directory)?;
        Ok(ModelPackage {
            id,
            directory: directory.to_path_buf(),
            manifest,
            parts,
        })
    }

    /// The digest of the package: `sha256:` and 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// The path of `model.onnx`.
    pub fn model_path(&self) -> PathBuf {
        self.directory.join(MODEL_FILE)
    }
}
