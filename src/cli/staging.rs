//! `Staging`: a temporary directory that becomes a package in one rename, or is removed.

use std::path::{Path, PathBuf};

/// A temporary directory. Its name begins with a dot, so servers ignore it.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Creates a directory in the nearest existing ancestor of `target`, because a rename works
    /// only within one file system.
    pub(super) fn next_to(target: &Path, label: &str) -> anyhow::Result<Staging> {
        let target = std::path::absolute(target)?;
        let above = target
            .ancestors()
            .skip(1)
            .find(|path| path.is_dir())
            .unwrap_or(Path::new("/"));
        Staging::within(above, label)
    }

    /// Creates a directory in `parent`. Creates `parent` if it does not exist.
    pub(super) fn within(parent: &Path, label: &str) -> anyhow::Result<Staging> {
        let directory = parent.join(format!(".{label}-{}", std::process::id()));
        fs_err::create_dir_all(&directory)?;
        Ok(Staging(directory))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Moves the directory to `target`, which must be absent or an empty directory.
    pub(super) fn publish(self, target: &Path) -> std::io::Result<()> {
        target.parent().map_or(Ok(()), fs_err::create_dir_all)?;
        fs_err::rename(&self.0, target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // This fails after `publish`, because the directory was moved.
        let _ = fs_err::remove_dir_all(&self.0);
    }
}
