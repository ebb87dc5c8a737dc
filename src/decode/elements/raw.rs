//! Binary elements: little-endian and row-major, like in the protocols and the runtime.

use bytes::Bytes;

use crate::{
    decode::elements::{TensorError, utf8},
    tensor::{Buffer, Data, DataType},
};

/// Reads binary elements. Numbers stay views of `bytes` and are not copied.
pub fn from_raw(datatype: DataType, bytes: &Bytes, elements: usize) -> Result<Data, TensorError> {
    if let Some(size) = datatype.size()
        && elements.checked_mul(size) != Some(bytes.len())
    {
        return Err(TensorError::RawLength {
            elements,
            size,
            given: bytes.len(),
        });
    }
    fn view<T: bytemuck::Pod>(
        bytes: &Bytes,
        wrap: fn(Buffer<T>) -> Data,
    ) -> Result<Data, TensorError> {
        Buffer::from_bytes(bytes.clone())
            .map(wrap)
            .ok_or(TensorError::RawPartialElement)
    }
    match datatype {
        DataType::Bool => {
            // A boolean with any other byte is undefined behaviour in C++, and therefore in the
            // runtime.
            if bytes.iter().any(|byte| *byte > 1) {
                return Err(TensorError::RawBool);
            }
            Ok(Data::Bool(bytes.iter().map(|byte| *byte == 1).collect()))
        }
        DataType::Uint8 => view(bytes, Data::Uint8),
        DataType::Uint16 => view(bytes, Data::Uint16),
        DataType::Uint32 => view(bytes, Data::Uint32),
        DataType::Uint64 => view(bytes, Data::Uint64),
        DataType::Int8 => view(bytes, Data::Int8),
        DataType::Int16 => view(bytes, Data::Int16),
        DataType::Int32 => view(bytes, Data::Int32),
        DataType::Int64 => view(bytes, Data::Int64),
        DataType::Fp16 => view(bytes, Data::Fp16),
        DataType::Bf16 => view(bytes, Data::Bf16),
        DataType::Fp32 => view(bytes, Data::Fp32),
        DataType::Fp64 => view(bytes, Data::Fp64),
        // Strings have no fixed size, so the length was not checked above.
        DataType::Bytes => {
            let texts = split_texts(bytes, elements)?;
            texts
                .into_iter()
                .map(|text| utf8(text).map(str::to_owned))
                .collect::<Result<_, _>>()
                .map(Data::Bytes)
        }
    }
}

/// Splits binary strings. Each string follows its length in bytes, an unsigned 32-bit number.
pub fn split_texts(bytes: &[u8], elements: usize) -> Result<Vec<&[u8]>, TensorError> {
    // Each element has at least the four bytes of its length. Without this check, a caller could
    // make the server allocate memory for any number of elements with a few bytes.
    if elements > bytes.len() / 4 {
        return Err(TensorError::RawTooShort { elements });
    }
    let mut texts = Vec::with_capacity(elements);
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((text, after)) = after.split_at_checked(length) else {
            return Err(TensorError::RawTextTooLong {
                element: texts.len(),
            });
        };
        texts.push(text);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(TensorError::RawPartialLength);
    }
    if texts.len() != elements {
        return Err(TensorError::RawTextCount {
            expected: elements,
            given: texts.len(),
        });
    }
    Ok(texts)
}

/// The elements as binary data. Numbers are not copied.
pub fn to_raw(data: Data) -> Bytes {
    match data {
        Data::Bool(values) => Bytes::from(values.into_iter().map(u8::from).collect::<Vec<u8>>()),
        Data::Uint8(values) => values.into_bytes(),
        Data::Uint16(values) => values.into_bytes(),
        Data::Uint32(values) => values.into_bytes(),
        Data::Uint64(values) => values.into_bytes(),
        Data::Int8(values) => values.into_bytes(),
        Data::Int16(values) => values.into_bytes(),
        Data::Int32(values) => values.into_bytes(),
        Data::Int64(values) => values.into_bytes(),
        Data::Fp16(values) => values.into_bytes(),
        Data::Bf16(values) => values.into_bytes(),
        Data::Fp32(values) => values.into_bytes(),
        Data::Fp64(values) => values.into_bytes(),
        Data::Bytes(texts) => {
            let mut bytes = Vec::with_capacity(texts.iter().map(|text| text.len() + 4).sum());
            for text in texts {
                bytes.extend_from_slice(
                    &u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes(),
                );
                bytes.extend_from_slice(text.as_bytes());
            }
            Bytes::from(bytes)
        }
    }
}
