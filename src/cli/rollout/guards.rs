//! Prints the table of guards: the compared figures, and the state of each guard.

use crate::{
    admin::rollout::RolloutStatus,
    cli::paint::{Cell, Style, Table, count},
    rollout::{
        figures::{number, percent},
        judge::{GuardReport, GuardState},
    },
};

pub(super) fn guards_table(rollout: &RolloutStatus) -> Table {
    let several = rollout.candidates.len() > 1;
    let titles = ["candidate", "stable", "margin", "e-value of limit"].map(Cell::right);
    let mut table = Table::new(
        [Cell::left("guard")]
            .into_iter()
            .chain(titles)
            .chain([Cell::left("state")]),
    );
    for guard in rollout.guards.iter().flatten() {
        let (state, style) = state(guard);
        let candidate = if several {
            format!(" {}", guard.candidate)
        } else {
            String::new()
        };
        let class = guard
            .detail
            .as_ref()
            .map(|class| format!(" \"{class}\""))
            .unwrap_or_default();
        let name = Cell::left(format!("{}{candidate}{class}", guard.guard.name()));
        table.row(
            [name]
                .into_iter()
                .chain(figures(guard))
                .chain([Cell::left(state).style(style)]),
        );
    }
    table
}

fn state(guard: &GuardReport) -> (String, Style) {
    match &guard.state {
        GuardState::Violated => ("VIOLATED".to_owned(), Style::Bad),
        GuardState::Clear => ("clear: shown to be no worse".to_owned(), Style::Good),
        GuardState::NoData => ("no data yet".to_owned(), Style::Doubtful),
        GuardState::Open => {
            let (e_value, limit) = (number(guard.e_value_fine), number(guard.limit_fine));
            let state = format!("open: the evidence that it is no worse is {e_value} of {limit}");
            (state, Style::Doubtful)
        }
        GuardState::NotJudged(reason) => (format!("not judged: {reason}"), Style::Dim),
    }
}

fn figures(guard: &GuardReport) -> [Cell; 4] {
    if matches!(guard.state, GuardState::NotJudged(_)) {
        return ["-", "-", "-", "-"].map(|figure| Cell::right(figure).style(Style::Dim));
    }
    let margin = if guard.stable_share.is_some() {
        format!("+{}", percent(guard.margin))
    } else {
        percent(guard.margin)
    };
    [
        format!(
            "{} of {} {}",
            percent(guard.share),
            count(guard.count),
            guard.unit
        ),
        guard.stable_share.map_or_else(|| "-".to_owned(), percent),
        margin,
        format!("{} of {}", number(guard.e_value), number(guard.limit)),
    ]
    .map(Cell::right)
}
