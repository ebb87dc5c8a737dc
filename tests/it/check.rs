//! `serve --check` refuses what `serve` would refuse.

use std::{net::TcpListener, path::Path};

use crate::harness::{
    InProcessServer, Server, check_configuration, copy_directory, install_graph, install_package,
    models_with, package_path, run_predictd, write_manifest,
};

#[test]
fn addresses_must_be_free_and_resolvable() {
    let models = models_with(&[]);
    install_graph(models.path(), "scalar", 1, "scalar", None);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, value, expected) in [
        ("PREDICTD_SERVER__LISTEN", address.as_str(), "in use"),
        ("PREDICTD_SERVER__GRPC_LISTEN", &address, "in use"),
        ("PREDICTD_ADMIN__LISTEN", &address, "in use"),
        (
            "PREDICTD_SERVER__GRPC_LISTEN",
            "no-such-host.invalid:1",
            "server.grpc_listen (empty: off): resolving",
        ),
        (
            "PREDICTD_SERVER__LISTEN",
            "here",
            "`server.listen`: \"here\" is not an address",
        ),
        // A host name is judged by the addresses that it resolves to. This one resolves to all
        // addresses of the machine.
        ("PREDICTD_ADMIN__LISTEN", "0x0:0", "admin.token_file"),
        (
            "PREDICTD_ADMIN__TOKEN_FILE",
            "/nowhere/tokens",
            "/nowhere/tokens",
        ),
    ] {
        let (code, output) = check_configuration(models.path(), &[(key, value)]);
        assert!(
            code == 1 && output.contains(expected),
            "{key}={value}: {output}"
        );
    }
    for (key, value) in [
        ("PREDICTD_SERVER__LISTEN", "localhost:0"),
        ("PREDICTD_SERVER__GRPC_LISTEN", "localhost:0"),
        ("PREDICTD_ADMIN__LISTEN", "localhost:0"),
        ("PREDICTD_ADMIN__LISTEN", "0x7f000001:0"),
    ] {
        let (code, output) = check_configuration(models.path(), &[(key, value)]);
        assert_eq!(code, 0, "{key}={value}: {output}");
    }
}

#[test]
fn listeners_may_have_host_names() {
    let models = models_with(&[]);
    install_graph(models.path(), "scalar", 1, "scalar", None);
    let server = InProcessServer::start(
        models.path(),
        &[
            ("server.grpc_listen", "localhost:0"),
            ("admin.listen", "localhost:0"),
        ],
    );
    assert!(
        server.grpc_address().starts_with("127.0.0.1:"),
        "{}",
        server.grpc_address()
    );
    assert!(server.admin_address().starts_with("127.0.0.1:"));
}

#[test]
fn settings_without_effect_are_reported() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let file = models.path().join("predictd.toml");
    fs_err::write(
        &file,
        "[model.nobody]\nworkers = 1\n[model.diabetes]\nworkers = 1\n",
    )
    .unwrap();
    let state = models.path().join("state");
    let environment = [
        ("PREDICTD_STATE__URL", state.to_str().unwrap()),
        ("PREDICTD_SERVER__LISTEN", "127.0.0.1:0"),
        ("PREDICTD_SERVER__GRPC_LISTEN", ""),
        ("PREDICTD_ADMIN__LISTEN", ""),
    ];
    let (file, root) = (file.to_str().unwrap(), models.path().to_str().unwrap());
    let arguments = ["serve", "--check", "--config", file, "--models", root];
    let (code, output, error) = run_predictd(&arguments, "", &environment);
    assert!(
        code == 0
            && output.contains("warning [model.nobody] has no effect: there is no model nobody")
            && !output.contains("[model.diabetes]"),
        "{output}{error}"
    );
    let (code, output) =
        check_configuration(models.path(), &[("PREDICTD_TELEMETRY__LOG_LEVEL", "loud")]);
    assert!(
        code == 1 && output.contains("\"loud\" is not a level; use off, error, warn, info"),
        "{output}"
    );
}

#[test]
fn a_lost_journal_fails_the_check() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let state = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(state.path().join("evidence/diabetes/2")).unwrap();
    let environment = [
        ("PREDICTD_STATE__URL", state.path().to_str().unwrap()),
        ("PREDICTD_SERVER__LISTEN", "127.0.0.1:0"),
        ("PREDICTD_SERVER__GRPC_LISTEN", ""),
        ("PREDICTD_ADMIN__LISTEN", ""),
    ];
    let root = models.path().to_str().unwrap();
    let arguments = ["serve", "--check", "--models", root];
    let (code, output, _) = run_predictd(&arguments, "", &environment);
    assert!(
        code == 1
            && output.contains(
                "FAILED  the journal of diabetes is damaged at entry 1: the entry is missing"
            ),
        "{output}"
    );
}

