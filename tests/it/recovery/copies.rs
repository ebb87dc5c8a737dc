//! Copies of packages in the state: they replace files that the models directory lost.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::json;

use crate::harness::{
    CANARY_HELD, CHURN, Deployment, ServerClient, SmallDisk, assert_contains, customer,
    install_graph, install_package, package_copies, run_predictd, wait_for, wait_until,
};

/// Changes churn 1.0.0 in the models directory.
fn edit_package(deployment: &Deployment) {
    let directory = deployment.version("churn", "1.0.0");
    fs_err::write(directory.join("README.md"), "better words").unwrap();
}

/// Packs churn 1.0.0, with the state but without a server: (exit code, stdout, stderr).
fn pack_with_state(deployment: &Deployment, options: &[&str]) -> (i32, String, String) {
    let directory = deployment.version("churn", "1.0.0");
    let environment = [
        ("PREDICTD_STATE__URL", deployment.state().to_str().unwrap()),
        ("PREDICTD_SERVER", "http://127.0.0.1:9"),
    ];
    let arguments = [&["pack", directory.to_str().unwrap()], options].concat();
    run_predictd(&arguments, "", &environment)
}

#[test]
fn the_package_of_the_journal_replaces_one_that_was_loaded_first() {
    let deployment = Deployment::churn();
    let server = deployment.start();
    deployment.wait_for_copies("churn", 1);
    let digest = server.status("churn")["stable"]["digest"].clone();
    drop(server);
    edit_package(&deployment);
    let (code, ..) = pack_with_state(&deployment, &[]);
    assert_eq!(code, 0);
    let mend = deployment.break_journal("churn");
    let server = deployment.start_unready();
    wait_until("the changed package is loaded", || {
        server.get("/models/churn/versions/1.0.0").status() == 200
    });
    mend();
    wait_until("the model answers", || {
        server
            .predict("/models/churn/predict", &customer())
            .status()
            == 200
    });
    let answer = server.predict("/models/churn/predict", &customer());
    assert_eq!(answer.headers()["x-model-digest"].to_str().unwrap(), digest);
    assert_contains(
        &server.readiness(),
        &["the copy in the state directory is served"],
    );
}

