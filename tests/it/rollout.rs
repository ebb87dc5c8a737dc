//! Rollouts and rollbacks over the real server: who answers, what is judged, what is written, and what a restart makes of it.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CANARY_HALF, CANARY_HELD, CHURN, Server, copy_directory, customer, install_graph,
    install_package, models_with, pack, package_path, plan_with_steps, start_churn, wait_for,
    wait_until,
};

#[test]
fn a_good_candidate_is_promoted_by_the_judge() {
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
    wait_until("the way back was tried", || {
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
    // 1 answers any number, 2 fails on those of 10 and above.
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
    let server = Server::start(directory.path(), &[]);
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
fn a_shadow_answers_nobody_and_is_compared() {
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
    let evidence = wait_for("copies are answered", || {
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
fn a_copy_is_no_mixture_of_rows() {
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "dynamic_quantize", None);
    let server = Server::start(directory.path(), &[]);
    install_graph(directory.path(), "m", 2, "dynamic_quantize", None);
    let plan = plan_with_steps(
        "disagreement_budget = 0.5\n[[steps]]\nkind = \"shadow\"\nshare = 1.0\nhold = true\n",
    );
    server.decide(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": plan}}),
    );
    // Both versions run a row at a time; tensors go into either as they came.
    let tensor = json!({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.5, 1, 1e6, -1e6]}]});
    for _ in 0..10 {
        server.answering_version(
            "/models/m/predict",
            &json!({"instances": [{"x": [0.5, 1]}, {"x": [1e6, -1e6]}]}),
        );
        server.answering_version("/models/m/predict", &json!({"x": [0.5, 1]}));
        server.answering_version("/v2/models/m/infer", &tensor);
    }
    let metrics = wait_for("copies are answered", || {
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
fn a_key_stays_with_its_arm() {
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
    wait_until("all is counted", || {
        server.evidence_total("churn", "requests") == 80
    });
    assert_eq!(server.evidence_total("churn", "units"), 40);
    // What an explicit version answers has no part in it.
    assert_eq!(
        server.answering_version("/models/churn/versions/1.0.0/predict", &customer()),
        "1.0.0"
    );
}

#[test]
fn orders_are_refused_with_their_reason() {
    let (models, server) = start_churn(&[]);
    install_package(models.path(), "churn", "2.0.0");
    let refused = |path: &str, body: Value| server.refused_decision(path, &body);
    let (status, detail) = refused("churn/rollout/start", json!({"to": ["2.0.0"]}));
    assert!(
        status == 422 && detail.contains("breaking: input") && detail.contains("/autopay"),
        "{detail}"
    );
    let cases = [
        (
            "nowhere/rollout/start",
            json!({"to": ["1.1.0"]}),
            404,
            "no model",
        ),
        ("churn/rollout/start", json!({}), 400, "no candidate"),
        (
            "churn/rollout/start",
            json!({"to": ["1.0.0"]}),
            422,
            "stable version already",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["7.0.0"]}),
            422,
            "7.0.0",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "plan": {"name": "bold"}}),
            400,
            "no plan \"bold\"",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "plan": {"text": "nmae = \"x\""}}),
            400,
            "nmae",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "planned": 1}),
            400,
            "planned",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "accept_unproved": ["/age"]}),
            422,
            "/age",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "plan": {"name": "high"}}),
            403,
            "two verified operators",
        ),
        ("churn/rollout/pause", json!({}), 422, "no rollout"),
        ("churn/rollout/promote", json!({}), 422, "no rollout"),
        ("churn/rollout/abort", json!({}), 422, "no rollout"),
        ("churn/rollout/dance", json!({}), 404, "no order"),
        (
            "churn/rollback",
            json!({}),
            422,
            "no previous stable version",
        ),
        ("churn/rollback", json!({"to": "1.0.0"}), 422, "already"),
        (
            "churn/rollback",
            json!({"to": "1.1.0"}),
            422,
            "never was stable",
        ),
        (
            "churn/rollback",
            json!({"to": "1.1.0", "never_stable": true}),
            422,
            "never was stable",
        ),
        (
            "churn/rollback",
            json!({"to": "2.0.0", "never_stable": true, "reason": "in haste"}),
            422,
            "breaking: input",
        ),
    ];
    for (path, body, code, part) in cases {
        let (status, detail) = refused(path, body.clone());
        assert!(
            status == code && detail.contains(part),
            "{path} {body}: {status} {detail}"
        );
    }
    let dry = server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "dry_run": true}),
    );
    assert_eq!(dry["would_start"]["plan"]["name"], "medium");
    assert_eq!(
        server.actions("churn"),
        ["adopt"],
        "nothing of this was written"
    );
}

