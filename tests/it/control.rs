//! The commands of operators, over the real server: what they print, how they end, and what they find out of a journal.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::harness::{PREDICTD, Server, install, instance, models, root, until};

const HELD: &str = "name = \"held\"\n[[steps]]\nkind = \"canary\"\nweight = 0.5\nhold = true\n";

struct Operator<'a> {
    server: &'a Server,
    token: &'a str,
}

impl Operator<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let admin = self.server.logged("listening")[0]["admin"].as_str().unwrap().to_owned();
        let mut command = Command::new(PREDICTD);
        command.args(arguments).env("PREDICTD_SERVER", format!("http://{admin}")).env("PREDICTD_TOKEN", self.token).current_dir(root());
        command
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        told(&self.command(arguments).output().unwrap())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn start(settings: &[(&str, &str)]) -> (tempfile::TempDir, tempfile::TempDir, Server) {
    let (models, state) = (models(&[("churn", "1.0.0")]), tempfile::tempdir().unwrap());
    let url = state.path().to_str().unwrap().to_owned();
    let server = Server::start(models.path(), &[&[("state.url", url.as_str())], settings].concat());
    install(models.path(), "churn", "1.1.0");
    (models, state, server)
}

fn plan(directory: &Path) -> String {
    let path = directory.join("held.toml");
    fs_err::write(&path, HELD).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_rollout_by_its_commands() {
    let (_models, state, server) = start(&[]);
    let operator = Operator { server: &server, token: "" };
    let plan = plan(state.path());
    let dry = operator.ok(&["rollout", "start", "churn", "--to", "1.1.0", "--dry-run"]);
    for part in ["nothing was started", "shadow 10 %", "canary 5 %", "1.0.0 -> 1.1.0: compatible"] {
        assert!(dry.contains(part), "{part}\n{dry}");
    }
    let started = operator.ok(&["rollout", "start", "churn", "--to", "1.1.0", "--plan", &plan, "--reason", "better"]);
    assert!(started.contains("1.1.0 begins step 1 of 1 (entry 2)"), "{started}");
    for _ in 0..50 {
        server.predict("/models/churn/predict", &instance("churn", "1.0.0"));
    }
    let status = until("the judge has looked", || {
        let status = operator.ok(&["rollout", "status", "churn"]);
        (status.contains("verdict") && !status.contains("no data yet")).then_some(status)
    });
    for part in [
        "stable    1.0.0",
        "plan held",
        "canary 50 %, until a person decides",
        "candidate",
        "errors",
        "next      predictd rollout promote churn",
    ] {
        assert!(status.contains(part), "{part}\n{status}");
    }
    let document: Value = serde_json::from_str(&operator.ok(&["rollout", "status", "churn", "--json"])).unwrap();
    assert_eq!(document["rollout"]["plan"]["name"], "held");
    assert!(operator.ok(&["rollout", "status"]).contains("plan held"));
    assert!(operator.ok(&["rollout", "pause", "churn", "--reason", "lunch"]).contains("PAUSED by"));
    operator.ok(&["rollout", "resume", "churn"]);
    let promoted = operator.ok(&["rollout", "promote", "churn"]);
    assert!(promoted.contains("promoted: 1.1.0 is the stable version (entry 5)"), "{promoted}");
    let back = operator.ok(&["rollback", "churn", "--reason", "3 a.m."]);
    assert!(back.contains("churn: rolled back 1.1.0 -> 1.0.0 in") && back.contains("(entry 6)"), "{back}");
    let history = operator.ok(&["history", "churn"]);
    for part in ["adopt", "start", "pause", "resume", "promote", "rollback", "1.1.0 -> 1.0.0", "lunch", "3 a.m.", "plan held"] {
        assert!(history.contains(part), "{part}\n{history}");
    }
    let last = operator.ok(&["history", "churn", "--limit", "1"]);
    assert!(last.contains("rollback") && !last.contains("adopt"), "{last}");
    let entries: Value = serde_json::from_str(&operator.ok(&["history", "churn", "--json"])).unwrap();
    assert_eq!(entries["entries"].as_array().unwrap().len(), 6);
}

#[test]
fn what_is_refused_and_what_is_wrong_usage() {
    let (models, _state, server) = start(&[]);
    install(models.path(), "churn", "2.0.0");
    let operator = Operator { server: &server, token: "" };
    for (arguments, code, part) in [
        (&["rollout", "start", "churn", "--to", "2.0.0"] as &[&str], 1, "breaking: input /autopay"),
        (&["rollout", "start", "nowhere", "--to", "1.0.0"], 1, "there is no model"),
        (&["rollout", "start", "churn", "--to", "1.1.0", "--plan", "no-such.toml"], 1, "no-such.toml"),
        (&["rollout", "start", "churn", "--to", "1.1.0", "--plan", "bold"], 1, "there is no plan \"bold\""),
        (&["rollout", "promote", "churn"], 1, "no rollout"),
        (&["rollback", "churn"], 1, "no stable version before"),
        (&["history", "nowhere"], 1, "there is no model"),
        (&["rollout", "start", "churn"], 2, "--to"),
        (&["rollout", "abort", "churn"], 2, "--reason"),
        (&["rollout", "start", "churn", "--to", "one"], 2, "not a version"),
        (&["rollback", "../churn"], 2, "not the name of a model"),
        (&["history", "churn", "--server", "localhost:1"], 2, "http://HOST:PORT"),
        (&["history", "churn", "--server", "http://127.0.0.1:1"], 1, "nothing answers at http://127.0.0.1:1"),
    ] {
        let (exit, out, err) = operator.run(arguments);
        assert!(exit == code && err.contains(part) && out.is_empty(), "{arguments:?}: {exit}\n{out}\n{err}");
    }
    // The data plane's address is a mistake that is easily made.
    let (code, _, err) = operator.run(&["rollout", "status", "--server", &server.url("")]);
    assert!(code == 1 && err.contains("not as predictd's admin listener"), "{err}");
}

#[test]
fn a_high_risk_needs_two_names() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    fs_err::write(&tokens, "ann aaaaaaaaaaaaaaaaaaaa\nbob bbbbbbbbbbbbbbbbbbbb\n").unwrap();
    let (_models, _state, server) = start(&[("admin.token_file", tokens.to_str().unwrap())]);
    let as_who = |token| Operator { server: &server, token };
    let (ann, bob) = (as_who("aaaaaaaaaaaaaaaaaaaa"), as_who("bbbbbbbbbbbbbbbbbbbb"));
    let (code, _, err) = as_who("").run(&["rollout", "status"]);
    assert!(code == 1 && err.contains("PREDICTD_TOKEN"), "{err}");
    let started = ann.ok(&["rollout", "start", "churn", "--to", "1.1.0", "--plan", "high"]);
    assert!(started.contains("waits for the approval of a second name"), "{started}");
    for _ in 0..50 {
        assert_eq!(server.predict("/models/churn/predict", &instance("churn", "1.0.0")).headers()["x-model-version"], "1.0.0");
    }
    let (code, _, err) = ann.run(&["rollout", "approve", "churn"]);
    assert!(code == 1 && err.contains("a second verified name"), "{err}");
    assert!(ann.run(&["rollout", "promote", "churn"]).2.contains("waits for an approval"));
    let approved = bob.ok(&["rollout", "approve", "churn", "--reason", "looked at it"]);
    assert!(approved.contains("approved: 1.1.0 begins step 1"), "{approved}");
    let history = bob.ok(&["history", "churn"]);
    assert!(history.contains("by ann") && history.contains("by bob"), "{history}");
}

