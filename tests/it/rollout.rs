//! Rollouts and rollbacks over the real server: who answers, what is judged, what is written, and what a restart makes of it.

use reqwest::{StatusCode, blocking::Response};
use serde_json::{Value, json};

use crate::harness::{Server, graph, install, instance, models, until};

pub const CHURN: &str = "/models/churn/predict";

/// A plan whose steps are over as soon as something is shown.
pub fn quick(steps: &str) -> String {
    format!(
        "name = \"quick\"\nalpha = 0.01\nmax_seconds = 3600\n[guards]\nerror_margin = 0.2\nnan_margin = 0.2\nrun_margin = 0.2\nengine_time_margin = 0.9\ncost_margin = 0.9\nerror_ceiling = 0.8\n{steps}"
    )
}

const HALF: &str = "[[steps]]\nkind = \"canary\"\nweight = 0.5\nmin_requests = 50\n";
pub const ALL: &str = "[[steps]]\nkind = \"canary\"\nweight = 1.0\nmin_requests = 10\n";
/// Stays until somebody decides.
pub const HELD: &str = "[[steps]]\nkind = \"canary\"\nweight = 0.5\nhold = true\n";

impl Server {
    pub fn admin(&self, path: &str) -> String {
        format!(
            "http://{}/admin/models/{path}",
            self.logged("listening")[0]["admin"].as_str().unwrap()
        )
    }

    pub fn order(&self, path: &str, body: &Value) -> Response {
        self.client
            .post(self.admin(path))
            .body(body.to_string())
            .send()
            .unwrap()
    }

