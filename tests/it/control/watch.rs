//! `rollout status --watch` ends with the rollout.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::{Site, start_site};
use crate::harness::{PREDICTD, assert_contains, root, wait_for};

fn start_watch(site: &Site, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(PREDICTD);
    command
        .args(["rollout", "status", "--watch"])
        .args(arguments)
        .env("PREDICTD_SERVER", site.server.admin_url(""))
        .current_dir(root());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

#[test]
fn a_watch_ends_with_the_rollout() {
    let site = start_site(&[]);
    let (code, output, _) = site.run(&["rollout", "status", "churn", "--watch"]);
    assert!(
        code == 0 && output.contains("there is no rollout to watch"),
        "{output}"
    );
    let end = |mut child: Child, mut output: BufReader<_>| {
        let status = wait_for("the watch ends", || child.try_wait().unwrap());
        let mut rest = String::new();
        Read::read_to_string(&mut output, &mut rest).unwrap();
        (status.code(), rest)
    };
    site.start_rollout();
    let (child, mut output) = start_watch(&site, &["churn"]);
    let (programs, mut lines) = start_watch(&site, &["--json"]);
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert_eq!(first, "churn\n");
    first.clear();
    lines.read_line(&mut first).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&first).unwrap()["models"][0]["rollout"]["phase"],
        "running"
    );
    site.output_of(&["rollout", "abort", "churn", "--reason", "enough"]);
    let (code, rest) = end(child, output);
    assert_eq!(code, Some(1));
    assert_contains(
        &rest,
        &[
            "the rollout of 1.1.0 ended: abort by unverified:",
            "(entry 3): enough",
        ],
    );
    let (code, rest) = end(programs, lines);
    assert_eq!(code, Some(1));
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(last["models"][0]["rollout"], Value::Null);
    // A watch that starts after the end says how the last rollout ended.
    assert_eq!(site.run(&["rollout", "status", "churn", "--watch"]).0, 1);

    site.start_rollout();
    let (child, mut output) = start_watch(&site, &["churn"]);
    output.read_line(&mut String::new()).unwrap();
    site.output_of(&["rollback", "churn", "--reason", "3 a.m."]);
    let late = site.run(&["rollout", "status", "churn", "--watch"]);
    for (code, rest) in [end(child, output), (Some(late.0), late.1)] {
        assert_eq!(code, Some(1), "{rest}");
        assert_contains(
            &rest,
            &[
                "the rollout of 1.1.0 ended: rollback by unverified:",
                ": 3 a.m.",
            ],
        );
    }

    site.start_rollout();
    let (child, mut output) = start_watch(&site, &["churn"]);
    output.read_line(&mut String::new()).unwrap();
    site.output_of(&["rollout", "promote", "churn"]);
    let (code, rest) = end(child, output);
    assert!(
        code == Some(0) && rest.contains("the rollout of 1.1.0 ended: promote"),
        "{rest}"
    );
    assert_eq!(site.run(&["rollout", "status", "churn", "--watch"]).0, 0);
}

#[test]
fn a_watch_outlives_a_restart_of_the_server() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let mut site = start_site(&[("admin.listen", &address)]);
    site.start_rollout();
    let (mut child, mut output) = start_watch(&site, &["churn"]);
    output.read_line(&mut String::new()).unwrap();
    drop(site.server);
    let mut noticed = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut noticed)
        .unwrap();
    assert_contains(&noticed, &["no server answers at http://"]);
    site.server = site.deployment.start();
    site.output_of(&["rollout", "abort", "churn", "--reason", "enough"]);
    assert_eq!(
        wait_for("the watch ends", || child.try_wait().unwrap()).code(),
        Some(1)
    );
}
