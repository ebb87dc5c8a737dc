//! A way back at 3 a.m.: rollouts at full traffic, states that can't be written, disks that are full, journals that are damaged.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    harness::{PREDICTD, Server, copy, draft, graph, install, models, predictd, side, until},
    rollout::{ALL, CHURN, HELD, churn, customer, quick},
    watch::repack,
};

/// Runs a command against the server; what it printed, and its exit code.
fn command(server: &Server, arguments: &[&str]) -> (i32, String) {
    let url = format!(
        "http://{}",
        server.logged("listening")[0]["admin"].as_str().unwrap()
    );
    let (code, output, error) = predictd(arguments, "", &[("PREDICTD_SERVER", &url)]);
    (code, output + &error)
}

fn verbose(server: &Server) -> String {
    server.get("/readyz?verbose").text().unwrap()
}

#[test]
fn a_rollback_ends_a_rollout_at_full_traffic() {
    let (_models, server) = churn(&[]);
    let held = ALL.replace("weight = 1.0", "weight = 1.0\nhold = true");
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(&held)}}),
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    let (code, text) = command(&server, &["rollback", "churn", "--reason", "3 a.m."]);
    assert!(
        code == 0
            && text.starts_with("churn: rolled back 1.1.0 -> 1.0.0 in ")
            && text.contains("(entry 3)"),
        "{text}"
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
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
    let (code, text) = command(&server, &["rollback", "churn"]);
    assert!(
        code == 1
            && text.contains("1.0.0 answers already; 1.1.0 was rolled back ")
            && text.contains(" ago by unverified:"),
        "{text}"
    );
    assert!(
        text.contains("next: predictd rollout status churn\n") && !text.contains("--to"),
        "{text}"
    );
    // Nor is who comes after the judge, or after an abort.
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/abort", &json!({"reason": "worse"}));
    let (code, text) = command(&server, &["rollback", "churn"]);
    assert!(
        code == 1
            && text.contains("1.0.0 answers already; the rollout of 1.1.0 was aborted ")
            && !text.contains("--to"),
        "{text}"
    );
    let (code, text) = command(&server, &["rollback", "churn", "--to", "1.0.0"]);
    assert!(
        code == 1 && text.contains("1.0.0 answers already; the rollout of 1.1.0 was aborted "),
        "{text}"
    );
    let (code, text) = command(&server, &["rollback", "churn", "--to", "7.7.7"]);
    assert!(
        code == 1
            && text.contains("there is no version 7.7.7 of churn")
            && !text.contains("rollout start"),
        "{text}"
    );
}

/// A file where the journal should be: also root can't write there. Put back when it is called.
fn break_journal(state: &Path) -> impl Fn() {
    let (journal, elsewhere) = (state.join("journal/churn"), state.join("elsewhere"));
    fs_err::rename(&journal, &elsewhere).unwrap();
    fs_err::write(&journal, "no directory").unwrap();
    move || {
        fs_err::remove_file(&journal).unwrap();
        fs_err::rename(&elsewhere, &journal).unwrap();
    }
}