#[test]
fn a_rollback_ends_a_rollout_and_leads_back_once() {
    let (models, server) = start_churn(&[]);
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    let conflict = server.refused_decision("churn/rollout/start", &json!({"to": ["1.1.0"]}));
    assert!(
        conflict.0 == 409 && conflict.1.contains("in progress"),
        "{conflict:?}"
    );
    let promoted = server.promote("churn");
    assert_eq!(
        promoted["rollback"]["ready"], true,
        "the way back was tried before it is answered: {promoted}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    install_package(models.path(), "churn", "1.2.0");
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    // The rollout ends, and the stable version stays; the next one leads to the version before.
    let status = server.decide("churn/rollback", &json!({"reason": "3 a.m."}));
    assert_eq!(
        (&status["rollout"], &status["last"]["from"]["version"]),
        (&Value::Null, &json!("1.2.0"))
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    server.decide("churn/rollback", &json!({}));
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "promote", "start", "rollback", "rollback"]
    );
    let (status, detail) = server.refused_decision("churn/rollback", &json!({}));
    assert!(
        status == 422
            && detail.contains("1.0.0 answers already; 1.1.0 was rolled back ")
            && !detail.contains("--to"),
        "{detail}"
    );
    // Further back during a rollout: by its name, in one entry.
    server.decide("churn/rollback", &json!({"to": "1.1.0"}));
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    server.decide("churn/rollback", &json!({"to": "1.0.0"}));
    assert_eq!(
        server.actions("churn").last_chunk::<2>().unwrap(),
        &["start", "rollback"]
    );
    server.decide("churn/rollback", &json!({"to": "1.1.0"}));
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

#[test]
fn a_version_is_asked_for_by_its_role() {
    let (models, server) = start_churn(&[]);
    let rows = json!({"instances": [customer()]});
    let paths = |label: &str| {
        [
            (
                format!("/models/churn/versions/{label}/predict"),
                customer(),
            ),
            (
                format!("/v1/models/churn/versions/{label}:predict"),
                rows.clone(),
            ),
            (
                format!("/v1/models/churn/labels/{label}:predict"),
                rows.clone(),
            ),
        ]
    };
    let expect = |label: &str, version: &str| {
        for (path, body) in paths(label) {
            assert_eq!(server.answering_version(&path, &body), version, "{path}");
        }
        // What tells of a version tells its number.
        assert_eq!(
            server.get_json(&format!("/models/churn/versions/{label}"))["version"],
            version
        );
        let statistics = server.get_json(&format!("/v2/models/churn/versions/{label}/stats"));
        assert_eq!(statistics["model_stats"][0]["version"], version);
        let status = server.get_json(&format!("/v1/models/churn/labels/{label}"));
        assert_eq!(status["model_version_status"][0]["version"], version);
        let configuration = server.get_json(&format!("/v2/models/churn/versions/{label}/config"));
        assert_eq!(
            configuration["version_policy"]["specific"]["versions"],
            json!([version])
        );
    };
    let expect_none = |label: &str, reason: &str| {
        let told = format!("model churn has no {label} version at the moment: {reason}");
        for (path, body) in paths(label) {
            let response = server.predict(&path, &body);
            assert_eq!(response.status(), 404, "{path}");
            let text = response.text().unwrap();
            assert!(text.contains(&told), "{path}: {text}");
        }
        for path in [
            "/models/churn/versions",
            "/v2/models/churn/versions",
            "/v1/models/churn/labels",
        ] {
            let response = server.get(&format!("{path}/{label}"));
            assert_eq!(response.status(), 404, "{path}");
            assert!(response.text().unwrap().contains(&told), "{path}");
        }
    };
    expect("stable", "1.0.0");
    expect_none("previous", "there is no version to roll back to");
    expect_none("candidate", "no rollout is running");
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    // Named by its role a version answers whatever share of the others' requests it has.
    for _ in 0..10 {
        expect("stable", "1.0.0");
        expect("candidate", "1.1.0");
    }
    server.promote("churn");
    expect("stable", "1.1.0");
    expect("previous", "1.0.0");
    expect_none("candidate", "no rollout is running");
    // A role is no number: which tensors the graph of such a version takes is nobody's to rely on.
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
        "the graph's inputs are taken under a number only"
    );
    drop(models);
}

