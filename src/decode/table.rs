//! Table: CSV text, as spreadsheets, SageMaker and MLflow send it, turned into rows. The only file that names csv.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    decode::{origin::Origin, rows::Rows},
    schema::{ColumnSpec, columns::ColumnKind, fault::shorten},
    tensor::{
        DataType,
        signature::{Signature, TensorSpec},
    },
};

#[derive(Clone, Debug)]
pub struct Table {
    pub text: Bytes,
    pub header: Header,
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    Present,
    Absent,
    /// It does where it has nothing but names of inputs.
    #[default]
    Guess,
}

/// What a cell's text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Number,
    Boolean,
    Text,
}

/// A line of two bytes becomes a record of a hundred.
const MAX_ROWS: usize = 65_536;

struct Lines {
    header: Option<Vec<String>>,
    lines: Vec<csv::StringRecord>,
    /// Where the lines are.
    origin: Origin,
}

/// The rows of a table for a schema; empty cells are values that are left out.
pub fn to_rows(table: &Table, columns: &[ColumnSpec]) -> Result<Rows, String> {
    let is_name = |cell: &str| columns.iter().any(|column| column.name == cell);
    // With columns that the model does not know the required ones are still all there.
    let required: Vec<&str> = columns
        .iter()
        .filter(|column| column.required)
        .map(|column| column.name.as_str())
        .collect();
    let names_required = |first: &csv::StringRecord| {
        !required.is_empty()
            && required
                .iter()
                .all(|name| first.iter().any(|cell| cell == *name))
    };
    let Lines {
        header,
        lines,
        origin,
    } = read(table, &|first| {
        first.iter().all(is_name) || names_required(first)
    })?;
    let own_order = || columns.iter().map(|column| column.name.clone()).collect();
    let names: Vec<String> = header.unwrap_or_else(own_order);
    let cells: Vec<Cell> = names
        .iter()
        .map(|name| {
            match columns
                .iter()
                .find(|column| column.name == *name)
                .map(|column| column.kind)
            {
                Some(ColumnKind::Number | ColumnKind::Integer) => Cell::Number,
                Some(ColumnKind::Boolean) => Cell::Boolean,
                _ => Cell::Text,
            }
        })
        .collect();
    if let Some(array) = columns
        .iter()
        .find(|column| column.kind.is_array() && names.contains(&column.name))
    {
        return Err(format!(
            "a table has no cell for the list `{}`; send JSON",
            array.name
        ));
    }
    Ok(Rows {
        text: write(&lines, &cells, Some(&names), &origin)?,
        names: Some(names),
        frame: true,
        origin,
    })
}

/// The rows of a table for a graph without a schema.
pub fn to_plain_rows(table: &Table, graph: &Signature) -> Result<Rows, String> {
    let kind = |spec: &TensorSpec| match spec.datatype {
        DataType::Bool => Cell::Boolean,
        DataType::Bytes => Cell::Text,
        _ => Cell::Number,
    };
    let is_name = |cell: &str| graph.inputs.iter().any(|spec| *spec.name == *cell);
    let only = match graph.inputs.as_slice() {
        [only] => Some(kind(only)),
        _ => None,
    };
    // Where all cells are numbers, a line without any is a line of names.
    let is_word = |cell: &str| !cell.is_empty() && !is_nan(cell) && json_number(cell).is_none();
    let words = |first: &csv::StringRecord| {
        only == Some(Cell::Number) && first.iter().all(|cell| is_word(cell.trim()))
    };
    let Lines {
        header,
        lines,
        origin,
    } = read(table, &|first| first.iter().all(is_name) || words(first))?;
    let width = lines.first().map_or(0, csv::StringRecord::len);
    let names = header.or_else(|| {
        only.is_none().then(|| {
            graph
                .inputs
                .iter()
                .map(|spec| spec.name.to_string())
                .collect()
        })
    });
    let cells: Vec<Cell> = (0..width)
        .map(|at| {
            let named = names.as_ref().and_then(|names| names.get(at));
            let spec = named.and_then(|name| graph.inputs.iter().find(|spec| *spec.name == **name));
            spec.map(kind).or(only).unwrap_or(Cell::Text)
        })
        .collect();
    Ok(Rows {
        text: write(&lines, &cells, names.as_deref(), &origin)?,
        names,
        frame: true,
        origin,
    })
}

