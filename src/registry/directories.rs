//! Lists the directories in a directory.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The names and paths of the directories in `parent`. If `depth` is above 0, a missing parent is
/// treated as empty: it may have been removed after its own parent was listed.
pub(super) fn directories(parent: &Path, depth: usize) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs_err::read_dir(parent) {
        Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            // A name that is not UTF-8 is neither a model nor a version.
            .and_then(|name| name.to_str())
            .map(str::to_owned);
        if let Some(name) = name.filter(|name| !name.starts_with('.'))
            && path.is_dir()
        {
            found.push((name, path));
        }
    }
    Ok(found)
}
