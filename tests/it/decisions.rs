//! Decisions that survive: servers killed at any moment, and several of them on one state.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, instance, models, until};

const CHURN: &str = "/models/churn/predict";

/// The judge takes it from its first step to the second, where it stays.
const PLAN: &str = "name = \"quick\"\nalpha = 0.4\n[guards]\nerror_margin = 0.9\nnan_margin = 0.9\nrun_margin = 0.9\nengine_time_margin = 0.99\ncost_margin = 0.99\nerror_ceiling = 0.99\n[[steps]]\nkind = \"canary\"\nweight = 0.4\nmin_requests = 2\n[[steps]]\nkind = \"canary\"\nweight = 0.5\nhold = true\n";

fn admin(server: &Server) -> String {
    format!(
        "http://{}/admin/models/churn",
        server.logged("listening")[0]["admin"].as_str().unwrap()
    )
}

fn start(models: &Path, state: &Path) -> Server {
    Server::start(
        models,
        &[
            ("state.url", state.to_str().unwrap()),
            ("models.keep_versions", "3"),
        ],
    )
}

/// An entry's number, what it decided and of which version.
type Written = (u64, String, String, String);

fn history(client: &Client, admin: &str) -> Vec<Written> {
    let history: Value = client
        .get(format!("{admin}/history"))
        .send()
        .unwrap()
        .json()
        .unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = history["entries"].as_array().unwrap().iter().map(|entry| {
        let entry: Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
        (
            entry["seq"].as_u64().unwrap(),
            text(&entry["action"]),
            text(&entry["to"]["version"]),
            text(&entry["actor"]),
        )
    });
    entries.collect()
}

/// The reference: what the entries come to. (stable, way back, candidate)
fn fold(entries: &[Written]) -> (String, Vec<String>, Option<String>) {
    let (mut stable, mut former, mut candidate) = (String::new(), Vec::<String>::new(), None);
    for (_, action, to, _) in entries {
        match action.as_str() {
            "adopt" => stable.clone_from(to),
            "start" => candidate = Some(to.clone()),
            "promote" => {
                former.push(std::mem::replace(&mut stable, to.clone()));
                candidate = None;
            }
            "abort" => candidate = None,
            // It ends the rollout that runs; the stable version stays.
            "rollback" if candidate.take().is_some() && *to == stable => {}
            "rollback" => {
                match former.iter().rposition(|version| version == to) {
                    Some(at) => former.truncate(at),
                    None => former.push(stable.clone()),
                }
                stable.clone_from(to);
            }
            _ => {}
        }
    }
    (stable, former, candidate)
}

/// Deterministic numbers (xorshift), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "1.2.0"];

