//! Staging: a temporary directory that becomes a package as a whole, or is removed.

use std::path::{Path, PathBuf};

/// Its name begins with a dot, so that servers ignore it.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Creates one on the file system of `target`, so that a rename works: in the nearest directory above it that exists.
    pub fn beside(target: &Path, label: &str) -> anyhow::Result<Staging> {
        let target = std::path::absolute(target)?;
        let above = target
            .ancestors()
            .skip(1)
            .find(|path| path.is_dir())
            .unwrap_or(Path::new("/"));
        Staging::within(above, label)
    }

    /// Creates one in `parent`, which is created as well if it does not exist.
    pub fn within(parent: &Path, label: &str) -> anyhow::Result<Staging> {
        let directory = parent.join(format!(".{label}-{}", std::process::id()));
        fs_err::create_dir_all(&directory)?;
        Ok(Staging(directory))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves it to its place, which must not exist or be an empty directory.
    pub fn publish(self, target: &Path) -> std::io::Result<()> {
        target.parent().map_or(Ok(()), fs_err::create_dir_all)?;
        fs_err::rename(&self.0, target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After the move there is nothing to remove.
        let _ = fs_err::remove_dir_all(&self.0);
    }
}
