//! `Columns`: the fields of all instances of a request, in one typed column for each field.

use std::{collections::HashMap, ops::Range};

/// The index of a field in `Columns`. The schema assigns it.
pub type ColumnId = usize;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// JSON `true` and `false`.
    Boolean,
    /// Integers that fit 64 bits.
    Integer,
    /// Numbers, as float64.
    Number,
    /// Strings.
    Text,
    /// Bytes. Requests contain them as base64.
    Binary,
    /// Arrays of numbers, of any nesting.
    Array,
    /// Arrays of booleans, of any nesting. The column stores them as 1 and 0.
    BooleanArray,
}

impl ColumnKind {
    pub(crate) fn is_array(self) -> bool {
        matches!(self, ColumnKind::Array | ColumnKind::BooleanArray)
    }
}

/// The values of one field, with one entry per row.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Booleans. `None` is a missing value.
    Boolean(Vec<Option<bool>>),
    /// Integers. `None` is a missing value.
    Integer(Vec<Option<i64>>),
    /// Numbers. NaN is a missing value. A request can't contain NaN, because JSON has no NaN.
    Number(Vec<f64>),
    /// Strings in UTF-8.
    Text(Spans),
    /// Bytes, decoded from base64.
    Binary(Spans),
    /// Arrays of numbers or booleans, one array per row.
    Array(Arrays),
}

/// The validated fields of `rows` instances. `columns[id]` contains the values of the field `id` of
/// the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// The number of instances.
    pub rows: usize,
    /// One column per field. Every column has `rows` entries.
    pub columns: Vec<Column>,
}

impl Columns {
    /// The rows at these indices, in this order.
    #[must_use]
    pub fn pick(&self, rows: &[usize]) -> Columns {
        Columns {
            rows: rows.len(),
            columns: self
                .columns
                .iter()
                .map(|column| column.pick(rows))
                .collect(),
        }
    }
}

impl Column {
    fn pick(&self, rows: &[usize]) -> Column {
        fn copy_rows<T: Copy>(values: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter()
                .filter_map(|row| values.get(*row).copied())
                .collect()
        }
        match self {
            Column::Boolean(values) => Column::Boolean(copy_rows(values, rows)),
            Column::Integer(values) => Column::Integer(copy_rows(values, rows)),
            Column::Number(values) => Column::Number(copy_rows(values, rows)),
            Column::Text(spans) => Column::Text(spans.pick(rows)),
            Column::Binary(spans) => Column::Binary(spans.pick(rows)),
            Column::Array(arrays) => Column::Array(arrays.pick(rows)),
        }
    }

    pub(crate) fn new(kind: ColumnKind) -> Column {
        match kind {
            ColumnKind::Boolean => Column::Boolean(Vec::new()),
            ColumnKind::Integer => Column::Integer(Vec::new()),
            ColumnKind::Number => Column::Number(Vec::new()),
            ColumnKind::Text => Column::Text(Spans::default()),
            ColumnKind::Binary => Column::Binary(Spans::default()),
            ColumnKind::Array | ColumnKind::BooleanArray => Column::Array(Arrays::default()),
        }
    }

    /// The number of rows, including those with a missing value.
    pub fn len(&self) -> usize {
        match self {
            Column::Boolean(values) => values.len(),
            Column::Integer(values) => values.len(),
            Column::Number(values) => values.len(),
            Column::Text(spans) | Column::Binary(spans) => spans.len(),
            Column::Array(arrays) => arrays.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push_missing(&mut self) {
        match self {
            Column::Boolean(values) => values.push(None),
            Column::Integer(values) => values.push(None),
            Column::Number(values) => values.push(f64::NAN),
            Column::Text(spans) | Column::Binary(spans) => spans.push_missing(),
            Column::Array(arrays) => arrays.push_missing(),
        }
    }

    /// Replaces all values with missing values, and frees their memory. Used for personal fields in
    /// columns that are kept longer than their request.
    pub fn erase(&mut self) {
        let rows = self.len();
        *self = match self {
            Column::Boolean(_) => Column::Boolean(Vec::new()),
            Column::Integer(_) => Column::Integer(Vec::new()),
            Column::Number(_) => Column::Number(Vec::new()),
            Column::Text(_) => Column::Text(Spans::default()),
            Column::Binary(_) => Column::Binary(Spans::default()),
            Column::Array(_) => Column::Array(Arrays::default()),
        };
        (0..rows).for_each(|_| self.push_missing());
    }
}

/// Byte strings in one buffer, so that a column needs no allocation for each value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans {
    bytes: Vec<u8>,
    /// The range of each value in `bytes`. [`MISSING`] for a missing value.
    ranges: Vec<Range<usize>>,
}

/// The range of a missing value. It is beyond every buffer, so that `get` returns `None`.
const MISSING: Range<usize> = usize::MAX..usize::MAX;

impl Spans {
    /// The number of rows, including those with a missing value.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn push(&mut self, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ranges.push(start..self.bytes.len());
    }

