//! `CsvTable`: CSV as spreadsheets, SageMaker and MLflow send it, and its conversion to rows. The
//! only file that names the crate `csv`.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    decode::{json_rows::JsonRows, row_origin::RowOrigin},
    schema::{ColumnSpec, columns::ColumnKind, fault::shorten},
    tensor::{
        DataType,
        signature::{Signature, TensorSpec},
    },
};

/// A CSV table from a request, before it is parsed.
#[derive(Clone, Debug)]
pub struct CsvTable {
    /// The table as the caller sent it. It may contain bytes that are not UTF-8.
    pub text: Bytes,
    /// Whether the first line is a header.
    pub header: Header,
}

/// Whether the first line contains the names of the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// The first line is a header.
    Present,
    /// The first line is a row. The columns have the order of the schema.
    Absent,
    /// The first line is a header if its cells are names of inputs.
    #[default]
    Guess,
}

/// Why a table is refused. The messages contain no cell of the table, because a cell may be
/// personal. `row` names a row like [`RowOrigin::row`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum TableError {
    #[error("the table has more than {MAX_ROWS} rows")]
    TooManyRows,
    #[error("the table is empty; send at least one row")]
    NoLine,
    #[error("the table has only a header; send at least one row")]
    OnlyHeader,
    #[error("the table is not UTF-8")]
    NotUtf8,
    #[error("the table is not CSV")]
    NotCsv,
    #[error(
        "line {line} (row {row}) of the table has {given} cells, but the first line has {expected}"
    )]
    UnequalLines {
        line: usize,
        row: usize,
        given: u64,
        expected: u64,
    },
    #[error("{row} of the table has {given} cells, expected {expected}")]
    CellCount {
        row: String,
        given: usize,
        expected: usize,
    },
    #[error("{row}, {cell} of the table must be {expected}")]
    WrongCell {
        row: String,
        /// The name of the cell: "column `age`", or "cell 3" if the columns have no names.
        cell: String,
        expected: ExpectedCell,
    },
    #[error("a table has no cell for the list `{name}`; send JSON")]
    ListColumn { name: String },
    #[error("the table has two columns called \"{name}\"")]
    DuplicateColumn { name: String },
}

/// The values that a cell accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectedCell {
    /// A cell of a column of numbers.
    #[error("a number")]
    Number,
    /// A cell of a column of booleans.
    #[error("true or false")]
    Boolean,
}

/// The JSON type as which the cells of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CellType {
    Number,
    Boolean,
    Text,
}

/// Maximum number of rows in a table. A line of two bytes takes about a hundred bytes of memory as
/// a record, so the limit of the body alone would not bound the memory.
const MAX_ROWS: usize = 65_536;

struct Lines {
    header: Option<Vec<String>>,
    records: Vec<csv::StringRecord>,
    /// The line number of each record.
    origin: RowOrigin,
}

/// Converts a table to rows for a schema. An empty cell is a missing value.
pub fn to_rows(table: &CsvTable, columns: &[ColumnSpec]) -> Result<JsonRows, TableError> {
    let is_name = |cell: &str| columns.iter().any(|column| column.name == cell);
    // A header may contain columns that the model does not know. A first line with all required
    // columns is a header.
    let required: Vec<&str> = columns
        .iter()
        .filter(|column| column.required)
        .map(|column| column.name.as_str())
        .collect();
    let has_required = |first: &csv::StringRecord| {
        !required.is_empty()
            && required
                .iter()
                .all(|name| first.iter().any(|cell| cell == *name))
    };
    let lines = read(table, &|first| {
        first.iter().all(is_name) || has_required(first)
    })?;
    let schema_order = || columns.iter().map(|column| column.name.clone()).collect();
    // Without a header, the columns have the order of the schema.
    let names: Vec<String> = lines.header.clone().unwrap_or_else(schema_order);
    let cell_type = |name: &String| {
        let column = columns.iter().find(|column| column.name == *name);
        match column.map(|column| column.kind) {
            Some(ColumnKind::Number | ColumnKind::Integer) => CellType::Number,
            Some(ColumnKind::Boolean) => CellType::Boolean,
            _ => CellType::Text,
        }
    };
    let types: Vec<CellType> = names.iter().map(cell_type).collect();
    // CSV has no standard notation for a list, and tools differ in their notation.
    if let Some(array) = columns
        .iter()
        .find(|column| column.kind.is_array() && names.contains(&column.name))
    {
        return Err(TableError::ListColumn {
            name: array.name.clone(),
        });
    }
    lines.into_rows(&types, Some(names))
}

