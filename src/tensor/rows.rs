//! Joins the rows of several requests into one batch, and splits the outputs of the batch.

use std::sync::Arc;

use crate::tensor::{Data, Tensor, Tensors};

/// Concatenates tensors along the first axis. `None` if names, types, or the shapes of a row
/// differ.
pub fn join(parts: &[&Tensors]) -> Option<Tensors> {
    let (first, rest) = parts.split_first()?;
    let mut joined = Vec::with_capacity(first.0.len());
    for (index, (name, tensor)) in first.0.iter().enumerate() {
        let mut rows = tensor.rows();
        for part in rest {
            let (other_name, other) = part.0.get(index)?;
            if other_name != name || !same_row(tensor, other) {
                return None;
            }
            rows += other.rows();
        }
        let mut data = Data::with_capacity(tensor.datatype(), rows * tensor.row_len());
        for part in parts {
            append(&mut data, part.0.get(index)?.1.data());
        }
        let mut shape = tensor.shape().to_vec();
        *shape.first_mut()? = rows;
        joined.push((Arc::clone(name), Tensor::new(shape, data)?));
    }
    Some(Tensors(joined))
}

/// Splits tensors along the first axis into parts with the given numbers of rows. `None` if these
/// numbers do not add up to the number of rows.
pub fn split(tensors: Tensors, rows: &[usize]) -> Option<Vec<Tensors>> {
    let total: usize = rows.iter().sum();
    let mut parts: Vec<Tensors> = rows
        .iter()
        .map(|_| Tensors(Vec::with_capacity(tensors.0.len())))
        .collect();
    for (name, tensor) in tensors.0 {
        // A scalar, or an output with a different number of rows, can't be assigned to the
        // requests.
        if tensor.shape().is_empty() || tensor.rows() != total {
            return None;
        }
        let row_len = tensor.row_len();
        let (shape, data) = tensor.into_parts();
        let mut pieces = cut(data, rows.iter().map(|count| count * row_len));
        // The loop runs backwards, because `pop` takes the last piece without moving the others.
        for (part, count) in parts.iter_mut().zip(rows).rev() {
            let mut shape = shape.clone();
            *shape.first_mut()? = *count;
            part.0
                .push((Arc::clone(&name), Tensor::new(shape, pieces.pop()?)?));
        }
    }
    Some(parts)
}

/// Splits tensors of `rows` rows into parts of at most `limit` rows. Returns each part with its
/// number of rows. `None` if a tensor does not have `rows` rows.
pub fn batches(tensors: Tensors, rows: usize, limit: usize) -> Option<Vec<(Tensors, usize)>> {
    // Most runs fit and need no split.
    if rows <= limit {
        return Some(vec![(tensors, rows)]);
    }
    let mut counts = vec![limit; rows.checked_div(limit)?];
    counts.extend(Some(rows % limit).filter(|rest| *rest > 0));
    Some(split(tensors, &counts)?.into_iter().zip(counts).collect())
}

fn same_row(a: &Tensor, b: &Tensor) -> bool {
    a.datatype() == b.datatype()
        && !a.shape().is_empty()
        && a.shape().len() == b.shape().len()
        && a.shape().get(1..) == b.shape().get(1..)
}

/// Appends elements of the same datatype. [`same_row`] has checked the datatype.
fn append(to: &mut Data, from: &Data) {
    macro_rules! same {
        ($($variant:ident),*) => {
            match (to, from) {
                (Data::Bool(to), Data::Bool(from)) => to.extend_from_slice(from),
                (Data::Bytes(to), Data::Bytes(from)) => to.extend_from_slice(from),
                $((Data::$variant(to), Data::$variant(from)) => to.append(from),)*
                _ => {}
            }
        };
    }
    same!(
        Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64
    );
}

/// Splits elements into parts of these lengths. Parts of shared buffers are views.
fn cut(data: Data, lengths: impl Iterator<Item = usize>) -> Vec<Data> {
    fn owned<T>(
        values: Vec<T>,
        lengths: impl Iterator<Item = usize>,
        wrap: fn(Vec<T>) -> Data,
    ) -> Vec<Data> {
        let mut values = values.into_iter();
        lengths
            .map(|length| wrap(values.by_ref().take(length).collect()))
            .collect()
    }
    macro_rules! cut {
        ($($variant:ident),*) => {
            match data {
                Data::Bool(values) => owned(values, lengths, Data::Bool),
                Data::Bytes(values) => owned(values, lengths, Data::Bytes),
                $(Data::$variant(values) => {
                    let mut start = 0;
                    lengths.map(|length| {
                        start += length;
                        Data::$variant(values.cut(start - length..start))
                    }).collect()
                })*
            }
        };
    }
    cut!(
        Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use crate::tensor::{Data, Tensor, Tensors, join, split};

    fn part(rows: usize, width: usize, seed: f32) -> Tensors {
        let data: Vec<f32> = (0..rows * width).map(|index| seed + index as f32).collect();
        let names = (0..rows).map(|row| format!("{seed}-{row}")).collect();
        Tensors(vec![
            (
                Arc::from("x"),
                Tensor::new(vec![rows, width], Data::Fp32(Vec::into(data))).unwrap(),
            ),
            (
                Arc::from("name"),
                Tensor::new(vec![rows], Data::Bytes(names)).unwrap(),
            ),
        ])
    }

    proptest! {
        #[test]
        fn split_undoes_join(rows in prop::collection::vec(0usize..5, 1..6), width in 0usize..4) {
            let parts: Vec<Tensors> = rows.iter().enumerate().map(|(index, count)| part(*count, width, index as f32 * 100.0)).collect();
            let joined = join(&parts.iter().collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(joined.rows(), rows.iter().sum::<usize>());
            prop_assert_eq!(split(joined, &rows).unwrap(), parts);
        }
    }

    #[test]
    fn rows_of_other_shape_are_not_joined() {
        assert!(join(&[&part(1, 2, 0.0), &part(1, 3, 0.0)]).is_none());
        assert!(split(part(3, 2, 0.0), &[1, 1]).is_none());
    }
}
