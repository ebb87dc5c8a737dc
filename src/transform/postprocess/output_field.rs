//! `OutputField`: one field of the response, computed from one output of the graph.

use std::sync::Arc;

use crate::{
    tensor::{DataType, Dim, Rearrangement, Shape, Tensor, Tensors, signature::TensorSpec},
    transform::{
        constant::ConstantFieldType,
        fields::{self, Labels},
        outputs::{Json, Numbers, OutputColumn},
        postprocess::{
            OutputFault,
            arithmetic::{argmax, map_each, map_rows, round, softmax, threshold, to_column, top_k},
            step::CompiledStep,
        },
    },
};

#[derive(Debug)]
pub(super) struct OutputField {
    pub(super) name: String,
    /// The JSON text `"name":` of the field.
    pub(super) key: Json,
    /// The output of the graph.
    pub(super) from: Arc<str>,
    /// The rearrangements. They are applied before the steps, to the whole output including its
    /// dimension of rows.
    pub(super) moves: Vec<Rearrangement>,
    pub(super) steps: Vec<CompiledStep>,
    /// Whether the schema allows null. If it does, NaN and infinities become null. Otherwise they
    /// are an error.
    pub(super) nullable: bool,
    /// Whether a row of dynamic width is always a list, even if it has one value.
    pub(super) list: bool,
}

impl OutputField {
    /// The specifications of the tensors that carry the field: two for `top_k`, otherwise one.
    pub(super) fn describe(&self, from: &TensorSpec) -> Vec<TensorSpec> {
        let mut datatype = response_datatype(from.datatype);
        let mut row = self.row_shape(from);
        for step in &self.steps {
            match step {
                CompiledStep::Argmax(Some(labels))
                | CompiledStep::Threshold {
                    labels: Some(labels),
                    ..
                } => return vec![spec(&self.name, Labels::read(labels).datatype(), &[])],
                // The last axis is reduced to one index.
                CompiledStep::Argmax(None) => {
                    row.pop();
                    return vec![spec(&self.name, DataType::Int64, &row)];
                }
                CompiledStep::Threshold { labels: None, .. } => {
                    return vec![spec(&self.name, DataType::Bool, &[])];
                }
                CompiledStep::TopK { k, labels } => {
                    let row = [Dim::Fixed(*k)];
                    return vec![
                        spec(&self.name, Labels::read(labels).datatype(), &row),
                        spec(&fields::score_name(&self.name), datatype, &row),
                    ];
                }
                CompiledStep::AsMap(keys) => {
                    return vec![spec(&self.name, datatype, &[Dim::Fixed(keys.len())])];
                }
                // Arithmetic on integers gives float64.
                CompiledStep::Softmax
                | CompiledStep::Sigmoid
                | CompiledStep::Round(_)
                | CompiledStep::InverseScale { .. } => {
                    if datatype != DataType::Fp32 {
                        datatype = DataType::Fp64;
                    }
                }
            }
        }
        vec![spec(&self.name, datatype, &row)]
    }

    /// The shape of a row after the rearrangements. Empty for a scalar.
    fn row_shape(&self, from: &TensorSpec) -> Vec<Dim> {
        let mut whole = from.shape.0.clone();
        for change in &self.moves {
            let axes = change.axes(whole.len()).unwrap_or_default();
            whole = axes
                .iter()
                .filter_map(|axis| whole.get(*axis).copied())
                .collect();
        }
        match whole.get(1..).unwrap_or_default() {
            [Dim::Fixed(1)] => Vec::new(),
            row => row.to_vec(),
        }
    }

    /// The type that a constant answer must have in this field.
    pub(super) fn constant_type(&self, from: &TensorSpec) -> Option<ConstantFieldType> {
        let datatype = self.describe(from).first()?.datatype;
        Some(match self.steps.last() {
            Some(
                CompiledStep::Argmax(Some(labels))
                | CompiledStep::Threshold {
                    labels: Some(labels),
                    ..
                },
            ) => ConstantFieldType::Labels(Arc::clone(labels)),
            Some(CompiledStep::AsMap(keys)) => ConstantFieldType::Map(Arc::clone(keys), datatype),
            Some(CompiledStep::TopK { .. }) => ConstantFieldType::Ranked,
            _ => ConstantFieldType::Value(datatype),
        })
    }

