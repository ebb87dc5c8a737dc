//! Where the ONNX Runtime library is looked for.

use std::path::{Path, PathBuf};

/// File name of the library on this platform.
pub const FILE_NAME: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// Folder that `make` fills.
pub const FOLDER: &str = ".onnxruntime";

#[derive(Debug, thiserror::Error)]
#[error("no ONNX Runtime library; looked at:\n{}\nrun `make onnxruntime` to bring it, or set ORT_DYLIB_PATH", list(.0))]
pub struct LibraryNotFound(Vec<PathBuf>);

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| format!("  {}", path.display()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `configured` (`runtime.library`), then `ORT_DYLIB_PATH`, beside the executable, the folder that make fills: below the
/// working directory, or below a parent of the executable (`target/release/predictd` run from elsewhere).
///
/// A path that was named outright must be right: nothing else is tried after it.
pub fn find(
    configured: &Path,
    environment: Option<&Path>,
    executable: Option<&Path>,
) -> Result<PathBuf, LibraryNotFound> {
    let named = [Some(configured), environment]
        .into_iter()
        .flatten()
        .find(|path| !path.as_os_str().is_empty());
    let candidates: Vec<PathBuf> = match named {
        Some(path) if path.is_dir() => vec![path.join(FILE_NAME)],
        Some(path) => vec![path.to_path_buf()],
        None => {
            let mut candidates = Vec::new();
            let folder = executable.and_then(Path::parent);
            candidates.extend(folder.map(|folder| folder.join(FILE_NAME)));
            candidates.push(Path::new(FOLDER).join(FILE_NAME));
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
    fn named_paths_win_and_must_be_right() {
        let directory = tempfile::tempdir().unwrap();
        let beside = directory.path().join(FILE_NAME);
        let other = directory.path().join("other.so");
        let executable = directory.path().join("predictd");
        fs_err::write(&beside, "").unwrap();
        fs_err::write(&other, "").unwrap();
        let nothing = Path::new("");
        assert_eq!(find(nothing, None, Some(&executable)).unwrap(), beside);
        assert_eq!(
            find(nothing, Some(&other), Some(&executable)).unwrap(),
            other
        );
        assert_eq!(find(directory.path(), Some(&other), None).unwrap(), beside);
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
