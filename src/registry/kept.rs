//! Kept: copies of the packages that answer or lead back, beside the journal. Whoever tidies the models directory takes away no
//! way back, and a package that is packed anew under an old version does not end the old one.
//!
//! `packages/NAME/DIGEST/NAME/VERSION/` below the state. Copies and no hard links: a file that is edited in place would change both.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::Config,
    id::{ModelName, PredictionId, Version},
    journal::entry::VersionRef,
    package::{
        PackageError, bare,
        manifest::{self, Manifest},
    },
    registry::source::{self, Found},
};

/// The copies of one state; without a place for them where they are not wanted.
#[derive(Clone)]
pub struct Kept {
    root: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The files are not what was loaded, any more.
    #[error(transparent)]
    Changed(#[from] PackageError),
}

impl Kept {
    pub fn of(config: &Config) -> Kept {
        let root = config.state.directory().filter(|_| config.state.keep_packages).map(|state| state.join("packages"));
        Kept { root }
    }

    pub fn is_wanted(&self) -> bool {
        self.root.is_some()
    }

    fn place(&self, name: &ModelName, digest: &str) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(name.as_str()).join(digest.trim_start_matches("sha256:")))
    }

    /// The copy of what was decided on, as a version's directory.
    pub fn found(&self, name: &ModelName, named: &VersionRef) -> Option<Found> {
        let directory = self.directory(name, &named.version, &named.digest)?;
        directory.is_dir().then(|| source::found_at(directory))
    }

    /// Where a version's copy lies once there is one.
    pub fn directory(&self, name: &ModelName, version: &str, digest: &str) -> Option<PathBuf> {
        Some(self.place(name, digest)?.join(name.as_str()).join(version))
    }

    /// Copies a package that was loaded from `directory`; what is copied is what was loaded, or nothing.
    pub fn keep(&self, name: &ModelName, version: &Version, manifest: &Manifest, directory: &Path) -> Result<(), KeptError> {
        let Some(place) = self.place(name, &manifest.digest).filter(|place| !place.exists()) else { return Ok(()) };
        let parent = place.parent().unwrap_or(&place);
        // Complete under its name, or not there.
        let staging = parent.join(format!(".{}", PredictionId::new()));
        let copy = staging.join(name.as_str()).join(version.as_str());
        let outcome = copy_files(manifest, directory, &copy).and_then(|()| {
            manifest.check_files(&copy)?;
            fs_err::rename(&staging, &place)?;
            Ok(())
        });
        if outcome.is_err() {
            let _ = fs_err::remove_dir_all(&staging);
        }
        match outcome {
            // Another replica was faster.
            Err(_) if place.exists() => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes the copies of a model that nothing leads to any more.
    pub fn retain(&self, name: &ModelName, digests: &BTreeSet<String>) {
        let Some(parent) = self.root.as_ref().map(|root| root.join(name.as_str())) else { return };
        let Ok(copies) = source::directories(&parent, 1) else { return };
        for (digest, directory) in copies.into_iter().filter(|(digest, _)| !digests.contains(&format!("sha256:{digest}"))) {
            match fs_err::remove_dir_all(&directory) {
                Ok(()) => tracing::debug!(model = %name, digest, "the copy of a package is removed: nothing leads to it any more"),
                Err(error) => tracing::warn!(model = %name, error = %error, "the copy of a package can't be removed"),
            }
        }
    }
}

fn copy_files(manifest: &Manifest, from: &Path, to: &Path) -> Result<(), KeptError> {
    let files = manifest.files.keys().map(String::as_str);
    let own = from.join(manifest::FILE).is_file().then_some(manifest::FILE);
    manifest::copy_files(files.chain(own), from, to)?;
    // The configuration of a bare repository lies beside the versions.
    if let (Some(from), Some(to), None) = (from.parent(), to.parent(), own) {
        let configuration = from.join(bare::CONFIG_FILE);
        if configuration.is_file() {
            fs_err::copy(configuration, to.join(bare::CONFIG_FILE))?;
        }
    }
    Ok(())
}