/// The rows of a table as objects, by its header; what kind of values a column has is told by its cells.
pub fn to_objects(text: Bytes) -> Result<Vec<Value>, String> {
    let Lines {
        header,
        lines,
        origin,
    } = read(
        &Table {
            text,
            header: Header::Present,
        },
        &|_| true,
    )?;
    let names = header.unwrap_or_default();
    if let Some(twice) = names
        .iter()
        .enumerate()
        .find(|(at, name)| names.iter().take(*at).any(|other| other == *name))
    {
        return Err(format!("the table has two columns called \"{}\"", twice.1));
    }
    let kinds: Vec<Cell> = (0..names.len())
        .map(|at| {
            let all = |holds: fn(&str) -> bool| {
                lines
                    .iter()
                    .filter_map(|line| line.get(at))
                    .map(str::trim)
                    .all(|cell| cell.is_empty() || holds(cell))
            };
            if all(|cell| is_nan(cell) || is_number(cell)) {
                Cell::Number
            } else if all(|cell| {
                matches!(cell, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
            }) {
                Cell::Boolean
            } else {
                Cell::Text
            }
        })
        .collect();
    let rows: Vec<Vec<Value>> =
        serde_json::from_slice(&write(&lines, &kinds, Some(&names), &origin)?)
            .map_err(|error| error.to_string())?;
    Ok(rows
        .into_iter()
        .map(|row| Value::Object(names.iter().cloned().zip(row).collect()))
        .collect())
}

/// A code such as 00501 is a text.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['-', '+']).as_bytes();
    !matches!(digits, [b'0', b'0'..=b'9', ..]) && json_number(cell).is_some()
}

fn read(table: &Table, is_header: &dyn Fn(&csv::StringRecord) -> bool) -> Result<Lines, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(&table.text[..]);
    let (mut lines, mut numbers) = (Vec::new(), Vec::new());
    let mut header = None;
    let mut count = LineCount {
        text: &table.text,
        at: 0,
        line: 1,
    };
    for record in reader.records() {
        if lines.len() == MAX_ROWS {
            return Err(format!("the table has more than {MAX_ROWS} rows"));
        }
        let record = record.map_err(|error| describe(&error, &mut count, lines.len()))?;
        let first = header.is_none() && lines.is_empty();
        let names = match table.header {
            Header::Present => first,
            Header::Absent => false,
            Header::Guess => first && is_header(&record),
        };
        if names {
            header = Some(
                record
                    .iter()
                    .map(|name| name.trim().trim_start_matches('\u{feff}').to_owned())
                    .collect(),
            );
        } else {
            numbers.push(count.of(record.position()));
            lines.push(record);
        }
    }
    match (lines.is_empty(), &header) {
        (true, None) => Err("the table has no line".to_owned()),
        (true, Some(_)) => Err("the table has no line beside its header".to_owned()),
        (false, _) => Ok(Lines {
            header,
            lines,
            origin: Origin::Table(numbers),
        }),
    }
}

/// Counts lines from 1, on from the last record that was asked for.
struct LineCount<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl LineCount<'_> {
    /// The line of a record; the reader's own position is that of the empty lines before it.
    fn of(&mut self, position: Option<&csv::Position>) -> usize {
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

/// Without the text of the table, which may be personal; `rows` were read before.
fn describe(error: &csv::Error, count: &mut LineCount<'_>, rows: usize) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "the table is not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let line = count.of(pos.as_ref());
            format!(
                "line {line} (row {}) of the table has {len} cells, but the first line has {expected_len}",
                rows + 1
            )
        }
        _ => "the table is not CSV".to_owned(),
    }
}

