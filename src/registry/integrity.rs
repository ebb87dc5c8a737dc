//! IntegrityChecks: whether a directory still holds the package that was loaded, so that a restart finds it again. What was found is remembered
//! by what the files look like from outside: gigabytes are hashed again only when they changed.

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
        bare::ModelFiles,
        manifest::{self, Manifest},
    },
    registry::{servable::Contents, source},
};

/// How long a failure is remembered: a disk may only have failed for a moment.
const FAILURE_HOLDS: Duration = Duration::from_secs(60);

/// The checks of one process.
#[derive(Default)]
pub struct IntegrityChecks {
    stopped: AtomicBool,
    seen: Mutex<BTreeMap<PathBuf, Seen>>,
}

/// What a check found.
struct Seen {
    fingerprint: u64,
    digest: String,
    outcome: Result<(), String>,
    at: Instant,
}

impl IntegrityChecks {
    /// Ends the checks and copies that run; none begins any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// An error once the process is to end.
    pub fn go_on(&self) -> io::Result<()> {
        if self.is_stopped() {
            Err(io::Error::other("the server stops"))
        } else {
            Ok(())
        }
    }

    /// Whether a load of `directory` would give what was loaded; else why not.
    pub fn check(&self, contents: &Contents, directory: &Path) -> Result<(), String> {
        let fingerprint = fingerprint(contents, directory);
        let digest = &contents.manifest().digest;
        let known = lock(&self.seen)
            .get(directory)
            .and_then(|seen| seen.holds(fingerprint, digest));
        if let Some(outcome) = known {
            return outcome;
        }
        let hash = |path: &Path| {
            Digest::of_reader(Stoppable {
                file: fs_err::File::open(path)?,
                intact: self,
            })
        };
        let hashed = || {
            contents
                .manifest()
                .check_files_with(directory, hash)
                .map_err(|error| error.to_string())
        };
        let outcome = check_cheaply(contents, directory).and_then(|()| hashed());
        // What was cut short tells nothing.
        if !self.is_stopped() {
            let seen = Seen {
                fingerprint,
                digest: digest.clone(),
                outcome: outcome.clone(),
                at: Instant::now(),
            };
            lock(&self.seen).insert(directory.to_path_buf(), seen);
        }
        outcome
    }

    /// Remembers that these files were hashed just now.
    pub fn note(&self, contents: &Contents, directory: &Path) {
        let fingerprint = fingerprint(contents, directory);
        let seen = Seen {
            fingerprint,
            digest: contents.manifest().digest.clone(),
            outcome: Ok(()),
            at: Instant::now(),
        };
        lock(&self.seen).insert(directory.to_path_buf(), seen);
    }

    /// Of directories that are gone nothing needs to be known.
    pub fn forget(&self, below: &Path) {
        lock(&self.seen).retain(|directory, _| !directory.starts_with(below));
    }
}

impl Seen {
    fn holds(&self, fingerprint: u64, digest: &str) -> Option<Result<(), String>> {
        let same = self.fingerprint == fingerprint && self.digest == digest;
        (same && (self.outcome.is_ok() || self.at.elapsed() < FAILURE_HOLDS))
            .then(|| self.outcome.clone())
    }
}

/// Everything that tells without a look at all the bytes whether a load of `directory` would give what was loaded.
pub fn check_cheaply(contents: &Contents, directory: &Path) -> Result<(), String> {
    let (id, loaded) = (contents.id(), contents.manifest());
    match contents {
        Contents::Package(_) => {
            let manifest = Manifest::read(directory).map_err(|error| error.to_string())?;
            manifest
                .check_identity(id)
                .map_err(|error| error.to_string())?;
            if manifest.digest != loaded.digest {
                return Err(format!(
                    "{} has digest {}; {} was loaded",
                    manifest::FILE,
                    manifest.digest,
                    loaded.digest
                ));
            }
        }
        Contents::Bare(_) if directory.join(manifest::FILE).exists() => {
            return Err(format!("there is a {} now", manifest::FILE));
        }
        Contents::Bare(_) => {
            ModelFiles::read(directory.parent().unwrap_or(directory), &id.name)
                .map_err(|error| error.to_string())?;
        }
    }
    loaded.incomplete_file(directory).map_or(Ok(()), Err)
}

/// What tells that something was changed: of the version's files, and of those beside a bare graph's versions.
fn fingerprint(contents: &Contents, directory: &Path) -> u64 {
    let own = source::found_at(directory.to_path_buf()).fingerprint;
    let mut hasher = DefaultHasher::new();
    own.hash(&mut hasher);
    if let (Contents::Bare(_), Some(parent)) = (contents, directory.parent()) {
        let entries = fs_err::read_dir(parent)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let about = entries
            .filter_map(|entry| Some((entry.file_name(), fs_err::metadata(entry.path()).ok()?)));
        let mut files: Vec<_> = about
            .filter(|(_, about)| !about.is_dir())
            .map(|(name, about)| (name, about.len(), about.modified().ok()))
            .collect();
        files.sort();
        files.hash(&mut hasher);
    }
    hasher.finish()
}

/// A file whose reader can be stopped.
struct Stoppable<'a> {
    file: fs_err::File,
    intact: &'a IntegrityChecks,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.intact.go_on()?;
        self.file.read(buffer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
