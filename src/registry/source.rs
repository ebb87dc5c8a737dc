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
    package::manifest,
    registry::{
        directories::directories,
        ignored::{IgnoredPath, looks_like_version},
    },
};

/// Maximum depth below a version's directory that the fingerprint includes.
const MAX_DEPTH: usize = 8;

/// Maximum number of files of one version that the fingerprint includes. A package has no more
/// files.
const MAX_FILES: usize = manifest::MAX_FILES;

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
    list_until(root, &|| false)
}

/// Does the same as `list`, and ends early once `is_stopped` returns true.
pub(super) fn list_until(root: &Path, is_stopped: &dyn Fn() -> bool) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for (text, directory) in directories(root, 0)? {
        if is_stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match ModelName::parse(&text) {
            Some(name) => listing.add_model(name, &directory, is_stopped),
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
    fn add_model(&mut self, name: ModelName, directory: &Path, is_stopped: &dyn Fn() -> bool) {
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
            // The caller discards the listing.
            if is_stopped() {
                return;
            }
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

/// A hash of the names, sizes and times of the files below the directory. Only a load reads the
/// contents.
fn fingerprint(directory: &Path) -> u64 {
    let mut hasher = FileHasher {
        hasher: DefaultHasher::new(),
        remaining: MAX_FILES,
    };
    // A directory with the name of a version may be anything, such as `/proc/1`, whose links lead
    // to the whole disk. A manifest or a graph that arrives later changes the listing itself.
    let depth = if looks_like_version(directory) {
        MAX_DEPTH
    } else {
        0
    };
    hasher.add_directory(directory, depth);
    hasher.hasher.finish()
}

struct FileHasher {
    hasher: DefaultHasher,
    /// The number of files that may still be added.
    remaining: usize,
}

impl FileHasher {
    /// Adds the files in the directory, and those at most `depth` levels below.
    fn add_directory(&mut self, directory: &Path, depth: usize) {
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
            let Some(remaining) = self.remaining.checked_sub(1) else {
                return;
            };
            self.remaining = remaining;
            // A renamed file with the same content also changes the package.
            path.hash(&mut self.hasher);
            if let Ok(metadata) = fs_err::metadata(&path) {
                metadata.len().hash(&mut self.hasher);
                metadata.modified().ok().hash(&mut self.hasher);
                if metadata.is_dir() && depth > 0 {
                    self.add_directory(&path, depth - 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use crate::registry::source::{FileHasher, FoundDirectory, MAX_DEPTH, list, list_until};

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

    /// A link to a directory above the models directory, as in `/proc/1/root`.
    #[test]
    fn a_directory_that_is_no_version_is_not_searched() {
        let root = tempfile::tempdir().unwrap();
        let version = root.path().join("proc/1");
        fs_err::create_dir_all(version.join("files")).unwrap();
        std::os::unix::fs::symlink(root.path(), version.join("root")).unwrap();
        fs_err::write(version.join("files/old"), "x").unwrap();
        let mut hasher = FileHasher {
            hasher: DefaultHasher::new(),
            remaining: 10,
        };
        hasher.add_directory(&version, 0);
        assert_eq!(hasher.remaining, 8, "`files` and `root`");
        let before = list(root.path()).unwrap().models;
        assert_eq!(
            before.values().next().unwrap().values().next().unwrap(),
            &FoundDirectory {
                directory: version.clone(),
                fingerprint: hasher.hasher.finish(),
            }
        );
        fs_err::write(version.join("model.onnx"), "x").unwrap();
        assert_ne!(list(root.path()).unwrap().models, before);
    }

    #[test]
    fn the_number_of_files_in_a_fingerprint_is_limited() {
        let root = tempfile::tempdir().unwrap();
        fs_err::write(root.path().join("model.onnx"), "x").unwrap();
        // Every level has the whole tree below it again: without a limit, 8 levels of 8 links.
        for name in 0..8 {
            let link = root.path().join(name.to_string());
            std::os::unix::fs::symlink(root.path(), link).unwrap();
        }
        let mut hasher = FileHasher {
            hasher: DefaultHasher::new(),
            remaining: 100,
        };
        hasher.add_directory(root.path(), MAX_DEPTH);
        assert_eq!(hasher.remaining, 0);
    }

    #[test]
    fn a_listing_can_be_stopped() {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(root.path().join("churn/1.0.0")).unwrap();
        let error = list_until(root.path(), &|| true).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    }
}
