//! `PackageCopies`: copies of the stable and previous packages, next to the journal. With them, a
//! restart and a rollback work even if the files in the models directory were removed or replaced
//! by another package with the same version.
//!
//! A copy is in `packages/NAME/DIGEST/NAME/VERSION/` below the state directory. The files that a
//! bare graph needs next to its versions are in `packages/NAME/DIGEST/NAME/`. The copies are not
//! hard links: an edit in place would change both files.

mod error;
mod files;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

pub(crate) use error::{CopyError, FilesLoss, NotRestorable};

use crate::{
    clock,
    config::StateConfig,
    digest::Digest,
    error::text_with_sources,
    id::{ModelName, PredictionId},
    journal::entry::VersionRef,
    package::{bare::ModelFiles, manifest},
    registry::{
        directories::directories,
        integrity::{IntegrityChecks, check_without_hashes},
        package_copies::files::{CopyReader, check_room, install, sync_directory},
        servable::Contents,
        source::{self, FoundDirectory},
    },
};

/// Time without writes after which the staging directory of a killed process is removed. Other
/// replicas copy to the same place.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Maximum depth of the search for recent files in a staging directory.
const MAX_DEPTH: usize = 16;

/// The package copies in one state directory.
#[derive(Clone)]
pub(crate) struct PackageCopies {
    /// The directory of the copies. `None` if copies are disabled.
    root: Option<PathBuf>,
    integrity: Arc<IntegrityChecks>,
    swept: Arc<OnceLock<()>>,
}

