//! Store: where entries and evidence lie. Create-if-absent is all that it asks of the place.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, local::LocalFileSystem,
    memory::InMemory, path::Path,
};
use tokio::runtime::Runtime;

use crate::clock;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote it first.
    #[error("{0} exists already")]
    Exists(String),
    #[error("the state can't be {doing}: {detail}")]
    Failed { doing: &'static str, detail: String },
    /// A call may still come to its end later.
    #[error("the state can't be {doing}: no answer within {} s; whether it was carried out is not known", PATIENCE.as_secs())]
    Late { doing: &'static str },
}

/// A store with calls that wait; not to be called on a network thread.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    place: Place,
    runtime: Runtime,
    /// Until when nothing is read, or written, because a call did not answer.
    no_reads_until: Mutex<Option<Instant>>,
    no_writes_until: Mutex<Option<Instant>>,
    /// It was told that there is no room for the reserve.
    told: AtomicBool,
}

/// How long a store that does not answer is waited for; a rollback must not wait for a file system that hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long such a store is then left alone: whoever decides meanwhile does not wait at all.
const LEFT_ALONE: Duration = Duration::from_secs(6);

const WRITTEN: &str = "written";

/// Calls that hang each hold a thread.
const MAX_THREADS: usize = 8;

/// An entry with its evidence has a few thousand bytes.
const RESERVE_BYTES: usize = 256 << 10;

enum Place {
    Memory(InMemory),
    Directory(PathBuf, OnceLock<LocalFileSystem>),
}

/// How old a part of an object must be before nobody writes it any more.
const ABANDONED: Duration = Duration::from_secs(3600);

fn sweep(directory: &std::path::Path, depth: usize) {
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
        if is_part && modified().is_some_and(|at| !clock::is_recent(at, ABANDONED)) {
            let _ = fs_err::remove_file(&path);
        } else if depth > 0 && path.is_dir() {
            sweep(&path, depth - 1);
        }
    }
}

