//! `rollout` and `rollback`: start, status, pause, approval, promotion, abort.

use serde_json::json;

use super::{Site, start_site};
use crate::harness::{assert_contains, wait_until};

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let site = start_site(&[]);
    let output = site.output_of(&["rollout", "start", "churn", "--to", "1.1.0", "--dry-run"]);
    assert_contains(
        &output,
        &[
            "churn: this would start a rollout from 1.0.0 to 1.1.0 with plan medium; nothing was started",
            "1  shadow 10 %",
            "10 min",
            "1,000 requests of each arm",
            "6  canary 100 %",
            "is promoted automatically",
            "inconclusive after 7 d",
            "1.0.0 -> 1.1.0: compatible",
        ],
    );
    let output = site.output_of(&[
        "rollout",
        "start",
        "churn",
        "--to",
        "1.1.0",
        "--plan",
        site.plan.to_str().unwrap(),
        "--dry-run",
    ]);
    assert_contains(
        &output,
        &["with plan held", "1  canary 50 %", "a person decides"],
    );
    let document = site.json_output_of(&[
        "rollout",
        "start",
        "churn",
        "--to",
        "1.1.0",
        "--plan",
        "low",
        "--dry-run",
        "--json",
    ]);
    assert_eq!(document["would_start"]["plan"]["name"], "low");
    assert!(!site.deployment.entry(2).exists(), "nothing was written");
}

#[test]
fn a_rollout_from_start_to_rollback() {
    let site = start_site(&[]);
    assert_contains(
        &site.output_of(&["rollout", "status"]),
        &[
            "churn\n",
            "stable    1.0.0  sha256:",
            "previous  none",
            "rollout   none",
        ],
    );
    let plan = site.plan.to_str().unwrap();
    let output = site.output_of(&[
        "rollout", "start", "churn", "--to", "1.1.0", "--plan", plan, "--reason", "better",
    ]);
    assert_contains(
        &output,
        &[
            "1.1.0 begins step 1 of 1 (entry 2)",
            "plan held, started by unverified:",
            "; running",
        ],
    );
    check_status_of_a_running_rollout(&site);
    pause_and_resume(&site);
    promote_and_roll_back(&site);
    check_history(&site);
}

fn check_status_of_a_running_rollout(site: &Site) {
    for _ in 0..100 {
        site.answering_version();
    }
    wait_until("the requests are counted", || {
        site.server.evidence_total("churn", "units") == 100
    });
    let output = site.output_of(&["rollout", "status", "churn"]);
    assert_contains(
        &output,
        &[
            ">  1  canary 50 %, until a person decides",
            "of 60 s",
            "of 500 (1.",
            "1.0.0  stable       50 %",
            "1.1.0  candidate    50 %",
            "errors",
            "open: the evidence that it is no worse is",
            "verdict   stays at step 1 (50 %)",
            "next      predictd rollout promote churn   or: abort churn --reason TEXT",
        ],
    );
    assert!(
        !output.contains('\x1b'),
        "colours are for terminals only: {output}"
    );
}

fn pause_and_resume(site: &Site) {
    assert_contains(
        &site.output_of(&["rollout", "pause", "churn", "--reason", "lunch"]),
        &[
            "paused: 1.1.0 stays at step 1 of 1",
            "PAUSED by unverified:",
        ],
    );
    let error = site.refusal_of(&["rollout", "pause", "churn"]);
    assert_eq!(
        error,
        "predictd: the server refused (422): the rollout is paused already\n  next: predictd rollout status churn\n"
    );
    assert_contains(
        &site.output_of(&["rollout", "resume", "churn"]),
        &["resumed: 1.1.0 continues at step 1 of 1"],
    );
}

fn promote_and_roll_back(site: &Site) {
    assert_contains(
        &site.output_of(&["rollout", "promote", "churn"]),
        &[
            "promoted: 1.1.0 is the stable version",
            "stable    1.1.0",
            "previous  1.0.0",
        ],
    );
    assert_eq!(site.answering_version(), "1.1.0");
    wait_until("the rollback was rehearsed", || {
        site.output_of(&["rollout", "status", "churn"])
            .contains("1.0.0  a rollback would work")
    });
    let output = site.output_of(&["rollback", "churn", "--reason", "3 a.m."]);
    assert_contains(
        &output,
        &[
            "churn: rolled back 1.1.0 -> 1.0.0 in ",
            " ms (entry 6)",
            "stable    1.0.0",
        ],
    );
    assert_eq!(site.answering_version(), "1.0.0");
    assert_contains(
        &site.refusal_of(&["rollback", "churn"]),
        &[
            "1.0.0 is already stable: 1.1.0 was rolled back ",
            "next: predictd rollout status churn\n",
        ],
    );
    let document = site.json_output_of(&[
        "rollback",
        "churn",
        "--to",
        "1.1.0",
        "--never-stable",
        "--reason",
        "a test",
        "--json",
    ]);
    assert_eq!(document["stable"]["version"], "1.1.0");
}

