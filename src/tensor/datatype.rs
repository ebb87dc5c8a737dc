//! `DataType`: the type of the elements of a tensor, with its names in the Open Inference Protocol
//! and in NumPy.

use std::fmt;

/// The type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// Booleans.
    Bool,
    /// Unsigned integers of 8 bits.
    Uint8,
    /// Unsigned integers of 16 bits.
    Uint16,
    /// Unsigned integers of 32 bits.
    Uint32,
    /// Unsigned integers of 64 bits.
    Uint64,
    /// Signed integers of 8 bits.
    Int8,
    /// Signed integers of 16 bits.
    Int16,
    /// Signed integers of 32 bits.
    Int32,
    /// Signed integers of 64 bits.
    Int64,
    /// IEEE 754 half precision.
    Fp16,
    /// bfloat16: the upper 16 bits of a float32.
    Bf16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// Strings in UTF-8. The protocols call them `BYTES`.
    Bytes,
}

/// The type, its name in the protocol, its name in NumPy, and the bytes of one element. The rows
/// have the order of the enum.
const TABLE: [(DataType, &str, &str, Option<usize>); 14] = [
    (DataType::Bool, "BOOL", "bool", Some(1)),
    (DataType::Uint8, "UINT8", "uint8", Some(1)),
    (DataType::Uint16, "UINT16", "uint16", Some(2)),
    (DataType::Uint32, "UINT32", "uint32", Some(4)),
    (DataType::Uint64, "UINT64", "uint64", Some(8)),
    (DataType::Int8, "INT8", "int8", Some(1)),
    (DataType::Int16, "INT16", "int16", Some(2)),
    (DataType::Int32, "INT32", "int32", Some(4)),
    (DataType::Int64, "INT64", "int64", Some(8)),
    (DataType::Fp16, "FP16", "float16", Some(2)),
    (DataType::Bf16, "BF16", "bfloat16", Some(2)),
    (DataType::Fp32, "FP32", "float32", Some(4)),
    (DataType::Fp64, "FP64", "float64", Some(8)),
    (DataType::Bytes, "BYTES", "string", None),
];

impl DataType {
    #[expect(
        clippy::indexing_slicing,
        reason = "the table has a row for each variant; a test checks this"
    )]
    fn row(self) -> &'static (DataType, &'static str, &'static str, Option<usize>) {
        &TABLE[self as usize]
    }

    /// The name in the Open Inference Protocol: `FP32`, `INT64`, `BYTES`.
    pub fn protocol_name(self) -> &'static str {
        self.row().1
    }

    /// The name in `preprocessing.json`: `float32`, `int64`, `string`.
    pub fn numpy_name(self) -> &'static str {
        self.row().2
    }

    /// The type with this name in `preprocessing.json`. `None` for an unknown name.
    pub fn from_numpy_name(name: &str) -> Option<DataType> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    pub(crate) fn from_protocol_name(name: &str) -> Option<DataType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The number of bytes of one element. `None` for strings.
    pub fn size(self) -> Option<usize> {
        self.row().3
    }

    /// Whether the type has NaN and infinities.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64
        )
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.numpy_name())
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use crate::tensor::DataType;

    #[test]
    fn the_table_of_codes_is_in_the_order_of_the_enum() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(DataType::from_numpy_name(row.2), Some(row.0));
            assert_eq!(DataType::from_protocol_name(row.1), Some(row.0));
        }
    }
}
