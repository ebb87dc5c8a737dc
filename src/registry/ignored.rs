//! Ignored: what was meant as a model and is not taken, and why.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{
    id::{ModelName, Version},
    package::{MODEL_FILE, bare, manifest},
    registry::source::{Listing, directories},
};

/// A directory that is not served, or not read any more, though somebody may believe that it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    pub reason: Reason,
    /// Below the models directory; that directory itself where it is the wrong one.
    pub path: PathBuf,
    /// The rule, and what to do.
    pub detail: String,
}

/// The label of `predictd_models_ignored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    RootAbsent,
    RootEmpty,
    RootTooDeep,
    RootTooShallow,
    ModelName,
    VersionName,
    LeadingZero,
    NoVersionDirectory,
    FileName,
    FilesGone,
}

impl Reason {
    pub const ALL: [Reason; 10] = [
        Reason::RootAbsent,
        Reason::RootEmpty,
        Reason::RootTooDeep,
        Reason::RootTooShallow,
        Reason::ModelName,
        Reason::VersionName,
        Reason::LeadingZero,
        Reason::NoVersionDirectory,
        Reason::FileName,
        Reason::FilesGone,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Reason::RootAbsent => "root_absent",
            Reason::RootEmpty => "root_empty",
            Reason::RootTooDeep => "root_too_deep",
            Reason::RootTooShallow => "root_too_shallow",
            Reason::ModelName => "model_name",
            Reason::VersionName => "version_name",
            Reason::LeadingZero => "leading_zero",
            Reason::NoVersionDirectory => "no_version_directory",
            Reason::FileName => "file_name",
            Reason::FilesGone => "files_gone",
        }
    }

    /// What becomes of the version: one that was loaded goes on.
    pub fn outcome(self) -> &'static str {
        if self == Reason::FilesGone { "served without its files" } else { "not served" }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.detail)
    }
}

const LAYOUT: &str = "the layout is NAME/VERSION/ with a package (manifest.json), or NAME/NUMBER/model.onnx, below models.root";

impl Ignored {
    fn new(reason: Reason, path: &Path, detail: String) -> Ignored {
        Ignored { reason, path: path.to_path_buf(), detail }
    }

    pub fn model_name(path: &Path) -> Ignored {
        let rule = "letters, digits, '.', '_' and '-', at most 128, the first a letter or a digit";
        Ignored::new(Reason::ModelName, path, format!("its name is not a model name ({rule}): rename it"))
    }

    pub fn no_version_directory(path: &Path) -> Ignored {
        let file = if path_holds_manifest(path) { manifest::FILE } else { MODEL_FILE };
        Ignored::new(
            Reason::NoVersionDirectory,
            path,
            format!("its files lie in no version's directory: move them to 1/ ({file} in 1/{file})"),
        )
    }

    pub fn version_name(path: &Path, text: &str) -> Ignored {
        match text.trim_start_matches('0') {
            number if number.len() < text.len() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = if number.is_empty() { "0" } else { number };
                Ignored::new(Reason::LeadingZero, path, format!("a version has no leading zero: rename it to {number}"))
            }
            _ => Ignored::new(Reason::VersionName, path, "its name is not a version (like 1.0.0, or a whole number): rename it".to_owned()),
        }
    }

    /// A version's directory with a graph of another name.
    pub fn file_name(path: &Path, file: &str) -> Ignored {
        let detail =
            format!("holds {file}, but only {MODEL_FILE} is served (default_model_filename of config.pbtxt is not followed): rename it");
        Ignored::new(Reason::FileName, path, detail)
    }

    pub fn files_gone(path: &Path) -> Ignored {
        let detail = "it answers from memory, or from the copy kept in the state: put its files back, or move traffic off it";
        Ignored::new(Reason::FilesGone, path, detail.to_owned())
    }
}

/// Whether a directory looks as if somebody meant it to be a version.
pub fn is_meant(directory: &Path) -> bool {
    path_holds_manifest(directory) || graph_in(directory).is_some()
}

fn path_holds_manifest(directory: &Path) -> bool {
    directory.join(manifest::FILE).is_file()
}

/// The name of a graph's file there: `model.onnx`, else the first that ends so.
pub fn graph_in(directory: &Path) -> Option<String> {
    if directory.join(MODEL_FILE).is_file() {
        return Some(MODEL_FILE.to_owned());
    }
    let names = fs_err::read_dir(directory).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".onnx") && !name.starts_with('.')).min()
}

/// Everything of a look at the models directory, its own faults included.
pub fn of(directory: &Path, look: &io::Result<Listing>) -> Vec<Ignored> {
    let listing = match look {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return vec![absent(directory)],
        // One that can't be read may be the right one.
        Err(_) => return Vec::new(),
    };
    match root(directory, listing) {
        // What lies below a wrong directory is not what is wrong.
        Some(fault) if matches!(fault.reason, Reason::RootTooDeep | Reason::RootTooShallow) => vec![fault],
        fault => listing.ignored.iter().cloned().chain(fault).collect(),
    }
}