#[test]
fn a_rollback_works_after_the_models_directory_lost_the_files() {
    let deployment = Deployment::churn().with("models.rehearse_seconds", "0.2");
    let server = deployment.start_and_add_candidate();
    deployment.wait_for_copies("churn", 1);
    server.make_stable("churn", "1.1.0");
    deployment.wait_for_copies("churn", 2);
    for version in ["1.0.0", "1.1.0"] {
        fs_err::remove_dir_all(deployment.models().join("churn").join(version)).unwrap();
    }
    server.wait_for_readiness(
        "its files are gone from the models directory: the copy in the state directory is served",
    );
    server.wait_for_metric(r#"predictd_models_ignored{reason="files_gone"}"#, 2.0);
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    wait_until("the rollback is rehearsed", || {
        server.status("churn")["rollback"]["ready"] == true
    });
    assert_contains(
        &server.command_output(&["rollback", "churn"]),
        &["1.1.0 -> 1.0.0"],
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    // No rollback leads to 1.1.0 any more.
    deployment.wait_for_copies("churn", 1);
    // When the files are back in the models directory, they are used again.
    install_package(deployment.models(), "churn", "1.0.0");
    wait_until("the files are found", || {
        !server
            .readiness()
            .contains("the copy in the state directory")
    });
    assert_eq!(
        server.metric(r#"predictd_models_ignored{reason="files_gone"}"#),
        0.0
    );
    drop(server);
    // A model whose whole directory was removed while no server ran is not served from its copies.
    fs_err::remove_dir_all(deployment.models().join("churn")).unwrap();
    install_graph(deployment.models(), "m", 1, "nan_rows", None);
    let server = deployment.start();
    assert_eq!(server.get("/models/churn").status(), 404);
}

#[test]
fn a_failed_copy_is_made_later() {
    let deployment = Deployment::churn();
    // A file in place of the directory of copies: not even root can write below it.
    fs_err::write(deployment.state().join("packages"), "not a directory").unwrap();
    let server = deployment.start_and_add_candidate();
    wait_for("the failure is logged", || server.logged(COPY_FAILED).pop());
    fs_err::remove_file(deployment.state().join("packages")).unwrap();
    deployment.wait_for_copies("churn", 1);
    assert_eq!(
        server.logged(COPY_FAILED).len(),
        1,
        "the failure is logged once, not at each attempt"
    );
}

#[test]
fn a_package_that_changed_under_its_version_is_ignored() {
    let deployment = Deployment::churn();
    let server = deployment.start();
    deployment.wait_for_copies("churn", 1);
    let digest = server.status("churn")["stable"]["digest"].clone();
    drop(server);
    // A common mistake: pack, serve, edit, and pack again under the same version.
    edit_package(&deployment);
    let (code, output, _) = pack_with_state(&deployment, &[]);
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("warning churn 1.0.0 is in the journal with other files")
            && output.contains("--bump"),
        "{output}"
    );
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(server.status("churn")["stable"]["digest"], digest);
    assert_contains(
        &server.readiness(),
        &["its files in the models directory are ignored"],
    );
    assert_contains(
        &server.readiness(),
        &["a changed package needs a new version"],
    );
    assert!(
        !server.readiness().contains("new version; a changed"),
        "{}",
        server.readiness()
    );
    // Under a new version the changed package can be rolled out.
    let (code, output, _) = pack_with_state(&deployment, &["--bump"]);
    assert!(
        code == 0 && output.contains("packed churn/1.0.1"),
        "{output}"
    );
    assert_eq!(
        fs_err::read_to_string(deployment.models().join("churn/1.0.1/README.md")).unwrap(),
        "better words"
    );
    server.start_rollout("churn", "1.0.1", CANARY_HELD);
    let (code, output, _) = pack_with_state(&deployment, &["--bump"]);
    assert!(
        code == 0 && output.contains("packed churn/1.0.2"),
        "an existing version is never overwritten: {output}"
    );
}

const LABELS: &str = "output { name: \"prob\" label_filename: \"labels.txt\" }\n";

/// Installs `iris/VERSION`, whose configuration names a file of labels.
fn install_iris(models: &Path, version: u64) {
    install_graph(models, "iris", version, "iris", Some(LABELS));
    fs_err::write(
        models.join("iris/labels.txt"),
        "setosa\nversicolor\nvirginica\n",
    )
    .unwrap();
}

#[test]
fn the_copy_of_a_graph_includes_its_configuration_and_labels() {
    let deployment = Deployment::new(&[]);
    install_iris(deployment.models(), 1);
    let server = deployment.start();
    deployment.wait_for_copies("iris", 1);
    drop(server);
    for lost in ["1/model.onnx", "config.pbtxt", "labels.txt"] {
        fs_err::remove_file(deployment.models().join("iris").join(lost)).unwrap();
    }
    let server = deployment.start();
    let answer = classify_setosa(&server);
    assert!(answer.contains(":setosa"), "{answer}");
}

/// The answer for a flower, with its label.
fn classify_setosa(server: &ServerClient) -> String {
    let body = json!({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}],
        "outputs": [{"name": "prob", "parameters": {"classification": 1}}]});
    server
        .post("/v2/models/iris/infer")
        .body(body.to_string())
        .send()
        .unwrap()
        .text()
        .unwrap()
}

#[test]
fn versions_with_the_same_bytes_have_separate_copies() {
    let deployment = Deployment::new(&[]);
    install_iris(deployment.models(), 1);
    let server = deployment.start();
    deployment.wait_for_copies("iris", 1);
    // The same bytes under another version get their own copy.
    install_iris(deployment.models(), 2);
    server.make_stable("iris", "2");
    deployment.wait_for_copies("iris", 2);
    drop(server);
    for lost in ["1/model.onnx", "2/model.onnx", "config.pbtxt", "labels.txt"] {
        fs_err::remove_file(deployment.models().join("iris").join(lost)).unwrap();
    }
    let server = deployment.start();
    wait_until("the rollback is rehearsed", || {
        server.status("iris")["rollback"]["ready"] == true
    });
    for version in ["2", "1"] {
        assert_eq!(server.status("iris")["stable"]["version"], version);
        let answer = classify_setosa(&server);
        assert!(answer.contains(":setosa"), "{version}: {answer}");
        if version == "2" {
            server.decide("iris/rollback", &json!({}));
        }
    }
}

/// Installs `m/VERSION` with a file of this size, whose content differs between versions.
fn install_large(models: &Path, version: u64, kilobytes: usize) {
    let directory = models.join("m").join(version.to_string());
    fs_err::create_dir_all(&directory).unwrap();
    fs_err::write(
        directory.join("weights.bin"),
        vec![version as u8; kilobytes << 10],
    )
    .unwrap();
    install_graph(models, "m", version, "nan_rows", None);
}

