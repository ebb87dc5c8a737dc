//! `Store`: the storage of entries and evidence. It relies on one guarantee: creating an object
//! fails if the object exists.

use std::{
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, local::LocalFileSystem,
    memory::InMemory, path::Path,
};
use tokio::runtime::Runtime;

use crate::clock;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another writer wrote this object first.
    #[error("{0} exists already")]
    Exists(String),
    #[error("the state directory can't be {operation}")]
    Failed {
        operation: StoreOperation,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The call got no answer in time. It may still take effect later.
    #[error("the state directory can't be {operation}: no answer within {} s; the operation may have taken effect", CALL_TIMEOUT.as_secs())]
    Late { operation: StoreOperation },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreOperation {
    Open,
    Read,
    List,
    Write,
    /// Applying an entry that was read.
    Follow,
}

impl std::fmt::Display for StoreOperation {
    /// Formats the operation as a past participle for the error messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StoreOperation::Open => "opened",
            StoreOperation::Read => "read",
            StoreOperation::List => "listed",
            StoreOperation::Write => "written",
            StoreOperation::Follow => "followed",
        })
    }
}

impl StoreOperation {
    pub(crate) fn failed(
        self,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Failed {
            operation: self,
            source: error.into(),
        }
    }
}

/// The cause of an error of the library, whose own text names the library's store.
fn cause(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        Error::Generic { source, .. } => source,
        other => other.into(),
    }
}

/// A store with blocking calls. Do not call it on a network thread.
#[derive(Clone)]
pub(crate) struct Store {
    shared: Arc<SharedStore>,
}

struct SharedStore {
    backend: Backend,
    runtime: Runtime,
    /// Until this time, reads fail at once, because a read got no answer. `None` if reads are
    /// allowed.
    no_reads_until: Mutex<Option<Instant>>,
    /// Until this time, writes fail at once, because a write got no answer. `None` if writes are
    /// allowed.
    no_writes_until: Mutex<Option<Instant>>,
    /// Whether the last attempt to reserve disk space failed. The failure is logged once.
    lacks_reserve: AtomicBool,
}

enum Backend {
    Memory(InMemory),
    Directory(PathBuf, OnceLock<OpenDirectory>),
}

struct OpenDirectory {
    objects: LocalFileSystem,
    identity: DirectoryIdentity,
}

/// The device, the inode and the time of creation of a directory. Another directory in the same
/// place has another identity. A file system may use an inode again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct DirectoryIdentity {
    device: u64,
    inode: u64,
    /// `None` if the file system does not keep the time.
    created: Option<SystemTime>,
}

impl DirectoryIdentity {
    fn of(directory: &std::path::Path) -> std::io::Result<DirectoryIdentity> {
        let metadata = fs_err::metadata(directory)?;
        Ok(DirectoryIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            created: metadata.created().ok(),
        })
    }
}

/// The timeout of a call. A rollback must not wait longer for a file system that hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long further calls fail at once after a timeout, so that decisions in this time do not wait.
const BACK_OFF: Duration = Duration::from_secs(6);

/// Maximum number of threads for calls. Calls that hang can block all of them.
const MAX_THREADS: usize = 8;

/// The size of the reserve in bytes. An entry with its evidence has a few thousand bytes.
const RESERVE_BYTES: usize = 256 << 10;

/// The age at which a temporary file of an object counts as abandoned by its writer.
const ABANDONED_AGE: Duration = Duration::from_secs(3600);

/// The depth of the directories below `journal` and `evidence`.
const SWEEP_DEPTH: usize = 3;

/// Removes the abandoned temporary files below `directory`. `object_store` writes an object to
/// `NAME.json#NUMBER` before it renames it.
fn sweep_parts(directory: &std::path::Path, depth: usize) {
    let Ok(entries) = fs_err::read_dir(directory) else {
        return;
    };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let is_part = name
            .rsplit_once(".json#")
            .is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        let modified = || fs_err::metadata(&path).ok()?.modified().ok();
        if is_part && modified().is_some_and(|at| !clock::is_recent(at, ABANDONED_AGE)) {
            let _ = fs_err::remove_file(&path);
        } else if depth > 0 && path.is_dir() {
            sweep_parts(&path, depth - 1);
        }
    }
}

