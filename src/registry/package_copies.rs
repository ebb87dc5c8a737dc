//! PackageCopies: copies of the packages that answer or lead back, beside the journal. Whoever tidies the models directory takes away no
//! way back, and a package that is packed anew under an old version does not end the old one.
//!
//! `packages/NAME/DIGEST/NAME/VERSION/` below the state, and beside a bare graph's versions the files that it is loaded with, as in the
//! models directory. Copies and no hard links: a file that is edited in place would change both.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    clock,
    config::Config,
    digest::Digest,
    id::{ModelName, PredictionId},
    journal::entry::VersionRef,
    package::{PackageError, bare::ModelFiles, manifest},
    registry::{
        integrity::{IntegrityChecks, check_cheaply},
        servable::Contents,
        source::{self, FoundDirectory},
    },
};

/// Copies leave so much of the disk free, or `1/SPARE_PART` of it where that is less: the journal is there, too.
const SPARE_BYTES: u64 = 64 << 20;
const SPARE_PART: u64 = 20;

/// So much is written at most before the disk has it: the end of a copy is not held up by all that the system still holds.
const UNSYNCED_BYTES: usize = 64 << 20;

/// What a process that was killed left behind is removed when nobody wrote to it for so long; other replicas copy there, too.
const LEFTOVER: Duration = Duration::from_secs(3600);

/// The copies of one state; without a place for them where they are not wanted.
#[derive(Clone)]
pub struct PackageCopies {
    root: Option<PathBuf>,
    intact: Arc<IntegrityChecks>,
    swept: Arc<OnceLock<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The files are not what was loaded, any more.
    #[error(transparent)]
    Changed(#[from] PackageError),
    #[error("its files are not what was loaded, any more: {0}")]
    Lost(String),
    #[error(
        "it needs {needed} bytes; {free} bytes are free in {}, and {spare} of them are left to the journal: make room there, or set state.keep_packages = false",
        place.display()
    )]
    NoRoom {
        needed: u64,
        free: u64,
        spare: u64,
        place: PathBuf,
    },
}

impl PackageCopies {
    pub fn of(config: &Config) -> PackageCopies {
        let root = config
            .state
            .directory()
            .filter(|_| config.state.keep_packages)
            .map(|state| state.join("packages"));
        PackageCopies {
            root,
            intact: Arc::default(),
            swept: Arc::default(),
        }
    }

    pub fn is_wanted(&self) -> bool {
        self.root.is_some()
    }

    /// Ends the copies and checks that run; none begins any more.
    pub fn stop(&self) {
        self.intact.stop();
    }

    pub fn is_stopped(&self) -> bool {
        self.intact.is_stopped()
    }

    fn place(&self, name: &ModelName, digest: &str) -> Option<PathBuf> {
        Some(
            self.root
                .as_ref()?
                .join(name.as_str())
                .join(digest.trim_start_matches("sha256:")),
        )
    }

    /// The copy of what was decided on, as a version's directory.
    pub fn found(&self, name: &ModelName, named: &VersionRef) -> Option<FoundDirectory> {
        let directory = self.directory(name, &named.version, &named.digest)?;
        directory.is_dir().then(|| source::found_at(directory))
    }

    /// Where a version's copy lies once there is one.
    pub fn directory(&self, name: &ModelName, version: &str, digest: &str) -> Option<PathBuf> {
        Some(self.place(name, digest)?.join(name.as_str()).join(version))
    }

    /// Whether a restart finds what was loaded: as a copy, or in `directory` of the models. Else why not.
    pub fn check(&self, contents: &Contents, directory: &Path) -> Result<(), String> {
        let copy = self
            .copy_of(contents)
            .filter(|copy| copy.is_dir())
            .map(|copy| self.intact.check(contents, &copy));
        if copy == Some(Ok(())) {
            return Ok(());
        }
        let version = &contents.id().version;
        let lost = match directory.exists() {
            false => format!("the files of {version} are gone"),
            true => match self.intact.check(contents, directory) {
                Ok(()) => return Ok(()),
                Err(detail) => {
                    format!("the files of {version} are not what was loaded, any more ({detail})")
                }
            },
        };
        let copy = copy
            .and_then(Result::err)
            .map_or_else(String::new, |detail| {
                format!(", and its copy in the state is damaged ({detail})")
            });
        Err(format!(
            "{lost}{copy}: it answers from memory, and a restart would lose it; put them back"
        ))
    }

    fn copy_of(&self, contents: &Contents) -> Option<PathBuf> {
        let (id, manifest) = (contents.id(), contents.manifest());
        self.directory(&id.name, id.version.as_str(), &manifest.digest)
    }

    /// Copies a package that was loaded from `directory`; what is copied is what was loaded, or nothing. A damaged copy is replaced.
    pub fn keep(&self, contents: &Contents, directory: &Path) -> Result<(), CopyError> {
        let id = contents.id();
        let Some((copy, parent)) = self
            .copy_of(contents)
            .zip(self.root.as_ref().map(|root| root.join(id.name.as_str())))
        else {
            return Ok(());
        };
        let damage = match copy.is_dir().then(|| self.intact.check(contents, &copy)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(damage)) => Some(damage),
            None => None,
        };
        self.intact.go_on()?;
        self.sweep();
        check_cheaply(contents, directory).map_err(CopyError::Lost)?;
        fs_err::create_dir_all(&parent)?;
        check_room(&parent, contents.manifest().size())?;
        let staging = parent.join(format!(".{}", PredictionId::new()));
        let staged = staging.join(id.name.as_str()).join(id.version.as_str());
        let outcome = self
            .copy_files(contents, directory, &staged)
            .and_then(|()| {
                let aside = damage.is_some().then(|| staging.join("damaged"));
                Ok(put(&staged, &copy, aside.as_deref())?)
            });
        // With what was replaced.
        let _ = fs_err::remove_dir_all(&staging);
        match outcome {
            Ok(()) => {
                self.intact.note(contents, &copy);
                if let Some(damage) = damage {
                    tracing::warn!(model = %id.name, version = %id.version, damage, "the copy of a package was damaged and is made again");
                }
                Ok(())
            }
            // Another replica was faster.
            Err(_) if copy.is_dir() && self.intact.check(contents, &copy).is_ok() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Copies what a load reads, to the disk; each file is hashed on its way. A copy that could not be loaded is an error.
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
        check_cheaply(contents, to).map_err(CopyError::Lost)?;
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
        target.set_permissions(source.metadata()?.permissions())?;
        let found = Digest::of_reader(CopyReader {
            source,
            target: &target,
            unsynced: 0,
            intact: &self.intact,
        })?;
        target.sync_all()?;
        Ok(found)
    }

