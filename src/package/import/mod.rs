//! Import: creates the documents of a package from a model of another tool. `cli::import` runs the
//! graph and writes the package.

pub mod external;
pub(crate) mod mlflow;
pub(crate) mod mlmodel;
pub(crate) mod triton;

use std::{fmt::Write, path::Path};

use serde_json::Value;

use crate::{
    package::{
        EVALUATION_FILE, GOLDEN_FILE, MODEL_FILE, PREPROCESSING_FILE, PROFILE_FILE, PackageCheck,
        PackageError, SCHEMA_FILE, SERVING_FILE,
        manifest::{self, Provenance},
        serving::Serving,
    },
    tensor::signature::Signature,
};

/// File names of a package. External data of the same name would overwrite them.
const PACKAGE_FILES: [&str; 9] = [
    MODEL_FILE,
    SCHEMA_FILE,
    PREPROCESSING_FILE,
    manifest::FILE,
    GOLDEN_FILE,
    SERVING_FILE,
    EVALUATION_FILE,
    PROFILE_FILE,
    "README.md",
];

/// The documents of a package, without the graph and the golden answers.
#[derive(Debug, PartialEq)]
pub struct Imported {
    pub(crate) schema: Value,
    pub(crate) preprocessing: Option<Value>,
    pub(crate) serving: Option<Serving>,
    /// Instances that came with the model. The import runs them to get their golden answers.
    pub examples: Vec<Value>,
    pub(crate) card: String,
    pub(crate) provenance: Provenance,
    /// Settings that were not understood and are not in the package.
    pub warnings: Vec<String>,
    /// Notes about what a person should check.
    pub notes: Vec<String>,
}

impl Imported {
    /// Writes the documents next to the graph.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let pretty =
            |document: &Value| serde_json::to_string_pretty(document).map(|text| text + "\n");
        fs_err::write(directory.join(SCHEMA_FILE), pretty(&self.schema)?)?;
        if let Some(preprocessing) = &self.preprocessing {
            fs_err::write(directory.join(PREPROCESSING_FILE), pretty(preprocessing)?)?;
        }
        if let Some(serving) = &self.serving {
            fs_err::write(
                directory.join(SERVING_FILE),
                pretty(&serde_json::to_value(serving)?)?,
            )?;
        }
        fs_err::write(directory.join("README.md"), &self.card)
    }
}

/// Copies a graph and its external data into a package, and returns the relative paths of the
/// external data, which stay the same.
///
/// If `root` is given, every file must be below it after links are resolved: a model of somebody
/// else must not read other files of this machine.
pub fn copy_graph(
    graph: &Path,
    root: Option<&Path>,
    package: &Path,
) -> Result<Vec<String>, PackageError> {
    let resolve = |path: &Path| match root {
        Some(root) => resolve_inside(root, path),
        // Without a root the caller chose the graph, and may use any file.
        None if path.is_file() => Ok(path.to_path_buf()),
        None => Err(PackageError::new(
            PackageCheck::Files,
            &path.to_string_lossy(),
            "is missing",
        )),
    };
    // The graph is read once, so that the copy has exactly the bytes whose files are listed.
    let bytes =
        fs_err::read(resolve(graph)?).map_err(|error| PackageError::io(MODEL_FILE, error))?;
    let external = external::files(&bytes)
        .map_err(|error| PackageError::caused_by(PackageCheck::Files, MODEL_FILE, "", error))?;
    let copied = |file: &str, result: std::io::Result<()>| {
        result.map_err(|error| PackageError::io(file, error))
    };
    copied(MODEL_FILE, fs_err::write(package.join(MODEL_FILE), &bytes))?;
    // The graph may be large, and only the names of its files are needed from here.
    drop(bytes);
    for file in &external {
        // The copy would replace a document of the package, such as its manifest.
        if PACKAGE_FILES.contains(&file.as_str()) {
            return Err(PackageError::new(
                PackageCheck::Files,
                MODEL_FILE,
                format!(
                    "names \"{file}\" as its external data, which is the name of another file of the package"
                ),
            ));
        }
        let source = resolve(&graph.with_file_name(file)).map_err(|error| match root {
            Some(_) => error,
            None => PackageError::new(
                error.check,
                &error.file,
                format!(
                    "{}; the graph keeps weights in this file: put it next to the graph",
                    error.full_detail()
                ),
            ),
        })?;
        let target = package.join(file);
        let copy = || {
            // The graph may keep its weights in a directory below its own.
            target.parent().map_or(Ok(()), fs_err::create_dir_all)?;
            fs_err::copy(&source, &target).map(|_| ())
        };
        copied(file, copy())?;
    }
    Ok(external)
}

/// Resolves the links of a path, and refuses a target outside of `root`.
fn resolve_inside(root: &Path, path: &Path) -> Result<std::path::PathBuf, PackageError> {
    let name = path
        .strip_prefix(root)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    let resolve = |path: &Path| {
        fs_err::canonicalize(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                PackageError::new(PackageCheck::Files, &name, "is missing")
            }
            _ => PackageError::io(&name, error),
        })
    };
    let target = resolve(path)?;
    if target.starts_with(resolve(root)?) {
        Ok(target)
    } else {
        Err(PackageError::new(
            PackageCheck::Files,
            &name,
            "leads out of the directory that is imported",
        ))
    }
}

/// A model card, whose last sections a person completes. `sections` are headings with their lines.
fn card(
    title: &str,
    origin: &str,
    signature: &Signature,
    sections: &[(&str, &[String])],
) -> String {
    let mut text = format!("# {title}\n\n{origin}\n\n## Graph\n\n");
    // To write into a `String` does not fail.
    for (side, specs) in [("in", &signature.inputs), ("out", &signature.outputs)] {
        for spec in specs {
            let _ = writeln!(text, "- {side}: `{}` {spec}", spec.name);
        }
    }
    for (heading, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "\n## {heading}\n");
        for line in *lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    text + "\n## Data\n\nWhat it was trained and evaluated on, and when.\n\n\
            ## Limits\n\nWhere it is known to be wrong.\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{error::text_with_sources, package::import::copy_graph};

    #[test]
    fn a_graph_is_copied_with_its_external_data_only() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
        let target = tempfile::tempdir().unwrap();
        let copied = copy_graph(
            &fixtures.join("external_data.onnx"),
            Some(&fixtures),
            target.path(),
        )
        .unwrap();
        assert_eq!(copied, ["external_data.bin"]);
        assert_eq!(fs_err::read_dir(target.path()).unwrap().count(), 2);
    }

    #[test]
    fn no_file_outside_of_the_root_is_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
        let (root, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let graph = root.path().join("model.onnx");
        let refused = || {
            text_with_sources(&copy_graph(&graph, Some(root.path()), target.path()).unwrap_err())
        };
        assert_eq!(refused(), "model.onnx: is missing");
        std::os::unix::fs::symlink(fixtures.join("add_sub.onnx"), &graph).unwrap();
        assert_eq!(
            refused(),
            "model.onnx: leads out of the directory that is imported"
        );
        fs_err::remove_file(&graph).unwrap();
        fs_err::copy(fixtures.join("external_escape.onnx"), &graph).unwrap();
        assert!(refused().contains("\"../secret.bin\""));
        fs_err::copy(fixtures.join("external_data.onnx"), &graph).unwrap();
        assert_eq!(refused(), "external_data.bin: is missing");
        std::os::unix::fs::symlink(
            fixtures.join("external_data.bin"),
            root.path().join("external_data.bin"),
        )
        .unwrap();
        assert!(refused().starts_with("external_data.bin: leads out"));
    }
}
