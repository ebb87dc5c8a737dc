//! Typed contents: the elements of a tensor are in a message field for their type.

use bytes::Bytes;

use crate::{
    api::grpc::inference::InferTensorContents,
    decode::elements::Elements,
    tensor::{Buffer, Data, DataType},
};

/// The reason why the typed contents of an input can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TypedContentsError {
    #[error("{0} has no typed contents: send it in raw_input_contents")]
    NoField(&'static str),
    #[error("{datatype} belongs in {field}, got {given}")]
    WrongField {
        datatype: &'static str,
        field: &'static str,
        given: &'static str,
    },
    #[error("its shape takes {expected} elements, got {given}")]
    ElementCount { expected: usize, given: usize },
    #[error("element {index} is out of range for {datatype}")]
    OutOfRange {
        index: usize,
        datatype: &'static str,
    },
}

/// The fields of typed contents, with the number of elements in each field.
fn fields(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

pub(super) fn is_empty(contents: &InferTensorContents) -> bool {
    fields(contents).iter().all(|(_, count)| *count == 0)
}

/// The name of the field for the elements of a datatype. `None` if the protocol has no field for
/// it.
pub(super) fn field_of(datatype: DataType) -> Option<&'static str> {
    match datatype {
        DataType::Bool => Some("bool_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some("int_contents"),
        DataType::Int64 => Some("int64_contents"),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Some("uint_contents"),
        DataType::Uint64 => Some("uint64_contents"),
        DataType::Fp32 => Some("fp32_contents"),
        DataType::Fp64 => Some("fp64_contents"),
        DataType::Bytes => Some("bytes_contents"),
        DataType::Fp16 | DataType::Bf16 => None,
    }
}

/// Reads the elements of a tensor. `count`: the number of elements in its shape.
pub(super) fn read(
    contents: InferTensorContents,
    datatype: DataType,
    count: usize,
) -> Result<Elements, TypedContentsError> {
    let name = datatype.protocol_name();
    let field = field_of(datatype).ok_or(TypedContentsError::NoField(name))?;
    let filled = fields(&contents);
    // If a second field were ignored, the client would not notice that it used the wrong datatype.
    if let Some((given, _)) = filled
        .iter()
        .find(|(other, count)| *count > 0 && *other != field)
    {
        return Err(TypedContentsError::WrongField {
            datatype: name,
            field,
            given,
        });
    }
    let given: usize = filled.iter().map(|(_, count)| count).sum();
    if given != count {
        return Err(TypedContentsError::ElementCount {
            expected: count,
            given,
        });
    }
    let data = match datatype {
        DataType::Bytes => return Ok(Elements::Texts(contents.bytes_contents)),
        DataType::Bool => Data::Bool(contents.bool_contents),
        DataType::Int8 => Data::Int8(narrow(&contents.int_contents, datatype)?),
        DataType::Int16 => Data::Int16(narrow(&contents.int_contents, datatype)?),
        DataType::Int32 => Data::Int32(contents.int_contents.into()),
        DataType::Int64 => Data::Int64(contents.int64_contents.into()),
        DataType::Uint8 => Data::Uint8(narrow(&contents.uint_contents, datatype)?),
        DataType::Uint16 => Data::Uint16(narrow(&contents.uint_contents, datatype)?),
        DataType::Uint32 => Data::Uint32(contents.uint_contents.into()),
        DataType::Uint64 => Data::Uint64(contents.uint64_contents.into()),
        DataType::Fp32 => Data::Fp32(contents.fp32_contents.into()),
        DataType::Fp64 => Data::Fp64(contents.fp64_contents.into()),
        // These datatypes have no field, and were refused above.
        DataType::Fp16 | DataType::Bf16 => Data::zeros(datatype, 0),
    };
    Ok(Elements::Values(data))
}

/// Converts elements to the narrower type of the tensor. Protobuf has no integers of fewer than 32
/// bits.
fn narrow<W: Copy, T: TryFrom<W>>(
    values: &[W],
    datatype: DataType,
) -> Result<Buffer<T>, TypedContentsError> {
    let narrowed = values
        .iter()
        .enumerate()
        .map(|(index, value)| T::try_from(*value).map_err(|_| index));
    narrowed
        .collect::<Result<Buffer<T>, usize>>()
        .map_err(|index| TypedContentsError::OutOfRange {
            index,
            datatype: datatype.protocol_name(),
        })
}

/// Writes the elements of an output. Protobuf has no field for half-precision floats, so their
/// contents stay empty.
pub(super) fn write(data: Data) -> InferTensorContents {
    // Take the memory of the tensor. Copy it only if the tensor shares its memory.
    fn own<T: bytemuck::Pod>(mut values: Buffer<T>) -> Vec<T> {
        std::mem::take(values.to_mut())
    }
    // Protobuf has no integers of fewer than 32 bits.
    fn widen<W, T: Copy + Into<W>>(values: &[T]) -> Vec<W> {
        values.iter().map(|value| (*value).into()).collect()
    }
    let mut contents = InferTensorContents::default();
    match data {
        Data::Bool(values) => contents.bool_contents = values,
        Data::Int8(values) => contents.int_contents = widen(&values),
        Data::Int16(values) => contents.int_contents = widen(&values),
        Data::Int32(values) => contents.int_contents = own(values),
        Data::Int64(values) => contents.int64_contents = own(values),
        Data::Uint8(values) => contents.uint_contents = widen(&values),
        Data::Uint16(values) => contents.uint_contents = widen(&values),
        Data::Uint32(values) => contents.uint_contents = own(values),
        Data::Uint64(values) => contents.uint64_contents = own(values),
        Data::Fp32(values) => contents.fp32_contents = own(values),
        Data::Fp64(values) => contents.fp64_contents = own(values),
        Data::Bytes(texts) => {
            contents.bytes_contents = texts.into_iter().map(Bytes::from).collect()
        }
        Data::Fp16(_) | Data::Bf16(_) => {}
    }
    contents
}