/// Converts a table to rows for a graph without a schema.
pub fn to_plain_rows(table: &CsvTable, graph: &Signature) -> Result<JsonRows, TableError> {
    let cell_type = |spec: &TensorSpec| match spec.datatype {
        DataType::Bool => CellType::Boolean,
        DataType::Bytes => CellType::Text,
        _ => CellType::Number,
    };
    let is_name = |cell: &str| graph.inputs.iter().any(|spec| *spec.name == *cell);
    let only = match graph.inputs.as_slice() {
        [only] => Some(cell_type(only)),
        _ => None,
    };
    // In a table of numbers, a first line without any number is a header, whatever names it
    // contains.
    let is_word = |cell: &str| !cell.is_empty() && !is_nan(cell) && json_number(cell).is_none();
    let has_words = |first: &csv::StringRecord| {
        only == Some(CellType::Number) && first.iter().all(|cell| is_word(cell.trim()))
    };
    let lines = read(table, &|first| {
        first.iter().all(is_name) || has_words(first)
    })?;
    let width = lines.records.first().map_or(0, csv::StringRecord::len);
    let graph_order = || {
        let names = graph.inputs.iter().map(|spec| spec.name.to_string());
        only.is_none().then(|| names.collect())
    };
    let names: Option<Vec<String>> = lines.header.clone().or_else(graph_order);
    let types: Vec<CellType> = (0..width)
        .map(|at| {
            let name = names.as_ref().and_then(|names| names.get(at));
            let spec = name.and_then(|name| graph.inputs.iter().find(|spec| *spec.name == **name));
            spec.map(cell_type).or(only).unwrap_or(CellType::Text)
        })
        .collect();
    lines.into_rows(&types, names)
}

/// Converts a table to objects with the names of its header. The cells of a column determine the
/// column's type.
pub fn to_objects(text: Bytes) -> Result<Vec<Value>, TableError> {
    let header = Header::Present;
    let lines = read(&CsvTable { text, header }, &|_| true)?;
    let names = lines.header.clone().unwrap_or_default();
    let duplicate = names
        .iter()
        .enumerate()
        .find(|(at, name)| names.iter().take(*at).any(|other| other == *name));
    if let Some((_, name)) = duplicate {
        return Err(TableError::DuplicateColumn { name: name.clone() });
    }
    let types: Vec<CellType> = (0..names.len()).map(|at| lines.guess_type(at)).collect();
    let rows = lines.into_rows(&types, Some(names.clone()))?;
    let rows: Vec<Vec<Value>> =
        serde_json::from_slice(&rows.text).map_err(|_| TableError::NotCsv)?;
    Ok(rows
        .into_iter()
        .map(|row| Value::Object(names.iter().cloned().zip(row).collect()))
        .collect())
}

/// Whether a cell is a number. A code such as 00501 is not a number, because its zeros would be
/// lost.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['-', '+']).as_bytes();
    !matches!(digits, [b'0', b'0'..=b'9', ..]) && json_number(cell).is_some()
}

/// Reads the records of a table. If the table does not say whether it has a header, `is_header`
/// decides by the first record.
fn read(
    table: &CsvTable,
    is_header: &dyn Fn(&csv::StringRecord) -> bool,
) -> Result<Lines, TableError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(&table.text[..]);
    let (mut records, mut numbers) = (Vec::new(), Vec::new());
    let mut header = None;
    let mut count = LineCount {
        text: &table.text,
        at: 0,
        line: 1,
    };
    for record in reader.records() {
        // The limit is checked before the record is kept.
        if records.len() == MAX_ROWS {
            return Err(TableError::TooManyRows);
        }
        let record = record.map_err(|error| refuse(&error, &mut count, records.len()))?;
        let first = header.is_none() && records.is_empty();
        let names = match table.header {
            Header::Present => first,
            Header::Absent => false,
            Header::Guess => first && is_header(&record),
        };
        if names {
            // Excel writes a byte order mark before the first name.
            let name = |name: &str| name.trim().trim_start_matches('\u{feff}').to_owned();
            header = Some(record.iter().map(name).collect());
        } else {
            numbers.push(count.line_of(record.position()));
            records.push(record);
        }
    }
    match (records.is_empty(), &header) {
        (true, None) => Err(TableError::NoLine),
        (true, Some(_)) => Err(TableError::OnlyHeader),
        (false, _) => Ok(Lines {
            header,
            records,
            origin: RowOrigin::Table(numbers),
        }),
    }
}

/// Counts the lines of a text, from 1. Each call continues from the record of the previous call.
struct LineCount<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl LineCount<'_> {
    /// The line number of a record. The reader's position of a record is before the empty lines that
    /// precede it, so these lines are counted here.
    fn line_of(&mut self, position: Option<&csv::Position>) -> usize {
        let start = position
            .and_then(|position| usize::try_from(position.byte()).ok())
            .unwrap_or(0);
        let empty = self
            .text
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        self.line += memchr::memchr_iter(
            b'\n',
            self.text.get(self.at..start + empty).unwrap_or_default(),
        )
        .count();
        self.at = start + empty;
        self.line
    }
}

