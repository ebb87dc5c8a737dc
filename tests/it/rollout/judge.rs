//! Decisions of the judge: promotion, abort, and the evidence for them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CANARY_HALF, CANARY_HELD, CHURN, Deployment, InProcessServer, Server, customer,
    install_graph, plan_with_steps, start_churn, wait_until,
};

#[test]
fn the_judge_promotes_a_good_candidate() {
    let (_models, server) = start_churn(&[]);
    let plan = plan_with_steps(&format!("{CANARY_HALF}{CANARY_ALL}"));
    let started = server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}, "reason": "better"}),
    );
    assert_eq!(
        (&started["rollout"]["phase"], &started["rollout"]["step"]),
        (&json!("running"), &json!(0))
    );
    wait_until("the candidate is stable", || {
        let version = server.answering_version(CHURN, &customer());
        assert!(["1.0.0", "1.1.0"].contains(&version.as_str()));
        server.status("churn")["stable"]["version"] == "1.1.0"
    });
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "advance", "promote"]
    );
    let promoted = server.history("churn").pop().unwrap();
    assert_eq!(
        (&promoted["actor"], &promoted["from"]["version"]),
        (&json!("judge"), &json!("1.0.0"))
    );
    assert!(
        promoted["evidence"]["totals"]["arms"]["1.1.0"]["units"]
            .as_u64()
            .unwrap()
            >= 10,
        "{promoted}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    wait_until("the rollback was rehearsed", || {
        server.status("churn")["rollback"]["ready"] == true
    });
    let metrics = server.metrics();
    for line in [
        r#"predictd_rollback_ready{model="churn",version="1.0.0"} 1"#,
        r#"predictd_rollout_weight{model="churn",version="1.1.0"} 1"#,
        r#"predictd_rollout_transitions_total{action="promote",cause="judge",model="churn",version="1.1.0"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn a_failing_candidate_is_aborted() {
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "nan_rows", None);
    let server = Server::start(directory.path(), &[]);
    install_graph(directory.path(), "m", 2, "fails_rows", None);
    let path = "/models/m/predict";
    // Version 1 answers any number. Version 2 fails on numbers of 10 and above.
    let plan = plan_with_steps(CANARY_HALF);
    server.decide(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": plan}}),
    );
    let mut failed = 0;
    wait_until("the rollout is aborted", || {
        failed += usize::from(server.predict(path, &json!({"x": [20.0]})).status() == 422);
        server.status("m")["rollout"].is_null()
    });
    assert!(
        failed > 0 && failed < 100,
        "{failed} failures until the abort"
    );
    for _ in 0..100 {
        assert_eq!(server.predict(path, &json!({"x": [20.0]})).status(), 200);
    }
    let aborted = server.history("m").pop().unwrap();
    let reason = aborted["reason"].as_str().unwrap();
    assert_eq!(
        (&aborted["action"], &aborted["actor"]),
        (&json!("abort"), &json!("judge"))
    );
    assert!(
        reason.contains("aborted at step 1 (50 %) after") && reason.contains("e-value"),
        "{reason}"
    );
    assert!(
        aborted["evidence"]["totals"]["arms"]["2"]["errors"]["inference"]
            .as_u64()
            .unwrap()
            > 0,
        "{aborted}"
    );
    assert!(server.logged("decided").iter().any(|line| {
        line["reason"]
            .as_str()
            .is_some_and(|text| text.contains("e-value"))
    }));
    assert_eq!(server.status("m")["last"]["reason"], reason);
}

#[test]
fn a_candidate_that_answers_nan_is_aborted() {
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "slow_rows", None);
    let server = InProcessServer::start(directory.path(), &[]);
    install_graph(directory.path(), "m", 2, "nan_rows", None);
    server.start_rollout("m", "2", CANARY_HALF);
    wait_until("the rollout is aborted", || {
        let body =
            json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [-1.0]}]});
        server.predict("/v2/models/m/infer", &body);
        server.status("m")["rollout"].is_null()
    });
    let reason = server.history("m").pop().unwrap()["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reason.contains("NaN answers"), "{reason}");
}

