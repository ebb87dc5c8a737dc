//! The commands that operate a server, as a person types them: `rollout`, `rollback`, `history`; and the webhook.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::harness::{
    CHURN, Deployment, PREDICTD, Server, assert_contains, customer, root, run_predictd, wait_for,
    wait_until,
};

const HELD: &str = "name = \"held\"\n[[steps]]\nkind = \"canary\"\nweight = 0.5\nmin_seconds = 60\nmin_requests = 500\nhold = true\n";

/// A server on which churn 1.0.0 is stable and 1.1.0 is installed, a plan that lasts until an operator decides, and the token of the
/// commands.
struct Site {
    server: Server,
    deployment: Deployment,
    plan: PathBuf,
    token: Option<&'static str>,
}

fn site(settings: &[(&str, &str)]) -> Site {
    let mut deployment = Deployment::churn();
    for (key, value) in settings {
        deployment = deployment.with(key, value);
    }
    let server = deployment.start_and_add_candidate();
    let plan = deployment.state().join("held.toml");
    fs_err::write(&plan, HELD).unwrap();
    Site {
        server,
        deployment,
        plan,
        token: None,
    }
}

impl Site {
    /// (exit code, stdout, stderr)
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let url = self.server.admin_url("");
        let mut environment = vec![("PREDICTD_SERVER", url.as_str())];
        environment.extend(self.token.map(|token| ("PREDICTD_TOKEN", token)));
        run_predictd(arguments, "", &environment)
    }

    /// What a command prints that does what it should.
    fn done(&self, arguments: &[&str]) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!(
            (code, error.as_str()),
            (0, ""),
            "{arguments:?}: {output}{error}"
        );
        output
    }

    fn document(&self, arguments: &[&str]) -> Value {
        let output = self.done(arguments);
        serde_json::from_str(&output)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output}"))
    }

    /// Why the server refused.
    fn refused(&self, arguments: &[&str]) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!((code, output.as_str()), (1, ""), "{arguments:?}: {error}");
        error
    }

    fn start(&self) {
        self.done(&[
            "rollout",
            "start",
            "churn",
            "--to",
            "1.1.0",
            "--plan",
            self.plan.to_str().unwrap(),
            "--reason",
            "better",
        ]);
    }

    fn answering_version(&self) -> String {
        self.server.answering_version(CHURN, &customer())
    }
}

