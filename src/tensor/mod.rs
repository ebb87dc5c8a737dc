//! Tensors: elements and their shape, the inputs and outputs of an engine.

mod buffer;
mod datatype;
mod rearrange;
mod rows;
mod shape;
pub mod signature;

use std::sync::Arc;

use half::{bf16, f16};

pub use buffer::Buffer;
pub use datatype::DataType;
pub(crate) use rearrange::{Rearrangement, from_end};
pub use rows::{batches, join, split};
pub use shape::{Dim, Shape, fit};

/// The elements of a tensor, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Booleans.
    Bool(Vec<bool>),
    /// Unsigned integers of 8 bits.
    Uint8(Buffer<u8>),
    /// Unsigned integers of 16 bits.
    Uint16(Buffer<u16>),
    /// Unsigned integers of 32 bits.
    Uint32(Buffer<u32>),
    /// Unsigned integers of 64 bits.
    Uint64(Buffer<u64>),
    /// Signed integers of 8 bits.
    Int8(Buffer<i8>),
    /// Signed integers of 16 bits.
    Int16(Buffer<i16>),
    /// Signed integers of 32 bits.
    Int32(Buffer<i32>),
    /// Signed integers of 64 bits.
    Int64(Buffer<i64>),
    /// IEEE 754 half precision.
    Fp16(Buffer<f16>),
    /// bfloat16: the upper 16 bits of a float32.
    Bf16(Buffer<bf16>),
    /// IEEE 754 single precision.
    Fp32(Buffer<f32>),
    /// IEEE 754 double precision.
    Fp64(Buffer<f64>),
    /// Strings in UTF-8. The protocols call them `BYTES`.
    Bytes(Vec<String>),
}

/// Evaluates the same expression for the elements of each variant of `Data`.
macro_rules! each_data {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            $crate::tensor::Data::Bool($values) => $body,
            $crate::tensor::Data::Uint8($values) => $body,
            $crate::tensor::Data::Uint16($values) => $body,
            $crate::tensor::Data::Uint32($values) => $body,
            $crate::tensor::Data::Uint64($values) => $body,
            $crate::tensor::Data::Int8($values) => $body,
            $crate::tensor::Data::Int16($values) => $body,
            $crate::tensor::Data::Int32($values) => $body,
            $crate::tensor::Data::Int64($values) => $body,
            $crate::tensor::Data::Fp16($values) => $body,
            $crate::tensor::Data::Bf16($values) => $body,
            $crate::tensor::Data::Fp32($values) => $body,
            $crate::tensor::Data::Fp64($values) => $body,
            $crate::tensor::Data::Bytes($values) => $body,
        }
    };
}

impl Data {
    /// The number of elements.
    pub fn len(&self) -> usize {
        each_data!(self, values => values.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn datatype(&self) -> DataType {
        match self {
            Data::Bool(_) => DataType::Bool,
            Data::Uint8(_) => DataType::Uint8,
            Data::Uint16(_) => DataType::Uint16,
            Data::Uint32(_) => DataType::Uint32,
            Data::Uint64(_) => DataType::Uint64,
            Data::Int8(_) => DataType::Int8,
            Data::Int16(_) => DataType::Int16,
            Data::Int32(_) => DataType::Int32,
            Data::Int64(_) => DataType::Int64,
            Data::Fp16(_) => DataType::Fp16,
            Data::Bf16(_) => DataType::Bf16,
            Data::Fp32(_) => DataType::Fp32,
            Data::Fp64(_) => DataType::Fp64,
            Data::Bytes(_) => DataType::Bytes,
        }
    }

    /// Empty data of `datatype`, with capacity for `capacity` elements.
    pub fn with_capacity(datatype: DataType, capacity: usize) -> Data {
        match datatype {
            DataType::Bool => Data::Bool(Vec::with_capacity(capacity)),
            DataType::Uint8 => Data::Uint8(Vec::with_capacity(capacity).into()),
            DataType::Uint16 => Data::Uint16(Vec::with_capacity(capacity).into()),
            DataType::Uint32 => Data::Uint32(Vec::with_capacity(capacity).into()),
            DataType::Uint64 => Data::Uint64(Vec::with_capacity(capacity).into()),
            DataType::Int8 => Data::Int8(Vec::with_capacity(capacity).into()),
            DataType::Int16 => Data::Int16(Vec::with_capacity(capacity).into()),
            DataType::Int32 => Data::Int32(Vec::with_capacity(capacity).into()),
            DataType::Int64 => Data::Int64(Vec::with_capacity(capacity).into()),
            DataType::Fp16 => Data::Fp16(Vec::with_capacity(capacity).into()),
            DataType::Bf16 => Data::Bf16(Vec::with_capacity(capacity).into()),
            DataType::Fp32 => Data::Fp32(Vec::with_capacity(capacity).into()),
            DataType::Fp64 => Data::Fp64(Vec::with_capacity(capacity).into()),
            DataType::Bytes => Data::Bytes(Vec::with_capacity(capacity)),
        }
    }

    /// `len` elements with the value zero, false or the empty string.
    pub fn zeros(datatype: DataType, len: usize) -> Data {
        let mut data = Data::with_capacity(datatype, len);
        // The default of each type is zero, false or the empty string.
        each_data!(&mut data, values => values.resize(len, Default::default()));
        data
    }
}

/// Elements and their shape. The number of elements is the product of the shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// Creates a tensor. `None` if the number of elements is not the product of the shape.
    pub fn new(shape: Vec<usize>, data: Data) -> Option<Tensor> {
        // The multiplication is checked: the shape may come from a request, and a wrapped product
        // could equal the number of elements.
        let elements = shape
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
        (elements == data.len()).then_some(Tensor { shape, data })
    }

    /// The size of each dimension. Empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    pub(crate) fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// The type of the elements.
    pub fn datatype(&self) -> DataType {
        self.data.datatype()
    }

    /// The size of the first dimension, which is the number of rows. A scalar has one row.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The number of elements of one row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// Named tensors in the order of the graph's signature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(pub Vec<(Arc<str>, Tensor)>);

impl Tensors {
    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0
            .iter()
            .find(|(known, _)| &**known == name)
            .map(|(_, tensor)| tensor)
    }

    /// The number of rows of the first tensor. 0 without tensors.
    pub fn rows(&self) -> usize {
        self.0.first().map_or(0, |(_, tensor)| tensor.rows())
    }
}
