//! Lists the models directory. The server polls it, because network file systems do not report
//! changes.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use crate::{
    id::{ModelName, Version},
    registry::{
        directories::directories,
        ignored::{IgnoredPath, looks_like_version},
    },
};

/// Maximum depth below a version's directory that the fingerprint includes.
const MAX_DEPTH: usize = 8;

/// A version directory. The same files give the same fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundDirectory {
    pub directory: PathBuf,
    pub fingerprint: u64,
}

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub models: BTreeMap<ModelName, BTreeMap<Version, FoundDirectory>>,
    /// Models whose directory can't be listed. Their versions stay unchanged.
    pub unreadable: BTreeMap<ModelName, io::Error>,
    /// Paths that look like models but are not served.
    pub ignored: Vec<IgnoredPath>,
}

/// Lists all `NAME/VERSION/` directories below `root`. Names that start with a dot are staging
/// areas and are skipped.
///
/// # Errors
/// If `root` can't be listed. A failing disk must not be treated like an order to unload
/// everything.
pub(super) fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for (text, directory) in directories(root, 0)? {
        match ModelName::parse(&text) {
            Some(name) => listing.add_model(name, &directory),
            None if has_version_like_directory(&directory) => {
                listing.ignored.push(IgnoredPath::model_name(&directory));
            }
            None => {}
        }
    }
    Ok(listing)
}

fn has_version_like_directory(directory: &Path) -> bool {
    let below = directories(directory, 1).unwrap_or_default();
    looks_like_version(directory)
        || below
            .iter()
            .any(|(_, directory)| looks_like_version(directory))
}

impl Listing {
    fn add_model(&mut self, name: ModelName, directory: &Path) {
        let found = match directories(directory, 1) {
            Ok(found) => found,
            // The other models are listed anyway.
            Err(error) => {
                self.unreadable.insert(name, error);
                return;
            }
        };
        let mut versions = BTreeMap::new();
        for (text, directory) in found {
            if let Some(version) = Version::parse(&text) {
                self.ignored
                    .extend(IgnoredPath::file_name(&directory, &version));
                versions.insert(version, found_at(directory));
            } else if looks_like_version(&directory) && !is_alias(&directory) {
                self.ignored
                    .push(IgnoredPath::version_name(&directory, &text));
            }
        }
        if !versions.is_empty() {
            self.models.insert(name, versions);
        } else if looks_like_version(directory) {
            self.ignored
                .push(IgnoredPath::no_version_directory(directory));
        }
    }
}

/// Whether the directory is a symbolic link such as `latest -> 3`. The version is listed only under
/// its number.
fn is_alias(directory: &Path) -> bool {
    let is_sibling = || {
        let target = fs_err::canonicalize(directory).ok()?;
        let parent = fs_err::canonicalize(directory.parent()?).ok()?;
        Some(target.parent()? == parent)
    };
    directory.is_symlink() && is_sibling().unwrap_or(false)
}

/// The directory of a version, with its current fingerprint.
pub(super) fn found_at(directory: PathBuf) -> FoundDirectory {
    let fingerprint = fingerprint(&directory);
    FoundDirectory {
        directory,
        fingerprint,
    }
}

/// A hash of the names, sizes and times of all files below the directory. Only a load reads the
/// contents.
fn fingerprint(directory: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_files(directory, &mut hasher, 0);
    hasher.finish()
}

fn hash_files(directory: &Path, hasher: &mut DefaultHasher, depth: usize) {
    let Ok(entries) = fs_err::read_dir(directory) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    // A directory listing has no defined order, so the paths are sorted.
    paths.sort();
    for path in paths {
        // A renamed file with the same content also changes the package.
        path.hash(hasher);
        if let Ok(metadata) = fs_err::metadata(&path) {
            metadata.len().hash(hasher);
            metadata.modified().ok().hash(hasher);
            if metadata.is_dir() && depth < MAX_DEPTH {
                hash_files(&path, hasher, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::source::list;

    #[test]
    fn only_versions_of_models_are_listed_and_changes_show() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "churn/1.0.0",
            "churn/.staging",
            "churn/latest",
            ".git/1.0.0",
            "empty",
        ] {
            fs_err::create_dir_all(root.path().join(path)).unwrap();
        }
        fs_err::write(root.path().join("README.md"), "x").unwrap();
        let before = list(root.path()).unwrap().models;
        let names: Vec<String> = before
            .iter()
            .flat_map(|(name, versions)| {
                versions
                    .keys()
                    .map(move |version| format!("{name}/{version}"))
            })
            .collect();
        assert_eq!(names, ["churn/1.0.0"]);
        assert_eq!(list(root.path()).unwrap().models, before);
        fs_err::write(root.path().join("churn/1.0.0/model.onnx"), "x").unwrap();
        assert_ne!(list(root.path()).unwrap().models, before);
        assert!(list(&root.path().join("nowhere")).is_err());
    }
}