#[test]
fn a_rollback_takes_effect_though_it_cannot_be_written() {
    let state = tempfile::tempdir().unwrap();
    let (models, server) = churn(&[("state.url", state.path().to_str().unwrap())]);
    let replica = Server::start(
        models.path(),
        &[("state.url", state.path().to_str().unwrap())],
    );
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/promote", &json!({}));
    // Not by an answer: during the rollout every other one is the candidate's.
    until("the replica follows", || {
        (replica.status("churn")["stable"]["version"] == "1.1.0").then_some(())
    });
    assert_eq!(replica.answered(CHURN, &customer()), "1.1.0");
    let mend = break_journal(state.path());
    let (code, text) = command(&server, &["rollout", "status", "churn"]);
    assert!(
        code == 0 && text.contains("TROUBLE   only a rollback or an abort is possible: "),
        "{text}"
    );
    let (code, text) = command(&server, &["rollback", "churn", "--reason", "3 a.m."]);
    assert!(
        code == 0
            && text.contains("rolled back 1.1.0 -> 1.0.0")
            && text.contains("(not written yet)"),
        "{text}"
    );
    assert!(
        text.contains("PENDING   rollback 1.0.0 is in force on this server, and not written yet"),
        "{text}"
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(
        replica.answered(CHURN, &customer()),
        "1.1.0",
        "nobody else can know of it"
    );
    assert!(
        verbose(&server).contains("rollback 1.0.0 is in force on this server only"),
        "{}",
        verbose(&server)
    );
    assert_eq!(
        server.metric(r#"predictd_journal_pending{model="churn"}"#),
        1.0
    );
    assert!(
        !server.logged("a decision can't be written yet; it is in force on this server, and will be written as soon as possible").is_empty()
    );
    // Whatever is not urgent waits until that is written.
    let (status, detail) = server.refused(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    assert!(status == 503, "{status} {detail}");
    mend();
    until("it is written, and the replica follows", || {
        (replica.answered(CHURN, &customer()) == "1.0.0").then_some(())
    });
    assert_eq!(
        server.actions("churn"),
        ["adopt", "start", "promote", "rollback"]
    );
    assert_eq!(server.history("churn")[3]["reason"], "3 a.m.");
    until("nothing waits any more", || {
        (server.metric(r#"predictd_journal_pending{model="churn"}"#) == 0.0).then_some(())
    });
    assert_eq!(server.status("churn")["pending"], json!([]));
}

#[test]
fn a_state_that_hangs_holds_up_no_rollback() {
    let state = tempfile::tempdir().unwrap();
    let (_models, server) = churn(&[("state.url", state.path().to_str().unwrap())]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    // Whoever opens this waits until somebody writes: as long as it takes.
    let hanging = state.path().join("journal/churn/00000003.json");
    assert!(
        Command::new("mkfifo")
            .arg(&hanging)
            .status()
            .unwrap()
            .success()
    );
    server.ordered("churn/rollback", &json!({"reason": "3 a.m."}));
    for _ in 0..20 {
        assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    }
    assert_eq!(server.status("churn")["pending"][0]["action"], "rollback");
    let aside = state.path().join("aside");
    fs_err::rename(&hanging, &aside).unwrap();
    // Lets those go that wait for it.
    until("the rollback is written", || {
        let _ = rustix::fs::open(
            &aside,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK,
            rustix::fs::Mode::empty(),
        );
        (server.status("churn")["written"] == true).then_some(())
    });
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
}

#[test]
fn a_state_that_vanished_begins_no_chain_in_its_middle() {
    let state = tempfile::tempdir().unwrap();
    let (_models, server) = churn(&[("state.url", state.path().to_str().unwrap())]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    let (journal, elsewhere) = (state.path().join("journal"), state.path().join("elsewhere"));
    fs_err::rename(&journal, &elsewhere).unwrap();
    server.ordered("churn/rollback", &json!({}));
    assert_eq!(server.status("churn")["pending"][0]["action"], "rollback");
    assert!(!journal.join("churn/00000003.json").exists());
    fs_err::rename(&elsewhere, &journal).unwrap();
    until("it is written", || {
        (server.status("churn")["written"] == true).then_some(())
    });
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
}

/// A small file system; `None`, with the reason printed, where it can't be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(kilobytes: usize) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(directory)),
            other => {
                println!("skipped: no small file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_has_room_for_a_rollback() {
    let Some(disk) = SmallDisk::mount(600) else {
        return;
    };
    let state = disk.0.path().join("state");
    let (_models, server) = churn(&[("state.url", state.to_str().unwrap())]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    assert!(state.join("reserve").exists());
    let fill = disk.0.path().join("fill");
    let mut size = 600 << 10;
    while size > 0 {
        if fs_err::write(&fill, vec![1; size]).is_ok() {
            break;
        }
        size -= 4096;
    }
    assert_eq!(server.refused("churn/rollout/pause", &json!({})).0, 503);
    let status = server.ordered("churn/rollback", &json!({"reason": "3 a.m."}));
    assert_eq!(
        (&status["written"], &status["rollout"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
    // What came free is for the next rollback, and for nothing else.
    assert_eq!(
        server
            .refused(
                "churn/rollout/start",
                &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}})
            )
            .0,
        503
    );
    until("it is told", || {
        verbose(&server)
            .contains("it has no room for urgent decisions")
            .then_some(())
    });
    // Once there is room again it is kept again.
    fs_err::remove_file(&fill).unwrap();
    until("it is kept", || {
        state.join("reserve").exists().then_some(())
    });
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
}

#[test]
fn a_limit_of_file_sizes_kills_no_server() {
    let (models, state) = (models(&[("churn", "1.0.0")]), tempfile::tempdir().unwrap());
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
    let server = Server::start_in(
        models.path(),
        &[("state.url", state.path().to_str().unwrap())],
        |command| {
            let environment: Vec<_> = command
                .get_envs()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect();
            *command = Command::new("/usr/bin/env");
            command.args(arguments).envs(environment);
        },
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(server.status("churn")["pending"][0]["action"], "adopt");
    assert_eq!(server.get("/livez").status(), 200);
}

#[test]
fn replicas_follow_a_repair() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/promote", &json!({}));
    drop(server);
    let knows = Server::start(models.path(), &settings);
    fs_err::write(state.path().join("journal/churn/00000002.json"), "").unwrap();
    let restarted = Server::start(models.path(), &settings);
    assert_eq!(
        (
            knows.answered(CHURN, &customer()),
            restarted.answered(CHURN, &customer())
        ),
        ("1.1.0".to_owned(), "1.0.0".to_owned())
    );
    restarted.ordered("churn/history/repair", &json!({"reason": "power cut"}));
    until("the other follows", || {
        (knows.answered(CHURN, &customer()) == "1.0.0").then_some(())
    });
    knows.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    assert_eq!(restarted.actions("churn"), ["adopt", "repair", "start"]);
}

/// Stops a process where it is, or lets it go on.
fn signal(server: &Server, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(server.child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_replica_that_slept_through_a_repair_decides_on_what_stands_there_now() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/promote", &json!({}));
    drop(server);
    let knows = Server::start(models.path(), &settings);
    fs_err::write(state.path().join("journal/churn/00000002.json"), "").unwrap();
    let restarted = Server::start(models.path(), &settings);
    signal(&knows, rustix::process::Signal::STOP);
    restarted.ordered("churn/history/repair", &json!({"reason": "power cut"}));
    restarted.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    signal(&knows, rustix::process::Signal::CONT);
    // Its entry 3 is another than the one that stands there: whatever it answers, it breaks nothing.
    let _ = knows
        .order("churn/rollback", &json!({"reason": "3 a.m."}))
        .status();
    let (code, text) = command(&restarted, &["history", "churn", "--verify"]);
    assert_eq!(code, 0, "{text}");
    until("both know the same", || {
        (knows.actions("churn") == restarted.actions("churn")).then_some(())
    });
    assert_eq!(restarted.status("churn")["trouble"], Value::Null);
}

#[test]
fn a_repair_that_was_cut_off_is_finished() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    let held = ALL.replace("weight = 1.0", "weight = 1.0\nhold = true");
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(&held)}}),
    );
    server.ordered("churn/rollout/abort", &json!({"reason": "bad"}));
    drop(server);
    // What a kill leaves between the moving and the writing: the rollout seems to run, and its end lies aside.
    let place = "damaged/churn/01M8F8XN0A7K8735X7M5ZZB6G1";
    fs_err::create_dir_all(state.path().join(place)).unwrap();
    let entry = "00000003.json";
    fs_err::rename(
        state.path().join("journal/churn").join(entry),
        state.path().join(place).join(entry),
    )
    .unwrap();
    let server = Server::start(models.path(), &settings);
    assert_eq!(
        server.answered(CHURN, &customer()),
        "1.0.0",
        "no candidate of a rollout that was perhaps aborted"
    );
    assert!(
        verbose(&server).contains(
            "journal damaged at entry 3, which was set aside without an entry that says so"
        ),
        "{}",
        verbose(&server)
    );
    let (code, text) = command(
        &server,
        &["history", "churn", "--repair", "--reason", "cut off"],
    );
    assert!(code == 0 && text.contains("rollout   none"), "{text}");
    assert_eq!(
        server.history("churn").pop().unwrap()["details"]["set_aside"],
        place
    );
    drop(server);
    let server = Server::start(models.path(), &settings);
    assert_eq!(
        (
            &server.status("churn")["trouble"],
            server.answered(CHURN, &customer())
        ),
        (&Value::Null, "1.0.0".to_owned())
    );
}

#[test]
fn a_pending_rollback_does_not_undo_what_was_decided_later() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    let replica = Server::start(models.path(), &settings);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    until("the replica follows", || {
        (replica.status("churn")["stable"]["version"] == "1.1.0").then_some(())
    });
    let mend = break_journal(state.path());
    server.ordered("churn/rollback", &json!({"reason": "3 a.m."}));
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    signal(&server, rustix::process::Signal::STOP);
    mend();
    until("the replica can decide", || {
        (replica.status("churn")["trouble"] == Value::Null).then_some(())
    });
    replica.ordered("churn/rollback", &json!({"reason": "also 3 a.m."}));
    replica.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "9 a.m.: it was the data"}),
    );
    signal(&server, rustix::process::Signal::CONT);
    until("it is dropped", || {
        (server.status("churn")["pending"] == json!([])).then_some(())
    });
    assert_eq!(
        replica.actions("churn"),
        ["adopt", "rollback", "rollback", "rollback"]
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
}

#[test]
fn what_was_loaded_before_the_journal_could_be_read_gives_way_to_what_was_decided_on() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap().to_owned();
    let settings = [("state.url", url.as_str())];
    let models = models(&[("churn", "1.0.0")]);
    let server = Server::start(models.path(), &settings);
    kept(state.path(), "churn", 1);
    let digest = server.status("churn")["stable"]["digest"].clone();
    drop(server);
    let directory = models.path().join("churn/1.0.0");
    fs_err::write(directory.join("README.md"), "better words").unwrap();
    let (code, ..) = predictd(
        &["pack", directory.to_str().unwrap()],
        "",
        &[
            ("PREDICTD_STATE__URL", &url),
            ("PREDICTD_SERVER", "http://127.0.0.1:9"),
        ],
    );
    assert_eq!(code, 0);
    let mend = break_journal(state.path());
    let server = Server::begin(models.path(), &settings);
    until("the other files are loaded", || {
        (server.get("/models/churn/versions/1.0.0").status() == 200).then_some(())
    });
    mend();
    until("it answers", || {
        (server
            .predict("/models/churn/predict", &customer())
            .status()
            == 200)
            .then_some(())
    });
    let answer = server.predict("/models/churn/predict", &customer());
    assert_eq!(answer.headers()["x-model-digest"].to_str().unwrap(), digest);
    assert!(
        verbose(&server).contains("the copy kept in the state is served"),
        "{}",
        verbose(&server)
    );
}

#[test]
fn a_state_that_cannot_be_read_at_the_start_leaves_one_command() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    drop(server);
    let mend = break_journal(state.path());
    let server = Server::begin(models.path(), &settings);
    let named = "next: predictd rollback churn --to VERSION --never-stable --reason TEXT";
    until("the suggestion is shown", || {
        verbose(&server)
            .contains(r#""suggestion":{"kind":"roll-back-to-never-stable","to":null}"#)
            .then_some(())
    });
    let (code, text) = command(&server, &["rollback", "churn"]);
    assert!(code == 1 && text.contains(named), "{text}");
    let (code, text) = command(
        &server,
        &[
            "rollback",
            "churn",
            "--to",
            "1.0.0",
            "--never-stable",
            "--reason",
            "emergency",
        ],
    );
    assert!(code == 0 && text.contains("not written yet"), "{text}");
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    mend();
    until("it is written", || {
        (server.status("churn")["written"] == true).then_some(())
    });
    assert_eq!(server.actions("churn"), ["adopt", "start", "rollback"]);
    assert_eq!(
        (
            server.answered(CHURN, &customer()),
            &server.status("churn")["rollout"]
        ),
        ("1.0.0".to_owned(), &Value::Null)
    );
}

#[test]
fn damage_is_noticed_while_the_server_runs_and_a_rollback_outlives_it() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.0.0"], "plan": {"text": quick(HELD)}}),
    );
    let entry = state.path().join("journal/churn/00000003.json");
    let text = fs_err::read(&entry).unwrap();
    fs_err::write(&entry, &text[..80]).unwrap();
    until("it is told", || {
        verbose(&server)
            .contains("journal damaged at entry 3")
            .then_some(())
    });
    assert_eq!(server.refused("churn/rollout/pause", &json!({})).0, 503);
    let status = server.ordered(
        "churn/rollback",
        &json!({"to": "1.0.0", "reason": "1.1.0 is bad"}),
    );
    assert_eq!(
        (&status["stable"]["version"], &status["written"]),
        (&json!("1.0.0"), &json!(false))
    );
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    server.ordered("churn/history/repair", &json!({"reason": "a bad disk"}));
    until("all is written", || {
        (server.status("churn")["written"] == true).then_some(())
    });
    let (code, text) = command(&server, &["history", "churn", "--verify"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    drop(server);
    let server = Server::start(models.path(), &settings);
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
}

#[test]
fn a_repair_leaves_what_answers_where_it_is() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    let entry = state.path().join("journal/churn/00000002.json");
    let text = fs_err::read_to_string(&entry).unwrap();
    fs_err::write(&entry, text.replace("a test", "a jest")).unwrap();
    until("it is told", || {
        verbose(&server)
            .contains("journal damaged at entry 2")
            .then_some(())
    });
    assert_eq!(
        server.answered(CHURN, &customer()),
        "1.1.0",
        "damage costs no answers"
    );
    server.ordered("churn/history/repair", &json!({"reason": "altered"}));
    assert_eq!(server.actions("churn"), ["adopt", "repair", "rollback"]);
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    drop(server);
    let server = Server::start(models.path(), &settings);
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
}