impl PackageCopies {
    pub(crate) fn of(config: &StateConfig) -> PackageCopies {
        let root = config
            .directory()
            .filter(|_| config.keep_packages)
            .map(|state| state.join("packages"));
        PackageCopies {
            root,
            integrity: Arc::default(),
            swept: Arc::default(),
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.root.is_some()
    }

    /// Cancels the running copies and checks, and all later ones.
    pub(crate) fn stop(&self) {
        self.integrity.stop();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.integrity.is_stopped()
    }

    /// The copy of a version that is named in a decision. `None` if there is no copy.
    pub(crate) fn found(&self, name: &ModelName, named: &VersionRef) -> Option<FoundDirectory> {
        let directory = self.directory(name, &named.version, &named.digest)?;
        directory.is_dir().then(|| source::found_at(directory))
    }

    /// The version of the only copy of the model. `None` if there is none, or more than one.
    pub(crate) fn only_version(&self, name: &ModelName) -> Option<VersionRef> {
        let only = |parent: &Path| {
            let mut found = directories(parent, 1).ok()?;
            found.pop().filter(|_| found.is_empty())
        };
        let (digest, directory) = only(&self.root.as_ref()?.join(name.as_str()))?;
        let (version, _) = only(&directory.join(name.as_str()))?;
        Some(VersionRef {
            version,
            digest: format!("sha256:{digest}"),
        })
    }

    /// The directory of a version's copy, which may not exist. `None` if copies are disabled.
    pub(crate) fn directory(
        &self,
        name: &ModelName,
        version: &str,
        digest: &str,
    ) -> Option<PathBuf> {
        let of_digest = self
            .root
            .as_ref()?
            .join(name.as_str())
            .join(digest.trim_start_matches("sha256:"));
        Some(of_digest.join(name.as_str()).join(version))
    }

    /// Checks whether a restart would find the loaded version, as a copy or in `directory`.
    pub(crate) fn check(&self, contents: &Contents, directory: &Path) -> Result<(), NotRestorable> {
        let copy = self
            .copy_of(contents)
            .filter(|copy| copy.is_dir())
            .map(|copy| self.integrity.check(contents, &copy));
        // The copy is checked first, because nobody edits files in its directory.
        if copy == Some(Ok(())) {
            return Ok(());
        }
        let files = if directory.exists() {
            match self.integrity.check(contents, directory) {
                Ok(()) => return Ok(()),
                Err(error) => FilesLoss::Changed(Box::new(error)),
            }
        } else {
            FilesLoss::Gone
        };
        Err(NotRestorable {
            version: contents.id().version.clone(),
            files,
            copy: copy.and_then(Result::err).map(Box::new),
        })
    }

    fn copy_of(&self, contents: &Contents) -> Option<PathBuf> {
        let (id, manifest) = (contents.id(), contents.manifest());
        self.directory(&id.name, id.version.as_str(), &manifest.digest)
    }

    /// Copies a package that was loaded from `directory`, and replaces a damaged copy. The copy
    /// contains the loaded files, or the method fails.
    pub(crate) fn keep(&self, contents: &Contents, directory: &Path) -> Result<(), CopyError> {
        let id = contents.id();
        let Some((copy, parent)) = self
            .copy_of(contents)
            .zip(self.root.as_ref().map(|root| root.join(id.name.as_str())))
        else {
            return Ok(());
        };
        let damage = match copy.is_dir().then(|| self.integrity.check(contents, &copy)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(damage)) => Some(damage),
            None => None,
        };
        // A copy that starts during a shutdown would delay the shutdown.
        self.integrity.check_running()?;
        self.sweep();
        check_without_hashes(contents, directory).map_err(CopyError::Lost)?;
        fs_err::create_dir_all(&parent)?;
        check_room(&parent, contents.manifest().size())?;
        // The name starts with a dot, so that `retain` and `found` never use an unfinished copy.
        let staging = parent.join(format!(".{}", PredictionId::new()));
        let staged = staging.join(id.name.as_str()).join(id.version.as_str());
        let outcome = self
            .copy_files(contents, directory, &staged)
            .and_then(|()| {
                let aside = damage.is_some().then(|| staging.join("damaged"));
                Ok(install(&staged, &copy, aside.as_deref())?)
            });
        // This also removes the damaged copy that was moved aside.
        let _ = fs_err::remove_dir_all(&staging);
        match outcome {
            Ok(()) => {
                self.integrity.record_correct(contents, &copy);
                if let Some(damage) = damage {
                    tracing::warn!(
                        model = %id.name,
                        version = %id.version,
                        damage = %text_with_sources(&damage),
                        "the copy of a package was damaged and is replaced"
                    );
                }
                Ok(())
            }
            // Another replica has already created the same copy.
            Err(_) if copy.is_dir() && self.integrity.check(contents, &copy).is_ok() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Copies the files that a load reads, and waits until they are on the disk. Every file is
    /// hashed while it is copied.
    fn copy_files(&self, contents: &Contents, from: &Path, to: &Path) -> Result<(), CopyError> {
        for (path, entry) in &contents.manifest().files {
            entry.check(path, self.copy_file(&from.join(path), &to.join(path))?)?;
        }
        if contents.is_verified() {
            self.copy_file(&from.join(manifest::FILE), &to.join(manifest::FILE))?;
        } else if let (Some(from), Some(to)) = (from.parent(), to.parent()) {
            for file in ModelFiles::read(from, &contents.id().name)?.files {
                self.copy_file(&from.join(&file), &to.join(&file))?;
            }
        }
        // A copy that could not be loaded must not be kept.
        check_without_hashes(contents, to).map_err(CopyError::Lost)?;
        let directories = contents
            .manifest()
            .files
            .keys()
            .flat_map(|path| Path::new(path).ancestors().skip(1));
        for directory in directories.collect::<BTreeSet<_>>() {
            sync_directory(&to.join(directory))?;
        }
        Ok(())
    }

    fn copy_file(&self, from: &Path, to: &Path) -> io::Result<(Digest, u64)> {
        fs_err::create_dir_all(to.parent().unwrap_or(to))?;
        let (source, target) = (fs_err::File::open(from)?, fs_err::File::create(to)?);
        // The permissions are kept, for example for a model that only one group may read.
        target.set_permissions(source.metadata()?.permissions())?;
        let copied = Digest::of_reader(CopyReader::new(source, &target, &self.integrity))?;
        target.sync_all()?;
        Ok(copied)
    }

    /// Removes the copies of a model whose digest is not in `digests`. Returns whether it removed
    /// any. Versions with the same digest share a directory and are kept together.
    pub(crate) fn retain(&self, name: &ModelName, digests: &BTreeSet<String>) -> bool {
        let Some(parent) = self.root.as_ref().map(|root| root.join(name.as_str())) else {
            return false;
        };
        let Ok(copies) = directories(&parent, 1) else {
            return false;
        };
        let mut removed = false;
        for (digest, directory) in copies
            .into_iter()
            .filter(|(digest, _)| !digests.contains(&format!("sha256:{digest}")))
        {
            self.integrity.forget(&directory);
            match fs_err::remove_dir_all(&directory) {
                Ok(()) => {
                    tracing::debug!(
                        model = %name,
                        digest,
                        "the copy of a package is removed: no rollback needs it any more"
                    );
                }
                Err(error) => {
                    tracing::warn!(
                        model = %name,
                        error = %error,
                        "the copy of a package can't be removed"
                    );
                }
            }
            // A directory that is only partly removed does not count.
            removed |= !directory.exists();
        }
        removed
    }

    /// Removes the unfinished copies of killed processes, once per process. `keep` does the same
    /// before each copy.
    pub(crate) fn sweep_once(&self) {
        if self.swept.set(()).is_ok() {
            self.sweep();
        }
    }

    fn sweep(&self) {
        let Some(root) = &self.root else { return };
        for (_, model) in directories(root, 1).unwrap_or_default() {
            let entries = fs_err::read_dir(&model)
                .into_iter()
                .flatten()
                .filter_map(Result::ok);
            let leftovers = entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
                .map(|entry| entry.path())
                .filter(|path| path.is_dir() && !was_written(path, 0));
            for leftover in leftovers {
                match fs_err::remove_dir_all(&leftover) {
                    Ok(()) => {
                        tracing::info!(
                            path = %leftover.display(),
                            "an unfinished copy of a package is removed"
                        );
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = %error,
                            "an unfinished copy of a package can't be removed"
                        );
                    }
                }
            }
        }
    }
}

/// Whether a file in the directory was written within `LEFTOVER_AGE`, because it may belong to the
/// copy of another replica. A file whose metadata can't be read counts as written.
fn was_written(path: &Path, depth: usize) -> bool {
    let Ok(modified) = fs_err::symlink_metadata(path).and_then(|metadata| metadata.modified())
    else {
        return true;
    };
    let below = || {
        fs_err::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .any(|entry| was_written(&entry.path(), depth + 1))
    };
    clock::is_recent(modified, LEFTOVER_AGE)
        || depth < MAX_DEPTH && !path.is_symlink() && path.is_dir() && below()
}
