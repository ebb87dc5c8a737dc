//! `history --verify` finds every change of the journal.

use serde_json::{Value, json};

use super::{Site, start_site};
use crate::harness::{assert_contains, run_predictd};

/// The journal of a rollout that was started, paused and aborted: four entries.
struct Journal {
    site: Site,
    state: String,
    texts: Vec<String>,
}

impl Journal {
    fn new() -> Journal {
        let site = start_site(&[]);
        site.start_rollout();
        site.output_of(&["rollout", "pause", "churn"]);
        site.output_of(&["rollout", "abort", "churn", "--reason", "enough"]);
        let state = site.deployment.state().to_str().unwrap().to_owned();
        let text = |seq: u64| fs_err::read_to_string(site.deployment.entry(seq)).unwrap();
        let texts = (1..=4).map(text).collect();
        Journal { site, state, texts }
    }

    fn write(&self, seq: u64, text: impl AsRef<[u8]>) {
        fs_err::write(self.site.deployment.entry(seq), text).unwrap();
    }

    fn remove(&self, seq: u64) {
        fs_err::remove_file(self.site.deployment.entry(seq)).unwrap();
    }

    /// Undoes every change.
    fn restore(&self) {
        for (seq, text) in (1..).zip(&self.texts) {
            self.write(seq, text);
        }
    }

    /// Verifies the journal through the server.
    fn verify_online(&self) -> (i32, String, String) {
        self.site.run(&["history", "churn", "--verify"])
    }

    /// Verifies the journal without the server.
    fn verify_offline(&self) -> (i32, String, String) {
        let arguments = ["history", "churn", "--verify", "--state", &self.state];
        run_predictd(&arguments, "", &[])
    }

    /// Asserts that both ways to verify name this entry, and that the history shows the later
    /// entries.
    fn check_damage(&self, seq: u64, problem: &str) {
        for (code, output, error) in [self.verify_online(), self.verify_offline()] {
            assert_eq!(code, 1, "{problem}: {output}{error}");
            assert_contains(&output, &[&format!("FAILED: entry {seq}: "), problem]);
        }
        let (code, output, _) = self.site.run(&["history", "churn", "--verify", "--json"]);
        let document: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(
            (code, &document["ok"], &document["bad"]["seq"]),
            (1, &json!(false), &json!(seq))
        );
        let last_entry = ["     4  ", "enough"];
        assert_contains(&self.site.output_of(&["history", "churn"]), &last_entry);
        assert_contains(
            &run_predictd(&["history", "churn", "--state", &self.state], "", &[]).1,
            &last_entry,
        );
    }
}

#[test]
fn a_valid_journal_is_verified_online_and_offline() {
    let journal = Journal::new();
    for (code, output, error) in [journal.verify_online(), journal.verify_offline()] {
        assert!(
            code == 0
                && output.starts_with("ok: 4 entries, the last with sha256 ")
                && error.is_empty(),
            "{output}{error}"
        );
    }
    assert_eq!(
        journal.verify_online().1,
        journal.verify_offline().1,
        "the same chain"
    );
    let arguments = ["history", "churn", "--verify", "--json"];
    assert_eq!(journal.site.json_output_of(&arguments)["entries"], 4);
}

#[test]
fn every_change_of_the_journal_is_found() {
    let journal = Journal::new();
    journal.write(2, journal.texts[1].replace("better", "bitter"));
    journal.check_damage(2, "was altered");
    journal.restore();
    journal.write(1, b"\xff{");
    journal.check_damage(1, "can't be read");
    journal.restore();
    journal.write(2, &journal.texts[2]);
    journal.write(3, &journal.texts[1]);
    journal.check_damage(2, "contains the number 3: entries were renamed");
    journal.restore();
    for seq in [3, 1] {
        journal.remove(seq);
        journal.check_damage(seq, "is missing");
        journal.restore();
    }
    assert_eq!(journal.verify_online().0, 0);
}

#[test]
fn a_running_server_knows_that_the_last_entry_is_missing() {
    let journal = Journal::new();
    journal.remove(4);
    let (code, output, _) = journal.verify_online();
    assert_eq!(code, 1, "{output}");
    assert_contains(
        &output,
        &["FAILED: entry 4: the entry is missing, but the server has seen it"],
    );
    assert!(
        journal.verify_offline().1.starts_with("ok: 3 entries"),
        "offline nothing shows that an entry is missing"
    );
    assert_contains(
        &journal.site.output_of(&["history", "churn"]),
        &["     4  is missing here"],
    );
    journal.restore();
    assert_eq!(journal.verify_online().0, 0);
}

#[test]
fn a_server_that_started_with_a_gap_in_the_journal_verifies_it() {
    let journal = Journal::new();
    journal.remove(3);
    let Site {
        server, deployment, ..
    } = journal.site;
    drop(server);
    let server = deployment.start_unready();
    assert_contains(
        &server.command_failure(&["history", "churn", "--verify"]),
        &["FAILED: entry 3: the entry is missing"],
    );
}

#[test]
fn a_missing_journal_is_an_error() {
    let state = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(state.path().join("journal/churn")).unwrap();
    for (model, state, expected) in [
        (
            "nobody",
            state.path().to_str().unwrap(),
            "contains no journal of nobody",
        ),
        ("churn", "/nowhere", "/nowhere contains no journal of churn"),
    ] {
        let (code, _, error) = run_predictd(&["history", model, "--state", state], "", &[]);
        assert_eq!(code, 1, "{error}");
        assert_contains(&error, &[expected]);
    }
}
