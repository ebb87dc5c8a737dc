//! `GraphInput`: one input of the graph, and its tensor from the columns of a request.

use crate::{
    error::text_with_sources,
    schema::columns::{ArrayRow, Arrays, Column, Columns},
    tensor::{Data, DataType, Tensor, signature::TensorSpec},
    transform::{
        cast::cast,
        field_plan::{FieldPlan, shape_fits},
        field_source::FieldSource,
        image::ImageSteps,
        row_fault::{NOT_POSITIVE, RowFault, push_fault},
        steps::{NumericStep, TextStep},
        table_column::{TableCells, TableColumn, text},
    },
};

#[derive(Debug)]
pub(super) struct GraphInput {
    pub(super) spec: TensorSpec,
    pub(super) plan: FieldPlan,
}

impl GraphInput {
    /// The tensor of all rows. `None` if a row has a fault. The fault is added to `faults`.
    pub(super) fn tensor(&self, columns: &Columns, faults: &mut Vec<RowFault>) -> Option<Tensor> {
        match &self.plan {
            FieldPlan::Table {
                columns: parts,
                width,
            } => self.table(parts, *width, columns, faults),
            FieldPlan::Texts { source, steps } => self.texts(source, steps, columns, faults),
            FieldPlan::Array {
                source,
                steps,
                shape,
            } => {
                let Some(Column::Array(arrays)) = columns.columns.get(source.column) else {
                    return None;
                };
                let reshape = shape.as_deref();
                let (mut values, shape) = self.dense_values(arrays, source, reshape, faults)?;
                let row_length = shape.iter().skip(1).product::<usize>();
                apply_steps(steps, &mut values, row_length, source, faults);
                let source_of = |cell: usize| (cell / row_length.max(1), Some(source));
                let data = cast(&values, self.spec.datatype, &source_of, faults)?;
                Tensor::new(shape, data)
            }
            FieldPlan::Image { source, steps } => self.images(source, steps, columns, faults),
        }
    }

    /// The shape `[rows]` for a graph input of one dimension, otherwise `[rows, width]`.
    fn table_shape(&self, rows: usize, width: usize) -> Vec<usize> {
        if self.spec.shape.0.len() == 1 {
            vec![rows]
        } else {
            vec![rows, width]
        }
    }

    fn table(
        &self,
        parts: &[TableColumn],
        width: usize,
        columns: &Columns,
        faults: &mut Vec<RowFault>,
    ) -> Option<Tensor> {
        let exact = matches!(self.spec.datatype, DataType::Int64 | DataType::Uint64);
        let mut table = vec![0.0; columns.rows * width];
        // `faults` may contain faults of earlier inputs. Only a fault of this input makes the
        // result `None`.
        let before = faults.len();
        let mut at = 0;
        for part in parts {
            let mut cells = TableCells {
                table: &mut table,
                width,
                at,
            };
            part.write(columns, exact, &mut cells, faults);
            at += part.width;
        }
        let source_of = |cell: usize| (cell / width, part_at(parts, cell % width));
        let mut data = cast(&table, self.spec.datatype, &source_of, faults)?;
        // The integers are written after the cast, because the cast refuses missing values by their
        // NaN.
        if exact {
            write_integers(parts, columns, width, &mut data, faults);
        }
        if faults.len() > before {
            return None;
        }
        Tensor::new(self.table_shape(columns.rows, width), data)
    }

    fn texts(
        &self,
        source: &FieldSource,
        steps: &[TextStep],
        columns: &Columns,
        faults: &mut Vec<RowFault>,
    ) -> Option<Tensor> {
        let Some(Column::Text(spans)) = columns.columns.get(source.column) else {
            return None;
        };
        let mut texts = Vec::with_capacity(columns.rows);
        for row in 0..columns.rows {
            let value = text(spans, row).map(str::to_owned);
            match steps.iter().fold(value, |value, step| step.apply(value)) {
                Some(text) => texts.push(text),
                None => {
                    let detail = "must not be null: no preprocessing step takes it";
                    push_fault(faults, row, source, "type", detail);
                }
            }
        }
        // If a row has a fault, the strings do not fill the shape, and the result is `None`.
        Tensor::new(self.table_shape(columns.rows, 1), Data::Bytes(texts))
    }