    pub(crate) fn push_missing(&mut self) {
        self.ranges.push(MISSING);
    }

    /// Appends a value. `write` writes it to the end of the buffer. After an error nothing is
    /// appended.
    pub fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let outcome = write(&mut self.bytes);
        // After an error, `write` may have written a part of the value.
        if outcome.is_err() {
            self.bytes.truncate(start);
        } else {
            self.ranges.push(start..self.bytes.len());
        }
        outcome
    }

    /// The value of a row. `None` for a missing value.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        // The range of a missing value is beyond the buffer, so this is `None`.
        self.bytes.get(self.ranges.get(row)?.clone())
    }

    fn pick(&self, rows: &[usize]) -> Spans {
        let mut picked = Spans::default();
        // The values are copied, so that the new buffer contains only the values of these rows.
        for row in rows {
            match self.get(*row) {
                Some(value) => picked.push(value),
                None => picked.push_missing(),
            }
        }
        picked
    }
}

/// Arrays of numbers, or of booleans as 1 and 0. Each row has its own shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrays {
    pub(crate) values: Vec<f64>,
    pub(crate) rows: Vec<ArrayRow>,
    /// The distinct shapes. Rows refer to them by index.
    pub shapes: Vec<Vec<usize>>,
    /// The index of each shape in `shapes`.
    indices: HashMap<Vec<usize>, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArrayRow {
    Missing,
    /// The inner arrays have different lengths. A schema may allow that, but no tensor can
    /// represent it.
    Ragged,
    /// Row-major values that start at `start`. The product of `shapes[shape]` is their number.
    Dense {
        start: usize,
        shape: usize,
    },
}

impl Arrays {
    /// The number of rows, including those with a missing value.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn push_missing(&mut self) {
        self.rows.push(ArrayRow::Missing);
    }

    /// Ends a row. The caller has pushed the values of the row to `values`, starting at `start`. A
    /// `shape` of `None` means a ragged row.
    pub fn push_row(&mut self, start: usize, shape: Option<&[usize]>) {
        // A ragged row has no shape, so its values could not be located again.
        let Some(shape) = shape else {
            self.values.truncate(start);
            self.rows.push(ArrayRow::Ragged);
            return;
        };
        // Most rows have the same shape as the previous row. The comparison is faster than hashing
        // the shape.
        let last = self
            .shapes
            .len()
            .checked_sub(1)
            .filter(|last| self.shapes.get(*last).is_some_and(|known| known == shape));
        let shape = last
            .or_else(|| self.indices.get(shape).copied())
            .unwrap_or_else(|| {
                self.indices.insert(shape.to_vec(), self.shapes.len());
                self.shapes.push(shape.to_vec());
                self.shapes.len() - 1
            });
        self.rows.push(ArrayRow::Dense { start, shape });
    }

    fn pick(&self, rows: &[usize]) -> Arrays {
        let mut picked = Arrays::default();
        for row in rows.iter().filter_map(|row| self.rows.get(*row)) {
            // Missing and ragged rows have no values.
            let ArrayRow::Dense { start, shape } = *row else {
                picked.rows.push(*row);
                continue;
            };
            let shape = self
                .shapes
                .get(shape)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let length: usize = shape.iter().product();
            let from = picked.values.len();
            picked
                .values
                .extend_from_slice(self.values.get(start..start + length).unwrap_or_default());
            picked.push_row(from, Some(shape));
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::columns::{Arrays, Column, Columns, Spans};

    #[test]
    fn erased_values_are_not_kept_in_memory() {
        let mut texts = Spans::default();
        texts.push(b"secret");
        texts.push(b"secret");
        let mut column = Column::Text(texts);
        column.erase();
        let mut expected = Spans::default();
        expected.push_missing();
        expected.push_missing();
        assert_eq!(column, Column::Text(expected));
    }

    #[test]
    fn picked_rows_keep_their_values() {
        let mut texts = Spans::default();
        texts.push(b"a");
        texts.push_missing();
        texts.push(b"c");
        let mut arrays = Arrays::default();
        arrays.values.extend([1.0, 2.0]);
        arrays.push_row(0, Some(&[2]));
        arrays.push_missing();
        arrays.values.push(3.0);
        arrays.push_row(2, Some(&[1]));
        let columns = vec![
            Column::Integer(vec![Some(1), None, Some(3)]),
            Column::Text(texts),
            Column::Array(arrays),
        ];
        let picked = Columns { rows: 3, columns }.pick(&[2, 1]);
        let mut expected = Spans::default();
        expected.push(b"c");
        expected.push_missing();
        let mut array = Arrays::default();
        array.values.push(3.0);
        array.push_row(0, Some(&[1]));
        array.push_missing();
        assert_eq!(
            picked,
            Columns {
                rows: 2,
                columns: vec![
                    Column::Integer(vec![Some(3), None]),
                    Column::Text(expected),
                    Column::Array(array)
                ]
            }
        );
    }
}
