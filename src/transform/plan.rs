//! Plan: what becomes of a field on its way into a tensor, compiled once and applied to every row.

use crate::{
    schema::{
        columns::{ArrayRow, Column, ColumnId, ColumnKind, Columns, Spans},
        fault::MAX_FAULTS,
    },
    tensor::{fit, signature::TensorSpec},
    transform::{
        derived::Operation,
        image::ImageSteps,
        steps::{Encode, Numeric, Textual},
    },
};

/// What the preprocessing must know of a schema's field; its index is its `ColumnId`.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: ColumnKind,
    pub nullable: bool,
    pub array_shape: Option<Vec<usize>>,
    pub pii: bool,
}

/// What is wrong with the declaration, as a pointer into its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreprocessError {
    pub pointer: String,
    pub detail: String,
}

/// A value of a row that can't become part of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    pub row: usize,
    pub field: String,
    pub keyword: &'static str,
    pub detail: String,
}

#[derive(Debug)]
pub(super) enum Plan {
    /// Numbers side by side, row after row.
    Table {
        parts: Vec<Part>,
        width: usize,
    },
    /// One text a row.
    Texts {
        part: Source,
        steps: Vec<Textual>,
    },
    /// Arrays, all of one shape in a run.
    Array {
        part: Source,
        steps: Vec<Numeric>,
        shape: Option<Vec<usize>>,
    },
    Image {
        part: Source,
        steps: ImageSteps,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) column: ColumnId,
    /// Where a fault points to.
    pub(super) field: String,
    /// What an error text calls it.
    pub(super) name: String,
    pub(super) pii: bool,
}

/// One field on its way into a table: numeric steps, then perhaps an encoding, then numeric steps again.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) kind: ColumnKind,
    /// Made of the source's number and of another field's.
    pub(super) derived: Option<(Operation, ColumnId)>,
    /// Before an encoding, of a number or of a text.
    pub(super) before: Vec<Numeric>,
    pub(super) textual: Vec<Textual>,
    pub(super) encode: Option<Encode>,
    pub(super) after: Vec<Numeric>,
    pub(super) indicator: bool,
    pub(super) width: usize,
}

pub(super) fn fail<T>(pointer: &str, detail: impl Into<String>) -> Result<T, PreprocessError> {
    Err(PreprocessError {
        pointer: pointer.to_owned(),
        detail: detail.into(),
    })
}

impl Plan {
    /// The column of a plan that has only one.
    pub(super) fn column(&self) -> Option<ColumnId> {
        match self {
            Plan::Table { .. } => None,
            Plan::Texts { part, .. } | Plan::Array { part, .. } | Plan::Image { part, .. } => {
                Some(part.column)
            }
        }
    }
}

pub(super) fn text(spans: &Spans, row: usize) -> Option<&str> {
    // Only whole strings of a checked text are ever pushed.
    std::str::from_utf8(spans.get(row)?).ok()
}

pub(super) fn shape_fits(spec: &TensorSpec, row: &[usize]) -> bool {
    fit(spec.shape.row(), row)
}

pub(super) fn push(
    faults: &mut Vec<RowFault>,
    row: usize,
    source: &Source,
    keyword: &'static str,
    detail: String,
) {
    if faults.len() < MAX_FAULTS {
        faults.push(RowFault {
            row,
            field: source.field.clone(),
            keyword,
            detail: format!("{} {detail}", source.name),
        });
    }
}

pub(super) const NOT_POSITIVE: &str = "must be above 0 for the box-cox step";

/// The cells of one part: `width` of the table, from `at` on.
pub(super) struct Cells<'a> {
    pub(super) table: &'a mut [f64],
    pub(super) width: usize,
    pub(super) at: usize,
}

impl Part {
    /// A field that goes into the table as it came.
    pub(super) fn is_plain(&self) -> bool {
        self.encode.is_none() && self.before.is_empty() && !self.indicator && self.derived.is_none()
    }

    /// The number that the numeric steps begin with.
    pub(super) fn number(&self, columns: &Columns, column: &Column, row: usize) -> f64 {
        match self.derived {
            None => number(column, row),
            Some((operation, other)) => match (column, columns.columns.get(other)) {
                (Column::Integer(a), Some(Column::Integer(b))) => match (a.get(row), b.get(row)) {
                    (Some(Some(a)), Some(Some(b))) => operation.apply_whole(*a, *b),
                    _ => f64::NAN,
                },
                (_, other) => operation.apply(
                    number(column, row),
                    other.map_or(f64::NAN, |other| number(other, row)),
                ),
            },
        }
    }