#[test]
fn pausing_holds_and_promoting_is_a_persons_to_decide() {
    let (_models, server) = start_churn(&[]);
    server.start_rollout("churn", "1.1.0", &format!("{CANARY_HALF}{CANARY_ALL}"));
    let paused = server.decide("churn/rollout/pause", &json!({"reason": "lunch"}));
    assert_eq!(paused["rollout"]["phase"], "paused");
    assert!(
        server
            .refused_decision("churn/rollout/pause", &json!({}))
            .1
            .contains("already")
    );
    for _ in 0..200 {
        server.answering_version(CHURN, &customer());
    }
    wait_until("the judge has seen enough", || {
        server.status("churn")["rollout"]["verdict"] == "advance"
    });
    assert_eq!(
        server.status("churn")["rollout"]["step"],
        0,
        "a paused rollout does not advance"
    );
    server.decide("churn/rollout/resume", &json!({}));
    wait_until("it advances", || {
        server.status("churn")["rollout"]["step"] == 1
    });
    server.decide("churn/rollout/abort", &json!({"reason": "enough"}));
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "pause", "resume", "advance", "abort"]
    );
}

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
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap();
    let (models, server) = start_churn(&[("state.url", url)]);
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    for _ in 0..100 {
        server.answering_version(CHURN, &customer());
    }
    let evidence = state.path().join("evidence/churn/00000002");
    wait_until("the evidence is written", || {
        written_units(&evidence).unwrap_or_default() == 100
    });
    drop(server);
    install_package(models.path(), "churn", "1.2.0");
    let server = Server::start(models.path(), &[("state.url", url)]);
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
    let server = Server::start(models.path(), &[("state.url", url)]);
    assert_eq!(
        server.answering_version(CHURN, &customer()),
        "1.0.0",
        "the highest version is 1.2.0, and was never decided on"
    );
}

