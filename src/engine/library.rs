//! Finds the ONNX Runtime library on this machine.

use std::path::{Path, PathBuf};

/// The file name of the library on this platform.
pub(crate) const FILE_NAME: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// The directory that `make onnxruntime` fills, relative to a working directory.
pub(crate) const FOLDER: &str = ".onnxruntime";

#[derive(Debug, thiserror::Error)]
#[error("no ONNX Runtime library; looked at:\n{}\nrun `make onnxruntime` to download it, or set ORT_DYLIB_PATH", list(.0))]
pub(crate) struct LibraryNotFound(Vec<PathBuf>);

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| format!("  {}", path.display()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the absolute path of the library.
///
/// `configured` (`runtime.library`) comes first, followed by `environment` (`ORT_DYLIB_PATH`). If
/// one of them is set, no other place is searched: a wrong path must not silently load another
/// library. Otherwise these directories are searched: the executable's directory, `FOLDER` in the
/// working directory, and `FOLDER` in the parents of the executable's directory (for
/// `target/release/predictd`).
pub(crate) fn find(
    configured: &Path,
    environment: Option<&Path>,
    executable: Option<&Path>,
) -> Result<PathBuf, LibraryNotFound> {
    let named = [Some(configured), environment]
        .into_iter()
        .flatten()
        .find(|path| !path.as_os_str().is_empty());
    let candidates: Vec<PathBuf> = match named {
        // The configured path may also be the directory of the library.
        Some(path) if path.is_dir() => vec![path.join(FILE_NAME)],
        Some(path) => vec![path.to_path_buf()],
        None => {
            let mut candidates = Vec::new();
            let folder = executable.and_then(Path::parent);
            candidates.extend(folder.map(|folder| folder.join(FILE_NAME)));
            candidates.push(Path::new(FOLDER).join(FILE_NAME));
            // target/release, target, and the repository's root.
            let above = folder.into_iter().flat_map(Path::ancestors).skip(1).take(3);
            candidates.extend(above.map(|folder| folder.join(FOLDER).join(FILE_NAME)));
            candidates
        }
    };
    let found = candidates
        .iter()
        .find(|path| path.is_file())
        .and_then(|path| std::path::absolute(path).ok());
    found.ok_or(LibraryNotFound(candidates))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::engine::library::{FILE_NAME, find};

    #[test]
    fn named_paths_win_and_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let next_to_executable = directory.path().join(FILE_NAME);
        let other = directory.path().join("other.so");
        let executable = directory.path().join("predictd");
        fs_err::write(&next_to_executable, "").unwrap();
        fs_err::write(&other, "").unwrap();
        let nothing = Path::new("");
        assert_eq!(
            find(nothing, None, Some(&executable)).unwrap(),
            next_to_executable
        );
        assert_eq!(
            find(nothing, Some(&other), Some(&executable)).unwrap(),
            other
        );
        assert_eq!(
            find(directory.path(), Some(&other), None).unwrap(),
            next_to_executable
        );
        let error = find(
            Path::new("/nowhere/lib.so"),
            Some(&other),
            Some(&executable),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("/nowhere/lib.so") && error.contains("make onnxruntime"),
            "{error}"
        );
    }
}