/// Rows as lists; `names` are the columns', where they have some.
fn write(
    lines: &[csv::StringRecord],
    cells: &[Cell],
    names: Option<&[String]>,
    origin: &Origin,
) -> Result<Bytes, String> {
    let name = |at: usize| match names.and_then(|names| names.get(at)) {
        Some(name) => format!("column `{}`", shorten(name)),
        None => format!("cell {}", at + 1),
    };
    let mut text = Vec::from(b"[");
    for (index, line) in lines.iter().enumerate() {
        if line.len() != cells.len() {
            return Err(format!(
                "{} of the table has {} cells, expected {}",
                origin.row(index),
                line.len(),
                cells.len()
            ));
        }
        text.extend_from_slice(if index > 0 { b",[" } else { b"[" });
        for (at, (cell, kind)) in line.iter().zip(cells).enumerate() {
            if at > 0 {
                text.push(b',');
            }
            write_cell(cell, *kind, &mut text).map_err(|expected| {
                format!(
                    "{}, {} of the table must be {expected}",
                    origin.row(index),
                    name(at)
                )
            })?;
        }
        text.push(b']');
    }
    text.push(b']');
    Ok(Bytes::from(text))
}

fn write_cell(cell: &str, kind: Cell, text: &mut Vec<u8>) -> Result<(), &'static str> {
    let trimmed = cell.trim();
    match kind {
        _ if trimmed.is_empty() => text.extend_from_slice(b"null"),
        Cell::Number if is_nan(trimmed) => text.extend_from_slice(b"null"),
        Cell::Number => text.extend_from_slice(json_number(trimmed).ok_or("a number")?.as_bytes()),
        Cell::Boolean => {
            let value = match trimmed {
                "true" | "True" | "TRUE" | "1" => "true",
                "false" | "False" | "FALSE" | "0" => "false",
                _ => return Err("true or false"),
            };
            text.extend_from_slice(value.as_bytes());
        }
        // Writing to memory does not fail.
        Cell::Text => drop(serde_json::to_writer(text, cell)),
    }
    Ok(())
}

/// As numerical libraries write a value that is not there.
fn is_nan(cell: &str) -> bool {
    matches!(cell, "nan" | "NaN" | "NAN" | "NA" | "null" | "None")
}

/// The number as JSON has it; whole numbers digit by digit.
fn json_number(cell: &str) -> Option<String> {
    if serde_json::from_str::<serde_json::Number>(cell).is_ok() {
        return Some(cell.to_owned());
    }
    let value: f64 = cell.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some(ryu::Buffer::new().format_finite(value).to_owned())
}

/// Rows of cells as CSV text.
pub fn write_lines(rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .flexible(true)
        .from_writer(Vec::new());
    for row in rows {
        // Writing to memory does not fail.
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
        decode::table::{Header, Table, to_objects, to_plain_rows, to_rows},
        schema::Schema,
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    fn convert(text: &str, header: Header) -> Result<(Vec<String>, String), String> {
        let schema = Schema::compile(&json!({"type": "object", "additionalProperties": false, "properties": {
            "age": {"type": "integer"}, "plan": {"type": "string"}, "paid": {"type": "boolean"}, "spend": {"type": "number"}
        }}))
        .unwrap();
        let rows = to_rows(
            &Table {
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
    fn cells_are_read_as_their_fields_say() {
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
        // A text that is called like a field.
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
    fn what_is_no_table_is_refused_without_its_values() {
        let cases = [
            ("", "no line"),
            ("age,plan\n", "beside its header"),
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
            let error = convert(text, Header::Guess).unwrap_err();
            assert!(
                error.contains(expected) && !error.contains("secret"),
                "{text}: {error}"
            );
        }
        let table = Table {
            text: Bytes::from_static(b"age\n\xff\n"),
            header: Header::Guess,
        };
        assert!(to_rows(&table, &[]).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_table_without_a_schema_tells_its_types() {
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
                .contains("two columns called \"a\"")
        );
        assert!(rows("a\n").unwrap_err().contains("beside its header"));
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
            let table = Table {
                text: Bytes::copy_from_slice(text.as_bytes()),
                header: Header::Guess,
            };
            String::from_utf8(to_plain_rows(&table, &graph).unwrap().text.to_vec()).unwrap()
        };
        for text in ["1,2\n3,4\n", "a,b\n1,2\n3,4\n"] {
            assert_eq!(rows(text), "[[1,2],[3,4]]", "{text}");
        }
        // What is missing is no name.
        assert_eq!(rows("nan,nan\n1,2\n"), "[[null,null],[1,2]]");
        assert_eq!(rows(",\n1,2\n"), "[[null,null],[1,2]]");
    }
}
