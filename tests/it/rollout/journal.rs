//! The journal after a restart, and the readiness of a rollback.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    CANARY_HELD, CHURN, Deployment, customer, install_graph, install_package, plan_with_steps,
    start_churn, wait_for, wait_until,
};

/// The units in the evidence files of a rollout. `None` while a file is incomplete.
fn written_units(directory: &Path) -> Option<u64> {
    let mut units = 0;
    for file in fs_err::read_dir(directory).ok()? {
        let path = file.unwrap().path();
        // A file that is being written has another extension.
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let share: Value = serde_json::from_slice(&fs_err::read(path).ok()?).ok()?;
        let arms = share["evidence"]["arms"].as_object()?.values();
        units += arms.map(|arm| arm["units"].as_u64().unwrap()).sum::<u64>();
    }
    Some(units)
}

#[test]
fn only_the_journal_decides_after_a_restart() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    for _ in 0..100 {
        server.answering_version(CHURN, &customer());
    }
    let evidence = deployment.state().join("evidence/churn/00000002");
    wait_until("the evidence is written", || {
        written_units(&evidence).unwrap_or_default() == 100
    });
    drop(server);
    install_package(deployment.models(), "churn", "1.2.0");
    let server = deployment.start();
    let status = server.status("churn");
    assert_eq!(
        (&status["stable"]["version"], &status["rollout"]["phase"]),
        (&json!("1.0.0"), &json!("running"))
    );
    wait_until("the restarted server has read the evidence", || {
        server.evidence_total("churn", "units") == 100
    });
    let status = server.status("churn");
    assert!(status["rollout"]["step_seconds"].as_f64().unwrap() > 0.0);
    server.decide("churn/rollout/abort", &json!({}));
    drop(server);
    let server = deployment.start();
    assert_eq!(
        server.answering_version(CHURN, &customer()),
        "1.0.0",
        "the highest version is 1.2.0, and was never decided on"
    );
}

#[test]
fn a_version_whose_files_changed_is_rejected() {
    let deployment = Deployment::new(&[]).with("state.keep_packages", "false");
    install_graph(deployment.models(), "m", 1, "nan_rows", None);
    drop(deployment.start());
    install_graph(deployment.models(), "m", 1, "slow_rows", None);
    let server = deployment.start_unready();
    let reasons = wait_for("the version is rejected", || {
        let text = server.readiness();
        text.contains("journal").then_some(text)
    });
    assert!(
        reasons.contains("the stable version 1 of the journal does not answer"),
        "{reasons}"
    );
    assert_eq!(server.get("/readyz").status(), 503);
}

#[test]
fn an_altered_entry_is_ignored_and_decisions_are_refused() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    drop(server);
    // Alter the second of two entries. By the first entry alone, 1.0.0 is stable.
    let entry = deployment.entry(2);
    let text = fs_err::read_to_string(&entry).unwrap();
    fs_err::write(&entry, text.replace("unverified", "somebody")).unwrap();
    let server = deployment.start_unready();
    server.wait_for_readiness("damaged at entry 2: the entry was altered");
    server.wait_until_ready();
    assert_eq!(
        server.answering_version(CHURN, &customer()),
        "1.0.0",
        "entries before the damage are valid"
    );
    for order in ["churn/rollback", "churn/rollout/abort"] {
        let (status, detail) = server.refused_decision(order, &json!({}));
        assert!(
            status == 503 && detail.contains("journal damaged at entry 2"),
            "{detail}"
        );
        assert_eq!(
            server.suggestion_after(order, &json!({})),
            json!({"kind": "repair-journal"})
        );
    }
    drop(server);
    // A missing entry is noticed, because a later entry exists.
    fs_err::write(&entry, text).unwrap();
    fs_err::remove_file(deployment.entry(1)).unwrap();
    let server = deployment.start_unready();
    server.wait_for_readiness("damaged at entry 1: the entry is missing");
}

#[test]
fn without_a_writable_state_requests_are_answered_and_changes_refused() {
    let directory = tempfile::tempdir().unwrap();
    // A file in place of the directory: not even root can write below it.
    let state = directory.path().join("state");
    fs_err::write(&state, "not a directory").unwrap();
    let (_models, server) = start_churn(&[("state.url", state.to_str().unwrap())]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(server.status("churn")["written"], false);
    let (status, detail) = server.refused_decision(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan_with_steps(CANARY_HELD)}}),
    );
    assert!(
        status == 503 && detail.contains("could not be written"),
        "{status} {detail}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    // Once the state is writable, the first choice is written.
    fs_err::remove_file(&state).unwrap();
    wait_until("the first choice is written", || {
        server.status("churn")["written"] == true
    });
    assert_eq!(server.actions("churn"), ["adopt"]);
}

#[test]
fn the_status_says_whether_a_rollback_would_work() {
    let (models, server) = start_churn(&[
        ("models.rehearse_seconds", "0.2"),
        ("state.keep_packages", "false"),
    ]);
    server.make_stable("churn", "1.1.0");
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    server.wait_for_metric(ready, 1.0);
    for _ in 0..20 {
        server.answering_version(CHURN, &customer());
    }
    // The previous version is unloaded, and its files are deleted.
    server.unload("churn");
    fs_err::remove_dir_all(models.path().join("churn/1.0.0")).unwrap();
    server.load("churn");
    server.wait_for_metric(ready, 0.0);
    let status = server.status("churn");
    assert_eq!(
        (&status["rollback"]["ready"], &status["rollback"]["reason"]),
        (&json!(false), &json!("1.0.0 is not loaded"))
    );
    assert!(!server.logged("a rollback would not work").is_empty());
    let (code, detail) = server.refused_decision("churn/rollback", &json!({}));
    assert!(
        code == 422 && detail.contains("its files are missing"),
        "{detail}"
    );
    // The promotion is possible, because 1.1.0 is loaded and a rollback to it works.
    install_package(models.path(), "churn", "1.2.0");
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    server.promote("churn");
    assert_eq!(server.answering_version(CHURN, &customer()), "1.2.0");
}
