//! Model repositories of Triton and models that MLflow saved, imported by the real command and served by the real gate.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    file_names, fixture_path, golden_examples, package_path, run_predictd, workplace_with_files,
};

fn fixture(name: &str) -> Vec<u8> {
    fs_err::read(fixture_path(name)).unwrap()
}

fn graph(name: &str, version: &str) -> Vec<u8> {
    fs_err::read(package_path(name, version).join("model.onnx")).unwrap()
}

/// A directory `from` with these files, and room for what is made of it.
fn workplace(files: &[(&str, &[u8])]) -> TempDir {
    let files: Vec<(String, &[u8])> = files
        .iter()
        .map(|(file, content)| (format!("from/{file}"), *content))
        .collect();
    workplace_with_files(&files)
}

/// Imports `from` to `to`: (exit code, stdout, stderr).
fn import(kind: &str, workplace: &Path, more: &[&str]) -> (i32, String, String) {
    let (from, to) = (workplace.join("from"), workplace.join("to"));
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

fn verify(workplace: &Path) {
    let (code, output, error) =
        run_predictd(&["verify", workplace.join("to").to_str().unwrap()], "", &[]);
    assert_eq!(code, 0, "{output}{error}");
}

fn predict(workplace: &Path, id: &str, instances: &str) -> Vec<Value> {
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

fn document(workplace: &Path, file: &str) -> Value {
    serde_json::from_str(&fs_err::read_to_string(workplace.join("to").join(file)).unwrap()).unwrap()
}

const CHURN_CONFIG: &str = r#"
name: "churn"
platform: "onnxruntime_onnx"
max_batch_size: 32
input [ { name: "features" data_type: TYPE_FP32 dims: [ 29 ] } ]
output [
  { name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape: { shape: [ ] } },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
]
dynamic_batching { preferred_batch_size: [ 8, 16 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_CPU } ]
optimization { graph { level: 1 } }
"#;

#[test]
fn a_triton_repository_becomes_packages() {
    let place = workplace(&[
        ("churn/config.pbtxt", CHURN_CONFIG.as_bytes()),
        ("churn/labels.txt", b"stay\nchurn\n"),
        ("churn/1/model.onnx", &graph("churn", "1.0.0")),
        ("churn/2/model.onnx", &graph("churn", "1.1.0")),
        ("weights/7/model.onnx", &fixture("external_data.onnx")),
        ("weights/7/external_data.bin", &fixture("external_data.bin")),
        ("weights/7/notes.txt", b"not the graph's"),
    ]);
    let (code, output, error) = import("triton", place.path(), &[]);
    assert_eq!(code, 0, "{output}{error}");
    assert_eq!(output.matches("imported ").count(), 3, "{output}");
    assert!(
        output.contains("`[model.churn] batching.max_delay_us = 100`"),
        "{output}"
    );
    assert_eq!(
        error.lines().next().unwrap(),
        "predictd: warning: churn/1: config.pbtxt: not understood: dynamic_batching.preferred_batch_size, optimization"
    );
    verify(place.path());

    let manifest = document(place.path(), "churn/2/manifest.json");
    assert_eq!(
        (&manifest["name"], &manifest["version"]),
        (&json!("churn"), &json!("2"))
    );
    assert_eq!(manifest["runtime"]["opset"]["ai.onnx"], 18);
    let batching = json!({"max_batch_size": 32});
    assert_eq!(
        document(place.path(), "churn/2/serving.json"),
        json!({"batching": batching})
    );
    let answer = &predict(
        place.path(),
        "churn/2",
        &json!({"features": vec![0.0; 29]}).to_string(),
    )[0];
    let probability = |label: &str| answer["probabilities"][label].as_f64().unwrap();
    assert!(
        (probability("stay") + probability("churn") - 1.0).abs() < 1e-5,
        "{answer}"
    );

    assert_eq!(
        file_names(&place.path().join("to/weights/7")),
        [
            "README.md",
            "external_data.bin",
            "manifest.json",
            "model.onnx",
            "schema.json"
        ]
    );
    assert_eq!(
        predict(place.path(), "weights/7", "{\"x\": [1, 0, 0, 0]}")[0]["y"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        file_names(&place.path().join("to")),
        ["churn", "weights"],
        "no staging area is left"
    );
}

#[test]
fn every_datatype_comes_over() {
    let mut files = Vec::new();
    let types = [
        "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "fp16",
        "fp32", "fp64", "bytes",
    ];
    let graphs: Vec<(String, Vec<u8>)> = types
        .iter()
        .map(|name| {
            (
                format!("{name}/1/model.onnx"),
                fixture(&format!("identity_{name}.onnx")),
            )
        })
        .collect();
    files.extend(
        graphs
            .iter()
            .map(|(file, content)| (file.as_str(), content.as_slice())),
    );
    let place = workplace(&files);
    let (code, output, error) = import("triton", place.path(), &[]);
    assert_eq!(code, 0, "{output}{error}");
    verify(place.path());
    for name in types {
        let (input, expected) = match name {
            "bool" => (json!([true, false]), json!([true, false])),
            // A row of one value is answered as that value.
            "bytes" => (json!("é"), json!("é")),
            "fp16" | "fp32" | "fp64" => (json!([1.5, 0.0]), json!([1.5, 0.0])),
            _ => (json!([1, 0]), json!([1, 0])),
        };
        let answer = &predict(
            place.path(),
            &format!("{name}/1"),
            &json!({"x": input}).to_string(),
        )[0];
        assert_eq!(answer["y"], expected, "{name}");
    }
}

#[test]
fn what_is_no_onnx_model_is_told_and_the_rest_is_imported() {
    let place = workplace(&[
        ("good/1/model.onnx", &fixture("add_sub.onnx")),
        ("engine/config.pbtxt", b"platform: \"tensorrt_plan\""),
        ("engine/1/model.plan", b""),
        ("torch/1/model.pt", b""),
        ("ensemble/config.pbtxt", b"platform: \"ensemble\""),
        ("broken/1/model.onnx", b"not a graph"),
        (
            "contradicted/config.pbtxt",
            b"input { name: \"a\" data_type: TYPE_INT64 dims: [ -1, 4 ] }",
        ),
        ("contradicted/1/model.onnx", &fixture("add_sub.onnx")),
        ("escape/1/model.onnx", &fixture("external_escape.onnx")),
        ("fixed/1/model.onnx", &fixture("fixed_batch.onnx")),
        ("secret.bin", b"outside of the model"),
        ("escape/secret.bin", b"outside of the version"),
    ]);
    let (code, output, _) = import("triton", place.path(), &[]);
    assert_eq!(code, 1, "{output}");
    for expected in [
        "FAILED   engine: config.pbtxt: line 1: `platform` is \"tensorrt_plan\"",
        "FAILED   torch/1: model.onnx: is missing; there is model.pt",
        "FAILED   ensemble: config.pbtxt: line 1: `platform` is \"ensemble\"",
        "FAILED   broken/1: model.onnx: is no ONNX model",
        "FAILED   contradicted/1: config.pbtxt input a: says int64[-1, 4]; the graph has float32[-1, 4]",
        "FAILED   escape/1: model.onnx: names \"../secret.bin\"",
        "FAILED   fixed/1: preprocessing.json /inputs/x: the graph takes exactly 8 rows",
        "imported ",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    assert_eq!(
        file_names(&place.path().join("to")),
        ["good"],
        "what failed leaves nothing behind"
    );
    verify(place.path());
}

#[test]
fn links_that_leave_the_repository_are_not_followed() {
    let graph = fixture("add_sub.onnx");
    let config = b"output { name: \"sum\" dims: [ -1, 4 ] label_filename: \"labels.txt\" }";
    let place = workplace(&[
        ("graph/1/weights.bin", b""),
        ("labels/config.pbtxt", config),
        ("labels/1/model.onnx", &graph),
        ("config/1/model.onnx", &graph),
        ("inner/1/model.onnx", &graph),
        ("inner/2/weights.bin", b""),
        ("../outside/model.onnx", &graph),
        ("../outside/labels.txt", b"a\nb\nc\nd\n"),
        ("../outside/config.pbtxt", b"max_batch_size: 4"),
    ]);
    let link = |from: &str, to: &str| {
        std::os::unix::fs::symlink(to, place.path().join("from").join(from)).unwrap()
    };
    link("graph/1/model.onnx", "../../../outside/model.onnx");
    link("labels/labels.txt", "../../outside/labels.txt");
    link("config/config.pbtxt", "../../outside/config.pbtxt");
    link("inner/2/model.onnx", "../../inner/1/model.onnx");
    let (code, output, _) = import("triton", place.path(), &[]);
    assert_eq!(code, 1, "{output}");
    for expected in [
        "graph/1: graph/1/model.onnx: leads out",
        "labels/1: labels.txt: can't be read: it is a link that leads out",
        "config: config/config.pbtxt: leads out",
        // As the server refuses it: a version holds its own files.
        "inner/2: model.onnx: is a symlink that leaves the package",
    ] {
        assert!(
            output.contains(&format!("FAILED   {expected}")),
            "{expected}: {output}"
        );
    }
    assert_eq!(file_names(&place.path().join("to")), ["inner"], "{output}");
}

#[test]
fn one_model_of_a_repository_and_no_version_twice() {
    let place = workplace(&[
        ("1/model.onnx", &fixture("add_sub.onnx")),
        ("2/model.onnx", &fixture("add_sub.onnx")),
    ]);
    fs_err::create_dir_all(place.path().join("to/from/2")).unwrap();
    let (code, output, _) = import("triton", place.path(), &["--json"]);
    assert_eq!(code, 1, "{output}");
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["model"], &lines[0]["imported"]),
        (&json!("from/1"), &json!(true))
    );
    assert_eq!(
        (&lines[1]["model"], &lines[1]["imported"]),
        (&json!("from/2"), &json!(false))
    );
    assert!(
        lines[1]["error"]
            .as_str()
            .unwrap()
            .contains("from/2 already exists"),
        "{output}"
    );
    assert_eq!(
        file_names(&place.path().join("to/from/2")),
        [""; 0],
        "it was not touched"
    );
    let manifest = fs_err::read(place.path().join("to/from/1/manifest.json")).unwrap();
    assert_eq!(import("triton", place.path(), &[]).0, 1);
    assert_eq!(
        fs_err::read(place.path().join("to/from/1/manifest.json")).unwrap(),
        manifest
    );
}

/// `import` into a directory of the workplace's, or what it says of that.
fn import_to(kind: &str, place: &TempDir, output: &str, more: &[&str]) -> Result<(), String> {
    let (from, to) = (place.path().join("from"), place.path().join(output));
    let (code, output, error) = run_predictd(
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
    );
    if code == 0 {
        Ok(())
    } else {
        Err(output + &error)
    }
}

#[test]
fn an_output_that_ends_in_name_and_version_is_the_packages_own() {
    let signature =
        "[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"float32\", \"shape\": [-1, 11]}}]";
    let mlflow = workplace(&[
        ("MLmodel", mlmodel(signature).as_bytes()),
        ("model.onnx", &graph("diabetes", "1.0.0")),
    ]);
    let made =
        |place: &TempDir, path: &str| place.path().join(path).join("manifest.json").is_file();
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
    // A number is a version below the model's name alone.
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

    let triton = workplace(&[("1/model.onnx", &fixture("add_sub.onnx"))]);
    import_to("triton", &triton, "made/from/1", &[]).unwrap();
    assert!(made(&triton, "made/from/1"));
    let error = import_to("triton", &triton, "made/from/2.0.0", &[]).unwrap_err();
    assert!(
        error.contains(
            "is the directory of from/2.0.0, but from/1 would be imported; give --output"
        ),
        "{error}"
    );
    let several = workplace(&[
        ("1/model.onnx", &fixture("add_sub.onnx")),
        ("2/model.onnx", &fixture("add_sub.onnx")),
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
fn a_directory_without_models_is_told() {
    let place = workplace(&[("docs/readme.txt", b"")]);
    let (code, _, error) = import("triton", place.path(), &[]);
    assert!(code == 1 && error.contains("contains no model"), "{error}");
    let (code, _, error) = import("mlflow", place.path(), &[]);
    assert!(
        code == 1 && error.contains("MLmodel: is missing"),
        "{error}"
    );
    assert_eq!(run_predictd(&["import", "seldon", "."], "", &[]).0, 2);
}

/// As MLflow writes it, folded lines and all.
fn mlmodel(inputs: &str) -> String {
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

/// The frame of these rows, as MLflow keeps it for its server.
fn frame(rows: &[Value]) -> String {
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let data: Vec<Vec<&Value>> = rows
        .iter()
        .map(|row| columns.iter().map(|name| &row[name.as_str()]).collect())
        .collect();
    json!({"dataframe_split": {"columns": columns, "data": data}}).to_string()
}

#[test]
fn columns_of_an_mlflow_model_become_one_tensor() {
    let names: Vec<String> = (0..11)
        .map(|index| format!("column {index} (cm)"))
        .collect();
    let signature: Vec<String> = names
        .iter()
        .map(|name| {
            format!("{{\"type\": \"double\", \"name\": \"{name}\",\n    \"required\": true}}")
        })
        .collect();
    let rows: Vec<Value> = (0..3)
        .map(|row| {
            names
                .iter()
                .map(|name| (name.clone(), json!(0.25 * f64::from(row))))
                .collect()
        })
        .collect();
    let place = workplace(&[
        (
            "MLmodel",
            mlmodel(&format!("[{}]", signature.join(", "))).as_bytes(),
        ),
        ("model.onnx", &graph("diabetes", "1.0.0")),
        ("serving_input_example.json", frame(&rows).as_bytes()),
        ("conda.yaml", b"dependencies: []"),
        ("requirements.txt", b"mlflow"),
    ]);
    let (code, output, error) = import(
        "mlflow",
        place.path(),
        &["--name", "diabetes", "--version", "2.1.0"],
    );
    assert_eq!((code, error.as_str()), (0, ""), "{output}");
    assert!(output.contains("3 golden examples"), "{output}");
    verify(place.path());

    let columns = &document(place.path(), "diabetes/2.1.0/preprocessing.json")["inputs"]["features"]
        ["columns"];
    assert_eq!(
        columns
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["field"].as_str().unwrap())
            .collect::<Vec<_>>(),
        names
    );
    let manifest = document(place.path(), "diabetes/2.1.0/manifest.json");
    assert_eq!(
        manifest["provenance"]["source"],
        "MLflow run 7e2a6d4f0c3b4a1e9d8c7b6a5f4e3d2c, logged 2026-11-20 08:15:30.123456 UTC by MLflow 2.20.3"
    );
    let files: Vec<&String> = manifest["files"].as_object().unwrap().keys().collect();
    assert_eq!(
        files,
        [
            "README.md",
            "golden.jsonl",
            "model.onnx",
            "preprocessing.json",
            "schema.json"
        ]
    );
    let instances = json!({"instances": rows}).to_string();
    assert_eq!(predict(place.path(), "diabetes/2.1.0", &instances).len(), 3);
}

#[test]
fn an_input_for_each_column_answers_as_the_package_of_the_same_graph() {
    let examples = golden_examples("churn-pipeline", "1.1.0");
    let whole = |example: &&Value| {
        !example["input"]
            .as_object()
            .unwrap()
            .values()
            .any(Value::is_null)
    };
    let full = examples
        .iter()
        .map(|example| example["input"].as_object().unwrap().len())
        .max()
        .unwrap();
    let examples: Vec<&Value> = examples
        .iter()
        .filter(whole)
        .filter(|example| example["input"].as_object().unwrap().len() == full)
        .take(4)
        .collect();
    let rows: Vec<Value> = examples
        .iter()
        .map(|example| example["input"].clone())
        .collect();
    let kind = |value: &Value| match value {
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        _ => "double",
    };
    let columns: Vec<Value> = rows[0]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| json!({"type": kind(value), "name": name, "required": name != "age"}))
        .collect();
    let place = workplace(&[
        ("MLmodel", mlmodel(&json!(columns).to_string()).as_bytes()),
        ("model.onnx", &graph("churn-pipeline", "1.1.0")),
        ("serving_input_example.json", frame(&rows).as_bytes()),
    ]);
    let (code, output, error) = import("mlflow", place.path(), &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{output}");
    verify(place.path());
    assert!(
        !place
            .path()
            .join("to/from/1.0.0/preprocessing.json")
            .exists()
    );
    let schema = document(place.path(), "from/1.0.0/schema.json");
    assert_eq!(
        schema["input"]["properties"]["age"]["type"],
        json!(["number", "null"])
    );
    let answers = predict(
        place.path(),
        "from/1.0.0",
        &json!({"instances": rows}).to_string(),
    );
    assert_eq!(answers.len(), 4);
    for (answer, example) in answers.iter().zip(examples) {
        assert_eq!(answer["label"], example["output"]["label"]);
    }
}

#[test]
fn a_tensor_keeps_its_shape() {
    let signature =
        json!([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}])
            .to_string();
    let rows =
        json!({"inputs": [vec![vec![vec![0.5; 8]; 8]], vec![vec![vec![0.25; 8]; 8]]]}).to_string();
    let place = workplace(&[
        ("MLmodel", mlmodel(&signature).as_bytes()),
        ("model.onnx", &graph("digits", "1.0.0")),
        ("serving_input_example.json", rows.as_bytes()),
    ]);
    let (code, output, error) = import("mlflow", place.path(), &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{output}");
    verify(place.path());
    let text = fs_err::read_to_string(place.path().join("to/from/1.0.0/golden.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn what_mlflow_saved_is_not_trusted() {
    let good = mlmodel("[{\"type\": \"double\", \"name\": \"a\"}]");
    let bomb = format!("a: &a [x, x]\nb: &b [*a, *a]\nrun_id: *b\n{good}");
    let cases: &[(&str, String, &str)] = &[
        (
            "leaves by ..",
            good.replace("data: model.onnx", "data: ../model.onnx"),
            "\"../model.onnx\" is outside of the directory",
        ),
        (
            "leaves by /",
            good.replace("data: model.onnx", "data: /etc/passwd"),
            "\"/etc/passwd\" is outside of the directory",
        ),
        (
            "another flavor",
            good.replace("  onnx:\n", "  sklearn:\n"),
            "found sklearn, python_function; convert it",
        ),
        (
            "no YAML",
            "a: [".to_owned(),
            "MLmodel: can't be read as YAML",
        ),
        ("aliases", bomb, "MLmodel: can't be read as YAML"),
        (
            "too large",
            format!("{good}# {}", "x".repeat(1 << 20)),
            "bytes; at most 1048576 are read",
        ),
        (
            "no signature's JSON",
            mlmodel("[{"),
            "MLmodel /signature/inputs: is no list of columns or tensors",
        ),
        (
            "not the graph's",
            mlmodel(
                "[{\"type\": \"double\", \"name\": \"a\"}, {\"type\": \"double\", \"name\": \"z\"}]",
            ),
            "has no column \"b\"",
        ),
    ];
    for (what, text, expected) in cases {
        let place = workplace(&[
            ("MLmodel", text.as_bytes()),
            ("model.onnx", &fixture("add_sub.onnx")),
        ]);
        let (code, output, error) = import("mlflow", place.path(), &[]);
        assert_eq!(code, 1, "{what}: {output}{error}");
        assert!(
            format!("{output}{error}").contains(expected),
            "{what}: {output}{error}"
        );
        assert!(file_names(&place.path().join("to")).is_empty(), "{what}");
    }
    let place = workplace(&[
        ("MLmodel", good.as_bytes()),
        ("model.onnx", &fixture("add_sub.onnx")),
    ]);
    let (code, _, error) = import("mlflow", place.path(), &["--version", "1.0"]);
    assert!(
        code == 1 && error.contains("not a semantic version"),
        "{error}"
    );
    let (code, _, error) = import("mlflow", place.path(), &["--name", "a/b"]);
    assert!(code == 1 && error.contains("model name"), "{error}");
}

#[test]
fn an_example_that_can_not_be_used_is_left_out_and_told() {
    let signature = json!([{"type": "double", "name": "x"}]).to_string();
    for (file, expected) in [
        (
            "../outside.json",
            "\"../outside.json\" is outside of the directory",
        ),
        ("nothing.json", "nothing.json"),
        (
            "serving_input_example.json",
            "serving_input_example.json is not JSON",
        ),
    ] {
        let text = mlmodel(&signature).replace(
            "serving_input_path: serving_input_example.json",
            &format!("serving_input_path: {file}"),
        );
        let place = workplace(&[
            ("MLmodel", text.as_bytes()),
            ("model.onnx", &fixture("identity_fp32.onnx")),
            ("serving_input_example.json", b"{\"dataframe_split\": NaN}"),
            ("../outside.json", b"[[1]]"),
        ]);
        let (code, output, error) = import("mlflow", place.path(), &[]);
        assert!(
            code == 0 && output.contains("0 golden examples"),
            "{output}{error}"
        );
        assert!(
            error.contains("the input example was skipped") && error.contains(expected),
            "{error}"
        );
        verify(place.path());
    }
}
