//! Each kind of error: its status, its message, its log line.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::problem_of;
use crate::harness::{
    CHURN, InProcessServer, Server, ServerClient, example_input, install_graph, models_with, root,
    wait_for,
};

const JSON: &str = "application/json";

/// Bodies for churn, and their status.
const BODIES: &[(&str, u16)] = &[
    ("{\"instances\": []}", 400),
    ("", 400),
    ("{", 400),
    ("[]", 400),
    ("null", 400),
    ("{\"instances\": 1}", 400),
    ("{\"instances\": [1]}", 422),
    ("{\"age\": NaN}", 400),
    ("{\"age\": Infinity}", 400),
    ("{\"age\": 1, \"age\": 2}", 400),
    ("{\"instances\": [{}], \"instances\": [{}]}", 400),
    ("{\"instances\": [{}], \"other\": 1}", 400),
    ("\u{feff}{}", 400),
    ("{}{}", 400),
    ("{}", 422),
];

/// Method, path, content type, status. A POST has a valid body.
const ROUTES: &[(&str, &str, &str, u16)] = &[
    ("POST", CHURN, "text/plain", 415),
    ("POST", CHURN, "application/x-www-form-urlencoded", 415),
    ("POST", "/predict", JSON, 404),
    ("POST", "/models/nobody/predict", JSON, 404),
    ("POST", "/models/churn/versions/9.9.9/predict", JSON, 404),
    ("POST", "/models/%FF/predict", JSON, 404),
    ("GET", CHURN, JSON, 405),
    ("PUT", "/livez", JSON, 405),
    ("GET", "/nowhere", JSON, 404),
    ("GET", "/models/nobody", JSON, 404),
    ("GET", "/models/churn/versions/9.9.9", JSON, 404),
];

/// Asserts the status, that the answer is soon, and that an error is a problem document.
fn check_status(
    server: &ServerClient,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
    expected: u16,
) {
    let start = Instant::now();
    let request = server
        .client
        .request(method.parse().unwrap(), server.url(path))
        .header("content-type", content_type)
        .body(body.to_owned());
    let response = request.send().unwrap();
    let excerpt: String = body.chars().take(60).collect();
    assert_eq!(
        response.status().as_u16(),
        expected,
        "{method} {path} {excerpt}: {}",
        response.text().unwrap()
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{method} {path} {excerpt}"
    );
    if expected != 200 {
        problem_of(response);
    }
}

