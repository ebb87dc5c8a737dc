//! `RowOrigin`: the place where a caller wrote its rows, so that errors name places that the caller
//! knows.

use crate::{
    decode::element_index::ElementIndex,
    schema::fault::{Fault, FaultSubject, token},
};

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
            RowOrigin::Table(_) => match fault.subject {
                // The name of the column follows: "line 3 (row 2), column `age` must be ...".
                FaultSubject::Field => format!("{}, column", self.row(index)),
                FaultSubject::Row | FaultSubject::Input => format!("{}:", self.row(index)),
            },
        };
        Fault { pointer, ..fault }
    }

    /// The name of an element of the tensor that was created from the rows.
    pub fn element(&self, element: &ElementIndex) -> String {
        match (self, element.0.split_first()) {
            (RowOrigin::Lines(_) | RowOrigin::Table(_), Some((row, inner))) => {
                let row = self.row(*row);
                if inner.is_empty() {
                    row
                } else {
                    format!("{row}, element {}", ElementIndex(inner.to_vec()))
                }
            }
            // In JSON, the caller sees the same indices as the tensor.
            _ => format!("element {element}"),
        }
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
    use crate::{
        decode::{element_index::ElementIndex, elements::ElementFault, row_origin::RowOrigin},
        schema::fault::{Fault, FaultSubject},
    };

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
            let subject = match detail {
                "the row has" => FaultSubject::Row,
                "input" => FaultSubject::Input,
                _ => FaultSubject::Field,
            };
            let fault = Fault {
                pointer: pointer.to_owned(),
                keyword: "type",
                subject,
                detail: detail.to_owned(),
            };
            assert_eq!(origin.locate(fault).pointer, expected, "{origin:?}");
        }
        let table = RowOrigin::Table(vec![2, 4]);
        let element = ElementIndex(vec![1, 2]);
        let out_of_range = ElementFault::OutOfRange { element };
        assert_eq!(
            out_of_range.text(&table),
            "the number at line 4 (row 2), element [2] is out of range"
        );
        assert_eq!(
            out_of_range.to_string(),
            "the number at element [1][2] is out of range"
        );
        let uneven = ElementFault::Uneven { row: 1 };
        assert_eq!(
            uneven.text(&table),
            "the data is nested unevenly in line 4 (row 2)"
        );
        assert_eq!(
            uneven.text(&RowOrigin::Records),
            "the data is nested unevenly in row 1"
        );
    }
}
