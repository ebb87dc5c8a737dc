//! The versions of a Triton model repository.

use std::path::{Path, PathBuf};

use crate::{
    id::{ModelId, ModelName, Version},
    package::{
        MODEL_FILE, PackageCheck, PackageError,
        bare::{self, CONFIG_FILE},
        import::resolve_inside,
    },
};

/// A version in the repository.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RepositoryVersion {
    pub id: ModelId,
    /// `NAME/VERSION` in the repository.
    pub directory: PathBuf,
    pub graph: PathBuf,
    /// The directory that was given to the import. No file outside of it is read.
    pub root: PathBuf,
}

/// A version with its label `NAME/VERSION`, or an error with the label `NAME` if no version of the
/// model can be imported.
pub(super) type FoundVersion = (String, Result<RepositoryVersion, PackageError>);

/// Finds every version of every model of a repository, or of one model's directory, sorted.
pub(crate) fn find_versions(directory: &Path) -> Result<Vec<FoundVersion>, PackageError> {
    let below = directories(directory)?;
    // The given directory is a repository, or one model in a repository.
    let is_model =
        directory.join(CONFIG_FILE).exists() || below.iter().any(|(name, _)| is_number(name));
    if is_model {
        // The path may be `.`, which has no name, or a link, which has another name.
        let absolute =
            fs_err::canonicalize(directory).map_err(|error| PackageError::io("", error))?;
        let name = absolute
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        return versions(&name, directory, directory);
    }
    let mut found = Vec::new();
    for (name, model_directory) in below {
        // Other directories, such as documents, are not models.
        if model_directory.join(CONFIG_FILE).exists()
            || directories(&model_directory)?
                .iter()
                .any(|(name, _)| is_number(name))
        {
            found.extend(versions(&name, &model_directory, directory)?);
        }
    }
    Ok(found)
}

fn is_number(name: &str) -> bool {
    Version::parse(name).is_some_and(|version| version.is_number())
}

/// The directories in a directory, in the order of their numbers.
fn directories(directory: &Path) -> Result<Vec<(String, PathBuf)>, PackageError> {
    let failed = |error: std::io::Error| PackageError::io(&directory.to_string_lossy(), error);
    let mut found = Vec::new();
    for entry in fs_err::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Hidden directories are not models: git and editors make them.
        if entry.path().is_dir() && !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    // Version 10 comes after version 9.
    found.sort_by_cached_key(|(name, _)| (name.parse::<u64>().ok(), name.clone()));
    Ok(found)
}

/// The versions of one model; `text` is its name.
fn versions(text: &str, directory: &Path, root: &Path) -> Result<Vec<FoundVersion>, PackageError> {
    let fails = |error: PackageError| Ok(vec![(text.to_owned(), Err(error))]);
    let Some(name) = ModelName::parse(text) else {
        return fails(PackageError::new(
            PackageCheck::Files,
            text,
            "is not a model name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 128)",
        ));
    };
    // A model of another framework is one error, and not one for each version.
    let config = directory.join(CONFIG_FILE);
    if let Err(error) = if config.exists() {
        resolve_inside(root, &config).and_then(|_| bare::read_config(directory))
    } else {
        Ok(None)
    } {
        return fails(error);
    }
    let mut found = Vec::new();
    for (version, directory) in directories(directory)? {
        let Some(version) = Version::parse(&version).filter(Version::is_number) else {
            continue;
        };
        let id = ModelId {
            name: name.clone(),
            version,
        };
        found.push((
            id.to_string(),
            find_graph(&directory).map(|graph| RepositoryVersion {
                id,
                directory,
                graph,
                root: root.to_path_buf(),
            }),
        ));
    }
    if found.is_empty() {
        return fails(PackageError::new(
            PackageCheck::Files,
            text,
            "contains no version; a directory named by a whole number was expected",
        ));
    }
    Ok(found)
}

/// The path of `model.onnx`, which may be a directory with the graph and its external data.
fn find_graph(version: &Path) -> Result<PathBuf, PackageError> {
    let plain = version.join(MODEL_FILE);
    let graph = if plain.is_dir() {
        plain.join(MODEL_FILE)
    } else {
        plain
    };
    if graph.is_file() {
        return Ok(graph);
    }
    let entries = fs_err::read_dir(version).map_err(|error| PackageError::io(MODEL_FILE, error))?;
    let mut others: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    others.sort();
    // A few names are enough to see which framework the model is of.
    others.truncate(5);
    let detail = match others.is_empty() {
        true => "is missing; the version's directory is empty".to_owned(),
        false => format!(
            "is missing; there is {}; only ONNX models can be imported",
            others.join(", ")
        ),
    };
    Err(PackageError::new(PackageCheck::Files, MODEL_FILE, detail))
}
