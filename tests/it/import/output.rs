//! Where `import` writes the packages.

use tempfile::TempDir;

use super::{
    fixture_bytes, graph_of_package, import, import_into, mlmodel_file, workplace_with_source,
};
use crate::harness::run_predictd;

/// Imports into a directory of the workplace. Returns the error output if it fails.
fn import_to(kind: &str, workplace: &TempDir, output: &str, more: &[&str]) -> Result<(), String> {
    let (code, output, error) = import_into(kind, workplace.path(), output, more);
    if code == 0 {
        Ok(())
    } else {
        Err(output + &error)
    }
}

#[test]
fn an_output_path_with_name_and_version_is_the_package() {
    let signature =
        "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 11]}}]";
    let mlflow = workplace_with_source(&[
        ("MLmodel", mlmodel_file(signature).as_bytes()),
        ("model.onnx", &graph_of_package("diabetes", "1.0.0")),
    ]);
    let made = |workplace: &TempDir, path: &str| {
        workplace.path().join(path).join("manifest.json").is_file()
    };
    import_to("mlflow", &mlflow, "drafts/sugar/2.1.0", &[]).unwrap();
    assert!(made(&mlflow, "drafts/sugar/2.1.0"));
    let (code, output, error) = run_predictd(
        &["verify", mlflow.path().join("drafts").to_str().unwrap()],
        "",
        &[],
    );
    assert!(
        code == 0 && output.contains("sugar 2.1.0"),
        "{output}{error}"
    );
    import_to("mlflow", &mlflow, "drafts/sugar/3", &["--name", "sugar"]).unwrap();
    assert!(made(&mlflow, "drafts/sugar/3"));
    // A number alone is a version below the model's name.
    import_to("mlflow", &mlflow, "archive/2026", &["--name", "sugar"]).unwrap();
    assert!(made(&mlflow, "archive/2026/sugar/1.0.0"));
    for more in [&["--name", "salt"][..], &["--version", "2.1.1"]] {
        let error = import_to("mlflow", &mlflow, "other/sugar/2.1.0", more).unwrap_err();
        assert!(
            error.contains("is the directory of sugar/2.1.0, but ")
                && error.contains("or the models directory, "),
            "{error}"
        );
    }
    assert!(!mlflow.path().join("other").exists());

    let triton = workplace_with_source(&[("1/model.onnx", &fixture_bytes("add_sub.onnx"))]);
    import_to("triton", &triton, "made/from/1", &[]).unwrap();
    assert!(made(&triton, "made/from/1"));
    let error = import_to("triton", &triton, "made/from/2.0.0", &[]).unwrap_err();
    assert!(
        error.contains(
            "is the directory of from/2.0.0, but from/1 would be imported; give --output"
        ),
        "{error}"
    );
    let several = workplace_with_source(&[
        ("1/model.onnx", &fixture_bytes("add_sub.onnx")),
        ("2/model.onnx", &fixture_bytes("add_sub.onnx")),
    ]);
    let error = import_to("triton", &several, "made/from/1", &[]).unwrap_err();
    assert!(
        error.contains(
            "one package, from/1, but 2 versions would be imported; give the models directory"
        ),
        "{error}"
    );
    assert!(!several.path().join("made").exists());
}

#[test]
fn a_directory_without_models_is_an_error() {
    let workplace = workplace_with_source(&[("docs/readme.txt", b"")]);
    let (code, _, error) = import("triton", workplace.path(), &[]);
    assert!(code == 1 && error.contains("contains no model"), "{error}");
    let (code, _, error) = import("mlflow", workplace.path(), &[]);
    assert!(
        code == 1 && error.contains("MLmodel: is missing"),
        "{error}"
    );
    assert_eq!(run_predictd(&["import", "seldon", "."], "", &[]).0, 2);
}