#[test]
fn a_dry_run_says_what_would_happen() {
    let site = site(&[]);
    let output = site.done(&["rollout", "start", "churn", "--to", "1.1.0", "--dry-run"]);
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
    let output = site.done(&[
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
    let document = site.document(&[
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
    let site = site(&[]);
    assert_contains(
        &site.done(&["rollout", "status"]),
        &[
            "churn\n",
            "stable    1.0.0  sha256:",
            "previous  none",
            "rollout   none",
        ],
    );
    let plan = site.plan.to_str().unwrap();
    let output = site.done(&[
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
    for _ in 0..100 {
        site.answering_version();
    }
    wait_until("the requests are counted", || {
        site.server.evidence_total("churn", "units") == 100
    });
    let output = site.done(&["rollout", "status", "churn"]);
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
            "verdict   holds at step 1 (50 %)",
            "next      predictd rollout promote churn   or: abort churn --reason TEXT",
        ],
    );
    assert!(
        !output.contains('\x1b'),
        "no colours but on a terminal: {output}"
    );
    assert_contains(
        &site.done(&["rollout", "pause", "churn", "--reason", "lunch"]),
        &[
            "paused: 1.1.0 stays at step 1 of 1",
            "PAUSED by unverified:",
        ],
    );
    let error = site.refused(&["rollout", "pause", "churn"]);
    assert_eq!(
        error,
        "predictd: the server refused (422): the rollout is paused already\n  next: predictd rollout status churn\n"
    );
    assert_contains(
        &site.done(&["rollout", "resume", "churn"]),
        &["resumed: 1.1.0 continues at step 1 of 1"],
    );
    assert_contains(
        &site.done(&["rollout", "promote", "churn"]),
        &[
            "promoted: 1.1.0 is the stable version",
            "stable    1.1.0",
            "previous  1.0.0",
        ],
    );
    assert_eq!(site.answering_version(), "1.1.0");
    wait_until("the way back was tried", || {
        site.done(&["rollout", "status", "churn"])
            .contains("1.0.0  a rollback would work")
    });
    let output = site.done(&["rollback", "churn", "--reason", "3 a.m."]);
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
        &site.refused(&["rollback", "churn"]),
        &[
            "1.0.0 answers already; 1.1.0 was rolled back ",
            "next: predictd rollout status churn\n",
        ],
    );
    let document = site.document(&[
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

    let output = site.done(&["history", "churn"]);
    let heads: Vec<&str> = output
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
    assert_eq!(heads.len(), expected.len(), "{output}");
    for ((seq, line), (action, rest)) in (1..).zip(heads).zip(expected) {
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
    let last = site.done(&["history", "churn", "--limit", "1"]);
    assert!(
        last.starts_with("     7  ") && last.lines().count() == 2,
        "{last}"
    );
    let document = site.document(&["history", "churn", "--json"]);
    assert_eq!(document["entries"].as_array().unwrap().len(), 7);
    assert_eq!(document["entries"][2]["reason"], "lunch");
    let all = site.document(&["rollout", "status", "--json"]);
    assert_eq!(all["models"][0]["model"], "churn");
}

#[test]
fn an_abort_leaves_everybody_to_stable() {
    let site = site(&[]);
    site.start();
    let output = site.done(&["rollout", "abort", "churn", "--reason", "enough"]);
    assert_contains(
        &output,
        &[
            "aborted: 1.0.0 answers all requests (entry 3)",
            "last      abort 1.1.0 by unverified:",
            "enough",
            "rollout   none",
        ],
    );
    let document = site.document(&["history", "churn", "--json", "--limit", "1"]);
    assert_eq!(
        (
            &document["entries"][0]["action"],
            &document["entries"][0]["reason"]
        ),
        (&json!("abort"), &json!("enough"))
    );
}

#[test]
fn wrong_usage_is_told_before_a_server_is_asked() {
    let cases: &[(&[&str], &str)] = &[
        (&["rollout", "abort", "churn"], "--reason"),
        (&["rollout", "start", "churn"], "--to"),
        (
            &["rollout", "start", "churn", "--to", "new"],
            "not a version",
        ),
        (
            &["rollout", "start", "../churn", "--to", "1.1.0"],
            "not the name of a model",
        ),
        (
            &[
                "rollout",
                "start",
                "churn",
                "--to",
                "1.1.0",
                "--allow-forward-only",
            ],
            "--reason",
        ),
        (
            &[
                "rollout",
                "start",
                "churn",
                "--to",
                "1.1.0",
                "--accept-unproved",
                "/age",
            ],
            "--reason",
        ),
        (
            &["rollout", "promote", "churn", "--without-way-back"],
            "--reason",
        ),
        (&["rollout", "dance", "churn"], "dance"),
        (&["rollback"], "MODEL"),
        (&["history", "churn", "--limit", "few"], "few"),
        (
            &["rollout", "status", "--server", "localhost:8082"],
            "http://HOST:PORT",
        ),
        (
            &[
                "rollout",
                "status",
                "--server",
                "http://ann:secret@localhost",
            ],
            "PREDICTD_TOKEN",
        ),
    ];
    for (arguments, part) in cases {
        let (code, output, error) = run_predictd(arguments, "", &[]);
        assert!(
            code == 2 && output.is_empty() && error.contains(part),
            "{arguments:?}: {code} {output}{error}"
        );
    }
    assert_eq!(
        run_predictd(
            &["rollout", "status"],
            "",
            &[("PREDICTD_SERVER", "nowhere")]
        )
        .0,
        2
    );
    // What the environment gives is not asked for.
    let site = [("PREDICTD_SERVER", "http://127.0.0.1:1")];
    for arguments in [
        &["rollout", "abort", "churn"][..],
        &["history", "churn", "--repair"],
        &["rollback", "churn", "--never-stable"],
    ] {
        let (code, _, error) = run_predictd(arguments, "", &site);
        assert!(
            code == 2
                && error.contains("Usage: ")
                && error.contains("--reason")
                && !error.contains("--server"),
            "{error}"
        );
    }
}

#[test]
fn who_does_not_answer_is_named() {
    let site = site(&[]);
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for arguments in [
        &["rollout", "status"][..],
        &["rollback", "churn"],
        &["history", "churn"],
        &["rollout", "status", "--watch"],
    ] {
        let (code, output, error) = run_predictd(
            arguments,
            "",
            &[("PREDICTD_SERVER", &format!("http://{free}"))],
        );
        assert!(code == 1 && output.is_empty(), "{output}{error}");
        assert_contains(
            &error,
            &[
                &format!("no server answers at http://{free}: connection refused"),
                "admin.listen",
                "--server URL or PREDICTD_SERVER",
            ],
        );
    }
    // A proxy has no part in what stays on this machine.
    let environment = [
        ("PREDICTD_SERVER", &*site.server.admin_url("")),
        ("http_proxy", &format!("http://{free}")),
        ("ALL_PROXY", "http://127.0.0.1:9"),
    ];
    assert_eq!(run_predictd(&["rollout", "status"], "", &environment).0, 0);
    let data = format!("http://{}", site.server.address);
    let (code, _, error) = run_predictd(&["rollout", "status", "--server", &data], "", &[]);
    assert!(
        code == 1
            && error.contains(&format!(
                "{data} answers (404), but is not predictd's admin listener"
            )),
        "{error}"
    );
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["rollout", "status", "nobody"],
            &[
                "(404)",
                "no model \"nobody\"",
                "`predictd rollout status` lists the models",
            ],
        ),
        (
            &["rollout", "start", "churn", "--to", "7.0.0"],
            &["(422)", "no version 7.0.0"],
        ),
        (
            &[
                "rollout", "start", "churn", "--to", "1.1.0", "--plan", "bold",
            ],
            &["(400)", "no plan \"bold\""],
        ),
        (
            &[
                "rollout",
                "start",
                "churn",
                "--to",
                "1.1.0",
                "--plan",
                "missing.toml",
            ],
            &["missing.toml"],
        ),
        (
            &[
                "rollout", "start", "churn", "--to", "1.1.0", "--plan", "high",
            ],
            &["(403)", "two verified operators"],
        ),
        (
            &["rollout", "promote", "churn"],
            &["(422)", "no rollout of churn"],
        ),
        (
            &["rollout", "abort", "churn", "--reason", "x"],
            &["(422)", "no rollout of churn"],
        ),
        (
            &["rollback", "churn"],
            &["(422)", "no previous stable version"],
        ),
    ];
    for (arguments, parts) in cases {
        let error = site.refused(arguments);
        assert!(error.starts_with("predictd: "), "{error}");
        assert_contains(&error, parts);
    }
    site.start();
    assert_contains(
        &site.refused(&["rollout", "start", "churn", "--to", "1.1.0"]),
        &[
            "(409)",
            "is in progress",
            "next: predictd rollout abort churn --reason TEXT",
        ],
    );
}

#[test]
fn a_plan_for_two_names_needs_two_tokens() {
    const ANN: &str = "ann-0123456789abcdef";
    const BOB: &str = "bob-0123456789abcdef";
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    fs_err::write(&tokens, format!("ann {ANN}\nbob {BOB}\n")).unwrap();
    let site = site(&[("admin.token_file", tokens.to_str().unwrap())]);
    let error = site.refused(&["rollout", "status"]);
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
    assert_contains(&site.refused(&["rollout", "status"]), &["visible ASCII"]);
    let ann = Site {
        token: Some(ANN),
        ..site
    };
    let output = ann.done(&[
        "rollout", "start", "churn", "--to", "1.1.0", "--plan", "high",
    ]);
    assert_contains(
        &output,
        &[
            "1.1.0 waits for the approval of a second operator",
            "predictd rollout approve churn   (by another operator than ann)",
        ],
    );
    assert_contains(
        &ann.refused(&["rollout", "approve", "churn"]),
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
        &bob.done(&["rollout", "approve", "churn"]),
        &["approved: 1.1.0 begins step 1 of 6"],
    );
    assert_contains(
        &bob.done(&["history", "churn"]),
        &[
            "by ann; plan high",
            "by bob; plan high, step 1 of 6 (shadow 50 %)",
        ],
    );
}

/// Alters the files below a running server, asks with and without it, and puts the files back.
#[test]
fn a_journal_that_was_altered_is_found() {
    let site = site(&[]);
    site.start();
    site.done(&["rollout", "pause", "churn"]);
    site.done(&["rollout", "abort", "churn", "--reason", "enough"]);
    let state = site.deployment.state().to_str().unwrap().to_owned();
    let online = || site.run(&["history", "churn", "--verify"]);
    let offline = || {
        run_predictd(
            &["history", "churn", "--verify", "--state", &state],
            "",
            &[],
        )
    };
    for (code, output, error) in [online(), offline()] {
        assert!(
            code == 0
                && output.starts_with("ok: 4 entries, the last with sha256 ")
                && error.is_empty(),
            "{output}{error}"
        );
    }
    assert_eq!(online().1, offline().1, "the same chain");
    assert_eq!(
        site.document(&["history", "churn", "--verify", "--json"])["entries"],
        4
    );

    let text = |seq: u64| fs_err::read_to_string(site.deployment.entry(seq)).unwrap();
    let texts: Vec<String> = (1..=4).map(text).collect();
    let restore = || {
        (1..)
            .zip(&texts)
            .for_each(|(seq, text)| fs_err::write(site.deployment.entry(seq), text).unwrap())
    };
    let swap = || {
        fs_err::write(site.deployment.entry(2), &texts[2]).unwrap();
        fs_err::write(site.deployment.entry(3), &texts[1]).unwrap();
    };
    let remove = |seq: u64| fs_err::remove_file(site.deployment.entry(seq)).unwrap();
    let alter = || {
        fs_err::write(
            site.deployment.entry(2),
            texts[1].replace("better", "bitter"),
        )
        .unwrap()
    };
    let garble = || fs_err::write(site.deployment.entry(1), b"\xff{").unwrap();
    let cases: &[(&dyn Fn(), u64, &str)] = &[
        (&alter, 2, "was altered"),
        (&garble, 1, "can't be read"),
        (&swap, 2, "says that it is entry 3: entries were renamed"),
        (&|| remove(3), 3, "is missing"),
        (&|| remove(1), 1, "is missing"),
    ];
    for (tamper, seq, part) in cases {
        tamper();
        for (code, output, error) in [online(), offline()] {
            assert_eq!(code, 1, "{part}: {output}{error}");
            assert_contains(&output, &[&format!("FAILED: entry {seq} "), part]);
        }
        let (code, output, _) = site.run(&["history", "churn", "--verify", "--json"]);
        let document: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(
            (code, &document["ok"], &document["bad"]["seq"]),
            (1, &json!(false), &json!(seq))
        );
        // What is wrong with one entry hides none of those behind it.
        assert_contains(&site.done(&["history", "churn"]), &["     4  ", "enough"]);
        assert_contains(
            &run_predictd(&["history", "churn", "--state", &state], "", &[]).1,
            &["     4  ", "enough"],
        );
        restore();
    }

    // Cut off at its end: the chain is whole, but the server remembers.
    remove(4);
    let (code, output, _) = online();
    assert!(
        code == 1 && output.contains("FAILED: entry 4 is missing, but the server has seen it"),
        "{output}"
    );
    assert!(
        offline().1.starts_with("ok: 3 entries"),
        "nobody else can know"
    );
    assert_contains(
        &site.done(&["history", "churn"]),
        &["     4  is missing here"],
    );
    restore();
    assert_eq!(online().0, 0);

    // A server that starts with a gap decides nothing; who asks it sees what is stored all the same.
    remove(3);
    let Site {
        server, deployment, ..
    } = site;
    drop(server);
    let server = deployment.start_unready();
    let (code, output, _) = run_predictd(
        &[
            "history",
            "churn",
            "--verify",
            "--server",
            &server.admin_url(""),
        ],
        "",
        &[],
    );
    assert!(
        code == 1 && output.contains("FAILED: entry 3 is missing"),
        "{output}"
    );

    let (code, _, error) = run_predictd(&["history", "nobody", "--state", &state], "", &[]);
    assert!(
        code == 1 && error.contains("contains no journal of nobody"),
        "{error}"
    );
    let (code, _, error) = run_predictd(&["history", "churn", "--state", "/nowhere"], "", &[]);
    assert!(
        code == 1 && error.contains("/nowhere contains no journal of churn"),
        "{error}"
    );
}

fn watch(site: &Site, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
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
    let site = site(&[]);
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
    site.start();
    let (child, mut output) = watch(&site, &["churn"]);
    let (programs, mut lines) = watch(&site, &["--json"]);
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert_eq!(first, "churn\n");
    first.clear();
    lines.read_line(&mut first).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&first).unwrap()["models"][0]["rollout"]["phase"],
        "running"
    );
    site.done(&["rollout", "abort", "churn", "--reason", "enough"]);
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
    // Who asks too late is told how the last one ended.
    assert_eq!(site.run(&["rollout", "status", "churn", "--watch"]).0, 1);

    site.start();
    let (child, mut output) = watch(&site, &["churn"]);
    output.read_line(&mut String::new()).unwrap();
    site.done(&["rollback", "churn", "--reason", "3 a.m."]);
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

    site.start();
    let (child, mut output) = watch(&site, &["churn"]);
    output.read_line(&mut String::new()).unwrap();
    site.done(&["rollout", "promote", "churn"]);
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
    let mut site = site(&[("admin.listen", &address)]);
    site.start();
    let (mut child, mut output) = watch(&site, &["churn"]);
    output.read_line(&mut String::new()).unwrap();
    drop(site.server);
    let mut noticed = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut noticed)
        .unwrap();
    assert_contains(&noticed, &["no server answers at http://"]);
    site.server = site.deployment.start();
    site.done(&["rollout", "abort", "churn", "--reason", "enough"]);
    assert_eq!(
        wait_for("the watch ends", || child.try_wait().unwrap()).code(),
        Some(1)
    );
}

/// A place that is told of decisions: keeps what it gets, and answers each request with the status that `answer` gives its number.
fn hook(answer: fn(usize) -> u16) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://{}/services/SECRET?key=SECRET",
        listener.local_addr().unwrap()
    );
    let received: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&received);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            loop {
                line.clear();
                stream.read_line(&mut line).unwrap();
                let (name, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
                match name {
                    "" => break,
                    name if name.eq_ignore_ascii_case("content-length") => {
                        length = value.trim().parse().unwrap()
                    }
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let status = answer(number);
            if status == 200 {
                kept.lock()
                    .unwrap()
                    .push(serde_json::from_slice(&body).unwrap());
            }
            write!(
                stream.get_mut(),
                "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
        }
    });
    (url, received)
}