impl SharedStore {
    /// The path of the file that reserves disk space. `None` for a store in memory.
    fn reserve(&self) -> Option<PathBuf> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::Directory(directory, _) => Some(directory.join("reserve")),
        }
    }

    /// The objects, for reading. `None` if the directory does not exist yet, so that there are no
    /// decisions.
    fn existing(&self) -> Result<Option<&dyn ObjectStore>, StoreError> {
        let (directory, opened) = match &self.backend {
            Backend::Memory(objects) => return Ok(Some(objects)),
            Backend::Directory(directory, opened) => (directory, opened),
        };
        if let Some(open) = opened.get() {
            return Ok(Some(&open.objects));
        }
        match fs_err::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => open_directory(directory, opened).map(Some),
            // A file in place of the directory contains no decisions either.
            Ok(_) => Ok(None),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreOperation::Open.failed(error)),
        }
    }

    /// The objects, for writing. The first write creates the directory.
    fn writable(&self) -> Result<&dyn ObjectStore, StoreError> {
        let (directory, opened) = match &self.backend {
            Backend::Memory(objects) => return Ok(objects),
            Backend::Directory(directory, opened) => (directory, opened),
        };
        if let Some(open) = opened.get() {
            return Ok(&open.objects);
        }
        fs_err::create_dir_all(directory).map_err(|error| StoreOperation::Open.failed(error))?;
        open_directory(directory, opened)
    }

    /// The time until which calls with this kind of operation fail at once.
    fn back_off(&self, operation: StoreOperation) -> &Mutex<Option<Instant>> {
        match operation {
            StoreOperation::Write => &self.no_writes_until,
            _ => &self.no_reads_until,
        }
    }
}

fn open_directory<'a>(
    directory: &std::path::Path,
    opened: &'a OnceLock<OpenDirectory>,
) -> Result<&'a dyn ObjectStore, StoreError> {
    let identity =
        DirectoryIdentity::of(directory).map_err(|error| StoreOperation::Open.failed(error))?;
    let objects = LocalFileSystem::new_with_prefix(directory)
        .map_err(|error| StoreOperation::Open.failed(error))?
        // A decision that took effect must survive a power failure.
        .with_fsync(true);
    let open = opened.get_or_init(|| OpenDirectory { objects, identity });
    Ok(&open.objects)
}

impl Store {
    /// Opens a directory of this machine, or one that several machines mount. A write returns when
    /// the object is on disk. The first write creates the directory: a server whose state directory
    /// can't be written still serves.
    pub(crate) fn local(directory: PathBuf) -> std::io::Result<Store> {
        Store::of(Backend::Directory(directory, OnceLock::new()))
    }

    /// Creates a store in memory that ends with the process.
    pub(crate) fn memory() -> std::io::Result<Store> {
        Store::of(Backend::Memory(InMemory::new()))
    }

