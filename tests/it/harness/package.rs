//! Packages and bare graphs in a models directory.

use std::path::{Path, PathBuf};

use predictd::{
    id::{ModelId, ModelName, Version},
    package::manifest::{Manifest, Provenance},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::files::{copy_directory, fixture_path, json_lines, root};

/// The directory of a package of the repository.
pub fn package_path(name: &str, version: &str) -> PathBuf {
    let places = [root().join("models"), root().join("tests/fixtures/models")];
    places
        .iter()
        .map(|place| place.join(name).join(version))
        .find(|path| path.is_dir())
        .unwrap_or_else(|| panic!("the repository has no package {name}/{version}"))
}

/// A temporary models directory with these packages of the repository: (name, version).
pub fn models_with(packages: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, version) in packages {
        install_package(directory.path(), name, version);
    }
    directory
}

/// A temporary models directory of bare graphs in Triton's layout: (name, file of
/// `tests/fixtures/onnx`).
pub fn models_of_graphs(graphs: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, file) in graphs {
        install_graph(
            directory.path(),
            name,
            1,
            file.strip_suffix(".onnx").unwrap(),
            None,
        );
    }
    directory
}

/// Copies a package of the repository and moves it into place in one step, as a deployment does.
pub fn install_package(models: &Path, name: &str, version: &str) {
    let staging = models.join(format!(".{name}-{version}"));
    copy_directory(&package_path(name, version), &staging);
    fs_err::create_dir_all(models.join(name)).unwrap();
    fs_err::rename(&staging, models.join(name).join(version)).unwrap();
}

/// Writes a graph without a manifest to `NAME/VERSION/model.onnx`, and `config` to
/// `NAME/config.pbtxt`.
pub fn install_graph(models: &Path, name: &str, version: u64, fixture: &str, config: Option<&str>) {
    let directory = models.join(name).join(version.to_string());
    fs_err::create_dir_all(&directory).unwrap();
    fs_err::copy(
        fixture_path(&format!("{fixture}.onnx")),
        directory.join("model.onnx"),
    )
    .unwrap();
    if let Some(config) = config {
        fs_err::write(models.join(name).join("config.pbtxt"), config).unwrap();
    }
}

/// Writes a package without a manifest to `NAME/1.0.0`, around a fixture's graph. `preprocessing`
/// may be null.
pub fn write_unpacked_package(
    models: &Path,
    name: &str,
    fixture: &str,
    schema: &Value,
    preprocessing: &Value,
) -> PathBuf {
    let directory = models.join(name).join("1.0.0");
    fs_err::create_dir_all(&directory).unwrap();
    fs_err::copy(
        fixture_path(&format!("{fixture}.onnx")),
        directory.join("model.onnx"),
    )
    .unwrap();
    fs_err::write(directory.join("schema.json"), schema.to_string()).unwrap();
    if !preprocessing.is_null() {
        fs_err::write(
            directory.join("preprocessing.json"),
            preprocessing.to_string(),
        )
        .unwrap();
    }
    directory
}

/// Writes a package around a graph from the number `x` to the number `y`, a file of
/// `tests/fixtures/onnx`. The gate does not check it. Without golden examples it declares that its
/// rows are independent.
pub fn number_package(models: &Path, name: &str, file: &str, golden: &[(f64, f64)]) {
    let number = |field: &str| object_schema(json!({field: {"type": "number"}}));
    let schema = json!({"input": number("x"), "output": number("y")});
    let staging = tempfile::tempdir_in(models).unwrap();
    let fixture = file.strip_suffix(".onnx").unwrap();
    let directory = write_unpacked_package(staging.path(), name, fixture, &schema, &Value::Null);
    if golden.is_empty() {
        declare_independent_rows(&directory);
    } else {
        let examples = golden
            .iter()
            .map(|(x, y)| json!({"input": {"x": x}, "output": {"y": y}}));
        fs_err::write(directory.join("golden.jsonl"), json_lines(examples)).unwrap();
    }
    write_manifest(&directory, name, "1.0.0");
    fs_err::create_dir_all(models.join(name)).unwrap();
    fs_err::rename(&directory, models.join(name).join("1.0.0")).unwrap();
}

/// Declares in `serving.json` that the rows of a package are independent.
pub fn declare_independent_rows(directory: &Path) {
    let serving = r#"{"batching": {"independent_rows": true}}"#;
    fs_err::write(directory.join("serving.json"), serving).unwrap();
}

/// The schema of an object with these properties, all of them required.
pub fn object_schema(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// Writes the manifest of a directory's files without a run of the gate.
pub fn write_manifest(directory: &Path, name: &str, version: &str) {
    let id = ModelId {
        name: ModelName::parse(name).unwrap(),
        version: Version::parse(version).unwrap(),
    };
    let manifest = Manifest::of_directory(
        directory,
        &id,
        "2026-01-01T00:00:00Z".to_owned(),
        Provenance::default(),
    )
    .unwrap();
    manifest.write(directory).unwrap();
}

/// The golden examples of a package of the repository.
pub fn golden_examples(name: &str, version: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(package_path(name, version).join("golden.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The input of a package's first golden example.
pub fn example_input(name: &str, version: &str) -> Value {
    golden_examples(name, version)[0]["input"].clone()
}