    /// The values of the field for `rows` rows.
    pub(super) fn apply(
        &self,
        outputs: &Tensors,
        rows: usize,
    ) -> Result<OutputColumn, OutputFault> {
        let given = outputs.get(&self.from).ok_or(OutputFault::Missing)?;
        let rearranged;
        let tensor = if self.moves.is_empty() {
            given
        } else {
            // The output was checked against the graph at load, but a dynamic dimension may have a
            // different size in an answer.
            let tensor = given.rearranged(&self.moves);
            rearranged = tensor.ok_or_else(|| OutputFault::Rearrangement {
                shape: given.shape().to_vec(),
            })?;
            &rearranged
        };
        // An output without dimensions is the answer for one row.
        let tensor_rows = if tensor.shape().is_empty() {
            1
        } else {
            tensor.rows()
        };
        if tensor_rows != rows {
            return Err(OutputFault::RowCount {
                shape: tensor.shape().to_vec(),
                rows,
            });
        }
        match to_column(tensor.data(), value_shape(tensor)) {
            OutputColumn::Numbers { shape, values } => self.apply_steps(values, shape),
            // `compile` allows no steps on strings.
            column => Ok(column),
        }
    }

    /// Applies the steps to the numbers of all rows. `shape` is the shape of a row. Steps work
    /// along the last axis, like NumPy and SciPy with axis=-1.
    fn apply_steps(
        &self,
        mut values: Numbers,
        shape: Vec<usize>,
    ) -> Result<OutputColumn, OutputFault> {
        // The check comes before the steps, because argmax or a threshold would hide NaN in a
        // confident answer.
        self.check_finite(&values)?;
        let width = shape.last().copied().unwrap_or(1);
        for step in &self.steps {
            if shape.len() > 1 && !step.keeps_shape() && !matches!(step, CompiledStep::Argmax(_)) {
                return Err(OutputFault::NotAList { shape });
            }
            match step {
                CompiledStep::Argmax(labels) => return argmax(&values, shape, labels.as_ref()),
                CompiledStep::Threshold {
                    value,
                    labels,
                    index,
                } => {
                    let reached = threshold(&values, width, *value, index.unwrap_or(0))?;
                    return Ok(match labels {
                        Some(labels) => OutputColumn::Labels {
                            labels: Arc::clone(labels),
                            indices: reached.into_iter().map(usize::from).collect(),
                        },
                        None => OutputColumn::Bools {
                            shape: Vec::new(),
                            values: reached,
                        },
                    });
                }
                CompiledStep::TopK { k, labels } => return top_k(&values, width, *k, labels),
                CompiledStep::AsMap(keys) if keys.len() == width => {
                    return Ok(OutputColumn::Map {
                        keys: Arc::clone(keys),
                        values,
                    });
                }
                CompiledStep::AsMap(keys) => {
                    return Err(OutputFault::LabelCount {
                        width,
                        labels: keys.len(),
                    });
                }
                CompiledStep::Softmax => map_rows(&mut values, width, softmax),
                CompiledStep::Sigmoid => map_each(&mut values, |x| 1.0 / (1.0 + (-x).exp())),
                CompiledStep::Round(decimals) => map_each(&mut values, |x| round(x, *decimals)),
                CompiledStep::InverseScale { mean, std } => {
                    map_each(&mut values, |x| x * std + mean);
                }
            }
        }
        // A step may overflow.
        self.check_finite(&values)?;
        Ok(OutputColumn::Numbers { shape, values })
    }

    /// Refuses NaN and infinities, which JSON does not have. They are written as null, which is an
    /// answer only if the schema allows null.
    fn check_finite(&self, values: &Numbers) -> Result<(), OutputFault> {
        if self.nullable {
            return Ok(());
        }
        let value = match values {
            Numbers::F32(values) => values
                .iter()
                .find(|x| !x.is_finite())
                .map(|x| f64::from(*x)),
            Numbers::F64(values) => values.iter().find(|x| !x.is_finite()).copied(),
            Numbers::Int(_) | Numbers::Uint(_) => None,
        };
        match value {
            Some(value) => Err(OutputFault::NotFinite { value }),
            None => Ok(()),
        }
    }
}

/// The datatype of a response: half floats are widened to float32, and integers to 64 bits.
fn response_datatype(datatype: DataType) -> DataType {
    match datatype {
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 => DataType::Fp32,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => {
            DataType::Uint64
        }
        DataType::Fp64 | DataType::Bool | DataType::Bytes => datatype,
    }
}

/// The tensor of a field: `[-1, 1]` for scalars, and `[-1]` followed by the shape of a row for
/// arrays.
fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
    let row = if row.is_empty() {
        &[Dim::Fixed(1)]
    } else {
        row
    };
    TensorSpec {
        name: Arc::from(name),
        datatype,
        shape: Shape([&[Dim::Any], row].concat()),
    }
}

/// The shape of the value of a row. `[N]` and `[N, 1]` contain scalars, which have an empty shape.
fn value_shape(tensor: &Tensor) -> Vec<usize> {
    match tensor.shape() {
        [] | [_] | [_, 1] => Vec::new(),
        [_, rest @ ..] => rest.to_vec(),
    }
}
