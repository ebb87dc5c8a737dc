//! Decisions of operators, and why they are refused.

use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CANARY_HALF, CANARY_HELD, CHURN, InProcessServer, copy_directory, customer,
    install_package, models_with, pack, package_path, plan_with_steps, start_churn, wait_until,
};

type Refusal = (&'static str, Value, u16, &'static str);

/// Starts of a rollout that are refused: path, body, status and a part of the error.
fn refused_starts() -> Vec<Refusal> {
    vec![
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
    ]
}

/// Bodies that are not the object of an order. An array must not count as one, by position.
fn malformed_orders() -> Vec<Refusal> {
    vec![
        (
            "churn/rollout/start",
            json!([["1.1.0"], {"name": "canary"}]),
            400,
            "expected an object, found an array",
        ),
        (
            "churn/rollout/start",
            json!({"to": "1.1.0"}),
            400,
            "/to: expected an array, found \"1.1.0\"",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "plan": {"text": ["name"]}}),
            400,
            "/plan/text: expected a string, found an array",
        ),
        (
            "churn/rollout/start",
            json!({"to": ["1.1.0"], "plan": {"text": "name = \"p\"\nsteps = [[\"canary\", 0.5]]"}}),
            400,
            "`steps[0]`: expected a table",
        ),
        (
            "churn/rollout/promote",
            json!([]),
            400,
            "expected an object",
        ),
        (
            "churn/rollout/pause",
            json!(["reason"]),
            400,
            "expected an object",
        ),
        ("churn/rollback", json!([]), 400, "expected an object"),
        (
            "churn/rollback",
            json!({"too": "1.0.0"}),
            400,
            "/too: unknown member; expected one of: to, never_stable, reason",
        ),
    ]
}

/// Other decisions that are refused without a rollout.
fn other_refusals() -> Vec<Refusal> {
    vec![
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
            "was never stable",
        ),
        (
            "churn/rollback",
            json!({"to": "1.1.0", "never_stable": true}),
            422,
            "requires a reason",
        ),
        (
            "churn/rollback",
            json!({"to": "2.0.0", "never_stable": true, "reason": "in haste"}),
            422,
            "breaking: input",
        ),
    ]
}

#[test]
fn decisions_are_refused_with_a_reason() {
    let (models, server) = start_churn(&[]);
    install_package(models.path(), "churn", "2.0.0");
    let refused = |path: &str, body: Value| server.refused_decision(path, &body);
    let (status, detail) = refused("churn/rollout/start", json!({"to": ["2.0.0"]}));
    assert!(
        status == 422 && detail.contains("breaking: input") && detail.contains("/autopay"),
        "{detail}"
    );
    let cases = refused_starts().into_iter().chain(malformed_orders());
    for (path, body, code, part) in cases.chain(other_refusals()) {
        let (status, detail) = refused(path, body.clone());
        assert!(
            status == code && detail.contains(part),
            "{path} {body}: {status} {detail}"
        );
    }
    // Only the command line can read the file of a plan, so only the command line names it.
    let unknown = json!({"to": ["1.1.0"], "plan": {"name": "bold"}});
    let (_, detail) = refused("churn/rollout/start", unknown.clone());
    assert!(
        detail.contains("blue-green") && !detail.contains("file"),
        "{detail}"
    );
    assert_eq!(
        server.suggestion_after("churn/rollout/start", &unknown),
        json!({"kind": "choose-plan"})
    );
    let dry = server.decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "dry_run": true}),
    );
    assert_eq!(dry["would_start"]["plan"]["name"], "medium");
    assert_eq!(
        server.actions("churn"),
        ["adopt"],
        "no refused decision was written"
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
        "the rollback is rehearsed before the answer: {promoted}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    install_package(models.path(), "churn", "1.2.0");
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    // The first rollback ends the rollout and keeps the stable version. The second one leads to the
    // previous version.
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
            && detail.contains("1.0.0 is already stable: 1.1.0 was rolled back ")
            && !detail.contains("--to"),
        "{detail}"
    );
    // During a rollout, a rollback to a named earlier version is one entry.
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
fn a_paused_rollout_does_not_advance() {
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
    wait_until("the evidence suffices to advance", || {
        server.status("churn")["rollout"]["verdict"] == "advance"
    });
    assert_eq!(
        server.status("churn")["rollout"]["step"],
        0,
        "a paused rollout does not advance"
    );
    server.decide("churn/rollout/resume", &json!({}));
    wait_until("the rollout advances", || {
        server.status("churn")["rollout"]["step"] == 1
    });
    server.decide("churn/rollout/abort", &json!({"reason": "enough"}));
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "pause", "resume", "advance", "abort"]
    );
}

#[test]
fn a_forward_only_change_needs_consent() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let tokens = models.path().join(".tokens");
    fs_err::write(
        &tokens,
        "ann aaaaaaaaaaaaaaaaaaaa\nbob bbbbbbbbbbbbbbbbbbbb\n",
    )
    .unwrap();
    let server = InProcessServer::start(
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
                && detail.contains("callers who use the new values")
                && detail.contains("forward-only: output"),
            "{detail}"
        );
        assert_eq!(answer["suggestion"], json!({"kind": "allow-forward-only"}));
    }
    let (code, started) = start(json!({"allow_forward_only": true, "reason": "an interval"}));
    assert_eq!(
        (code, &started["rollout"]["phase"]),
        (200, &json!("awaits-approval")),
        "the package declares a high risk: {started}"
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
fn a_high_risk_package_needs_two_operators_under_every_plan() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    install_package(models.path(), "churn", "1.1.0");
    let workplace = tempfile::tempdir().unwrap();
    let risky = workplace.path().join("churn/1.2.0");
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
