//! Changes of the models directory while the server runs.

use serde_json::{Value, json};

use crate::harness::{
    InProcessServer, Server, ServerClient, copy_directory, example_input, install_package,
    models_with, package_path, run_predictd, wait_for, wait_until, write_manifest,
};

fn version_state(server: &ServerClient, name: &str, version: &str) -> String {
    let document = server.get_json(&format!("/models/{name}"));
    let versions = document["versions"].as_array().cloned().unwrap_or_default();
    versions
        .iter()
        .find(|entry| entry["version"] == version)
        .and_then(|entry| entry["state"].as_str())
        .unwrap_or("absent")
        .to_owned()
}

fn stable_version(server: &ServerClient, name: &str) -> Value {
    server.get_json(&format!("/models/{name}"))["stable"].clone()
}

#[test]
fn a_new_version_answers_only_requests_that_name_it() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    install_package(models.path(), "churn", "1.1.0");
    wait_until("1.1.0 is loaded", || {
        version_state(&server, "churn", "1.1.0") == "available"
    });
    let answer: Value = server
        .predict(
            "/models/churn/versions/1.1.0/predict",
            &example_input("churn", "1.1.0"),
        )
        .json()
        .unwrap();
    assert_eq!(answer["version"], "1.1.0");
    let answer: Value = server
        .predict("/models/churn/predict", &example_input("churn", "1.0.0"))
        .json()
        .unwrap();
    assert_eq!(
        answer["version"], "1.0.0",
        "only a decision changes the stable version"
    );
    assert_eq!(stable_version(&server, "churn"), "1.0.0");
}

#[test]
fn the_newest_version_becomes_stable_if_configured() {
    let models = models_with(&[("churn", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[("models.promote", "newest")]);
    install_package(models.path(), "churn", "1.1.0");
    wait_until("1.1.0 takes over", || {
        stable_version(&server, "churn") == "1.1.0"
    });
    wait_until("the metrics name 1.1.0 as stable", || {
        server
            .metrics()
            .contains("role=\"stable\",verified=\"true\",version=\"1.1.0\"")
    });
}

#[test]
fn the_pinned_version_is_stable() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0"), ("churn", "1.2.0")]);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("predictd.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ngrpc_listen = \"\"\n[admin]\nlisten = \"\"\n[models]\nroot = {:?}\nkeep_versions = 1\n[model.churn]\nversion = \"1.0.0\"\n[state]\nurl = \"\"\n",
        models.path()
    );
    fs_err::write(&config, text).unwrap();
    let (code, output, error) = run_predictd(
        &["serve", "--check", "--config", config.to_str().unwrap()],
        "",
        &[],
    );
    assert_eq!(code, 0, "{output}{error}");
    assert_eq!(output.matches("golden 20/20").count(), 3, "{output}");
}

#[test]
fn an_incomplete_package_is_loaded_when_it_is_complete() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let (from, to) = (
        package_path("churn", "1.1.0"),
        models.path().join("churn/1.1.0"),
    );
    fs_err::create_dir_all(&to).unwrap();
    fs_err::copy(from.join("manifest.json"), to.join("manifest.json")).unwrap();
    wait_until("the version is incomplete", || {
        version_state(&server, "churn", "1.1.0") == "incomplete"
    });
    let whole = fs_err::read(from.join("model.onnx")).unwrap();
    fs_err::write(to.join("model.onnx"), &whole[..1000]).unwrap();
    server.wait_for_readiness("incomplete");
    assert_eq!(
        server.predict("/models/churn/predict", &json!({})).status(),
        503
    );
    copy_directory(&from, &to);
    wait_until("the version is loaded", || {
        version_state(&server, "churn", "1.1.0") == "available"
    });
    assert_eq!(
        server.metric(
            "predictd_model_loads_total{model=\"churn\",outcome=\"loaded\",reason=\"\",\
             version=\"1.1.0\"}"
        ),
        1.0
    );
    assert_eq!(
        server
            .predict("/models/churn/predict", &example_input("churn", "1.1.0"))
            .status(),
        200
    );
}

