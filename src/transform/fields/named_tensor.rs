//! `NamedTensor`: a field of the response as a tensor.

use std::sync::Arc;

use crate::{
    tensor::{Data, DataType, Tensor},
    transform::outputs::{Json, Numbers, OutputColumn, Outputs},
};

/// An output with its name in the protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The name of the output.
    pub name: Arc<str>,
    /// The values of all rows.
    pub tensor: Tensor,
    /// The labels of the values in a row. `None` if the values have no labels.
    pub labels: Option<Arc<[String]>>,
}

/// A field whose rows have different shapes. JSON can represent them, but a tensor can't.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("output `{name}` has rows of different shapes, which no tensor can carry")]
pub struct RaggedOutput {
    /// The name of the output.
    pub name: Arc<str>,
}

/// The labels of a step. They are numbers if all labels are integers, and otherwise strings.
pub enum Labels {
    /// Labels that are all integers.
    Numbers(Vec<i64>),
    /// Labels of which at least one is not an integer.
    Texts(Vec<String>),
}

impl Labels {
    /// Reads labels that are given as JSON.
    pub fn read(labels: &[Json]) -> Labels {
        match labels.iter().map(|label| label.parse().ok()).collect() {
            // Integers stay integers for the caller, like the class labels of scikit-learn.
            Some(numbers) => Labels::Numbers(numbers),
            None => Labels::Texts(labels.iter().map(|label| plain(label)).collect()),
        }
    }

    /// `Int64` for numbers, `Bytes` for strings.
    pub fn datatype(&self) -> DataType {
        match self {
            Labels::Numbers(_) => DataType::Int64,
            Labels::Texts(_) => DataType::Bytes,
        }
    }

    /// The labels at these indices, as elements of a tensor.
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

/// A JSON value as a plain string. A JSON string loses its quotes and escapes.
fn plain(label: &str) -> String {
    serde_json::from_str::<String>(label).unwrap_or_else(|_| label.to_owned())
}

/// The name of the tensor with the scores of a `top_k` field. The tensor with the field's own name
/// contains the labels.
pub fn score_name(field: &str) -> String {
    format!("{field}.score")
}

/// The fields of a response as tensors, in their order.
pub fn tensors(outputs: Outputs) -> Result<Vec<NamedTensor>, RaggedOutput> {
    let rows = outputs.rows;
    let mut named = Vec::with_capacity(outputs.fields.len());
    for (key, column) in outputs.fields {
        let name = key_name(&key);
        let tensor_shape = |shape: Vec<usize>| match shape.as_slice() {
            [] => vec![rows, 1],
            shape => [&[rows], shape].concat(),
        };
        let (shape, data, labels) = match column {
            OutputColumn::Labels { labels, indices } => {
                (vec![rows, 1], Labels::read(&labels).pick(&indices), None)
            }
            OutputColumn::Numbers { shape, values } => (tensor_shape(shape), to_data(values), None),
            OutputColumn::Bools { shape, values } => {
                (tensor_shape(shape), Data::Bool(values), None)
            }
            OutputColumn::Texts { shape, values } => {
                (tensor_shape(shape), Data::Bytes(values), None)
            }
            OutputColumn::Map { keys, values } => {
                let labels = keys.iter().map(|key| key_name(key).to_string()).collect();
                (vec![rows, keys.len()], to_data(values), Some(labels))
            }
            // A tensor has only one shape.
            OutputColumn::Ragged { .. } => return Err(RaggedOutput { name }),
            OutputColumn::TopK {
                labels,
                count,
                ranked,
                scores,
            } => {
                let shape = vec![rows, count];
                let labels = Labels::read(&labels).pick(&ranked);
                let score = Arc::from(score_name(&name));
                // Labels and scores need two tensors, because they have different datatypes.
                named.extend(named_tensor(name, shape.clone(), labels, None));
                named.extend(named_tensor(score, shape, to_data(scores), None));
                continue;
            }
        };
        named.extend(named_tensor(name, shape, data, labels));
    }
    Ok(named)
}

/// Creates a tensor. `None` if the data does not fill the shape. This can't happen, because
/// postprocessing gives every row its values.
fn named_tensor(
    name: Arc<str>,
    shape: Vec<usize>,
    data: Data,
    labels: Option<Arc<[String]>>,
) -> Option<NamedTensor> {
    Tensor::new(shape, data).map(|tensor| NamedTensor {
        name,
        tensor,
        labels,
    })
}

/// The name inside a JSON text `"name":`.
fn key_name(key: &str) -> Arc<str> {
    Arc::from(plain(key.strip_suffix(':').unwrap_or(key)))
}

fn to_data(numbers: Numbers) -> Data {
    match numbers {
        Numbers::F32(values) => Data::Fp32(values.into()),
        Numbers::F64(values) => Data::Fp64(values.into()),
        Numbers::Int(values) => Data::Int64(values.into()),
        Numbers::Uint(values) => Data::Uint64(values.into()),
    }
}
