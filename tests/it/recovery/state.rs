//! States that vanish, fill up, or cannot be read.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    CANARY_HELD, CHURN, Deployment, PREDICTD, Server, ServerClient, SmallDisk, assert_contains,
    customer, install_package, models_with, plan_with_steps, wait_until,
};

#[test]
fn a_vanished_state_gets_no_entry_without_its_predecessors() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    let (journal, aside) = (
        deployment.state().join("journal"),
        deployment.state().join("elsewhere"),
    );
    fs_err::rename(&journal, &aside).unwrap();
    server.decide("churn/rollback", &json!({}));
    assert_eq!(server.status("churn")["pending"][0]["action"], "rollback");
    assert!(!journal.join("churn/00000003.json").exists());
    fs_err::rename(&aside, &journal).unwrap();
    wait_until("the decision is written", || {
        server.status("churn")["written"] == true
    });
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
}

#[test]
fn a_full_disk_has_room_for_a_rollback() {
    let Some(disk) = SmallDisk::mount(600) else {
        return;
    };
    let state = disk.path().join("state");
    let deployment = Deployment::churn().with_state(state.clone());
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    assert!(state.join("reserve").exists());
    let fill = disk.path().join("fill");
    let mut size = 600 << 10;
    while size > 0 {
        if fs_err::write(&fill, vec![1; size]).is_ok() {
            break;
        }
        size -= 4096;
    }
    assert_eq!(
        server.refused_decision("churn/rollout/pause", &json!({})).0,
        503
    );
    let status = server.decide("churn/rollback", &json!({"reason": "3 a.m."}));
    assert_eq!(
        (&status["written"], &status["rollout"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
    // The released reserve is for rollbacks only.
    assert_eq!(
        server
            .refused_decision(
                "churn/rollout/start",
                &json!({"to": ["1.1.0"], "plan": {"text": plan_with_steps(CANARY_HELD)}})
            )
            .0,
        503
    );
    server.wait_for_readiness("no space is reserved for urgent decisions");
    // Once there is space, the reserve is restored.
    fs_err::remove_file(&fill).unwrap();
    wait_until("the reserve is restored", || state.join("reserve").exists());
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
}

#[test]
fn a_file_size_limit_does_not_end_the_server() {
    let models = models_with(&[("churn", "1.0.0")]);
    let arguments = [
        "prlimit",
        "--fsize=0",
        PREDICTD,
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--models",
        models.path().to_str().unwrap(),
    ];
    let server = Server::start_prepared(models.path(), &[], |command| {
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect();
        *command = Command::new("/usr/bin/env");
        command.args(arguments).envs(environment);
    });
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(server.status("churn")["pending"][0]["action"], "adopt");
    assert_eq!(server.get("/livez").status(), 200);
}

#[test]
fn an_unreadable_state_at_the_start_allows_a_rollback_to_a_named_version() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    drop(server);
    let mend = deployment.break_journal("churn");
    let server = deployment.start_unready();
    let named = "next: predictd rollback churn --to VERSION --never-stable --reason TEXT";
    server.wait_for_readiness(r#""suggestion":{"kind":"roll-back-to-never-stable","to":null}"#);
    assert_contains(&server.command_failure(&["rollback", "churn"]), &[named]);
    assert_contains(
        &server.command_output(&[
            "rollback",
            "churn",
            "--to",
            "1.0.0",
            "--never-stable",
            "--reason",
            "emergency",
        ]),
        &["not written yet"],
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    mend();
    wait_until("the decision is written", || {
        server.status("churn")["written"] == true
    });
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
    assert_eq!(
        (
            server.answering_version(CHURN, &customer()),
            &server.status("churn")["rollout"]
        ),
        ("1.0.0".to_owned(), &Value::Null)
    );
}

#[test]
fn only_an_operator_starts_a_new_journal_after_the_state_vanished() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    deployment.wait_for_copies("churn", 1);
    let journal = deployment.state().join("journal");
    fs_err::remove_dir_all(&journal).unwrap();
    server.wait_for_readiness("the journal vanished from the state directory: entry 1 of churn");
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        server.get("/readyz").status(),
        200,
        "decisions that the server knows still apply"
    );
    drop(server);
    // Version 1.1.0 is the highest, and no decision made it stable.
    let server = deployment.start_unready();
    server.wait_for_readiness(
        "is missing, though the state directory has packages or evidence of earlier decisions",
    );
    assert_ne!(server.predict(CHURN, &customer()).status(), 200);
    check_lost_journal(&deployment, &server);
    // Only 1.0.0 has a copy, so it was stable.
    server.repair("churn", "the disk was lost");
    server.wait_until_ready();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(server.actions("churn"), ["repair", "rollback"]);
    server.command_output(&["history", "churn", "--verify"]);
}

/// The server and both ways to verify agree that a journal is missing.
fn check_lost_journal(deployment: &Deployment, server: &ServerClient) {
    let expected = "journal damaged at entry 1: the entry is missing, though the state directory has \
                    packages or evidence of earlier decisions";
    let state = deployment.state().to_str().unwrap().to_owned();
    for options in [&[][..], &["--state", &state]] {
        let verify = [&["history", "churn", "--verify"], options].concat();
        let (code, output) = server.run_command(&verify);
        assert_eq!(code, 1, "{options:?}: {output}");
        assert_contains(&output, &[&format!("FAILED: {expected}")]);
        let list = [&["history", "churn"], options].concat();
        assert_contains(&server.command_output(&list), &[expected]);
    }
}

#[test]
fn an_operator_chooses_the_stable_version_if_the_copies_do_not_show_it() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    // The copies of the stable version and of the previous one look the same.
    deployment.wait_for_copies("churn", 2);
    install_package(deployment.models(), "churn", "1.2.0");
    drop(server);
    fs_err::remove_dir_all(deployment.state().join("journal")).unwrap();
    let server = deployment.start_unready();
    server.wait_for_readiness("is missing, though the state directory has packages");
    let repair = ["history", "churn", "--repair", "--reason", "lost"];
    let choice = "predictd rollback churn --to VERSION --never-stable --reason TEXT";
    assert_contains(
        &server.command_output(&repair),
        &["no longer says which version was stable", choice],
    );
    // Neither the running server nor a restart chooses a version.
    drop(server);
    let server = deployment.start_unready();
    server.wait_for_readiness("no longer says which version was stable");
    assert_ne!(server.predict(CHURN, &customer()).status(), 200);
    assert_eq!(server.actions("churn"), ["repair"]);
    let choose = ["rollback", "churn", "--to", "1.1.0", "--never-stable"];
    server.command_output(&[&choose[..], &["--reason", "it was stable"]].concat());
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

#[test]
fn a_restart_restores_the_reserve_for_rollbacks() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    drop(server);
    fs_err::remove_file(deployment.state().join("reserve")).unwrap();
    let _server = deployment.start();
    wait_until("the reserve is restored", || {
        deployment.state().join("reserve").exists()
    });
}