    /// Removes the copies of a model that nothing leads to any more; whether there was any. Versions of one digest stay together.
    pub fn retain(&self, name: &ModelName, digests: &BTreeSet<String>) -> bool {
        let Some(parent) = self.root.as_ref().map(|root| root.join(name.as_str())) else {
            return false;
        };
        let Ok(copies) = source::directories(&parent, 1) else {
            return false;
        };
        let mut removed = false;
        for (digest, directory) in copies
            .into_iter()
            .filter(|(digest, _)| !digests.contains(&format!("sha256:{digest}")))
        {
            self.intact.forget(&directory);
            match fs_err::remove_dir_all(&directory) {
                Ok(()) => {
                    tracing::debug!(model = %name, digest, "the copy of a package is removed: nothing leads to it any more")
                }
                Err(error) => {
                    tracing::warn!(model = %name, error = %error, "the copy of a package can't be removed")
                }
            }
            removed |= !directory.exists();
        }
        removed
    }

    /// Removes what processes that were killed left behind; once in the life of this one, and before each copy.
    pub fn sweep_once(&self) {
        if self.swept.set(()).is_ok() {
            self.sweep();
        }
    }

    fn sweep(&self) {
        let Some(root) = &self.root else { return };
        for (_, model) in source::directories(root, 1).unwrap_or_default() {
            let entries = fs_err::read_dir(&model)
                .into_iter()
                .flatten()
                .filter_map(Result::ok);
            let leftovers = entries.filter(|entry| {
                entry.file_name().to_string_lossy().starts_with('.') && entry.path().is_dir()
            });
            for leftover in leftovers
                .map(|entry| entry.path())
                .filter(|path| !was_written(path, 0))
            {
                match fs_err::remove_dir_all(&leftover) {
                    Ok(()) => {
                        tracing::info!(path = %leftover.display(), "a copy that was begun and never finished is removed")
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "a copy that was begun and never finished can't be removed")
                    }
                }
            }
        }
    }
}

/// Whether anything there was written lately: it may be another replica's copy. What can't be looked at counts as written.
fn was_written(path: &Path, depth: usize) -> bool {
    let Ok(modified) = fs_err::symlink_metadata(path).and_then(|about| about.modified()) else {
        return true;
    };
    let below = || {
        fs_err::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .any(|entry| was_written(&entry.path(), depth + 1))
    };
    clock::is_recent(modified, LEFTOVER)
        || depth < 16 && !path.is_symlink() && path.is_dir() && below()
}

/// Moves a complete copy to its place: what lies beside the versions first, so that the version can be loaded once it is there. What is
/// damaged there goes `aside`.
fn put(staged: &Path, copy: &Path, aside: Option<&Path>) -> io::Result<()> {
    let (Some(from), Some(to)) = (staged.parent(), copy.parent()) else {
        return Ok(());
    };
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        if entry.path() != staged {
            fs_err::rename(entry.path(), to.join(entry.file_name()))?;
        }
    }
    if let Some(aside) = aside {
        fs_err::rename(copy, aside)?;
    }
    fs_err::rename(staged, copy).inspect_err(|_| {
        let _ = aside.map(|aside| fs_err::rename(aside, copy));
    })?;
    // Up to the state's directory.
    to.ancestors().take(5).try_for_each(sync_directory)
}

/// What was moved or made in a directory is there after a power failure; as far as the file system can promise it.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match fs_err::File::open(directory)?.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

/// Refuses a copy that would leave too little room.
fn check_room(place: &Path, needed: u64) -> Result<(), CopyError> {
    let about = rustix::fs::statvfs(place).map_err(io::Error::from)?;
    let (free, total) = (
        about.f_bavail.saturating_mul(about.f_frsize),
        about.f_blocks.saturating_mul(about.f_frsize),
    );
    let spare = SPARE_BYTES.min(total / SPARE_PART);
    // Some file systems tell no size.
    match total > 0 && free < needed.saturating_add(spare) {
        true => Err(CopyError::NoRoom {
            needed,
            free,
            spare,
            place: place.to_path_buf(),
        }),
        false => Ok(()),
    }
}

/// A file that is written while it is read; either ends with the process.
struct CopyReader<'a> {
    source: fs_err::File,
    target: &'a fs_err::File,
    unsynced: usize,
    intact: &'a IntegrityChecks,
}

impl Read for CopyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.intact.go_on()?;
        let count = self.source.read(buffer)?;
        self.target
            .write_all(buffer.get(..count).unwrap_or_default())?;
        self.unsynced += count;
        if self.unsynced >= UNSYNCED_BYTES {
            self.unsynced = 0;
            self.target.sync_data()?;
        }
        Ok(count)
    }
}