/// An order that makes sense more often than not, and the entries that it writes.
fn order(dice: &mut Dice, status: &Value) -> (&'static str, Value) {
    let stable = status["stable"]["version"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let others: Vec<&str> = VERSIONS
        .into_iter()
        .filter(|version| **version != *stable)
        .collect();
    let other = others[dice.below(others.len() as u64) as usize];
    let running = !status["rollout"].is_null();
    match dice.below(5) {
        4 if running => ("rollback", json!({"reason": "a test"})),
        0 if running => ("rollout/abort", json!({"reason": "no"})),
        1 | 2 if running => (
            "rollout/promote",
            json!({"without_way_back": true, "reason": "a test"}),
        ),
        3 => (
            "rollback",
            json!({"to": other, "never_stable": true, "reason": "a test"}),
        ),
        _ if running => (
            "rollout/promote",
            json!({"without_way_back": true, "reason": "a test"}),
        ),
        _ => (
            "rollout/start",
            json!({"to": [other], "plan": {"text": PLAN}, "allow_forward_only": true, "reason": "a test"}),
        ),
    }
}

#[test]
fn killed_100_times_at_any_moment_of_200_transitions() {
    const TRANSITIONS: u64 = 200;
    const KILLS: u64 = 100;
    let models = models(&VERSIONS.map(|version| ("churn", version)));
    let state = tempfile::tempdir().unwrap();
    let seed = 0x5eed_2026_1124_0001;
    let mut dice = Dice(seed);
    let body = instance("churn", "1.0.0").to_string();
    let (mut acknowledged, mut kills, mut lost_answers, mut steps) = (0, 0, 0, 0);
    // The last acknowledged entry's number, and the order that was under way when the server died.
    let mut under_way: Option<&str> = None;
    while acknowledged < TRANSITIONS || kills < KILLS {
        let mut server = start(models.path(), state.path());
        let admin = admin(&server);
        // What holds after the restart is what was acknowledged, or with it what was under way, and what the judge decided.
        let entries = history(&server.client, &admin);
        let beyond: Vec<&Written> = entries
            .iter()
            .filter(|(seq, ..)| *seq > acknowledged)
            .collect();
        assert!(
            entries.len() as u64 >= acknowledged,
            "seed {seed:x}: {acknowledged} entries were acknowledged, {} are there",
            entries.len()
        );
        for (_, action, _, actor) in &beyond {
            let ordered = under_way.is_some_and(|order| order.ends_with(action.as_str()));
            assert!(
                acknowledged == 0 || actor == "judge" || ordered,
                "seed {seed:x}: {beyond:?}, under way {under_way:?}"
            );
        }
        lost_answers +=
            usize::from(under_way.is_some() && beyond.iter().any(|(.., actor)| actor != "judge"));
        let status: Value = server.client.get(&admin).send().unwrap().json().unwrap();
        let (stable, former, candidate) = fold(&entries);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        assert_eq!(
            text(&status["stable"]["version"]),
            Some(stable.clone()),
            "seed {seed:x}: {entries:?}"
        );
        assert_eq!(
            text(&status["previous"]["version"]),
            former.last().cloned(),
            "seed {seed:x}: {entries:?}"
        );
        assert_eq!(
            text(&status["rollout"]["candidates"][0]["version"]),
            candidate,
            "seed {seed:x}: {entries:?}"
        );
        steps = entries
            .iter()
            .filter(|(_, action, ..)| action == "advance")
            .count();
        if candidate.is_none() {
            let answer = server
                .client
                .post(server.url(CHURN))
                .header("content-type", "application/json")
                .body(body.clone())
                .send()
                .unwrap();
            assert_eq!(
                answer.headers()["x-model-version"].to_str().unwrap(),
                stable
            );
        }
        acknowledged = entries.len() as u64;

        // Orders one after the other under load, until the server is killed in the middle of whatever it does.
        let stop = Arc::new(AtomicBool::new(false));
        let load = [(); 2].map(|()| {
            let (stop, url, client, body) = (
                Arc::clone(&stop),
                server.url(CHURN),
                server.client.clone(),
                body.clone(),
            );
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = client
                        .post(&url)
                        .header("content-type", "application/json")
                        .body(body.clone())
                        .send();
                }
            })
        });
        // Some live long enough for the judge to take a step.
        let life = if dice.below(4) == 0 { 900_000 } else { 120_000 };
        let doomed = Instant::now() + Duration::from_micros(2_000 + dice.below(life));
        let pid = server.child.id().to_string();
        let killer = thread::spawn(move || {
            while let Some(left) = doomed.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            std::process::Command::new("kill")
                .args(["-9", &pid])
                .status()
                .unwrap();
        });
        under_way = None;
        let mut status = status;
        loop {
            if status["rollout"]["step"] == 0 && dice.below(200) > 0 && life > 120_000 {
                let Ok(fresh) = server
                    .client
                    .get(&admin)
                    .send()
                    .and_then(reqwest::blocking::Response::json::<Value>)
                else {
                    break;
                };
                acknowledged = acknowledged.max(fresh["seq"].as_u64().unwrap());
                status = fresh;
                continue;
            }
            let (path, document) = order(&mut dice, &status);
            under_way = Some(path);
            let Ok(response) = server
                .client
                .post(format!("{admin}/{path}"))
                .body(document.to_string())
                .send()
            else {
                break;
            };
            let (code, Ok(answer)) = (response.status(), response.json::<Value>()) else {
                break;
            };
            under_way = None;
            if code == 200 {
                acknowledged = answer["seq"].as_u64().unwrap();
                status = answer;
            } else {
                // The judge came first, or the status was old.
                let Ok(fresh) = server
                    .client
                    .get(&admin)
                    .send()
                    .and_then(reqwest::blocking::Response::json::<Value>)
                else {
                    break;
                };
                acknowledged = acknowledged.max(fresh["seq"].as_u64().unwrap());
                status = fresh;
            }
        }
        killer.join().unwrap();
        server.child.wait().unwrap();
        stop.store(true, Ordering::Relaxed);
        load.into_iter().for_each(|thread| thread.join().unwrap());
        kills += 1;
    }
    println!(
        "{acknowledged} transitions, {kills} kills, {lost_answers} orders done whose answer was lost, {steps} steps by the judge"
    );
    assert!(steps > 0, "{kills} kills, {steps} steps");
}