    pub fn ordered(&self, path: &str, body: &Value) -> Value {
        let response = self.order(path, body);
        let status = response.status();
        let text = response.text().unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub fn refused(&self, path: &str, body: &Value) -> (StatusCode, String) {
        let response = self.order(path, body);
        let status = response.status();
        let document: Value = response.json().unwrap();
        (
            status,
            document["error"]
                .as_str()
                .unwrap_or_else(|| panic!("{path} was carried out: {document}"))
                .to_owned(),
        )
    }

    /// What the server suggests instead of a refused order.
    pub fn suggested(&self, path: &str, body: &Value) -> Value {
        let document: Value = self.order(path, body).json().unwrap();
        let hint = document["hint"].as_str().unwrap();
        assert!(!hint.contains("--"), "no command line for a client: {hint}");
        document["suggestion"].clone()
    }

    pub fn status(&self, model: &str) -> Value {
        self.client
            .get(self.admin(model))
            .send()
            .unwrap()
            .json()
            .unwrap()
    }

    /// The version that answered.
    pub fn answered(&self, path: &str, body: &Value) -> String {
        let response = self.predict(path, body);
        let version = response.headers()["x-model-version"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(response.status(), 200, "{}", response.text().unwrap());
        version
    }

    pub fn history(&self, model: &str) -> Vec<Value> {
        let history: Value = self
            .client
            .get(self.admin(&format!("{model}/history")))
            .send()
            .unwrap()
            .json()
            .unwrap();
        history["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
            .collect()
    }

    pub fn actions(&self, model: &str) -> Vec<String> {
        self.history(model)
            .iter()
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// churn 1.0.0 is stable, 1.1.0 is loaded beside it.
pub fn churn(settings: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let models = models(&[("churn", "1.0.0")]);
    let server = Server::start(models.path(), settings);
    install(models.path(), "churn", "1.1.0");
    (models, server)
}

pub fn customer() -> Value {
    instance("churn", "1.0.0")
}

#[test]
fn a_good_candidate_is_promoted_by_the_judge() {
    let (_models, server) = churn(&[]);
    let plan = quick(&format!("{HALF}{ALL}"));
    let started = server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}, "reason": "better"}),
    );
    assert_eq!(
        (&started["rollout"]["phase"], &started["rollout"]["step"]),
        (&json!("running"), &json!(0))
    );
    until("the candidate is stable", || {
        let version = server.answered(CHURN, &customer());
        assert!(["1.0.0", "1.1.0"].contains(&version.as_str()));
        (server.status("churn")["stable"]["version"] == "1.1.0").then_some(())
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
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    until("the way back was tried", || {
        (server.status("churn")["rollback"]["ready"] == true).then_some(())
    });
    let metrics = server.get("/metrics").text().unwrap();
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
    graph(directory.path(), "m", 1, "nan_rows", None);
    let server = Server::start(directory.path(), &[]);
    graph(directory.path(), "m", 2, "fails_rows", None);
    let path = "/models/m/predict";
    // 1 answers any number, 2 fails on those of 10 and above.
    let plan = quick(HALF);
    server.ordered(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": plan}}),
    );
    let mut failed = 0;
    until("the rollout is aborted", || {
        failed += usize::from(server.predict(path, &json!({"x": [20.0]})).status() == 422);
        server.status("m")["rollout"].is_null().then_some(())
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
    graph(directory.path(), "m", 1, "slow_rows", None);
    let server = Server::start(directory.path(), &[]);
    graph(directory.path(), "m", 2, "nan_rows", None);
    server.ordered(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": quick(HALF)}}),
    );
    until("the rollout is aborted", || {
        let body =
            json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [-1.0]}]});
        server.predict("/v2/models/m/infer", &body);
        server.status("m")["rollout"].is_null().then_some(())
    });
    let reason = server.history("m").pop().unwrap()["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reason.contains("NaN answers"), "{reason}");
}

#[test]
fn a_shadow_answers_nobody_and_is_compared() {
    let (_models, server) = churn(&[]);
    let plan = quick(
        "disagreement_budget = 0.5\n[[steps]]\nkind = \"shadow\"\nshare = 1.0\nhold = true\n",
    );
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}}),
    );
    for _ in 0..50 {
        assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    }
    let evidence = until("copies are answered", || {
        let status = server.status("churn");
        let arms = &status["rollout"]["evidence"]["arms"];
        (arms["1.1.0"]["units"] == 50).then(|| arms.clone())
    });
    assert_eq!(evidence["1.0.0"]["units"], 50);
    assert_eq!(evidence["1.1.0"]["pairs"]["pairs"], 50);
    let metrics = server.get("/metrics").text().unwrap();
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
    graph(directory.path(), "m", 1, "dynamic_quantize", None);
    let server = Server::start(directory.path(), &[]);
    graph(directory.path(), "m", 2, "dynamic_quantize", None);
    let plan = quick(
        "disagreement_budget = 0.5\n[[steps]]\nkind = \"shadow\"\nshare = 1.0\nhold = true\n",
    );
    server.ordered(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": plan}}),
    );
    // Both versions run a row at a time; tensors go into either as they came.
    let tensor = json!({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.5, 1, 1e6, -1e6]}]});
    for _ in 0..10 {
        server.answered(
            "/models/m/predict",
            &json!({"instances": [{"x": [0.5, 1]}, {"x": [1e6, -1e6]}]}),
        );
        server.answered("/models/m/predict", &json!({"x": [0.5, 1]}));
        server.answered("/v2/models/m/infer", &tensor);
    }
    let metrics = until("copies are answered", || {
        let metrics = server.get("/metrics").text().unwrap();
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
    let (_models, server) = churn(&[]);
    let plan = quick(HELD).replace("alpha", "key = \"header:x-user\"\nalpha");
    server.ordered(
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
    let count = |field: &str| {
        let status = server.status("churn");
        let arms = &status["rollout"]["evidence"]["arms"];
        ["1.0.0", "1.1.0"]
            .iter()
            .map(|version| arms[*version][field].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    until("all is counted", || (count("requests") == 80).then_some(()));
    assert_eq!(count("units"), 40);
    // What an explicit version answers has no part in it.
    assert_eq!(
        server.answered("/models/churn/versions/1.0.0/predict", &customer()),
        "1.0.0"
    );
}

#[test]
fn orders_are_refused_with_their_reason() {
    let (models, server) = churn(&[]);
    install(models.path(), "churn", "2.0.0");
    let refused = |path: &str, body: Value| server.refused(path, &body);
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
    let dry = server.ordered(
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
    let (models, server) = churn(&[]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    let conflict = server.refused("churn/rollout/start", &json!({"to": ["1.1.0"]}));
    assert!(
        conflict.0 == 409 && conflict.1.contains("in progress"),
        "{conflict:?}"
    );
    let promoted = server.ordered("churn/rollout/promote", &json!({}));
    assert_eq!(
        promoted["rollback"]["ready"], true,
        "the way back was tried before it is answered: {promoted}"
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    install(models.path(), "churn", "1.2.0");
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.2.0"], "plan": {"text": quick(HELD)}}),
    );
    // The rollout ends, and the stable version stays; the next one leads to the version before.
    let status = server.ordered("churn/rollback", &json!({"reason": "3 a.m."}));
    assert_eq!(
        (&status["rollout"], &status["last"]["from"]["version"]),
        (&Value::Null, &json!("1.2.0"))
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    server.ordered("churn/rollback", &json!({}));
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "promote", "start", "rollback", "rollback"]
    );
    let (status, detail) = server.refused("churn/rollback", &json!({}));
    assert!(
        status == 422
            && detail.contains("1.0.0 answers already; 1.1.0 was rolled back ")
            && !detail.contains("--to"),
        "{detail}"
    );
    // Further back during a rollout: by its name, in one entry.
    server.ordered("churn/rollback", &json!({"to": "1.1.0"}));
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.2.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollback", &json!({"to": "1.0.0"}));
    assert_eq!(
        server.actions("churn").last_chunk::<2>().unwrap(),
        &["start", "rollback"]
    );
    server.ordered("churn/rollback", &json!({"to": "1.1.0"}));
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
}

#[test]
fn a_version_is_asked_for_by_its_role() {
    let (models, server) = churn(&[]);
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
            assert_eq!(server.answered(&path, &body), version, "{path}");
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
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    // Named by its role a version answers whatever share of the others' requests it has.
    for _ in 0..10 {
        expect("stable", "1.0.0");
        expect("candidate", "1.1.0");
    }
    server.ordered("churn/rollout/promote", &json!({}));
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
    let (_models, server) = churn(&[]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(&format!("{HALF}{ALL}"))}}),
    );
    let paused = server.ordered("churn/rollout/pause", &json!({"reason": "lunch"}));
    assert_eq!(paused["rollout"]["phase"], "paused");
    assert!(
        server
            .refused("churn/rollout/pause", &json!({}))
            .1
            .contains("already")
    );
    for _ in 0..200 {
        server.answered(CHURN, &customer());
    }
    until("the judge has seen enough", || {
        (server.status("churn")["rollout"]["verdict"] == "advance").then_some(())
    });
    assert_eq!(
        server.status("churn")["rollout"]["step"],
        0,
        "a paused rollout does not advance"
    );
    server.ordered("churn/rollout/resume", &json!({}));
    until("it advances", || {
        (server.status("churn")["rollout"]["step"] == 1).then_some(())
    });
    server.ordered("churn/rollout/abort", &json!({"reason": "enough"}));
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "pause", "resume", "advance", "abort"]
    );
}

