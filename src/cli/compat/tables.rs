//! The report of the comparison: the verdict, and tables of measurements, evaluations and training
//! data.

use std::fmt::Write;

use crate::{
    cli::{compat::version::OpenedVersion, measure::Measured},
    compat::{
        Compatibility, CompatibilityReport, Severity,
        evaluation::{ComparedFeature, ComparedMetric, Evaluations, FeatureSummary},
    },
};

// Writing to a String does not fail, so the results of `writeln!` below are ignored.

pub(super) fn verdict(
    old: &OpenedVersion,
    new: &OpenedVersion,
    report: &CompatibilityReport,
    reason: Option<&str>,
) -> String {
    let mut text = String::new();
    let meaning = match report.verdict {
        Compatibility::Compatible => {
            "today's callers can use the new version, and a rollback breaks nobody"
        }
        Compatibility::ForwardOnly => {
            "today's callers can use the new version; a rollback would break callers who use the new values"
        }
        Compatibility::Breaking => "today's callers can't use the new version",
    };
    let _ = writeln!(
        text,
        "{} -> {}: {}: {meaning}",
        old.name, new.name, report.verdict
    );
    for difference in &report.differences {
        let _ = writeln!(text, "  {difference}");
        if let Some(reason) = reason.filter(|_| difference.overridden) {
            let _ = writeln!(text, "    accepted: {reason}");
        }
    }
    if report
        .differences
        .iter()
        .any(|difference| difference.severity == Severity::Unproved && !difference.overridden)
    {
        let _ = writeln!(
            text,
            "  (an unproved difference counts as breaking; accept it with --accept-unproved POINTER --reason TEXT)"
        );
    }
    text
}

pub(super) fn row(text: &mut String, [name, old, new, change]: [&str; 4]) {
    let _ = writeln!(text, "  {name:<40} {old:>14} {new:>14} {change:>12}");
}

pub(super) fn change(old: f64, new: f64) -> String {
    if old == 0.0 {
        String::new()
    } else {
        format!("{:+.0} %", (new / old - 1.0) * 100.0)
    }
}

pub(super) fn measured(old: &Measured, new: &Measured, text: &mut String) {
    let _ = writeln!(text, "\nthe graph on this machine, one engine");
    row(text, ["", "old", "new", ""]);
    row(
        text,
        [
            "run of 1 row, ms",
            &ms(old.row_us),
            &ms(new.row_us),
            &change(old.row_us, new.row_us),
        ],
    );
    let comparable = old.batch_rows == new.batch_rows;
    let name = if comparable {
        format!("run of {} rows, ms", old.batch_rows)
    } else {
        format!("run of {} and {} rows, ms", old.batch_rows, new.batch_rows)
    };
    if old.batch_rows > 1 || new.batch_rows > 1 {
        let change = if comparable {
            change(old.batch_us, new.batch_us)
        } else {
            String::new()
        };
        row(text, [&name, &ms(old.batch_us), &ms(new.batch_us), &change]);
    }
    if let (Some(before), Some(after)) = (old.memory_bytes, new.memory_bytes) {
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        row(
            text,
            [
                "memory of load and runs, MiB",
                &mib(before),
                &mib(after),
                &change(before as f64, after as f64),
            ],
        );
    }
}

pub(super) fn ms(us: f64) -> String {
    format!("{:.3}", us / 1e3)
}

pub(super) fn evaluated(evaluation: &Evaluations, text: &mut String) {
    let _ = writeln!(
        text,
        "\nevaluation{}",
        if evaluation.same_data {
            ""
        } else {
            " (on different data: the numbers can't be compared)"
        }
    );
    row(text, ["", "old", "new", "difference"]);
    for ComparedMetric {
        slice,
        name,
        old,
        new,
    } in &evaluation.metrics
    {
        let title = if slice.is_empty() {
            name.clone()
        } else {
            format!("{slice} {name}")
        };
        // Counts and shares are shown in the same column.
        let counts = old
            .iter()
            .chain(new)
            .all(|value| value.fract() == 0.0 && value.abs() > 1.0);
        let number = |value: &Option<f64>| match value {
            None => "-".to_owned(),
            Some(value) if counts => format!("{value}"),
            Some(value) => format!("{value:.4}"),
        };
        let difference = match old.zip(*new).map(|(old, new)| new - old) {
            None => String::new(),
            Some(difference) if counts => format!("{difference:+}"),
            Some(difference) => format!("{difference:+.4}"),
        };
        row(text, [&title, &number(old), &number(new), &difference]);
    }
}

pub(super) fn profiled(features: &[ComparedFeature], text: &mut String) {
    let _ = writeln!(
        text,
        "\ntraining data (median or most frequent value, share missing) and predictions on it"
    );
    row(text, ["", "old", "new", "PSI"]);
    for ComparedFeature {
        name,
        old,
        new,
        psi,
        ..
    } in features
    {
        let short = |side: &Option<FeatureSummary>| match side {
            Some(side) if side.missing > 0.0 => {
                format!("{} {:.1} %", side.middle, side.missing * 100.0)
            }
            Some(side) => side.middle.clone(),
            None => "-".to_owned(),
        };
        row(
            text,
            [
                name,
                &short(old),
                &short(new),
                &psi.map(|psi| format!("{psi:.4}")).unwrap_or_default(),
            ],
        );
    }
}

pub(super) fn left_out(title: &str, file: &str, (old, new): (bool, bool), text: &mut String) {
    let which = match (old, new) {
        (true, true) => "neither version has",
        (true, false) => "the old version has no",
        _ => "the new version has no",
    };
    let _ = writeln!(text, "\n{title}: not compared, {which} {file}");
}
