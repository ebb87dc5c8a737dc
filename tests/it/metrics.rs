//! The metrics: series exist before the first request, and no label is chosen by a client.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{InProcessServer, ServerClient, example_input, models_with};

fn start() -> (TempDir, InProcessServer) {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[("cost.dollars_per_core_hour", "0.05")]);
    (models, server)
}

/// The series of requests to a version of churn with this status code.
fn requests(version: &str, code: u16) -> String {
    format!(
        "predictd_requests_total{{code=\"{code}\",model=\"churn\",protocol=\"predict\",version=\"{version}\"}}"
    )
}

/// Sends valid and invalid requests, some of them to names that don't exist.
fn send_requests(server: &ServerClient) {
    for _ in 0..3 {
        server.predict(
            "/predict",
            &json!({"instances": [example_input("churn", "1.1.0"), example_input("churn", "1.1.0")]}),
        );
    }
    server.predict(
        "/models/churn/versions/1.0.0/predict",
        &example_input("churn", "1.0.0"),
    );
    server.predict("/predict", &json!({}));
    server.predict("/models/nobody-knows-me/predict", &json!({}));
    server.predict("/models/churn/versions/7.7.7/predict", &json!({}));
    server.get("/no-such-path-either");
}

#[test]
fn series_of_requests_exist_before_the_first_request() {
    let (_models, server) = start();
    let text = server.metrics();
    for version in ["1.0.0", "1.1.0"] {
        for code in [200, 422, 500, 503] {
            assert!(
                text.contains(&format!("{} 0\n", requests(version, code))),
                "{version} {code}\n{text}"
            );
        }
    }
}

#[test]
fn requests_are_counted_by_model_and_version() {
    let (_models, server) = start();
    send_requests(&server);
    assert_eq!(server.metric(&requests("1.1.0", 200)), 3.0);
    assert_eq!(server.metric(&requests("1.0.0", 200)), 1.0);
    assert_eq!(server.metric(&requests("1.1.0", 422)), 1.0);
    assert_eq!(server.metric(&requests("", 404)), 1.0);
    assert_eq!(
        server.metric(
            "predictd_requests_total{code=\"404\",model=\"\",protocol=\"predict\",version=\"\"}"
        ),
        2.0
    );
    assert_eq!(
        server.metric("predictd_instances_total{model=\"churn\",version=\"1.1.0\"}"),
        6.0
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"invalid\",model=\"churn\",version=\"1.1.0\"}"),
        1.0
    );
    assert_eq!(
        server.metric(
            "predictd_request_duration_seconds_count{model=\"churn\",protocol=\"predict\",\
             version=\"1.1.0\"}"
        ),
        4.0
    );
    for stage in [
        "decode",
        "preprocess",
        "queue",
        "infer",
        "postprocess",
        "encode",
    ] {
        assert_eq!(
            server.metric(&format!(
                "predictd_stage_duration_seconds_count{{model=\"churn\",stage=\"{stage}\",\
                 version=\"1.1.0\"}}"
            )),
            3.0,
            "{stage}"
        );
    }
    assert_eq!(
        server.metric("predictd_inflight_requests{model=\"churn\",version=\"1.1.0\"}"),
        0.0
    );
    assert!(
        server.metric("predictd_compute_seconds_total{model=\"churn\",version=\"1.1.0\"}") > 0.0
    );
    assert!(server.metric("predictd_cost_dollars_total{model=\"churn\",version=\"1.1.0\"}") > 0.0);
    assert!(server.metric("process_resident_memory_bytes") > 0.0);
}

#[test]
fn no_label_is_chosen_by_a_client() {
    let (_models, server) = start();
    send_requests(&server);
    let text = server.metrics();
    assert!(
        !text.contains("nobody-knows-me")
            && !text.contains("7.7.7")
            && !text.contains("no-such-path"),
        "a client chose a label"
    );
}

#[test]
fn information_about_the_build_and_the_versions_is_exposed() {
    let (_models, server) = start();
    send_requests(&server);
    let text = server.metrics();
    assert!(text.contains("predictd_build_info{") && text.contains("onnxruntime=\"1.31.1\""));
    let info = text
        .lines()
        .find(|line| line.starts_with("predictd_model_info") && line.contains("version=\"1.1.0\""))
        .unwrap();
    assert!(
        info.contains("role=\"stable\"")
            && info.contains("verified=\"true\"")
            && info.contains("digest=\"sha256:"),
        "{info}"
    );
    for bucket in ["0.0001", "10"] {
        assert!(text.contains(&format!(
            "predictd_request_duration_seconds_bucket{{model=\"churn\",protocol=\"predict\",\
             version=\"1.1.0\",le=\"{bucket}\"}}"
        )));
    }
}
