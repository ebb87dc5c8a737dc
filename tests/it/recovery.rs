//! A way back at 3 a.m.: rollouts at full traffic, states that can't be written, disks that are full, journals that are damaged.

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CANARY_HELD, CHURN, Deployment, PREDICTD, Server, SmallDisk, assert_contains,
    copy_directory, customer, install_graph, install_package, models_with, object_schema,
    package_copies, plan_with_steps, run_predictd, wait_for, wait_until, write_manifest,
    write_unpacked_package,
};

#[test]
fn a_rollback_ends_a_rollout_at_full_traffic() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    let held = CANARY_ALL.replace("weight = 1.0", "weight = 1.0\nhold = true");
    server.start_rollout("churn", "1.1.0", &held);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    let text = server.command_output(&["rollback", "churn", "--reason", "3 a.m."]);
    assert_contains(&text, &["(entry 3)"]);
    assert!(
        text.starts_with("churn: rolled back 1.1.0 -> 1.0.0 in "),
        "{text}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    let last = server.history("churn").pop().unwrap();
    assert_eq!(
        (
            &last["action"],
            &last["from"]["version"],
            &last["to"]["version"]
        ),
        (&json!("rollback"), &json!("1.1.0"), &json!("1.0.0"))
    );
    // Whoever was woken by the same alert does the same, and is not led back to the fault.
    let text = server.command_failure(&["rollback", "churn"]);
    assert_contains(
        &text,
        &[
            "1.0.0 answers already; 1.1.0 was rolled back ",
            " ago by unverified:",
        ],
    );

    assert!(
        text.contains("next: predictd rollout status churn\n") && !text.contains("--to"),
        "{text}"
    );
    // Nor is who comes after the judge, or after an abort.
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.decide("churn/rollout/abort", &json!({"reason": "worse"}));
    let text = server.command_failure(&["rollback", "churn"]);
    assert_contains(
        &text,
        &["1.0.0 answers already; the rollout of 1.1.0 was aborted "],
    );
    assert!(!text.contains("--to"), "{text}");
    assert_contains(
        &server.command_failure(&["rollback", "churn", "--to", "1.0.0"]),
        &["1.0.0 answers already; the rollout of 1.1.0 was aborted "],
    );
    let text = server.command_failure(&["rollback", "churn", "--to", "7.7.7"]);
    assert_contains(&text, &["there is no version 7.7.7 of churn"]);
    assert!(!text.contains("rollout start"), "{text}");
}

#[test]
fn a_rollback_takes_effect_though_it_cannot_be_written() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    let replica = deployment.start();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    // Not by an answer: during the rollout every other one is the candidate's.
    wait_until("the replica follows", || {
        replica.status("churn")["stable"]["version"] == "1.1.0"
    });
    assert_eq!(replica.answering_version(CHURN, &customer()), "1.1.0");
    let mend = deployment.break_journal("churn");
    assert_contains(
        &server.command_output(&["rollout", "status", "churn"]),
        &["TROUBLE   only a rollback or an abort is possible: "],
    );
    let text = server.command_output(&["rollback", "churn", "--reason", "3 a.m."]);
    assert_contains(&text, &["rolled back 1.1.0 -> 1.0.0", "(not written yet)"]);

    assert!(
        text.contains("PENDING   rollback 1.0.0 is in force on this server, and not written yet"),
        "{text}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        replica.answering_version(CHURN, &customer()),
        "1.1.0",
        "nobody else can know of it"
    );
    assert_contains(
        &server.readiness(),
        &["rollback 1.0.0 is in force on this server only"],
    );
    assert_eq!(
        server.metric(r#"predictd_journal_pending{model="churn"}"#),
        1.0
    );
    assert!(
        !server.logged("a decision can't be written yet; it is in force on this server, and will be written as soon as possible").is_empty()
    );
    // Whatever is not urgent waits until that is written.
    let (status, detail) = server.refused_decision(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan_with_steps(CANARY_HELD)}}),
    );
    assert!(status == 503, "{status} {detail}");
    mend();
    wait_until("it is written, and the replica follows", || {
        replica.answering_version(CHURN, &customer()) == "1.0.0"
    });
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "promote", "rollback"]
    );
    assert_eq!(server.history("churn")[3]["reason"], "3 a.m.");
    server.wait_for_metric(r#"predictd_journal_pending{model="churn"}"#, 0.0);
    assert_eq!(server.status("churn")["pending"], json!([]));
}

