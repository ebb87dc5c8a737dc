//! `TableColumn`: computes the cells of one field in a table of numbers.

use std::fmt::Write;

use crate::{
    schema::columns::{ArrayRow, Column, ColumnId, ColumnKind, Columns, Spans},
    transform::{
        derived::Operation,
        field_source::FieldSource,
        row_fault::{NOT_POSITIVE, RowFault, push_fault},
        steps::{CategoryEncoding, NumericStep, TextStep},
    },
};

/// A field or a derived column with its steps. Numeric or string steps come first, followed by an
/// optional encoding and more numeric steps.
#[derive(Debug)]
pub(super) struct TableColumn {
    pub(super) source: FieldSource,
    pub(super) kind: ColumnKind,
    /// The operation of a derived column, and its second field. The first field is `source`. `None`
    /// for a plain field.
    pub(super) derived: Option<(Operation, ColumnId)>,
    /// The numeric steps before the encoding.
    pub(super) before: Vec<NumericStep>,
    /// The string steps before the encoding.
    pub(super) text_steps: Vec<TextStep>,
    pub(super) encoding: Option<CategoryEncoding>,
    /// The numeric steps after the encoding.
    pub(super) after: Vec<NumericStep>,
    /// Whether the only step is `missing_indicator`.
    pub(super) indicator: bool,
    /// The number of table columns that the field fills.
    pub(super) width: usize,
}

/// The cells of one [`TableColumn`] in a table whose rows have `width` numbers. In each row, the
/// cells begin at `at`.
pub(super) struct TableCells<'a> {
    pub(super) table: &'a mut [f64],
    pub(super) width: usize,
    pub(super) at: usize,
}

impl TableColumn {
    /// Whether the value is written to the table without any step.
    pub(super) fn is_plain(&self) -> bool {
        self.encoding.is_none()
            && self.before.is_empty()
            && !self.indicator
            && self.derived.is_none()
    }

    /// The number before the numeric steps are applied. NaN is a missing value.
    #[inline]
    fn number(&self, columns: &Columns, column: &Column, row: usize) -> f64 {
        let Some((operation, other)) = self.derived else {
            return number(column, row);
        };
        match (column, columns.columns.get(other)) {
            (Column::Integer(a), Some(Column::Integer(b))) => match (a.get(row), b.get(row)) {
                (Some(Some(a)), Some(Some(b))) => operation.apply_integers(*a, *b),
                _ => f64::NAN,
            },
            (_, other) => operation.apply(
                number(column, row),
                other.map_or(f64::NAN, |other| number(other, row)),
            ),
        }
    }

    /// Writes the cells of all rows. If `exact` is true, integers without steps are not written:
    /// the caller writes them without the rounding of a float64.
    pub(super) fn write(
        &self,
        columns: &Columns,
        exact: bool,
        cells: &mut TableCells<'_>,
        faults: &mut Vec<RowFault>,
    ) {
        let Some(column) = columns.columns.get(self.source.column) else {
            return;
        };
        // An encoding writes several cells per row. The loops below write one cell per row.
        if let Some(encoding) = &self.encoding {
            self.write_encoded(columns, encoding, cells, faults);
            return;
        }
        let at = cells.at;
        let mut apply_steps = |row: usize, x: f64| {
            NumericStep::run(&self.before, x).unwrap_or_else(|| {
                // The zero is never read, because a tensor with a fault is dropped.
                push_fault(faults, row, &self.source, "minimum", NOT_POSITIVE);
                0.0
            })
        };
        let rows = cells
            .table
            .chunks_mut(cells.width)
            .filter_map(|row| row.get_mut(at));
        match column {
            column if self.derived.is_some() => rows.enumerate().for_each(|(row, cell)| {
                let x = self.number(columns, column, row);
                *cell = if self.indicator {
                    f64::from(u8::from(x.is_nan()))
                } else {
                    apply_steps(row, x)
                };
            }),
            _ if self.indicator => rows
                .enumerate()
                .for_each(|(row, cell)| *cell = f64::from(u8::from(is_missing(column, row)))),
            // The zeros are placeholders. NaN marks a missing value, which the cast of the table
            // reports.
            Column::Integer(values) if exact && self.is_plain() => {
                rows.zip(values)
                    .for_each(|(cell, value)| *cell = if value.is_some() { 0.0 } else { f64::NAN });
            }
            Column::Number(values) => rows
                .zip(values)
                .enumerate()
                .for_each(|(row, (cell, x))| *cell = apply_steps(row, *x)),
            column => rows
                .enumerate()
                .for_each(|(row, cell)| *cell = apply_steps(row, number(column, row))),
        }
    }

