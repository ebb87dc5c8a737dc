//! Decodes requests that carry fields as tensors.

use std::sync::Arc;

use crate::{
    decode::{
        DecodeError, DecodeLimits, FieldValues, MalformedRequest, decode_fields,
        elements::{TensorError, WireTensor, field_datatype, field_shape},
    },
    error::counted,
    schema::{
        ColumnSpec, Schema,
        columns::{ArrayRow, Column, ColumnId, Columns},
        fault::{Fault, FaultSubject, MAX_FAULTS, shorten},
    },
    tensor::signature::TensorSpec,
};

/// Why a tensor does not contain the values of a field. The message follows the name of the tensor.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum FieldsError {
    #[error("no such input; the model takes {}", known.join(", "))]
    Unknown { known: Vec<String> },
    #[error("is given twice")]
    Duplicate,
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("has {}, but input `{first}` has {expected}", counted(*given, "row"))]
    RowCount {
        given: usize,
        first: String,
        expected: usize,
    },
    #[error("row {row} has inner arrays of different lengths")]
    RaggedRow { row: usize },
    #[error(
        "row {row} has the shape {given:?}, and {expected:?} is expected: a tensor has one shape"
    )]
    RowShape {
        row: usize,
        given: Vec<usize>,
        expected: Vec<usize>,
    },
}

/// The inputs that the model's metadata declares for the fields of a schema.
pub fn inputs(schema: &Schema) -> Vec<TensorSpec> {
    let spec = |column: &ColumnSpec| TensorSpec {
        name: Arc::from(column.name.as_str()),
        datatype: field_datatype(column.kind),
        shape: field_shape(column),
    };
    schema.columns().iter().map(spec).collect()
}

fn fault(index: usize, tensor: &WireTensor, error: &FieldsError) -> Fault {
    Fault {
        pointer: format!("/inputs/{index}"),
        keyword: "inputs",
        subject: FaultSubject::Input,
        detail: format!("input `{}`: {error}", shorten(&tensor.name)),
    }
}

/// Validates the fields of all rows, like the instances of a request.
pub fn decode(
    schema: &Schema,
    tensors: &[WireTensor],
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut faults = Vec::new();
    let mut values = Vec::with_capacity(tensors.len());
    // The number of rows and the name of the first valid tensor.
    let mut rows: Option<(usize, &str)> = None;
    for (index, tensor) in tensors.iter().enumerate() {
        let mut refuse = |error: FieldsError| faults.push(fault(index, tensor, &error));
        let earlier = tensors.get(..index).unwrap_or_default();
        let (column, given) = match find_column(schema, tensor, earlier) {
            Ok(found) => found,
            Err(error) => {
                refuse(error);
                continue;
            }
        };
        match rows {
            Some((expected, first)) if expected != given => refuse(FieldsError::RowCount {
                given,
                first: first.to_owned(),
                expected,
            }),
            _ => rows = Some((given, &tensor.name)),
        }
        let spec = schema.columns().get(column);
        match spec.map(|spec| tensor.to_json(spec)).transpose() {
            Ok(text) => values.extend(text.map(|text| (column, index, text))),
            Err(error) => refuse(error.into()),
        }
    }
    if !faults.is_empty() {
        let more = faults.len().saturating_sub(MAX_FAULTS);
        faults.truncate(MAX_FAULTS);
        return Err(DecodeError::Invalid { faults, more });
    }
    let rows = match rows {
        None => return Err(MalformedRequest::NoInputs.into()),
        Some((0, _)) => return Err(MalformedRequest::NoInputRows.into()),
        Some((rows, _)) => rows,
    };
    let read: Vec<FieldValues<'_>> = values
        .iter()
        .map(|(column, _, text)| FieldValues {
            column: *column,
            text,
        })
        .collect();
    let columns = decode_fields(schema, &read, rows, limits)?;
    // The shape of a JSON array is known only after it was decoded.
    let faults: Vec<Fault> = values
        .iter()
        .filter_map(|(column, index, _)| {
            let tensor = tensors.get(*index)?;
            let error = check_shape(tensor, columns.columns.get(*column)).err()?;
            Some(fault(*index, tensor, &error))
        })
        .take(MAX_FAULTS)
        .collect();
    if faults.is_empty() {
        Ok(columns)
    } else {
        Err(DecodeError::Invalid { faults, more: 0 })
    }
}

/// The column of a tensor's field, and the number of rows of the tensor. `earlier` contains the
/// tensors before it in the request.
fn find_column(
    schema: &Schema,
    tensor: &WireTensor,
    earlier: &[WireTensor],
) -> Result<(ColumnId, usize), FieldsError> {
    let column = schema.column(&tensor.name);
    let Some((column, spec)) =
        column.and_then(|column| Some((column, schema.columns().get(column)?)))
    else {
        let known = schema.columns().iter().map(|column| column.name.clone());
        return Err(FieldsError::Unknown {
            known: known.collect(),
        });
    };
    // A second tensor of the same field would add a second entry to each row of the column.
    if earlier.iter().any(|other| other.name == tensor.name) {
        return Err(FieldsError::Duplicate);
    }
    Ok((column, tensor.rows_of_field(spec)?))
}

/// Checks that all rows have the same shape, and that it is the declared shape. Nested JSON may
/// contain rows of different shapes.
fn check_shape(tensor: &WireTensor, column: Option<&Column>) -> Result<(), FieldsError> {
    let Some(Column::Array(arrays)) = column else {
        return Ok(());
    };
    let mut expected: Option<&[usize]> = tensor.shape.as_deref().and_then(|shape| shape.get(1..));
    for (row, entry) in arrays.rows.iter().enumerate() {
        let shape = match entry {
            ArrayRow::Missing => continue,
            ArrayRow::Ragged => None,
            ArrayRow::Dense { shape, .. } => arrays.shapes.get(*shape).map(Vec::as_slice),
        };
        let given = shape.ok_or(FieldsError::RaggedRow { row })?;
        match expected {
            // In nested JSON, the dimensions below a dimension of 0 are not visible.
            Some(expected)
                if expected != given && !(expected.contains(&0) && given.contains(&0)) =>
            {
                return Err(FieldsError::RowShape {
                    row,
                    given: given.to_vec(),
                    expected: expected.to_vec(),
                });
            }
            _ => expected = Some(expected.unwrap_or(given)),
        }
    }
    Ok(())
}
