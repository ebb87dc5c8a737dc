//! `IgnoredPath`: a path in the models directory that looks like a model but is not served.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    id::Version,
    package::{
        MODEL_FILE, bare,
        manifest::{self, Manifest},
    },
    registry::directories::directories,
};

/// A directory that is not served or no longer read, although an operator may expect it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IgnoredPath {
    pub reason: IgnoredReason,
    /// A path below the models directory, or the directory itself if it is probably the wrong one.
    pub path: PathBuf,
    /// The rule that the path violates, and the correction.
    pub detail: String,
}

/// Why a path is ignored: the label `reason` of `predictd_models_ignored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IgnoredReason {
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
    pub(crate) const ALL: [IgnoredReason; 10] = [
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

    pub(crate) fn name(self) -> &'static str {
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

    /// The consequence for the version. A version that was loaded before its files disappeared
    /// stays loaded.
    pub(crate) fn outcome(self) -> &'static str {
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

impl IgnoredPath {
    pub(super) fn new(reason: IgnoredReason, path: &Path, detail: String) -> IgnoredPath {
        IgnoredPath {
            reason,
            path: path.to_path_buf(),
            detail,
        }
    }

    /// A directory whose name is not a model name.
    pub(crate) fn model_name(path: &Path) -> IgnoredPath {
        let rule = "letters, digits, '.', '_' and '-', at most 128, the first a letter or a digit";
        let below = directories(path, 1).unwrap_or_default();
        let by_manifest = below
            .iter()
            .find_map(|(_, version)| identity_in(version))
            .map(|(name, _)| format!(" to {name}, as manifest.json says"));
        let detail = format!(
            "its name is not a model name ({rule}): rename it{}",
            by_manifest.unwrap_or_default()
        );
        IgnoredPath::new(IgnoredReason::ModelName, path, detail)
    }

    /// A model directory that contains a model's files but no version directory.
    pub(crate) fn no_version_directory(path: &Path) -> IgnoredPath {
        let root = path.parent().unwrap_or(path);
        let detail = format!(
            "its files are not in the directory of a version: {}",
            advise_move(root, path, "1/")
        );
        IgnoredPath::new(IgnoredReason::NoVersionDirectory, path, detail)
    }

    /// A version directory whose name, `text`, is not a version.
    pub(crate) fn version_name(path: &Path, text: &str) -> IgnoredPath {
        let number = text.trim_start_matches('0');
        let zeros = number.len() < text.len() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (reason, rule, rename) = if zeros {
            let number = if number.is_empty() { "0" } else { number };
            (
                IgnoredReason::LeadingZero,
                "a version has no leading zero",
                format!("rename it to {number}"),
            )
        } else {
            (
                IgnoredReason::VersionName,
                "its name is not a version (like 1.0.0, or a whole number)",
                "rename it".to_owned(),
            )
        };
        // The models directory is two levels above a version directory.
        let by_manifest =
            identity_in(path)
                .zip(path.ancestors().nth(2))
                .map(|((name, version), root)| {
                    format!(
                        "{} says {name} {version}: move it to {}/",
                        manifest::FILE,
                        root.join(&name).join(&version).display()
                    )
                });
        let advice = by_manifest.unwrap_or(rename);
        IgnoredPath::new(reason, path, format!("{rule}: {advice}"))
    }

    /// A version directory without a manifest whose graph has a name other than `model.onnx`, or
    /// whose model has another format.
    pub(crate) fn file_name(path: &Path, version: &Version) -> Option<IgnoredPath> {
        if has_manifest(path) {
            return None;
        }
        let detail = match (graph_in(path), other_format_in(path)) {
            // A version that is not a number must be a package. Its load reports a missing
            // manifest.
            (Some(file), _) if file == MODEL_FILE || !version.is_number() => return None,
            (Some(file), _) => {
                let has_config = path
                    .parent()
                    .is_some_and(|model| model.join(bare::CONFIG_FILE).exists());
                let note = if has_config {
                    " (default_model_filename of config.pbtxt is not supported)"
                } else {
                    ""
                };
                format!("contains {file}, but only {MODEL_FILE} is served{note}: rename it")
            }
            (None, Some(file)) => {
                format!(
                    "contains {file}, but only ONNX is served: export the model to {MODEL_FILE}"
                )
            }
            (None, None) => return None,
        };
        Some(IgnoredPath::new(IgnoredReason::FileName, path, detail))
    }

    /// A loaded version whose files were removed.
    pub(crate) fn files_gone(path: &Path) -> IgnoredPath {
        let detail = "it answers from memory, or from the copy in the state directory: put its \
                      files back, or move traffic off it";
        IgnoredPath::new(IgnoredReason::FilesGone, path, detail.to_owned())
    }
}

/// The model and version in the manifest of a package. The directory may have any path.
fn identity_in(directory: &Path) -> Option<(String, String)> {
    Manifest::read(directory)
        .ok()
        .map(|manifest| (manifest.name, manifest.version))
}

/// Where to move a model's files from `path`: to the directory below `root` that their manifest
/// names, or to `fallback` without a manifest.
pub(super) fn advise_move(root: &Path, path: &Path, fallback: &str) -> String {
    if let Some((name, version)) = identity_in(path) {
        let target = root.join(&name).join(&version);
        return format!(
            "{} says {name} {version}: move them to {}/",
            manifest::FILE,
            target.display()
        );
    }
    match graph_in(path).filter(|_| !has_manifest(path)) {
        Some(file) => format!("move them to {fallback} ({file} to {fallback}{MODEL_FILE})"),
        None => format!(
            "move them to the directory NAME/VERSION/ that {} names",
            manifest::FILE
        ),
    }
}

/// The name of a model file in a format other than ONNX.
fn other_format_in(directory: &Path) -> Option<String> {
    const EXTENSIONS: [&str; 16] = [
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
    first_file(directory, |name| {
        name.rsplit_once('.')
            .is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
    })
}

/// The name of a graph's file: `model.onnx`, or the first file that ends with `.onnx`.
pub(super) fn graph_in(directory: &Path) -> Option<String> {
    if directory.join(MODEL_FILE).is_file() {
        return Some(MODEL_FILE.to_owned());
    }
    first_file(directory, |name| name.ends_with(".onnx"))
}

/// The first accepted name in alphabetical order. Hidden files are skipped.
fn first_file(directory: &Path, accepts: impl Fn(&str) -> bool) -> Option<String> {
    fs_err::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && accepts(name))
        .min()
}

/// Whether the directory looks like a version, because it contains a manifest or a graph.
pub(super) fn looks_like_version(directory: &Path) -> bool {
    has_manifest(directory) || graph_in(directory).is_some()
}

fn has_manifest(directory: &Path) -> bool {
    directory.join(manifest::FILE).is_file()
}
