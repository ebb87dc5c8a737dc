//! Rollbacks at full traffic, and while the journal cannot be written.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    CANARY_ALL, CANARY_HELD, CHURN, Deployment, assert_contains, customer, plan_with_steps,
    wait_until,
};

#[test]
fn a_rollback_ends_a_rollout_that_has_all_traffic() {
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
    // A second operator who rolls back after the same alert is not led back to the faulty version.
    let text = server.command_failure(&["rollback", "churn"]);
    assert_contains(
        &text,
        &[
            "1.0.0 is already stable: 1.1.0 was rolled back ",
            " ago by unverified:",
        ],
    );

    assert!(
        text.contains("next: predictd rollout status churn\n") && !text.contains("--to"),
        "{text}"
    );
    // The same holds after an abort.
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.decide("churn/rollout/abort", &json!({"reason": "worse"}));
    let text = server.command_failure(&["rollback", "churn"]);
    assert_contains(
        &text,
        &["1.0.0 is already stable: the rollout of 1.1.0 was aborted "],
    );
    assert!(!text.contains("--to"), "{text}");
    assert_contains(
        &server.command_failure(&["rollback", "churn", "--to", "1.0.0"]),
        &["1.0.0 is already stable: the rollout of 1.1.0 was aborted "],
    );
    let text = server.command_failure(&["rollback", "churn", "--to", "7.7.7"]);
    assert_contains(&text, &["there is no version 7.7.7 of churn"]);
    assert!(!text.contains("rollout start"), "{text}");
}

#[test]
fn a_rollback_takes_effect_before_it_can_be_written() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    let replica = deployment.start();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    server.promote("churn");
    // Answers don't show it: during the rollout the candidate answers half of the requests.
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
        text.contains("PENDING   rollback 1.0.0 applies on this server, but is not written yet"),
        "{text}"
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.0.0");
    assert_eq!(
        replica.answering_version(CHURN, &customer()),
        "1.1.0",
        "an unwritten decision is unknown to other replicas"
    );
    assert_contains(
        &server.readiness(),
        &["rollback 1.0.0 applies on this server only"],
    );
    assert_eq!(
        server.metric(r#"predictd_journal_pending{model="churn"}"#),
        1.0
    );
    assert!(
        !server
            .logged(
                "a decision can't be written yet; it applies on this server, and will be written \
                 as soon as possible"
            )
            .is_empty()
    );
    // A decision that does not protect callers is refused until the rollback is written.
    let (status, detail) = server.refused_decision(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": plan_with_steps(CANARY_HELD)}}),
    );
    assert!(status == 503, "{status} {detail}");
    mend();
    wait_until("the rollback is written, and the replica follows", || {
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
fn a_hanging_state_does_not_delay_a_rollback() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    // Opening a FIFO blocks until a writer opens it.
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
    // Unblocks the readers.
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
fn a_pending_rollback_does_not_undo_later_decisions() {
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
    wait_until("the replica can write decisions", || {
        replica.status("churn")["trouble"] == Value::Null
    });
    replica.decide("churn/rollback", &json!({"reason": "also 3 a.m."}));
    replica.decide(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "9 a.m.: it was the data"}),
    );
    server.signal(rustix::process::Signal::CONT);
    wait_until("the pending rollback is dropped", || {
        server.status("churn")["pending"] == json!([])
    });
    assert_eq!(
        replica.actions("churn"),
        ["adopt", "rollback", "rollback", "rollback"]
    );
    assert_eq!(server.answering_version(CHURN, &customer()), "1.1.0");
}
