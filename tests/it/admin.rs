//! The admin listener: loading and unloading, authentication, protection against other origins.

use std::process::Command;

use reqwest::blocking::Response;
use serde_json::{Value, json};

use crate::harness::{
    InProcessServer, PATIENT, PREDICTD, Server, example_input, install_graph, install_package,
    models_with, root, wait_for, wait_until,
};

fn error_of(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let document: Value = response.json().unwrap();
    (status, document["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_model_is_unloaded_and_loaded_again() {
    let models = models_with(&[("churn", "1.1.0"), ("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let ask = || server.predict("/models/churn/predict", &example_input("churn", "1.1.0"));
    server.unload("churn");
    let refused = ask();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().unwrap().contains("unloaded by an operator"));
    wait_until("the repository index shows the model as unloaded", || {
        let index: Value = server
            .post("/v2/repository/index")
            .body("{}")
            .send()
            .unwrap()
            .json()
            .unwrap();
        let entry = index
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == "churn")
            .unwrap();
        entry["state"] == "UNAVAILABLE" && entry["reason"] == "unloaded"
    });
    // A model that an operator unloaded does not make the server unready.
    assert_eq!(server.get("/readyz").status(), 200);
    assert_eq!(
        server
            .predict(
                "/models/diabetes/predict",
                &example_input("diabetes", "1.0.0")
            )
            .status(),
        200
    );
    server.load("churn");
    assert_eq!(
        ask().status(),
        200,
        "the model is loaded before the request is answered"
    );
    wait_until("both requests are logged", || {
        let lines = server.logged("an operator's order");
        lines
            .iter()
            .filter(|line| line["actor"].is_string())
            .count()
            == 2
    });
}

#[test]
fn requests_that_cannot_be_carried_out_say_why() {
    let models = models_with(&[("churn", "1.1.0")]);
    install_graph(models.path(), "bad", 1, "iris", Some("name: \"other\"\n"));
    let server = InProcessServer::start(models.path(), &[("models.required", "churn")]);
    assert_eq!(
        error_of(server.post_repository("models/nowhere/load", &[])).0,
        404
    );
    assert_eq!(
        error_of(server.post_repository("models/..%2Fchurn/load", &[])).0,
        404
    );
    let (status, detail) = error_of(server.post_repository("models/bad/load", &[]));
    assert!(
        status == 400 && detail.contains("names the model"),
        "{status} {detail}"
    );
    let sent = server.client.post(format!(
        "http://{}/v2/repository/models/churn/load",
        server.admin_address()
    ));
    let (status, detail) = error_of(
        sent.body(json!({"parameters": {"config": "{}"}}).to_string())
            .send()
            .unwrap(),
    );
    assert!(
        status == 501 && detail.contains("models directory only"),
        "{status} {detail}"
    );
    // The data plane has no route that changes a model.
    let (status, detail) = error_of(
        server
            .post("/v2/repository/models/churn/unload")
            .body("{}")
            .send()
            .unwrap(),
    );
    assert!(
        status == 501 && detail.contains("admin"),
        "{status} {detail}"
    );
    assert_eq!(
        server
            .predict("/models/churn/predict", &example_input("churn", "1.1.0"))
            .status(),
        200
    );
}

#[test]
fn requests_from_pages_of_other_origins_are_refused() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    for headers in [
        ("origin", "https://evil.example"),
        ("host", "evil.example"),
        ("origin", "null"),
    ] {
        assert_eq!(
            error_of(server.post_repository("models/churn/unload", &[headers])).0,
            403,
            "{headers:?}"
        );
    }
    assert_eq!(
        server
            .predict("/predict", &example_input("churn", "1.1.0"))
            .status(),
        200
    );
}

#[test]
fn a_token_is_required_if_a_token_file_is_configured() {
    let models = models_with(&[("churn", "1.1.0")]);
    let tokens = models.path().join("tokens");
    fs_err::write(&tokens, "ann 0123456789abcdef\n").unwrap();
    let server = Server::start(
        models.path(),
        &[
            ("admin.token_file", tokens.to_str().unwrap()),
            ("admin.listen", "0.0.0.0:0"),
        ],
    );
    let port = server
        .admin_address()
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    let unload = |token: &str| {
        let url = format!("http://127.0.0.1:{port}/v2/repository/models/churn/unload");
        server
            .client
            .post(url)
            .header("authorization", token)
            .body("")
            .send()
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((unload("Bearer 0123456789abcdeX"), unload("")), (401, 401));
    assert_eq!(unload("Bearer 0123456789abcdef"), 200);
    let line = wait_for("the refusal is logged", || {
        server
            .logged("an operator's order")
            .into_iter()
            .find(|line| line["actor"].is_string())
    });
    assert_eq!(line["actor"], "ann");
}

#[test]
fn an_admin_listener_on_a_public_address_needs_tokens() {
    let models = models_with(&[]);
    let start = |address: &str, tokens: &str| {
        let mut command = Command::new(PREDICTD);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--models"])
            .arg(models.path())
            .current_dir(root());
        command
            .env("PREDICTD_ADMIN__LISTEN", address)
            .env("PREDICTD_ADMIN__TOKEN_FILE", tokens)
            .env("PREDICTD_SERVER__GRPC_LISTEN", "");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, text) = start("0.0.0.0:0", "");
    assert!(
        code == Some(1) && text.contains("admin.token_file"),
        "{code:?} {text}"
    );
    let (code, text) = start("127.0.0.1:0", "/nowhere/tokens");
    assert!(
        code == Some(1) && text.contains("/nowhere/tokens"),
        "{code:?} {text}"
    );
}

#[test]
fn an_incomplete_version_does_not_delay_a_load() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    fs_err::create_dir_all(models.path().join("churn/1.2.0")).unwrap();
    wait_until("the incomplete version is reported", || {
        let document = server.get_json("/models/churn");
        document["versions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|version| version["state"] == "incomplete")
    });
    server.load("churn");
}

#[test]
fn metrics_of_a_reloaded_version_are_kept() {
    let models = models_with(&[("churn", "1.1.0")]);
    install_graph(models.path(), "slow", 1, "slow", None);
    let server = Server::start(models.path(), &[PATIENT]);
    let series = "predictd_queue_depth{model=\"slow\",version=\"1\"} ";
    let has = || server.metrics().contains(series);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| {
            let inputs = json!({"inputs": [{"name": "rounds", "shape": [1], "datatype": "INT64", "data": [4000]}]});
            server.predict("/v2/models/slow/infer", &inputs).status()
        });
        wait_until("the request runs", || {
            let inflight =
                server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}");
            inflight == 1.0
        });
        server.unload("slow");
        server.load("slow");
        assert_eq!(request.join().unwrap(), 200);
    });
    wait_until("the unloaded version is released", || {
        !server.logged("unloaded").is_empty()
    });
    assert!(has());
}

