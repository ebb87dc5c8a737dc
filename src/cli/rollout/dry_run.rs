//! Prints the dry run of a start: the plan, and the differences for callers.

use std::fmt::Write;

use crate::{
    admin::start::{CandidateReport, PlannedRollout},
    cli::{
        paint::{Paint, Style},
        rollout::plan::print_plan,
    },
    compat::Compatibility,
};

pub(super) fn print(planned: &PlannedRollout, paint: Paint) -> String {
    let versions: Vec<&str> = planned
        .candidates
        .iter()
        .map(|report| report.version.as_str())
        .collect();
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{}: this would start a rollout from {} to {} with plan {}; nothing was started\n",
        paint.paint(Style::Bold, &planned.model),
        planned.from.version,
        versions.join(", "),
        planned.plan.name
    );
    print_plan(&planned.plan, paint, &mut text);
    for report in &planned.candidates {
        print_report(&planned.from.version, report, paint, &mut text);
    }
    text
}

fn print_report(stable: &str, report: &CandidateReport, paint: Paint, text: &mut String) {
    let verdict = report.compatibility.verdict;
    let style = if verdict == Compatibility::Compatible {
        Style::Good
    } else {
        Style::Doubtful
    };
    let verdict = paint.paint(style, &verdict.to_string());
    let _ = writeln!(text, "\n  {stable} -> {}: {verdict}", report.version);
    for difference in &report.compatibility.differences {
        let pointer = if difference.pointer.is_empty() {
            "as a whole"
        } else {
            &difference.pointer
        };
        let accepted = if difference.overridden {
            " (accepted)"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "    {}{accepted}: {} {pointer} {}",
            difference.severity, difference.side, difference.detail
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        admin::start::DryRun,
        cli::{paint::Paint, rollout::dry_run},
        rollout::plan::RolloutPlan,
    };

    #[test]
    fn a_dry_run_lists_what_differs() {
        let plan = r#"
            name = "mine"
            key = "header:x-user"
            approve = true
            steps = [{kind = "ab", weights = [0.5, 0.3], min_seconds = 7200, min_requests = 1000}]"#;
        let document = json!({"dry_run": true, "would_start": {
            "model": "churn", "from": {"version": "1.0.0", "digest": "sha256:0"}, "to": [],
            "plan": RolloutPlan::parse(plan).unwrap(),
            "candidates": [{"version": "1.1.0", "compatibility": {"verdict": "forward-only", "unused_overrides": [], "differences": [
                {"severity": "forward-only", "side": "input", "pointer": "/age", "detail": "is new", "overridden": false},
                {"severity": "unproved", "side": "output", "pointer": "", "detail": "may differ", "overridden": true}]}}],
        }});
        let dry_run: DryRun = serde_json::from_value(document).unwrap();
        let text = dry_run::print(&dry_run.would_start, Paint::OFF);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "churn: this would start a rollout from 1.0.0 to 1.1.0 with plan mine; nothing was started",
                "",
                "  step                min. time  min. traffic            then",
                "     1  ab 50 % 30 %  2 h        1,000 keys of each arm  a person decides",
                "  takes at least 2 h; inconclusive after 7 d",
                "  a candidate that is no worse is aborted with a probability of at most 1 %",
                "  assigned by header:x-user: requests with the same value get the same version",
                "  a second verified operator must approve the rollout before it starts",
                "",
                "  1.0.0 -> 1.1.0: forward-only",
                "    forward-only: input /age is new",
                "    unproved (accepted): output as a whole may differ",
            ]
        );
    }
}