/// The refusal for a reader error that occurs after `rows` rows.
fn refuse(error: &csv::Error, count: &mut LineCount<'_>, rows: usize) -> TableError {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => TableError::NotUtf8,
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => TableError::UnequalLines {
            line: count.line_of(pos.as_ref()),
            row: rows + 1,
            given: *len,
            expected: *expected_len,
        },
        _ => TableError::NotCsv,
    }
}

impl Lines {
    /// The rows as lists of JSON values. `types` and `names` are the types and names of the
    /// columns.
    fn into_rows(
        self,
        types: &[CellType],
        names: Option<Vec<String>>,
    ) -> Result<JsonRows, TableError> {
        let cell_name = |at: usize| match names.as_ref().and_then(|names| names.get(at)) {
            Some(name) => format!("column `{}`", shorten(name)),
            None => format!("cell {}", at + 1),
        };
        let mut text = Vec::from(b"[");
        for (index, record) in self.records.iter().enumerate() {
            // All records have the same length. Without a header, this may differ from the number
            // of columns in the schema.
            if record.len() != types.len() {
                return Err(TableError::CellCount {
                    row: self.origin.row(index),
                    given: record.len(),
                    expected: types.len(),
                });
            }
            text.extend_from_slice(if index > 0 { b",[" } else { b"[" });
            for (at, (cell, cell_type)) in record.iter().zip(types).enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                write_cell(cell, *cell_type, &mut text).map_err(|expected| {
                    TableError::WrongCell {
                        row: self.origin.row(index),
                        cell: cell_name(at),
                        expected,
                    }
                })?;
            }
            text.push(b']');
        }
        text.push(b']');
        Ok(JsonRows {
            text: Bytes::from(text),
            names,
            frame: true,
            origin: self.origin,
        })
    }

    /// The type that fits all cells of a column.
    fn guess_type(&self, column: usize) -> CellType {
        let all = |holds: fn(&str) -> bool| {
            self.records
                .iter()
                .filter_map(|record| record.get(column))
                .map(str::trim)
                .all(|cell| cell.is_empty() || holds(cell))
        };
        let is_boolean: fn(&str) -> bool =
            |cell| matches!(cell, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
        if all(|cell| is_nan(cell) || is_number(cell)) {
            CellType::Number
        } else if all(is_boolean) {
            CellType::Boolean
        } else {
            CellType::Text
        }
    }
}

/// Writes one cell as JSON. The error says which values the cell accepts.
fn write_cell(cell: &str, cell_type: CellType, text: &mut Vec<u8>) -> Result<(), ExpectedCell> {
    let trimmed = cell.trim();
    match cell_type {
        // An empty cell is missing, even in a string column: CSV can't distinguish a missing value
        // from an empty string.
        _ if trimmed.is_empty() => text.extend_from_slice(b"null"),
        CellType::Number if is_nan(trimmed) => text.extend_from_slice(b"null"),
        CellType::Number => {
            text.extend_from_slice(json_number(trimmed).ok_or(ExpectedCell::Number)?.as_bytes());
        }
        CellType::Boolean => {
            let value = match trimmed {
                "true" | "True" | "TRUE" | "1" => "true",
                "false" | "False" | "FALSE" | "0" => "false",
                _ => return Err(ExpectedCell::Boolean),
            };
            text.extend_from_slice(value.as_bytes());
        }
        // Writing to a `Vec` does not fail.
        CellType::Text => drop(serde_json::to_writer(text, cell)),
    }
    Ok(())
}

/// Whether a cell means a missing value in pandas, R or Python.
fn is_nan(cell: &str) -> bool {
    matches!(cell, "nan" | "NaN" | "NAN" | "NA" | "null" | "None")
}

/// A number in JSON syntax. A cell that is already valid JSON keeps its digits, because a double
/// would round long integers.
fn json_number(cell: &str) -> Option<String> {
    if serde_json::from_str::<serde_json::Number>(cell).is_ok() {
        return Some(cell.to_owned());
    }
    let value: f64 = cell.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some(ryu::Buffer::new().format_finite(value).to_owned())
}

