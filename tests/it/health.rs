//! Probes.

use serde_json::json;

use crate::harness::{
    InProcessServer, Server, install_package, models_with, number_package, wait_for, wait_until,
};

#[test]
fn an_empty_directory_is_unready_until_a_model_is_installed() {
    let models = models_with(&[]);
    let server = Server::start_unready(models.path(), &[]);
    assert_eq!(server.get_json("/livez"), json!({"live": true}));
    let response = server.get("/readyz");
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    wait_until("the directory is scanned", || {
        server.get_json("/readyz")["reasons"][0]["reason"] == "there is no model"
    });
    assert_eq!(server.predict("/predict", &json!({})).status(), 503);
    assert!(
        wait_for("the start text is printed", || Some(server.stdout())
            .filter(|text| text.contains("metrics")))
        .contains("NOT ready")
    );
    install_package(models.path(), "diabetes", "1.0.0");
    server.wait_until_ready();
    assert_eq!(server.get("/healthz").status(), 200);
}

#[test]
fn the_server_is_unready_without_its_required_models() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server =
        InProcessServer::start_unready(models.path(), &[("models.required", "diabetes,churn")]);
    wait_until("diabetes answers", || {
        server.get("/models/diabetes").status() == 200
    });
    wait_until("the readiness names churn", || {
        let document = server.get_json("/readyz");
        let reasons = document["reasons"].as_array().cloned().unwrap_or_default();
        reasons == [json!({"model": "churn", "reason": "no such model in the models directory"})]
    });
    assert_eq!(
        server.predict("/models/churn/predict", &json!({})).status(),
        503
    );
    install_package(models.path(), "churn", "1.1.0");
    server.wait_until_ready();
    let verbose = server.get_json("/readyz?verbose");
    assert_eq!(verbose["models"][0]["name"], "churn");
    assert_eq!(verbose["models"][0]["stable"], "1.1.0");
    assert_eq!(verbose["models"][0]["versions"][0]["state"], "available");
}

#[test]
fn the_server_is_ready_without_other_models() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    number_package(models.path(), "endless", "endless_loop.onnx", &[]);
    let server = InProcessServer::start_unready(
        models.path(),
        &[
            ("models.required", "diabetes"),
            ("models.gate_timeout_ms", "600000"),
        ],
    );
    server.wait_until_ready();
    assert_eq!(
        server.get_json("/models/endless/versions/1.0.0")["state"],
        "loading"
    );
}

#[test]
fn the_command_in_the_start_text_can_be_pasted() {
    let models = models_with(&[("churn", "1.1.0"), ("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let greeting = wait_for("the start text is printed", || {
        Some(server.stdout()).filter(|text| text.contains("metrics"))
    });
    let curl = greeting
        .lines()
        .find_map(|line| line.strip_prefix("try"))
        .unwrap()
        .trim()
        .to_owned();
    let output = std::process::Command::new("sh")
        .args(["-c", &curl])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"predictions\":["), "{curl}: {text}");
    assert!(
        greeting.contains("/docs") && greeting.contains("churn"),
        "{greeting}"
    );
}

/// The process of a gate ends when its server is killed.
#[cfg(target_os = "linux")]
#[test]
fn a_gate_process_ends_with_its_server() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    number_package(models.path(), "endless", "endless_loop.onnx", &[]);
    let server = Server::start_unready(
        models.path(),
        &[
            ("models.required", "diabetes"),
            ("models.gate_timeout_ms", "600000"),
        ],
    );
    server.wait_until_ready();
    let directory = models.path().join("endless/1.0.0");
    let gates = || {
        let processes = fs_err::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs_err::read(entry.unwrap().path().join("cmdline")).ok());
        processes
            .filter(|line| String::from_utf8_lossy(line).contains(directory.to_str().unwrap()))
            .count()
    };
    wait_until("the gate runs", || gates() == 1);
    drop(server);
    wait_until("the gate is gone", || gates() == 0);
}