#[test]
fn only_the_journal_decides_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap();
    let (models, server) = churn(&[("state.url", url)]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    for _ in 0..100 {
        server.answered(CHURN, &customer());
    }
    let counted = |status: &Value| {
        let arms = &status["rollout"]["evidence"]["arms"];
        arms["1.0.0"]["units"].as_u64().unwrap_or(0) + arms["1.1.0"]["units"].as_u64().unwrap_or(0)
    };
    let evidence = state.path().join("evidence/churn/00000002");
    until("the evidence is on the disk", || {
        let files = fs_err::read_dir(&evidence).ok()?;
        let mut units = 0;
        // What is being written lies beside its name, and is not there yet.
        for file in files.map(|file| file.unwrap().path()).filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        }) {
            let share: Value = serde_json::from_slice(&fs_err::read(file).ok()?).ok()?;
            units += share["evidence"]["arms"]
                .as_object()?
                .values()
                .map(|arm| arm["units"].as_u64().unwrap())
                .sum::<u64>();
        }
        (units == 100).then_some(())
    });
    drop(server);
    install(models.path(), "churn", "1.2.0");
    let server = Server::start(models.path(), &[("state.url", url)]);
    let status = server.status("churn");
    assert_eq!(
        (&status["stable"]["version"], &status["rollout"]["phase"]),
        (&json!("1.0.0"), &json!("running"))
    );
    let status = until("the evidence of before is known", || {
        Some(server.status("churn")).filter(|status| counted(status) == 100)
    });
    assert!(status["rollout"]["step_seconds"].as_f64().unwrap() > 0.0);
    server.ordered("churn/rollout/abort", &json!({}));
    drop(server);
    let server = Server::start(models.path(), &[("state.url", url)]);
    assert_eq!(
        server.answered(CHURN, &customer()),
        "1.0.0",
        "the highest version is 1.2.0, and was never decided on"
    );
}

