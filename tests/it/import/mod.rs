//! `import`: Triton's model repositories and MLflow's models become packages that pass the gate.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{fixture_path, package_path, run_predictd, workplace_with_files};

mod mlflow;
mod output;
mod triton;

fn fixture_bytes(name: &str) -> Vec<u8> {
    fs_err::read(fixture_path(name)).unwrap()
}

fn graph_of_package(name: &str, version: &str) -> Vec<u8> {
    fs_err::read(package_path(name, version).join("model.onnx")).unwrap()
}

/// A temporary directory whose `from` has these files.
fn workplace_with_source(files: &[(&str, &[u8])]) -> TempDir {
    let files: Vec<(String, &[u8])> = files
        .iter()
        .map(|(file, content)| (format!("from/{file}"), *content))
        .collect();
    workplace_with_files(&files)
}

/// Imports `from` into `to`: (exit code, stdout, stderr).
fn import(kind: &str, workplace: &Path, more: &[&str]) -> (i32, String, String) {
    import_into(kind, workplace, "to", more)
}

/// As [`import`], into another directory of the workplace.
fn import_into(kind: &str, workplace: &Path, output: &str, more: &[&str]) -> (i32, String, String) {
    let (from, to) = (workplace.join("from"), workplace.join(output));
    run_predictd(
        &[
            &[
                "import",
                kind,
                from.to_str().unwrap(),
                "--output",
                to.to_str().unwrap(),
            ],
            more,
        ]
        .concat(),
        "",
        &[],
    )
}

fn verify_all(workplace: &Path) {
    let (code, output, error) =
        run_predictd(&["verify", workplace.join("to").to_str().unwrap()], "", &[]);
    assert_eq!(code, 0, "{output}{error}");
}

fn run_predict(workplace: &Path, id: &str, instances: &str) -> Vec<Value> {
    let (code, output, error) = run_predictd(
        &["predict", workplace.join("to").join(id).to_str().unwrap()],
        instances,
        &[],
    );
    assert_eq!(code, 0, "{output}{error}");
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn read_document(workplace: &Path, file: &str) -> Value {
    serde_json::from_str(&fs_err::read_to_string(workplace.join("to").join(file)).unwrap()).unwrap()
}

/// An `MLmodel` file as MLflow writes it, with folded lines.
fn mlmodel_file(inputs: &str) -> String {
    format!(
        "artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_session_options: null
    onnx_version: 1.17.0
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.onnx
    python_version: 3.11.7
is_signature_from_type_hint: false
mlflow_version: 2.20.3
model_size_bytes: 1356
model_uuid: 0db7426fd22e4807b1e92faf88a6db37
prompts: null
run_id: 7e2a6d4f0c3b4a1e9d8c7b6a5f4e3d2c
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '{inputs}'
  outputs: '[{{\"type\": \"tensor\", \"tensor-spec\": {{\"dtype\": \"float32\", \"shape\": [-1,
    1]}}}}]'
  params: null
type_hint_from_example: false
utc_time_created: '2026-11-20 08:15:30.123456'
"
    )
}
