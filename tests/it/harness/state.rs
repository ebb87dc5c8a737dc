//! The state of a server.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
};

use tempfile::TempDir;

/// The results of the load gate, which the servers of one test run share: each package is checked
/// once. A new run checks again, because the gate may have changed.
static GATE_RESULTS: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let of_ended_process = name
            .strip_prefix("gates-")
            .is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if of_ended_process {
            // Another run may remove it at the same time.
            let _ = fs_err::remove_dir_all(path);
        }
    }
    let shared = directory.join(format!("gates-{}", process::id()));
    fs_err::create_dir_all(&shared).unwrap();
    shared
});

/// A directory for a state without decisions.
pub fn empty_state() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    symlink(&*GATE_RESULTS, directory.path().join("gates")).unwrap();
    directory
}