#[test]
fn an_obsolete_copy_makes_space_for_the_next_one() {
    let Some(disk) = SmallDisk::mount(3200) else {
        return;
    };
    let state = disk.path().join("state");
    let deployment = Deployment::new(&[]).with_state(state.clone());
    install_large(deployment.models(), 1, 1000);
    let server = deployment.start();
    deployment.wait_for_copies("m", 1);
    for version in [2, 3] {
        install_large(deployment.models(), version, 1000);
        let version = version.to_string();
        server.make_stable("m", &version);
        wait_until("both versions have a copy", || {
            let copies = package_copies(&state, "m");
            copies.len() == 2 && copies[1].ends_with(&version)
        });
    }
    assert!(
        server.logged(COPY_FAILED).is_empty(),
        "an obsolete copy is removed before the next one is written"
    );
}

const COPY_FAILED: &str =
    "no copy of the package can be kept: its files in the models directory are the only ones";

#[test]
fn a_copy_leaves_space_for_the_journal() {
    let Some(disk) = SmallDisk::mount(10_000) else {
        return;
    };
    let state = disk.path().join("state");
    let deployment = Deployment::new(&[]).with_state(state.clone());
    // The copy would fit, but less than a twentieth of the disk would remain.
    install_large(deployment.models(), 1, 9400);
    let server = deployment.start();
    let line = wait_for("the failure is logged", || server.logged(COPY_FAILED).pop());
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("bytes are free")
            && error.contains("512000 of them are reserved for the journal"),
        "{error}"
    );
    assert!(package_copies(&state, "m").is_empty());
    assert_eq!(
        fs_err::read_dir(state.join("packages/m")).unwrap().count(),
        0,
        "no staging directory is created"
    );
}

#[test]
fn staging_directories_of_a_killed_server_are_removed() {
    let deployment = Deployment::churn();
    let place = deployment.state().join("packages/churn");
    let [old, young] =
        [".01JDABCDEFGHJKMNPQRSTVWXYZ", ".01JDABCDEFGHJKMNPQRSTVWXY0"].map(|name| place.join(name));
    for staging in [&old, &young] {
        fs_err::create_dir_all(staging.join("churn")).unwrap();
        fs_err::write(staging.join("churn/model.onnx"), "half of it").unwrap();
    }
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in ["churn/model.onnx", "churn", ""] {
        fs_err::File::open(old.join(path))
            .unwrap()
            .file()
            .set_modified(long_ago)
            .unwrap();
    }
    // The other staging directory has one new file, as during the write of a large copy.
    for path in ["churn", ""] {
        fs_err::File::open(young.join(path))
            .unwrap()
            .file()
            .set_modified(long_ago)
            .unwrap();
    }
    let server = deployment.start();
    wait_until("the old staging directory is removed", || !old.exists());
    deployment.wait_for_copies("churn", 1);
    assert!(young.exists(), "another replica may be writing to it");
    drop(server);
}

#[test]
fn a_damaged_copy_is_replaced_and_not_served() {
    let deployment = Deployment::churn().with("models.rehearse_seconds", "0.2");
    let server = deployment.start_and_add_candidate();
    deployment.wait_for_copies("churn", 1);
    server.make_stable("churn", "1.1.0");
    let graphs = deployment
        .wait_for_copies("churn", 2)
        .into_iter()
        .map(|copy| copy.join("model.onnx"))
        .collect::<Vec<_>>();
    for graph in &graphs {
        let bytes = fs_err::read(graph).unwrap();
        fs_err::write(graph, &bytes[..bytes.len() / 2]).unwrap();
        wait_until("the copy is restored", || {
            fs_err::read(graph).is_ok_and(|copy| copy == bytes)
        });
    }
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    server.wait_for_metric(ready, 1.0);
    // An undamaged copy makes a rollback possible after the models directory lost the files.
    fs_err::remove_dir_all(deployment.version("churn", "1.0.0")).unwrap();
    server.wait_for_readiness("the copy in the state directory is served");
    assert_eq!(server.status("churn")["rollback"]["ready"], true);
    fs_err::write(&graphs[0], "cut off").unwrap();
    server.wait_for_metric(ready, 0.0);
    let (_, text) = server.run_command(&["rollout", "status", "churn"]);
    assert!(
        text.contains(
            "the files of 1.0.0 are gone, and its copy in the state directory is damaged \
             (model.onnx has 7 of"
        ),
        "{text}"
    );
}
