//! IgnoredPath: what was meant as a model and is not taken, and why.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{
    id::{ModelName, Version},
    package::{
        MODEL_FILE, bare,
        manifest::{self, Manifest},
    },
    registry::source::{Listing, directories},
};

/// A directory that is not served, or not read any more, though somebody may believe that it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoredPath {
    pub reason: IgnoredReason,
    /// Below the models directory; that directory itself where it is the wrong one.
    pub path: PathBuf,
    /// The rule, and what to do.
    pub detail: String,
}

/// The label of `predictd_models_ignored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IgnoredReason {
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

impl IgnoredReason {
    pub const ALL: [IgnoredReason; 10] = [
        IgnoredReason::RootAbsent,
        IgnoredReason::RootEmpty,
        IgnoredReason::RootTooDeep,
        IgnoredReason::RootTooShallow,
        IgnoredReason::ModelName,
        IgnoredReason::VersionName,
        IgnoredReason::LeadingZero,
        IgnoredReason::NoVersionDirectory,
        IgnoredReason::FileName,
        IgnoredReason::FilesGone,
    ];

    pub fn name(self) -> &'static str {
        match self {
            IgnoredReason::RootAbsent => "root_absent",
            IgnoredReason::RootEmpty => "root_empty",
            IgnoredReason::RootTooDeep => "root_too_deep",
            IgnoredReason::RootTooShallow => "root_too_shallow",
            IgnoredReason::ModelName => "model_name",
            IgnoredReason::VersionName => "version_name",
            IgnoredReason::LeadingZero => "leading_zero",
            IgnoredReason::NoVersionDirectory => "no_version_directory",
            IgnoredReason::FileName => "file_name",
            IgnoredReason::FilesGone => "files_gone",
        }
    }

    /// What becomes of the version: one that was loaded goes on.
    pub fn outcome(self) -> &'static str {
        if self == IgnoredReason::FilesGone {
            "served without its files"
        } else {
            "not served"
        }
    }
}

impl fmt::Display for IgnoredPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.detail)
    }
}

const LAYOUT: &str = "the layout is NAME/VERSION/ with a package (manifest.json), or NAME/NUMBER/model.onnx, below models.root";

impl IgnoredPath {
    fn new(reason: IgnoredReason, path: &Path, detail: String) -> IgnoredPath {
        IgnoredPath {
            reason,
            path: path.to_path_buf(),
            detail,
        }
    }

    pub fn model_name(path: &Path) -> IgnoredPath {
        let rule = "letters, digits, '.', '_' and '-', at most 128, the first a letter or a digit";
        let below = directories(path, 1).unwrap_or_default();
        let said = below
            .iter()
            .find_map(|(_, version)| said(version))
            .map(|(name, _)| format!(" to {name}, as manifest.json says"));
        IgnoredPath::new(
            IgnoredReason::ModelName,
            path,
            format!(
                "its name is not a model name ({rule}): rename it{}",
                said.unwrap_or_default()
            ),
        )
    }

    pub fn no_version_directory(path: &Path) -> IgnoredPath {
        let (root, rule) = (
            path.parent().unwrap_or(path),
            "its files lie in no version's directory",
        );
        IgnoredPath::new(
            IgnoredReason::NoVersionDirectory,
            path,
            format!("{rule}: {}", move_to(root, path, "1/")),
        )
    }

