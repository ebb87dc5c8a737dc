//! The version that answers a request during a rollout.

use serde_json::{Value, json};

use crate::harness::{
    CANARY_HELD, CHURN, InProcessServer, ServerClient, customer, install_graph, plan_with_steps,
    start_churn, wait_for, wait_until,
};

#[test]
fn a_shadow_answers_no_request_and_is_compared() {
    let (_models, server) = start_churn(&[]);
    let plan = plan_with_steps(
        "disagreement_budget = 0.5\n[[steps]]\nkind = \"shadow\"\nshare = 1.0\nhold = true\n",
    );
    server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}}),
    );
    for _ in 0..50 {
        assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    }
    let evidence = wait_for("the copies are answered", || {
        let status = server.status("churn");
        let arms = &status["rollout"]["evidence"]["arms"];
        (arms["1.1.0"]["units"] == 50).then(|| arms.clone())
    });
    assert_eq!(evidence["1.0.0"]["units"], 50);
    assert_eq!(evidence["1.1.0"]["pairs"]["pairs"], 50);
    let metrics = server.metrics();
    for line in [
        r#"predictd_shadow_requests_total{candidate="1.1.0",model="churn",version="1.0.0"} 50"#,
        r#"predictd_shadow_dropped_total{candidate="1.1.0",model="churn",version="1.0.0"} 0"#,
        r#"predictd_rollout_weight{model="churn",version="1.1.0"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(
        metrics.contains(r#"role="shadow",verified="true",version="1.1.0"} 1"#),
        "{metrics}"
    );
}

