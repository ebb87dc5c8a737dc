//! The arithmetic of the postprocessing steps.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    tensor::Data,
    transform::{
        outputs::{Json, Numbers, OutputColumn},
        postprocess::OutputFault,
    },
};

/// Like `numpy.round`: rounds half to even, after scaling by a power of ten. The power is exact,
/// because `compile` limits `decimals`.
pub(super) fn round(x: f64, decimals: i32) -> f64 {
    let power = 10f64.powi(decimals.abs());
    if decimals >= 0 {
        (x * power).round_ties_even() / power
    } else {
        (x / power).round_ties_even() * power
    }
}

/// The elements of a tensor as a column, without any step. Half floats become float32, and integers
/// become 64-bit integers.
pub(super) fn to_column(data: &Data, shape: Vec<usize>) -> OutputColumn {
    fn signed<T: Copy + Into<i64>>(values: &[T]) -> Numbers {
        Numbers::Int(values.iter().map(|x| (*x).into()).collect())
    }
    fn unsigned<T: Copy + Into<u64>>(values: &[T]) -> Numbers {
        Numbers::Uint(values.iter().map(|x| (*x).into()).collect())
    }
    let values = match data {
        Data::Bool(values) => {
            return OutputColumn::Bools {
                shape,
                values: values.clone(),
            };
        }
        Data::Bytes(values) => {
            return OutputColumn::Texts {
                shape,
                values: values.clone(),
            };
        }
        Data::Fp32(values) => Numbers::F32(values.to_vec()),
        Data::Fp64(values) => Numbers::F64(values.to_vec()),
        Data::Fp16(values) => Numbers::F32(values.iter().map(|x| x.to_f32()).collect()),
        Data::Bf16(values) => Numbers::F32(values.iter().map(|x| x.to_f32()).collect()),
        Data::Int8(values) => signed(values),
        Data::Int16(values) => signed(values),
        Data::Int32(values) => signed(values),
        Data::Int64(values) => signed(values),
        Data::Uint8(values) => unsigned(values),
        Data::Uint16(values) => unsigned(values),
        Data::Uint32(values) => unsigned(values),
        Data::Uint64(values) => unsigned(values),
    };
    OutputColumn::Numbers { shape, values }
}

/// Applies a function to each number. Integers become float64.
pub(super) fn map_each(values: &mut Numbers, step: impl Fn(f64) -> f64) {
    match values {
        Numbers::F32(values) => values
            .iter_mut()
            .for_each(|x| *x = step(f64::from(*x)) as f32),
        Numbers::F64(values) => values.iter_mut().for_each(|x| *x = step(*x)),
        Numbers::Int(_) | Numbers::Uint(_) => {
            *values = Numbers::F64(values.to_f64().into_iter().map(step).collect())
        }
    }
}

/// Applies a function to each row of `width` numbers, in float64.
pub(super) fn map_rows(values: &mut Numbers, width: usize, step: fn(&mut [f64])) {
    let mut wide = values.to_f64();
    wide.chunks_mut(width.max(1)).for_each(step);
    *values = match values {
        Numbers::F32(_) => Numbers::F32(wide.into_iter().map(|x| x as f32).collect()),
        _ => Numbers::F64(wide),
    };
}

/// Computes exp(x - max) / sum(exp(x - max)), like `scipy.special.softmax`. The subtraction of the
/// maximum avoids an overflow.
pub(super) fn softmax(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// The index of the first maximum, like `numpy.argmax`.
fn largest<T: PartialOrd + Copy>(row: &[T]) -> usize {
    let mut best = 0;
    for (index, x) in row.iter().enumerate() {
        if row.get(best).is_some_and(|largest| x > largest) {
            best = index;
        }
    }
    best
}

/// The index of the largest number along the last axis, or its label.
pub(super) fn argmax(
    values: &Numbers,
    mut shape: Vec<usize>,
    labels: Option<&Arc<[Json]>>,
) -> Result<OutputColumn, OutputFault> {
    let width = shape.last().copied().unwrap_or(1);
    // `chunks` panics if the size is 0.
    let each = width.max(1);
    let indices: Vec<usize> = match values {
        Numbers::F32(values) => values.chunks(each).map(largest).collect(),
        Numbers::F64(values) => values.chunks(each).map(largest).collect(),
        Numbers::Int(values) => values.chunks(each).map(largest).collect(),
        Numbers::Uint(values) => values.chunks(each).map(largest).collect(),
    };
    match labels {
        None => {
            shape.pop();
            Ok(OutputColumn::Numbers {
                shape,
                values: Numbers::Int(indices.into_iter().map(|index| index as i64).collect()),
            })
        }
        Some(_) if shape.len() > 1 => Err(OutputFault::NotAList { shape }),
        Some(labels) if labels.len() == width => Ok(OutputColumn::Labels {
            labels: Arc::clone(labels),
            indices,
        }),
        Some(labels) => Err(OutputFault::LabelCount {
            width,
            labels: labels.len(),
        }),
    }
}

/// Whether the value at `index` of each row is at least the threshold.
pub(super) fn threshold(
    values: &Numbers,
    width: usize,
    threshold: f64,
    index: usize,
) -> Result<Vec<bool>, OutputFault> {
    if index >= width {
        return Err(OutputFault::TooFewValues { width });
    }
    // Compares in the precision of the values, like NumPy compares an array with a number: the
    // float32 0.7 reaches 0.7.
    Ok(match values {
        Numbers::F32(values) => values
            .iter()
            .skip(index)
            .step_by(width)
            .map(|x| *x >= threshold as f32)
            .collect(),
        values => values
            .to_f64()
            .iter()
            .skip(index)
            .step_by(width)
            .map(|x| *x >= threshold)
            .collect(),
    })
}

/// The `k` best labels of each row, with their scores.
pub(super) fn top_k(
    values: &Numbers,
    width: usize,
    k: usize,
    labels: &Arc<[Json]>,
) -> Result<OutputColumn, OutputFault> {
    if labels.len() != width {
        return Err(OutputFault::LabelCount {
            width,
            labels: labels.len(),
        });
    }
    // Pairs of a label and the index of its score.
    let mut ranked = Vec::new();
    for (row, scores) in values.to_f64().chunks(width).enumerate() {
        let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
        // The sort is stable: equal scores keep the order of the labels.
        order.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        ranked.extend(
            order
                .into_iter()
                .take(k)
                .map(|(label, _)| (label, row * width + label)),
        );
    }
    let scores = values.pick(ranked.iter().map(|(_, at)| *at));
    Ok(OutputColumn::TopK {
        labels: Arc::clone(labels),
        count: k,
        ranked: ranked.into_iter().map(|(label, _)| label).collect(),
        scores,
    })
}