#[test]
fn a_state_that_hangs_holds_up_no_rollback() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    // Whoever opens this waits until somebody writes: as long as it takes.
    let hanging = deployment.entry(3);
    assert!(
        Command::new("mkfifo")
            .arg(&hanging)
            .status()
            .unwrap()
            .success()
    );
    server.decide("churn/rollback", &json!({"reason": "3 a.m."}));
    for _ in 0..20 {
        assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    }
    assert_eq!(server.status("churn")["pending"][0]["action"], "rollback");
    let aside = deployment.state().join("aside");
    fs_err::rename(&hanging, &aside).unwrap();
    // Lets those go that wait for it.
    wait_until("the rollback is written", || {
        let _ = rustix::fs::open(
            &aside,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK,
            rustix::fs::Mode::empty(),
        );
        server.status("churn")["written"] == true
    });
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
}

#[test]
fn a_state_that_vanished_begins_no_chain_in_its_middle() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    let (journal, elsewhere) = (
        deployment.state().join("journal"),
        deployment.state().join("elsewhere"),
    );
    fs_err::rename(&journal, &elsewhere).unwrap();
    server.decide("churn/rollback", &json!({}));
    assert_eq!(server.status("churn")["pending"][0]["action"], "rollback");
    assert!(!journal.join("churn/00000003.json").exists());
    fs_err::rename(&elsewhere, &journal).unwrap();
    wait_until("it is written", || {
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
    // What came free is for the next rollback, and for nothing else.
    assert_eq!(
        server
            .refused_decision(
                "churn/rollout/start",
                &json!({"to": ["1.1.0"], "plan": {"text": plan_with_steps(CANARY_HELD)}})
            )
            .0,
        503
    );
    server.wait_for_readiness("it has no room for urgent decisions");
    // Once there is room again it is kept again.
    fs_err::remove_file(&fill).unwrap();
    wait_until("it is kept", || state.join("reserve").exists());
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
}

#[test]
fn a_limit_of_file_sizes_kills_no_server() {
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
fn replicas_follow_a_repair() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    drop(server);
    let knows = deployment.start();
    fs_err::write(deployment.entry(2), "").unwrap();
    let restarted = deployment.start();
    assert_eq!(
        (
            knows.answering_version(CHURN, &customer()),
            restarted.answering_version(CHURN, &customer())
        ),
        ("1.1.0".to_owned(), "1.0.0".to_owned())
    );
    restarted.repair("churn", "power cut");
    wait_until("the other follows", || {
        knows.answering_version(CHURN, &customer()) == "1.0.0"
    });
    knows.start_rollout("churn", "1.1.0", CANARY_HELD);
    assert_eq!(restarted.actions("churn"), ["adopt", "repair", "start"]);
}

#[test]
fn a_replica_that_slept_through_a_repair_decides_on_what_stands_there_now() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    drop(server);
    let knows = deployment.start();
    fs_err::write(deployment.entry(2), "").unwrap();
    let restarted = deployment.start();
    knows.signal(rustix::process::Signal::STOP);
    restarted.repair("churn", "power cut");
    restarted.start_rollout("churn", "1.1.0", CANARY_HELD);
    knows.signal(rustix::process::Signal::CONT);
    // Its entry 3 is another than the one that stands there: whatever it answers, it breaks nothing.
    let _ = knows
        .post_decision("churn/rollback", &json!({"reason": "3 a.m."}))
        .status();
    restarted.command_output(&["history", "churn", "--verify"]);
    wait_until("both know the same", || {
        knows.actions("churn") == restarted.actions("churn")
    });
    assert_eq!(restarted.status("churn")["trouble"], Value::Null);
}

