//! Copies and moves files so that a power failure leaves either a complete copy or no copy.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use crate::registry::{integrity::IntegrityChecks, package_copies::CopyError};

/// Disk space in bytes that copies leave free for the journal. On a small disk it is `1 /
/// RESERVED_PART` of the disk.
const RESERVED_BYTES: u64 = 64 << 20;
const RESERVED_PART: u64 = 20;

/// The number of bytes after which a copy waits until they are on the disk. Otherwise the end of a
/// large copy would wait for gigabytes that the system still has in memory.
const SYNC_INTERVAL_BYTES: usize = 64 << 20;

/// The number of directory levels from a version's copy to the state directory: NAME, DIGEST, NAME,
/// `packages` and the state directory itself.
const LEVELS: usize = 5;

/// Reads one file and writes its bytes to another file. Both operations stop if the process is
/// about to end.
pub(super) struct CopyReader<'a> {
    source: fs_err::File,
    target: &'a fs_err::File,
    unsynced: usize,
    integrity: &'a IntegrityChecks,
}

impl<'a> CopyReader<'a> {
    pub(super) fn new(
        source: fs_err::File,
        target: &'a fs_err::File,
        integrity: &'a IntegrityChecks,
    ) -> CopyReader<'a> {
        CopyReader {
            source,
            target,
            unsynced: 0,
            integrity,
        }
    }
}

impl Read for CopyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.integrity.check_running()?;
        let count = self.source.read(buffer)?;
        self.target
            .write_all(buffer.get(..count).unwrap_or_default())?;
        self.unsynced += count;
        if self.unsynced >= SYNC_INTERVAL_BYTES {
            self.unsynced = 0;
            self.target.sync_data()?;
        }
        Ok(count)
    }
}

/// Moves a complete copy to its place. A damaged copy at this place is moved to `aside`.
///
/// The files next to the versions are moved first, so that a version can be loaded as soon as it
/// appears.
pub(super) fn install(staged: &Path, copy: &Path, aside: Option<&Path>) -> io::Result<()> {
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
        // The damaged copy is restored, because parts of it may still be readable.
        let _ = aside.map(|aside| fs_err::rename(aside, copy));
    })?;
    to.ancestors().take(LEVELS).try_for_each(sync_directory)
}

/// Ensures that renames and new files in the directory survive a power failure, if the file system
/// supports it.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match fs_err::File::open(directory)?.sync_all() {
        // Some network file systems can't sync a directory.
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

/// Refuses a copy that would leave too little free disk space.
pub(super) fn check_room(directory: &Path, needed: u64) -> Result<(), CopyError> {
    let statistics = rustix::fs::statvfs(directory).map_err(io::Error::from)?;
    let free = statistics.f_bavail.saturating_mul(statistics.f_frsize);
    let total = statistics.f_blocks.saturating_mul(statistics.f_frsize);
    let reserved = RESERVED_BYTES.min(total / RESERVED_PART);
    // Some file systems report a size of 0.
    if total > 0 && free < needed.saturating_add(reserved) {
        return Err(CopyError::NoRoom {
            needed,
            free,
            reserved,
            directory: directory.to_path_buf(),
        });
    }
    Ok(())
}
