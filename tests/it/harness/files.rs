//! Paths of the repository, and directories of files.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `tests/fixtures/onnx`.
pub fn fixture_path(file: &str) -> PathBuf {
    root().join("tests/fixtures/onnx").join(file)
}

pub fn copy_directory(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs_err::copy(&path, &target).unwrap();
        }
    }
}

/// The sorted names in a directory. Empty if the directory is missing.
pub fn file_names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A temporary directory with these files. A path may have parent directories.
pub fn workplace_with_files(files: &[(impl AsRef<Path>, impl AsRef<[u8]>)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = directory.path().join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    directory
}

/// One JSON document a line.
pub fn json_lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}