#[test]
fn each_kind_of_error_has_its_status() {
    let models = models_with(&[("churn", "1.1.0"), ("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[("server.max_body_bytes", "100000")]);
    let good = example_input("churn", "1.1.0").to_string();
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    for (body, expected) in BODIES.iter().chain(&[(&*good, 200), (&deep, 400)]) {
        check_status(&server, "POST", CHURN, JSON, body, *expected);
    }
    for (method, path, content_type, expected) in ROUTES {
        let body = if *method == "POST" { &*good } else { "" };
        check_status(&server, method, path, content_type, body, *expected);
    }
    let mut number = example_input("churn", "1.1.0");
    number["tenure_months"] = json!("@");
    let too_large = number.to_string().replace("\"@\"", "1e999");
    assert_eq!(
        server.post(CHURN).body(too_large).send().unwrap().status(),
        400
    );
    assert_eq!(
        server
            .post(CHURN)
            .body(vec![b' '; 100_001])
            .send()
            .unwrap()
            .status(),
        413
    );
    assert_eq!(
        server
            .post(CHURN)
            .body(b"{\"plan\": \"\xff\"}".to_vec())
            .send()
            .unwrap()
            .status(),
        400
    );
    assert_eq!(
        server
            .predict(CHURN, &example_input("churn", "1.1.0"))
            .status(),
        200
    );
    assert_eq!(server.metric("predictd_worker_panics_total"), 0.0);
}

#[test]
fn every_violation_is_named_with_its_pointer_and_keyword() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let mut second = example_input("churn", "1.1.0");
    second["age"] = json!(131.5);
    second["contract"] = json!("for ever");
    second["paperless"] = json!("yes");
    second["extra"] = json!(1);
    second.as_object_mut().unwrap().remove("plan");
    let document = problem_of(server.predict(
        "/predict",
        &json!({"instances": [example_input("churn", "1.1.0"), second]}),
    ));
    let mut found: Vec<(String, String)> = document["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (
                error["pointer"].as_str().unwrap().to_owned(),
                error["keyword"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    found.sort();
    let expected = [
        ("/instances/1/age", "maximum"),
        ("/instances/1/contract", "enum"),
        ("/instances/1/extra", "additionalProperties"),
        ("/instances/1/paperless", "type"),
        ("/instances/1/plan", "required"),
    ];
    assert_eq!(
        found,
        expected.map(|(pointer, keyword)| (pointer.to_owned(), keyword.to_owned()))
    );
    let text = document.to_string();
    assert!(
        text.contains("month-to-month"),
        "the error names the allowed values: {text}"
    );
    assert!(
        !text.contains("131.5"),
        "the error contains a personal value: {text}"
    );

    let many = problem_of(server.predict("/predict", &json!({"instances": vec![json!({}); 100]})));
    assert_eq!(many["errors"].as_array().unwrap().len(), 20);
}

#[test]
fn every_dialect_explains_how_to_send_nan_and_infinities() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    install_graph(models.path(), "bare", 1, "identity_fp64", None);
    let server = InProcessServer::start(models.path(), &[("models.default", "diabetes")]);
    for number in ["NaN", "Infinity", "-Infinity", "nan", "-inf"] {
        let instance = format!("{{\"age\": 37,\n \"bmi\": {number}, \"rest\": [1]}}");
        let tensor = format!(
            "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [1, 2], \"datatype\": \"FP64\", \"data\": [1, {number}]}}]}}"
        );
        let cases = [
            ("/models/diabetes/predict", instance.clone()),
            ("/predict", format!("{{\"instances\": [{instance}]}}")),
            ("/models/bare/predict", format!("{{\"x\": [1, {number}]}}")),
            (
                "/v1/models/diabetes:predict",
                format!("{{\"instances\": [{instance}]}}"),
            ),
            (
                "/v1/models/bare:predict",
                format!("{{\"inputs\": [[1, {number}]]}}"),
            ),
            ("/v2/models/diabetes/infer", tensor.clone()),
            ("/v2/models/bare/infer", tensor),
            (
                "/invocations",
                format!("{{\"dataframe_records\": [{instance}]}}"),
            ),
            (
                "/invocations",
                format!(
                    "{{\"dataframe_split\": {{\"columns\": [\"age\"], \"data\": [[{number}]]}}}}"
                ),
            ),
        ];
        for (path, body) in cases {
            let response = server.post(path).body(body.clone()).send().unwrap();
            let (status, text) = (response.status().as_u16(), response.text().unwrap());
            assert!(
                status == 400 && text.contains("send null for a missing number"),
                "{path} {body}: {status} {text}"
            );
        }
        let lines = format!("{{\"age\": 1}}\n{{\"age\": {number}}}\n");
        let response = server
            .client
            .post(server.url("/invocations"))
            .header("content-type", "application/jsonlines")
            .body(lines)
            .send();
        let text = response.unwrap().text().unwrap();
        assert!(
            text.contains("line 2 is not JSON: NaN and Infinity do not exist in JSON"),
            "{text}"
        );
    }
    // Other invalid tokens have other messages.
    for word in ["nano", "info", "-", "Null", "\"NaN\""] {
        let response = server
            .post("/predict")
            .body(format!("{{\"age\": {word}}}"))
            .send()
            .unwrap();
        assert!(!response.text().unwrap().contains("send null"), "{word}");
    }
}

#[test]
fn the_log_names_the_violated_rules_and_no_values() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let mut bad = example_input("diabetes", "1.0.0");
    bad["age"] = json!(-987_654);
    bad["Ann Smith"] = json!(1);
    assert_eq!(
        server
            .predict("/predict", &json!({"instances": [bad]}))
            .status(),
        422
    );
    let line = wait_for("the reason is logged", || server.logged("refused").pop());
    let detail = line["detail"].as_str().unwrap();
    assert!(
        detail.contains("/instances/0/age minimum")
            && detail.contains("/instances/0 additionalProperties"),
        "{line}"
    );
    assert!(
        !line.to_string().contains("987654") && !line.to_string().contains("Ann"),
        "{line}"
    );
}

#[test]
fn requests_that_training_rejects_are_refused() {
    let versions = ["1.0.0", "1.1.0", "1.2.0", "2.0.0"];
    let packages: Vec<(&str, &str)> = versions.iter().map(|version| ("churn", *version)).collect();
    let models = models_with(&packages);
    let server = InProcessServer::start(models.path(), &[("models.keep_versions", "4")]);
    for version in versions {
        let text = fs_err::read_to_string(
            root().join(format!("tests/fixtures/rejected/churn-{version}.jsonl")),
        )
        .unwrap();
        let mut count = 0;
        for line in text.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let response = server.predict(
                &format!("/models/churn/versions/{version}/predict"),
                &case["instance"],
            );
            let expected = if case["expected"]
                .as_str()
                .unwrap_or_default()
                .starts_with("accepted")
            {
                200
            } else {
                422
            };
            assert_eq!(
                response.status().as_u16(),
                expected,
                "{version} {line}: {}",
                response.text().unwrap()
            );
            count += 1;
        }
        assert!(count >= 5, "{version} has {count} rejected requests");
    }
}

/// A caller must fix the path before the body.
#[test]
fn an_unknown_model_is_named_before_a_wrong_body() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    for path in [
        "/models/nobody/predict",
        "/v1/models/nobody:predict",
        "/v1/models/churn/versions/9.9.9:predict",
        "/v2/models/nobody/infer",
        "/v2/models/churn/versions/9.9.9/infer",
    ] {
        for body in ["{", "{}"] {
            let request = server.post(path).header("content-type", JSON);
            let status = request.body(body).send().unwrap().status();
            assert_eq!(status, 404, "{path} {body}");
        }
    }
}