#[test]
fn a_removed_version_is_drained_and_unloaded() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    fs_err::rename(
        models.path().join("churn/1.0.0"),
        models.path().join(".gone"),
    )
    .unwrap();
    wait_until("1.0.0 is gone", || {
        version_state(&server, "churn", "1.0.0") == "absent"
    });
    assert_eq!(
        server
            .predict(
                "/models/churn/versions/1.0.0/predict",
                &example_input("churn", "1.0.0")
            )
            .status(),
        404
    );
    assert_eq!(
        server
            .predict("/models/churn/predict", &example_input("churn", "1.1.0"))
            .status(),
        200
    );
    wait_until("the version's series are removed", || {
        !server
            .metrics()
            .contains("predictd_inflight_requests{model=\"churn\",version=\"1.0.0\"}")
    });
}

#[test]
fn an_overwritten_version_is_rejected_and_the_loaded_one_answers() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let directory = models.path().join("diabetes/1.0.0");
    let before = server.get_json("/models/diabetes/versions/1.0.0")["digest"].clone();
    copy_directory(&package_path("diabetes", "1.1.0"), &directory);
    let warning = wait_for("the warning shows", || {
        server.get_json("/models/diabetes/versions/1.0.0")["warning"]
            .as_str()
            .map(str::to_owned)
    });
    assert!(warning.contains("refused"), "{warning}");
    assert_eq!(
        server.metric(
            "predictd_model_loads_total{model=\"diabetes\",outcome=\"refused\",\
             reason=\"overwritten\",version=\"1.0.0\"}"
        ),
        1.0
    );
    let answer: Value = server
        .predict("/predict", &example_input("diabetes", "1.0.0"))
        .json()
        .unwrap();
    assert_eq!(answer["digest"], before);
}

#[test]
fn a_rejected_version_is_reported_and_other_versions_answer() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    install_package(models.path(), "diabetes", "1.1.0");
    wait_until("1.1.0 is loaded", || {
        version_state(&server, "diabetes", "1.1.0") == "available"
    });
    // The golden examples of version 1.2.0 belong to another model.
    let directory = models.path().join(".staging");
    copy_directory(&package_path("diabetes", "1.0.0"), &directory);
    let text = fs_err::read_to_string(directory.join("golden.jsonl"))
        .unwrap()
        .replace("\"prediction\": ", "\"prediction\": 1");
    fs_err::write(directory.join("golden.jsonl"), text).unwrap();
    write_manifest(&directory, "diabetes", "1.2.0");
    fs_err::rename(&directory, models.path().join("diabetes/1.2.0")).unwrap();
    wait_until("1.2.0 is rejected", || {
        version_state(&server, "diabetes", "1.2.0") == "refused"
    });
    assert_eq!(server.get("/readyz").status(), 200);
    assert!(server.readiness().contains("golden"));
    assert!(
        server.get_json("/models/diabetes/versions/1.2.0")["reason"]
            .as_str()
            .unwrap()
            .contains("line 1")
    );
    assert_eq!(
        server.metric(
            "predictd_model_loads_total{model=\"diabetes\",outcome=\"refused\",reason=\"golden\",\
             version=\"1.2.0\"}"
        ),
        1.0
    );
    assert_eq!(
        server
            .predict(
                "/models/diabetes/versions/1.2.0/predict",
                &example_input("diabetes", "1.0.0")
            )
            .status(),
        503
    );
    assert_eq!(
        server
            .predict("/predict", &example_input("diabetes", "1.0.0"))
            .status(),
        200
    );
    wait_until("the rejection and the request are logged", || {
        server.logged("refused").len() == 2
    });
}

#[test]
fn an_unreadable_directory_unloads_nothing() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let moved = models.path().with_extension("moved");
    fs_err::rename(models.path(), &moved).unwrap();
    wait_until("the failure is counted", || {
        server.metric("predictd_source_errors_total") >= 1.0
    });
    assert_eq!(
        server
            .predict("/predict", &example_input("diabetes", "1.0.0"))
            .status(),
        200
    );
    assert_eq!(server.get("/readyz").status(), 200);
    fs_err::rename(&moved, models.path()).unwrap();
    wait_until("it is readable again", || {
        server
            .logged("the models directory can be read again")
            .len()
            == 1
    });
}

