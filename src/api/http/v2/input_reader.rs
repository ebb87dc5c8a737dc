//! Inputs of an inference request. The data of each tensor is in the JSON, or in the binary data
//! after it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Number, value::RawValue};

use crate::{
    api::{http::v2::parameters::Parameters, refusal::Refusal},
    decode::{
        elements::{Elements, WireTensor},
        json_object::Object,
    },
    error::{ErrorCode, counted},
    schema::fault::shorten,
    tensor::DataType,
};

#[derive(Deserialize)]
pub(super) struct InputDocument<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "dimensions")]
    shape: Option<Vec<usize>>,
    #[serde(default)]
    parameters: Option<Object<Parameters>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Reads the dimensions of a shape. The error does not quote a negative or huge number, unlike
/// serde's own error.
fn dimensions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<usize>>, D::Error> {
    let Some(given) = Option::<Vec<Number>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let size = |number: &Number| number.as_u64().and_then(|size| usize::try_from(size).ok());
    let sizes: Option<Vec<usize>> = given.iter().map(size).collect();
    let wrong = || D::Error::custom("the sizes of a shape must be whole numbers from 0");
    sizes.map(Some).ok_or_else(wrong)
}

/// The reason why an input can't be read.
#[derive(Debug, thiserror::Error)]
enum HttpInputError {
    #[error("has no name")]
    NoName,
    #[error("has no datatype")]
    NoDatatype,
    #[error("has the unknown datatype \"{}\"", shorten(.0))]
    UnknownDatatype(String),
    #[error("has no shape")]
    NoShape,
    #[error("has both data and binary_data_size")]
    DataTwice,
    #[error("has neither data nor binary_data_size")]
    NoData,
    #[error("has {} of data, but {left} are left in the body", counted(*size, "byte"))]
    TooFewBytes { size: usize, left: usize },
}

/// Reads the inputs from the two parts of a body. Inputs take their binary data in the order in
/// which the JSON lists them.
pub(super) struct InputReader {
    text: Bytes,
    binary: Bytes,
}

impl InputReader {
    /// Creates a reader. `text`: the JSON from which the documents of the inputs borrow.
    pub(super) fn new(text: Bytes, binary: Bytes) -> InputReader {
        InputReader { text, binary }
    }

    pub(super) fn read(&mut self, input: InputDocument<'_>) -> Result<WireTensor, Refusal> {
        let InputDocument {
            name,
            datatype,
            shape,
            parameters,
            data,
        } = input;
        let wrong = |error: HttpInputError| {
            Refusal::malformed(format!("input `{}` {error}", shorten(&name)))
        };
        let datatype = read_datatype(datatype).map_err(wrong)?;
        // The shape may be missing only in a body without JSON, where it comes from the signature.
        if shape.is_none() {
            return Err(wrong(HttpInputError::NoShape));
        }
        if name.is_empty() {
            return Err(wrong(HttpInputError::NoName));
        }
        let parameters = Parameters::from(parameters);
        if parameters.shared_memory_region.is_some() {
            return Err(Refusal::new(
                ErrorCode::Unsupported,
                "shared memory is not supported; send the data",
            ));
        }
        let elements = self
            .take_elements(data, parameters.binary_data_size)
            .map_err(wrong)?;
        Ok(WireTensor {
            name: name.into_owned(),
            datatype: Some(datatype),
            shape,
            elements,
        })
    }

    fn take_elements(
        &mut self,
        data: Option<&RawValue>,
        binary_size: Option<usize>,
    ) -> Result<Elements, HttpInputError> {
        match (data, binary_size) {
            (Some(_), Some(_)) => Err(HttpInputError::DataTwice),
            (None, None) => Err(HttpInputError::NoData),
            (Some(data), None) => {
                let text = self.text.slice_ref(data.get().as_bytes());
                Ok(Elements::Json(text))
            }
            // `split_to` panics if the size is beyond the end.
            (None, Some(size)) if size > self.binary.len() => Err(HttpInputError::TooFewBytes {
                size,
                left: self.binary.len(),
            }),
            (None, Some(size)) => Ok(Elements::Raw(self.binary.split_to(size))),
        }
    }

    /// Checks that the inputs used all binary data. If bytes are left, a size is wrong, and so is
    /// every later tensor.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.binary.len() {
            0 => Ok(()),
            left => Err(Refusal::malformed(format!(
                "the body has {} more than its inputs need",
                counted(left, "byte")
            ))),
        }
    }
}

fn read_datatype(name: Option<Cow<'_, str>>) -> Result<DataType, HttpInputError> {
    let name = name.ok_or(HttpInputError::NoDatatype)?;
    DataType::from_protocol_name(&name)
        .ok_or_else(|| HttpInputError::UnknownDatatype(name.into_owned()))
}
