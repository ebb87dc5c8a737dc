//! Damaged journals and their repair.

use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CANARY_HELD, CHURN, Deployment, Server, ServerClient, assert_contains, customer,
    install_package, wait_until,
};

/// Two servers of one journal. The entry that started the rollout of 1.1.0 was damaged after the
/// first server had read it, and before the second one started.
fn replicas_with_a_damaged_journal() -> (Deployment, Server, Server) {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    drop(server);
    let running = deployment.start();
    fs_err::write(deployment.entry(2), "").unwrap();
    let restarted = deployment.start();
    (deployment, running, restarted)
}

#[test]
fn replicas_follow_a_repair() {
    let (_deployment, running, restarted) = replicas_with_a_damaged_journal();
    assert_eq!(
        (
            running.answering_version(CHURN, &customer()),
            restarted.answering_version(CHURN, &customer())
        ),
        ("1.1.0".to_owned(), "1.0.0".to_owned())
    );
    restarted.repair("churn", "power cut");
    wait_until("the other replica follows", || {
        running.answering_version(CHURN, &customer()) == "1.0.0"
    });
    running.start_rollout("churn", "1.1.0", CANARY_HELD);
    assert_eq!(restarted.actions("churn"), ["adopt", "repair", "start"]);
}

#[test]
fn a_replica_that_missed_a_repair_follows_the_repaired_journal() {
    let (_deployment, running, restarted) = replicas_with_a_damaged_journal();
    running.signal(rustix::process::Signal::STOP);
    restarted.repair("churn", "power cut");
    restarted.start_rollout("churn", "1.1.0", CANARY_HELD);
    running.signal(rustix::process::Signal::CONT);
    // The replica's entry 3 conflicts with the written one. Its answer may be an error, but the
    // journal stays valid.
    let _ = running
        .post_decision("churn/rollback", &json!({"reason": "3 a.m."}))
        .status();
    restarted.command_output(&["history", "churn", "--verify"]);
    wait_until("both replicas have the same journal", || {
        running.actions("churn") == restarted.actions("churn")
    });
    assert_eq!(restarted.status("churn")["trouble"], Value::Null);
}