#[test]
fn the_webhook_is_told_of_each_decision() {
    // The first request fails: what it told comes again.
    let (url, received) = hook(|number| if number == 0 { 500 } else { 200 });
    let site = site(&[("admin.webhook", &url)]);
    site.start();
    site.done(&["rollout", "pause", "churn"]);
    site.done(&["rollout", "abort", "churn", "--reason", "enough"]);
    site.done(&[
        "rollback",
        "churn",
        "--to",
        "1.1.0",
        "--never-stable",
        "--reason",
        "a test",
    ]);
    let told = wait_for("all is told", || {
        Some(received.lock().unwrap().clone()).filter(|told| told.len() == 5)
    });
    let actions: Vec<&str> = told
        .iter()
        .map(|message| message["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["adopt", "start", "pause", "abort", "rollback"]);
    let abort = &told[3];
    assert_eq!(
        (&abort["model"], &abort["seq"], &abort["reason"]),
        (&json!("churn"), &json!(4), &json!("enough"))
    );
    assert_eq!(
        (
            &abort["from"]["version"],
            &abort["to"]["version"],
            &abort["strategy"]
        ),
        (&json!("1.0.0"), &json!("1.1.0"), &json!("held"))
    );
    assert_contains(
        abort["text"].as_str().unwrap(),
        &[
            "churn: the rollout of 1.1.0 is aborted; 1.0.0 answers all requests, by unverified:",
            ": enough (entry 4)",
        ],
    );
    assert_eq!(site.server.metric("predictd_webhook_failures_total"), 0.0);
    assert!(
        !site
            .server
            .logged("posting to the webhook failed; it will be tried again")
            .is_empty()
    );
    for line in site.server.log() {
        assert!(!line.to_string().contains("SECRET"), "{line}");
    }
}

#[test]
fn a_webhook_that_fails_is_counted_and_its_url_is_not_told() {
    let (url, received) = hook(|_| 503);
    let site = site(&[("admin.webhook", &url)]);
    site.server
        .wait_for_metric("predictd_webhook_failures_total", 1.0);
    let lines = wait_for("it is logged", || {
        Some(
            site.server
                .logged("a decision could not be posted to the webhook"),
        )
        .filter(|lines| !lines.is_empty())
    });
    assert_eq!(
        (&lines[0]["model"], &lines[0]["seq"], &lines[0]["error"]),
        (
            &json!("churn"),
            &json!(1),
            &json!("the webhook answered with status 503")
        )
    );
    assert!(
        lines[0]["host"]
            .as_str()
            .is_some_and(|host| host.starts_with("127.0.0.1:")),
        "{}",
        lines[0]
    );
    assert!(received.lock().unwrap().is_empty());
    for line in site.server.log() {
        assert!(!line.to_string().contains("SECRET"), "{line}");
    }
}

#[test]
fn a_webhook_that_hangs_delays_no_decision() {
    // Connections are taken by the system; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = site(&[(
        "admin.webhook",
        &format!("http://{}/", silent.local_addr().unwrap()),
    )]);
    site.start();
    site.done(&["rollout", "pause", "churn"]);
    site.done(&["rollout", "resume", "churn"]);
    site.done(&["rollout", "abort", "churn", "--reason", "enough"]);
    assert!(
        site.done(&["history", "churn", "--verify"])
            .starts_with("ok: 5 entries")
    );
    // Had each waited for its own answer, each would have been counted by now.
    assert!(site.server.metric("predictd_webhook_failures_total") < 5.0);
}

#[test]
fn a_webhook_by_https_is_told_nothing_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = site(&[(
        "admin.webhook",
        &format!("https://{}/services/SECRET", listener.local_addr().unwrap()),
    )]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).unwrap();
    // A handshake record of TLS, and in it a ClientHello (RFC 8446, 5.1 and 4).
    assert_eq!((hello[0], hello[1], hello[5]), (22, 3, 1), "{hello:?}");
    // Whoever answers with something else is told nothing.
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    wait_for("it is tried again", || {
        site.server
            .logged("posting to the webhook failed; it will be tried again")
            .pop()
    });
}