#[test]
fn a_repair_that_was_cut_off_is_finished() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    let held = CANARY_ALL.replace("weight = 1.0", "weight = 1.0\nhold = true");
    server.start_rollout("churn", "1.1.0", &held);
    server.decide("churn/rollout/abort", &json!({"reason": "bad"}));
    drop(server);
    // What a kill leaves between the moving and the writing: the rollout seems to run, and its end lies aside.
    let place = "damaged/churn/01M8F8XN0A7K8735X7M5ZZB6G1";
    fs_err::create_dir_all(deployment.state().join(place)).unwrap();
    let entry = "00000003.json";
    fs_err::rename(
        deployment.state().join("journal/churn").join(entry),
        deployment.state().join(place).join(entry),
    )
    .unwrap();
    let server = deployment.start();
    assert_eq!(
        server.answering_version(CHURN, &customer()),
        "1.0.0",
        "no candidate of a rollout that was perhaps aborted"
    );
    assert_contains(
        &server.readiness(),
        &["journal damaged at entry 3, which was set aside without an entry that says so"],
    );
    assert_contains(
        &server.command_output(&["history", "churn", "--repair", "--reason", "cut off"]),
        &["rollout   none"],
    );
    assert_eq!(
        server.history("churn").pop().unwrap()["details"]["set_aside"],
        place
    );
    drop(server);
    let server = deployment.start();
    assert_eq!(
        (
            &server.status("churn")["trouble"],
            server.answering_version(CHURN, &customer())
        ),
        (&Value::Null, "1.0.0".to_owned())
    );
}