    fn write_encoded(
        &self,
        columns: &Columns,
        encoding: &CategoryEncoding,
        cells: &mut TableCells<'_>,
        faults: &mut Vec<RowFault>,
    ) {
        let Some(column) = columns.columns.get(self.source.column) else {
            return;
        };
        // One buffer for the categories of all rows.
        let mut buffer = String::new();
        for (row, cell) in cells.table.chunks_mut(cells.width).enumerate() {
            let Some(cell) = cell.get_mut(cells.at..cells.at + self.width) else {
                return;
            };
            // Without earlier steps, the text of the category is borrowed from the column.
            let category = if self.before.is_empty() && self.derived.is_none() {
                category(column, row, &mut buffer)
            } else {
                let x = NumericStep::run(&self.before, self.number(columns, column, row))
                    .unwrap_or(f64::NAN);
                category_of_number(x, self.kind, &mut buffer)
            };
            if !self.encode(category, encoding, cell) {
                let (keyword, rule) = encoding.refusal();
                push_fault(faults, row, &self.source, keyword, rule);
            }
            if self.after.is_empty() {
                continue;
            }
            for x in cell {
                match NumericStep::run(&self.after, *x) {
                    Some(value) => *x = value,
                    None => push_fault(faults, row, &self.source, "minimum", NOT_POSITIVE),
                }
            }
        }
    }

    /// Applies the string steps and the encoding. Returns `false` if the category is refused.
    #[inline]
    fn encode(
        &self,
        category: Option<&str>,
        encoding: &CategoryEncoding,
        cell: &mut [f64],
    ) -> bool {
        match self.text_steps.as_slice() {
            [] => encoding.write(category, cell),
            // The most common case, which needs no allocation.
            [TextStep::Impute { value, missing }] => {
                let present = category.filter(|text| !missing.iter().any(|known| known == text));
                encoding.write(Some(present.unwrap_or(value)), cell)
            }
            steps => {
                let text = category.map(str::to_owned);
                let text = steps.iter().fold(text, |value, step| step.apply(value));
                encoding.write(text.as_deref(), cell)
            }
        }
    }
}

pub(super) fn text(spans: &Spans, row: usize) -> Option<&str> {
    // The decoder pushes only complete strings from a text that it has checked, so this does not
    // fail.
    std::str::from_utf8(spans.get(row)?).ok()
}

/// A value as a number. NaN for a missing value, and for a value that is not a number.
#[inline]
fn number(column: &Column, row: usize) -> f64 {
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

fn is_missing(column: &Column, row: usize) -> bool {
    match column {
        Column::Text(spans) | Column::Binary(spans) => spans.get(row).is_none(),
        Column::Array(arrays) => matches!(arrays.rows.get(row), Some(ArrayRow::Missing)),
        Column::Boolean(values) => values.get(row).is_none_or(Option::is_none),
        Column::Integer(values) => values.get(row).is_none_or(Option::is_none),
        Column::Number(values) => values.get(row).is_none_or(|value| value.is_nan()),
    }
}

/// A value as a category. Numbers and booleans are written as in JSON.
#[inline]
fn category<'a>(column: &'a Column, row: usize, buffer: &'a mut String) -> Option<&'a str> {
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

/// A number as a category. NaN is a missing value.
pub(super) fn category_of_number(
    value: f64,
    kind: ColumnKind,
    buffer: &mut String,
) -> Option<&str> {
    buffer.clear();
    if value.is_nan() {
        return None;
    }
    match kind {
        ColumnKind::Boolean if value == 1.0 => buffer.push_str("true"),
        ColumnKind::Boolean if value == 0.0 => buffer.push_str("false"),
        // Adding 0 converts -0 to 0, which is the same category.
        _ => write!(buffer, "{}", value + 0.0).ok()?,
    }
    Some(buffer)
}