#[test]
fn a_shadow_copy_that_would_mix_rows_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "dynamic_quantize", None);
    let server = InProcessServer::start(directory.path(), &[]);
    install_graph(directory.path(), "m", 2, "dynamic_quantize", None);
    let plan = plan_with_steps(
        "disagreement_budget = 0.5\n[[steps]]\nkind = \"shadow\"\nshare = 1.0\nhold = true\n",
    );
    server.decide(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": plan}}),
    );
    // Both versions run one row at a time. A request by tensors has more than one row, and goes to
    // the graph unchanged.
    let tensor = json!({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.5, 1, 1e6, -1e6]}]});
    for _ in 0..10 {
        server.answering_version(
            "/models/m/predict",
            &json!({"instances": [{"x": [0.5, 1]}, {"x": [1e6, -1e6]}]}),
        );
        server.answering_version("/models/m/predict", &json!({"x": [0.5, 1]}));
        server.answering_version("/v2/models/m/infer", &tensor);
    }
    let metrics = wait_for("the copies are answered", || {
        let metrics = server.metrics();
        metrics
            .contains(r#"predictd_shadow_requests_total{candidate="2",model="m",version="1"} 20"#)
            .then_some(metrics)
    });
    for line in [
        r#"predictd_shadow_dropped_total{candidate="2",model="m",version="1"} 10"#,
        r#"predictd_shadow_disagreements_total{candidate="2",model="m",version="1"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn requests_with_one_key_stay_with_one_arm() {
    let (_models, server) = start_churn(&[]);
    let plan = plan_with_steps(CANARY_HELD).replace("alpha", "key = \"header:x-user\"\nalpha");
    server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}}),
    );
    let ask = |user: usize| {
        let response = server
            .post(CHURN)
            .header("x-user", format!("user-{user}"))
            .body(customer().to_string())
            .send()
            .unwrap();
        response.headers()["x-model-version"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let first: Vec<String> = (0..40).map(ask).collect();
    assert!(
        first.contains(&"1.0.0".to_owned()) && first.contains(&"1.1.0".to_owned()),
        "{first:?}"
    );
    assert_eq!((0..40).map(ask).collect::<Vec<_>>(), first);
    wait_until("all requests are counted", || {
        server.evidence_total("churn", "requests") == 80
    });
    assert_eq!(server.evidence_total("churn", "units"), 40);
    // A request that names a version is no part of the rollout.
    assert_eq!(
        server.answering_version("/models/churn/versions/1.0.0/predict", &customer()),
        "1.0.0"
    );
}

/// The paths that predict with a version of churn by its role, and their bodies.
fn paths_of_role(role: &str) -> [(String, Value); 3] {
    let rows = json!({"instances": [customer()]});
    [
        (format!("/models/churn/versions/{role}/predict"), customer()),
        (
            format!("/v1/models/churn/versions/{role}:predict"),
            rows.clone(),
        ),
        (
            format!("/v1/models/churn/labels/{role}:predict"),
            rows.clone(),
        ),
    ]
}

/// Asserts that this version answers under its role, and that documents about it contain its
/// number.
fn check_role(server: &ServerClient, role: &str, version: &str) {
    for (path, body) in paths_of_role(role) {
        assert_eq!(server.answering_version(&path, &body), version, "{path}");
    }
    // Documents about the version contain its number.
    assert_eq!(
        server.get_json(&format!("/models/churn/versions/{role}"))["version"],
        version
    );
    let statistics = server.get_json(&format!("/v2/models/churn/versions/{role}/stats"));
    assert_eq!(statistics["model_stats"][0]["version"], version);
    let status = server.get_json(&format!("/v1/models/churn/labels/{role}"));
    assert_eq!(status["model_version_status"][0]["version"], version);
    let configuration = server.get_json(&format!("/v2/models/churn/versions/{role}/config"));
    assert_eq!(
        configuration["version_policy"]["specific"]["versions"],
        json!([version])
    );
}

/// Asserts that no version has this role, and that the answers contain the reason.
fn check_vacant_role(server: &ServerClient, role: &str, reason: &str) {
    let expected = format!("model churn has no {role} version at the moment: {reason}");
    for (path, body) in paths_of_role(role) {
        let response = server.predict(&path, &body);
        assert_eq!(response.status(), 404, "{path}");
        let text = response.text().unwrap();
        assert!(text.contains(&expected), "{path}: {text}");
    }
    for path in [
        "/models/churn/versions",
        "/v2/models/churn/versions",
        "/v1/models/churn/labels",
    ] {
        let response = server.get(&format!("{path}/{role}"));
        assert_eq!(response.status(), 404, "{path}");
        assert!(response.text().unwrap().contains(&expected), "{path}");
    }
}

#[test]
fn a_version_can_be_named_by_its_role() {
    let (_models, server) = start_churn(&[]);
    check_role(&server, "stable", "1.0.0");
    check_vacant_role(&server, "previous", "there is no version to roll back to");
    check_vacant_role(&server, "candidate", "no rollout is running");
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    // A version that is named by its role answers every request, whatever its share of other
    // requests.
    for _ in 0..10 {
        check_role(&server, "stable", "1.0.0");
        check_role(&server, "candidate", "1.1.0");
    }
    server.promote("churn");
    check_role(&server, "stable", "1.1.0");
    check_role(&server, "previous", "1.0.0");
    check_vacant_role(&server, "candidate", "no rollout is running");
}

#[test]
fn the_inputs_of_a_graph_are_accepted_under_a_version_number_only() {
    let (_models, server) = start_churn(&[]);
    server.make_stable("churn", "1.1.0");
    // The version behind a role changes, and with it the inputs of the graph.
    let metadata = server.get_json("/v2/models/churn/versions/1.1.0/config");
    let tensor = &metadata["input"][0];
    let raw = json!({"inputs": [{"name": tensor["name"], "shape": [1, 1], "datatype": "FP32", "data": [0]}]});
    let refused = server
        .predict("/v2/models/churn/versions/stable/infer", &raw)
        .text()
        .unwrap();
    let pinned = server
        .predict("/v2/models/churn/versions/1.1.0/infer", &raw)
        .text()
        .unwrap();
    assert_ne!(
        refused, pinned,
        "the graph's inputs are accepted under a version number only"
    );
}

#[test]
fn the_stable_version_answers_for_a_missing_candidate() {
    let (models, server) = start_churn(&[]);
    server.start_rollout(
        "churn",
        "1.1.0",
        "[[steps]]\nkind = \"canary\"\nweight = 1.0\nmin_seconds = 3600\n",
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    server.unload("churn");
    let candidate = models.path().join("churn/1.1.0");
    fs_err::remove_dir_all(&candidate).unwrap();
    server.load("churn");
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.status("churn")["rollout"]["candidates"][0]["loaded"],
        false
    );
}
