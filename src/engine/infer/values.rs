//! Converts tensors into the runtime's values and back.

use std::{ffi, marker::PhantomData};

use bytemuck::Pod;
use bytes::Bytes;
use ort::{
    AsPointer,
    session::SessionInputValue,
    value::{DynValue, PrimitiveTensorElementType, Shape as OrtShape, TensorRef},
};

use crate::tensor::{Buffer, Data, DataType, Tensor};

/// Converts a tensor to an input value of a run. Only strings are copied.
pub(super) fn input_value(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape: Vec<i64> = tensor.shape().iter().map(|dim| *dim as i64).collect();
    fn view<'a, T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
        shape: Vec<i64>,
        values: &'a [T],
    ) -> ort::Result<SessionInputValue<'a>> {
        Ok(TensorRef::from_array_view((shape, values))?.into())
    }
    match tensor.data() {
        Data::Bool(values) => view(shape, values),
        Data::Uint8(values) => view(shape, values),
        Data::Uint16(values) => view(shape, values),
        Data::Uint32(values) => view(shape, values),
        Data::Uint64(values) => view(shape, values),
        Data::Int8(values) => view(shape, values),
        Data::Int16(values) => view(shape, values),
        Data::Int32(values) => view(shape, values),
        Data::Int64(values) => view(shape, values),
        Data::Fp16(values) => view(shape, values),
        Data::Bf16(values) => view(shape, values),
        Data::Fp32(values) => view(shape, values),
        Data::Fp64(values) => view(shape, values),
        Data::Bytes(values) => Ok(text_tensor(shape, values)?.into()),
    }
}

/// Creates a tensor of strings. The binding passes C strings, which end at their first NUL. Strings
/// that contain a NUL are therefore written with their length into the tensor's buffers.
fn text_tensor(shape: Vec<i64>, values: &[String]) -> ort::Result<ort::value::Tensor<String>> {
    if !values
        .iter()
        .any(|text| memchr::memchr(0, text.as_bytes()).is_some())
    {
        return ort::value::Tensor::from_string_array((shape, values));
    }
    // The tensor is first created with empty strings, because only its buffers accept a length.
    let blanks = vec![String::new(); values.len()];
    let mut tensor = ort::value::Tensor::from_string_array((shape, blanks.as_slice()))?;
    for (index, text) in values.iter().enumerate() {
        let mut buffer: *mut ffi::c_char = std::ptr::null_mut();
        // SAFETY: the tensor has string elements, is alive and is not shared. `index` is below its
        // number of elements, which is the length of `values`. The library writes a pointer to
        // `buffer` or returns an error.
        let status = unsafe {
            (ort::api().GetResizedStringTensorElementBuffer)(
                tensor.ptr_mut(),
                index,
                text.len(),
                &mut buffer,
            )
        };
        if !status.0.is_null() || buffer.is_null() && !text.is_empty() {
            // SAFETY: the status is null, which is allowed, or was created for this call and is
            // released only here.
            unsafe { (ort::api().ReleaseStatus)(status.0) };
            return Err(ort::Error::new(
                "a string could not be passed to the library",
            ));
        }
        if !text.is_empty() {
            // SAFETY: the library created `buffer` with the length of `text`, for this element
            // alone. The two don't overlap.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len()) };
        }
    }
    Ok(tensor)
}

/// Minimum size of outputs that are not copied. The library's value lives as long as the tensor
/// that refers to it. For smaller outputs a copy is cheaper than shared ownership.
const SHARED_OUTPUT_BYTES: usize = 64 << 10;

/// Why an output could not be converted.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("{}", .0.message())]
    Extract(ort::Error),
    #[error("its elements are not whole")]
    PartialElement,
    #[error("its shape does not fit its elements")]
    Shape,
}

/// Converts an output, which must have the declared `datatype`.
pub(super) fn output_tensor(value: DynValue, datatype: DataType) -> Result<Tensor, OutputError> {
    fn extract<T: PrimitiveTensorElementType>(
        value: &DynValue,
    ) -> Result<(&OrtShape, &[T]), OutputError> {
        value
            .try_extract_tensor::<T>()
            .map_err(OutputError::Extract)
    }
    fn take<T: PrimitiveTensorElementType + Pod>(
        value: DynValue,
        wrap: fn(Buffer<T>) -> Data,
    ) -> Result<Tensor, OutputError> {
        struct SharedOutput<T>(DynValue, PhantomData<fn() -> T>);
        impl<T: PrimitiveTensorElementType + Pod> AsRef<[u8]> for SharedOutput<T> {
            fn as_ref(&self) -> &[u8] {
                // `take` extracted the same type, so this call does not fail.
                extract::<T>(&self.0)
                    .map(|(_, values)| bytemuck::cast_slice(values))
                    .unwrap_or_default()
            }
        }
        let (shape, values) = extract::<T>(&value)?;
        if size_of_val(values) < SHARED_OUTPUT_BYTES {
            return checked(shape, wrap(values.to_vec().into()));
        }
        let shape = shape.clone();
        let bytes = Bytes::from_owner(SharedOutput::<T>(value, PhantomData));
        checked(
            &shape,
            wrap(Buffer::from_bytes(bytes).ok_or(OutputError::PartialElement)?),
        )
    }
    match datatype {
        DataType::Bool => {
            let (shape, values) = extract::<bool>(&value)?;
            checked(shape, Data::Bool(values.to_vec()))
        }
        DataType::Uint8 => take(value, Data::Uint8),
        DataType::Uint16 => take(value, Data::Uint16),
        DataType::Uint32 => take(value, Data::Uint32),
        DataType::Uint64 => take(value, Data::Uint64),
        DataType::Int8 => take(value, Data::Int8),
        DataType::Int16 => take(value, Data::Int16),
        DataType::Int32 => take(value, Data::Int32),
        DataType::Int64 => take(value, Data::Int64),
        DataType::Fp16 => take(value, Data::Fp16),
        DataType::Bf16 => take(value, Data::Bf16),
        DataType::Fp32 => take(value, Data::Fp32),
        DataType::Fp64 => take(value, Data::Fp64),
        DataType::Bytes => {
            let (shape, values) = value.try_extract_strings().map_err(OutputError::Extract)?;
            checked(shape, Data::Bytes(values))
        }
    }
}

fn checked(shape: &OrtShape, data: Data) -> Result<Tensor, OutputError> {
    let dims: Option<Vec<usize>> = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    dims.and_then(|dims| Tensor::new(dims, data))
        .ok_or(OutputError::Shape)
}
