//! Prints a rollout plan.

use std::fmt::Write;

use crate::{
    cli::paint::{Cell, Paint, Style, Table, count},
    rollout::{
        figures::{duration, percent},
        plan::{PlanStep, RolloutPlan},
    },
};

/// Describes a step: `shadow 10 %`, `canary 5 %`, `ab 50 % 30 %`, `blue-green`.
pub(crate) fn describe_step(step: &PlanStep) -> String {
    let shares: Vec<f64> = match step {
        PlanStep::Shadow { share, .. } => vec![*share],
        PlanStep::Canary { weight, .. } => vec![*weight],
        PlanStep::Ab { weights, .. } => weights.clone().unwrap_or_default(),
        PlanStep::BlueGreen { .. } => Vec::new(),
    };
    let shares: Vec<String> = shares.into_iter().map(percent).collect();
    format!("{} {}", step.kind(), shares.join(" "))
        .trim_end()
        .to_owned()
}

/// Prints the plan of a dry run: the steps, and the rules for all steps.
pub(crate) fn print_plan(plan: &RolloutPlan, paint: Paint, text: &mut String) {
    print_steps(plan, paint, text);
    let least: u64 = plan.steps.iter().map(PlanStep::min_seconds).sum();
    let mut line = |line: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {line}");
    };
    line(format!(
        "takes at least {}; inconclusive after {}",
        duration(least as f64),
        duration(plan.max_seconds as f64)
    ));
    line(format!(
        "a candidate that is no worse is aborted with a probability of at most {}",
        percent(plan.alpha)
    ));
    if !plan.key.is_prediction_id() {
        let key = String::from(plan.key.clone());
        line(format!(
            "assigned by {key}: requests with the same value get the same version"
        ));
    }
    if plan.approve {
        let approval = "a second verified operator must approve the rollout before it starts";
        line(paint.paint(Style::Doubtful, approval));
    }
}

fn print_steps(plan: &RolloutPlan, paint: Paint, text: &mut String) {
    let titles = ["min. time", "min. traffic", "then"].map(Cell::left);
    let mut table = Table::new(
        [Cell::left("step"), Cell::left("")]
            .into_iter()
            .chain(titles),
    );
    for (index, step) in plan.steps.iter().enumerate() {
        let then = if plan.hold(index) {
            "a person decides"
        } else if index + 1 < plan.steps.len() {
            "advances automatically"
        } else {
            "is promoted automatically"
        };
        table.row([
            Cell::right((index + 1).to_string()),
            Cell::left(describe_step(step)),
            Cell::left(duration(step.min_seconds() as f64)),
            Cell::left(format!(
                "{} {} of each arm",
                count(step.min_requests()),
                plan.key.units()
            )),
            Cell::left(then),
        ]);
    }
    table.print(paint, text);
}