    fn of(backend: Backend) -> std::io::Result<Store> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Every call that hangs blocks a thread for ever.
            .max_blocking_threads(MAX_THREADS)
            .build()?;
        let shared = SharedStore {
            backend,
            runtime,
            no_reads_until: Mutex::default(),
            no_writes_until: Mutex::default(),
            lacks_reserve: AtomicBool::new(false),
        };
        Ok(Store {
            shared: Arc::new(shared),
        })
    }

    /// Writes an object. Fails if it exists.
    pub(crate) fn create(&self, path: &str, text: Vec<u8>) -> Result<(), StoreError> {
        self.put(path, text, PutMode::Create)
    }

    /// Writes an object atomically, and replaces it if it exists.
    pub(crate) fn replace(&self, path: &str, text: Vec<u8>) -> Result<(), StoreError> {
        self.put(path, text, PutMode::Overwrite)
    }

    /// Renames an object. Fails if the new name exists.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let (from, to) = (Path::from(from), Path::from(to));
        let objects = self.shared.writable()?;
        self.wait(
            objects.rename_if_not_exists(&from, &to),
            StoreOperation::Write,
        )?
        .map_err(|error| StoreOperation::Write.failed(error))
    }

    /// Reserves disk space for an urgent decision. Returns `false` if the disk is full. If the
    /// space can't be reserved for another reason, returns `true`, and the store works without a
    /// reserve.
    pub(crate) fn keep_reserve(&self) -> bool {
        let Some(reserve) = self.shared.reserve() else {
            return true;
        };
        // A store that hangs is not a full disk. The write itself will report the problem.
        let Ok(kept) = self.blocking(move || write_reserve(&reserve)) else {
            return true;
        };
        let lacked = self
            .shared
            .lacks_reserve
            .swap(kept.is_err(), Ordering::Relaxed);
        let Err(error) = kept else { return true };
        if !lacked {
            tracing::warn!(error = %error, "no disk space could be reserved for urgent decisions");
        }
        !matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    }

    /// Whether the last attempt to reserve disk space failed.
    pub(crate) fn lacks_reserve(&self) -> bool {
        self.shared.lacks_reserve.load(Ordering::Relaxed)
    }

    /// Whether the directory is the one that was opened first. If it is not, the first one is not
    /// mounted, or was replaced.
    pub(crate) fn is_same_directory(&self) -> bool {
        let Backend::Directory(directory, opened) = &self.shared.backend else {
            return true;
        };
        let directory = directory.clone();
        let found = self.blocking(move || DirectoryIdentity::of(&directory));
        match (opened.get(), found) {
            (Some(open), Ok(Ok(found))) => open.identity == found,
            _ => false,
        }
    }

    /// Removes the temporary files of killed processes. Younger files may belong to running
    /// processes. The work runs on its own thread, because there may be thousands of files of
    /// evidence.
    pub(crate) fn sweep(&self) -> Option<JoinHandle<()>> {
        let Backend::Directory(directory, _) = &self.shared.backend else {
            return None;
        };
        // Other parts of the state directory contain no objects of this store.
        let roots = ["journal", "evidence"].map(|name| directory.join(name));
        thread::Builder::new()
            .name("sweep".to_owned())
            .spawn(move || {
                roots.iter().for_each(|root| sweep_parts(root, SWEEP_DEPTH));
            })
            .ok()
    }

    /// Frees the reserved disk space. Returns `false` if none was reserved.
    pub(crate) fn give_up_reserve(&self) -> bool {
        let Some(reserve) = self.shared.reserve() else {
            return false;
        };
        self.blocking(move || fs_err::remove_file(reserve).is_ok())
            .unwrap_or(false)
    }

    /// Runs work on the disk without the object store, with the same timeout.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let operation = StoreOperation::Write;
        self.wait(async { tokio::task::spawn_blocking(work).await }, operation)?
            .map_err(|error| operation.failed(error))
    }

    /// Waits for the result of a call. Returns an error if the call takes too long.
    fn wait<T>(
        &self,
        call: impl Future<Output = T>,
        operation: StoreOperation,
    ) -> Result<T, StoreError> {
        let back_off = || {
            self.shared
                .back_off(operation)
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if back_off().is_some_and(|until| Instant::now() < until) {
            // Without this check, every decision would wait for the same file system.
            return Err(StoreError::Late { operation });
        }
        let outcome = self
            .shared
            .runtime
            .block_on(async { tokio::time::timeout(CALL_TIMEOUT, call).await });
        outcome.map_err(|_| {
            *back_off() = Some(Instant::now() + BACK_OFF);
            StoreError::Late { operation }
        })
    }

    fn put(&self, path: &str, text: Vec<u8>, mode: PutMode) -> Result<(), StoreError> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let location = Path::from(path);
        let objects = self.shared.writable()?;
        let put = objects.put_opts(&location, PutPayload::from(text), options);
        match self.wait(put, StoreOperation::Write)? {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. }) => Err(StoreError::Exists(path.to_owned())),
            Err(error) => Err(StoreOperation::Write.failed(cause(error))),
        }
    }

    /// Reads an object. Returns `None` if it does not exist.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let location = Path::from(path);
        let Some(objects) = self.shared.existing()? else {
            return Ok(None);
        };
        let get = async { objects.get(&location).await?.bytes().await };
        match self.wait(get, StoreOperation::Read)? {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreOperation::Read.failed(cause(error))),
        }
    }

    /// The names of the objects directly in `directory`, sorted.
    pub(crate) fn list(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        let (objects, _) = self.list_paths(directory)?;
        Ok(file_names(&objects))
    }

    /// The names of the directories directly in `directory`, sorted.
    pub(crate) fn list_directories(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        let (_, directories) = self.list_paths(directory)?;
        Ok(file_names(&directories))
    }

    /// The objects and the directories in `directory`. Both are empty if it does not exist.
    fn list_paths(&self, directory: &str) -> Result<(Vec<Path>, Vec<Path>), StoreError> {
        let location = Path::from(directory);
        let Some(objects) = self.shared.existing()? else {
            return Ok((Vec::new(), Vec::new()));
        };
        let listing = objects.list_with_delimiter(Some(&location));
        match self.wait(listing, StoreOperation::List)? {
            Ok(listing) => {
                let objects = listing.objects.into_iter().map(|object| object.location);
                Ok((objects.collect(), listing.common_prefixes))
            }
            Err(Error::NotFound { .. }) => Ok((Vec::new(), Vec::new())),
            Err(error) => Err(StoreOperation::List.failed(cause(error))),
        }
    }
}

