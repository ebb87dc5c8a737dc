//! Formats figures and tables, with colours on a terminal.

use std::io::IsTerminal;

use crate::{clock, rollout::figures::duration};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Doubtful,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "\x1b[1m",
            Style::Dim => "\x1b[2m",
            Style::Good => "\x1b[32m",
            Style::Doubtful => "\x1b[33m",
            Style::Bad => "\x1b[1;31m",
        }
    }
}

/// Whether to print colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) const OFF: Paint = Paint(false);

    /// Returns the setting for stdout: colours on a terminal that supports them, unless NO_COLOR is
    /// set.
    pub(super) fn stdout() -> Paint {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint(is_terminal() && !unwanted && !dumb)
    }

    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if self.0 && style != Style::Plain && !text.is_empty() {
            format!("{}{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }
}

pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    pub(super) fn left(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            style: Style::Plain,
            right: false,
        }
    }

    pub(super) fn right(text: impl Into<String>) -> Cell {
        Cell {
            right: true,
            ..Cell::left(text)
        }
    }

    pub(super) fn style(self, style: Style) -> Cell {
        Cell { style, ..self }
    }
}

/// A table with aligned columns.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Vec<Cell>>);

impl Table {
    /// Creates a table with column titles. The title of a column of figures is aligned to the
    /// right, like the figures.
    pub(super) fn new(titles: impl IntoIterator<Item = Cell>) -> Table {
        Table(vec![
            titles
                .into_iter()
                .map(|cell| cell.style(Style::Dim))
                .collect(),
        ])
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.push(cells.into_iter().collect());
    }

    pub(super) fn print(&self, paint: Paint, text: &mut String) {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.0
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.text.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| width(column).unwrap_or_default())
            .collect();
        for row in &self.0 {
            let mut line = String::new();
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                let rest = width.saturating_sub(cell.text.chars().count());
                let before = if cell.right { rest } else { 0 };
                line.push_str(&" ".repeat(gap + before));
                line.push_str(&paint.paint(cell.style, &cell.text));
                // Empty cells at the end of a line are not printed.
                gap = rest - before + 2;
            }
            text.push_str("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

/// Formats a count with thousands separators, like `4,011`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats the time since a timestamp in RFC 3339, like `3 min ago`.
pub(super) fn ago(at: &str) -> String {
    match clock::ms_of_rfc3339(at) {
        Some(ms) => format!(
            "{} ago",
            duration((clock::now_ms().saturating_sub(ms) / 1000) as f64)
        ),
        None => at.to_owned(),
    }
}

/// The first 12 digits of a digest, which are enough to tell packages apart.
pub(super) fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

#[cfg(test)]
mod tests {
    use crate::cli::paint::{Cell, Paint, Style, Table, count};

    #[test]
    fn counts_have_separators() {
        assert_eq!(
            [count(7), count(999), count(4011), count(1_234_567)],
            ["7", "999", "4,011", "1,234,567"]
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new([Cell::left("arm"), Cell::right("errors"), Cell::left("note")]);
        table.row([
            Cell::left("1.0.0"),
            Cell::right("3").style(Style::Bad),
            Cell::left(""),
        ]);
        let (mut plain, mut painted) = (String::new(), String::new());
        table.print(Paint(false), &mut plain);
        table.print(Paint(true), &mut painted);
        assert_eq!(plain, "  arm    errors  note\n  1.0.0       3\n");
        assert_eq!(
            painted,
            "  \x1b[2marm\x1b[0m    \x1b[2merrors\x1b[0m  \x1b[2mnote\x1b[0m\n  1.0.0       \x1b[1;31m3\x1b[0m\n"
        );
    }
}
