//! The difference of a row's outputs between two runs, beyond rounding.

use half::{bf16, f16};

use crate::tensor::{Data, Tensor};

/// Two different values, as text.
pub(super) type DifferentValues = (String, String);

/// The first pair of values whose difference is larger than rounding can explain. A kernel may add
/// the same numbers in a different order if it runs more rows.
pub(super) fn first_difference(alone: &Tensor, in_batch: &Tensor) -> Option<DifferentValues> {
    if alone.shape() != in_batch.shape() {
        return Some((
            format!("{:?}", alone.shape()),
            format!("{:?}", in_batch.shape()),
        ));
    }
    match (alone.data(), in_batch.data()) {
        // The tolerances are about a hundred times the rounding error of one operation of the type.
        (Data::Fp32(a), Data::Fp32(b)) => compare_floats(a, b, 1e-5, f64::from),
        (Data::Fp64(a), Data::Fp64(b)) => compare_floats(a, b, 1e-9, |x| x),
        (Data::Fp16(a), Data::Fp16(b)) => compare_floats(a, b, 4e-3, f16::to_f64),
        (Data::Bf16(a), Data::Bf16(b)) => compare_floats(a, b, 3e-2, bf16::to_f64),
        (Data::Bool(a), Data::Bool(b)) => compare_exactly(a, b),
        (Data::Uint8(a), Data::Uint8(b)) => compare_exactly(a, b),
        (Data::Uint16(a), Data::Uint16(b)) => compare_exactly(a, b),
        (Data::Uint32(a), Data::Uint32(b)) => compare_exactly(a, b),
        (Data::Uint64(a), Data::Uint64(b)) => compare_exactly(a, b),
        (Data::Int8(a), Data::Int8(b)) => compare_exactly(a, b),
        (Data::Int16(a), Data::Int16(b)) => compare_exactly(a, b),
        (Data::Int32(a), Data::Int32(b)) => compare_exactly(a, b),
        (Data::Int64(a), Data::Int64(b)) => compare_exactly(a, b),
        (Data::Bytes(a), Data::Bytes(b)) => compare_exactly(a, b),
        // The runtime gives each output its declared type, so this can't happen.
        _ => Some(("one type".to_owned(), "another".to_owned())),
    }
}

/// Compares floats. `tolerance` is relative to the largest finite value of the tensor: a small
/// value may be the difference of two large ones and have their rounding error.
fn compare_floats<T: Copy>(
    a: &[T],
    b: &[T],
    tolerance: f64,
    to_f64: impl Fn(T) -> f64,
) -> Option<DifferentValues> {
    let finite = |x: &T| to_f64(*x).is_finite().then(|| to_f64(*x).abs());
    let scale = a.iter().filter_map(finite).fold(1.0, f64::max);
    // Equality is checked first, because infinity minus infinity is NaN.
    let same =
        |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * scale;
    a.iter()
        .zip(b)
        .map(|(a, b)| (to_f64(*a), to_f64(*b)))
        .find(|(a, b)| !same(*a, *b))
        .map(|(a, b)| (a.to_string(), b.to_string()))
}

fn compare_exactly<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) -> Option<DifferentValues> {
    a.iter()
        .zip(b)
        .find(|(a, b)| a != b)
        .map(|(a, b)| (format!("{a:?}"), format!("{b:?}")))
}