    pub fn version_name(path: &Path, text: &str) -> IgnoredPath {
        let number = text.trim_start_matches('0');
        let (reason, rule, name) =
            match number.len() < text.len() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                true => {
                    let number = if number.is_empty() { "0" } else { number };
                    (
                        IgnoredReason::LeadingZero,
                        "a version has no leading zero",
                        format!("rename it to {number}"),
                    )
                }
                false => (
                    IgnoredReason::VersionName,
                    "its name is not a version (like 1.0.0, or a whole number)",
                    "rename it".to_owned(),
                ),
            };
        let place = said(path)
            .zip(path.ancestors().nth(2))
            .map(|((name, version), root)| {
                format!(
                    "{} says {name} {version}: move it to {}/",
                    manifest::FILE,
                    root.join(&name).join(&version).display()
                )
            });
        IgnoredPath::new(reason, path, format!("{rule}: {}", place.unwrap_or(name)))
    }

    /// A version's directory without a manifest, with a graph under a name that is not looked for, or a model that is no graph.
    pub fn file_name(path: &Path, version: &Version) -> Option<IgnoredPath> {
        if path_holds_manifest(path) {
            return None;
        }
        let detail = match (graph_in(path), foreign_in(path)) {
            (Some(file), _) if file == MODEL_FILE || !version.is_number() => return None,
            (Some(file), _) => {
                let configured = path
                    .parent()
                    .is_some_and(|model| model.join(bare::CONFIG_FILE).exists());
                let configured = if configured {
                    " (default_model_filename of config.pbtxt is not followed)"
                } else {
                    ""
                };
                format!("holds {file}, but only {MODEL_FILE} is served{configured}: rename it")
            }
            (None, Some(file)) => {
                format!("holds {file}, but only ONNX is served: export the model to {MODEL_FILE}")
            }
            (None, None) => return None,
        };
        Some(IgnoredPath::new(IgnoredReason::FileName, path, detail))
    }

    pub fn files_gone(path: &Path) -> IgnoredPath {
        let detail = "it answers from memory, or from the copy kept in the state: put its files back, or move traffic off it";
        IgnoredPath::new(IgnoredReason::FilesGone, path, detail.to_owned())
    }
}

/// Which version the manifest of a package says it is, wherever it lies.
fn said(directory: &Path) -> Option<(String, String)> {
    Manifest::read(directory)
        .ok()
        .map(|manifest| (manifest.name, manifest.version))
}

/// What to do with a model's files that lie in `path`: the place below `root`, or `otherwise` where the files don't say it.
fn move_to(root: &Path, path: &Path, otherwise: &str) -> String {
    if let Some((name, version)) = said(path) {
        let place = root.join(&name).join(&version);
        return format!(
            "{} says {name} {version}: move them to {}/",
            manifest::FILE,
            place.display()
        );
    }
    match graph_in(path).filter(|_| !path_holds_manifest(path)) {
        Some(file) => format!("move them to {otherwise} ({file} to {otherwise}{MODEL_FILE})"),
        None => format!(
            "move them to the directory NAME/VERSION/ of which {} speaks",
            manifest::FILE
        ),
    }
}

/// A model of another format.
fn foreign_in(directory: &Path) -> Option<String> {
    const ENDINGS: [&str; 16] = [
        "bst",
        "engine",
        "gguf",
        "graphdef",
        "h5",
        "joblib",
        "keras",
        "pb",
        "pickle",
        "pkl",
        "plan",
        "pt",
        "pth",
        "safetensors",
        "savedmodel",
        "tflite",
    ];
    let names = fs_err::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let foreign = |name: &String| {
        !name.starts_with('.')
            && name
                .rsplit_once('.')
                .is_some_and(|(_, ending)| ENDINGS.contains(&ending))
    };
    names.filter(foreign).min()
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
    let names = fs_err::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name.ends_with(".onnx") && !name.starts_with('.'))
        .min()
}

/// Everything of a look at the models directory, its own faults included.
pub fn of(directory: &Path, look: &io::Result<Listing>) -> Vec<IgnoredPath> {
    let listing = match look {
        Ok(listing) => listing,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return vec![absent(directory)];
        }
        // One that can't be read may be the right one.
        Err(_) => return Vec::new(),
    };
    match root(directory, listing) {
        // What lies below a wrong directory is not what is wrong.
        Some(fault)
            if matches!(
                fault.reason,
                IgnoredReason::RootTooDeep | IgnoredReason::RootTooShallow
            ) =>
        {
            vec![fault]
        }
        fault => listing.ignored.iter().cloned().chain(fault).collect(),
    }
}