    fn images(
        &self,
        source: &FieldSource,
        steps: &ImageSteps,
        columns: &Columns,
        faults: &mut Vec<RowFault>,
    ) -> Option<Tensor> {
        let Some(Column::Binary(spans)) = columns.columns.get(source.column) else {
            return None;
        };
        let mut all = Vec::new();
        // All images of a tensor must have the shape of the first one.
        let mut shape: Option<Vec<usize>> = None;
        for row in 0..columns.rows {
            // There is no default value that could replace a missing image.
            let Some(bytes) = spans.get(row) else {
                push_fault(faults, row, source, "type", "must not be null");
                continue;
            };
            let (this, numbers) = match steps.apply(bytes) {
                Ok(image) => image,
                Err(error) => {
                    push_fault(
                        faults,
                        row,
                        source,
                        "contentMediaType",
                        text_with_sources(&error),
                    );
                    continue;
                }
            };
            if !shape_fits(&self.spec, &this) || shape.as_ref().is_some_and(|shape| *shape != this)
            {
                let detail = format!(
                    "has the shape {this:?} after preprocessing; the model takes {}",
                    self.spec.shape
                );
                push_fault(faults, row, source, "contentMediaType", detail);
                continue;
            }
            shape = Some(this);
            all.extend(numbers);
        }
        let shape = shape?;
        let row_length: usize = shape.iter().product();
        let source_of = |cell: usize| (cell / row_length.max(1), Some(source));
        let data = cast(&all, self.spec.datatype, &source_of, faults)?;
        Tensor::new([&[columns.rows], shape.as_slice()].concat(), data)
    }

    /// The numbers of all rows, and the shape of the tensor.
    fn dense_values(
        &self,
        arrays: &Arrays,
        source: &FieldSource,
        reshape: Option<&[usize]>,
        faults: &mut Vec<RowFault>,
    ) -> Option<(Vec<f64>, Vec<usize>)> {
        let mut values = Vec::new();
        let mut common: Option<usize> = None;
        for (row, entry) in arrays.rows.iter().enumerate() {
            let (keyword, detail) = match entry {
                ArrayRow::Missing => ("type", "must not be null"),
                ArrayRow::Ragged => ("items", "must have inner arrays of one length"),
                // All rows of a group have the same shape. The fault can occur only if the caller
                // of this method does not group rows.
                ArrayRow::Dense { shape, .. } if common.is_some_and(|common| common != *shape) => {
                    ("items", "must have the same shape in all rows of a run")
                }
                ArrayRow::Dense { start, shape } => {
                    common = Some(*shape);
                    let length: usize = arrays.shapes.get(*shape)?.iter().product();
                    values.extend_from_slice(arrays.values.get(*start..start + length)?);
                    continue;
                }
            };
            push_fault(faults, row, source, keyword, detail);
        }
        let given = arrays.shapes.get(common?)?;
        if let Some(shape) = reshape
            && shape.iter().product::<usize>() != given.iter().product::<usize>()
        {
            let detail = format!("has the shape {given:?}, which can't be reshaped to {shape:?}");
            push_fault(faults, 0, source, "items", detail);
            return None;
        }
        let rows = arrays.rows.len();
        // An empty inner array hides the dimensions below it, but the graph may declare them.
        let full = self
            .spec
            .shape
            .completed([&[rows], reshape.unwrap_or(given)].concat());
        let shape = full.get(1..).unwrap_or_default();
        if !shape_fits(&self.spec, shape) {
            let detail = format!(
                "has the shape {shape:?}; the model takes {}",
                self.spec.shape
            );
            push_fault(faults, 0, source, "items", detail);
            return None;
        }
        Some((values, full))
    }
}

fn apply_steps(
    steps: &[NumericStep],
    values: &mut [f64],
    row_length: usize,
    source: &FieldSource,
    faults: &mut Vec<RowFault>,
) {
    for (cell, x) in values.iter_mut().enumerate() {
        match NumericStep::run(steps, *x) {
            Some(value) => *x = value,
            None => {
                let row = cell / row_length.max(1);
                push_fault(faults, row, source, "minimum", NOT_POSITIVE);
            }
        }
    }
}

/// The field to which a cell of a row belongs.
fn part_at(parts: &[TableColumn], mut cell: usize) -> Option<&FieldSource> {
    let part = parts
        .iter()
        .find(|part| match cell.checked_sub(part.width) {
            Some(rest) => {
                cell = rest;
                false
            }
            None => true,
        });
    part.map(|part| &part.source)
}

/// Writes integers that have no steps to a tensor of 64-bit integers. The table of float64 would
/// round integers beyond 2^53.
fn write_integers(
    parts: &[TableColumn],
    columns: &Columns,
    width: usize,
    data: &mut Data,
    faults: &mut Vec<RowFault>,
) {
    let mut at = 0;
    for part in parts {
        let column = columns.columns.get(part.source.column);
        if let Some(Column::Integer(values)) = column.filter(|_| part.is_plain()) {
            for (row, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                if !write_integer(data, row * width + at, *value) {
                    let detail = format!("does not fit {}", data.datatype());
                    push_fault(faults, row, &part.source, "dtype", detail);
                }
            }
        }
        at += part.width;
    }
}

/// Writes one integer. Returns `false` if the datatype can't represent it.
#[inline]
fn write_integer(data: &mut Data, cell: usize, value: i64) -> bool {
    match data {
        Data::Int64(cells) => cells.get_mut(cell).map(|cell| *cell = value).is_some(),
        Data::Uint64(cells) => cells
            .get_mut(cell)
            .zip(u64::try_from(value).ok())
            .map(|(cell, value)| *cell = value)
            .is_some(),
        // The caller passes only 64-bit integers.
        _ => true,
    }
}