#[test]
fn a_replica_that_lags_goes_on_with_what_it_has() {
    let (ahead, behind) = (
        models(&[("churn", "1.0.0"), ("churn", "1.1.0")]),
        models(&[("churn", "1.0.0")]),
    );
    let state = tempfile::tempdir().unwrap();
    // Else it would take the copy that is kept beside the journal.
    let start = |models: &Path, state: &Path| {
        Server::start(
            models,
            &[
                ("state.url", state.to_str().unwrap()),
                ("state.keep_packages", "false"),
            ],
        )
    };
    let ahead = (start(ahead.path(), state.path()), ahead);
    let answering = |server: &Server| {
        let answer = server.predict(CHURN, &instance("churn", "1.0.0"));
        assert_eq!(answer.status(), 200);
        answer.headers()["x-model-version"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let url = admin(&ahead.0);
    let order = |to: &str| {
        ahead
            .0
            .client
            .post(format!("{url}/rollback"))
            .body(json!({"to": to, "never_stable": true, "reason": "a test"}).to_string())
            .send()
            .unwrap()
            .status()
    };
    assert_eq!(order("1.0.0"), 200);
    let behind = (start(behind.path(), state.path()), behind);
    assert_eq!(
        (answering(&ahead.0), answering(&behind.0)),
        ("1.0.0".to_owned(), "1.0.0".to_owned())
    );
    assert_eq!(order("1.1.0"), 200);
    until("it is told that the decided version is missing", || {
        (behind.0.get_json("/models/churn")["awaited"] == "1.1.0").then_some(())
    });
    assert_eq!(
        (answering(&ahead.0), answering(&behind.0)),
        ("1.1.0".to_owned(), "1.0.0".to_owned())
    );
    crate::harness::install(behind.1.path(), "churn", "1.1.0");
    until("it follows", || {
        (answering(&behind.0) == "1.1.0").then_some(())
    });
    assert!(behind.0.get_json("/models/churn")["awaited"].is_null());
}

#[test]
fn three_replicas_agree() {
    let models = models(&VERSIONS.map(|version| ("churn", version)));
    let state = tempfile::tempdir().unwrap();
    let replicas: Vec<Server> = (0..3).map(|_| start(models.path(), state.path())).collect();
    let status = |replica: &Server| -> Value {
        replica
            .client
            .get(admin(replica))
            .send()
            .unwrap()
            .json()
            .unwrap()
    };
    let order = |replica: &Server, path: &str, body: &Value| {
        let response = replica
            .client
            .post(format!("{}/{path}", admin(replica)))
            .body(body.to_string())
            .send()
            .unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().unwrap(),
        )
    };
    let answering = |replica: &Server| {
        let answer = replica.predict(CHURN, &instance("churn", "1.0.0"));
        answer.headers()["x-model-version"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    // The first choice is written once, whoever was first.
    assert_eq!(history(&replicas[0].client, &admin(&replicas[0])).len(), 1);
    assert_eq!(
        order(
            &replicas[0],
            "rollback",
            &json!({"to": "1.0.0", "never_stable": true, "reason": "a test"})
        )
        .0,
        200
    );

    // Each sees the others' decisions within a second; nothing is asked of them but an answer.
    let mut worst = Duration::ZERO;
    for (turn, version) in ["1.1.0", "1.0.0", "1.2.0", "1.0.0"].into_iter().enumerate() {
        let decided = Instant::now();
        assert_eq!(
            order(
                &replicas[turn % 3],
                "rollback",
                &json!({"to": version, "never_stable": true, "reason": "a test"})
            )
            .0,
            200
        );
        for replica in &replicas {
            until("the decision is seen", || {
                (answering(replica) == version).then_some(())
            });
        }
        worst = worst.max(decided.elapsed());
    }
    println!("a decision was seen by all replicas within {worst:?}");
    assert!(worst < PATIENCE);

    // Evidence of all is everybody's.
    let plan = PLAN.replace("min_requests = 2", "min_requests = 2\nhold = true");
    assert_eq!(
        order(
            &replicas[1],
            "rollout/start",
            &json!({"to": ["1.1.0"], "plan": {"text": plan}})
        )
        .0,
        200
    );
    for replica in &replicas {
        until("the rollout is seen", || {
            (!status(replica)["rollout"].is_null()).then_some(())
        });
    }
    for replica in &replicas {
        for _ in 0..20 {
            answering(replica);
        }
    }
    for replica in &replicas {
        until("all evidence is known to each", || {
            let status = status(replica);
            let arms = status["rollout"]["evidence"]["arms"].as_object()?.clone();
            (arms
                .values()
                .map(|arm| arm["units"].as_u64().unwrap())
                .sum::<u64>()
                == 60)
                .then_some(())
        });
    }
    assert_eq!(
        order(&replicas[2], "rollout/abort", &json!({"reason": "enough"})).0,
        200
    );

    // Two decisions at once: one wins, the other is told.
    let replicas = Arc::new(Mutex::new(replicas));
    let conflicts = AtomicUsize::new(0);
    let mut outcomes = BTreeMap::<(u16, u16), usize>::new();
    for round in 0..12 {
        let (promoter, roller, admins) = {
            let replicas = replicas.lock().unwrap();
            let stable = status(&replicas[0])["stable"]["version"]
                .as_str()
                .unwrap()
                .to_owned();
            let to = VERSIONS
                .into_iter()
                .find(|version| **version != *stable)
                .unwrap();
            until("the rollout starts", || {
                let (code, answer) = order(
                    &replicas[round % 3],
                    "rollout/start",
                    &json!({"to": [to], "plan": {"text": plan}, "allow_forward_only": true, "reason": "a test"}),
                );
                (code == 200).then_some(()).or_else(|| {
                    assert_eq!(code, 409, "{answer}");
                    None
                })
            });
            for replica in replicas.iter() {
                until("the rollout is seen", || {
                    (!status(replica)["rollout"].is_null()).then_some(())
                });
            }
            let admins: Vec<String> = replicas.iter().map(admin).collect();
            (
                admins[round % 3].clone(),
                admins[(round + 1) % 3].clone(),
                admins,
            )
        };
        let client = replicas.lock().unwrap()[0].client.clone();
        let before = history(&client, &admins[0]).len();
        let barrier = Barrier::new(2);
        let send = |url: String, body: Value| {
            barrier.wait();
            let response = client.post(url).body(body.to_string()).send().unwrap();
            (
                response.status().as_u16(),
                response.json::<Value>().unwrap(),
            )
        };
        let (promoted, rolled) = thread::scope(|scope| {
            let promoted = scope.spawn(|| {
                send(
                    format!("{promoter}/rollout/promote"),
                    json!({"without_way_back": true, "reason": "a test"}),
                )
            });
            let rolled = scope.spawn(|| send(format!("{roller}/rollback"), json!({})));
            (promoted.join().unwrap(), rolled.join().unwrap())
        });
        *outcomes.entry((promoted.0, rolled.0)).or_default() += 1;
        for (code, answer) in [&promoted, &rolled] {
            let refused = [409, 422].contains(code) && answer["error"].is_string();
            assert!(*code == 200 || refused, "{code} {answer}");
            conflicts.fetch_add(usize::from(*code == 409), Ordering::Relaxed);
        }
        assert!(
            promoted.0 == 200 || rolled.0 == 200,
            "{promoted:?} {rolled:?}"
        );
        // Whatever was acknowledged is there, in one order that all agree on.
        let entries = history(&client, &admins[0]);
        let actions: Vec<&str> = entries[before..]
            .iter()
            .map(|(_, action, ..)| action.as_str())
            .collect();
        assert_eq!(
            actions.contains(&"promote"),
            promoted.0 == 200,
            "{actions:?} {outcomes:?}"
        );
        assert_eq!(
            actions.contains(&"rollback"),
            rolled.0 == 200,
            "{actions:?} {outcomes:?}"
        );
        let (stable, ..) = fold(&entries);
        for replica in replicas.lock().unwrap().iter() {
            until("all agree", || {
                (status(replica)["stable"]["version"] == *stable
                    && status(replica)["rollout"].is_null()
                    && answering(replica) == stable)
                    .then_some(())
            });
        }
    }
    println!("(promote, rollback) at once: {outcomes:?}");
}