/// What is wrong with the models directory itself, where it holds no model.
fn root(root: &Path, listing: &Listing) -> Option<Ignored> {
    if !listing.models.is_empty() || !listing.unreadable.is_empty() {
        return None;
    }
    let found = directories(root, 0).ok()?;
    let whole = fs_err::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
    let parent = |levels: usize| whole.ancestors().nth(levels).unwrap_or(Path::new("/"));
    if is_meant(root) {
        let detail = match bare::id_of(&whole) {
            Some(_) => format!("models.root is one version's directory; name {} instead: {LAYOUT}", parent(2).display()),
            None => format!("a model's files lie right in models.root; move them to NAME/1/ below it: {LAYOUT}"),
        };
        return Some(Ignored::new(Reason::RootTooDeep, root, detail));
    }
    let versions = |directory: &Path| {
        let below = directories(directory, 1).unwrap_or_default();
        below.into_iter().any(|(text, path)| Version::parse(&text).is_some() && is_meant(&path))
    };
    if versions(root) {
        let detail = format!("models.root is one model's directory; name {} instead: {LAYOUT}", parent(1).display());
        return Some(Ignored::new(Reason::RootTooDeep, root, detail));
    }
    let above = found.iter().find(|(_, path)| {
        let below = directories(path, 1).unwrap_or_default();
        below.iter().any(|(text, path)| ModelName::parse(text).is_some() && versions(path))
    });
    if let Some((_, path)) = above {
        let detail = format!("models.root is one level too high; name {} instead: {LAYOUT}", path.display());
        return Some(Ignored::new(Reason::RootTooShallow, root, detail));
    }
    listing.ignored.is_empty().then(|| Ignored::new(Reason::RootEmpty, root, format!("models.root holds no model; {LAYOUT}")))
}

/// A models directory that is not there.
fn absent(root: &Path) -> Ignored {
    Ignored::new(Reason::RootAbsent, root, format!("models.root does not exist, or is no directory; {LAYOUT}"))
}

#[cfg(test)]
mod tests {
    use crate::registry::{
        ignored::{Ignored, of},
        source::list,
    };

    fn check(files: &[&str], below: &str) -> Vec<(&'static str, String)> {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x").unwrap();
        }
        let at = directory.path().join(below);
        let show = |ignored: &Ignored| {
            let path = ignored.path.strip_prefix(&at).unwrap_or(&ignored.path);
            (ignored.reason.name(), path.to_string_lossy().into_owned())
        };
        of(&at, &list(&at)).iter().map(show).collect()
    }

    #[test]
    fn what_was_meant_as_a_model_is_told_with_the_reason() {
        let good = "good/1/model.onnx";
        for (file, reason, path) in [
            ("flat/model.onnx", "no_version_directory", "flat"),
            ("flat/manifest.json", "no_version_directory", "flat"),
            ("word/v1/model.onnx", "version_name", "word/v1"),
            ("word/1.0/manifest.json", "version_name", "word/1.0"),
            ("a name/1/model.onnx", "model_name", "a name"),
            ("zero/03/model.onnx", "leading_zero", "zero/03"),
            ("other/2/net.onnx", "file_name", "other/2"),
        ] {
            assert_eq!(check(&[good, file], ""), [(reason, path.to_owned())], "{file}");
        }
        for file in ["churn/1.0.0/manifest.json", "notes/readme.txt", "good/notes/x", ".hidden/model.onnx", "good/.2/model.onnx"] {
            assert_eq!(check(&[good, file], ""), [], "{file}");
        }
    }

    #[test]
    fn a_wrong_root_is_told() {
        for (files, below, reason) in [
            (&["models/churn/1.0.0/manifest.json"][..], "models/churn", "root_too_deep"),
            (&["models/churn/1.0.0/manifest.json"], "models/churn/1.0.0", "root_too_deep"),
            (&["model/model.onnx"], "model", "root_too_deep"),
            (&["models/7/1/model.onnx", "models/7/2/model.onnx"], "models/7", "root_too_deep"),
            (&["models/churn/1.0.0/manifest.json"], "", "root_too_shallow"),
            (&["models/.keep"], "models", "root_empty"),
            (&["models/notes/x"], "models", "root_empty"),
        ] {
            assert_eq!(check(files, below), [(reason, String::new())], "{files:?} {below}");
        }
        assert_eq!(check(&["models/churn/1.0.0/manifest.json"], "models"), []);
        assert_eq!(check(&["models"], "models"), [("root_absent", String::new())], "a file");
        assert_eq!(check(&[], "nowhere"), [("root_absent", String::new())]);
    }
}