/// Writes rows of cells as CSV.
pub fn write_lines(rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .flexible(true)
        .from_writer(Vec::new());
    for row in rows {
        // Writing to a `Vec` does not fail.
        let _ = writer.write_record(&row);
    }
    writer.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::json;

    use crate::{
        decode::csv_table::{CsvTable, Header, TableError, to_objects, to_plain_rows, to_rows},
        schema::Schema,
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    fn convert(text: &str, header: Header) -> Result<(Vec<String>, String), TableError> {
        let schema = Schema::compile(&json!({"type": "object", "additionalProperties": false, "properties": {
            "age": {"type": "integer"}, "plan": {"type": "string"}, "paid": {"type": "boolean"}, "spend": {"type": "number"}
        }}))
        .unwrap();
        let rows = to_rows(
            &CsvTable {
                text: Bytes::copy_from_slice(text.as_bytes()),
                header,
            },
            schema.columns(),
        )?;
        Ok((
            rows.names.unwrap(),
            String::from_utf8(rows.text.to_vec()).unwrap(),
        ))
    }

    #[test]
    fn cells_have_the_types_of_their_fields() {
        let (names, text) = convert(
            "plan,age,spend\n\"a, \"\"b\"\"\",3,1e2\n,,nan\n",
            Header::Guess,
        )
        .unwrap();
        assert_eq!(names, ["plan", "age", "spend"]);
        assert_eq!(text, r#"[["a, \"b\"",3,1e2],[null,null,null]]"#);
        let (names, text) = convert("9007199254740993,basic,True,.5\r\n", Header::Guess).unwrap();
        assert_eq!(names, ["age", "plan", "paid", "spend"]);
        assert_eq!(text, r#"[[9007199254740993,"basic",true,0.5]]"#);
        // The table has no header, although a cell is equal to the name of a field.
        assert_eq!(
            convert("1,plan,0,2", Header::Absent).unwrap().1,
            r#"[[1,"plan",false,2]]"#
        );
        assert_eq!(
            convert("other\nx\n", Header::Present).unwrap(),
            (vec!["other".to_owned()], r#"[["x"]]"#.to_owned())
        );
    }

    #[test]
    fn malformed_tables_are_refused_without_their_values() {
        let cases = [
            ("", "the table is empty"),
            ("age,plan\n", "only a header"),
            (
                "age\n1\n\r\nsecret\n",
                "line 4 (row 2), column `age` of the table must be a number",
            ),
            ("paid\nsecret\n", "must be true or false"),
            (
                "age,plan\n1\n",
                "line 2 (row 1) of the table has 1 cells, but the first line has 2",
            ),
            ("1,secret\n", "has 2 cells, expected 4"),
        ];
        for (text, expected) in cases {
            let error = convert(text, Header::Guess).unwrap_err().to_string();
            assert!(
                error.contains(expected) && !error.contains("secret"),
                "{text}: {error}"
            );
        }
        let table = CsvTable {
            text: Bytes::from_static(b"age\n\xff\n"),
            header: Header::Guess,
        };
        assert_eq!(to_rows(&table, &[]).unwrap_err(), TableError::NotUtf8);
    }

    #[test]
    fn types_are_guessed_without_a_schema() {
        let rows = |text: &'static str| to_objects(Bytes::from_static(text.as_bytes()));
        let text = "\u{feff}age,zip,paid,spend,note\n3,00501,True,1.5,\n,10001,False,nan,x\n";
        let expected = [
            json!({"age": 3, "zip": "00501", "paid": true, "spend": 1.5, "note": null}),
            json!({"age": null, "zip": "10001", "paid": false, "spend": null, "note": "x"}),
        ];
        assert_eq!(rows(text).unwrap(), expected);
        assert!(
            rows("a,a\n1,2\n")
                .unwrap_err()
                .to_string()
                .contains("two columns called \"a\"")
        );
        assert_eq!(rows("a\n").unwrap_err(), TableError::OnlyHeader);
    }

    #[test]
    fn a_graph_takes_numbers_with_and_without_names() {
        let inputs = vec![TensorSpec {
            name: Arc::from("x"),
            datatype: DataType::Fp32,
            shape: Shape(vec![Dim::Any, Dim::Fixed(2)]),
        }];
        let graph = Signature {
            inputs,
            outputs: Vec::new(),
        };
        let rows = |text: &str| {
            let table = CsvTable {
                text: Bytes::copy_from_slice(text.as_bytes()),
                header: Header::Guess,
            };
            String::from_utf8(to_plain_rows(&table, &graph).unwrap().text.to_vec()).unwrap()
        };
        for text in ["1,2\n3,4\n", "a,b\n1,2\n3,4\n"] {
            assert_eq!(rows(text), "[[1,2],[3,4]]", "{text}");
        }
        // A missing value is not a name.
        assert_eq!(rows("nan,nan\n1,2\n"), "[[null,null],[1,2]]");
        assert_eq!(rows(",\n1,2\n"), "[[null,null],[1,2]]");
    }
}
