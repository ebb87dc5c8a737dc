//! Fields: a package as callers of tensors see it, an input for each field of the schema and an output for each of the
//! response's.

use std::sync::Arc;

use crate::{
    decode::{
        DecodeError, DecodeLimits, FieldValues, decode_fields,
        elements::{WireTensor, field_datatype, field_shape},
    },
    schema::{
        Schema,
        columns::{ArrayRow, Column, Columns},
        fault::Fault,
    },
    tensor::{Data, DataType, Tensor, signature::TensorSpec},
    transform::outputs::{Json, Numbers, OutputColumn, Outputs},
};

/// An output as a protocol names it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    pub name: Arc<str>,
    pub tensor: Tensor,
    /// What the values of a row stand for, where that is known.
    pub labels: Option<Arc<[String]>>,
}

/// Labels as they were written: all whole numbers, or texts.
pub enum Labels {
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    pub fn read(labels: &[Json]) -> Labels {
        match labels.iter().map(|label| label.parse().ok()).collect() {
            Some(numbers) => Labels::Numbers(numbers),
            None => Labels::Texts(labels.iter().map(|label| plain(label)).collect()),
        }
    }

    pub fn datatype(&self) -> DataType {
        match self {
            Labels::Numbers(_) => DataType::Int64,
            Labels::Texts(_) => DataType::Bytes,
        }
    }

    fn pick(&self, indices: &[usize]) -> Data {
        match self {
            Labels::Numbers(labels) => Data::Int64(
                indices
                    .iter()
                    .map(|at| labels.get(*at).copied().unwrap_or_default())
                    .collect::<Vec<_>>()
                    .into(),
            ),
            Labels::Texts(labels) => Data::Bytes(
                indices
                    .iter()
                    .map(|at| labels.get(*at).cloned().unwrap_or_default())
                    .collect(),
            ),
        }
    }
}

/// A label's text without the quotes and escapes of JSON.
fn plain(label: &str) -> String {
    serde_json::from_str::<String>(label).unwrap_or_else(|_| label.to_owned())
}

/// The name of the scores beside a `top_k` field's labels.
pub fn score_name(field: &str) -> String {
    format!("{field}.score")
}

/// The inputs under which the fields of a schema are offered.
pub fn inputs(schema: &Schema) -> Vec<TensorSpec> {
    let spec = |column: &crate::schema::ColumnSpec| TensorSpec {
        name: Arc::from(column.name.as_str()),
        datatype: field_datatype(column.kind),
        shape: field_shape(column),
    };
    schema.columns().iter().map(spec).collect()
}

fn fault_of(index: usize, tensor: &WireTensor, detail: &str) -> Fault {
    let detail = format!(
        "input `{}`: {detail}",
        crate::schema::fault::shorten(&tensor.name)
    );
    Fault {
        pointer: format!("/inputs/{index}"),
        keyword: "inputs",
        detail,
    }
}

/// Validates the fields of all rows, as the instances of a request are validated.
pub fn decode(
    schema: &Schema,
    tensors: &[WireTensor],
    limits: &DecodeLimits,
) -> Result<Columns, DecodeError> {
    let mut faults = Vec::new();
    let mut values = Vec::with_capacity(tensors.len());
    let mut rows: Option<(usize, &str)> = None;
    for (index, tensor) in tensors.iter().enumerate() {
        let fault = |detail: String| fault_of(index, tensor, &detail);
        let Some((column, spec)) = schema
            .column(&tensor.name)
            .and_then(|column| Some((column, schema.columns().get(column)?)))
        else {
            let known: Vec<&str> = schema
                .columns()
                .iter()
                .map(|column| column.name.as_str())
                .collect();
            faults.push(fault(format!(
                "no such input; the model takes {}",
                known.join(", ")
            )));
            continue;
        };
        if tensors
            .iter()
            .take(index)
            .any(|other| other.name == tensor.name)
        {
            faults.push(fault("is given twice".to_owned()));
            continue;
        }
        match tensor.rows_of_field(spec) {
            Ok(given) => match rows {
                Some((known, first)) if known != given => {
                    faults.push(fault(format!(
                        "has {given} rows, but input `{first}` has {known}"
                    )));
                }
                _ => rows = Some((given, &tensor.name)),
            },
            Err(detail) => {
                faults.push(fault(detail.to_string()));
                continue;
            }
        }
        match tensor.to_json(spec) {
            Ok(text) => values.push((column, index, text)),
            Err(detail) => faults.push(fault(detail.to_string())),
        }
    }
    if !faults.is_empty() {
        let more = faults
            .len()
            .saturating_sub(crate::schema::fault::MAX_FAULTS);
        faults.truncate(crate::schema::fault::MAX_FAULTS);
        return Err(DecodeError::Invalid { faults, more });
    }
    let Some((rows, _)) = rows else {
        return Err(DecodeError::Malformed {
            detail: "the request has no inputs".to_owned(),
        });
    };
    if rows == 0 {
        return Err(DecodeError::Malformed {
            detail: "the inputs have no rows".to_owned(),
        });
    }
    let read: Vec<FieldValues<'_>> = values
        .iter()
        .map(|(column, _, text)| FieldValues {
            column: *column,
            text,
        })
        .collect();
    let columns = decode_fields(schema, &read, rows, limits)?;
    let faults = values.iter().filter_map(|(column, index, _)| {
        let tensor = tensors.get(*index)?;
        let detail = check_shape(tensor, columns.columns.get(*column)).err()?;
        Some(fault_of(*index, tensor, &detail))
    });
    let faults: Vec<Fault> = faults.take(crate::schema::fault::MAX_FAULTS).collect();
    if faults.is_empty() {
        Ok(columns)
    } else {
        Err(DecodeError::Invalid { faults, more: 0 })
    }
}

