//! `Manifest`: `manifest.json`, and the check of a directory against the files that it lists.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    digest::Digest,
    document,
    error::counted,
    id::{ModelId, ModelName, Version},
    package::{PackageCheck, PackageError},
};

pub(crate) const FILE: &str = "manifest.json";
pub(crate) const FORMAT: &str = "predictd.package/1";

/// Maximum number of files in a package. Hashing a directory with more files would take minutes.
pub(crate) const MAX_FILES: usize = 10_000;

/// The members of `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub(crate) format: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) created: String,
    pub(crate) digest: String,
    pub(crate) files: BTreeMap<String, FileEntry>,
    pub(crate) runtime: RuntimeEntry,
    #[serde(default)]
    pub(crate) provenance: Provenance,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub sha256: String,
    pub size: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeEntry {
    pub engine: String,
    pub opset: BTreeMap<String, u32>,
}

/// The member `provenance` of `manifest.json`: where the model comes from, as its author wrote it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) training_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) licence: Option<String>,
}

impl Manifest {
    /// Reads and checks `manifest.json`. The listed files are not opened.
    pub fn read(directory: &Path) -> Result<Manifest, PackageError> {
        let text = fs_err::read(directory.join(FILE)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => PackageError::new(
                PackageCheck::Manifest,
                FILE,
                "is missing: the package is not packed",
            ),
            _ => PackageError::io(FILE, error),
        })?;
        let manifest: Manifest = document::parse(&text)
            .map_err(|error| PackageError::of_document(PackageCheck::Manifest, FILE, error))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks name and version against those of the directory, `id`.
    pub fn check_identity(&self, id: &ModelId) -> Result<(), PackageError> {
        if self.name == id.name.as_str() && self.version == id.version.as_str() {
            return Ok(());
        }
        let detail = format!(
            "says {} {}, but is in the directory of {} {}",
            self.name, self.version, id.name, id.version
        );
        Err(PackageError::new(PackageCheck::Identity, FILE, detail))
    }

    fn check(&self) -> Result<(), PackageError> {
        let wrong = |field: &str, expected: String| {
            Err(PackageError::new(PackageCheck::Manifest, FILE, expected).at(field))
        };
        if self.format != FORMAT {
            return wrong(
                "/format",
                format!("is \"{}\"; expected \"{FORMAT}\"", self.format),
            );
        }
        if ModelName::parse(&self.name).is_none() {
            return wrong("/name", format!("\"{}\" is not a model name", self.name));
        }
        if clock::ms_of_rfc3339(&self.created).is_none() {
            return wrong(
                "/created",
                format!(
                    "\"{}\" is not a time in RFC 3339, such as 2026-01-31T12:00:00Z",
                    self.created
                ),
            );
        }
        if Version::parse(&self.version).is_none() {
            return wrong(
                "/version",
                format!("\"{}\" is not a semantic version", self.version),
            );
        }
        // The member exists so that a package for another engine is rejected and not misread.
        if self.runtime.engine != "onnxruntime" {
            return wrong(
                "/runtime/engine",
                format!("is \"{}\"; expected \"onnxruntime\"", self.runtime.engine),
            );
        }
        // The digest covers the list, so a changed list does not keep the package's identity.
        let mut listing = Vec::new();
        for (path, entry) in &self.files {
            if !is_plain(path) || path == FILE {
                return wrong(
                    "/files",
                    format!("\"{path}\" is not a relative path inside the package"),
                );
            }
            let Some(digest) = Digest::parse(&entry.sha256) else {
                return wrong(
                    "/files",
                    format!("the sha256 of \"{path}\" is not 64 lower-case hex digits"),
                );
            };
            listing.push((path.as_str(), digest));
        }
        let digest = format!("sha256:{}", Digest::of_listing(listing.into_iter()));
        // Without this check, two packages with different files could have the same identity.
        if self.digest != digest {
            return wrong(
                "/digest",
                format!("is {}; the listed files give {digest}", self.digest),
            );
        }
        Ok(())
    }

