//! Models that MLflow saved.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    fixture_bytes, graph_of_package, import, mlmodel_file, read_document, run_predict, verify_all,
    workplace_with_source,
};
use crate::harness::{file_names, golden_examples};

/// The input example of these rows as MLflow stores it, in the form of a split data frame.
fn input_example(rows: &[Value]) -> String {
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let data: Vec<Vec<&Value>> = rows
        .iter()
        .map(|row| columns.iter().map(|name| &row[name.as_str()]).collect())
        .collect();
    json!({"dataframe_split": {"columns": columns, "data": data}}).to_string()
}

/// Asserts the provenance and the files of the imported package.
fn check_manifest(workplace: &TempDir) {
    let manifest = read_document(workplace.path(), "diabetes/2.1.0/manifest.json");
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
    let workplace = workplace_with_source(&[
        (
            "MLmodel",
            mlmodel_file(&format!("[{}]", signature.join(", "))).as_bytes(),
        ),
        ("model.onnx", &graph_of_package("diabetes", "1.0.0")),
        (
            "serving_input_example.json",
            input_example(&rows).as_bytes(),
        ),
        ("conda.yaml", b"dependencies: []"),
        ("requirements.txt", b"mlflow"),
    ]);
    let (code, output, error) = import(
        "mlflow",
        workplace.path(),
        &["--name", "diabetes", "--version", "2.1.0"],
    );
    assert_eq!((code, error.as_str()), (0, ""), "{output}");
    assert!(output.contains("3 golden examples"), "{output}");
    verify_all(workplace.path());

    let columns = &read_document(workplace.path(), "diabetes/2.1.0/preprocessing.json")["inputs"]["features"]
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
    check_manifest(&workplace);
    let instances = json!({"instances": rows}).to_string();
    assert_eq!(
        run_predict(workplace.path(), "diabetes/2.1.0", &instances).len(),
        3
    );
}

#[test]
fn an_mlflow_model_with_one_input_for_each_column_answers_as_the_package_of_its_graph() {
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
    let workplace = workplace_with_source(&[
        (
            "MLmodel",
            mlmodel_file(&json!(columns).to_string()).as_bytes(),
        ),
        ("model.onnx", &graph_of_package("churn-pipeline", "1.1.0")),
        (
            "serving_input_example.json",
            input_example(&rows).as_bytes(),
        ),
    ]);
    let (code, output, error) = import("mlflow", workplace.path(), &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{output}");
    verify_all(workplace.path());
    assert!(
        !workplace
            .path()
            .join("to/from/1.0.0/preprocessing.json")
            .exists()
    );
    let schema = read_document(workplace.path(), "from/1.0.0/schema.json");
    assert_eq!(
        schema["input"]["properties"]["age"]["type"],
        json!(["number", "null"])
    );
    let answers = run_predict(
        workplace.path(),
        "from/1.0.0",
        &json!({"instances": rows}).to_string(),
    );
    assert_eq!(answers.len(), 4);
    for (answer, example) in answers.iter().zip(examples) {
        assert_eq!(answer["label"], example["output"]["label"]);
    }
}

#[test]
fn a_tensor_signature_keeps_its_shape() {
    let signature =
        json!([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}])
            .to_string();
    let rows =
        json!({"inputs": [vec![vec![vec![0.5; 8]; 8]], vec![vec![vec![0.25; 8]; 8]]]}).to_string();
    let workplace = workplace_with_source(&[
        ("MLmodel", mlmodel_file(&signature).as_bytes()),
        ("model.onnx", &graph_of_package("digits", "1.0.0")),
        ("serving_input_example.json", rows.as_bytes()),
    ]);
    let (code, output, error) = import("mlflow", workplace.path(), &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{output}");
    verify_all(workplace.path());
    let text = fs_err::read_to_string(workplace.path().join("to/from/1.0.0/golden.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn hostile_mlflow_models_are_rejected() {
    let good = mlmodel_file("[{\"type\": \"double\", \"name\": \"a\"}]");
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
            mlmodel_file("[{"),
            "MLmodel /signature/inputs: is not a list of columns or tensors",
        ),
        (
            "not the graph's",
            mlmodel_file(
                "[{\"type\": \"double\", \"name\": \"a\"}, {\"type\": \"double\", \"name\": \"z\"}]",
            ),
            "has no column \"b\"",
        ),
    ];
    for (what, text, expected) in cases {
        let workplace = workplace_with_source(&[
            ("MLmodel", text.as_bytes()),
            ("model.onnx", &fixture_bytes("add_sub.onnx")),
        ]);
        let (code, output, error) = import("mlflow", workplace.path(), &[]);
        assert_eq!(code, 1, "{what}: {output}{error}");
        assert!(
            format!("{output}{error}").contains(expected),
            "{what}: {output}{error}"
        );
        assert!(
            file_names(&workplace.path().join("to")).is_empty(),
            "{what}"
        );
    }
    let workplace = workplace_with_source(&[
        ("MLmodel", good.as_bytes()),
        ("model.onnx", &fixture_bytes("add_sub.onnx")),
    ]);
    let (code, _, error) = import("mlflow", workplace.path(), &["--version", "1.0"]);
    assert!(
        code == 1 && error.contains("not a semantic version"),
        "{error}"
    );
    let (code, _, error) = import("mlflow", workplace.path(), &["--name", "a/b"]);
    assert!(code == 1 && error.contains("model name"), "{error}");
}

#[test]
fn an_unusable_example_is_omitted_with_a_warning() {
    let signature = json!([{"type": "double", "name": "x"}]).to_string();
    for (file, expected) in [
        (
            "../outside.json",
            "\"../outside.json\" is outside of the directory",
        ),
        ("nothing.json", "nothing.json"),
        (
            "serving_input_example.json",
            "serving_input_example.json: is not JSON",
        ),
    ] {
        let text = mlmodel_file(&signature).replace(
            "serving_input_path: serving_input_example.json",
            &format!("serving_input_path: {file}"),
        );
        let workplace = workplace_with_source(&[
            ("MLmodel", text.as_bytes()),
            ("model.onnx", &fixture_bytes("identity_fp32.onnx")),
            ("serving_input_example.json", b"{\"dataframe_split\": NaN}"),
            ("../outside.json", b"[[1]]"),
        ]);
        let (code, output, error) = import("mlflow", workplace.path(), &[]);
        assert!(
            code == 0 && output.contains("0 golden examples"),
            "{output}{error}"
        );
        assert!(
            error.contains("the input example was skipped") && error.contains(expected),
            "{error}"
        );
        verify_all(workplace.path());
    }
}