#[test]
fn watching_ends_with_the_rollout() {
    let (_models, state, server) = start(&[]);
    let operator = Operator { server: &server, token: "" };
    operator.ok(&["rollout", "start", "churn", "--to", "1.1.0", "--plan", &plan(state.path())]);
    let mut watch = operator.command(&["rollout", "status", "churn", "--watch"]);
    let watch = thread::spawn(move || watch.output().unwrap());
    let asked = || server.log().len();
    let before = asked();
    operator.ok(&["rollout", "abort", "churn", "--reason", "seen enough"]);
    let (code, out, _) = told(&watch.join().unwrap());
    assert!(code == 1 && out.contains("the rollout of 1.1.0 ended: abort by") && out.contains("seen enough"), "{code} {out} {before}");
}

#[test]
fn a_journal_that_was_tampered_with_is_found_out() {
    let (_models, state, server) = start(&[]);
    let operator = Operator { server: &server, token: "" };
    for version in ["1.1.0", "1.0.0", "1.1.0"] {
        operator.ok(&["rollback", "churn", "--to", version]);
    }
    let directory = state.path().join("journal/churn");
    let offline = |arguments: &[&str]| {
        let state = state.path().to_str().unwrap();
        told(&Command::new(PREDICTD).args([arguments, &["--state", state]].concat()).output().unwrap())
    };
    let verify = ["history", "churn", "--verify"];
    assert!(operator.ok(&verify).contains("ok: 4 entries"));
    let (code, out, _) = offline(&verify);
    assert!(code == 0 && out.contains("ok: 4 entries"), "{out}");
    assert!(offline(&["history", "churn"]).1.contains("rollback"));

    let file = |seq: u64| directory.join(format!("{seq:08}.json"));
    let texts: Vec<String> = (1..=4).map(|seq| fs_err::read_to_string(file(seq)).unwrap()).collect();
    let restore = || (1..=4).for_each(|seq| fs_err::write(file(seq), &texts[seq as usize - 1]).unwrap());
    type Tamper<'a> = Box<dyn Fn() + 'a>;
    let cases: Vec<(&str, Tamper<'_>, &str, bool)> = vec![
        ("altered", Box::new(|| fs_err::write(file(2), texts[1].replace("unverified", "somebody")).unwrap()), "entry 2", true),
        ("the last altered", Box::new(|| fs_err::write(file(4), texts[3].replace("unverified", "somebody")).unwrap()), "entry 4", true),
        ("missing", Box::new(|| fs_err::remove_file(file(2)).unwrap()), "entry 2", true),
        (
            "reordered",
            Box::new(|| {
                fs_err::write(file(2), &texts[2]).unwrap();
                fs_err::write(file(3), &texts[1]).unwrap();
            }),
            "entry 2",
            true,
        ),
        ("truncated", Box::new(|| fs_err::remove_file(file(4)).unwrap()), "entry 4", false),
    ];
    for (what, tamper, part, seen_offline) in cases {
        tamper();
        let (code, out, _) = operator.run(&verify);
        assert!(code == 1 && out.contains(part), "{what}: {code} {out}");
        let (code, out, _) = offline(&verify);
        assert_eq!(code, i32::from(seen_offline), "{what}: {out}");
        restore();
        assert!(operator.ok(&verify).contains("ok: 4 entries"), "{what}");
    }
    // A server that runs is not led astray: what it decided holds.
    assert_eq!(server.predict("/models/churn/predict", &instance("churn", "1.0.0")).headers()["x-model-version"], "1.1.0");
}

