//! A server that is killed while it decides, and started again on its state.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Entry, PLAN, Reference, VERSIONS, deployment, entries};
use crate::harness::{CHURN, Server, ServerClient, customer};

const TRANSITIONS: u64 = 200;
const KILLS: u64 = 100;
const SEED: u64 = 0x5eed_2026_1124_0001;

/// Deterministic random numbers (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// The path and the body of a decision that is valid more often than not.
    fn decision(&mut self, status: &Value) -> (&'static str, Value) {
        let stable = status["stable"]["version"].as_str().unwrap_or_default();
        let others: Vec<&str> = VERSIONS
            .into_iter()
            .filter(|version| *version != stable)
            .collect();
        let other = others[self.below(others.len() as u64) as usize];
        let running = !status["rollout"].is_null();
        match self.below(5) {
            4 if running => ("rollback", json!({"reason": "a test"})),
            0 if running => ("rollout/abort", json!({"reason": "no"})),
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
}

/// What the client knows when the server is killed.
#[derive(Default)]
struct Client {
    /// The number of the last acknowledged entry.
    acknowledged: u64,
    /// The path of the decision whose answer is missing.
    unanswered: Option<&'static str>,
}

impl Client {
    /// Posts decisions one after the other until the server does not answer. With `wait_for_judge`
    /// it lets the judge take a step before most decisions.
    fn decide_until_killed(
        &mut self,
        server: &ServerClient,
        random: &mut Random,
        wait_for_judge: bool,
    ) {
        self.unanswered = None;
        let Some(mut status) = self.refresh(server) else {
            return;
        };
        loop {
            if wait_for_judge && status["rollout"]["step"] == 0 && random.below(200) > 0 {
                let Some(fresh) = self.refresh(server) else {
                    return;
                };
                status = fresh;
                continue;
            }
            let (path, body) = random.decision(&status);
            self.unanswered = Some(path);
            let url = server.admin_url(&format!("/admin/models/churn/{path}"));
            let Ok(response) = server.client.post(url).body(body.to_string()).send() else {
                return;
            };
            let (code, Ok(answer)) = (response.status(), response.json::<Value>()) else {
                return;
            };
            self.unanswered = None;
            if code == 200 {
                self.acknowledged = answer["seq"].as_u64().unwrap();
                status = answer;
            } else {
                // The decision was refused, because the judge decided first or the status was old.
                let Some(fresh) = self.refresh(server) else {
                    return;
                };
                status = fresh;
            }
        }
    }

    /// Reads the status. `None` if the server does not answer.
    fn refresh(&mut self, server: &ServerClient) -> Option<Value> {
        let url = server.admin_url("/admin/models/churn");
        let status: Value = server.client.get(url).send().ok()?.json().ok()?;
        self.acknowledged = self.acknowledged.max(status["seq"].as_u64().unwrap());
        Some(status)
    }

    /// Asserts that the journal after a restart has every acknowledged entry, and beyond them only
    /// the unanswered decision and decisions of the judge. Returns whether the unanswered decision
    /// was written.
    fn check_journal(&self, entries: &[Entry]) -> bool {
        let beyond: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.seq > self.acknowledged)
            .collect();
        assert!(
            entries.len() as u64 >= self.acknowledged,
            "seed {SEED:x}: {} entries were acknowledged, the journal has {}",
            self.acknowledged,
            entries.len()
        );
        for entry in &beyond {
            let requested = self
                .unanswered
                .is_some_and(|path| path.ends_with(entry.action.as_str()));
            assert!(
                self.acknowledged == 0 || entry.actor == "judge" || requested,
                "seed {SEED:x}: {beyond:?}, unanswered: {:?}",
                self.unanswered
            );
        }
        self.unanswered.is_some() && beyond.iter().any(|entry| entry.actor != "judge")
    }
}

/// Asserts that the status of the server is what its journal adds up to, and that the stable
/// version answers.
fn check_status(server: &ServerClient, entries: &[Entry]) {
    let status = server.status("churn");
    let expected = Reference::of(entries);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(
        (
            text(&status["stable"]["version"]),
            text(&status["previous"]["version"]),
            text(&status["rollout"]["candidates"][0]["version"]),
        ),
        (
            Some(expected.stable.clone()),
            expected.former.last().cloned(),
            expected.candidate.clone(),
        ),
        "seed {SEED:x}: {entries:?}"
    );
    if expected.candidate.is_none() {
        assert_eq!(
            server.answering_version(CHURN, &customer()),
            expected.stable
        );
    }
}

/// Kills the process after this time. The returned thread ends with the kill.
fn kill_after(server: &Server, life: Duration) -> thread::JoinHandle<()> {
    let end = Instant::now() + life;
    let pid = server.child.id().to_string();
    thread::spawn(move || {
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        Command::new("kill").args(["-9", &pid]).status().unwrap();
    })
}

/// Predicts until the server does not answer.
fn predict_until_killed(server: &ServerClient) {
    let (client, body) = (server.client.clone(), customer().to_string());
    let predict = || {
        client
            .post(server.url(CHURN))
            .header("content-type", "application/json")
            .body(body.clone())
            .send()
    };
    while predict().is_ok() {}
}

#[test]
fn killed_100_times_at_any_moment_of_200_transitions() {
    let deployment = deployment();
    let mut random = Random(SEED);
    let mut client = Client::default();
    let (mut kills, mut unanswered_but_written, mut steps) = (0, 0, 0);
    while client.acknowledged < TRANSITIONS || kills < KILLS {
        let mut server = deployment.start();
        let entries = entries(&server);
        unanswered_but_written += usize::from(client.check_journal(&entries));
        check_status(&server, &entries);
        let advances = entries.iter().filter(|entry| entry.action == "advance");
        steps = advances.count();
        client.acknowledged = entries.len() as u64;

        // One server in four lives long enough for the judge to advance a rollout.
        let (wait_for_judge, longest) = match random.below(4) {
            0 => (true, 900_000),
            _ => (false, 120_000),
        };
        let life = Duration::from_micros(2_000 + random.below(longest));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| predict_until_killed(&server));
            }
            let killer = kill_after(&server, life);
            client.decide_until_killed(&server, &mut random, wait_for_judge);
            killer.join().unwrap();
        });
        server.child.wait().unwrap();
        kills += 1;
    }
    println!(
        "{} transitions, {kills} kills, {unanswered_but_written} decisions written whose answer was lost, {steps} steps by the judge",
        client.acknowledged
    );
    assert!(steps > 0, "{kills} kills, {steps} steps");
}
