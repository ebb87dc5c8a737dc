//! Prints the progress of a rollout: its phase, steps, arms and verdict, and the next command.

use std::fmt::Write;

use crate::{
    admin::{
        rollout::{RolloutPhase, RolloutStatus},
        status::ModelStatus,
    },
    cli::{
        paint::{Cell, Paint, Style, Table, count},
        rollout::{guards::guards_table, plan::describe_step},
    },
    rollout::{
        evidence::ArmTotals,
        figures::{duration, number, percent},
        judge::Verdict,
        plan::PlanStep,
    },
};

/// The candidates, separated by commas.
pub(crate) fn versions(rollout: &RolloutStatus) -> String {
    let versions: Vec<&str> = rollout
        .candidates
        .iter()
        .map(|candidate| candidate.version.as_str())
        .collect();
    versions.join(", ")
}

/// The share of failed requests, from 0 to 1.
pub(crate) fn error_share(arm: &ArmTotals) -> f64 {
    failures(arm) as f64 / arm.requests.max(1) as f64
}

fn failures(arm: &ArmTotals) -> u64 {
    arm.errors.values().sum()
}

pub(crate) fn print(
    status: &ModelStatus,
    rollout: &RolloutStatus,
    paint: Paint,
    text: &mut String,
) {
    let (phase, style) = phase(rollout);
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "  {} {}  plan {}, started by {}; {}",
        paint.paint(Style::Dim, "rollout  "),
        paint.paint(Style::Bold, &versions(rollout)),
        rollout.plan.name,
        rollout.starter,
        paint.paint(style, &phase)
    );
    let missing = rollout
        .candidates
        .iter()
        .filter(|candidate| !candidate.loaded);
    for candidate in missing {
        let line = format!(
            "{} is not loaded: its share goes to the stable version",
            candidate.version
        );
        let _ = writeln!(text, "            {}", paint.paint(Style::Bad, &line));
    }
    text.push('\n');
    steps(status, rollout).print(paint, text);
    if rollout.evidence.is_some() {
        text.push('\n');
        arms(status, rollout).print(paint, text);
    }
    if rollout
        .guards
        .as_ref()
        .is_some_and(|guards| !guards.is_empty())
    {
        text.push('\n');
        guards_table(rollout).print(paint, text);
    }
    print_verdict(rollout, paint, text);
    if let Some(next) = next_command(&status.model, rollout) {
        let _ = writeln!(text, "  {} {next}", paint.paint(Style::Dim, "next     "));
    }
}

fn phase(rollout: &RolloutStatus) -> (String, Style) {
    match (rollout.phase, &rollout.why) {
        (RolloutPhase::Running, _) => ("running".to_owned(), Style::Good),
        (RolloutPhase::AtRest, _) => (
            "AT REST: candidates get no traffic until the journal is repaired, which ends the \
             rollout"
                .to_owned(),
            Style::Bad,
        ),
        (RolloutPhase::AwaitsApproval, _) => (
            "waits for the approval of a second operator".to_owned(),
            Style::Doubtful,
        ),
        (RolloutPhase::Paused, Some(why)) => (format!("PAUSED by {why}"), Style::Doubtful),
        (RolloutPhase::Paused, None) => ("paused".to_owned(), Style::Doubtful),
    }
}

fn print_verdict(rollout: &RolloutStatus, paint: Paint, text: &mut String) {
    let (Some(verdict), Some(reasons)) = (&rollout.verdict, &rollout.text) else {
        return;
    };
    let style = match verdict {
        Verdict::Advance => Style::Good,
        Verdict::Abort => Style::Bad,
        Verdict::Inconclusive => Style::Doubtful,
        Verdict::Hold => Style::Plain,
    };
    // Print one line for each condition that is not met yet.
    for (index, part) in reasons.split("; ").enumerate() {
        let title = if index == 0 {
            format!("\n  {} ", paint.paint(Style::Dim, "verdict  "))
        } else {
            " ".repeat(14)
        };
        let _ = writeln!(text, "{title}{}", paint.paint(style, part));
    }
}