impl Inner {
    fn reserve(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Memory(_) => None,
            Place::Directory(directory, _) => Some(directory.join("reserve")),
        }
    }

    /// `None`: there is nothing yet, and it is not to be made.
    fn objects(&self, make: bool) -> Result<Option<&dyn ObjectStore>, StoreError> {
        let (directory, opened) = match &self.place {
            Place::Memory(objects) => return Ok(Some(objects)),
            Place::Directory(directory, opened) => (directory, opened),
        };
        if let Some(objects) = opened.get() {
            return Ok(Some(objects));
        }
        let failed = |detail: String| StoreError::Failed {
            doing: "opened",
            detail,
        };
        if make {
            fs_err::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        } else {
            match fs_err::metadata(directory) {
                Ok(about) if about.is_dir() => {}
                // Where no directory is, there are no decisions either.
                Ok(_) => return Ok(None),
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        let objects = LocalFileSystem::new_with_prefix(directory)
            .map_err(|error| failed(error.to_string()))?
            .with_fsync(true);
        Ok(Some(opened.get_or_init(|| objects)))
    }
}

impl Store {
    /// A directory of this machine, or one that several machines mount; what is written is on the disk when the call returns. It is
    /// made with the first writing: a server whose state can't be written serves all the same.
    pub fn local(directory: PathBuf) -> std::io::Result<Store> {
        Store::of(Place::Directory(directory, OnceLock::new()))
    }

    /// What is written is forgotten with the process.
    pub fn memory() -> std::io::Result<Store> {
        Store::of(Place::Memory(InMemory::new()))
    }

    fn of(place: Place) -> std::io::Result<Store> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_THREADS)
            .build()?;
        let inner = Inner {
            place,
            runtime,
            no_reads_until: Mutex::default(),
            no_writes_until: Mutex::default(),
            told: AtomicBool::new(false),
        };
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// Writes what must not exist yet.
    pub fn create(&self, path: &str, text: Vec<u8>) -> Result<(), StoreError> {
        self.put(path, text, PutMode::Create)
    }

    /// Writes, whole or not at all, whatever was there.
    pub fn replace(&self, path: &str, text: Vec<u8>) -> Result<(), StoreError> {
        self.put(path, text, PutMode::Overwrite)
    }

    /// Moves an object to a name that is free.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let (from, to) = (Path::from(from), Path::from(to));
        let Some(objects) = self.inner.objects(true)? else {
            return Ok(());
        };
        let renamed = self.wait(objects.rename_if_not_exists(&from, &to), WRITTEN)?;
        renamed.map_err(|error| StoreError::Failed {
            doing: WRITTEN,
            detail: error.to_string(),
        })
    }

    /// Takes room on the disk, for an urgent decision when all the rest is full. `false` where the disk is full; a store that can't
    /// for another reason is none the worse.
    pub fn keep_reserve(&self) -> bool {
        let Some(reserve) = self.inner.reserve() else {
            return true;
        };
        let keep = move || {
            // A state that was never written to is not begun with a reserve.
            if reserve.exists()
                || !reserve
                    .parent()
                    .is_some_and(|state| state.join("journal").is_dir())
            {
                return Ok(());
            }
            // Not zeros: some file systems give those no room.
            let filling: Vec<u8> = (0..RESERVE_BYTES).map(|at| (at * 31 % 251) as u8).collect();
            fs_err::write(&reserve, filling).inspect_err(|_| {
                let _ = fs_err::remove_file(&reserve);
            })
        };
        let Ok(kept) = self.blocking(keep) else {
            return true;
        };
        let told = self.inner.told.swap(kept.is_err(), Ordering::Relaxed);
        let Err(error) = kept else { return true };
        if !told {
            tracing::warn!(error = %error, "no room could be reserved for urgent decisions");
        }
        !matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    }

    /// Whether there was no room for the reserve when it was last tried.
    pub fn lacks_reserve(&self) -> bool {
        self.inner.told.load(Ordering::Relaxed)
    }

    /// Removes what a process that was killed left of objects that it was writing: other processes may be writing what is younger.
    /// Nobody waits for it: evidence may be thousands of files.
    pub fn sweep(&self) -> Option<JoinHandle<()>> {
        let Place::Directory(directory, _) = &self.inner.place else {
            return None;
        };
        let roots = ["journal", "evidence"].map(|place| directory.join(place));
        thread::Builder::new()
            .name("sweep".to_owned())
            .spawn(move || roots.iter().for_each(|root| sweep(root, 3)))
            .ok()
    }

    /// Frees the room that was kept; `false` where there was none.
    pub fn give_up_reserve(&self) -> bool {
        let Some(reserve) = self.inner.reserve() else {
            return false;
        };
        self.blocking(move || fs_err::remove_file(reserve).is_ok())
            .unwrap_or(false)
    }

    /// Work on the disk that is not the object store's own, waited for as long as that.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |error: tokio::task::JoinError| StoreError::Failed {
            doing: WRITTEN,
            detail: error.to_string(),
        };
        self.wait(async { tokio::task::spawn_blocking(work).await }, WRITTEN)?
            .map_err(failed)
    }

    /// The outcome of a call, or an error where there is none in time.
    fn wait<T>(&self, call: impl Future<Output = T>, doing: &'static str) -> Result<T, StoreError> {
        let refused = if doing == WRITTEN {
            &self.inner.no_writes_until
        } else {
            &self.inner.no_reads_until
        };
        let refused = || refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused().is_some_and(|until| Instant::now() < until) {
            return Err(StoreError::Late { doing });
        }
        let outcome = self
            .inner
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, call).await });
        outcome.map_err(|_| {
            *refused() = Some(Instant::now() + LEFT_ALONE);
            StoreError::Late { doing }
        })
    }

    fn put(&self, path: &str, text: Vec<u8>, mode: PutMode) -> Result<(), StoreError> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let location = Path::from(path);
        let Some(objects) = self.inner.objects(true)? else {
            return Ok(());
        };
        let put = objects.put_opts(&location, PutPayload::from(text), options);
        match self.wait(put, WRITTEN)? {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. }) => Err(StoreError::Exists(path.to_owned())),
            Err(error) => Err(StoreError::Failed {
                doing: WRITTEN,
                detail: error.to_string(),
            }),
        }
    }

    /// `None`: there is no such object.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let location = Path::from(path);
        let Some(objects) = self.inner.objects(false)? else {
            return Ok(None);
        };
        let get = async { objects.get(&location).await?.bytes().await };
        match self.wait(get, "read")? {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StoreError::Failed {
                doing: "read",
                detail: error.to_string(),
            }),
        }
    }

    /// The names of the objects right below `directory`, sorted.
    pub fn list(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        self.names(directory, false)
    }

    /// The names of the directories right below `directory`, sorted.
    pub fn list_directories(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        self.names(directory, true)
    }

    fn names(&self, directory: &str, directories: bool) -> Result<Vec<String>, StoreError> {
        let location = Path::from(directory);
        let Some(objects) = self.inner.objects(false)? else {
            return Ok(Vec::new());
        };
        let listing = self.wait(objects.list_with_delimiter(Some(&location)), "listed")?;
        let listing = match listing {
            Ok(listing) => listing,
            Err(Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => {
                return Err(StoreError::Failed {
                    doing: "listed",
                    detail: error.to_string(),
                });
            }
        };
        let objects = listing.objects.into_iter().map(|object| object.location);
        let paths: Vec<Path> = if directories {
            listing.common_prefixes
        } else {
            objects.collect()
        };
        let mut names: Vec<String> = paths
            .iter()
            .filter_map(Path::filename)
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::journal::store::{Store, StoreError, WRITTEN};

    #[test]
    fn a_store_that_hangs_is_waited_for_once_and_read_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().join("state")).unwrap();
        store.create("journal/m/1.json", b"1".to_vec()).unwrap();
        assert_eq!(
            store.wait(std::future::pending::<()>(), WRITTEN),
            Err(StoreError::Late { doing: WRITTEN })
        );
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(
                store.create("journal/m/2.json", Vec::new()),
                Err(StoreError::Late { doing: WRITTEN })
            );
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
    fn room_is_kept_beside_a_journal_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::local(directory.path().to_path_buf()).unwrap();
        store.keep_reserve();
        assert!(!directory.path().join("reserve").exists());
        store.create("journal/m/1.json", Vec::new()).unwrap();
        store.keep_reserve();
        assert!(store.give_up_reserve() && !store.give_up_reserve());
    }
}