#[test]
fn decisions_are_told_to_the_webhook() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?secret=s3cret", listener.local_addr().unwrap());
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let hears = Arc::clone(&heard);
    thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
            let body = loop {
                let count = stream.read(&mut chunk).unwrap();
                request.extend_from_slice(&chunk[..count]);
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length: usize =
                        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap();
                    if body.len() >= length {
                        break body.to_owned();
                    }
                }
            };
            // The first one fails, and is sent again.
            let status = if turn == 0 { "500 Oops" } else { "200 OK" };
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            if turn > 0 {
                hears.lock().unwrap().push(serde_json::from_str(&body).unwrap());
            }
        }
    });
    let (_models, _state, server) = start(&[("admin.webhook", &url)]);
    let operator = Operator { server: &server, token: "" };
    operator.ok(&["rollback", "churn", "--to", "1.1.0", "--reason", "a test"]);
    until("both decisions are told", || (heard.lock().unwrap().len() == 2).then_some(()));
    let told = heard.lock().unwrap().clone();
    assert_eq!((&told[0]["action"], &told[1]["action"]), (&json!("adopt"), &json!("rollback")));
    let text = told[1]["text"].as_str().unwrap();
    assert!(text.starts_with("churn: rollback 1.0.0 -> 1.1.0 by unverified:") && text.ends_with(": a test"), "{text}");
    assert!(!server.log().iter().any(|line| line.to_string().contains("s3cret")), "a webhook's URL is a secret");
    assert_eq!(server.metric("predictd_webhook_failures_total"), 0.0);
}