#[test]
fn a_pending_rollback_does_not_undo_what_was_decided_later() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    let replica = deployment.start();
    server.make_stable("churn", "1.1.0");
    wait_until("the replica follows", || {
        replica.status("churn")["stable"]["version"] == "1.1.0"
    });
    let mend = deployment.break_journal("churn");
    server.decide("churn/rollback", &json!({"reason": "3 a.m."}));
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    server.signal(rustix::process::Signal::STOP);
    mend();
    wait_until("the replica can decide", || {
        replica.status("churn")["trouble"] == Value::Null
    });
    replica.decide("churn/rollback", &json!({"reason": "also 3 a.m."}));
    replica.decide(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "9 a.m.: it was the data"}),
    );
    server.signal(rustix::process::Signal::CONT);
    wait_until("it is dropped", || {
        server.status("churn")["pending"] == json!([])
    });
    assert_eq!(
        replica.actions("churn"),
        ["adopt", "rollback", "rollback", "rollback"]
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

#[test]
fn what_was_loaded_before_the_journal_could_be_read_gives_way_to_what_was_decided_on() {
    let deployment = Deployment::churn();
    let server = deployment.start();
    deployment.wait_for_copies("churn", 1);
    let digest = server.status("churn")["stable"]["digest"].clone();
    drop(server);
    let directory = deployment.version("churn", "1.0.0");
    fs_err::write(directory.join("README.md"), "better words").unwrap();
    let (code, ..) = run_predictd(
        &["pack", directory.to_str().unwrap()],
        "",
        &[
            ("PREDICTD_STATE__URL", deployment.state().to_str().unwrap()),
            ("PREDICTD_SERVER", "http://127.0.0.1:9"),
        ],
    );
    assert_eq!(code, 0);
    let mend = deployment.break_journal("churn");
    let server = deployment.start_unready();
    wait_until("the other files are loaded", || {
        server.get("/models/churn/versions/1.0.0").status() == 200
    });
    mend();
    wait_until("it answers", || {
        server
            .predict("/models/churn/predict", &customer())
            .status()
            == 200
    });
    let answer = server.predict("/models/churn/predict", &customer());
    assert_eq!(answer.headers()["x-model-digest"].to_str().unwrap(), digest);
    assert_contains(
        &server.readiness(),
        &["the copy kept in the state is served"],
    );
}

#[test]
fn a_state_that_cannot_be_read_at_the_start_leaves_one_command() {
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
    wait_until("it is written", || {
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
fn damage_is_noticed_while_the_server_runs_and_a_rollback_outlives_it() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    server.start_rollout("churn", "1.0.0", CANARY_HELD);
    let entry = deployment.entry(3);
    let text = fs_err::read(&entry).unwrap();
    fs_err::write(&entry, &text[..80]).unwrap();
    server.wait_for_readiness("journal damaged at entry 3");
    assert_eq!(
        server.refused_decision("churn/rollout/pause", &json!({})).0,
        503
    );
    let status = server.decide(
        "churn/rollback",
        &json!({"to": "1.0.0", "reason": "1.1.0 is bad"}),
    );
    assert_eq!(
        (&status["stable"]["version"], &status["written"]),
        (&json!("1.0.0"), &json!(false))
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    server.repair("churn", "a bad disk");
    wait_until("all is written", || {
        server.status("churn")["written"] == true
    });
    server.command_output(&["history", "churn", "--verify"]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
}

#[test]
fn a_repair_leaves_what_answers_where_it_is() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.make_stable("churn", "1.1.0");
    let entry = deployment.entry(2);
    let text = fs_err::read_to_string(&entry).unwrap();
    fs_err::write(&entry, text.replace("a test", "a jest")).unwrap();
    server.wait_for_readiness("journal damaged at entry 2");
    assert_eq!(
        server.answering_version(CHURN, &customer()),
        "1.1.0",
        "damage costs no answers"
    );
    server.repair("churn", "altered");
    assert_eq!(server.actions("churn"), ["adopt", "repair", "rollback"]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

#[test]
fn a_state_that_vanished_is_told_and_begun_anew_by_nobody_but_its_operator() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    deployment.wait_for_copies("churn", 1);
    let journal = deployment.state().join("journal");
    fs_err::remove_dir_all(&journal).unwrap();
    server.wait_for_readiness("the state vanished: entry 1 of churn");
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(server.get("/readyz").status(), 200, "what is known holds");
    drop(server);
    // Version 1.1.0 is the highest, and nobody decided on it.
    let server = deployment.start_unready();
    server.wait_for_readiness(
        "is missing, though the state has packages or evidence of earlier decisions",
    );
    assert_ne!(server.predict(CHURN, &customer()).status(), 200);
    server.repair("churn", "the disk was lost");
    server.wait_until_ready();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

#[test]
fn room_for_a_rollback_is_kept_by_a_restart() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    drop(server);
    fs_err::remove_file(deployment.state().join("reserve")).unwrap();
    let _server = deployment.start();
    wait_until("it is there again", || {
        deployment.state().join("reserve").exists()
    });
}

#[test]
fn a_damaged_journal_costs_changes_and_never_answers() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    install_package(deployment.models(), "churn", "1.2.0");
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    server.promote("churn");
    drop(server);
    // A power cut: the last entry's name is there, and none of its bytes.
    fs_err::write(deployment.entry(5), "").unwrap();
    let server = deployment.start();
    for _ in 0..20 {
        assert_eq!(
            server.answering_version(CHURN, &customer()),
            "1.1.0",
            "no candidate of a rollout that nobody could abort"
        );
    }
    assert_contains(
        &server.readiness(),
        &["journal damaged at entry 5, which can't be read"],
    );
    assert_contains(
        &server.command_failure(&["rollback", "churn"]),
        &["next: predictd history churn --repair --reason TEXT"],
    );
    let text = server.command_output(&["rollout", "status", "churn"]);
    assert_contains(
        &text,
        &["TROUBLE   no decision is possible: journal damaged at entry 5"],
    );

    assert!(
        text.contains("; AT REST: candidates get no traffic until the journal is repaired")
            && !text.contains("running"),
        "{text}"
    );
    assert_eq!(
        server.run_command(&["history", "churn", "--repair"]).0,
        2,
        "a reason is asked for"
    );
    assert_contains(
        &server.command_output(&["history", "churn", "--repair", "--reason", "power cut"]),
        &["repaired (entry 5)", "rollout   none"],
    );
    let last = server.history("churn").pop().unwrap();
    assert_eq!(
        (&last["action"], &last["reason"], &last["to"]["version"]),
        (&json!("repair"), &json!("power cut"), &json!("1.1.0"))
    );
    let aside = deployment
        .state()
        .join(last["details"]["set_aside"].as_str().unwrap());
    assert_eq!(fs_err::read(aside.join("00000005.json")).unwrap(), b"");
    server.command_output(&["history", "churn", "--verify"]);

    server.decide("churn/rollback", &json!({}));
    drop(server);
    // The middle is missing: what comes before it holds, and nothing beyond it is deleted by the repair.
    fs_err::remove_file(deployment.entry(3)).unwrap();
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    server.repair("churn", "a gap");
    assert_eq!(server.actions("churn"), ["adopt", "start", "repair"]);
    let (status, detail) =
        server.refused_decision("churn/history/repair", &json!({"reason": "again"}));
    assert!(
        status == 422 && detail.contains("nothing to repair"),
        "{detail}"
    );
    drop(server);
    // The very first decision was cut off, and there is no other: the first choice is made again, for this process.
    for seq in [2, 3] {
        fs_err::remove_file(deployment.entry(seq)).unwrap();
    }
    fs_err::write(deployment.entry(1), "{").unwrap();
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.2.0");
    server.repair("churn", "cut off");
    wait_until("the choice is written", || {
        server.actions("churn") == ["repair", "adopt"]
    });
}

#[test]
fn tidying_the_models_directory_takes_no_way_back() {
    let deployment = Deployment::churn().with("models.rehearse_seconds", "0.2");
    let server = deployment.start_and_add_candidate();
    deployment.wait_for_copies("churn", 1);
    server.make_stable("churn", "1.1.0");
    deployment.wait_for_copies("churn", 2);
    for version in ["1.0.0", "1.1.0"] {
        fs_err::remove_dir_all(deployment.models().join("churn").join(version)).unwrap();
    }
    server.wait_for_readiness(
        "its files are gone from the models directory: the copy kept in the state is served",
    );
    server.wait_for_metric(r#"predictd_models_ignored{reason="files_gone"}"#, 2.0);
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    wait_until("the way back works", || {
        server.status("churn")["rollback"]["ready"] == true
    });
    assert_contains(
        &server.command_output(&["rollback", "churn"]),
        &["1.1.0 -> 1.0.0"],
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    // Nothing leads to 1.1.0 any more.
    deployment.wait_for_copies("churn", 1);
    // The files come back, and are the ones that are looked at again.
    install_package(deployment.models(), "churn", "1.0.0");
    wait_until("they are found", || {
        !server.readiness().contains("the copy kept in the state")
    });
    assert_eq!(
        server.metric(r#"predictd_models_ignored{reason="files_gone"}"#),
        0.0
    );
    drop(server);
    // A model that was removed as a whole, while no server ran, does not come back.
    fs_err::remove_dir_all(deployment.models().join("churn")).unwrap();
    install_graph(deployment.models(), "m", 1, "nan_rows", None);
    let server = deployment.start();
    assert_eq!(server.get("/models/churn").status(), 404);
}

#[test]
fn a_copy_that_could_not_be_made_is_made_later() {
    let deployment = Deployment::churn();
    // A file where the copies should lie: also root can't write below it.
    fs_err::write(deployment.state().join("packages"), "not a directory").unwrap();
    let server = deployment.start_and_add_candidate();
    let told =
        "no copy of the package can be kept: its files in the models directory are the only ones";
    wait_for("it is told", || server.logged(told).pop());
    fs_err::remove_file(deployment.state().join("packages")).unwrap();
    deployment.wait_for_copies("churn", 1);
    assert_eq!(server.logged(told).len(), 1, "once, and not at every try");
}

#[test]
fn the_command_that_is_named_for_a_lost_stable_version_works() {
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
fn no_command_leads_to_what_was_left_though_the_stable_version_is_lost() {
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
fn where_no_copy_is_kept_a_lost_way_back_is_told_before_the_restart() {
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
    assert!(text.contains("would NOT work: the files of 1.0.0 are gone: it answers from memory, and a restart would lose it"), "{text}");
}

#[test]
fn what_is_packed_anew_under_an_old_version_ends_no_server() {
    let deployment = Deployment::churn();
    let server = deployment.start();
    deployment.wait_for_copies("churn", 1);
    let digest = server.status("churn")["stable"]["digest"].clone();
    drop(server);
    // Pack, serve, edit, pack again: as a newcomer does.
    let directory = deployment.version("churn", "1.0.0");
    fs_err::write(directory.join("README.md"), "better words").unwrap();
    let environment = [
        ("PREDICTD_STATE__URL", deployment.state().to_str().unwrap()),
        ("PREDICTD_SERVER", "http://127.0.0.1:9"),
    ];
    let (code, output, _) = run_predictd(&["pack", directory.to_str().unwrap()], "", &environment);
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
    // Under a version of its own it is what a rollout takes.
    let (code, output, _) = run_predictd(
        &["pack", directory.to_str().unwrap(), "--bump"],
        "",
        &environment,
    );
    assert!(
        code == 0 && output.contains("packed churn/1.0.1"),
        "{output}"
    );
    assert_eq!(
        fs_err::read_to_string(deployment.models().join("churn/1.0.1/README.md")).unwrap(),
        "better words"
    );
    server.start_rollout("churn", "1.0.1", CANARY_HELD);
    let (code, output, _) = run_predictd(
        &["pack", directory.to_str().unwrap(), "--bump"],
        "",
        &environment,
    );
    assert!(
        code == 0 && output.contains("packed churn/1.0.2"),
        "a version that lies there is never overwritten: {output}"
    );
}

const LABELS: &str = "output { name: \"prob\" label_filename: \"labels.txt\" }\n";

/// `iris/VERSION`, whose configuration names a file of labels.
fn iris(models: &Path, version: u64) {
    install_graph(models, "iris", version, "iris", Some(LABELS));
    fs_err::write(
        models.join("iris/labels.txt"),
        "setosa\nversicolor\nvirginica\n",
    )
    .unwrap();
}

#[test]
fn a_kept_graph_is_loaded_with_what_lay_beside_it() {
    let deployment = Deployment::new(&[]);
    iris(deployment.models(), 1);
    let server = deployment.start();
    deployment.wait_for_copies("iris", 1);
    drop(server);
    for lost in ["1/model.onnx", "config.pbtxt", "labels.txt"] {
        fs_err::remove_file(deployment.models().join("iris").join(lost)).unwrap();
    }
    let server = deployment.start();
    let answer = setosa(&server);
    assert!(answer.contains(":setosa"), "{answer}");
}

/// What the server says of a flower, with its label.
fn setosa(server: &Server) -> String {
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
fn versions_with_the_same_bytes_have_a_copy_each() {
    let deployment = Deployment::new(&[]);
    iris(deployment.models(), 1);
    let server = deployment.start();
    deployment.wait_for_copies("iris", 1);
    // The same bytes under another version: each has its copy.
    iris(deployment.models(), 2);
    server.make_stable("iris", "2");
    deployment.wait_for_copies("iris", 2);
    drop(server);
    for lost in ["1/model.onnx", "2/model.onnx", "config.pbtxt", "labels.txt"] {
        fs_err::remove_file(deployment.models().join("iris").join(lost)).unwrap();
    }
    let server = deployment.start();
    wait_until("the way back works", || {
        server.status("iris")["rollback"]["ready"] == true
    });
    for version in ["2", "1"] {
        assert_eq!(server.status("iris")["stable"]["version"], version);
        let answer = setosa(&server);
        assert!(answer.contains(":setosa"), "{version}: {answer}");
        if version == "2" {
            server.decide("iris/rollback", &json!({}));
        }
    }
}

/// `m/VERSION`: the same graph with a file of so many thousand bytes, no two alike.
fn large(models: &Path, version: u64, kilobytes: usize) {
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
fn a_disk_with_room_for_two_copies_gets_the_third_too() {
    let Some(disk) = SmallDisk::mount(3200) else {
        return;
    };
    let state = disk.path().join("state");
    let deployment = Deployment::new(&[]).with_state(state.clone());
    large(deployment.models(), 1, 1000);
    let server = deployment.start();
    deployment.wait_for_copies("m", 1);
    for version in [2, 3] {
        large(deployment.models(), version, 1000);
        let version = version.to_string();
        server.make_stable("m", &version);
        wait_until("both are kept", || {
            let copies = package_copies(&state, "m");
            copies.len() == 2 && copies[1].ends_with(&version)
        });
    }
    assert!(
        server.logged(UNKEPT).is_empty(),
        "what nothing leads to any more made room at once"
    );
}

const UNKEPT: &str =
    "no copy of the package can be kept: its files in the models directory are the only ones";

#[test]
fn a_copy_leaves_room_to_the_journal() {
    let Some(disk) = SmallDisk::mount(10_000) else {
        return;
    };
    let state = disk.path().join("state");
    let deployment = Deployment::new(&[]).with_state(state.clone());
    // It would fit, with less than a twentieth of the disk left.
    large(deployment.models(), 1, 9400);
    let server = deployment.start();
    let told = wait_for("it is told", || server.logged(UNKEPT).pop());
    let error = told["error"].as_str().unwrap();
    assert!(
        error.contains("bytes are free")
            && error.contains("512000 of them are left to the journal"),
        "{error}"
    );
    assert!(package_copies(&state, "m").is_empty());
    assert_eq!(
        fs_err::read_dir(state.join("packages/m")).unwrap().count(),
        0,
        "nothing is begun"
    );
}

#[test]
fn what_a_killed_server_left_behind_is_removed() {
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
    // Of the other one only its last file is new: a large copy under way.
    for path in ["churn", ""] {
        fs_err::File::open(young.join(path))
            .unwrap()
            .file()
            .set_modified(long_ago)
            .unwrap();
    }
    let server = deployment.start();
    wait_until("it is removed", || !old.exists());
    deployment.wait_for_copies("churn", 1);
    assert!(young.exists(), "another replica may be writing to it");
    drop(server);
}

type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn a_way_back_whose_files_are_not_what_was_loaded_is_told_before_the_restart() {
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    let lose = |directory: &Path| fs_err::remove_file(directory.join("model.onnx")).unwrap();
    let pack_anew = |directory: &Path| {
        fs_err::write(directory.join("README.md"), "better words").unwrap();
        let (code, output, _) = run_predictd(&["pack", directory.to_str().unwrap()], "", &[]);
        assert_eq!(code, 0, "{output}");
    };
    // As many bytes as before, so that only their hash tells.
    let alter = |directory: &Path| {
        let mut bytes = fs_err::read(directory.join("golden.jsonl")).unwrap();
        *bytes.last_mut().unwrap() = b' ';
        fs_err::write(directory.join("golden.jsonl"), bytes).unwrap();
    };
    let cases: [(Change<'_>, &str); 3] = [
        (&lose, "model.onnx is missing"),
        (&pack_anew, "manifest.json has digest"),
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
        // Put back, they count again.
        fs_err::remove_dir_all(&directory).unwrap();
        install_package(deployment.models(), "churn", "1.0.0");
        server.wait_for_metric(ready, 1.0);
    }
}

#[test]
fn a_damaged_copy_is_made_again_and_is_no_way_back() {
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
        wait_until("the copy is whole again", || {
            fs_err::read(graph).is_ok_and(|copy| copy == bytes)
        });
    }
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    server.wait_for_metric(ready, 1.0);
    // A copy of what the models directory lost is a way back while it is whole.
    fs_err::remove_dir_all(deployment.version("churn", "1.0.0")).unwrap();
    server.wait_for_readiness("the copy kept in the state is served");
    assert_eq!(server.status("churn")["rollback"]["ready"], true);
    fs_err::write(&graphs[0], "cut off").unwrap();
    server.wait_for_metric(ready, 0.0);
    let (_, text) = server.run_command(&["rollout", "status", "churn"]);
    assert!(
        text.contains(
            "the files of 1.0.0 are gone, and its copy in the state is damaged (model.onnx has 7 of"
        ),
        "{text}"
    );
}

#[test]
fn why_a_rollback_would_not_work_is_told_without_values_of_live_requests() {
    let (models, elsewhere) = (models_with(&[]), tempfile::tempdir().unwrap());
    let number = || object_schema(json!({"x": {"type": "number"}}));
    let schema =
        json!({"input": number(), "output": object_schema(json!({"y": {"type": "number"}}))});
    // The graph of 1.0.0 looks its input up in a table of ten; that of 1.1.0 takes any.
    let versions = [
        (models.path(), "fails_rows", "1.0.0", "10"),
        (elsewhere.path(), "nan_rows", "1.1.0", "1"),
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
    let reason = wait_for("a live request is tried on 1.0.0", || {
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
    wait_for("it is logged", || {
        server
            .logged("a rollback would not work")
            .into_iter()
            .find(|line| line["reason"] == reason.as_str())
    });
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.to_string().contains("987654")),
        "{:?}",
        server.log()
    );
}