#[test]
fn a_version_whose_files_changed_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "nan_rows", None);
    let settings = [("state.url", url), ("state.keep_packages", "false")];
    drop(Server::start(directory.path(), &settings));
    install_graph(directory.path(), "m", 1, "slow_rows", None);
    let server = Server::start_unready(directory.path(), &settings);
    let reasons = wait_for("the version is refused", || {
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
fn an_altered_journal_decides_nothing() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap();
    let (models, server) = start_churn(&[("state.url", url)]);
    server.make_stable("churn", "1.1.0");
    drop(server);
    // The second of two entries: the first alone would say that 1.0.0 is stable.
    let entry = state.path().join("journal/churn/00000002.json");
    let text = fs_err::read_to_string(&entry).unwrap();
    fs_err::write(&entry, text.replace("unverified", "somebody")).unwrap();
    let server = Server::start_unready(models.path(), &[("state.url", url)]);
    server.wait_for_readiness("damaged at entry 2, which was altered");
    server.wait_until_ready();
    assert_eq!(
        server.answering_version(CHURN, &customer()),
        "1.0.0",
        "what comes before the damage holds"
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
    // One that was taken away is noticed by what lies beyond it.
    fs_err::write(&entry, text).unwrap();
    fs_err::remove_file(state.path().join("journal/churn/00000001.json")).unwrap();
    let server = Server::start_unready(models.path(), &[("state.url", url)]);
    server.wait_for_readiness("damaged at entry 1, which is missing");
}

#[test]
fn a_state_that_cannot_be_written_refuses_changes_and_serves() {
    let directory = tempfile::tempdir().unwrap();
    // A file where the directory should be: also root can't write below it.
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
    // It can be written again: the first choice is, too.
    fs_err::remove_file(&state).unwrap();
    wait_until("the first choice is written", || {
        server.status("churn")["written"] == true
    });
    assert_eq!(server.actions("churn"), ["adopt"]);
}

#[test]
fn the_way_back_is_tried_and_told() {
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
    // The version before is lost: unloaded, and its files are gone.
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
    // A promotion that would leave no way back is refused, unless somebody answers for it.
    install_package(models.path(), "churn", "1.2.0");
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    server.promote("churn");
    assert_eq!(server.answering_version(CHURN, &customer()), "1.2.0");
}

#[test]
fn a_candidate_that_goes_away_leaves_its_share_to_stable() {
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

#[test]
fn what_a_rollback_would_take_away_is_asked_for() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let tokens = models.path().join(".tokens");
    fs_err::write(
        &tokens,
        "ann aaaaaaaaaaaaaaaaaaaa\nbob bbbbbbbbbbbbbbbbbbbb\n",
    )
    .unwrap();
    let server = Server::start(
        models.path(),
        &[("admin.token_file", tokens.to_str().unwrap())],
    );
    install_package(models.path(), "diabetes", "1.1.0");
    let order = |token: &str, path: &str, body: Value| {
        let request = server
            .client
            .post(server.admin_url(&format!("/admin/models/{path}")))
            .bearer_auth(token)
            .body(body.to_string());
        let response = request.send().unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().unwrap(),
        )
    };
    let (ann, bob) = ("aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb");
    let start = |extra: Value| {
        let mut body = json!({"to": ["1.1.0"], "plan": {"text": plan_with_steps(CANARY_HELD)}});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        order(ann, "diabetes/rollout/start", body)
    };
    for extra in [
        json!({}),
        json!({"allow_forward_only": true}),
        json!({"reason": "an interval"}),
    ] {
        let (code, answer) = start(extra);
        let detail = answer["error"].as_str().unwrap();
        assert!(
            code == 422
                && detail.contains("callers that adopt what is new")
                && detail.contains("forward-only: output"),
            "{detail}"
        );
        assert_eq!(answer["suggestion"], json!({"kind": "allow-forward-only"}));
    }
    let (code, started) = start(json!({"allow_forward_only": true, "reason": "an interval"}));
    assert_eq!(
        (code, &started["rollout"]["phase"]),
        (200, &json!("awaits-approval")),
        "its package names a high risk: {started}"
    );
    assert_eq!(order(ann, "diabetes/rollout/approve", json!({})).0, 403);
    assert_eq!(order(bob, "diabetes/rollout/approve", json!({})).0, 200);
    let (code, promoted) = order(ann, "diabetes/rollout/promote", json!({}));
    assert_eq!(
        (code, &promoted["stable"]["version"]),
        (200, &json!("1.1.0")),
        "{promoted}"
    );
}

#[test]
fn a_high_risk_needs_two_names_whatever_the_plan() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    install_package(models.path(), "churn", "1.1.0");
    let workshop = tempfile::tempdir().unwrap();
    let risky = workshop.path().join("churn/1.2.0");
    copy_directory(&package_path("churn", "1.2.0"), &risky);
    let serving = fs_err::read_to_string(risky.join("serving.json"))
        .unwrap()
        .replace("medium", "high");
    fs_err::write(risky.join("serving.json"), serving).unwrap();
    let (code, text) = pack(&risky, &[]);
    assert_eq!(code, 0, "{text}");
    let staging = models.path().join("churn/.staging");
    copy_directory(&risky, &staging);
    fs_err::rename(&staging, models.path().join("churn/1.2.0")).unwrap();
    for plan in [
        json!({"name": "blue-green"}),
        json!({"text": plan_with_steps(CANARY_HELD)}),
    ] {
        let (code, detail) = server.refused_decision(
            "churn/rollout/start",
            &json!({"to": ["1.2.0"], "plan": plan}),
        );
        assert!(
            code == 403 && detail.contains("two verified operators"),
            "{code} {detail}"
        );
    }
    let (code, detail) = server.refused_decision(
        "churn/rollback",
        &json!({"to": "1.2.0", "never_stable": true, "reason": "in haste"}),
    );
    assert!(
        code == 422 && detail.contains("high risk"),
        "{code} {detail}"
    );
}

