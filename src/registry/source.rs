//! Source: what lies in the models directory. Looks by polling, since network file systems tell nothing.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use crate::{
    id::{ModelName, Version},
    registry::ignored::{IgnoredPath, is_meant},
};

/// A version directory as it looks from outside; the same files give the same fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDirectory {
    pub directory: PathBuf,
    pub fingerprint: u64,
}

#[derive(Debug, Default)]
pub struct Listing {
    pub models: BTreeMap<ModelName, BTreeMap<Version, FoundDirectory>>,
    /// Models whose directory can't be listed: what is known of them stays as it is.
    pub unreadable: BTreeMap<ModelName, io::Error>,
    /// What was meant as a model and is not taken.
    pub ignored: Vec<IgnoredPath>,
}

/// All `NAME/VERSION/` directories below `root`. Names that begin with a dot are staging areas and not looked at.
///
/// # Errors
/// When `root` can't be listed: a failing disk must not look like an order to unload.
pub fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for (text, directory) in directories(root, 0)? {
        let Some(name) = ModelName::parse(&text) else {
            let below = directories(&directory, 1).unwrap_or_default();
            if is_meant(&directory) || below.iter().any(|(_, directory)| is_meant(directory)) {
                listing.ignored.push(IgnoredPath::model_name(&directory));
            }
            continue;
        };
        let found = match directories(&directory, 1) {
            Ok(found) => found,
            Err(error) => {
                listing.unreadable.insert(name, error);
                continue;
            }
        };
        let mut versions = BTreeMap::new();
        for (text, directory) in found {
            if let Some(version) = Version::parse(&text) {
                listing
                    .ignored
                    .extend(IgnoredPath::file_name(&directory, &version));
                versions.insert(version, found_at(directory));
            } else if is_meant(&directory) && !is_alias(&directory) {
                listing
                    .ignored
                    .push(IgnoredPath::version_name(&directory, &text));
            }
        }
        if versions.is_empty() && is_meant(&directory) {
            listing
                .ignored
                .push(IgnoredPath::no_version_directory(&directory));
        }
        if !versions.is_empty() {
            listing.models.insert(name, versions);
        }
    }
    Ok(listing)
}

/// `latest -> 3`: a second name of a version that is taken under its own.
fn is_alias(directory: &Path) -> bool {
    let target = || {
        Some(
            fs_err::canonicalize(directory).ok()?.parent()?
                == fs_err::canonicalize(directory.parent()?).ok()?,
        )
    };
    directory.is_symlink() && target().unwrap_or(false)
}

pub fn directories(parent: &Path, depth: usize) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs_err::read_dir(parent) {
        Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
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

/// A version's directory as it looks now.
pub fn found_at(directory: PathBuf) -> FoundDirectory {
    let fingerprint = fingerprint(&directory);
    FoundDirectory {
        directory,
        fingerprint,
    }
}

/// Names, sizes and times of all files below; contents are the manifest's business.
fn fingerprint(directory: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(directory, &mut hasher, 0);
    hasher.finish()
}

fn add(directory: &Path, hasher: &mut DefaultHasher, depth: usize) {
    let Ok(entries) = fs_err::read_dir(directory) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        path.hash(hasher);
        if let Ok(metadata) = fs_err::metadata(&path) {
            metadata.len().hash(hasher);
            metadata.modified().ok().hash(hasher);
            if metadata.is_dir() && depth < 8 {
                add(&path, hasher, depth + 1);
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
