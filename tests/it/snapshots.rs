//! What others depend on, word for word: names of metrics, help, OpenAPI, error bodies, documents
//! of the admin API. A change is seen in the review of a snapshot: `INSTA_UPDATE=always cargo test
//! --test it snapshots`, then `git diff`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{InProcessServer, example_input, models_with, run_predictd};

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
fn metric_names() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let customer = example_input("churn", "1.1.0");
    assert_eq!(server.predict("/predict", &customer).status(), 200);
    assert_eq!(server.predict("/predict", &json!({})).status(), 422);
    let text = server.metrics();
    let mut series: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            series.entry(name.to_owned()).or_default().0 = help.to_owned();
        } else if let Some((name, labels)) = line
            .split_once('{')
            .filter(|_| !line.starts_with('#'))
            .and_then(|(name, rest)| Some((name, rest.split_once('}')?.0)))
        {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| {
                    name.strip_suffix(end)
                        .filter(|base| series.contains_key(*base))
                })
                .unwrap_or(name)
                .to_owned();
            let names = labels
                .split("\",")
                .filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            if let Some((_, labels)) = series.get_mut(&base) {
                labels.extend(names.filter(|name| name != "le"));
            }
        }
    }
    // The process collector's series come from its library.
    let lines: Vec<String> = series
        .iter()
        .filter(|(name, _)| name.starts_with("predictd_"))
        .map(|(name, (help, labels))| {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            format!("{name}{{{}}} {help}", labels.join(","))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn help() {
    let commands: [&[&str]; 21] = [
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
        &["rollout", "abort"],
        &["rollout", "promote"],
        &["rollback"],
        &["history"],
        &["health"],
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
