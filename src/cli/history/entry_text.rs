//! The description of an entry: the actor, the decision, the step of the rollout, and the evidence.

use std::fmt::Write;

use crate::{
    admin::start::DecisionEvidence,
    cli::{
        paint::{Paint, Style, count, short},
        rollout::{plan::describe_step, progress_text::error_share},
    },
    document,
    journal::entry::{Action, Entry},
    rollout::{
        figures::{number, percent},
        judge::{GuardReport, GuardState},
        plan::RolloutPlan,
        state::{StartDetails, StepDetails},
    },
};

/// The plan and the step at the time of an entry. Only entries that start a rollout or a step
/// contain them.
#[derive(Default)]
pub(super) struct RolloutPosition {
    plan: Option<RolloutPlan>,
    step: usize,
}

impl RolloutPosition {
    pub(super) fn follow(&mut self, entry: &Entry) {
        let Some(details) = &entry.details else {
            return;
        };
        // An entry of another version of predictd may contain other details. It is listed without
        // its position.
        match entry.action {
            Action::Start => {
                let start = document::read::<StartDetails>(details).ok();
                self.plan = start.map(|start| start.plan);
                self.step = 0;
            }
            Action::Approve | Action::Advance => {
                let step = document::read::<StepDetails>(details).ok();
                self.step = step.map_or(self.step, |step| step.step);
            }
            _ => {}
        }
    }

    /// Describes the position, like `plan medium, step 2 of 6 (canary 1 %)`.
    fn describe(&self, strategy: &str) -> String {
        let plan = self.plan.as_ref().filter(|plan| plan.name == strategy);
        match plan.and_then(|plan| Some((plan.steps.len(), plan.steps.get(self.step)?))) {
            Some((steps, step)) => format!(
                "plan {strategy}, step {} of {steps} ({})",
                self.step + 1,
                describe_step(step)
            ),
            None => format!("plan {strategy}"),
        }
    }
}

pub(super) fn describe(
    seq: u64,
    entry: &Entry,
    position: &RolloutPosition,
    paint: Paint,
    text: &mut String,
) {
    let version = |named: &Option<crate::journal::entry::VersionRef>| {
        named
            .as_ref()
            .map_or("-", |named| named.version.as_str())
            .to_owned()
    };
    let style = match entry.action {
        Action::Promote => Style::Good,
        Action::Abort | Action::Rollback => Style::Bad,
        Action::Pause => Style::Doubtful,
        _ => Style::Bold,
    };
    let place = entry
        .strategy
        .as_ref()
        .map(|strategy| format!("; {}", position.describe(strategy)))
        .unwrap_or_default();
    // If the file was renamed, the number in the entry differs from the number in the file's name.
    let renamed = if entry.seq == seq {
        String::new()
    } else {
        paint.paint(
            Style::Bad,
            &format!("  its content says entry {}", entry.seq),
        )
    };
    let _ = writeln!(
        text,
        "{seq:>6}  {}  {}  {} -> {}  by {}{place}{renamed}",
        paint.paint(Style::Dim, &entry.at),
        paint.paint(style, &format!("{:<8}", entry.action.name())),
        version(&entry.from),
        version(&entry.to),
        entry.actor
    );
    for line in entry
        .reason
        .iter()
        .flat_map(|reason| reason.lines())
        .chain(figures(entry).iter().map(String::as_str))
    {
        let _ = writeln!(text, "        {line}");
    }
}

/// The most important figures of the evidence for a decision.
pub(super) fn figures(entry: &Entry) -> Vec<String> {
    // An entry of another version of predictd may contain evidence in another format. It is listed
    // without evidence.
    let evidence: DecisionEvidence = entry
        .evidence
        .as_ref()
        .and_then(|evidence| document::read(evidence).ok())
        .unwrap_or_default();
    let mut lines = Vec::new();
    let arms: Vec<String> = evidence
        .totals
        .iter()
        .flat_map(|totals| &totals.arms)
        .map(|(version, arm)| {
            let (requests, failed) = (count(arm.requests), percent(error_share(arm)));
            format!("{version}: {requests} requests, {failed} failed")
        })
        .collect();
    if !arms.is_empty() {
        lines.push(arms.join("; "));
    }
    let violated = evidence
        .guards
        .iter()
        .filter(|guard| guard.state == GuardState::Violated);
    lines.extend(violated.map(guard_line));
    lines.extend(evidence.candidates.iter().map(|report| {
        let verdict = report.compatibility.verdict;
        format!("{}: {verdict}", report.version)
    }));
    if evidence.without_way_back == Some(true) {
        lines.push("promoted although a rollback would not work".to_owned());
    }
    if matches!(entry.action, Action::Adopt | Action::Start)
        && let Some(to) = &entry.to
    {
        lines.push(format!("{} is {}", to.version, short(&to.digest)));
    }
    lines
}

pub(super) fn guard_line(guard: &GuardReport) -> String {
    let stable = guard
        .stable_share
        .map(|share| format!(" against {}", percent(share)))
        .unwrap_or_default();
    format!(
        "{} of {}: {}{stable}, e-value {}, limit {}",
        guard.guard.name(),
        guard.candidate,
        percent(guard.share),
        number(guard.e_value),
        number(guard.limit)
    )
}
