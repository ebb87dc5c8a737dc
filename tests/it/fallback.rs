//! Fallbacks: another source answers if a version fails, and the answer says so.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    PREDICTD, Server, example_input, install_graph, models_of_graphs, models_with, wait_until,
};

/// Writes a configuration file: its directory and its path.
fn write_configuration(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("predictd.toml");
    fs_err::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

fn start_with_configuration(models: &std::path::Path, path: &str) -> Server {
    Server::start_prepared(models, &[], |command: &mut Command| {
        command.args(["--config", path]);
    })
}

#[test]
fn the_previous_version_answers_for_a_failing_one() {
    let (_file, path) = write_configuration("[model.m.fallback]\non = [\"error\", \"nan\"]\n");
    let models = models_of_graphs(&[("m", "nan_rows.onnx")]);
    let server = start_with_configuration(models.path(), &path);
    install_graph(models.path(), "m", 2, "fails_rows", None);
    server.decide(
        "m/rollback",
        &json!({"to": "2", "never_stable": true, "reason": "a test"}),
    );
    let ask = |x: f64| server.predict("/models/m/predict", &json!({"x": [x]}));
    let good = ask(3.0);
    assert_eq!(good.headers()["x-model-version"], "2");
    assert!(!good.headers().contains_key("x-fallback"));
    // Version 2 fails on 20. Version 1 answers its input.
    let answer = ask(20.0);
    assert_eq!(
        (
            answer.status().as_u16(),
            &answer.headers()["x-model-version"]
        ),
        (200, &"1".parse().unwrap())
    );
    assert_eq!(answer.headers()["x-fallback"], "previous; reason=error");
    let answer: Value = answer.json().unwrap();
    assert_eq!(
        answer["fallback"],
        json!({"to": "previous", "reason": "error"})
    );
    assert_eq!(answer["predictions"], json!([{"y": [20.0]}]));
    let oip =
        json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [20.0]}]});
    let answer: Value = server.predict("/v2/models/m/infer", &oip).json().unwrap();
    assert_eq!(
        answer["parameters"],
        json!({"fallback": "previous", "fallback_reason": "error"})
    );
    assert_eq!(answer["model_version"], "1");
    let row = json!({"instances": [[20.0]]});
    for path in ["/v1/models/m:predict", "/invocations"] {
        let answer = server.predict(path, &row);
        assert_eq!(answer.headers()["x-fallback"], "previous; reason=error");
        let answer: Value = answer.json().unwrap();
        assert_eq!(
            answer["fallback"],
            json!({"to": "previous", "reason": "error"}),
            "{path}: {answer}"
        );
    }
    assert_eq!(
        server.metric(r#"predictd_fallbacks_total{model="m",reason="error",version="2"}"#),
        4.0
    );
    assert_eq!(
        server.metric(r#"predictd_errors_total{kind="invalid",model="m",version="2"}"#),
        4.0
    );
    // A request that names a version gets that version's failure.
    assert_eq!(
        server
            .predict("/models/m/versions/2/predict", &json!({"x": [20.0]}))
            .status(),
        422
    );
}

#[test]
fn another_model_answers_if_its_schema_is_compatible() {
    let (_file, path) =
        write_configuration("[model.m.fallback]\nto = [\"model:wrong\", \"model:spare\"]\n");
    let models = models_of_graphs(&[
        ("m", "fails_rows.onnx"),
        ("spare", "nan_rows.onnx"),
        ("wrong", "iris.onnx"),
    ]);
    let server = start_with_configuration(models.path(), &path);
    let answer = server.predict("/models/m/predict", &json!({"x": [20.0]}));
    assert_eq!(answer.headers()["x-fallback"], "model:spare; reason=error");
    assert_eq!(answer.headers()["x-model-name"], "spare");
    wait_until("the incompatible fallback is reported", || {
        server
            .log()
            .iter()
            .any(|line| line["fallback"] == "wrong/1")
    });
}

#[test]
fn a_timeout_leaves_time_for_the_fallback() {
    let (_file, path) = write_configuration("[model.m.fallback]\nto = [\"model:spare\"]\n");
    let models = models_of_graphs(&[("m", "slow_rows.onnx"), ("spare", "nan_rows.onnx")]);
    let server = start_with_configuration(models.path(), &path);
    let answer = server
        .post("/models/m/predict")
        .header("x-request-timeout-ms", "2000")
        .body(json!({"x": [1e9]}).to_string())
        .send()
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["x-fallback"],
        "model:spare; reason=timeout"
    );
}

#[test]
fn a_constant_fallback_comes_from_the_package() {
    let (_file, path) =
        write_configuration("[model.churn.fallback]\n[model.churn.batching]\nqueue_capacity = 1\n");
    let models = models_with(&[("churn", "1.1.0")]);
    let package = models.path().join("churn/1.1.0");
    let mut serving: Value = serde_json::from_slice(
        &fs_err::read(package.join("serving.json")).unwrap_or_else(|_| b"{}".to_vec()),
    )
    .unwrap();
    let pack_with = |serving: &Value| {
        fs_err::write(package.join("serving.json"), serving.to_string()).unwrap();
        Command::new(PREDICTD)
            .arg("pack")
            .arg(&package)
            .output()
            .unwrap()
    };
    serving["fallback"] = json!({"label": "perhaps", "probabilities": {"stay": 1.0, "churn": 0.0}});
    let refused = pack_with(&serving);
    assert!(!refused.status.success());
    let refused = String::from_utf8([refused.stdout, refused.stderr].concat()).unwrap();
    assert!(
        refused.contains("/fallback/label") && refused.contains("not one of the labels"),
        "{refused}"
    );
    serving["fallback"] = json!({"label": "stay", "probabilities": {"stay": 1.0, "churn": 0.0}});
    let packed = pack_with(&serving);
    assert!(
        packed.status.success(),
        "{}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let server = start_with_configuration(models.path(), &path);
    // The model refuses a request of more runs than its queue holds. The fallback answers each of
    // its two rows.
    let rows = vec![example_input("churn", "1.1.0"); 64 * 8];
    let mut given = None;
    wait_until("the queue is full", || {
        let answer = server.predict("/models/churn/predict", &json!({"instances": rows}));
        assert_eq!(answer.status(), 200);
        let fallback = answer
            .headers()
            .get("x-fallback")
            .map(|value| value.to_str().unwrap().to_owned());
        let document: Value = answer.json().unwrap();
        given = fallback.map(|fallback| (fallback, document));
        given.is_some()
    });
    let (fallback, document) = given.unwrap();
    assert_eq!(fallback, "constant; reason=overloaded");
    assert_eq!(
        document["predictions"].as_array().unwrap().len(),
        rows.len()
    );
    assert_eq!(
        document["predictions"][511],
        json!({"label": "stay", "probabilities": {"stay": 1.0, "churn": 0.0}})
    );
}

#[test]
fn an_invalid_fallback_chain_is_a_configuration_error() {
    for (text, part) in [
        (
            "[model.m.fallback]\nto = [\"nobody\"]\n",
            "\"nobody\" is not",
        ),
        ("[model.m.fallback]\non = [\"monday\"]\n", "monday"),
        ("[model.m.fallback]\nonn = []\n", "fallback.on"),
    ] {
        let (_file, path) = write_configuration(text);
        let output = Command::new(PREDICTD)
            .args(["serve", "--check", "--config", &path])
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && message.contains(part),
            "{message}"
        );
    }
}