#[test]
fn a_state_that_vanished_is_told_and_begun_anew_by_nobody_but_its_operator() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    kept(state.path(), "churn", 1);
    let journal = state.path().join("journal");
    fs_err::remove_dir_all(&journal).unwrap();
    until("it is told", || {
        verbose(&server)
            .contains("the state vanished: entry 1 of churn")
            .then_some(())
    });
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(server.get("/readyz").status(), 200, "what is known holds");
    drop(server);
    // Version 1.1.0 is the highest, and nobody decided on it.
    let server = Server::begin(models.path(), &settings);
    until("it is told", || {
        verbose(&server)
            .contains("is missing, though the state has packages or evidence of earlier decisions")
            .then_some(())
    });
    assert_ne!(server.predict(CHURN, &customer()).status(), 200);
    server.ordered(
        "churn/history/repair",
        &json!({"reason": "the disk was lost"}),
    );
    server.ready();
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
}

#[test]
fn room_for_a_rollback_is_kept_by_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("state.url", state.path().to_str().unwrap())];
    let (models, server) = churn(&settings);
    drop(server);
    fs_err::remove_file(state.path().join("reserve")).unwrap();
    let _server = Server::start(models.path(), &settings);
    until("it is there again", || {
        state.path().join("reserve").exists().then_some(())
    });
}

