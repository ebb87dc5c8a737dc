//! Status: all that somebody needs who is woken by an alert: what answers, what would happen, and why.

use std::{collections::BTreeMap, fmt::Write};

use serde::Deserialize;

use crate::cli::{
    paint::{Cell, Paint, Style, Table, ago, count, short},
    rollout::plan::{Plan, Step},
};
use crate::rollout::figures::{duration, number, percent};

/// A model as the server tells it. What a newer server says beyond that is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub model: String,
    pub seq: u64,
    pub stable: Option<Named>,
    written: bool,
    pending: Vec<Pending>,
    answers: Option<String>,
    not_answering: Option<String>,
    previous: Option<Named>,
    rollback: WayBack,
    trouble: Option<String>,
    /// Of decisions only a rollback and an abort can be made.
    only_urgent: bool,
    pub last: Option<Last>,
    pub rollout: Option<Rollout>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub version: String,
    digest: String,
}

/// A decision that is in force on the server that was asked, and not written yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pending {
    action: String,
    to: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WayBack {
    ready: bool,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Last {
    pub seq: u64,
    at: String,
    pub actor: String,
    pub action: String,
    pub from: Option<Named>,
    pub to: Option<Named>,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rollout {
    pub id: String,
    plan: Plan,
    starter: String,
    candidates: Vec<Candidate>,
    phase: String,
    why: Option<String>,
    step: usize,
    step_seconds: f64,
    weights: Vec<f64>,
    evidence: Option<Evidence>,
    verdict: Option<String>,
    text: Option<String>,
    guards: Option<Vec<Guard>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Candidate {
    version: String,
    digest: String,
    loaded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Evidence {
    pub arms: BTreeMap<String, Arm>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Arm {
    pub requests: u64,
    pub errors: BTreeMap<String, u64>,
    seconds: f64,
    pub units: u64,
    compute_seconds: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Guard {
    pub guard: String,
    pub candidate: String,
    unit: String,
    count: u64,
    pub share: f64,
    pub stable_share: Option<f64>,
    margin: f64,
    pub e_value: f64,
    pub limit: f64,
    e_value_fine: f64,
    limit_fine: f64,
    detail: Option<String>,
    pub state: String,
    reason: Option<String>,
}

impl Arm {
    pub fn error_share(&self) -> f64 {
        self.failures() as f64 / self.requests.max(1) as f64
    }

    fn failures(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl Rollout {
    pub fn versions(&self) -> String {
        let versions: Vec<&str> = self
            .candidates
            .iter()
            .map(|candidate| candidate.version.as_str())
            .collect();
        versions.join(", ")
    }

    pub fn awaits_approval(&self) -> bool {
        self.phase == "awaits-approval"
    }

    pub fn place(&self) -> String {
        format!("step {} of {}", self.step + 1, self.plan.steps.len())
    }
}

impl Status {
    /// What a watcher wants to be told: everything but the figures, which never stand still.
    pub fn gist(&self) -> String {
        let rollout = self.rollout.as_ref().map(|rollout| {
            let guards = rollout
                .guards
                .iter()
                .flatten()
                .map(|guard| (&guard.guard, &guard.candidate, &guard.state));
            let loaded = rollout.candidates.iter().map(|candidate| candidate.loaded);
            (
                &rollout.verdict,
                guards.collect::<Vec<_>>(),
                loaded.collect::<Vec<_>>(),
            )
        });
        let answer = (&self.answers, &self.not_answering);
        format!(
            "{:?}",
            (
                self.seq,
                self.written,
                self.rollback.ready,
                &self.rollback.reason,
                &self.trouble,
                answer,
                rollout
            )
        )
    }

    pub fn is_written(&self) -> bool {
        self.written
    }

    pub fn print(&self, paint: Paint) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}{}",
            paint.paint(Style::Bold, &self.model),
            paint.paint(Style::Bad, &self.outage())
        );
        let mut fact = |title: &str, value: &str| {
            let _ = writeln!(
                text,
                "  {} {value}",
                paint.paint(Style::Dim, &format!("{title:<9}"))
            );
        };
        if let Some(trouble) = &self.trouble {
            let rest = if self.only_urgent {
                "nothing but a rollback or an abort"
            } else {
                "nothing"
            };
            fact(
                "TROUBLE",
                &paint.paint(Style::Bad, &format!("{rest} can be decided: {trouble}")),
            );
        }
        match &self.stable {
            Some(stable) => fact(
                "stable",
                &format!(
                    "{}  {}",
                    paint.paint(Style::Bold, &stable.version),
                    short(&stable.digest)
                ),
            ),
            None => fact(
                "stable",
                &paint.paint(Style::Bad, "none: nothing answers without a version"),
            ),
        }
        for pending in &self.pending {
            let to = pending
                .to
                .as_ref()
                .map(|to| format!(" {}", to.version))
                .unwrap_or_default();
            let line = format!(
                "{}{to} is in force on this server, and not written yet",
                pending.action
            );
            fact("PENDING", &paint.paint(Style::Bad, &line));
        }
        if !self.pending.is_empty() {
            fact(
                "",
                "the state can't be written: other replicas do not follow until it can, and a restart forgets what is not written",
            );
        }
        fact("previous", &self.way_back(paint));
        if let Some(last) = &self.last {
            let to = last
                .to
                .as_ref()
                .map(|to| format!(" {}", to.version))
                .unwrap_or_default();
            fact(
                "last",
                &format!(
                    "{}{to} by {}, {} (entry {})",
                    last.action,
                    last.actor,
                    ago(&last.at),
                    last.seq
                ),
            );
            if let Some(reason) = last.reason.as_deref().filter(|reason| !reason.is_empty()) {
                fact("", reason);
            }
        }
        match &self.rollout {
            Some(rollout) => self.print_rollout(rollout, paint, &mut text),
            None => fact("rollout", "none"),
        }
        text
    }

    /// What stands behind the model's name where its stable version does not answer.
    fn outage(&self) -> String {
        match (&self.not_answering, &self.answers, &self.stable) {
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

    fn can_roll_back(&self) -> bool {
        self.trouble.is_none() || self.only_urgent
    }

    fn way_back(&self, paint: Paint) -> String {
        let ends = match (&self.rollout, &self.stable) {
            (Some(rollout), Some(stable)) if !rollout.awaits_approval() && self.can_roll_back() => {
                format!(
                    "a rollback ends the rollout, and {} answers everybody",
                    stable.version
                )
            }
            _ => String::new(),
        };
        let Some(previous) = &self.previous else {
            return match (self.can_roll_back(), ends.is_empty()) {
                (false, _) => "none".to_owned(),
                (true, true) => "none: a rollback has to name a version (--to)".to_owned(),
                (true, false) => format!("none: {ends}"),
            };
        };
        // What a second one would do, where the first one only ends the rollout.
        let which = if ends.is_empty() {
            "a rollback"
        } else {
            "a second one"
        };
        let verdict = match (self.rollback.ready, self.rollback.reason.as_str()) {
            _ if !self.can_roll_back() => paint.paint(
                Style::Bad,
                &format!("{which} would NOT work: nothing can be decided"),
            ),
            (true, _) => paint.paint(Style::Good, &format!("{which} would work")),
            (false, "") => paint.paint(
                Style::Doubtful,
                &format!("not tried yet whether {which} would work"),
            ),
            (false, reason) => {
                paint.paint(Style::Bad, &format!("{which} would NOT work: {reason}"))
            }
        };
        if !ends.is_empty() {
            return format!("{}  {ends}; {verdict}", previous.version);
        }
        format!("{}  {verdict}", previous.version)
    }

    fn print_rollout(&self, rollout: &Rollout, paint: Paint, text: &mut String) {
        let (phase, style) = match (rollout.phase.as_str(), &rollout.why) {
            ("running", _) => ("running".to_owned(), Style::Good),
            ("at-rest", _) => (
                "AT REST: its candidate gets nothing until the journal is repaired, which ends it"
                    .to_owned(),
                Style::Bad,
            ),
            ("awaits-approval", _) => (
                "waits for the approval of a second name".to_owned(),
                Style::Doubtful,
            ),
            (phase, Some(why)) => (
                format!("{} by {why}", phase.to_uppercase()),
                Style::Doubtful,
            ),
            (phase, None) => (phase.to_owned(), Style::Doubtful),
        };
        let _ = writeln!(
            text,
            "  {} {}  plan {}, started by {}; {}",
            paint.paint(Style::Dim, "rollout  "),
            paint.paint(Style::Bold, &rollout.versions()),
            rollout.plan.name,
            rollout.starter,
            paint.paint(style, &phase)
        );
        for candidate in rollout
            .candidates
            .iter()
            .filter(|candidate| !candidate.loaded)
        {
            let line = format!(
                "{} is not loaded: its share goes to the stable version",
                candidate.version
            );
            let _ = writeln!(text, "            {}", paint.paint(Style::Bad, &line));
        }
        text.push('\n');
        self.steps(rollout).print(paint, text);
        if rollout.evidence.is_some() {
            text.push('\n');
            self.arms(rollout).print(paint, text);
        }
        if rollout
            .guards
            .as_ref()
            .is_some_and(|guards| !guards.is_empty())
        {
            text.push('\n');
            guards(rollout).print(paint, text);
        }
        if let (Some(verdict), Some(said)) = (&rollout.verdict, &rollout.text) {
            let style = match verdict.as_str() {
                "advance" => Style::Good,
                "abort" => Style::Bad,
                "inconclusive" => Style::Doubtful,
                _ => Style::Plain,
            };
            // What it waits for, a line each.
            for (index, part) in said.split("; ").enumerate() {
                let title = if index == 0 {
                    format!("\n  {} ", paint.paint(Style::Dim, "verdict  "))
                } else {
                    " ".repeat(14)
                };
                let _ = writeln!(text, "{title}{}", paint.paint(style, part));
            }
        }
        let name = &self.model;
        let next = match rollout.phase.as_str() {
            "awaits-approval" => format!(
                "predictd rollout approve {name}   (by another name than {})",
                rollout.starter
            ),
            "paused" => format!(
                "predictd rollout resume {name}   or: abort {name} --reason TEXT, promote {name}"
            ),
            _ if rollout
                .plan
                .steps
                .get(rollout.step)
                .is_some_and(Step::waits) =>
            {
                format!("predictd rollout promote {name}   or: abort {name} --reason TEXT")
            }
            _ => return,
        };
        let _ = writeln!(text, "  {} {next}", paint.paint(Style::Dim, "next     "));
    }

    /// The versions that a step counts units of.
    fn counted<'a>(&'a self, rollout: &'a Rollout) -> Vec<&'a str> {
        let concurrent = rollout
            .plan
            .steps
            .get(rollout.step)
            .is_none_or(Step::is_concurrent);
        let stable = self
            .stable
            .iter()
            .filter(|_| concurrent)
            .map(|stable| stable.version.as_str());
        rollout
            .candidates
            .iter()
            .map(|candidate| candidate.version.as_str())
            .chain(stable)
            .collect()
    }

    fn steps(&self, rollout: &Rollout) -> Table {
        let units = rollout.plan.units();
        let mut table = Table::new(["", "", "step", "time", units].map(Cell::left));
        for (index, step) in rollout.plan.steps.iter().enumerate() {
            let (least_time, least) = (duration(step.min_seconds as f64), count(step.min_requests));
            let begun = !rollout.awaits_approval();
            let (mark, style, time, seen) = if index < rollout.step {
                ("done", Style::Dim, least_time, least)
            } else if index == rollout.step && begun {
                let arm = |version: &str| {
                    rollout
                        .evidence
                        .as_ref()
                        .and_then(|evidence| evidence.arms.get(version))
                        .map_or(0, |arm| arm.units)
                };
                let fewest = self
                    .counted(rollout)
                    .into_iter()
                    .map(|version| (arm(version), version))
                    .min();
                let seen = fewest
                    .map(|(units, version)| format!("{} of {least} ({version})", count(units)));
                (
                    ">",
                    Style::Bold,
                    format!("{} of {least_time}", duration(rollout.step_seconds.floor())),
                    seen.unwrap_or(least),
                )
            } else {
                ("", Style::Plain, least_time, least)
            };
            let held = if step.waits() {
                ", until a person decides"
            } else {
                ""
            };
            table.row(
                [
                    Cell::left(mark),
                    Cell::right((index + 1).to_string()),
                    Cell::left(format!("{}{held}", step.what())),
                    Cell::left(time),
                    Cell::left(seen),
                ]
                .map(|cell| cell.style(style)),
            );
        }
        table
    }

    fn arms(&self, rollout: &Rollout) -> Table {
        let titles = [
            "weight",
            "requests",
            "errors",
            "mean latency",
            "engine time",
        ]
        .map(Cell::right);
        let mut table = Table::new(
            [Cell::left("arm"), Cell::left("")]
                .into_iter()
                .chain(titles)
                .chain([Cell::left("")]),
        );
        let none = Arm::default();
        let stable = self.stable.as_ref().map(|stable| {
            (
                stable.version.as_str(),
                "stable",
                1.0 - rollout.weights.iter().sum::<f64>(),
            )
        });
        let candidates = rollout.candidates.iter().zip(&rollout.weights);
        let candidates = candidates
            .map(|(candidate, weight)| (candidate.version.as_str(), "candidate", *weight));
        for (version, role, weight) in stable.into_iter().chain(candidates) {
            let arm = rollout
                .evidence
                .as_ref()
                .and_then(|evidence| evidence.arms.get(version))
                .unwrap_or(&none);
            let answered = arm.requests.saturating_sub(arm.failures());
            let latency = if answered == 0 {
                "-".to_owned()
            } else {
                format!("{} ms", number(arm.seconds / answered as f64 * 1e3))
            };
            let kinds: Vec<String> = arm
                .errors
                .iter()
                .map(|(kind, failed)| format!("{} {kind}", count(*failed)))
                .collect();
            let errors = if arm.requests == 0 {
                "-".to_owned()
            } else {
                percent(arm.error_share())
            };
            let style = if arm.failures() > 0 {
                Style::Doubtful
            } else {
                Style::Plain
            };
            table.row([
                Cell::left(version),
                Cell::left(role),
                Cell::right(percent(weight.max(0.0))),
                Cell::right(count(arm.requests)),
                Cell::right(errors).style(style),
                Cell::right(latency),
                Cell::right(format!("{} s", number(arm.compute_seconds))),
                Cell::left(kinds.join(", ")).style(style),
            ]);
        }
        table
    }
}

fn guards(rollout: &Rollout) -> Table {
    let several = rollout.candidates.len() > 1;
    let titles = ["candidate", "stable", "margin", "e-value of limit"].map(Cell::right);
    let mut table = Table::new(
        [Cell::left("guard")]
            .into_iter()
            .chain(titles)
            .chain([Cell::left("state")]),
    );
    for guard in rollout.guards.iter().flatten() {
        let judged = guard.state != "not_judged";
        let (state, style) = match guard.state.as_str() {
            "violated" => ("VIOLATED".to_owned(), Style::Bad),
            "clear" => ("clear: shown to be no worse".to_owned(), Style::Good),
            "no_data" => ("no data yet".to_owned(), Style::Doubtful),
            "open" => {
                let fine = (number(guard.e_value_fine), number(guard.limit_fine));
                (
                    format!("open: no worse is shown by {} of {}", fine.0, fine.1),
                    Style::Doubtful,
                )
            }
            other => (other.replace('_', " "), Style::Dim),
        };
        let reason = guard
            .reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        let whose = if several {
            format!(" {}", guard.candidate)
        } else {
            String::new()
        };
        let class = guard
            .detail
            .as_ref()
            .map(|class| format!(" \"{class}\""))
            .unwrap_or_default();
        let margin = if guard.stable_share.is_some() {
            format!("+{}", percent(guard.margin))
        } else {
            percent(guard.margin)
        };
        let figures = [
            format!(
                "{} of {} {}",
                percent(guard.share),
                count(guard.count),
                guard.unit
            ),
            guard.stable_share.map_or_else(|| "-".to_owned(), percent),
            margin,
            format!("{} of {}", number(guard.e_value), number(guard.limit)),
        ];
        let figures = figures.map(|figure| {
            Cell::right(if judged { figure } else { "-".to_owned() }).style(if judged {
                Style::Plain
            } else {
                Style::Dim
            })
        });
        let name = Cell::left(format!("{}{whose}{class}", guard.guard));
        table.row(
            [name]
                .into_iter()
                .chain(figures)
                .chain([Cell::left(format!("{state}{reason}")).style(style)]),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        cli::{paint::Paint, rollout::status::Status},
        clock,
    };

    fn status() -> serde_json::Value {
        let at = clock::rfc3339_of_ms(clock::now_ms() - 3 * 86_400_000);
        json!({
            "model": "churn", "seq": 3, "written": true, "new_in_0_2": {},
            "stable": {"version": "1.0.0", "digest": "sha256:07cb3b2ab596192d4d68"},
            "previous": {"version": "0.9.0", "digest": "sha256:00"},
            "rollback": {"ready": false, "reason": "0.9.0 is not loaded"},
            "trouble": null,
            "last": {"seq": 3, "at": at, "actor": "judge", "action": "advance", "to": {"version": "1.1.0"}, "reason": "passed step 1"},
            "rollout": {
                "id": "x", "starter": "ann", "phase": "running", "step": 1, "step_seconds": 250.0, "weights": [0.05],
                "candidates": [{"version": "1.1.0", "digest": "sha256:1", "loaded": true}],
                "plan": {"name": "mine", "alpha": 0.01, "max_seconds": 604_800, "steps": [
                    {"kind": "shadow", "share": 0.1, "min_seconds": 600, "min_requests": 1000},
                    {"kind": "canary", "weight": 0.05, "min_seconds": 600, "min_requests": 500},
                    {"kind": "canary", "weight": 1.0, "min_seconds": 0, "min_requests": 0, "hold": true}]},
                "evidence": {"arms": {
                    "1.0.0": {"requests": 4011, "units": 4011, "seconds": 5.0, "compute_seconds": 3.2},
                    "1.1.0": {"requests": 200, "units": 200, "errors": {"inference": 6}, "seconds": 0.5, "compute_seconds": 0.25}}},
                "verdict": "hold", "text": "holds at step 2 (5 %): 250 s of 600 s; 200 of 500 requests of 1.1.0",
                "guards": [
                    {"guard": "errors", "candidate": "1.1.0", "unit": "requests", "count": 200, "share": 0.03, "stable_count": 4011,
                     "stable_share": 0.0, "margin": 0.005, "e_value": 671.0, "limit": 2300.0, "e_value_fine": 0.1, "limit_fine": 100.0,
                     "state": "open"},
                    {"guard": "disagreement", "candidate": "1.1.0", "unit": "pairs", "margin": 0.1, "state": "not_judged",
                     "reason": "no pairs in this step"}],
            },
        })
    }

    fn print(document: serde_json::Value) -> String {
        serde_json::from_value::<Status>(document)
            .unwrap()
            .print(Paint::OFF)
    }

    #[test]
    fn all_that_somebody_needs_at_night() {
        let text = print(status());
        for line in [
            "churn",
            "  stable    1.0.0  sha256:07cb3b2ab596",
            "  previous  0.9.0  a rollback ends the rollout, and 1.0.0 answers everybody; a second one would NOT work: 0.9.0 is not loaded",
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
            "  errors        3 % of 200 requests     0 %  +0.5 %       671 of 2300  open: no worse is shown by 0.1 of 100",
            "  disagreement                    -       -       -                 -  not judged: no pairs in this step",
            "  verdict   holds at step 2 (5 %): 250 s of 600 s",
            "              200 of 500 requests of 1.1.0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_a_person_has_to_do_is_said() {
        let with = |pointer: &str, value: serde_json::Value| {
            let mut document = status();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        assert!(!print(status()).contains("next "));
        assert!(
            print(with("/rollout/phase", json!("awaits-approval")))
                .contains("predictd rollout approve churn   (by another name than ann)")
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
                .contains("TROUBLE   nothing can be decided: altered")
        );
        let mut unreadable = with("/trouble", json!("away"));
        unreadable["only_urgent"] = json!(true);
        assert!(
            print(unreadable)
                .contains("TROUBLE   nothing but a rollback or an abort can be decided: away")
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
            "  previous  0.9.0  a rollback would NOT work: nothing can be decided"
        );
        let mut first = with("/previous", json!(null));
        assert_eq!(
            previous(first.clone()),
            "  previous  none: a rollback ends the rollout, and 1.0.0 answers everybody"
        );
        first["rollout"]["phase"] = json!("at-rest");
        first["trouble"] = json!("altered");
        assert_eq!(previous(first.clone()), "  previous  none");
        assert!(
            print(first.clone())
                .contains("; AT REST: its candidate gets nothing until the journal is repaired")
        );
        first["rollout"] = json!(null);
        first["trouble"] = json!(null);
        assert_eq!(
            previous(first),
            "  previous  none: a rollback has to name a version (--to)"
        );
        assert!(
            print(with("/rollout/candidates/0/loaded", json!(false)))
                .contains("1.1.0 is not loaded")
        );
    }

    #[test]
    fn a_watcher_is_told_of_changes_and_not_of_figures() {
        let gist = |document: serde_json::Value| {
            serde_json::from_value::<Status>(document).unwrap().gist()
        };
        let mut figures = status();
        figures["rollout"]["step_seconds"] = json!(251.0);
        figures["rollout"]["evidence"]["arms"]["1.0.0"]["requests"] = json!(5000);
        assert_eq!(gist(figures), gist(status()));
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
            assert_ne!(gist(changed), gist(status()), "{pointer}");
        }
    }
}