#[test]
fn deadlines_of_callers_do_not_abort_a_rollout() {
    let (_models, server) = start_churn(&[]);
    // The error ceiling is low. Both versions answer every caller that waits.
    let plan = plan_with_steps(CANARY_HELD).replace("error_ceiling = 0.8", "error_ceiling = 0.05");
    server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}}),
    );
    // No version answers within a microsecond.
    let input = customer();
    let inputs = input.as_object().unwrap().iter().map(|(name, value)| {
        let datatype = match value {
            Value::String(_) => "BYTES",
            Value::Bool(_) => "BOOL",
            _ => "FP64",
        };
        json!({"name": name, "shape": [1], "datatype": datatype, "data": [value]})
    });
    let request = json!({"inputs": inputs.collect::<Vec<_>>(), "parameters": {"timeout": 1}});
    for _ in 0..120 {
        let late = server.predict("/v2/models/churn/infer", &request);
        assert_eq!(late.status(), 504, "{}", late.text().unwrap());
    }
    wait_until("all requests are counted", || {
        server.evidence_total("churn", "requests") == 120
    });
    let arms = server.status("churn")["rollout"]["evidence"]["arms"].clone();
    assert!(
        arms["1.1.0"]["errors"]["timeout"].as_u64().unwrap() > 0,
        "{arms}"
    );
    wait_until("the judge holds the rollout", || {
        server.status("churn")["rollout"]["verdict"] == "hold"
    });
    assert_eq!(server.status("churn")["rollout"]["phase"], "running");
}

#[test]
fn evidence_contains_no_request_values() {
    let deployment = Deployment::new(&[]);
    install_graph(deployment.models(), "m", 1, "string_echo", None);
    let server = deployment.start();
    install_graph(deployment.models(), "m", 2, "string_echo", None);
    server.start_rollout("m", "2", CANARY_HELD);
    for _ in 0..40 {
        let body = json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": ["alice@example.org"]}]});
        assert_eq!(server.predict("/v2/models/m/infer", &body).status(), 200);
    }
    wait_until("all requests are counted", || {
        server.evidence_total("m", "requests") == 40
    });
    let status = server.status("m").to_string();
    assert!(!status.contains("alice"), "{status}");
}

#[test]
fn a_candidate_whose_callers_hang_up_is_aborted() {
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "nan_rows", None);
    let server = InProcessServer::start(directory.path(), &[("server.request_timeout_ms", "1000")]);
    install_graph(directory.path(), "m", 2, "slow_rows", None);
    server.start_rollout("m", "2", CANARY_HELD);
    let impatient = reqwest::blocking::Client::builder()
        .timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let mut hung_up = 0;
    wait_until("the rollout is aborted", || {
        let answer = impatient
            .post(server.url("/models/m/predict"))
            .header("content-type", "application/json")
            .body(json!({"x": [1e9]}).to_string())
            .send();
        hung_up += usize::from(answer.is_err());
        server.status("m")["rollout"].is_null()
    });
    assert!(hung_up > 0);
}

#[test]
fn an_abort_takes_effect_before_it_can_be_written() {
    let deployment = Deployment::new(&[]);
    install_graph(deployment.models(), "m", 1, "nan_rows", None);
    let server = deployment.start();
    install_graph(deployment.models(), "m", 2, "fails_rows", None);
    server.start_rollout("m", "2", CANARY_HALF);
    let restore_journal = deployment.break_journal("m");
    wait_until("the candidate gets no traffic", || {
        server.predict("/models/m/predict", &json!({"x": [20.0]}));
        server.status("m")["pending"][0]["action"] == "abort"
    });
    for _ in 0..50 {
        assert_eq!(
            server
                .predict("/models/m/predict", &json!({"x": [20.0]}))
                .status(),
            200
        );
    }
    restore_journal();
    wait_until("the abort is written", || {
        server.status("m")["written"] == true
    });
    assert_eq!(server.actions("m"), ["adopt", "start", "abort"]);
}
