//! Triton's model repositories.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    fixture_bytes, graph_of_package, import, read_document, run_predict, verify_all,
    workplace_with_source,
};
use crate::harness::file_names;

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
    let workplace = workplace_with_source(&[
        ("churn/config.pbtxt", CHURN_CONFIG.as_bytes()),
        ("churn/labels.txt", b"stay\nchurn\n"),
        ("churn/1/model.onnx", &graph_of_package("churn", "1.0.0")),
        ("churn/2/model.onnx", &graph_of_package("churn", "1.1.0")),
        ("weights/7/model.onnx", &fixture_bytes("external_data.onnx")),
        (
            "weights/7/external_data.bin",
            &fixture_bytes("external_data.bin"),
        ),
        ("weights/7/notes.txt", b"not the graph's"),
    ]);
    let (code, output, error) = import("triton", workplace.path(), &[]);
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
    verify_all(workplace.path());

    let manifest = read_document(workplace.path(), "churn/2/manifest.json");
    assert_eq!(
        (&manifest["name"], &manifest["version"]),
        (&json!("churn"), &json!("2"))
    );
    assert_eq!(manifest["runtime"]["opset"]["ai.onnx"], 18);
    let batching = json!({"max_batch_size": 32});
    assert_eq!(
        read_document(workplace.path(), "churn/2/serving.json"),
        json!({"batching": batching})
    );
    let answer = &run_predict(
        workplace.path(),
        "churn/2",
        &json!({"features": vec![0.0; 29]}).to_string(),
    )[0];
    let probability = |label: &str| answer["probabilities"][label].as_f64().unwrap();
    assert!(
        (probability("stay") + probability("churn") - 1.0).abs() < 1e-5,
        "{answer}"
    );

    assert_eq!(
        file_names(&workplace.path().join("to")),
        ["churn", "weights"],
        "no staging directory is left"
    );
    check_external_weights(workplace.path());
}

/// Checks the package of a graph whose weights are in another file.
fn check_external_weights(workplace: &Path) {
    assert_eq!(
        file_names(&workplace.join("to/weights/7")),
        [
            "README.md",
            "external_data.bin",
            "manifest.json",
            "model.onnx",
            "schema.json"
        ]
    );
    assert_eq!(
        run_predict(workplace, "weights/7", "{\"x\": [1, 0, 0, 0]}")[0]["y"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn every_datatype_is_imported() {
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
                fixture_bytes(&format!("identity_{name}.onnx")),
            )
        })
        .collect();
    files.extend(
        graphs
            .iter()
            .map(|(file, content)| (file.as_str(), content.as_slice())),
    );
    let workplace = workplace_with_source(&files);
    let (code, output, error) = import("triton", workplace.path(), &[]);
    assert_eq!(code, 0, "{output}{error}");
    verify_all(workplace.path());
    for name in types {
        let (input, expected) = match name {
            "bool" => (json!([true, false]), json!([true, false])),
            // A row of one value is answered as that value, not as a list.
            "bytes" => (json!("é"), json!("é")),
            "fp16" | "fp32" | "fp64" => (json!([1.5, 0.0]), json!([1.5, 0.0])),
            _ => (json!([1, 0]), json!([1, 0])),
        };
        let answer = &run_predict(
            workplace.path(),
            &format!("{name}/1"),
            &json!({"x": input}).to_string(),
        )[0];
        assert_eq!(answer["y"], expected, "{name}");
    }
}

#[test]
fn models_of_other_formats_are_reported_and_the_rest_is_imported() {
    let workplace = workplace_with_source(&[
        ("good/1/model.onnx", &fixture_bytes("add_sub.onnx")),
        ("engine/config.pbtxt", b"platform: \"tensorrt_plan\""),
        ("engine/1/model.plan", b""),
        ("torch/1/model.pt", b""),
        ("ensemble/config.pbtxt", b"platform: \"ensemble\""),
        ("broken/1/model.onnx", b"not a graph"),
        (
            "contradicted/config.pbtxt",
            b"input { name: \"a\" data_type: TYPE_INT64 dims: [ -1, 4 ] }",
        ),
        ("contradicted/1/model.onnx", &fixture_bytes("add_sub.onnx")),
        (
            "escape/1/model.onnx",
            &fixture_bytes("external_escape.onnx"),
        ),
        ("fixed/1/model.onnx", &fixture_bytes("fixed_batch.onnx")),
        ("secret.bin", b"outside of the model"),
        ("escape/secret.bin", b"outside of the version"),
    ]);
    let (code, output, _) = import("triton", workplace.path(), &[]);
    assert_eq!(code, 1, "{output}");
    for expected in [
        "FAILED   engine: config.pbtxt: line 1: `platform` is \"tensorrt_plan\"",
        "FAILED   torch/1: model.onnx: is missing; there is model.pt",
        "FAILED   ensemble: config.pbtxt: line 1: `platform` is \"ensemble\"",
        "FAILED   broken/1: model.onnx: is not an ONNX model",
        "FAILED   contradicted/1: config.pbtxt input a: says int64[-1, 4]; the graph has float32[-1, 4]",
        "FAILED   escape/1: model.onnx: names \"../secret.bin\"",
        "FAILED   fixed/1: preprocessing.json /inputs/x: the graph takes exactly 8 rows",
        "imported ",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    assert_eq!(
        file_names(&workplace.path().join("to")),
        ["good"],
        "a failed import leaves no files"
    );
    verify_all(workplace.path());
}

#[test]
fn links_out_of_the_repository_are_not_followed() {
    let graph = fixture_bytes("add_sub.onnx");
    let config = b"output { name: \"sum\" dims: [ -1, 4 ] label_filename: \"labels.txt\" }";
    let workplace = workplace_with_source(&[
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
        std::os::unix::fs::symlink(to, workplace.path().join("from").join(from)).unwrap()
    };
    link("graph/1/model.onnx", "../../../outside/model.onnx");
    link("labels/labels.txt", "../../outside/labels.txt");
    link("config/config.pbtxt", "../../outside/config.pbtxt");
    link("inner/2/model.onnx", "../../inner/1/model.onnx");
    let (code, output, _) = import("triton", workplace.path(), &[]);
    assert_eq!(code, 1, "{output}");
    for expected in [
        "graph/1: graph/1/model.onnx: leads out",
        "labels/1: labels.txt: can't be read: it is a link that leads out",
        "config: config/config.pbtxt: leads out",
        // The server has the same rule: a version contains its own files.
        "inner/2: model.onnx: is a symlink that leaves the package",
    ] {
        assert!(
            output.contains(&format!("FAILED   {expected}")),
            "{expected}: {output}"
        );
    }
    assert_eq!(
        file_names(&workplace.path().join("to")),
        ["inner"],
        "{output}"
    );
}

#[test]
fn one_model_can_be_chosen_and_no_version_is_overwritten() {
    let workplace = workplace_with_source(&[
        ("1/model.onnx", &fixture_bytes("add_sub.onnx")),
        ("2/model.onnx", &fixture_bytes("add_sub.onnx")),
    ]);
    fs_err::create_dir_all(workplace.path().join("to/from/2")).unwrap();
    let (code, output, _) = import("triton", workplace.path(), &["--json"]);
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
        file_names(&workplace.path().join("to/from/2")),
        [""; 0],
        "the existing version is unchanged"
    );
    let manifest = fs_err::read(workplace.path().join("to/from/1/manifest.json")).unwrap();
    assert_eq!(import("triton", workplace.path(), &[]).0, 1);
    assert_eq!(
        fs_err::read(workplace.path().join("to/from/1/manifest.json")).unwrap(),
        manifest
    );
}
