//! Several replicas on one state.

use std::{
    collections::BTreeMap,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{PLAN, Reference, VERSIONS, deployment, entries};
use crate::harness::{
    CANARY_HELD, CHURN, Deployment, PATIENCE, Server, ServerClient, customer, install_package,
    models_with, wait_for, wait_until,
};

/// The plan, with a first step that lasts until an operator decides.
fn held_plan() -> String {
    PLAN.replace("min_requests = 2", "min_requests = 2\nhold = true")
}

fn post(server: &ServerClient, path: &str, body: &Value) -> (u16, Value) {
    let response = server.post_decision(path, body);
    (response.status().as_u16(), response.json().unwrap())
}

fn wait_for_rollout(replicas: &[Server]) {
    for replica in replicas {
        wait_until("the replica has read the start of the rollout", || {
            !replica.status("churn")["rollout"].is_null()
        });
    }
}

#[test]
fn a_replica_without_the_decided_version_serves_the_previous_one() {
    let (complete, incomplete) = (
        models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]),
        models_with(&[("churn", "1.0.0")]),
    );
    let state = tempfile::tempdir().unwrap();
    // Without copies of packages in the state, a replica has only the versions of its models
    // directory.
    let settings = [
        ("state.url", state.path().to_str().unwrap()),
        ("state.keep_packages", "false"),
    ];
    let ahead = Server::start(complete.path(), &settings);
    ahead.make_stable("churn", "1.0.0");
    let behind = Server::start(incomplete.path(), &settings);
    let answering = || [&ahead, &behind].map(|server| server.answering_version(CHURN, &customer()));
    assert_eq!(answering(), ["1.0.0", "1.0.0"]);
    ahead.make_stable("churn", "1.1.0");
    wait_until("the replica reports the missing version", || {
        behind.get_json("/models/churn")["awaited"] == "1.1.0"
    });
    assert_eq!(answering(), ["1.1.0", "1.0.0"]);
    install_package(incomplete.path(), "churn", "1.1.0");
    wait_until("the replica serves the decided version", || {
        behind.answering_version(CHURN, &customer()) == "1.1.0"
    });
    assert!(behind.get_json("/models/churn")["awaited"].is_null());
}

#[test]
fn three_replicas_agree() {
    let deployment = deployment();
    let replicas = [(); 3].map(|()| deployment.start());
    assert_eq!(
        entries(&replicas[0]).len(),
        1,
        "only one replica writes the first choice"
    );
    replicas[0].make_stable("churn", "1.0.0");

    let mut slowest = Duration::ZERO;
    for (turn, version) in ["1.1.0", "1.0.0", "1.2.0", "1.0.0"].into_iter().enumerate() {
        let decided = Instant::now();
        replicas[turn % 3].make_stable("churn", version);
        for replica in &replicas {
            wait_until("the replica serves the new stable version", || {
                replica.answering_version(CHURN, &customer()) == version
            });
        }
        slowest = slowest.max(decided.elapsed());
    }
    println!("all replicas followed a decision within {slowest:?}");
    assert!(slowest < PATIENCE);

    replicas[1].decide(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": held_plan()}}),
    );
    wait_for_rollout(&replicas);
    for replica in &replicas {
        for _ in 0..20 {
            replica.answering_version(CHURN, &customer());
        }
    }
    for replica in &replicas {
        wait_until("the replica has the evidence of all replicas", || {
            replica.evidence_total("churn", "units") == 60
        });
    }
    replicas[2].decide("churn/rollout/abort", &json!({"reason": "enough"}));

    let mut outcomes = BTreeMap::<(u16, u16), usize>::new();
    for round in 0..12 {
        *outcomes
            .entry(promote_and_roll_back_at_once(&replicas, round))
            .or_default() += 1;
    }
    println!("status codes of (promote, rollback) at once: {outcomes:?}");
}

/// Two replicas get two decisions about the same rollout at once. At least one is written, a
/// refused one says why, and all replicas agree on the result. Returns the status codes of the
/// promotion and of the rollback.
fn promote_and_roll_back_at_once(replicas: &[Server; 3], round: usize) -> (u16, u16) {
    start_rollout_of_another_version(replicas, round);
    let before = entries(&replicas[0]).len();
    let barrier = Barrier::new(2);
    let send = |server: &ServerClient, path: &str, body: Value| {
        barrier.wait();
        post(server, path, &body)
    };
    let reason = json!({"without_way_back": true, "reason": "a test"});
    let (promoted, rolled_back) = thread::scope(|scope| {
        let promoted = scope.spawn(|| send(&replicas[round % 3], "churn/rollout/promote", reason));
        let rolled_back =
            scope.spawn(|| send(&replicas[(round + 1) % 3], "churn/rollback", json!({})));
        (promoted.join().unwrap(), rolled_back.join().unwrap())
    });
    for (code, answer) in [&promoted, &rolled_back] {
        let refused = [409, 422].contains(code) && answer["error"].is_string();
        assert!(*code == 200 || refused, "{code} {answer}");
    }
    assert!(
        promoted.0 == 200 || rolled_back.0 == 200,
        "{promoted:?} {rolled_back:?}"
    );
    let entries = entries(&replicas[0]);
    let actions: Vec<&str> = entries[before..]
        .iter()
        .map(|entry| entry.action.as_str())
        .collect();
    assert_eq!(
        (actions.contains(&"promote"), actions.contains(&"rollback")),
        (promoted.0 == 200, rolled_back.0 == 200),
        "exactly the acknowledged decisions are written: {actions:?}"
    );
    let stable = Reference::of(&entries).stable;
    for replica in replicas {
        wait_until("the replica agrees with the journal", || {
            replica.status("churn")["stable"]["version"] == *stable
                && replica.status("churn")["rollout"].is_null()
                && replica.answering_version(CHURN, &customer()) == stable
        });
    }
    (promoted.0, rolled_back.0)
}

fn start_rollout_of_another_version(replicas: &[Server; 3], round: usize) {
    let status = replicas[0].status("churn");
    let candidate = VERSIONS
        .into_iter()
        .find(|version| status["stable"]["version"] != *version)
        .unwrap();
    let body = json!({"to": [candidate], "plan": {"text": held_plan()}, "allow_forward_only": true, "reason": "a test"});
    wait_for("the rollout starts", || {
        let (code, answer) = post(&replicas[round % 3], "churn/rollout/start", &body);
        assert!(code == 200 || code == 409, "{code} {answer}");
        (code == 200).then_some(())
    });
    wait_for_rollout(replicas);
}

#[test]
fn unreadable_evidence_of_another_replica_is_reported_once() {
    let deployment = Deployment::churn();
    let server = deployment.start_and_add_candidate();
    server.start_rollout("churn", "1.1.0", CANARY_HELD);
    let evidence = deployment.state().join("evidence/churn/00000002");
    wait_until("the server has written its evidence", || evidence.is_dir());
    fs_err::write(evidence.join("other-1.json"), "{").unwrap();
    let message = "the evidence of another replica can't be read and is left out";
    wait_until("the server has read the directory", || {
        !server.logged(message).is_empty()
    });
    fs_err::write(evidence.join("other-2.json"), "[]").unwrap();
    // The second object shows that the first one was read again.
    wait_until("the server has read the directory again", || {
        server.logged(message).len() > 1
    });
    let paths: Vec<Value> = server
        .logged(message)
        .iter()
        .map(|line| line["path"].clone())
        .collect();
    let path = |name: &str| json!(format!("evidence/churn/00000002/{name}"));
    assert_eq!(paths, [path("other-1.json"), path("other-2.json")]);
}
