//! Staging: a directory aside that becomes a package whole, or goes.

use std::path::{Path, PathBuf};

/// Its name begins with a dot: no server looks at it.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Makes one where a rename reaches `target`: in the nearest directory above that is there.
    pub fn beside(target: &Path, label: &str) -> anyhow::Result<Staging> {
        let target = std::path::absolute(target)?;
        let above = target
            .ancestors()
            .skip(1)
            .find(|path| path.is_dir())
            .unwrap_or(Path::new("/"));
        Staging::within(above, label)
    }

    /// Makes one in `parent`, and that too.
    pub fn within(parent: &Path, label: &str) -> anyhow::Result<Staging> {
        let directory = parent.join(format!(".{label}-{}", std::process::id()));
        fs_err::create_dir_all(&directory)?;
        Ok(Staging(directory))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves it to its place, which is free or an empty directory.
    pub fn publish(self, target: &Path) -> std::io::Result<()> {
        target.parent().map_or(Ok(()), fs_err::create_dir_all)?;
        fs_err::rename(&self.0, target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After the move there is nothing here.
        let _ = fs_err::remove_dir_all(&self.0);
    }
}