#[test]
fn a_damaged_journal_costs_changes_and_never_answers() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap().to_owned();
    let (models, server) = churn(&[("state.url", &url)]);
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.1.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/promote", &json!({}));
    install(models.path(), "churn", "1.2.0");
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.2.0"], "plan": {"text": quick(HELD)}}),
    );
    server.ordered("churn/rollout/promote", &json!({}));
    drop(server);
    let entry = |seq: u64| state.path().join(format!("journal/churn/{seq:08}.json"));
    // A power cut: the last entry's name is there, and none of its bytes.
    fs_err::write(entry(5), "").unwrap();
    let server = Server::start(models.path(), &[("state.url", &url)]);
    for _ in 0..20 {
        assert_eq!(
            server.answered(CHURN, &customer()),
            "1.1.0",
            "no candidate of a rollout that nobody could abort"
        );
    }
    assert!(
        verbose(&server).contains("journal damaged at entry 5, which can't be read"),
        "{}",
        verbose(&server)
    );
    let (code, text) = command(&server, &["rollback", "churn"]);
    assert!(
        code == 1 && text.contains("next: predictd history churn --repair --reason TEXT"),
        "{text}"
    );
    let (code, text) = command(&server, &["rollout", "status", "churn"]);
    assert!(
        code == 0 && text.contains("TROUBLE   no decision is possible: journal damaged at entry 5"),
        "{text}"
    );
    assert!(
        text.contains("; AT REST: candidates get no traffic until the journal is repaired")
            && !text.contains("running"),
        "{text}"
    );
    assert_eq!(
        command(&server, &["history", "churn", "--repair"]).0,
        2,
        "a reason is asked for"
    );
    let (code, text) = command(
        &server,
        &["history", "churn", "--repair", "--reason", "power cut"],
    );
    assert!(
        code == 0 && text.contains("repaired (entry 5)") && text.contains("rollout   none"),
        "{text}"
    );
    let last = server.history("churn").pop().unwrap();
    assert_eq!(
        (&last["action"], &last["reason"], &last["to"]["version"]),
        (&json!("repair"), &json!("power cut"), &json!("1.1.0"))
    );
    let aside = state
        .path()
        .join(last["details"]["set_aside"].as_str().unwrap());
    assert_eq!(fs_err::read(aside.join("00000005.json")).unwrap(), b"");
    let (code, text) = command(&server, &["history", "churn", "--verify"]);
    assert!(code == 0, "{text}");
    server.ordered("churn/rollback", &json!({}));
    drop(server);
    // The middle is missing: what comes before it holds, and nothing beyond it is deleted by the repair.
    fs_err::remove_file(entry(3)).unwrap();
    let server = Server::start(models.path(), &[("state.url", &url)]);
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    server.ordered("churn/history/repair", &json!({"reason": "a gap"}));
    assert_eq!(server.actions("churn"), ["adopt", "start", "repair"]);
    let (status, detail) = server.refused("churn/history/repair", &json!({"reason": "again"}));
    assert!(
        status == 422 && detail.contains("nothing to repair"),
        "{detail}"
    );
    drop(server);
    // The very first decision was cut off, and there is no other: the first choice is made again, for this process.
    for seq in [2, 3] {
        fs_err::remove_file(entry(seq)).unwrap();
    }
    fs_err::write(entry(1), "{").unwrap();
    let server = Server::start(models.path(), &[("state.url", &url)]);
    assert_eq!(server.answered(CHURN, &customer()), "1.2.0");
    server.ordered("churn/history/repair", &json!({"reason": "cut off"}));
    until("the choice is written", || {
        (server.actions("churn") == ["repair", "adopt"]).then_some(())
    });
}

