//! The metrics: series exist before the first request, and no label is chosen by a client.

use std::collections::BTreeMap;

use reqwest::Method;
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
        for kind in [
            "invalid",
            "timeout",
            "cancelled",
            "inference",
            "internal",
            "overloaded",
        ] {
            let series = format!(
                r#"predictd_errors_total{{kind="{kind}",model="churn",version="{version}"}} 0"#
            );
            assert!(text.contains(&series), "{series}\n{text}");
        }
    }
}

/// Every refusal is counted by the status that the caller gets, whatever the protocol is.
#[test]
fn refusals_are_counted_by_their_status() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[("server.max_body_bytes", "100000")]);
    let send = |path: &str, content_type: &str, body: String| {
        let request = server.client.post(server.url(path));
        let answer = request.header("content-type", content_type).body(body);
        answer.send().unwrap().status().as_u16()
    };
    let json = "application/json";
    let large = || " ".repeat(150_000);
    let mut expected = BTreeMap::<(&str, u16), f64>::new();
    for (protocol, path, unknown) in [
        ("predict", "/models/churn/predict", "/models/nobody/predict"),
        ("v2", "/v2/models/churn/infer", "/v2/models/nobody/infer"),
        (
            "v1",
            "/v1/models/churn:predict",
            "/v1/models/nobody:predict",
        ),
    ] {
        for status in [
            send(path, json, "{".to_owned()),
            send(path, json, "{}".to_owned()),
            send(path, "text/plain", "{}".to_owned()),
            send(path, json, large()),
            send(unknown, json, "{}".to_owned()),
        ] {
            *expected.entry((protocol, status)).or_default() += 1.0;
        }
    }
    for status in [400, 404, 413] {
        assert!(expected.contains_key(&("predict", status)), "{expected:?}");
    }
    let text = server.metrics();
    for ((protocol, status), count) in expected {
        let labels = [
            format!("code=\"{status}\""),
            format!("protocol=\"{protocol}\""),
        ];
        let counted: f64 = text
            .lines()
            .filter(|line| line.starts_with("predictd_requests_total{"))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum();
        assert_eq!(counted, count, "{labels:?}\n{text}");
    }
}

#[test]
fn answers_of_the_admin_listener_are_counted() {
    let models = models_with(&[("churn", "1.0.0")]);
    let tokens = models.path().join("tokens");
    fs_err::write(&tokens, "ann 0123456789abcdef\n").unwrap();
    let settings = [("admin.token_file", tokens.to_str().unwrap())];
    let server = InProcessServer::start(models.path(), &settings);
    let send = |method: Method, path: &str, headers: &[(&str, &str)], body: String| {
        let mut request = server
            .client
            .request(method, server.admin_url(path))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().unwrap().status().as_u16()
    };
    let ann = ("authorization", "Bearer 0123456789abcdef");
    let get =
        |path: &str, headers: &[(&str, &str)]| send(Method::GET, path, headers, String::new());
    let rollback = "/admin/models/churn/rollback";
    let large = " ".repeat(65 << 10);
    assert_eq!(
        [
            get("/admin/models/churn", &[ann]),
            get("/admin/models/churn", &[]),
            get(
                "/admin/models/churn",
                &[ann, ("origin", "http://evil.example")]
            ),
            get("/admin/models/nobody", &[ann]),
            get(rollback, &[ann]),
            get("/admin/no-such-route", &[ann]),
            send(Method::POST, rollback, &[ann], large),
        ],
        [200, 401, 403, 404, 405, 404, 413]
    );
    let count = |route: &str, code: u16| {
        server.metric(&format!(
            r#"predictd_admin_requests_total{{code="{code}",route="{route}"}}"#
        ))
    };
    for code in [200, 401, 403, 404] {
        assert_eq!(count("/admin/models/{name}", code), 1.0, "{code}");
    }
    for code in [405, 413] {
        assert_eq!(count("/admin/models/{name}/rollback", code), 1.0, "{code}");
    }
    assert_eq!(count("", 404), 1.0);
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