/// What is wrong with the models directory itself, where it holds no model.
fn root(root: &Path, listing: &Listing) -> Option<IgnoredPath> {
    if !listing.models.is_empty() || !listing.unreadable.is_empty() {
        return None;
    }
    let found = directories(root, 0).ok()?;
    let whole = fs_err::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
    let parent = |levels: usize| whole.ancestors().nth(levels).unwrap_or(Path::new("/"));
    if is_meant(root) {
        let detail = match bare::id_of(&whole) {
            Some(_) => format!(
                "models.root is too deep, one version's directory; name {} instead: {LAYOUT}",
                parent(2).display()
            ),
            None => format!(
                "a model's files lie right in models.root; {}; {LAYOUT}",
                move_to(root, root, "NAME/1/")
            ),
        };
        return Some(IgnoredPath::new(IgnoredReason::RootTooDeep, root, detail));
    }
    let versions = |directory: &Path| {
        let below = directories(directory, 1).unwrap_or_default();
        below
            .into_iter()
            .any(|(text, path)| Version::parse(&text).is_some() && is_meant(&path))
    };
    if versions(root) {
        let detail = format!(
            "models.root is too deep, one model's directory; name {} instead: {LAYOUT}",
            parent(1).display()
        );
        return Some(IgnoredPath::new(IgnoredReason::RootTooDeep, root, detail));
    }
    let above = found.iter().find(|(_, path)| {
        let below = directories(path, 1).unwrap_or_default();
        below
            .iter()
            .any(|(text, path)| ModelName::parse(text).is_some() && versions(path))
    });
    if let Some((_, path)) = above {
        let detail = format!(
            "models.root is too shallow, the models lie one level below; name {} instead: {LAYOUT}",
            path.display()
        );
        return Some(IgnoredPath::new(
            IgnoredReason::RootTooShallow,
            root,
            detail,
        ));
    }
    listing.ignored.is_empty().then(|| {
        IgnoredPath::new(
            IgnoredReason::RootEmpty,
            root,
            format!("models.root holds no model; {LAYOUT}"),
        )
    })
}

/// A models directory that is not there.
fn absent(root: &Path) -> IgnoredPath {
    IgnoredPath::new(
        IgnoredReason::RootAbsent,
        root,
        format!("models.root does not exist, or is no directory; {LAYOUT}"),
    )
}

#[cfg(test)]
mod tests {
    use crate::registry::{
        ignored::{IgnoredPath, of},
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
        let show = |ignored: &IgnoredPath| {
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
            ("tf/1/saved_model.pb", "file_name", "tf/1"),
            ("torch/1.0.0/model.pt", "file_name", "torch/1.0.0"),
        ] {
            assert_eq!(
                check(&[good, file], ""),
                [(reason, path.to_owned())],
                "{file}"
            );
        }
        for file in [
            "churn/1.0.0/manifest.json",
            "notes/readme.txt",
            "good/notes/x",
            ".hidden/model.onnx",
            "good/.2/model.onnx",
        ] {
            assert_eq!(check(&[good, file], ""), [], "{file}");
        }
    }

    #[test]
    fn a_wrong_root_is_told() {
        for (files, below, reason) in [
            (
                &["models/churn/1.0.0/manifest.json"][..],
                "models/churn",
                "root_too_deep",
            ),
            (
                &["models/churn/1.0.0/manifest.json"],
                "models/churn/1.0.0",
                "root_too_deep",
            ),
            (&["model/model.onnx"], "model", "root_too_deep"),
            (
                &["models/7/1/model.onnx", "models/7/2/model.onnx"],
                "models/7",
                "root_too_deep",
            ),
            (
                &["models/churn/1.0.0/manifest.json"],
                "",
                "root_too_shallow",
            ),
            (&["models/.keep"], "models", "root_empty"),
            (&["models/notes/x"], "models", "root_empty"),
        ] {
            assert_eq!(
                check(files, below),
                [(reason, String::new())],
                "{files:?} {below}"
            );
        }
        assert_eq!(check(&["models/churn/1.0.0/manifest.json"], "models"), []);
        assert_eq!(
            check(&["models"], "models"),
            [("root_absent", String::new())],
            "a file"
        );
        assert_eq!(check(&[], "nowhere"), [("root_absent", String::new())]);
    }
}