fn next_command(model: &str, rollout: &RolloutStatus) -> Option<String> {
    match rollout.phase {
        RolloutPhase::AwaitsApproval => Some(format!(
            "predictd rollout approve {model}   (by an operator other than {})",
            rollout.starter
        )),
        RolloutPhase::Paused => Some(format!(
            "predictd rollout resume {model}   or: abort {model} --reason TEXT, promote {model}"
        )),
        RolloutPhase::Running | RolloutPhase::AtRest if rollout.plan.hold(rollout.step) => Some(
            format!("predictd rollout promote {model}   or: abort {model} --reason TEXT"),
        ),
        RolloutPhase::Running | RolloutPhase::AtRest => None,
    }
}

/// The versions whose units count towards the minimum of the current step.
fn counted<'a>(status: &'a ModelStatus, rollout: &'a RolloutStatus) -> Vec<&'a str> {
    let step = rollout.plan.steps.get(rollout.step);
    let concurrent = step.is_none_or(PlanStep::concurrent);
    let stable = status
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

fn steps(status: &ModelStatus, rollout: &RolloutStatus) -> Table {
    let units = rollout.plan.key.units();
    let mut table = Table::new(["", "", "step", "time", units].map(Cell::left));
    for (index, step) in rollout.plan.steps.iter().enumerate() {
        let least_time = duration(step.min_seconds() as f64);
        let least = count(step.min_requests());
        let begun = rollout.phase != RolloutPhase::AwaitsApproval;
        let (mark, style, time, units) = if index < rollout.step {
            ("done", Style::Dim, least_time, least)
        } else if index == rollout.step && begun {
            let time = format!("{} of {least_time}", duration(rollout.step_seconds.floor()));
            (">", Style::Bold, time, fewest_units(status, rollout, least))
        } else {
            ("", Style::Plain, least_time, least)
        };
        let held = if rollout.plan.hold(index) {
            ", until a person decides"
        } else {
            ""
        };
        table.row(
            [
                Cell::left(mark),
                Cell::right((index + 1).to_string()),
                Cell::left(format!("{}{held}", describe_step(step))),
                Cell::left(time),
                Cell::left(units),
            ]
            .map(|cell| cell.style(style)),
        );
    }
    table
}

/// The number of units in the arm with the fewest units. The step waits for this arm.
fn fewest_units(status: &ModelStatus, rollout: &RolloutStatus, least: String) -> String {
    let units = |version: &str| {
        let evidence = rollout.evidence.as_ref();
        let arm = evidence.and_then(|evidence| evidence.arms.get(version));
        arm.map_or(0, |arm| arm.units)
    };
    let fewest = counted(status, rollout)
        .into_iter()
        .map(|version| (units(version), version))
        .min();
    match fewest {
        Some((units, version)) => format!("{} of {least} ({version})", count(units)),
        None => least,
    }
}

fn arms(status: &ModelStatus, rollout: &RolloutStatus) -> Table {
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
    let rest = 1.0 - rollout.weights.iter().sum::<f64>();
    let stable = status
        .stable
        .as_ref()
        .map(|stable| (stable.version.as_str(), "stable", rest));
    let candidates = rollout
        .candidates
        .iter()
        .zip(&rollout.weights)
        .map(|(candidate, weight)| (candidate.version.as_str(), "candidate", *weight));
    for (version, role, weight) in stable.into_iter().chain(candidates) {
        let evidence = rollout.evidence.as_ref();
        let arm = evidence
            .and_then(|evidence| evidence.arms.get(version))
            .cloned()
            .unwrap_or_default();
        table.row(arm_row(version, role, weight, &arm));
    }
    table
}

fn arm_row(version: &str, role: &str, weight: f64, arm: &ArmTotals) -> [Cell; 8] {
    let answered = arm.requests.saturating_sub(failures(arm));
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
        percent(error_share(arm))
    };
    let style = if failures(arm) > 0 {
        Style::Doubtful
    } else {
        Style::Plain
    };
    [
        Cell::left(version),
        Cell::left(role),
        Cell::right(percent(weight.max(0.0))),
        Cell::right(count(arm.requests)),
        Cell::right(errors).style(style),
        Cell::right(latency),
        Cell::right(format!("{} s", number(arm.compute_seconds))),
        Cell::left(kinds.join(", ")).style(style),
    ]
}
