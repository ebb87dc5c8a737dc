//! `IntegrityChecks`: whether a directory still contains the package that was loaded, so that a
//! restart finds it. Results are cached by the fingerprint of the files, so that only changed files
//! are hashed again.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    digest::Digest,
    package::{
        PackageError,
        bare::ModelFiles,
        manifest::{self, Manifest},
    },
    registry::{servable::Contents, source},
};

/// How long a failure is cached. A disk may fail only for a moment.
const FAILURE_TTL: Duration = Duration::from_secs(60);

/// Why a load from a directory would not give the version that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IntegrityError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("{} has digest {found}; {loaded} was loaded", manifest::FILE)]
    OtherDigest { found: String, loaded: String },
    /// A manifest now exists, so the graph would be loaded as a package.
    #[error("there is a {} now", manifest::FILE)]
    ManifestAdded,
    /// A file is missing or shorter than expected.
    #[error("{0}")]
    Incomplete(String),
}

/// The checks of one process.
#[derive(Default)]
pub(super) struct IntegrityChecks {
    stopped: AtomicBool,
    results: Mutex<BTreeMap<PathBuf, CheckResult>>,
}

struct CheckResult {
    fingerprint: u64,
    digest: String,
    outcome: Result<(), IntegrityError>,
    at: Instant,
}

impl IntegrityChecks {
    /// Cancels the running checks and copies, and all later ones.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Returns an error if the process is about to end.
    pub(super) fn check_running(&self) -> io::Result<()> {
        if self.is_stopped() {
            Err(io::Error::other("the server stops"))
        } else {
            Ok(())
        }
    }

    /// Checks whether a load from `directory` would give the version with these contents.
    pub(super) fn check(
        &self,
        contents: &Contents,
        directory: &Path,
    ) -> Result<(), IntegrityError> {
        let fingerprint = fingerprint(contents, directory);
        let digest = &contents.manifest().digest;
        // The lock is not held while files are hashed, so that other checks don't wait.
        let cached = lock(&self.results)
            .get(directory)
            .and_then(|result| result.cached(fingerprint, digest));
        if let Some(outcome) = cached {
            return outcome;
        }
        let hash = |path: &Path| {
            Digest::of_reader(CancellableFile {
                file: fs_err::File::open(path)?,
                checks: self,
            })
        };
        let outcome = check_without_hashes(contents, directory)
            .and_then(|()| Ok(contents.manifest().check_files_with(directory, hash)?));
        // The outcome of a cancelled check gives no information about the files.
        if !self.is_stopped() {
            self.store(contents, directory, fingerprint, outcome.clone());
        }
        outcome
    }

    /// Records that these files were hashed a moment ago and are correct.
    pub(super) fn record_correct(&self, contents: &Contents, directory: &Path) {
        self.store(
            contents,
            directory,
            fingerprint(contents, directory),
            Ok(()),
        );
    }

    fn store(
        &self,
        contents: &Contents,
        directory: &Path,
        fingerprint: u64,
        outcome: Result<(), IntegrityError>,
    ) {
        let result = CheckResult {
            fingerprint,
            digest: contents.manifest().digest.clone(),
            outcome,
            at: Instant::now(),
        };
        lock(&self.results).insert(directory.to_path_buf(), result);
    }

    /// Drops the results for all directories below `parent`. These directories were removed.
    pub(super) fn forget(&self, parent: &Path) {
        lock(&self.results).retain(|directory, _| !directory.starts_with(parent));
    }
}

impl CheckResult {
    /// The cached outcome, if it is still valid for files with this fingerprint.
    fn cached(&self, fingerprint: u64, digest: &str) -> Option<Result<(), IntegrityError>> {
        let same = self.fingerprint == fingerprint && self.digest == digest;
        (same && (self.outcome.is_ok() || self.at.elapsed() < FAILURE_TTL))
            .then(|| self.outcome.clone())
    }
}

/// All parts of the check that do not read every byte.
pub(super) fn check_without_hashes(
    contents: &Contents,
    directory: &Path,
) -> Result<(), IntegrityError> {
    let (id, loaded) = (contents.id(), contents.manifest());
    match contents {
        Contents::Package(_) => {
            let manifest = Manifest::read(directory)?;
            manifest.check_identity(id)?;
            if manifest.digest != loaded.digest {
                return Err(IntegrityError::OtherDigest {
                    found: manifest.digest,
                    loaded: loaded.digest.clone(),
                });
            }
        }
        Contents::Bare(_) if directory.join(manifest::FILE).exists() => {
            return Err(IntegrityError::ManifestAdded);
        }
        // A changed or invalid configuration file next to the versions would make the load fail.
        Contents::Bare(_) => {
            ModelFiles::read(directory.parent().unwrap_or(directory), &id.name)?;
        }
    }
    match loaded.incomplete_file(directory) {
        Some(detail) => Err(IntegrityError::Incomplete(detail)),
        None => Ok(()),
    }
}

/// A value that changes whenever a file of the version changes, or a file next to the versions of a
/// bare graph.
fn fingerprint(contents: &Contents, directory: &Path) -> u64 {
    let own = source::found_at(directory.to_path_buf()).fingerprint;
    let mut hasher = DefaultHasher::new();
    own.hash(&mut hasher);
    if let (Contents::Bare(_), Some(parent)) = (contents, directory.parent()) {
        let entries = fs_err::read_dir(parent)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let with_metadata = entries
            .filter_map(|entry| Some((entry.file_name(), fs_err::metadata(entry.path()).ok()?)));
        let mut files: Vec<_> = with_metadata
            .filter(|(_, metadata)| !metadata.is_dir())
            .map(|(name, metadata)| (name, metadata.len(), metadata.modified().ok()))
            .collect();
        // A directory listing has no defined order, so the files are sorted.
        files.sort();
        files.hash(&mut hasher);
    }
    hasher.finish()
}

/// A reader of a file that `stop` cancels. A shutdown must not wait until large files are hashed.
struct CancellableFile<'a> {
    file: fs_err::File,
    checks: &'a IntegrityChecks,
}

impl Read for CancellableFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.checks.check_running()?;
        self.file.read(buffer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