/// The console's types are generated from this document (`npm run types` in `console/`), so the
/// file must be current.
#[test]
fn the_openapi_document_of_the_admin_api_is_current() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let served: Value = server
        .client
        .get(server.admin_url("/admin/openapi.json"))
        .send()
        .unwrap()
        .json()
        .unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/console/admin-api.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&served).unwrap());
    if std::env::var_os("UPDATE_ADMIN_API").is_some() {
        fs_err::write(path, &text).unwrap();
    }
    assert!(
        fs_err::read_to_string(path).unwrap() == text,
        "{path} is outdated: run this test with UPDATE_ADMIN_API=1, then `npm run types` in console/"
    );
}

#[test]
fn the_history_starts_at_a_number() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let history = |query: &str| {
        let url = server.admin_url(&format!("/admin/models/churn/history{query}"));
        server.client.get(url).send().unwrap()
    };
    for query in ["", "?from=1", "?from=2"] {
        assert_eq!(history(query).status(), 200, "{query}");
    }
    for query in ["?from=x", "?from=-1", "?from="] {
        let (status, detail) = error_of(history(query));
        assert!(
            status == 400 && detail.contains("`from` must be a whole number"),
            "{query}: {status} {detail}"
        );
    }
}

#[test]
fn a_rollback_without_another_version_says_what_to_do() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let (status, detail) = server.refused_decision("churn/rollback", &json!({}));
    assert!(
        status == 422
            && detail.contains("no other version is loaded; put another version into the models"),
        "{status} {detail}"
    );
    // After a rollback, the other version is there, but is not suggested.
    install_package(models.path(), "churn", "1.1.0");
    wait_until("the new version is loaded", || {
        server.get("/models/churn/versions/1.1.0").status() == 200
    });
    server.make_stable("churn", "1.1.0");
    server.decide("churn/rollback", &json!({}));
    let (_, detail) = server.refused_decision("churn/rollback", &json!({}));
    assert!(
        detail.contains("the other loaded versions were rolled back or aborted (1.1.0)"),
        "{detail}"
    );
}

#[test]
fn hints_name_the_model_and_an_abort_needs_no_reason() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let order = json!({"to": ["1.0.0"], "plan": {"name": "blue-green"}});
    let answer = server.post_decision("churn/rollout/start", &order);
    assert_eq!(answer.status(), 200, "{}", answer.text().unwrap());
    let refused = server.post_decision("churn/rollout/start", &order);
    let document: Value = refused.json().unwrap();
    assert_eq!(document["hint"], "POST /admin/models/churn/rollout/abort");
    server.decide("churn/rollout/abort", &json!({}));
    let last = server.history("churn").pop().unwrap();
    assert_eq!(
        (&last["action"], &last["reason"]),
        (&json!("abort"), &Value::Null)
    );
}

#[test]
fn a_wrong_plan_is_refused_with_its_place_and_its_form() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    for (plan, expected) in [
        (
            json!("medium"),
            "/plan: expected an object, found \"medium\"",
        ),
        (
            json!({"name": "medium", "text": ""}),
            "/plan: expected an object with one member, \"name\" (a built-in plan) or \"text\" (a plan in TOML)",
        ),
        (
            json!({"text": "name = \"x\"\nsteps = [{kind = \"canary\", weight = \"half\"}]"}),
            "`steps[0].weight`: expected a number, found \"half\"",
        ),
        (
            json!({"text": "name = \"x\"\nsteps = [{kind = \"canary\"}]"}),
            "`steps[0]`: the member \"weight\" is missing",
        ),
        (
            json!({"text": "name = \"x\"\nsteps = [{kind = \"canary\", weight = 0.5, min_seconds = 99999999999999999999}]"}),
            "`steps[0].min_seconds`: expected a whole number from -9223372036854775808 to 9223372036854775807, found 99999999999999999999",
        ),
        (
            json!({"text": "name = \"x\"\nsteps = [{kind = \"canary\", weight = 2.0}]"}),
            "`steps[0].weight` must be from 0.00001 to 1, not 2",
        ),
    ] {
        let order = json!({"to": ["1.0.0"], "plan": plan});
        let (status, detail) = server.refused_decision("churn/rollout/start", &order);
        assert!(
            status == 400 && detail.contains(expected),
            "{status} {detail}"
        );
    }
}