/// Copies of versions that are kept: `DIGEST/NAME/VERSION`.
fn copies(state: &Path, model: &str) -> Vec<PathBuf> {
    let below = |directory: PathBuf| -> Vec<PathBuf> {
        let entries = fs_err::read_dir(directory)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path());
        entries
            .filter(|path| {
                path.is_dir() && !path.file_name().unwrap().to_string_lossy().starts_with('.')
            })
            .collect()
    };
    let digests = below(state.join("packages").join(model));
    let mut copies: Vec<PathBuf> = digests
        .into_iter()
        .flat_map(below)
        .flat_map(below)
        .collect();
    copies.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    copies
}

/// Waits until the stable version and the one before are copied.
pub fn kept(state: &Path, model: &str, count: usize) -> Vec<PathBuf> {
    until("the packages are kept", || {
        Some(copies(state, model)).filter(|copies| copies.len() == count)
    })
}

#[test]
fn tidying_the_models_directory_takes_no_way_back() {
    let state = tempfile::tempdir().unwrap();
    let settings = [
        ("state.url", state.path().to_str().unwrap()),
        ("models.rehearse_seconds", "0.2"),
    ];
    let (models, server) = churn(&settings);
    kept(state.path(), "churn", 1);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    kept(state.path(), "churn", 2);
    for version in ["1.0.0", "1.1.0"] {
        fs_err::remove_dir_all(models.path().join("churn").join(version)).unwrap();
    }
    until("it is told", || {
        verbose(&server).contains("its files are gone from the models directory: the copy kept in the state is served").then_some(())
    });
    until("both are counted", || {
        (server.metric(r#"predictd_models_ignored{reason="files_gone"}"#) == 2.0).then_some(())
    });
    drop(server);
    let server = Server::start(models.path(), &settings);
    assert_eq!(server.answered(CHURN, &customer()), "1.1.0");
    until("the way back works", || {
        (server.status("churn")["rollback"]["ready"] == true).then_some(())
    });
    let (code, text) = command(&server, &["rollback", "churn"]);
    assert!(code == 0 && text.contains("1.1.0 -> 1.0.0"), "{text}");
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    // Nothing leads to 1.1.0 any more.
    kept(state.path(), "churn", 1);
    // The files come back, and are the ones that are looked at again.
    install(models.path(), "churn", "1.0.0");
    until("they are found", || {
        (!verbose(&server).contains("the copy kept in the state")).then_some(())
    });
    assert_eq!(
        server.metric(r#"predictd_models_ignored{reason="files_gone"}"#),
        0.0
    );
    drop(server);
    // A model that was removed as a whole, while no server ran, does not come back.
    fs_err::remove_dir_all(models.path().join("churn")).unwrap();
    graph(models.path(), "m", 1, "nan_rows", None);
    let server = Server::start(models.path(), &settings);
    assert_eq!(server.get("/models/churn").status(), 404);
}

#[test]
fn a_copy_that_could_not_be_made_is_made_later() {
    let state = tempfile::tempdir().unwrap();
    // A file where the copies should lie: also root can't write below it.
    fs_err::write(state.path().join("packages"), "not a directory").unwrap();
    let (_models, server) = churn(&[("state.url", state.path().to_str().unwrap())]);
    let told =
        "no copy of the package can be kept: its files in the models directory are the only ones";
    until("it is told", || server.logged(told).pop());
    fs_err::remove_file(state.path().join("packages")).unwrap();
    kept(state.path(), "churn", 1);
    assert_eq!(server.logged(told).len(), 1, "once, and not at every try");
}

#[test]
fn the_command_that_is_named_for_a_lost_stable_version_works() {
    let state = tempfile::tempdir().unwrap();
    let settings = [
        ("state.url", state.path().to_str().unwrap()),
        ("state.keep_packages", "false"),
    ];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    drop(server);
    fs_err::remove_dir_all(models.path().join("churn/1.1.0")).unwrap();
    let server = Server::begin(models.path(), &settings);
    let named = "predictd rollback churn --to 1.0.0 --never-stable --reason TEXT";
    until("the suggestion is shown", || {
        verbose(&server)
            .contains(r#""suggestion":{"kind":"roll-back-to-never-stable","to":"1.0.0"}"#)
            .then_some(())
    });
    let (_, text) = command(&server, &["models"]);
    assert!(text.contains(&format!("  next: {named}\n")), "{text}");
    let (_, text) = command(&server, &["rollout", "status", "churn"]);
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("churn  DOES NOT ANSWER: the stable version 1.1.0 of the journal")
            && text.contains(&format!("  next      {named}\n")),
        "{text}"
    );
    let (code, text) = command(
        &server,
        &[
            "rollback",
            "churn",
            "--to",
            "1.0.0",
            "--never-stable",
            "--reason",
            "TEXT",
        ],
    );
    assert_eq!(code, 0, "{text}");
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    server.ready();
}

#[test]
fn no_command_leads_to_what_was_left_though_the_stable_version_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let settings = [
        ("state.url", state.path().to_str().unwrap()),
        ("state.keep_packages", "false"),
    ];
    let (models, server) = churn(&settings);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    server.ordered("churn/rollback", &json!({}));
    drop(server);
    fs_err::remove_dir_all(models.path().join("churn/1.0.0")).unwrap();
    let server = Server::begin(models.path(), &settings);
    until("it is told", || {
        verbose(&server)
            .contains(r#""suggestion":{"kind":"restore-files"}"#)
            .then_some(())
    });
    assert!(
        !verbose(&server).contains(r#""to":"1.1.0""#),
        "{}",
        verbose(&server)
    );
}

#[test]
fn where_no_copy_is_kept_a_lost_way_back_is_told_before_the_restart() {
    let (models, server) = churn(&[
        ("models.rehearse_seconds", "0.2"),
        ("state.keep_packages", "false"),
    ]);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    until("the way back works", || {
        (server.metric(ready) == 1.0).then_some(())
    });
    fs_err::remove_dir_all(models.path().join("churn/1.0.0")).unwrap();
    until("the way back is known to be lost", || {
        (server.metric(ready) == 0.0).then_some(())
    });
    let (_, text) = command(&server, &["rollout", "status", "churn"]);
    assert!(text.contains("would NOT work: the files of 1.0.0 are gone: it answers from memory, and a restart would lose it"), "{text}");
}

#[test]
fn what_is_packed_anew_under_an_old_version_ends_no_server() {
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap().to_owned();
    let settings = [("state.url", url.as_str())];
    let models = models(&[("churn", "1.0.0")]);
    let server = Server::start(models.path(), &settings);
    kept(state.path(), "churn", 1);
    let digest = server.status("churn")["stable"]["digest"].clone();
    drop(server);
    // Pack, serve, edit, pack again: as a newcomer does.
    let directory = models.path().join("churn/1.0.0");
    fs_err::write(directory.join("README.md"), "better words").unwrap();
    let environment = [
        ("PREDICTD_STATE__URL", url.as_str()),
        ("PREDICTD_SERVER", "http://127.0.0.1:9"),
    ];
    let (code, output, _) = predictd(&["pack", directory.to_str().unwrap()], "", &environment);
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("warning churn 1.0.0 is in the journal with other files")
            && output.contains("--bump"),
        "{output}"
    );
    let server = Server::start(models.path(), &settings);
    assert_eq!(server.answered(CHURN, &customer()), "1.0.0");
    assert_eq!(server.status("churn")["stable"]["digest"], digest);
    assert!(
        verbose(&server).contains("its files in the models directory are ignored"),
        "{}",
        verbose(&server)
    );
    assert!(
        verbose(&server).contains("a changed package needs a new version"),
        "{}",
        verbose(&server)
    );
    assert!(
        !verbose(&server).contains("new version; a changed"),
        "{}",
        verbose(&server)
    );
    // Under a version of its own it is what a rollout takes.
    let (code, output, _) = predictd(
        &["pack", directory.to_str().unwrap(), "--bump"],
        "",
        &environment,
    );
    assert!(
        code == 0 && output.contains("packed churn/1.0.1"),
        "{output}"
    );
    assert_eq!(
        fs_err::read_to_string(models.path().join("churn/1.0.1/README.md")).unwrap(),
        "better words"
    );
    server.ordered(
        "churn/rollout/start",
        &json!({"to": ["1.0.1"], "plan": {"text": quick(HELD)}}),
    );
    let (code, output, _) = predictd(
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
    graph(models, "iris", version, "iris", Some(LABELS));
    fs_err::write(
        models.join("iris/labels.txt"),
        "setosa\nversicolor\nvirginica\n",
    )
    .unwrap();
}

#[test]
fn a_kept_graph_is_loaded_with_what_lay_beside_it() {
    let (models, state) = (models(&[]), tempfile::tempdir().unwrap());
    let settings = [("state.url", state.path().to_str().unwrap())];
    iris(models.path(), 1);
    let server = Server::start(models.path(), &settings);
    kept(state.path(), "iris", 1);
    drop(server);
    for lost in ["1/model.onnx", "config.pbtxt", "labels.txt"] {
        fs_err::remove_file(models.path().join("iris").join(lost)).unwrap();
    }
    let server = Server::start(models.path(), &settings);
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
    let (models, state) = (models(&[]), tempfile::tempdir().unwrap());
    let settings = [("state.url", state.path().to_str().unwrap())];
    iris(models.path(), 1);
    let server = Server::start(models.path(), &settings);
    kept(state.path(), "iris", 1);
    // The same bytes under another version: each has its copy.
    iris(models.path(), 2);
    server.ordered(
        "iris/rollback",
        &json!({"to": "2", "never_stable": true, "reason": "a test"}),
    );
    kept(state.path(), "iris", 2);
    drop(server);
    for lost in ["1/model.onnx", "2/model.onnx", "config.pbtxt", "labels.txt"] {
        fs_err::remove_file(models.path().join("iris").join(lost)).unwrap();
    }
    let server = Server::start(models.path(), &settings);
    until("the way back works", || {
        (server.status("iris")["rollback"]["ready"] == true).then_some(())
    });
    for version in ["2", "1"] {
        assert_eq!(server.status("iris")["stable"]["version"], version);
        let answer = setosa(&server);
        assert!(answer.contains(":setosa"), "{version}: {answer}");
        if version == "2" {
            server.ordered("iris/rollback", &json!({}));
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
    graph(models, "m", version, "nan_rows", None);
}

#[test]
fn a_disk_with_room_for_two_copies_gets_the_third_too() {
    let Some(disk) = SmallDisk::mount(3200) else {
        return;
    };
    let (models, state) = (models(&[]), disk.0.path().join("state"));
    large(models.path(), 1, 1000);
    let server = Server::start(models.path(), &[("state.url", state.to_str().unwrap())]);
    kept(&state, "m", 1);
    for version in [2, 3] {
        large(models.path(), version, 1000);
        let version = version.to_string();
        server.ordered(
            "m/rollback",
            &json!({"to": version, "never_stable": true, "reason": "a test"}),
        );
        until("both are kept", || {
            let copies = copies(&state, "m");
            (copies.len() == 2 && copies.last()?.ends_with(&version)).then_some(())
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
    let (models, state) = (models(&[]), disk.0.path().join("state"));
    // It would fit, with less than a twentieth of the disk left.
    large(models.path(), 1, 9400);
    let server = Server::start(models.path(), &[("state.url", state.to_str().unwrap())]);
    let told = until("it is told", || server.logged(UNKEPT).pop());
    let error = told["error"].as_str().unwrap();
    assert!(
        error.contains("bytes are free")
            && error.contains("512000 of them are left to the journal"),
        "{error}"
    );
    assert!(copies(&state, "m").is_empty());
    assert_eq!(
        fs_err::read_dir(state.join("packages/m")).unwrap().count(),
        0,
        "nothing is begun"
    );
}

#[test]
fn what_a_killed_server_left_behind_is_removed() {
    let state = tempfile::tempdir().unwrap();
    let place = state.path().join("packages/churn");
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
    let models = models(&[("churn", "1.0.0")]);
    let server = Server::start(
        models.path(),
        &[("state.url", state.path().to_str().unwrap())],
    );
    until("it is removed", || (!old.exists()).then_some(()));
    kept(state.path(), "churn", 1);
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
        let (code, output, _) = predictd(&["pack", directory.to_str().unwrap()], "", &[]);
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
        let (models, server) = churn(&[
            ("models.rehearse_seconds", "0.2"),
            ("state.keep_packages", "false"),
        ]);
        server.ordered(
            "churn/rollback",
            &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
        );
        until("the way back works", || {
            (server.metric(ready) == 1.0).then_some(())
        });
        let directory = models.path().join("churn/1.0.0");
        change(&directory);
        until("the way back is known to be lost", || {
            (server.metric(ready) == 0.0).then_some(())
        });
        let (_, text) = command(&server, &["rollout", "status", "churn"]);
        assert!(
            text.contains("would NOT work: the files of 1.0.0 differ from the loaded ones (")
                && text.contains(why),
            "{text}"
        );
        // Put back, they count again.
        fs_err::remove_dir_all(&directory).unwrap();
        install(models.path(), "churn", "1.0.0");
        until("the way back works again", || {
            (server.metric(ready) == 1.0).then_some(())
        });
    }
}

#[test]
fn a_damaged_copy_is_made_again_and_is_no_way_back() {
    let state = tempfile::tempdir().unwrap();
    let (models, server) = churn(&[
        ("state.url", state.path().to_str().unwrap()),
        ("models.rehearse_seconds", "0.2"),
    ]);
    kept(state.path(), "churn", 1);
    server.ordered(
        "churn/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    let graphs = kept(state.path(), "churn", 2)
        .into_iter()
        .map(|copy| copy.join("model.onnx"))
        .collect::<Vec<_>>();
    for graph in &graphs {
        let bytes = fs_err::read(graph).unwrap();
        fs_err::write(graph, &bytes[..bytes.len() / 2]).unwrap();
        until("the copy is whole again", || {
            (fs_err::read(graph).ok()? == bytes).then_some(())
        });
    }
    let ready = r#"predictd_rollback_ready{model="churn",version="1.0.0"}"#;
    until("the way back works", || {
        (server.metric(ready) == 1.0).then_some(())
    });
    // A copy of what the models directory lost is a way back while it is whole.
    fs_err::remove_dir_all(models.path().join("churn/1.0.0")).unwrap();
    until("it is told", || {
        verbose(&server)
            .contains("the copy kept in the state is served")
            .then_some(())
    });
    assert_eq!(server.status("churn")["rollback"]["ready"], true);
    fs_err::write(&graphs[0], "cut off").unwrap();
    until("the way back is known to be lost", || {
        (server.metric(ready) == 0.0).then_some(())
    });
    let (_, text) = command(&server, &["rollout", "status", "churn"]);
    assert!(
        text.contains(
            "the files of 1.0.0 are gone, and its copy in the state is damaged (model.onnx has 7 of"
        ),
        "{text}"
    );
}

#[test]
fn why_a_rollback_would_not_work_is_told_without_values_of_live_requests() {
    let (models, elsewhere) = (models(&[]), tempfile::tempdir().unwrap());
    let number = || side(json!({"x": {"type": "number"}}));
    let schema = json!({"input": number(), "output": side(json!({"y": {"type": "number"}}))});
    // The graph of 1.0.0 looks its input up in a table of ten; that of 1.1.0 takes any.
    let versions = [
        (models.path(), "fails_rows", "1.0.0", "10"),
        (elsewhere.path(), "nan_rows", "1.1.0", "1"),
    ];
    let [_, new] = versions.map(|(place, fixture, version, answer)| {
        let directory = draft(place, "table", fixture, &schema, &Value::Null);
        fs_err::write(
            directory.join("golden.jsonl"),
            format!("{{\"input\": {{\"x\": 1}}, \"output\": {{\"y\": {answer}}}}}\n"),
        )
        .unwrap();
        repack(&directory, "table", version);
        directory
    });
    let server = Server::start(models.path(), &[("models.rehearse_seconds", "0.2")]);
    copy(&new, &models.path().join(".table"));
    fs_err::rename(
        models.path().join(".table"),
        models.path().join("table/1.1.0"),
    )
    .unwrap();
    server.ordered(
        "table/rollback",
        &json!({"to": "1.1.0", "never_stable": true, "reason": "a test"}),
    );
    let reason = until("a live request is tried on 1.0.0", || {
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
    until("it is logged", || {
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