/// The history of the whole rollout: seven entries.
fn check_history(site: &Site) {
    let output = site.output_of(&["history", "churn"]);
    let lines_of_entries: Vec<&str> = output
        .lines()
        .filter(|line| !line.starts_with("        "))
        .collect();
    let expected = [
        ("adopt", "- -> 1.0.0  by configuration"),
        ("start", "1.0.0 -> 1.1.0  by unverified:"),
        ("pause", "; plan held, step 1 of 1 (canary 50 %)"),
        ("resume", "; plan held"),
        ("promote", "1.0.0 -> 1.1.0"),
        ("rollback", "1.1.0 -> 1.0.0"),
        ("rollback", "1.0.0 -> 1.1.0"),
    ];
    assert_eq!(lines_of_entries.len(), expected.len(), "{output}");
    for ((seq, line), (action, rest)) in (1..).zip(lines_of_entries).zip(expected) {
        assert!(
            line.starts_with(&format!("{seq:>6}  20"))
                && line.contains(&format!("Z  {action} "))
                && line.contains(rest),
            "{line}"
        );
    }
    assert_contains(
        &output,
        &[
            "        lunch\n",
            "        3 a.m.\n",
            "1.0.0: ",
            " requests, 0 % failed; 1.1.0: ",
            "1.1.0: compatible",
        ],
    );
    let last = site.output_of(&["history", "churn", "--limit", "1"]);
    assert!(
        last.starts_with("     7  ") && last.lines().count() == 2,
        "{last}"
    );
    let document = site.json_output_of(&["history", "churn", "--json"]);
    assert_eq!(document["entries"].as_array().unwrap().len(), 7);
    assert_eq!(document["entries"][2]["reason"], "lunch");
    let all = site.json_output_of(&["rollout", "status", "--json"]);
    assert_eq!(all["models"][0]["model"], "churn");
}

#[test]
fn after_an_abort_the_stable_version_answers_all_requests() {
    let site = start_site(&[]);
    site.start_rollout();
    let output = site.output_of(&["rollout", "abort", "churn", "--reason", "enough"]);
    assert_contains(
        &output,
        &[
            "aborted: 1.0.0 answers all requests (entry 3)",
            "last      abort 1.1.0 by unverified:",
            "enough",
            "rollout   none",
        ],
    );
    let document = site.json_output_of(&["history", "churn", "--json", "--limit", "1"]);
    assert_eq!(
        (
            &document["entries"][0]["action"],
            &document["entries"][0]["reason"]
        ),
        (&json!("abort"), &json!("enough"))
    );
}

#[test]
fn a_plan_with_approval_needs_tokens_of_two_operators() {
    const ANN: &str = "ann-0123456789abcdef";
    const BOB: &str = "bob-0123456789abcdef";
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    fs_err::write(&tokens, format!("ann {ANN}\nbob {BOB}\n")).unwrap();
    let site = start_site(&[("admin.token_file", tokens.to_str().unwrap())]);
    let error = site.refusal_of(&["rollout", "status"]);
    assert_contains(
        &error,
        &[
            "(401)",
            "next: set PREDICTD_TOKEN to a token of the server's admin.token_file",
        ],
    );
    let site = Site {
        token: Some("not a token"),
        ..site
    };
    assert_contains(&site.refusal_of(&["rollout", "status"]), &["visible ASCII"]);
    let ann = Site {
        token: Some(ANN),
        ..site
    };
    let output = ann.output_of(&[
        "rollout", "start", "churn", "--to", "1.1.0", "--plan", "high",
    ]);
    assert_contains(
        &output,
        &[
            "1.1.0 waits for the approval of a second operator",
            "predictd rollout approve churn   (by an operator other than ann)",
        ],
    );
    assert_contains(
        &ann.refusal_of(&["rollout", "approve", "churn"]),
        &[
            "(403)",
            "a second verified operator must approve the rollout that ann started",
        ],
    );
    let bob = Site {
        token: Some(BOB),
        ..ann
    };
    assert_contains(
        &bob.output_of(&["rollout", "approve", "churn"]),
        &["approved: 1.1.0 begins step 1 of 6"],
    );
    assert_contains(
        &bob.output_of(&["history", "churn"]),
        &[
            "by ann; plan high",
            "by bob; plan high, step 1 of 6 (shadow 50 %)",
        ],
    );
}