#[test]
fn a_version_whose_files_changed_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    graph(directory.path(), "m", 1, "nan_rows", None);
    let settings = [("state.url", url), ("state.keep_packages", "false")];
    drop(Server::start(directory.path(), &settings));
    graph(directory.path(), "m", 1, "slow_rows", None);
    let server = Server::begin(directory.path(), &settings);
    let reasons = until("the version is refused", || {
        let text = server.get("/readyz?verbose").text().unwrap();
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
    let (models, server) = churn(&[("state.url", url)]);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    drop(server);
    // The second of two entries: the first alone would say that 1.0.0 is stable.
    let entry = state.path().join("journal/churn/00000002.json");
    let text = fs_err::read_to_string(&entry).unwrap();
    fs_err::write(&entry, text.replace("unverified", "somebody")).unwrap();
    let server = Server::begin(models.path(), &[("state.url", url)]);
    until("it says so", || {
        server
            .get("/readyz?verbose")
            .text()
            .unwrap()
            .contains("damaged at entry 2, which was altered")
            .then_some(())
    });
    server.ready();
    assert_eq!(
        server.answered(CHURN, &customer()),
        "1.0.0",
        "what comes before the damage holds"
    );
    for order in ["churn/rollback", "churn/rollout/abort"] {
        let (status, detail) = server.refused(order, &json!({}));
        assert!(
            status == 503 && detail.contains("journal damaged at entry 2"),
            "{detail}"
        );
        assert_eq!(
            server.suggested(order, &json!({})),
            json!({"kind": "repair-journal"})
        );
    }
    drop(server);
    // One that was taken away is noticed by what lies beyond it.
    fs_err::write(&entry, text).unwrap();
    fs_err::remove_file(state.path().join("journal/churn/00000001.json")).unwrap();
    let server = Server::begin(models.path(), &[("state.url", url)]);
    until("it says so", || {
        server
            .get("/readyz?verbose")
            .text()
            .unwrap()
            .contains("damaged at entry 1, which is missing")
            .then_some(())
    });
}

#[test]
fn a_state_that_cannot_be_written_refuses_changes_and_serves() {
    let directory = tempfile::tempdir().unwrap();
    // A file where the directory should be: also root can't write below it.
    let state = directory.path().join("state");
    fs_err::write(&state, "not a directory").unwrap();
    let (_models, server) = churn(&[("state.url", state.to_str().unwrap())]);
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(server.status("churn")["written"], false);
    let (status, detail) = server.refused(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    assert!(
        status == 503 && detail.contains("could not be written"),
        "{status} {detail}"
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    // It can be written again: the first choice is, too.
    fs_err::remove_file(&state).unwrap();
    until("the first choice is written", || {
        (server.status("churn")["written"] == true).then_some(())
    });
    assert_eq!(server.actions("churn"), ["adopt"]);
}

#[test]
fn the_way_back_is_tried_and_told() {
    let (models, server) = churn(&[
        ("models.rehearse_seconds", "0.2"),
        ("state.keep_packages", "false"),
    ]);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    until("the way back works", || {
        (server.metric(ready) == 1.0).then_some(())
    });
    for _ in 0..20 {
        server.answered(CHURN, &customer());
    }
    // The version before is lost: unloaded, and its files are gone.
    let repository = format!(
        "http://{}/v2/repository/models/churn",
        server.logged("listening")[0]["admin"].as_str().unwrap()
    );
    for order in ["unload", "load"] {
        if order == "load" {
            fs_err::remove_dir_all(models.path().join("churn/1.0.0")).unwrap();
        }
        assert_eq!(
            server
                .client
                .post(format!("{repository}/{order}"))
                .body("{}")
                .send()
                .unwrap()
                .status(),
            200
        );
    }
    until("the way back is known to be lost", || {
        (server.metric(ready) == 0.0).then_some(())
    });
    let status = server.status("churn");
    assert_eq!(
        (&status["rollback"]["ready"], &status["rollback"]["reason"]),
        (&json!(false), &json!("1.0.0 is not loaded"))
    );
    assert!(!server.logged("a rollback would not work").is_empty());
    let (code, detail) = server.refused("churn/rollback", &json!({}));
    assert!(
        code == 422 && detail.contains("its files are missing"),
        "{detail}"
    );
    // A promotion that would leave no way back is refused, unless somebody answers for it.
    install(models.path(), "churn", "1.2.0");
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.2.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/promote", &json!({}));
    assert_eq!(server.answered(CHURN, &customer()), "1.2.0");
}

#[test]
fn a_candidate_that_goes_away_leaves_its_share_to_stable() {
    let (models, server) = churn(&[]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick("[[steps]]\nkind = \"canary\"\nweight = 1.0\nmin_seconds = 3600\n")}}),
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    let unload = format!(
        "http://{}/v2/repository/models/churn/unload",
        server.logged("listening")[0]["admin"].as_str().unwrap()
    );
    assert_eq!(
        server
            .client
            .post(unload)
            .body("{}")
            .send()
            .unwrap()
            .status(),
        200
    );
    let candidate = models.path().join("churn/1.1.0");
    fs_err::remove_dir_all(&candidate).unwrap();
    let load = format!(
        "http://{}/v2/repository/models/churn/load",
        server.logged("listening")[0]["admin"].as_str().unwrap()
    );
    assert_eq!(
        server.client.post(load).body("{}").send().unwrap().status(),
        200
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.status("churn")["rollout"]["candidates"][0]["loaded"],
        false
    );
}

#[test]
fn what_a_rollback_would_take_away_is_asked_for() {
    let models = models(&[("diabetes", "1.0.0")]);
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
    install(models.path(), "diabetes", "1.1.0");
    let order = |token: &str, path: &str, body: Value| {
        let request = server
            .client
            .post(server.admin(path))
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
        let mut body = json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}});
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
    let models = models(&[("churn", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    install(models.path(), "churn", "1.1.0");
    let workshop = tempfile::tempdir().unwrap();
    let risky = workshop.path().join("churn/1.2.0");
    crate::harness::copy(&crate::harness::package("churn", "1.2.0"), &risky);
    let serving = fs_err::read_to_string(risky.join("serving.json"))
        .unwrap()
        .replace("medium", "high");
    fs_err::write(risky.join("serving.json"), serving).unwrap();
    let packed = std::process::Command::new(crate::harness::PREDICTD)
        .arg("pack")
        .arg(&risky)
        .output()
        .unwrap();
    assert!(
        packed.status.success(),
        "{}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let staging = models.path().join("churn/.staging");
    crate::harness::copy(&risky, &staging);
    fs_err::rename(&staging, models.path().join("churn/1.2.0")).unwrap();
    for plan in [json!({"name": "blue-green"}), json!({"text": quick(HELD)})] {
        let (code, detail) = server.refused(
            "churn/rollout/start",
            &json!({"to": ["1.2.0"], "plan": plan}),
        );
        assert!(
            code == 403 && detail.contains("two verified operators"),
            "{code} {detail}"
        );
    }
    let (code, detail) = server.refused(
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
    let (_models, server) = churn(&[]);
    // An absolute ceiling that is easily reached; two versions that answer everybody who waits.
    let plan = quick(HELD).replace("error_ceiling = 0.8", "error_ceiling = 0.05");
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan}}),
    );
    // Nobody answers within a microsecond.
    let customer = customer();
    let inputs = customer.as_object().unwrap().iter().map(|(name, value)| {
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
    let counted = until("all are counted", || {
        let arms = server.status("churn")["rollout"]["evidence"]["arms"].clone();
        let requests = |version: &str| arms[version]["requests"].as_u64().unwrap_or(0);
        (requests("1.0.0") + requests("1.1.0") == 120).then_some(arms)
    });
    assert!(
        counted["1.1.0"]["errors"]["timeout"].as_u64().unwrap() > 0,
        "{counted}"
    );
    until("the judge has seen it", || {
        (server.status("churn")["rollout"]["verdict"] == "hold").then_some(())
    });
    assert_eq!(server.status("churn")["rollout"]["phase"], "running");
}

#[test]
fn who_hangs_up_is_counted_and_no_value_is() {
    let directory = tempfile::tempdir().unwrap();
    graph(directory.path(), "m", 1, "string_echo", None);
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(
        directory.path(),
        &[("state.url", state.path().to_str().unwrap())],
    );
    graph(directory.path(), "m", 2, "string_echo", None);
    server.ordered(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": quick(HELD)}}),
    );
    for _ in 0..40 {
        let body = json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": ["alice@example.org"]}]});
        assert_eq!(server.predict("/v2/models/m/infer", &body).status(), 200);
    }
    until("all are counted", || {
        let arms = server.status("m")["rollout"]["evidence"]["arms"].clone();
        let requests = |version: &str| arms[version]["requests"].as_u64().unwrap_or(0);
        (requests("1") + requests("2") == 40).then_some(())
    });
    let status = server.status("m").to_string();
    assert!(!status.contains("alice"), "{status}");

    let slow = tempfile::tempdir().unwrap();
    graph(slow.path(), "m", 1, "nan_rows", None);
    let server = Server::start(slow.path(), &[("server.request_timeout_ms", "1000")]);
    graph(slow.path(), "m", 2, "slow_rows", None);
    server.ordered(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": quick(HELD)}}),
    );
    let impatient = reqwest::blocking::Client::builder()
        .timeout(std::time::Duration::from_millis(100))
        .build()
        .unwrap();
    let mut hung_up = 0;
    until("a candidate that hangs is aborted", || {
        let body = json!({"x": [1e9]}).to_string();
        let answer = impatient
            .post(server.url("/models/m/predict"))
            .header("content-type", "application/json")
            .body(body)
            .send();
        hung_up += usize::from(answer.is_err());
        server.status("m")["rollout"].is_null().then_some(())
    });
    assert!(hung_up > 0);
}

#[test]
fn an_abort_that_cannot_be_written_still_protects_callers() {
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    graph(directory.path(), "m", 1, "nan_rows", None);
    let server = Server::start(
        directory.path(),
        &[("state.url", state.path().to_str().unwrap())],
    );
    graph(directory.path(), "m", 2, "fails_rows", None);
    server.ordered(
        "m/rollout/start",
        &json!({"to": ["2"], "plan": {"text": quick(HALF)}}),
    );
    // A file where the journal should be: also root can't write there.
    let (journal, elsewhere) = (
        state.path().join("journal/m"),
        state.path().join("elsewhere"),
    );
    fs_err::rename(&journal, &elsewhere).unwrap();
    fs_err::write(&journal, "no directory").unwrap();
    until("the candidate gets no traffic", || {
        server.predict("/models/m/predict", &json!({"x": [20.0]}));
        (server.status("m")["pending"][0]["action"] == "abort").then_some(())
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
    until("the abort is written", || {
        (server.status("m")["written"] == true).then_some(())
    });
    assert_eq!(server.actions("m"), ["adopt", "start", "abort"]);
}
