//! The elements of tensors as protocols carry them (JSON or little-endian bytes). Converts them to
//! the tensors of a graph, and to the JSON that the decoder of a schema reads.

mod declared;
mod error;
mod field;
mod json;
mod raw;
mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use self::{
    error::{ElementFault, TensorError},
    field::{field_datatype, field_shape},
    raw::{from_raw, split_texts, to_raw},
    write::{write_element, write_elements, write_nested},
};
use crate::{
    decode::elements::json::read_json,
    tensor::{Data, DataType, Shape, Tensor, signature::TensorSpec},
};

/// An input tensor of a request, before its elements are read.
#[derive(Clone, Debug)]
pub struct WireTensor {
    /// The name of the input, as the caller wrote it.
    pub name: String,
    /// The datatype. `None` if the protocol does not send it: the model's own datatype is used.
    pub datatype: Option<DataType>,
    /// The shape. `None` if the protocol does not send it: the nesting of the JSON elements
    /// determines the shape.
    pub shape: Option<Vec<usize>>,
    /// The elements in the encoding of the protocol.
    pub elements: Elements,
}

/// The elements of a tensor, in the encoding in which a protocol sends them.
#[derive(Clone, Debug)]
pub enum Elements {
    /// A JSON array, nested or flat.
    Json(Bytes),
    /// Little-endian bytes in row-major order. Each string follows its length in bytes, an unsigned
    /// 32-bit number.
    Raw(Bytes),
    /// Typed elements, as gRPC sends them in its `contents`.
    Values(Data),
    /// The bytes of each string, as gRPC sends them in its `contents`. They may contain bytes that
    /// are not UTF-8.
    Texts(Vec<Bytes>),
}

/// The number of elements of a shape. `None` if it is larger than memory can address.
pub fn elements_of(shape: &[usize]) -> Option<usize> {
    // Dimensions of 0 are omitted from the product. Otherwise they would hide an overflow from this
    // check. The runtime multiplies in a different order and would not miss it.
    let product = shape
        .iter()
        .filter(|dim| **dim > 0)
        .try_fold(1usize, |product, dim| product.checked_mul(*dim))?;
    isize::try_from(product).ok()?;
    Some(if shape.contains(&0) { 0 } else { product })
}

impl WireTensor {
    /// The tensor for an input of the graph.
    pub fn to_tensor(&self, spec: &TensorSpec) -> Result<Tensor, TensorError> {
        let check_shape = |shape: &[usize]| {
            if spec.shape.fits(shape) {
                return Ok(());
            }
            Err(TensorError::WrongShape {
                datatype: spec.datatype,
                expected: spec.shape.clone(),
                given: shape.to_vec(),
            })
        };
        // The declared datatype and shape are checked first, so that a tensor that can't fit is not
        // read.
        check_datatype(self.datatype.unwrap_or(spec.datatype), spec)?;
        if let Some(shape) = &self.shape {
            check_shape(shape)?;
        }
        let tensor = match &self.elements {
            Elements::Json(text) => self.json_tensor(text, spec)?,
            Elements::Raw(bytes) => {
                let shape = self.declared_shape()?;
                let elements = elements_of(&shape).ok_or(TensorError::ShapeTooLarge)?;
                Tensor::new(shape, from_raw(spec.datatype, bytes, elements)?)
            }
            Elements::Values(data) => self.flat_tensor(data.clone())?,
            Elements::Texts(texts) => {
                let texts: Result<Vec<String>, TensorError> = texts
                    .iter()
                    .map(|text| utf8(text).map(str::to_owned))
                    .collect();
                self.flat_tensor(Data::Bytes(texts?))?
            }
        };
        let tensor = tensor.ok_or(TensorError::ShapeNotFilled)?;
        // Typed values have their own datatype, and JSON has its own shape.
        check_datatype(tensor.datatype(), spec)?;
        check_shape(tensor.shape())?;
        Ok(tensor)
    }

    /// Reads elements from JSON. `None` if the elements do not fill the shape.
    fn json_tensor(&self, text: &[u8], spec: &TensorSpec) -> Result<Option<Tensor>, TensorError> {
        if spec.datatype == DataType::Bf16 {
            return Err(TensorError::Bf16AsJson);
        }
        let (data, nested) = read_json(text, spec.datatype)?;
        let shape = match &self.shape {
            Some(shape) => {
                check_nesting(shape, &nested, data.len())?;
                shape.clone()
            }
            // One value per row becomes a row of one value.
            None if !spec.shape.fits(&nested) && spec.shape.fits(&with_last_dim_1(&nested)) => {
                with_last_dim_1(&nested)
            }
            // An empty inner array hides the dimensions below it. An empty outer array stays as it
            // is: a request without rows is refused.
            None if nested.len() > 1 => spec.shape.completed(nested),
            None => nested,
        };
        Ok(Tensor::new(shape, data))
    }

    /// Creates a tensor from flat elements. `None` if the elements do not fill the shape.
    fn flat_tensor(&self, data: Data) -> Result<Option<Tensor>, TensorError> {
        let shape = self.declared_shape()?;
        check_nesting(&shape, &[data.len()], data.len())?;
        Ok(Tensor::new(shape, data))
    }

    fn declared_shape(&self) -> Result<Vec<usize>, TensorError> {
        self.shape.clone().ok_or(TensorError::NoShape)
    }
}

fn check_datatype(given: DataType, spec: &TensorSpec) -> Result<(), TensorError> {
    if given == spec.datatype {
        return Ok(());
    }
    Err(TensorError::WrongDatatype {
        datatype: spec.datatype,
        shape: spec.shape.clone(),
        given,
    })
}

fn with_last_dim_1(shape: &[usize]) -> Vec<usize> {
    [shape, &[1]].concat()
}

/// A datatype and a shape, as messages and documents write them: `FP32 [-1, 4]`.
pub fn signature(datatype: DataType, shape: &Shape) -> String {
    format!("{} {shape}", datatype.protocol_name())
}

/// Checks `elements` with the nesting `nested` against a declared shape. Flat elements fit every
/// shape with the same number of elements.
fn check_nesting(shape: &[usize], nested: &[usize], elements: usize) -> Result<(), TensorError> {
    let expected = elements_of(shape).ok_or(TensorError::ShapeTooLarge)?;
    if expected != elements {
        return Err(TensorError::ElementCount {
            shape: shape.to_vec(),
            expected,
            given: elements,
        });
    }
    // The nesting of JSON arrays ends at the first dimension of 0.
    let ends_at_zero = nested.last() == Some(&0) && shape.starts_with(nested);
    if nested.len() > 1 && nested != shape && !ends_at_zero {
        return Err(TensorError::WrongNesting {
            shape: shape.to_vec(),
            nested: nested.to_vec(),
        });
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str, TensorError> {
    std::str::from_utf8(bytes).map_err(|_| TensorError::NotUtf8)
}