#[test]
fn an_interrupted_repair_can_be_finished() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    let held = CANARY_ALL.replace("weight = 1.0", "weight = 1.0\nhold = true");
    server.start_rollout("churn", "1.1.0", &held);
    server.decide("churn/rollout/abort", &json!({"reason": "bad"}));
    drop(server);
    // The state after a kill between the move of the damaged entry and the write of the repair: the
    // rollout seems to run, and the entry that ended it is moved aside.
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
        "the candidate of a rollout that may be aborted gets no traffic"
    );
    assert_contains(
        &server.readiness(),
        &["journal damaged at entry 3: the entry was moved aside without an entry that says so"],
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
fn a_rollback_works_while_the_journal_is_damaged() {
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
    wait_until("all decisions are written", || {
        server.status("churn")["written"] == true
    });
    server.command_output(&["history", "churn", "--verify"]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
}

#[test]
fn a_repair_keeps_the_version_that_answers() {
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
        "damage prevents no answers"
    );
    server.repair("churn", "altered");
    assert_eq!(server.actions("churn"), ["adopt", "repair", "rollback"]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

/// A deployment whose journal has five entries, of which the last one promoted 1.2.0 after 1.1.0.
fn deployment_with_two_promotions() -> Deployment {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    install_package(deployment.models(), "churn", "1.2.0");
    server.start_rollout("churn", "1.2.0", CANARY_HELD);
    server.promote("churn");
    drop(server);
    deployment
}

#[test]
fn a_damaged_journal_prevents_changes_and_no_answers() {
    let deployment = deployment_with_two_promotions();
    // After a power cut the last entry's file exists and is empty.
    fs_err::write(deployment.entry(5), "").unwrap();
    let server = deployment.start();
    for _ in 0..20 {
        assert_eq!(
            server.answering_version(CHURN, &customer()),
            "1.1.0",
            "the candidate of a rollout that cannot be aborted gets no traffic"
        );
    }
    assert_contains(
        &server.readiness(),
        &["journal damaged at entry 5: the entry can't be read"],
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
    repair_after_a_power_cut(&deployment, &server);
}

/// Repairs the journal with the suggested command. The damaged entry is moved aside.
fn repair_after_a_power_cut(deployment: &Deployment, server: &ServerClient) {
    assert_eq!(
        server.run_command(&["history", "churn", "--repair"]).0,
        2,
        "a repair needs a reason"
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
}

#[test]
fn entries_before_a_gap_stay_valid() {
    let deployment = deployment_with_two_promotions();
    // The repair sets the entries after the gap aside.
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
}

#[test]
fn a_journal_without_a_valid_entry_gets_a_new_first_choice() {
    let deployment = deployment_with_two_promotions();
    for seq in 2..=5 {
        fs_err::remove_file(deployment.entry(seq)).unwrap();
    }
    // The server makes the first choice again, for this process.
    fs_err::write(deployment.entry(1), "{").unwrap();
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.2.0");
    server.repair("churn", "cut off");
    wait_until("the first choice is written", || {
        server.actions("churn") == ["repair", "adopt"]
    });
}

#[test]
fn a_repair_finds_damage_in_an_old_entry_at_once() {
    let deployment = deployment_with_two_promotions();
    let server = deployment.start();
    let text = fs_err::read_to_string(deployment.entry(2)).unwrap();
    let altered = text.replace("\"1.1.0\"", "\"1.1.9\"");
    assert_ne!(altered, text);
    fs_err::write(deployment.entry(2), altered).unwrap();
    // The server reads old entries again only once a minute, but both commands read them now.
    let failure = "FAILED: entry 2: the entry was altered: its content does not match its hash";
    let next = "next: predictd history churn --repair --reason TEXT";
    assert_contains(
        &server.command_output(&["history", "churn"]),
        &["1.1.9", failure, next],
    );
    assert_contains(
        &server.command_failure(&["history", "churn", "--verify"]),
        &[failure, "before it: 1 entry valid", next],
    );
    let list: Value =
        serde_json::from_str(&server.command_output(&["history", "churn", "--json"])).unwrap();
    assert_eq!(list["bad"]["seq"], 2, "{list}");
    // The repair begins at the first damage, even if the server has noticed only a later one.
    fs_err::write(deployment.entry(6), "").unwrap();
    server.wait_for_readiness("journal damaged at entry 6: the entry can't be read");
    server.repair("churn", "a bit flipped");
    // The version that answered before the repair keeps answering.
    assert_eq!(server.actions("churn"), ["adopt", "repair", "rollback"]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.2.0");
    let list: Value =
        serde_json::from_str(&server.command_output(&["history", "churn", "--json"])).unwrap();
    assert_eq!(list.get("bad"), None, "{list}");
}

#[test]
fn a_running_server_begins_a_new_journal_if_only_the_journal_vanished() {
    // The newest version is not promoted again after its rollback.
    let deployment = deployment_with_two_promotions().with("models.promote", "newest");
    let server = deployment.start();
    deployment.wait_for_copies("churn", 2);
    fs_err::remove_dir_all(deployment.state().join("journal")).unwrap();
    server.wait_for_readiness("the journal vanished from the state directory: entry 5 of churn");
    let status = server.command_output(&["rollout", "status", "churn"]);
    assert_contains(
        &status,
        &["TROUBLE   only a rollback or an abort is possible: the journal vanished"],
    );
    assert_contains(
        &status,
        &["next      predictd history churn --repair --reason TEXT"],
    );
    // The rollback takes effect now, and is written after the repair.
    server.command_output(&["rollback", "churn", "--reason", "3 a.m."]);
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    assert_contains(
        &server.command_output(&["history", "churn", "--repair", "--reason", "a wrong rm"]),
        &["repaired (entry "],
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
    server.wait_until_ready();
    server.command_output(&["history", "churn", "--verify"]);
    let history = server.history("churn");
    assert_eq!(history[0]["action"], "repair", "{history:?}");
    assert_eq!(history[0]["details"]["set_aside"], json!([]));
    let version = |entry: &Value, member: &str| entry[member]["version"].clone();
    assert_eq!(server.actions("churn"), ["repair", "rollback", "rollback"]);
    assert_eq!(version(&history[1], "to"), "1.2.0");
    assert_eq!(
        (
            version(&history[2], "from"),
            version(&history[2], "to"),
            &history[2]["reason"]
        ),
        (json!("1.2.0"), json!("1.1.0"), &json!("3 a.m."))
    );
    // A restart reads the same decisions.
    drop(server);
    let server = deployment.start();
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}

#[test]
fn a_state_directory_that_vanished_as_a_whole_is_not_repaired() {
    let deployment = deployment_with_two_promotions();
    let server = deployment.start();
    deployment.wait_for_copies("churn", 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let aside = elsewhere.path().join("unmounted");
    fs_err::rename(deployment.state(), &aside).unwrap();
    // The server may create it first.
    fs_err::create_dir_all(deployment.state()).unwrap();
    server.wait_for_readiness("the journal vanished from the state directory: entry 5 of churn");
    let (status, detail) =
        server.refused_decision("churn/history/repair", &json!({"reason": "lost"}));
    assert!(status == 503 && detail.contains("vanished"), "{detail}");
    let history = server.command_output(&["history", "churn"]);
    assert!(
        history.contains("FAILED: entry 1: the entry is missing") && !history.contains("--repair"),
        "{history}"
    );
    // The server may write new copies of packages between the two calls.
    wait_until("the directory is back", || {
        fs_err::remove_dir_all(deployment.state()).is_ok()
            && fs_err::rename(&aside, deployment.state()).is_ok()
    });
    server.wait_until_ready();
    server.command_output(&["history", "churn", "--verify"]);
}
