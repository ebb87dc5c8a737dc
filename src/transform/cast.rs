//! The cast from float64 to the datatype of the graph's input, which happens once, after all steps.

use half::{bf16, f16};

use crate::{
    tensor::{Data, DataType},
    transform::{
        field_source::FieldSource,
        row_fault::{RowFault, push_fault},
    },
};

/// Converts a float64 to a float32, rounded to odd. A second rounding to a shorter type then gives
/// the same result as rounding the float64 directly (Boldo and Melquiond 2008). Plain rounding
/// would round twice.
pub(super) fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let exact = f64::from(nearest) == x || x.is_nan();
    if exact || nearest.to_bits() & 1 == 1 {
        return nearest;
    }
    // `nearest` is even, so its neighbour on the other side of `x` is odd.
    if f64::from(nearest.abs()) > x.abs() {
        f32::from_bits(nearest.to_bits() - 1)
    } else {
        f32::from_bits(nearest.to_bits() + 1)
    }
}

/// The row of a cell, and the field from which its value comes.
pub(super) type SourceOfCell<'a, 'b> = &'b dyn Fn(usize) -> (usize, Option<&'a FieldSource>);

struct Cast<'a, 'b> {
    values: &'b [f64],
    datatype: DataType,
    source_of: SourceOfCell<'a, 'b>,
    faults: &'b mut Vec<RowFault>,
}

/// Casts all values. A value that does not fit the datatype is a fault: it is never wrapped and
/// never becomes infinite. Returns `None` for the datatype of strings.
pub(super) fn cast(
    values: &[f64],
    datatype: DataType,
    source_of: SourceOfCell<'_, '_>,
    faults: &mut Vec<RowFault>,
) -> Option<Data> {
    let mut cast = Cast {
        values,
        datatype,
        source_of,
        faults,
    };
    macro_rules! integers {
        ($type:ty) => {
            // `MAX + 1.0` is the first integer above the range. `MAX` itself is not exact for 64
            // bits: i64::MAX as a float64 is 2^63.
            cast.convert(
                |x| x as $type,
                |x, _| {
                    x.fract() == 0.0 && x >= <$type>::MIN as f64 && x < <$type>::MAX as f64 + 1.0
                },
            )
        };
    }
    Some(match datatype {
        // NaN is a missing value, which a float input can hold. An infinity is an overflow.
        DataType::Fp32 => Data::Fp32(cast.convert(|x| x as f32, |_, x| !x.is_infinite()).into()),
        DataType::Fp64 => Data::Fp64(cast.convert(|x| x, |_, x| !x.is_infinite()).into()),
        DataType::Fp16 => Data::Fp16(
            cast.convert(|x| f16::from_f32(to_odd(x)), |_, x| !x.is_infinite())
                .into(),
        ),
        DataType::Bf16 => Data::Bf16(
            cast.convert(|x| bf16::from_f32(to_odd(x)), |_, x| !x.is_infinite())
                .into(),
        ),
        DataType::Int8 => Data::Int8(integers!(i8).into()),
        DataType::Int16 => Data::Int16(integers!(i16).into()),
        DataType::Int32 => Data::Int32(integers!(i32).into()),
        DataType::Int64 => Data::Int64(integers!(i64).into()),
        DataType::Uint8 => Data::Uint8(integers!(u8).into()),
        DataType::Uint16 => Data::Uint16(integers!(u16).into()),
        DataType::Uint32 => Data::Uint32(integers!(u32).into()),
        DataType::Uint64 => Data::Uint64(integers!(u64).into()),
        DataType::Bool => Data::Bool(cast.convert(|x| x != 0.0, |x, _| x == 0.0 || x == 1.0)),
        DataType::Bytes => return None,
    })
}

impl Cast<'_, '_> {
    /// Converts all values, and refuses those that do not fit. `fits` gets the original and the
    /// converted value.
    #[inline]
    fn convert<T: Copy>(
        &mut self,
        convert: impl Fn(f64) -> T,
        fits: impl Fn(f64, T) -> bool,
    ) -> Vec<T> {
        // Two separate loops, because the compiler vectorises a conversion that pushes no faults.
        let converted: Vec<T> = self.values.iter().map(|x| convert(*x)).collect();
        let values = self.values;
        for (cell, (x, converted)) in values.iter().zip(&converted).enumerate() {
            if !fits(*x, *converted) {
                self.refuse(cell, *x);
            }
        }
        converted
    }

    #[cold]
    fn refuse(&mut self, cell: usize, x: f64) {
        let (row, Some(source)) = (self.source_of)(cell) else {
            return;
        };
        let (keyword, detail) = if x.is_nan() {
            let detail = "must not be null: the model's input has no missing value and no \
                          preprocessing step takes it";
            ("type", detail.to_owned())
        } else if source.pii {
            ("dtype", format!("does not fit {}", self.datatype))
        } else {
            let detail = format!(
                "does not fit {} (its value after preprocessing is {x})",
                self.datatype
            );
            ("dtype", detail)
        };
        push_fault(self.faults, row, source, keyword, detail);
    }
}
