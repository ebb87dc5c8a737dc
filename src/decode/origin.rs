//! Origin: where a caller wrote its rows, so that errors name places that the caller knows.

use crate::schema::fault::{Fault, token};

/// The decoder counts rows as `/instances/ROW`; this is what the caller calls them.
#[derive(Clone, Debug, Default)]
pub enum Origin {
    /// The member `instances`.
    #[default]
    Instances,
    /// The body is the one row.
    Body,
    /// `dataframe_records`
    Records,
    /// `dataframe_split`, whose rows are lists; with the columns' names.
    Split(Vec<String>),
    /// JSON Lines: the line of each row, from 1.
    Lines(Vec<usize>),
    /// A table: the line of each row, from 1.
    Table(Vec<usize>),
}

impl Origin {
    /// A row, as it is called in a text; people count lines and rows of a file from 1, and elements of an array from 0.
    pub fn row(&self, index: usize) -> String {
        match self {
            Origin::Instances | Origin::Body | Origin::Records | Origin::Split(_) => {
                format!("row {index}")
            }
            Origin::Lines(lines) => format!("line {}", line(lines, index)),
            Origin::Table(lines) => format!("line {} (row {})", line(lines, index), index + 1),
        }
    }

    /// The same fault, at the place where the caller wrote it.
    #[must_use]
    pub fn locate(&self, fault: Fault) -> Fault {
        let Some(rest) = fault.pointer.strip_prefix("/instances/") else {
            return fault;
        };
        let (row, field) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let Ok(index) = row.parse::<usize>() else {
            return fault;
        };
        let pointer = match self {
            Origin::Instances => return fault,
            Origin::Body => field.to_owned(),
            Origin::Records => format!("/dataframe_records/{row}{field}"),
            Origin::Split(columns) => {
                let name = field
                    .get(1..)
                    .and_then(|field| field.split('/').next())
                    .unwrap_or_default();
                let cell = columns
                    .iter()
                    .position(|column| !name.is_empty() && token(column) == name);
                let inner = field.get(1 + name.len()..).unwrap_or_default();
                match cell {
                    Some(cell) => format!("/dataframe_split/data/{row}/{cell}{inner}"),
                    None => format!("/dataframe_split/data/{row}"),
                }
            }
            Origin::Lines(_) => format!("{}: {field}", self.row(index))
                .trim_end()
                .to_owned(),
            // The detail goes on with the column's name.
            Origin::Table(_) if fault.detail.starts_with('`') => {
                format!("{}, column", self.row(index))
            }
            Origin::Table(_) => format!("{}:", self.row(index)),
        };
        Fault { pointer, ..fault }
    }

    /// A text about the tensor made of the rows, whose elements the caller wrote in lines.
    #[must_use]
    pub fn of_tensor(&self, detail: &str) -> String {
        if !matches!(self, Origin::Lines(_) | Origin::Table(_)) {
            return detail.to_owned();
        }
        for (before, after) in [("element [", "]"), ("row ", "")] {
            let Some((front, rest)) = detail.split_once(before) else {
                continue;
            };
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (row, rest) = rest.split_at(digits);
            let (Ok(row), Some(rest)) = (row.parse::<usize>(), rest.strip_prefix(after)) else {
                continue;
            };
            let element = if rest.starts_with('[') {
                ", element "
            } else {
                ""
            };
            return format!("{front}{}{element}{rest}", self.row(row));
        }
        detail.to_owned()
    }
}

fn line(lines: &[usize], index: usize) -> usize {
    lines.get(index).copied().unwrap_or(index + 1)
}

#[cfg(test)]
mod tests {
    use crate::{decode::origin::Origin, schema::fault::Fault};

    #[test]
    fn places_are_the_callers() {
        let columns = || vec!["plan".to_owned(), "a/b".to_owned()];
        let cases = [
            (
                Origin::Instances,
                "/instances/1/age",
                "`age` must",
                "/instances/1/age",
            ),
            (Origin::Body, "/instances/0/age", "`age` must", "/age"),
            (
                Origin::Records,
                "/instances/1/age",
                "`age` must",
                "/dataframe_records/1/age",
            ),
            (
                Origin::Split(columns()),
                "/instances/1/a~1b/0",
                "`a/b` must",
                "/dataframe_split/data/1/1/0",
            ),
            (
                Origin::Split(columns()),
                "/instances/1/age",
                "`age` is required",
                "/dataframe_split/data/1",
            ),
            (
                Origin::Split(columns()),
                "/instances/1",
                "the row has",
                "/dataframe_split/data/1",
            ),
            (
                Origin::Lines(vec![1, 3]),
                "/instances/1/age",
                "`age` must",
                "line 3: /age",
            ),
            (
                Origin::Lines(vec![1, 3]),
                "/instances/1",
                "the row has",
                "line 3:",
            ),
            (
                Origin::Table(vec![2, 3]),
                "/instances/1/age",
                "`age` must",
                "line 3 (row 2), column",
            ),
            (
                Origin::Table(vec![2, 3]),
                "/instances/1",
                "the row has",
                "line 3 (row 2):",
            ),
            (Origin::Table(vec![2]), "/inputs/0", "input", "/inputs/0"),
        ];
        for (origin, pointer, detail, expected) in cases {
            let fault = Fault {
                pointer: pointer.to_owned(),
                keyword: "type",
                detail: detail.to_owned(),
            };
            assert_eq!(origin.locate(fault).pointer, expected, "{origin:?}");
        }
        let table = Origin::Table(vec![2, 4]);
        assert_eq!(
            table.of_tensor("the number at element [1][2] is out"),
            "the number at line 4 (row 2), element [2] is out"
        );
        assert_eq!(
            table.of_tensor("ragged: row 1 has 3 values"),
            "ragged: line 4 (row 2) has 3 values"
        );
        assert_eq!(
            Origin::Records.of_tensor("ragged: row 1 has 3 values"),
            "ragged: row 1 has 3 values"
        );
    }
}