    /// Hashes the files of `directory` and returns their manifest, without operator sets.
    pub fn of_directory(
        directory: &Path,
        id: &ModelId,
        created: String,
        provenance: Provenance,
    ) -> Result<Manifest, PackageError> {
        let mut files = BTreeMap::new();
        let mut listing = Vec::new();
        for path in list_files(directory)?
            .into_iter()
            .filter(|path| path != FILE)
        {
            let (digest, size) = Digest::of_file(&directory.join(&path))
                .map_err(|error| PackageError::io(&path, error))?;
            listing.push((path.clone(), digest));
            files.insert(
                path,
                FileEntry {
                    sha256: digest.to_string(),
                    size,
                },
            );
        }
        let digest = Digest::of_listing(
            listing
                .iter()
                .map(|(path, digest)| (path.as_str(), *digest)),
        );
        Ok(Manifest {
            format: FORMAT.to_owned(),
            name: id.name.to_string(),
            version: id.version.to_string(),
            created,
            digest: format!("sha256:{digest}"),
            files,
            runtime: RuntimeEntry {
                engine: "onnxruntime".to_owned(),
                opset: BTreeMap::new(),
            },
            provenance,
        })
    }

    /// Writes `manifest.json`. A rename replaces it at once, so that no reader sees a part of it.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        // The process id keeps two processes from writing one temporary file.
        let temporary = directory.join(format!(".{FILE}.{}.part", std::process::id()));
        fs_err::write(&temporary, text)?;
        fs_err::rename(&temporary, directory.join(FILE))
    }

    /// Bytes of all listed files. It estimates the memory of one copy of the weights.
    pub fn size(&self) -> u64 {
        self.files.values().map(|entry| entry.size).sum()
    }

    /// The identity in the manifest. It is `Some` for every manifest that `read` returned.
    pub fn id(&self) -> Option<ModelId> {
        Some(ModelId {
            name: ModelName::parse(&self.name)?,
            version: Version::parse(&self.version)?,
        })
    }

    /// Names a listed file that is missing or shorter than listed. `None` means that the directory
    /// is complete.
    ///
    /// People copy packages with `cp -r`, and `manifest.json` may arrive before the other files:
    /// such a package is incomplete, but not wrong.
    pub fn incomplete_file(&self, directory: &Path) -> Option<String> {
        self.files.iter().find_map(
            |(path, entry)| match fs_err::metadata(directory.join(path)) {
                // A longer file is complete and wrong: the check of the hashes reports it.
                Ok(metadata) if metadata.len() < entry.size => Some(format!(
                    "{path} has {} of {}",
                    metadata.len(),
                    counted(entry.size, "byte")
                )),
                Ok(_) => None,
                Err(_) => Some(format!("{path} is missing")),
            },
        )
    }

    /// Checks that the directory has exactly the listed files with the listed bytes.
    pub fn check_files(&self, directory: &Path) -> Result<(), PackageError> {
        self.check_files_with(directory, Digest::of_file)
    }

    /// Like `check_files`, with the caller's hash function, which may stop early with an error.
    pub fn check_files_with(
        &self,
        directory: &Path,
        hash: impl Fn(&Path) -> std::io::Result<(Digest, u64)>,
    ) -> Result<(), PackageError> {
        for path in list_files(directory)? {
            // A file that is not listed has no verified content, and a graph could read it as
            // external data.
            if path != FILE && !self.files.contains_key(&path) {
                return Err(PackageError::new(
                    PackageCheck::Files,
                    &path,
                    "is not listed in manifest.json; remove it or pack again",
                ));
            }
        }
        self.files.iter().try_for_each(|(path, entry)| {
            let found =
                hash(&directory.join(path)).map_err(|error| PackageError::io(path, error))?;
            entry.check(path, found)
        })
    }
}

