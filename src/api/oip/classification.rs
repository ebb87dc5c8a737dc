//! The classification extension: returns the best classes of an output instead of its values.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    api::refusal::Refusal,
    decode::elements::write_element,
    registry::servable::Servable,
    tensor::{Data, Tensor},
    transform::fields::NamedTensor,
};

/// The tensor of a requested output: its values, or its best classes.
pub(crate) fn answer_output(
    servable: &Servable,
    tensor: NamedTensor,
    classification: usize,
) -> Result<NamedTensor, Refusal> {
    if classification == 0 {
        return Ok(tensor);
    }
    let specs = servable
        .offered()
        .outputs
        .iter()
        .chain(&servable.graph.outputs);
    // Look up the fields of the schema first, then the tensors of the graph. A request with an
    // explicit version may name either.
    let batch = specs
        .into_iter()
        .find(|spec| spec.name == tensor.name)
        .is_some_and(|spec| spec.shape.has_batch_axis());
    classify(&tensor, classification, batch)
        .map_err(|error| Refusal::malformed(format!("output `{}`: {error}", tensor.name)))
}

/// The reason why the values of an output can't be ranked.
#[derive(Debug, thiserror::Error)]
enum ClassificationError {
    #[error("only numbers can be ranked as classes")]
    NotNumbers,
    #[error("has no rows")]
    NoRows,
}

/// Returns the `count` largest values of each row as strings `value:index[:label]`, in the shape
/// `[rows, count]`. `batch`: whether the first dimension is the number of rows.
fn classify(
    named: &NamedTensor,
    count: usize,
    batch: bool,
) -> Result<NamedTensor, ClassificationError> {
    let tensor = &named.tensor;
    let keys = SortKeys::of(tensor.data()).ok_or(ClassificationError::NotNumbers)?;
    let (rows, width) = match tensor.shape() {
        [] => (1, 1),
        // A vector without a batch dimension is one row of classes.
        [rows, rest @ ..] if batch || !rest.is_empty() => (*rows, rest.iter().product()),
        [width, ..] => (1, *width),
    };
    let count = count.min(width);
    let mut texts = Vec::with_capacity(tensor.data().len().min(rows.saturating_mul(count)));
    // Rows without values have no classes to rank.
    let ranked_rows = if width == 0 { 0 } else { rows };
    for row in 0..ranked_rows {
        let mut order: Vec<usize> = (row * width..(row + 1) * width).collect();
        // Equal values stay in the order of their indices, so that responses are reproducible.
        order.sort_by(|a, b| keys.compare(*b, *a).then(a.cmp(b)));
        for at in order.into_iter().take(count) {
            let mut text = Vec::new();
            write_element(tensor.data(), at, &mut text);
            let index = at - row * width;
            let label = named
                .labels
                .as_ref()
                .and_then(|labels| labels.get(index))
                .map(|label| format!(":{label}"))
                .unwrap_or_default();
            texts.push(format!("{}:{index}{label}", String::from_utf8_lossy(&text)));
        }
    }
    let shape = if batch || tensor.shape().len() > 1 {
        vec![rows, count]
    } else {
        vec![count]
    };
    let tensor = Tensor::new(shape, Data::Bytes(texts)).ok_or(ClassificationError::NoRows)?;
    Ok(NamedTensor {
        name: Arc::clone(&named.name),
        tensor,
        labels: None,
    })
}

/// Numbers with a total order.
enum SortKeys {
    Floats(Vec<f64>),
    /// Signed and unsigned integers of 64 bits. Conversion to float64 would round them.
    Integers(Vec<i128>),
}

impl SortKeys {
    fn of(data: &Data) -> Option<SortKeys> {
        Some(match data {
            Data::Uint8(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Uint16(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Uint32(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Uint64(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Int8(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Int16(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Int32(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Int64(values) => {
                SortKeys::Integers(values.iter().map(|x| i128::from(*x)).collect())
            }
            Data::Fp16(values) => SortKeys::Floats(values.iter().map(|x| x.to_f64()).collect()),
            Data::Bf16(values) => SortKeys::Floats(values.iter().map(|x| x.to_f64()).collect()),
            Data::Fp32(values) => SortKeys::Floats(values.iter().map(|x| f64::from(*x)).collect()),
            Data::Fp64(values) => SortKeys::Floats(values.to_vec()),
            Data::Bool(_) | Data::Bytes(_) => return None,
        })
    }

    /// Compares two values. NaN ranks below every number.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            SortKeys::Integers(values) => values.get(a).cmp(&values.get(b)),
            SortKeys::Floats(values) => {
                let value = |at| values.get(at).copied().unwrap_or(f64::NAN);
                match (value(a), value(b)) {
                    (x, y) if x.is_nan() || y.is_nan() => y.is_nan().cmp(&x.is_nan()),
                    (x, y) => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        api::oip::classification::classify,
        tensor::{Data, Tensor},
        transform::fields::NamedTensor,
    };

    fn named(shape: &[usize], values: &[f32], labels: Option<&[&str]>) -> NamedTensor {
        let tensor = Tensor::new(shape.to_vec(), Data::Fp32(values.to_vec().into())).unwrap();
        let labels = labels.map(|labels| labels.iter().map(|label| (*label).to_owned()).collect());
        NamedTensor {
            name: Arc::from("p"),
            tensor,
            labels,
        }
    }

    #[test]
    fn classes_are_ranked_row_by_row() {
        let ranked = classify(
            &named(&[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.25, 0.5], Some(&["a", "b"])),
            2,
            true,
        )
        .unwrap();
        assert_eq!(ranked.tensor.shape(), [2, 2]);
        let texts = ["0.7:1:b", "0.2:2", "0.5:0:a", "0.5:2"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(ranked.tensor.data(), &Data::Bytes(texts));
        assert_eq!(
            classify(&named(&[3], &[1.0, 3.0, 2.0], None), 9, false)
                .unwrap()
                .tensor
                .shape(),
            [3]
        );
        assert_eq!(
            classify(&named(&[3], &[1.0, 3.0, 2.0], None), 9, true)
                .unwrap()
                .tensor
                .shape(),
            [3, 1]
        );
        assert_eq!(
            classify(&named(&[2, 0], &[], None), 1, true)
                .unwrap()
                .tensor
                .shape(),
            [2, 0]
        );
        let texts = NamedTensor {
            name: Arc::from("t"),
            tensor: Tensor::new(vec![1], Data::Bytes(vec!["x".into()])).unwrap(),
            labels: None,
        };
        assert!(classify(&texts, 1, true).is_err());
    }

    #[test]
    fn nan_ranks_last() {
        let values: Vec<f32> = (0..100)
            .map(|index| {
                if index % 5 < 2 {
                    f32::NAN
                } else {
                    (index * 37 % 100) as f32
                }
            })
            .collect();
        let ranked = classify(&named(&[1, 100], &values, None), 100, true).unwrap();
        let Data::Bytes(texts) = ranked.tensor.data() else {
            panic!("no texts")
        };
        assert_eq!(
            texts.iter().position(|text| text.starts_with("null")),
            Some(60)
        );
        let exact =
            Tensor::new(vec![1, 2], Data::Int64(vec![i64::MAX - 1, i64::MAX].into())).unwrap();
        let exact = NamedTensor {
            name: Arc::from("i"),
            tensor: exact,
            labels: None,
        };
        assert_eq!(
            classify(&exact, 1, true).unwrap().tensor.data(),
            &Data::Bytes(vec![format!("{}:1", i64::MAX)])
        );
    }
}
