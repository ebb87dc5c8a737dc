//! Prints the status of a model: the version that answers, the effect of a rollback, and the last
//! decision.

use std::fmt::Write;

use crate::{
    admin::{rollout::RolloutPhase, status::ModelStatus},
    cli::{
        paint::{Paint, Style, ago, short},
        rollout::progress_text,
        suggestion::command,
    },
};

/// A string that changes whenever a watcher should see a new status. It leaves out figures, because
/// they change all the time.
pub(crate) fn fingerprint(status: &ModelStatus) -> String {
    let rollout = status.rollout.as_ref().map(|rollout| {
        let guards: Vec<_> = rollout
            .guards
            .iter()
            .flatten()
            .map(|guard| (guard.guard, &guard.candidate, &guard.state))
            .collect();
        let loaded: Vec<bool> = rollout
            .candidates
            .iter()
            .map(|candidate| candidate.loaded)
            .collect();
        (rollout.verdict, guards, loaded)
    });
    format!(
        "{:?}",
        (
            status.seq,
            status.written,
            status.rollback.ready,
            &status.rollback.reason,
            &status.trouble,
            (&status.answers, &status.not_answering),
            rollout
        )
    )
}

pub(crate) fn print(status: &ModelStatus, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{}{}",
        paint.paint(Style::Bold, &status.model),
        paint.paint(Style::Bad, &outage(status))
    );
    for (title, value) in facts(status, paint) {
        let title = paint.paint(Style::Dim, &format!("{title:<9}"));
        let _ = writeln!(text, "  {title} {value}");
    }
    match &status.rollout {
        Some(rollout) => progress_text::print(status, rollout, paint, &mut text),
        None => {
            let title = paint.paint(Style::Dim, "rollout  ");
            let _ = writeln!(text, "  {title} none");
        }
    }
    text
}

/// The lines above the rollout, each with a title.
fn facts(status: &ModelStatus, paint: Paint) -> Vec<(&'static str, String)> {
    let bad = |line: &str| paint.paint(Style::Bad, line);
    let mut facts = Vec::new();
    if let Some(trouble) = &status.trouble {
        let possible = if status.only_urgent {
            "only a rollback or an abort is possible"
        } else {
            "no decision is possible"
        };
        facts.push(("TROUBLE", bad(&format!("{possible}: {trouble}"))));
    }
    let suggestion = status.suggestion.as_ref();
    if let Some(next) = suggestion.and_then(|suggestion| command(suggestion, &status.model)) {
        facts.push(("next", next));
    }
    facts.push(match &status.stable {
        Some(stable) => {
            let version = paint.paint(Style::Bold, &stable.version);
            ("stable", format!("{version}  {}", short(&stable.digest)))
        }
        None => (
            "stable",
            bad("none: requests without a version are not answered"),
        ),
    });
    for pending in &status.pending {
        let to = pending.to.as_ref();
        let to = to.map(|to| format!(" {}", to.version)).unwrap_or_default();
        let line = format!(
            "{}{to} applies on this server, but is not written yet",
            pending.action.name()
        );
        facts.push(("PENDING", bad(&line)));
    }
    if !status.pending.is_empty() {
        facts.push((
            "",
            "until it is written, other replicas don't apply the decision, and a restart loses it"
                .to_owned(),
        ));
    }
    facts.push(("previous", describe_rollback(status, paint)));
    if let Some(last) = &status.last {
        let to = last.to.as_ref();
        let to = to.map(|to| format!(" {}", to.version)).unwrap_or_default();
        let (action, actor, at) = (last.action.name(), &last.actor, ago(&last.at));
        facts.push((
            "last",
            format!("{action}{to} by {actor}, {at} (entry {})", last.seq),
        ));
        if let Some(reason) = last.reason.as_deref().filter(|reason| !reason.is_empty()) {
            facts.push(("", reason.to_owned()));
        }
    }
    facts
}

/// Text for the line of the model's name if the stable version does not answer. Empty if it
/// answers.
fn outage(status: &ModelStatus) -> String {
    match (&status.not_answering, &status.answers, &status.stable) {
        (Some(reason), ..) => format!("  DOES NOT ANSWER: {reason}"),
        (None, Some(answers), Some(stable)) if *answers != stable.version => {
            format!(
                "  {answers} answers, because {} is not loaded",
                stable.version
            )
        }
        _ => String::new(),
    }
}

fn can_roll_back(status: &ModelStatus) -> bool {
    status.trouble.is_none() || status.only_urgent
}