/// `/proc/1` looks like a version, and its links lead to the whole disk.
#[test]
fn the_root_of_the_disk_can_be_checked() {
    let (code, output) = check_configuration(Path::new("/"), &[]);
    assert!(code == 1 && output.contains("FAILED  "), "{output}");
}

#[test]
fn a_package_in_the_wrong_directory_is_rejected() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    copy_directory(
        &package_path("diabetes", "1.0.0"),
        &models.path().join("diabetes/1.0.1"),
    );
    copy_directory(
        &package_path("diabetes", "1.0.0"),
        &models.path().join("other/1.0.0"),
    );
    let (code, output) = check_configuration(models.path(), &[]);
    assert_eq!(
        (code, output.matches("identity").count()),
        (1, 2),
        "{output}"
    );
    assert!(
        output.contains("says diabetes 1.0.0, but is in the directory of diabetes 1.0.1"),
        "{output}"
    );
}

#[test]
fn an_unwritable_state_fails_the_check() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let (code, output) = check_configuration(
        models.path(),
        &[("PREDICTD_STATE__URL", "/proc/nowhere/state")],
    );
    assert!(
        code == 1 && output.contains("FAILED  state.url: /proc/nowhere/state can't be written"),
        "{output}"
    );
    let new = models.path().join(".state/of/ours");
    assert_eq!(
        check_configuration(
            models.path(),
            &[("PREDICTD_STATE__URL", new.to_str().unwrap())]
        )
        .0,
        0
    );
    assert!(
        !models.path().join(".state").exists(),
        "the check leaves no state directory"
    );
}

#[test]
fn a_version_with_another_digest_than_in_the_journal_is_rejected() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let state = tempfile::tempdir().unwrap();
    let with_state = [("PREDICTD_STATE__URL", state.path().to_str().unwrap())];
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.env("PREDICTD_STATE__URL", state.path());
    });
    drop(server);
    assert_eq!(check_configuration(models.path(), &with_state).0, 0);
    let directory = models.path().join("diabetes/1.0.0");
    fs_err::write(directory.join("NOTES"), "changed").unwrap();
    write_manifest(&directory, "diabetes", "1.0.0");
    let (code, output) = check_configuration(models.path(), &with_state);
    assert!(
        code == 1 && output.contains("the journal knows this version as sha256:"),
        "{output}"
    );
}

#[test]
fn incomplete_packages_and_graphs_beyond_the_memory_limit_fail_the_check() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    fs_err::create_dir_all(models.path().join("diabetes/1.1.0")).unwrap();
    let (code, output) = check_configuration(models.path(), &[]);
    assert!(
        code == 1 && output.contains("diabetes/1.1.0: manifest.json is missing"),
        "{output}"
    );
    fs_err::remove_dir(models.path().join("diabetes/1.1.0")).unwrap();
    install_package(models.path(), "churn", "1.1.0");
    install_graph(models.path(), "slow", 1, "slow", None);
    assert_eq!(check_configuration(models.path(), &[]).0, 0);
    let (code, output) = check_configuration(
        models.path(),
        &[("PREDICTD_RUNTIME__MEMORY_LIMIT_BYTES", "2000")],
    );
    assert!(
        code == 1 && output.contains("raise runtime.memory_limit_bytes"),
        "{output}"
    );
    let (code, output) = check_configuration(
        models.path(),
        &[("PREDICTD_MODELS__REQUIRE_MANIFEST", "true")],
    );
    assert!(
        code == 1 && output.contains("slow/1: manifest.json is missing"),
        "{output}"
    );
}

#[test]
fn a_damaged_journal_is_reported_once_with_the_command_that_repairs_it() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let state = tempfile::tempdir().unwrap();
    let entry = state.path().join("journal/churn/00000001.json");
    fs_err::create_dir_all(entry.parent().unwrap()).unwrap();
    fs_err::write(entry, "{").unwrap();
    let environment = [
        ("PREDICTD_STATE__URL", state.path().to_str().unwrap()),
        ("PREDICTD_SERVER__LISTEN", "127.0.0.1:0"),
        ("PREDICTD_SERVER__GRPC_LISTEN", ""),
        ("PREDICTD_ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    let (code, output, _) = run_predictd(
        &[
            "serve",
            "--check",
            "--models",
            models.path().to_str().unwrap(),
        ],
        "",
        &environment,
    );
    let failed: Vec<&str> = output
        .lines()
        .filter(|line| line.contains("FAILED"))
        .collect();
    assert!(code == 1 && failed.len() == 1, "{output}");
    assert!(
        failed[0].starts_with("FAILED  the journal of churn is damaged: "),
        "{output}"
    );
    assert!(
        failed[0].contains("`predictd history churn --repair --reason TEXT`")
            && !failed[0].contains("manifest.json"),
        "{output}"
    );
}