#[test]
fn callers_bring_no_rollout_down() {
    let (_models, server) = start_churn(&[]);
    // An absolute ceiling that is easily reached; two versions that answer everybody who waits.
    let plan = plan_with_steps(CANARY_HELD).replace("error_ceiling = 0.8", "error_ceiling = 0.05");
    server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}}),
    );
    // Nobody answers within a microsecond.
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
    let counted = server.status("churn")["rollout"]["evidence"]["arms"].clone();
    assert!(
        counted["1.1.0"]["errors"]["timeout"].as_u64().unwrap() > 0,
        "{counted}"
    );
    wait_until("the judge has seen it", || {
        server.status("churn")["rollout"]["verdict"] == "hold"
    });
    assert_eq!(server.status("churn")["rollout"]["phase"], "running");
}

#[test]
fn who_hangs_up_is_counted_and_no_value_is() {
    let directory = tempfile::tempdir().unwrap();
    install_graph(directory.path(), "m", 1, "string_echo", None);
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(
        directory.path(),
        &[("state.url", state.path().to_str().unwrap())],
    );
    install_graph(directory.path(), "m", 2, "string_echo", None);
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

    let slow = tempfile::tempdir().unwrap();
    install_graph(slow.path(), "m", 1, "nan_rows", None);
    let server = Server::start(slow.path(), &[("server.request_timeout_ms", "1000")]);
    install_graph(slow.path(), "m", 2, "slow_rows", None);
    server.start_rollout("m", "2", CANARY_HELD);
    let impatient = reqwest::blocking::Client::builder()
        .timeout(std::time::Duration::from_millis(100))
        .build()
        .unwrap();
    let mut hung_up = 0;
    wait_until("a candidate that hangs is aborted", || {
        let body = json!({"x": [1e9]}).to_string();
        let answer = impatient
            .post(server.url("/models/m/predict"))
            .header("content-type", "application/json")
            .body(body)
            .send();
        hung_up += usize::from(answer.is_err());
        server.status("m")["rollout"].is_null()
    });
    assert!(hung_up > 0);
}

#[test]
fn an_abort_that_cannot_be_written_still_protects_callers() {
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    install_graph(directory.path(), "m", 1, "nan_rows", None);
    let server = Server::start(
        directory.path(),
        &[("state.url", state.path().to_str().unwrap())],
    );
    install_graph(directory.path(), "m", 2, "fails_rows", None);
    server.start_rollout("m", "2", CANARY_HALF);
    // A file where the journal should be: also root can't write there.
    let (journal, elsewhere) = (
        state.path().join("journal/m"),
        state.path().join("elsewhere"),
    );
    fs_err::rename(&journal, &elsewhere).unwrap();
    fs_err::write(&journal, "no directory").unwrap();
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
    fs_err::remove_file(&journal).unwrap();
    fs_err::rename(&elsewhere, &journal).unwrap();
    wait_until("the abort is written", || {
        server.status("m")["written"] == true
    });
    assert_eq!(server.actions("m"), ["adopt", "start", "abort"]);
}