    pub(super) fn write(
        &self,
        columns: &Columns,
        exact: bool,
        cells: &mut Cells<'_>,
        faults: &mut Vec<RowFault>,
    ) {
        let Some(column) = columns.columns.get(self.source.column) else {
            return;
        };
        let (width, at) = (cells.width, cells.at);
        if let Some(encode) = &self.encode {
            self.encode(columns, encode, cells, faults);
            return;
        }
        let mut through = |row: usize, x: f64| {
            Numeric::run(&self.before, x).unwrap_or_else(|| {
                push(
                    faults,
                    row,
                    &self.source,
                    "minimum",
                    NOT_POSITIVE.to_owned(),
                );
                0.0
            })
        };
        let rows = cells
            .table
            .chunks_mut(width)
            .filter_map(|row| row.get_mut(at));
        match column {
            column if self.derived.is_some() => rows.enumerate().for_each(|(row, cell)| {
                let x = self.number(columns, column, row);
                *cell = if self.indicator {
                    f64::from(u8::from(x.is_nan()))
                } else {
                    through(row, x)
                };
            }),
            _ if self.indicator => rows
                .enumerate()
                .for_each(|(row, cell)| *cell = f64::from(u8::from(missing(column, row)))),
            // Written exactly later on; a missing value is told by its NaN.
            Column::Integer(values) if exact && self.is_plain() => {
                rows.zip(values)
                    .for_each(|(cell, value)| *cell = if value.is_some() { 0.0 } else { f64::NAN });
            }
            Column::Number(values) => rows
                .zip(values)
                .enumerate()
                .for_each(|(row, (cell, x))| *cell = through(row, *x)),
            column => rows
                .enumerate()
                .for_each(|(row, cell)| *cell = through(row, number(column, row))),
        }
    }

    pub(super) fn encode(
        &self,
        columns: &Columns,
        encode: &Encode,
        cells: &mut Cells<'_>,
        faults: &mut Vec<RowFault>,
    ) {
        let Some(column) = columns.columns.get(self.source.column) else {
            return;
        };
        let mut buffer = String::new();
        for (row, cell) in cells.table.chunks_mut(cells.width).enumerate() {
            let Some(cell) = cell.get_mut(cells.at..cells.at + self.width) else {
                return;
            };
            let category = if self.before.is_empty() && self.derived.is_none() {
                category(column, row, &mut buffer)
            } else {
                let x = Numeric::run(&self.before, self.number(columns, column, row))
                    .unwrap_or(f64::NAN);
                category_of_number(x, self.kind, &mut buffer)
            };
            let accepted = match self.textual.as_slice() {
                [] => encode.write(category, cell),
                [Textual::Impute { value, missing }] => encode.write(
                    Some(
                        category
                            .filter(|text| !missing.iter().any(|known| known == text))
                            .unwrap_or(value),
                    ),
                    cell,
                ),
                steps => {
                    let value = steps
                        .iter()
                        .fold(category.map(str::to_owned), |value, step| step.apply(value));
                    encode.write(value.as_deref(), cell)
                }
            };
            if !accepted {
                let (keyword, detail) = encode.refusal();
                push(faults, row, &self.source, keyword, detail.to_owned());
            }
            if !self.after.is_empty() {
                for x in cell {
                    match Numeric::run(&self.after, *x) {
                        Some(value) => *x = value,
                        None => push(
                            faults,
                            row,
                            &self.source,
                            "minimum",
                            NOT_POSITIVE.to_owned(),
                        ),
                    }
                }
            }
        }
    }
}

/// A value as a number; NaN where it is missing or none.
pub(super) fn number(column: &Column, row: usize) -> f64 {
    match column {
        Column::Number(values) => values.get(row).copied().unwrap_or(f64::NAN),
        Column::Integer(values) => values
            .get(row)
            .copied()
            .flatten()
            .map_or(f64::NAN, |value| value as f64),
        Column::Boolean(values) => values
            .get(row)
            .copied()
            .flatten()
            .map_or(f64::NAN, |value| f64::from(u8::from(value))),
        Column::Text(_) | Column::Binary(_) | Column::Array(_) => f64::NAN,
    }
}

pub(super) fn missing(column: &Column, row: usize) -> bool {
    match column {
        Column::Text(spans) | Column::Binary(spans) => spans.get(row).is_none(),
        Column::Array(arrays) => matches!(arrays.rows.get(row), Some(ArrayRow::Missing)),
        Column::Boolean(values) => values.get(row).is_none_or(Option::is_none),
        Column::Integer(values) => values.get(row).is_none_or(Option::is_none),
        Column::Number(values) => values.get(row).is_none_or(|value| value.is_nan()),
    }
}

/// A category's text: numbers and booleans as JSON prints them.
pub(super) fn category<'a>(
    column: &'a Column,
    row: usize,
    buffer: &'a mut String,
) -> Option<&'a str> {
    use std::fmt::Write;
    buffer.clear();
    match column {
        Column::Text(spans) => return text(spans, row),
        Column::Boolean(values) => {
            return values
                .get(row)
                .copied()
                .flatten()
                .map(|value| if value { "true" } else { "false" });
        }
        Column::Integer(values) => {
            write!(buffer, "{}", values.get(row).copied().flatten()?).ok()?
        }
        Column::Number(values) => {
            return category_of_number(values.get(row).copied()?, ColumnKind::Number, buffer);
        }
        Column::Binary(_) | Column::Array(_) => return None,
    }
    Some(buffer)
}

/// A number as a category; -0 is 0.
pub(super) fn category_of_number(
    value: f64,
    kind: ColumnKind,
    buffer: &mut String,
) -> Option<&str> {
    use std::fmt::Write;
    buffer.clear();
    if value.is_nan() {
        return None;
    }
    match kind {
        ColumnKind::Boolean if value == 1.0 => buffer.push_str("true"),
        ColumnKind::Boolean if value == 0.0 => buffer.push_str("false"),
        _ => write!(buffer, "{}", value + 0.0).ok()?,
    }
    Some(buffer)
}
