//! Versions whose files are lost or changed: reports, suggestions and rehearsals of a rollback.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    CHURN, Deployment, Server, copy_directory, customer, install_package, models_with,
    object_schema, run_predictd, wait_for, write_manifest, write_unpacked_package,
};

#[test]
fn the_suggested_command_for_a_lost_stable_version_works() {
    let deployment = Deployment::churn().with("state.keep_packages", "false");
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    drop(server);
    fs_err::remove_dir_all(deployment.version("churn", "1.1.0")).unwrap();
    let server = deployment.start_unready();
    let named = "predictd rollback churn --to 1.0.0 --never-stable --reason TEXT";
    server.wait_for_readiness(r#""suggestion":{"kind":"roll-back-to-never-stable","to":"1.0.0"}"#);
    let (_, text) = server.run_command(&["models"]);
    assert!(text.contains(&format!("  next: {named}\n")), "{text}");
    let (_, text) = server.run_command(&["rollout", "status", "churn"]);
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("churn  DOES NOT ANSWER: the stable version 1.1.0 of the journal")
            && text.contains(&format!("  next      {named}\n")),
        "{text}"
    );
    server.command_output(&[
        "rollback",
        "churn",
        "--to",
        "1.0.0",
        "--never-stable",
        "--reason",
        "TEXT",
    ]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    server.wait_until_ready();
}

#[test]
fn no_suggestion_leads_to_a_version_that_was_rolled_back() {
    let deployment = Deployment::churn().with("state.keep_packages", "false");
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    server.decide("churn/rollback", &json!({}));
    drop(server);
    fs_err::remove_dir_all(deployment.version("churn", "1.0.0")).unwrap();
    let server = deployment.start_unready();
    server.wait_for_readiness(r#""suggestion":{"kind":"restore-files"}"#);
    assert!(
        !server.readiness().contains(r#""to":"1.1.0""#),
        "{}",
        server.readiness()
    );
}

#[test]
fn without_copies_lost_files_are_reported_before_a_restart() {
    let deployment = Deployment::churn()
        .with("models.rehearse_seconds", "0.2")
        .with("state.keep_packages", "false");
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    server.wait_for_metric(ready, 1.0);
    fs_err::remove_dir_all(deployment.version("churn", "1.0.0")).unwrap();
    server.wait_for_metric(ready, 0.0);
    let (_, text) = server.run_command(&["rollout", "status", "churn"]);
    assert!(
        text.contains(
            "would NOT work: the files of 1.0.0 are gone: it answers from memory, and a restart \
             would lose it"
        ),
        "{text}"
    );
}

type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn changed_files_of_the_previous_version_are_reported_before_a_restart() {
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    let lose = |directory: &Path| fs_err::remove_file(directory.join("model.onnx")).unwrap();
    let pack_again = |directory: &Path| {
        fs_err::write(directory.join("README.md"), "better words").unwrap();
        let (code, output, _) = run_predictd(&["pack", directory.to_str().unwrap()], "", &[]);
        assert_eq!(code, 0, "{output}");
    };
    // The size stays the same, so that only the hash differs.
    let alter = |directory: &Path| {
        let mut bytes = fs_err::read(directory.join("golden.jsonl")).unwrap();
        *bytes.last_mut().unwrap() = b' ';
        fs_err::write(directory.join("golden.jsonl"), bytes).unwrap();
    };
    let cases: [(Change<'_>, &str); 3] = [
        (&lose, "model.onnx is missing"),
        (&pack_again, "manifest.json has digest"),
        (&alter, "golden.jsonl: has sha256"),
    ];
    for (change, why) in cases {
        let deployment = Deployment::churn()
            .with("models.rehearse_seconds", "0.2")
            .with("state.keep_packages", "false");
        let server = deployment.start_and_add_candidate();
        server.make_stable("churn", "1.1.0");
        server.wait_for_metric(ready, 1.0);
        let directory = deployment.version("churn", "1.0.0");
        change(&directory);
        server.wait_for_metric(ready, 0.0);
        let (_, text) = server.run_command(&["rollout", "status", "churn"]);
        assert!(
            text.contains("would NOT work: the files of 1.0.0 differ from the loaded ones (")
                && text.contains(why),
            "{text}"
        );
        // After the files are restored, a rollback works again.
        fs_err::remove_dir_all(&directory).unwrap();
        install_package(deployment.models(), "churn", "1.0.0");
        server.wait_for_metric(ready, 1.0);
    }
}

#[test]
fn the_reason_why_a_rollback_would_fail_has_no_request_values() {
    let (models, workplace) = (models_with(&[]), tempfile::tempdir().unwrap());
    let number = || object_schema(json!({"x": {"type": "number"}}));
    let schema =
        json!({"input": number(), "output": object_schema(json!({"y": {"type": "number"}}))});
    // The graph of 1.0.0 looks its input up in a table of ten entries. The graph of 1.1.0 accepts
    // any number.
    let versions = [
        (models.path(), "fails_rows", "1.0.0", "10"),
        (workplace.path(), "nan_rows", "1.1.0", "1"),
    ];
    let [_, new] = versions.map(|(place, fixture, version, answer)| {
        let directory = write_unpacked_package(place, "table", fixture, &schema, &Value::Null);
        fs_err::write(
            directory.join("golden.jsonl"),
            format!("{{\"input\": {{\"x\": 1}}, \"output\": {{\"y\": {answer}}}}}\n"),
        )
        .unwrap();
        write_manifest(&directory, "table", version);
        directory
    });
    let server = Server::start(models.path(), &[("models.rehearse_seconds", "0.2")]);
    copy_directory(&new, &models.path().join(".table"));
    fs_err::rename(
        models.path().join(".table"),
        models.path().join("table/1.1.0"),
    )
    .unwrap();
    server.make_stable("table", "1.1.0");
    let reason = wait_for("a live request is rehearsed on 1.0.0", || {
        assert_eq!(
            server
                .predict("/models/table/predict", &json!({"x": 987654}))
                .status(),
            200
        );
        let rollback = server.status("table")["rollback"].clone();
        rollback["reason"]
            .as_str()
            .filter(|reason| reason.contains("a live request"))
            .map(str::to_owned)
    });
    assert!(
        reason.contains("Gather: ")
            && reason.contains("out of data bounds")
            && !reason.contains("987654"),
        "{reason}"
    );
    wait_for("the reason is logged", || {
        server
            .logged("a rollback would not work")
            .into_iter()
            .find(|line| line["reason"] == reason.as_str())
    });
    server.assert_never_logged("987654");
}