/// Describes the effect of a rollback, and whether it would work.
fn describe_rollback(status: &ModelStatus, paint: Paint) -> String {
    let ends_rollout = match (&status.rollout, &status.stable) {
        (Some(rollout), Some(stable))
            if rollout.phase != RolloutPhase::AwaitsApproval && can_roll_back(status) =>
        {
            Some(format!(
                "a rollback ends the rollout, and {} answers all requests",
                stable.version
            ))
        }
        _ => None,
    };
    let Some(previous) = &status.previous else {
        return match ends_rollout {
            _ if !can_roll_back(status) => "none".to_owned(),
            Some(ends) => format!("none: {ends}"),
            None => "none: a rollback must name a version (--to)".to_owned(),
        };
    };
    // During a rollout, the first rollback ends it. Only a second rollback restores the previous
    // version.
    let which = if ends_rollout.is_some() {
        "a second one"
    } else {
        "a rollback"
    };
    let verdict = match (status.rollback.ready, status.rollback.reason.as_str()) {
        _ if !can_roll_back(status) => paint.paint(
            Style::Bad,
            &format!("{which} would NOT work: no decision is possible"),
        ),
        (true, _) => paint.paint(Style::Good, &format!("{which} would work")),
        (false, "") => paint.paint(Style::Doubtful, &format!("{which} was not tried yet")),
        (false, reason) => paint.paint(Style::Bad, &format!("{which} would NOT work: {reason}")),
    };
    match ends_rollout {
        Some(ends) => format!("{}  {ends}; {verdict}", previous.version),
        None => format!("{}  {verdict}", previous.version),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        admin::status::ModelStatus,
        cli::{
            paint::Paint,
            rollout::status_text::{self, fingerprint},
        },
        clock,
        rollout::plan::RolloutPlan,
    };

    fn rollout() -> serde_json::Value {
        let plan = r#"
            name = "mine"
            steps = [
                {kind = "shadow", share = 0.1, min_seconds = 600, min_requests = 1000},
                {kind = "canary", weight = 0.05, min_seconds = 600, min_requests = 500},
                {kind = "canary", weight = 1.0, hold = true},
            ]"#;
        json!({
            "id": "x", "starter": "ann", "phase": "running", "why": null, "step": 1, "steps": 3, "this_step": null,
            "step_seconds": 250.0, "weights": [0.05], "shadow_share": 0.0,
            "candidates": [{"version": "1.1.0", "digest": "sha256:1", "loaded": true}],
            "plan": RolloutPlan::parse(plan).unwrap(),
            "evidence": {"arms": {
                "1.0.0": {"requests": 4011, "units": 4011, "seconds": 5.0, "compute_seconds": 3.2},
                "1.1.0": {"requests": 200, "units": 200, "errors": {"inference": 6}, "seconds": 0.5, "compute_seconds": 0.25}}},
            "verdict": "hold", "text": "stays at step 2 (5 %): 250 s of 600 s; 200 of 500 requests of 1.1.0",
            "guards": [
                {"guard": "errors", "candidate": "1.1.0", "unit": "requests", "count": 200, "share": 0.03, "stable_count": 4011,
                 "stable_share": 0.0, "margin": 0.005, "e_value": 671.0, "limit": 2300.0, "e_value_fine": 0.1, "limit_fine": 100.0,
                 "state": "open"},
                {"guard": "disagreement", "candidate": "1.1.0", "unit": "pairs", "count": 0, "share": 0.0, "stable_count": null,
                 "stable_share": null, "margin": 0.1, "e_value": 0.0, "limit": 1.0, "e_value_fine": 0.0, "limit_fine": 1.0,
                 "state": "not_judged", "reason": "no pairs in this step"}],
        })
    }

    fn status() -> serde_json::Value {
        let at = clock::rfc3339_of_ms(clock::now_ms() - 3 * 86_400_000);
        json!({
            "model": "churn", "seq": 3, "written": true, "a_member_of_a_newer_server": {},
            "stable": {"version": "1.0.0", "digest": "sha256:07cb3b2ab596192d4d68"},
            "answers": "1.0.0", "not_answering": null, "pending": [],
            "previous": {"version": "0.9.0", "digest": "sha256:00"},
            "rollback": {"ready": false, "reason": "0.9.0 is not loaded"},
            "trouble": null, "suggestion": null, "only_urgent": false,
            "last": {"seq": 3, "at": at, "actor": "judge", "action": "advance", "from": null,
                     "to": {"version": "1.1.0", "digest": "sha256:1"}, "reason": "passed step 1"},
            "rollout": rollout(),
        })
    }

    fn print(document: serde_json::Value) -> String {
        let status: ModelStatus = serde_json::from_value(document).unwrap();
        status_text::print(&status, Paint::OFF)
    }

    #[test]
    fn the_status_shows_all_that_an_operator_needs() {
        let text = print(status());
        for line in [
            "churn",
            "  stable    1.0.0  sha256:07cb3b2ab596",
            "  previous  0.9.0  a rollback ends the rollout, and 1.0.0 answers all requests; a second one would NOT work: 0.9.0 is not loaded",
            "  last      advance 1.1.0 by judge, 3 d ago (entry 3)",
            "            passed step 1",
            "  rollout   1.1.0  plan mine, started by ann; running",
            "           step                                  time                requests",
            "  done  1  shadow 10 %                           10 min              1,000",
            "  >     2  canary 5 %                            4.17 min of 10 min  200 of 500 (1.1.0)",
            "        3  canary 100 %, until a person decides  0 s                 0",
            "  arm               weight  requests  errors  mean latency  engine time",
            "  1.0.0  stable       95 %     4,011     0 %       1.25 ms        3.2 s",
            "  1.1.0  candidate     5 %       200     3 %       2.58 ms       0.25 s  6 inference",
            "  guard                   candidate  stable  margin  e-value of limit  state",
            "  errors        3 % of 200 requests     0 %  +0.5 %       671 of 2300  open: the evidence that it is no worse is 0.1 of 100",
            "  disagreement                    -       -       -                 -  not judged: no pairs in this step",
            "  verdict   stays at step 2 (5 %): 250 s of 600 s",
            "              200 of 500 requests of 1.1.0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_next_command_is_shown() {
        let with = |pointer: &str, value: serde_json::Value| {
            let mut document = status();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        assert!(!print(status()).contains("next "));
        assert!(
            print(with("/rollout/phase", json!("awaits-approval")))
                .contains("predictd rollout approve churn   (by an operator other than ann)")
        );
        let mut paused = with("/rollout/phase", json!("paused"));
        paused["rollout"]["why"] = json!("judge: inconclusive");
        let text = print(paused);
        assert!(
            text.contains("PAUSED by judge: inconclusive")
                && text.contains("predictd rollout resume churn"),
            "{text}"
        );
        assert!(print(with("/rollout/step", json!(2))).contains("predictd rollout promote churn"));
        assert!(
            print(with("/trouble", json!("altered")))
                .contains("TROUBLE   no decision is possible: altered")
        );
        let mut unreadable = with("/trouble", json!("away"));
        unreadable["only_urgent"] = json!(true);
        assert!(
            print(unreadable).contains("TROUBLE   only a rollback or an abort is possible: away")
        );
        let previous = |document: serde_json::Value| {
            print(document)
                .lines()
                .find(|line| line.starts_with("  previous"))
                .unwrap()
                .to_owned()
        };
        let mut quiet = with("/rollout", json!(null));
        assert_eq!(
            previous(quiet.clone()),
            "  previous  0.9.0  a rollback would NOT work: 0.9.0 is not loaded"
        );
        quiet["trouble"] = json!("altered");
        quiet["rollback"] = json!({"ready": true, "reason": ""});
        assert_eq!(
            previous(quiet),
            "  previous  0.9.0  a rollback would NOT work: no decision is possible"
        );
        let mut first = with("/previous", json!(null));
        assert_eq!(
            previous(first.clone()),
            "  previous  none: a rollback ends the rollout, and 1.0.0 answers all requests"
        );
        first["rollout"]["phase"] = json!("at-rest");
        first["trouble"] = json!("altered");
        assert_eq!(previous(first.clone()), "  previous  none");
        assert!(
            print(first.clone())
                .contains("; AT REST: candidates get no traffic until the journal is repaired")
        );
        first["rollout"] = json!(null);
        first["trouble"] = json!(null);
        assert_eq!(
            previous(first),
            "  previous  none: a rollback must name a version (--to)"
        );
        assert!(
            print(with("/rollout/candidates/0/loaded", json!(false)))
                .contains("1.1.0 is not loaded")
        );
    }

    #[test]
    fn watch_reports_changes_of_state_only() {
        let fingerprint_of = |document: serde_json::Value| {
            fingerprint(&serde_json::from_value::<ModelStatus>(document).unwrap())
        };
        let mut figures = status();
        figures["rollout"]["step_seconds"] = json!(251.0);
        figures["rollout"]["evidence"]["arms"]["1.0.0"]["requests"] = json!(5000);
        assert_eq!(fingerprint_of(figures), fingerprint_of(status()));
        for (pointer, value) in [
            ("/seq", json!(4)),
            ("/rollback/ready", json!(true)),
            ("/rollout/verdict", json!("advance")),
            ("/rollout/guards/0/state", json!("violated")),
            ("/rollout/candidates/0/loaded", json!(false)),
            ("/rollout", json!(null)),
        ] {
            let mut changed = status();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_ne!(
                fingerprint_of(changed),
                fingerprint_of(status()),
                "{pointer}"
            );
        }
    }
}
