//! Reports the ignored paths of a models directory, and the problem with the directory itself.

use std::{io, path::Path};

use crate::{
    id::{ModelName, Version},
    package::bare,
    registry::{
        directories::directories,
        ignored::{IgnoredPath, IgnoredReason, advise_move, looks_like_version},
        source::Listing,
    },
};

/// All ignored paths in a listing of `directory`, and the problem with the directory itself.
pub(super) fn ignored_paths(directory: &Path, listing: &io::Result<Listing>) -> Vec<IgnoredPath> {
    let listing = match listing {
        Ok(listing) => listing,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            let detail = format!("models.root does not exist, or is not a directory; {LAYOUT}");
            return vec![IgnoredPath::new(
                IgnoredReason::RootAbsent,
                directory,
                detail,
            )];
        }
        // A directory that can't be read may be the right one.
        Err(_) => return Vec::new(),
    };
    match root_fault(directory, listing) {
        // If the root is wrong, the paths below it are not the problem.
        Some(fault)
            if matches!(
                fault.reason,
                IgnoredReason::RootTooDeep | IgnoredReason::RootTooShallow
            ) =>
        {
            vec![fault]
        }
        // An empty root and ignored paths below it never occur together.
        fault => listing.ignored.iter().cloned().chain(fault).collect(),
    }
}

const LAYOUT: &str = "the layout is NAME/VERSION/ with a package (manifest.json), or \
                      NAME/NUMBER/model.onnx, below models.root";

/// The problem with a models directory that contains no model.
fn root_fault(root: &Path, listing: &Listing) -> Option<IgnoredPath> {
    // A root that contains a model is the right one, whatever else it contains.
    if !listing.models.is_empty() || !listing.unreadable.is_empty() {
        return None;
    }
    let found = directories(root, 0).ok()?;
    if let Some(detail) = too_deep(root) {
        return Some(IgnoredPath::new(IgnoredReason::RootTooDeep, root, detail));
    }
    let above = found.iter().find(|(_, path)| {
        let below = directories(path, 1).unwrap_or_default();
        below
            .iter()
            .any(|(text, path)| ModelName::parse(text).is_some() && is_model_directory(path))
    });
    if let Some((_, path)) = above {
        let detail = format!(
            "models.root is too shallow, the models are one level below; name {} instead: {LAYOUT}",
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
            format!("models.root contains no model; {LAYOUT}"),
        )
    })
}

/// The advice if `root` is the directory of a single version or a single model.
fn too_deep(root: &Path) -> Option<String> {
    // A relative root such as `.` has no ancestors.
    let absolute = fs_err::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
    let ancestor = |levels: usize| absolute.ancestors().nth(levels).unwrap_or(Path::new("/"));
    if looks_like_version(root) {
        return Some(match bare::id_of(&absolute) {
            Some(_) => format!(
                "models.root is too deep, one version's directory; name {} instead: {LAYOUT}",
                ancestor(2).display()
            ),
            None => format!(
                "a model's files are directly in models.root; {}; {LAYOUT}",
                advise_move(root, root, "NAME/1/")
            ),
        });
    }
    is_model_directory(root).then(|| {
        format!(
            "models.root is too deep, one model's directory; name {} instead: {LAYOUT}",
            ancestor(1).display()
        )
    })
}

/// Whether a directory contains the directory of a version.
fn is_model_directory(directory: &Path) -> bool {
    let below = directories(directory, 1).unwrap_or_default();
    below
        .into_iter()
        .any(|(text, path)| Version::parse(&text).is_some() && looks_like_version(&path))
}

#[cfg(test)]
mod tests {
    use crate::registry::{ignored::IgnoredPath, root_fault::ignored_paths, source::list};

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
        ignored_paths(&at, &list(&at)).iter().map(show).collect()
    }

    #[test]
    fn a_path_that_looks_like_a_model_is_reported_with_the_reason() {
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
    fn a_wrong_root_is_reported() {
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
