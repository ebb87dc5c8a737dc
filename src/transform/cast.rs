//! Cast: float64 to the datatype of the graph's input, once, at the end.

use half::{bf16, f16};

use crate::{
    tensor::{Data, DataType},
    transform::plan::{RowFault, Source, push},
};

/// A float64 as float32, rounded to odd, so that rounding it once more gives what rounding once would have given.
pub(super) fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let exact = f64::from(nearest) == x || x.is_nan();
    if exact || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // The neighbour on the other side of `x` is odd.
    if f64::from(nearest.abs()) > x.abs() {
        f32::from_bits(nearest.to_bits() - 1)
    } else {
        f32::from_bits(nearest.to_bits() + 1)
    }
}

/// The one cast at the end: a value that does not fit its type is a fault, never wrapped and never infinite.
pub(super) fn cast<'a>(
    values: &[f64],
    datatype: DataType,
    blame: &dyn Fn(usize) -> (usize, Option<&'a Source>),
    faults: &mut Vec<RowFault>,
) -> Option<Data> {
    let mut complain = |cell: usize, missing: bool| {
        if let (row, Some(source)) = blame(cell) {
            let given = values.get(cell).copied().unwrap_or_default();
            match missing {
                true => push(
                    faults,
                    row,
                    source,
                    "type",
                    "must not be null: the model's input has no missing value and no preprocessing step takes it".to_owned(),
                ),
                false if source.pii => push(faults, row, source, "dtype", format!("does not fit {datatype}")),
                false => push(faults, row, source, "dtype", format!("does not fit {datatype} (its value after preprocessing is {given})")),
            }
        }
    };
    macro_rules! float {
        ($convert:expr) => {{
            let converted: Vec<_> = values.iter().map(|x| $convert(*x)).collect();
            // NaN is a missing value here, as the step before it left it; what overflowed is not.
            for (cell, x) in converted.iter().enumerate() {
                if x.is_infinite() {
                    complain(cell, false);
                }
            }
            converted
        }};
    }
    macro_rules! integer {
        ($type:ty) => {{
            let mut converted = Vec::with_capacity(values.len());
            for (cell, x) in values.iter().enumerate() {
                let whole =
                    x.fract() == 0.0 && *x >= <$type>::MIN as f64 && *x < <$type>::MAX as f64 + 1.0;
                if !whole {
                    complain(cell, x.is_nan());
                }
                converted.push(*x as $type);
            }
            converted
        }};
    }
    Some(match datatype {
        DataType::Fp32 => Data::Fp32(float!(|x| x as f32).into()),
        DataType::Fp64 => Data::Fp64(float!(|x: f64| x).into()),
        DataType::Fp16 => Data::Fp16(float!(|x| f16::from_f32(to_odd(x))).into()),
        DataType::Bf16 => Data::Bf16(float!(|x| bf16::from_f32(to_odd(x))).into()),
        DataType::Int8 => Data::Int8(integer!(i8).into()),
        DataType::Int16 => Data::Int16(integer!(i16).into()),
        DataType::Int32 => Data::Int32(integer!(i32).into()),
        DataType::Int64 => Data::Int64(integer!(i64).into()),
        DataType::Uint8 => Data::Uint8(integer!(u8).into()),
        DataType::Uint16 => Data::Uint16(integer!(u16).into()),
        DataType::Uint32 => Data::Uint32(integer!(u32).into()),
        DataType::Uint64 => Data::Uint64(integer!(u64).into()),
        DataType::Bool => {
            let mut converted = Vec::with_capacity(values.len());
            for (cell, x) in values.iter().enumerate() {
                if *x != 0.0 && *x != 1.0 {
                    complain(cell, x.is_nan());
                }
                converted.push(*x != 0.0);
            }
            Data::Bool(converted)
        }
        DataType::Bytes => return None,
    })
}