impl FileEntry {
    /// Checks the digest and size of a file against this entry.
    pub(crate) fn check(
        &self,
        path: &str,
        (digest, size): (Digest, u64),
    ) -> Result<(), PackageError> {
        // The size is compared first: its message is clearer than two digests.
        if size != self.size {
            return Err(PackageError::new(
                PackageCheck::Hashes,
                path,
                format!(
                    "has {}; manifest.json says {}{PACK_AGAIN}",
                    counted(size, "byte"),
                    self.size
                ),
            ));
        }
        if digest.to_string() != self.sha256 {
            return Err(PackageError::new(
                PackageCheck::Hashes,
                path,
                format!(
                    "has sha256 {digest}; manifest.json says {}{PACK_AGAIN}",
                    self.sha256
                ),
            ));
        }
        Ok(())
    }
}

/// What a person who changed a file has to do.
const PACK_AGAIN: &str = "; to publish the change, pack it as a new version";

/// Copies files of a package to the same relative paths below `to`, which is created.
pub fn copy_files<'a>(
    files: impl IntoIterator<Item = &'a str>,
    from: &Path,
    to: &Path,
) -> std::io::Result<()> {
    for file in files {
        let target = to.join(file);
        fs_err::create_dir_all(target.parent().unwrap_or(to))?;
        fs_err::copy(from.join(file), &target)?;
    }
    Ok(())
}

/// Returns the relative paths of all files below `directory`, sorted.
///
/// # Errors
/// If a symlink leaves the directory: the package could read any file of the server.
pub fn list_files(directory: &Path) -> Result<Vec<String>, PackageError> {
    let root = fs_err::canonicalize(directory).map_err(|error| PackageError::io("", error))?;
    let mut files = Vec::new();
    walk(&root, &PathBuf::new(), &mut files)?;
    files.sort();
    Ok(files)
}

fn walk(root: &Path, relative: &Path, files: &mut Vec<String>) -> Result<(), PackageError> {
    let entries = fs_err::read_dir(root.join(relative))
        .map_err(|error| PackageError::io(&relative.to_string_lossy(), error))?;
    for entry in entries {
        let entry = entry.map_err(|error| PackageError::io(&relative.to_string_lossy(), error))?;
        let path = relative.join(entry.file_name());
        // The list is hashed as text with one path a line, so a path must fit into a line.
        let Some(text) = path.to_str().filter(|text| is_plain(text)) else {
            return Err(PackageError::new(
                PackageCheck::Files,
                &path.to_string_lossy(),
                "has a name that can't be listed (not UTF-8, or with a backslash or control character)",
            ));
        };
        let target =
            fs_err::canonicalize(entry.path()).map_err(|error| PackageError::io(text, error))?;
        if !target.starts_with(root) {
            return Err(PackageError::new(
                PackageCheck::Files,
                text,
                "is a symlink that leaves the package",
            ));
        }
        if target.is_dir() {
            // A link to a directory could form a cycle.
            if entry.path().is_symlink() {
                return Err(PackageError::new(
                    PackageCheck::Files,
                    text,
                    "is a symlink to a directory",
                ));
            }
            walk(root, &path, files)?;
        } else if target.is_file() {
            files.push(text.to_owned());
        } else {
            return Err(PackageError::new(
                PackageCheck::Files,
                text,
                "is neither a file nor a directory",
            ));
        }
        // Checked during the walk, so that a huge directory ends it early.
        if files.len() > MAX_FILES {
            return Err(PackageError::new(
                PackageCheck::Files,
                "",
                format!("the package has more than {MAX_FILES} files"),
            ));
        }
    }
    Ok(())
}

/// A path that `sha256sum` prints as it is, inside the package, with `/` between its parts.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path
            .bytes()
            .any(|byte| byte == b'\\' || byte < 0x20 || byte == 0x7f)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use crate::package::manifest::is_plain;

    #[test]
    fn only_plain_paths_are_listed() {
        for good in ["model.onnx", "weights/part 1.bin", "é.txt"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "a\\b",
            "a\nb",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