/// A tensor has one shape: what came nested in rows of different shapes, or of another shape than it says, is none.
fn check_shape(tensor: &WireTensor, column: Option<&Column>) -> Result<(), String> {
    let Some(Column::Array(arrays)) = column else {
        return Ok(());
    };
    let mut known: Option<&[usize]> = tensor.shape.as_deref().and_then(|shape| shape.get(1..));
    for (row, entry) in arrays.rows.iter().enumerate() {
        let shape = match entry {
            ArrayRow::Missing => continue,
            ArrayRow::Ragged => None,
            ArrayRow::Dense { shape, .. } => arrays.shapes.get(*shape).map(Vec::as_slice),
        };
        let Some(shape) = shape else {
            return Err(format!("row {row} has inner arrays of different lengths"));
        };
        match known {
            // Nesting does not show the dimensions behind one of 0.
            Some(known) if known != shape && !(known.contains(&0) && shape.contains(&0)) => {
                return Err(format!(
                    "row {row} has the shape {shape:?}, and {known:?} is expected: a tensor has one shape"
                ));
            }
            _ => known = Some(known.unwrap_or(shape)),
        }
    }
    Ok(())
}

/// The response's fields as tensors, in their order; an error where rows of one have different shapes.
pub fn tensors(outputs: Outputs) -> Result<Vec<NamedTensor>, String> {
    let rows = outputs.rows;
    let mut named = Vec::with_capacity(outputs.fields.len());
    for (key, column) in outputs.fields {
        let name: Arc<str> = Arc::from(plain(key.strip_suffix(':').unwrap_or(&key)));
        let full = |shape: Vec<usize>| {
            if shape.is_empty() {
                vec![rows, 1]
            } else {
                [vec![rows], shape].concat()
            }
        };
        let mut push =
            |name: Arc<str>, shape: Vec<usize>, data: Data, labels: Option<Arc<[String]>>| {
                // Postprocessing gives every row its values, so they always fill the shape.
                named.extend(Tensor::new(shape, data).map(|tensor| NamedTensor {
                    name,
                    tensor,
                    labels,
                }));
            };
        match column {
            OutputColumn::Labels { labels, indices } => push(
                name,
                full(Vec::new()),
                Labels::read(&labels).pick(&indices),
                None,
            ),
            OutputColumn::Numbers { shape, values } => {
                push(name, full(shape), numbers(values), None)
            }
            OutputColumn::Bools { shape, values } => {
                push(name, full(shape), Data::Bool(values), None)
            }
            OutputColumn::Texts { shape, values } => {
                push(name, full(shape), Data::Bytes(values), None)
            }
            OutputColumn::Map { keys, values } => {
                let labels = keys
                    .iter()
                    .map(|key| plain(key.strip_suffix(':').unwrap_or(key)))
                    .collect();
                push(name, vec![rows, keys.len()], numbers(values), Some(labels));
            }
            OutputColumn::Ragged { .. } => {
                return Err(format!(
                    "output `{name}` has rows of different shapes, which no tensor can carry"
                ));
            }
            OutputColumn::TopK {
                labels,
                count,
                ranked,
                scores,
            } => {
                let score = Arc::from(score_name(&name));
                push(
                    name,
                    vec![rows, count],
                    Labels::read(&labels).pick(&ranked),
                    None,
                );
                push(score, vec![rows, count], numbers(scores), None);
            }
        }
    }
    Ok(named)
}

fn numbers(numbers: Numbers) -> Data {
    match numbers {
        Numbers::F32(values) => Data::Fp32(values.into()),
        Numbers::F64(values) => Data::Fp64(values.into()),
        Numbers::Int(values) => Data::Int64(values.into()),
        Numbers::Uint(values) => Data::Uint64(values.into()),
    }
}
