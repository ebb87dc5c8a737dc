//! `OwnDirectory`: an `--output` that is the directory of one package.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::id::{ModelId, ModelName, Version};

/// An `--output` that is the directory of one package, as with `init`: MODELS/NAME/VERSION.
pub(super) struct OwnDirectory {
    pub(super) models: PathBuf,
    pub(super) id: ModelId,
}

impl OwnDirectory {
    /// Parses an `--output`. Returns `None` for a models directory. A whole number, such as a year,
    /// counts as a version only in a directory with the model's `name`.
    pub(super) fn read(output: &Path, name: &str) -> Option<OwnDirectory> {
        let version = Version::parse(output.file_name()?.to_str()?)?;
        let absolute = std::path::absolute(output).ok()?;
        let above = output
            .parent()
            .filter(|above| above.file_name().is_some())
            .or_else(|| absolute.parent())?;
        let own = ModelName::parse(above.file_name()?.to_str()?)?;
        if version.is_number() && own.as_str() != name {
            return None;
        }
        let models = above
            .parent()
            .filter(|models| !models.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Some(OwnDirectory {
            models: models.to_path_buf(),
            id: ModelId { name: own, version },
        })
    }

    pub(super) fn check(
        &self,
        output: &Path,
        name: &ModelName,
        version: &Version,
    ) -> anyhow::Result<()> {
        if *name == self.id.name && *version == self.id.version {
            return Ok(());
        }
        let (output, models) = (output.display(), self.models.display());
        bail!(
            "--output {output} is the directory of {}, but {name}/{version} would be imported; give --output {models}/{name}/{version} or the models \
             directory, {models}",
            self.id
        )
    }
}
