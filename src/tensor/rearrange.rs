//! `Rearrangement`: takes one index of an axis like numpy.take, or reorders the axes like
//! numpy.transpose.

use crate::tensor::{Buffer, Data, Tensor};

/// A change of the axes of a whole tensor. A negative axis or index counts from the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rearrangement {
    /// Takes one index of an axis. The axis is removed.
    Take { axis: i64, index: i64 },
    /// Reorders the axes.
    Transpose(Vec<i64>),
}

/// Converts an index that may count from the end to an index from the start. `None` if it is out of
/// bounds.
pub(crate) fn from_end(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { index + length } else { index })
        .ok()
        .filter(|at| (*at as i64) < length)
}

impl Rearrangement {
    /// The remaining axes in their new order, as indices into a shape of `rank` dimensions. `None`
    /// if the change does not fit the rank.
    pub(crate) fn axes(&self, rank: usize) -> Option<Vec<usize>> {
        match self {
            Rearrangement::Take { axis, .. } => {
                let axis = from_end(*axis, rank)?;
                Some((0..rank).filter(|at| *at != axis).collect())
            }
            Rearrangement::Transpose(axes) => {
                let axes: Vec<usize> = axes
                    .iter()
                    .map(|axis| from_end(*axis, rank))
                    .collect::<Option<_>>()?;
                (axes.len() == rank && (0..rank).all(|axis| axes.contains(&axis))).then_some(axes)
            }
        }
    }
}

impl Tensor {
    /// The tensor after all changes. Its elements are copied once. `None` if a change does not fit
    /// the shape.
    pub(crate) fn rearranged(&self, changes: &[Rearrangement]) -> Option<Tensor> {
        // The size and stride of each axis. The changes only reorder them. The elements are copied
        // once at the end.
        let mut axes: Vec<(usize, usize)> = Vec::with_capacity(self.shape().len());
        let mut stride = 1;
        for size in self.shape().iter().rev() {
            axes.push((*size, stride));
            stride = stride.saturating_mul(*size);
        }
        axes.reverse();
        let mut start = 0;
        for change in changes {
            if let Rearrangement::Take { axis, index } = change {
                let (size, stride) = axes.get(from_end(*axis, axes.len())?)?;
                start += from_end(*index, *size)? * stride;
            }
            axes = change
                .axes(axes.len())?
                .iter()
                .filter_map(|axis| axes.get(*axis).copied())
                .collect();
        }
        let shape: Vec<usize> = axes.iter().map(|(size, _)| *size).collect();
        let mut indices = Vec::with_capacity(shape.iter().product());
        list_indices(&axes, start, &mut indices);
        Tensor::new(shape, pick(self.data(), &indices))
    }
}

/// The indices of all elements in row-major order.
fn list_indices(axes: &[(usize, usize)], start: usize, indices: &mut Vec<usize>) {
    match axes.split_first() {
        None => indices.push(start),
        Some(((size, stride), inner)) => {
            (0..*size).for_each(|at| list_indices(inner, start + at * stride, indices))
        }
    }
}

/// The elements at these indices.
fn pick(data: &Data, indices: &[usize]) -> Data {
    fn copy_elements<T: Clone>(values: &[T], indices: &[usize]) -> Vec<T> {
        indices
            .iter()
            .filter_map(|at| values.get(*at).cloned())
            .collect()
    }
    macro_rules! pick {
        ($($variant:ident),*) => {
            match data {
                Data::Bool(values) => Data::Bool(copy_elements(values, indices)),
                Data::Bytes(values) => Data::Bytes(copy_elements(values, indices)),
                $(Data::$variant(values) => Data::$variant(Buffer::from(copy_elements(values, indices))),)*
            }
        };
    }
    pick!(
        Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64
    )
}

#[cfg(test)]
mod tests {
    use crate::tensor::{Data, Rearrangement, Tensor};

    #[test]
    fn rearrangements_agree_with_numpy() {
        let take = |axis, index| Rearrangement::Take { axis, index };
        let transpose = |axes: &[i64]| Rearrangement::Transpose(axes.to_vec());
        // numpy.arange(12).reshape(2, 3, 2)
        let given = Tensor::new(vec![2, 3, 2], Data::Int64((0..12).collect())).unwrap();
        let cases: [(Vec<Rearrangement>, &[usize], &[i64]); 6] = [
            (vec![take(0, 1)], &[3, 2], &[6, 7, 8, 9, 10, 11]),
            (vec![take(-1, -1)], &[2, 3], &[1, 3, 5, 7, 9, 11]),
            (
                vec![transpose(&[1, 0, 2])],
                &[3, 2, 2],
                &[0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11],
            ),
            (
                vec![transpose(&[-1, 0, 1])],
                &[2, 2, 3],
                &[0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11],
            ),
            (
                vec![transpose(&[1, 0, 2]), take(2, 0)],
                &[3, 2],
                &[0, 6, 2, 8, 4, 10],
            ),
            (vec![take(0, 0), take(0, 2), take(0, 1)], &[], &[5]),
        ];
        for (changes, shape, data) in cases {
            let expected = Tensor::new(shape.to_vec(), Data::Int64(data.iter().copied().collect()));
            assert_eq!(given.rearranged(&changes), expected, "{changes:?}");
        }
        for wrong in [
            take(3, 0),
            take(-4, 0),
            take(0, 2),
            take(0, -3),
            transpose(&[0, 1]),
            transpose(&[0, 1, 1]),
            transpose(&[0, 1, 3]),
        ] {
            assert_eq!(
                given.rearranged(std::slice::from_ref(&wrong)),
                None,
                "{wrong:?}"
            );
        }
        let texts = Tensor::new(
            vec![2, 2],
            Data::Bytes(["a", "b", "c", "d"].map(str::to_owned).to_vec()),
        )
        .unwrap();
        assert_eq!(
            texts.rearranged(&[transpose(&[1, 0])]).unwrap().data(),
            &Data::Bytes(["a", "c", "b", "d"].map(str::to_owned).to_vec())
        );
        let empty = Tensor::new(vec![0, 2], Data::Bool(vec![])).unwrap();
        assert_eq!(
            empty.rearranged(&[transpose(&[1, 0])]).unwrap().shape(),
            [2, 0]
        );
        assert_eq!(empty.rearranged(&[take(0, 0)]), None);
    }
}