fn file_names(paths: &[Path]) -> Vec<String> {
    let mut names: Vec<String> = paths
        .iter()
        .filter_map(Path::filename)
        .map(str::to_owned)
        .collect();
    // A file system lists names in any order.
    names.sort();
    names
}

/// Writes the reserve, unless it exists or there is no journal yet. A state directory without a
/// journal must stay empty.
fn write_reserve(reserve: &std::path::Path) -> std::io::Result<()> {
    let has_journal = reserve
        .parent()
        .is_some_and(|state| state.join("journal").is_dir());
    if reserve.exists() || !has_journal {
        return Ok(());
    }
    // The content is not zeros, because some file systems don't store zeros.
    let filling: Vec<u8> = (0..RESERVE_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    fs_err::write(reserve, filling).inspect_err(|_| {
        let _ = fs_err::remove_file(reserve);
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::journal::store::{Store, StoreError, StoreOperation};

    fn is_late(result: Result<(), StoreError>) -> bool {
        matches!(
            result,
            Err(StoreError::Late {
                operation: StoreOperation::Write
            })
        )
    }

    #[test]
    fn a_store_that_hangs_delays_one_call_and_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().join("state")).unwrap();
        store.create("journal/m/1.json", b"1".to_vec()).unwrap();
        assert!(is_late(
            store.wait(std::future::pending::<()>(), StoreOperation::Write)
        ));
        let began = Instant::now();
        for _ in 0..10 {
            assert!(is_late(store.create("journal/m/2.json", Vec::new())));
            assert!(!store.give_up_reserve());
            store.keep_reserve();
        }
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "each was waited for"
        );
        assert_eq!(store.read("journal/m/1.json").unwrap().unwrap(), b"1");
    }

    #[test]
    fn parts_that_nobody_writes_any_more_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().to_path_buf()).unwrap();
        store.create("journal/m/1.json", Vec::new()).unwrap();
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let parts = [
            "journal/m/2.json#1",
            "journal/m/3.json#1",
            "journal/m/4.json#x",
        ]
        .map(|part| directory.path().join(part));
        for (part, is_old) in parts.iter().zip([true, false, true]) {
            let file = std::fs::File::create(part).unwrap();
            if is_old {
                file.set_modified(old).unwrap();
            }
        }
        store.sweep().unwrap().join().unwrap();
        assert_eq!(parts.map(|part| part.exists()), [false, true, true]);
        assert!(directory.path().join("journal/m/1.json").exists());
    }

    #[test]
    fn a_reserve_is_kept_next_to_a_journal_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().to_path_buf()).unwrap();
        store.keep_reserve();
        assert!(!directory.path().join("reserve").exists());
        store.create("journal/m/1.json", Vec::new()).unwrap();
        store.keep_reserve();
        assert!(store.give_up_reserve() && !store.give_up_reserve());
    }
}
