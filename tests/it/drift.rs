//! Drift: the inputs and predictions of a version against its reference.

use std::io::{BufRead, BufReader};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CHURN, Deployment, InProcessServer, ServerClient, assert_contains, customer,
    models_with, root, wait_until,
};

const WINDOWS: (&str, &str) = ("monitor.windows", "10m,1h,24h");

/// Rows of churn 1.0.0 that drifted from its training data, or did not.
fn rows(name: &str) -> Vec<Value> {
    let path = root().join(format!("tests/fixtures/drift/{name}.jsonl.gz"));
    BufReader::new(GzDecoder::new(fs_err::File::open(path).unwrap()))
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect()
}

fn send(server: &ServerClient, rows: &[Value]) {
    for part in rows.chunks(100) {
        let answer = server.predict(CHURN, &json!({"instances": part}));
        assert_eq!(answer.status(), 200, "{}", answer.text().unwrap());
    }
}

fn drift(server: &ServerClient, query: &str) -> Value {
    let response =
        reqwest::blocking::get(server.admin_url(&format!("/admin/models/churn/drift{query}")))
            .unwrap();
    assert_eq!(response.status(), 200);
    response.json().unwrap()
}

fn assert_close(found: &Value, expected: &Value, what: &str) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!(
        (found - expected).abs() < 1e-6,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn the_stability_index_is_that_of_the_training_scripts() {
    let expected =
        fs_err::read_to_string(root().join("tests/fixtures/drift/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for name in ["nodrift", "units", "missing"] {
        let models = models_with(&[("churn", "1.0.0")]);
        let server = InProcessServer::start(models.path(), &[WINDOWS]);
        send(&server, &rows(name));
        let report = drift(&server, "");
        assert_eq!(
            (&report["model"], &report["version"]),
            (&json!("churn"), &json!("1.0.0"))
        );
        for window in report["windows"].as_array().unwrap() {
            assert_eq!(
                (&window["rows"], &window["predictions"]),
                (&json!(3000), &json!(3000))
            );
            for feature in window["features"].as_array().unwrap() {
                let field = feature["name"].as_str().unwrap();
                let what = format!("{name} {field}");
                match field {
                    "label" => {}
                    "churn_probability" => {
                        assert_close(&feature["psi"], &expected[name][field], &what);
                    }
                    _ => {
                        let expected = &expected[name]["features"][field];
                        assert_close(&feature["psi"], &expected["psi"], &what);
                        assert_close(&feature["missing"], &expected["missing_rate"], &what);
                    }
                }
            }
        }
    }
}

#[test]
fn the_command_lists_the_feature_that_moved_most_first() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[WINDOWS]);
    let before = server.command_output(&["drift", "churn"]);
    assert_contains(
        &before,
        &["churn 1.0.0", "0 rows, 0 predictions", "tenure_months"],
    );
    send(&server, &rows("units"));
    let text = server.command_output(&["drift", "churn", "--window", "10m"]);
    assert_contains(&text, &["last 10 min", "3,000 rows, 3,000 predictions"]);
    let first = text.lines().nth(2).unwrap();
    assert!(
        first.contains("data_gb_30d") && first.contains("7.71"),
        "{text}"
    );
    assert_contains(
        &server.command_failure(&["drift", "churn", "--window", "7m"]),
        &["the server has no such window; it has: 10 min, 60 min, 24 h"],
    );
}

#[test]
fn a_version_that_is_not_monitored_is_named() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[WINDOWS]);
    let off = InProcessServer::start(models.path(), &[]);
    for (server, path, status, detail) in [
        (
            &off,
            "churn/drift",
            422,
            "churn/1.0.0 is not monitored: its package has no profile.json, or `monitor.windows` is empty",
        ),
        (
            &server,
            "churn/drift?version=9.9.9",
            422,
            "9.9.9 is not loaded",
        ),
        (
            &server,
            "churn/drift?version=x",
            422,
            "\"x\" is not a version",
        ),
        (&server, "nope/drift", 404, "there is no model \"nope\""),
    ] {
        let url = server.admin_url(&format!("/admin/models/{path}"));
        let response = reqwest::blocking::get(url).unwrap();
        assert_eq!(response.status(), status, "{path}");
        let document: Value = response.json().unwrap();
        assert_contains(document["error"].as_str().unwrap(), &[detail]);
    }
    send(&off, &rows("nodrift"));
}

#[test]
fn each_version_of_a_rollout_counts_its_own_requests() {
    let deployment = Deployment::churn().with(WINDOWS.0, WINDOWS.1);
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_ALL);
    wait_until("the candidate answers", || {
        server.answering_version(CHURN, &customer()) == "1.1.0"
    });
    let of = |version: &str| drift(&server, &format!("?version={version}"))["windows"][0].clone();
    let (stable, candidate) = (of("1.0.0"), of("1.1.0"));
    server.answering_version(CHURN, &customer());
    let rows = |window: &Value| window["rows"].as_u64().unwrap();
    assert_eq!(rows(&of("1.0.0")), rows(&stable));
    assert_eq!(rows(&of("1.1.0")), rows(&candidate) + 1);
}
