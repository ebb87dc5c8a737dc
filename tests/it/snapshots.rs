//! What others depend on, word for word: help, OpenAPI, error bodies, documents of the admin API.
//! A change is seen in the review of a snapshot: `INSTA_UPDATE=always cargo test --test it
//! snapshots`, then `git diff`.

use serde_json::{Value, json};

use crate::harness::{InProcessServer, models_with, run_predictd};

/// Sets values that differ from run to run to a fixed text.
fn redact(value: &mut Value) {
    const VOLATILE: [&str; 12] = [
        "at",
        "id",
        "actor",
        "starter",
        "digest",
        "sha256",
        "step_seconds",
        "request_id",
        "seconds",
        "compute_seconds",
        "cost_dollars",
        "instance",
    ];
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let is_text_or_number = value.is_string() || value.is_number();
                if VOLATILE.contains(&name.as_str()) && is_text_or_number {
                    *value = json!("...");
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

fn pretty(mut value: Value) -> String {
    redact(&mut value);
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn help() {
    let commands: [&[&str]; 25] = [
        &[],
        &["serve"],
        &["init"],
        &["import"],
        &["import", "triton"],
        &["import", "mlflow"],
        &["pack"],
        &["verify"],
        &["inspect"],
        &["compat"],
        &["predict"],
        &["models"],
        &["rollout"],
        &["rollout", "start"],
        &["rollout", "status"],
        &["rollout", "approve"],
        &["rollout", "pause"],
        &["rollout", "resume"],
        &["rollout", "abort"],
        &["rollout", "promote"],
        &["rollback"],
        &["history"],
        &["health"],
        &["completions"],
        &["man"],
    ];
    let mut text = String::new();
    for command in commands {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        // A fixed width, whatever terminal runs the test.
        let (code, output, _) = run_predictd(&arguments, "", &[("COLUMNS", "100")]);
        assert_eq!(code, 0, "{command:?}");
        text.push_str(&format!(
            "==== predictd {}\n{}\n",
            arguments.join(" "),
            output.trim_end()
        ));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn openapi() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    insta::assert_snapshot!(pretty(server.get_json("/openapi.json")));
}

#[test]
fn error_bodies() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let cases = [
        ("predict", "/predict", "{"),
        ("predict", "/predict", "{}"),
        ("predict", "/models/nope/predict", "{}"),
        ("predict", "/models/churn/versions/9.9.9/predict", "{}"),
        ("v2", "/v2/models/churn/infer", "{"),
        ("v2", "/v2/models/churn/infer", r#"{"inputs": []}"#),
        ("v2", "/v2/models/nope/infer", r#"{"inputs": []}"#),
        ("v1", "/v1/models/churn:predict", "{"),
        ("v1", "/v1/models/churn:predict", r#"{"instances": [{}]}"#),
        ("v1", "/v1/models/nope:predict", r#"{"instances": [{}]}"#),
        ("invocations", "/invocations", "{"),
        ("invocations", "/invocations", r#"{"instances": [{}]}"#),
        ("unknown route", "/nowhere", "{}"),
    ];
    let mut text = String::new();
    for (dialect, path, body) in cases {
        let response = server.post(path).body(body).send().unwrap();
        let status = response.status().as_u16();
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let body_of_error = response.json().unwrap();
        text.push_str(&format!(
            "==== {dialect}: POST {path} {body}\n{status} {kind}\n{}\n",
            pretty(body_of_error)
        ));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn admin_documents() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let mut text = String::new();
    let mut add = |title: &str, document: Value| {
        text.push_str(&format!("==== {title}\n{}\n", pretty(document)));
    };
    add("the status of a model", server.status("churn"));
    let start = |dry_run: bool| json!({"to": ["1.0.0"], "plan": {"name": "canary"}, "dry_run": dry_run, "reason": "a test"});
    add(
        "a dry run",
        server.decide("churn/rollout/start", &start(true)),
    );
    add(
        "the status during a rollout",
        server.decide("churn/rollout/start", &start(false)),
    );
    let refused: Value = server
        .post_decision("churn/rollout/start", &start(false))
        .json()
        .unwrap();
    add("a refusal with a suggestion", refused);
    add(
        "the readiness of models",
        server.get_json("/readyz?verbose"),
    );
    insta::assert_snapshot!(text);
}
