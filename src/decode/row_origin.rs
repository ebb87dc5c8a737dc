//! `RowOrigin`: the place where a caller wrote its rows, so that errors name places that the caller
//! knows.

use crate::schema::fault::{Fault, token};

/// The place of rows in a request. The decoder calls a row `/instances/ROW`. The methods convert
/// that to the caller's place.
#[derive(Clone, Debug, Default)]
pub enum RowOrigin {
    /// The member `instances`.
    #[default]
    Instances,
    /// The body is one row.
    Body,
    /// The member `dataframe_records`.
    Records,
    /// The member `dataframe_split`, whose rows are lists. The variant contains the names of the
    /// columns.
    Split(Vec<String>),
    /// JSON Lines. The variant contains the line number of each row, from 1.
    Lines(Vec<usize>),
    /// A CSV table. The variant contains the line number of each row, from 1.
    Table(Vec<usize>),
}

impl RowOrigin {
    /// The name of a row in a message. Elements of an array are counted from 0, and lines and rows
    /// of a file from 1.
    pub fn row(&self, index: usize) -> String {
        match self {
            RowOrigin::Instances | RowOrigin::Body | RowOrigin::Records | RowOrigin::Split(_) => {
                format!("row {index}")
            }
            RowOrigin::Lines(lines) => format!("line {}", line(lines, index)),
            RowOrigin::Table(lines) => format!("line {} (row {})", line(lines, index), index + 1),
        }
    }

    /// Changes a fault so that it names the place where the caller wrote the value.
    #[must_use]
    pub fn locate(&self, fault: Fault) -> Fault {
        // Other faults already have a pointer that the caller knows.
        let Some(rest) = fault.pointer.strip_prefix("/instances/") else {
            return fault;
        };
        let (row, field) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let Ok(index) = row.parse::<usize>() else {
            return fault;
        };
        let pointer = match self {
            RowOrigin::Instances => return fault,
            RowOrigin::Body => field.to_owned(),
            RowOrigin::Records => format!("/dataframe_records/{row}{field}"),
            RowOrigin::Split(columns) => {
                format!(
                    "/dataframe_split/data/{row}{}",
                    cell_pointer(columns, field)
                )
            }
            RowOrigin::Lines(_) => format!("{}: {field}", self.row(index))
                .trim_end()
                .to_owned(),
            // The detail starts with the name of the column in backquotes: "line 3 (row 2), column
            // `age` must be ...".
            RowOrigin::Table(_) if fault.detail.starts_with('`') => {
                format!("{}, column", self.row(index))
            }
            RowOrigin::Table(_) => format!("{}:", self.row(index)),
        };
        Fault { pointer, ..fault }
    }

    /// Replaces the row in a message about the tensor that was created from the rows, if the caller
    /// wrote the rows in lines.
    #[must_use]
    pub fn relocate_detail(&self, detail: &str) -> String {
        // In JSON, the caller sees the same indices as the tensor.
        if !matches!(self, RowOrigin::Lines(_) | RowOrigin::Table(_)) {
            return detail.to_owned();
        }
        // The messages of `ElementFault` name a row as `element [1]` or as `row 1`.
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

/// The pointer to a field in a row that is a list, followed by the rest of the fault's pointer:
/// `/1` for the field `/age` in the second column. Empty if the fault does not concern one column.
fn cell_pointer(columns: &[String], field: &str) -> String {
    let name = field
        .get(1..)
        .and_then(|field| field.split('/').next())
        .unwrap_or_default();
    let cell = columns
        .iter()
        .position(|column| !name.is_empty() && token(column) == name);
    let inner = field.get(1 + name.len()..).unwrap_or_default();
    cell.map_or_else(String::new, |cell| format!("/{cell}{inner}"))
}

fn line(lines: &[usize], index: usize) -> usize {
    lines.get(index).copied().unwrap_or(index + 1)
}

#[cfg(test)]
mod tests {
    use crate::{decode::row_origin::RowOrigin, schema::fault::Fault};

    #[test]
    fn faults_are_located_where_the_caller_wrote_the_rows() {
        let columns = || vec!["plan".to_owned(), "a/b".to_owned()];
        let cases = [
            (
                RowOrigin::Instances,
                "/instances/1/age",
                "`age` must",
                "/instances/1/age",
            ),
            (RowOrigin::Body, "/instances/0/age", "`age` must", "/age"),
            (
                RowOrigin::Records,
                "/instances/1/age",
                "`age` must",
                "/dataframe_records/1/age",
            ),
            (
                RowOrigin::Split(columns()),
                "/instances/1/a~1b/0",
                "`a/b` must",
                "/dataframe_split/data/1/1/0",
            ),
            (
                RowOrigin::Split(columns()),
                "/instances/1/age",
                "`age` is required",
                "/dataframe_split/data/1",
            ),
            (
                RowOrigin::Split(columns()),
                "/instances/1",
                "the row has",
                "/dataframe_split/data/1",
            ),
            (
                RowOrigin::Lines(vec![1, 3]),
                "/instances/1/age",
                "`age` must",
                "line 3: /age",
            ),
            (
                RowOrigin::Lines(vec![1, 3]),
                "/instances/1",
                "the row has",
                "line 3:",
            ),
            (
                RowOrigin::Table(vec![2, 3]),
                "/instances/1/age",
                "`age` must",
                "line 3 (row 2), column",
            ),
            (
                RowOrigin::Table(vec![2, 3]),
                "/instances/1",
                "the row has",
                "line 3 (row 2):",
            ),
            (RowOrigin::Table(vec![2]), "/inputs/0", "input", "/inputs/0"),
        ];
        for (origin, pointer, detail, expected) in cases {
            let fault = Fault {
                pointer: pointer.to_owned(),
                keyword: "type",
                detail: detail.to_owned(),
            };
            assert_eq!(origin.locate(fault).pointer, expected, "{origin:?}");
        }
        let table = RowOrigin::Table(vec![2, 4]);
        assert_eq!(
            table.relocate_detail("the number at element [1][2] is out"),
            "the number at line 4 (row 2), element [2] is out"
        );
        assert_eq!(
            table.relocate_detail("ragged: row 1 has 3 values"),
            "ragged: line 4 (row 2) has 3 values"
        );
        assert_eq!(
            RowOrigin::Records.relocate_detail("ragged: row 1 has 3 values"),
            "ragged: row 1 has 3 values"
        );
    }
}