#[test]
fn a_file_of_full_size_that_still_changes_is_waited_for() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    // All files have their final size, but the content of one is still being written.
    let (whole, directory) = (
        package_path("diabetes", "1.1.0"),
        models.path().join("diabetes/1.1.0"),
    );
    let graph = fs_err::read(whole.join("model.onnx")).unwrap();
    copy_directory(&whole, &directory);
    let unfinished = |part: usize| {
        let mut bytes = graph[..part].to_vec();
        bytes.resize(graph.len(), 0);
        bytes
    };
    let mut part = 0;
    wait_until("the incomplete version is reported", || {
        part += 1;
        fs_err::write(directory.join("model.onnx"), unfinished(part)).unwrap();
        let version = server.get_json("/models/diabetes/versions/1.1.0");
        version["state"] == "incomplete"
            && version["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("may not be complete yet"))
    });
    fs_err::write(directory.join("model.onnx"), &graph).unwrap();
    wait_until("the version is loaded", || {
        version_state(&server, "diabetes", "1.1.0") == "available"
    });
    let refusals: Vec<Value> = server
        .logged("refused")
        .into_iter()
        .filter(|line| line["reason"].is_string())
        .collect();
    assert!(refusals.is_empty(), "{refusals:?}");
}

#[test]
fn an_unwritable_state_directory_is_counted_and_requests_are_answered() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.env("PREDICTD_STATE__URL", "/proc/nowhere");
    });
    assert!(server.metric("predictd_source_errors_total") >= 1.0);
    assert_eq!(
        server
            .predict("/predict", &example_input("diabetes", "1.0.0"))
            .status(),
        200
    );
}

/// Writes a version with a manifest and a truncated graph.
fn write_half_a_version(models: &std::path::Path, name: &str, version: &str) {
    let directory = models.join(name).join(version);
    copy_directory(&package_path(name, "1.1.0"), &directory);
    write_manifest(&directory, name, version);
    let whole = fs_err::read(directory.join("model.onnx")).unwrap();
    fs_err::write(directory.join("model.onnx"), &whole[..100]).unwrap();
}

#[test]
fn incomplete_versions_do_not_make_a_good_one_unready() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    for version in ["3.0.0", "3.1.0", "3.2.0"] {
        write_half_a_version(models.path(), "churn", version);
    }
    let server = InProcessServer::start(models.path(), &[]);
    assert_eq!(stable_version(&server, "churn"), "1.1.0");
    assert_eq!(
        (
            version_state(&server, "churn", "1.0.0"),
            version_state(&server, "churn", "1.1.0")
        ),
        ("available".to_owned(), "available".to_owned())
    );
    for version in ["3.0.0", "3.1.0", "3.2.0"] {
        assert_eq!(version_state(&server, "churn", version), "incomplete");
    }
}

#[test]
fn a_copy_that_stops_growing_is_rejected_until_it_continues() {
    let models = models_with(&[("churn", "1.0.0")]);
    write_half_a_version(models.path(), "churn", "3.0.0");
    let server = Server::start(models.path(), &[("models.copy_timeout_ms", "300")]);
    wait_until("the version is rejected", || {
        version_state(&server, "churn", "3.0.0") == "refused"
    });
    let reason = server.get_json("/models/churn/versions/3.0.0")["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        reason.contains("model.onnx")
            && reason.contains("have not changed for 0.3 s")
            && !reason.contains(": :"),
        "{reason}"
    );
    assert_eq!(
        server.metric(
            "predictd_model_loads_total{model=\"churn\",outcome=\"refused\",\
             reason=\"incomplete\",version=\"3.0.0\"}"
        ),
        1.0
    );
    let directory = models.path().join("churn/3.0.0");
    fs_err::copy(
        package_path("churn", "1.1.0").join("model.onnx"),
        directory.join("model.onnx"),
    )
    .unwrap();
    wait_until("the version is loaded", || {
        version_state(&server, "churn", "3.0.0") == "available"
    });
    assert_eq!(
        server
            .logged("refused")
            .iter()
            .filter(|line| line["reason"] == "incomplete")
            .count(),
        1,
        "the rejection is logged once, not at each scan"
    );
}
