//! A `ModelInferRequest`, checked as far as possible without its model.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::{
    api::{
        grpc::{
            inference::{
                InferParameter, ModelInferRequest, infer_parameter::ParameterChoice,
                model_infer_request::InferInputTensor,
            },
            typed_contents::{self, TypedContentsError},
        },
        oip::RequestedOutput,
        refusal::Refusal,
    },
    decode::elements::{Elements, WireTensor, elements_of},
    error::ErrorCode,
    predict::Priority,
    schema::fault::shorten,
    tensor::DataType,
};

/// The parameter with which Triton's clients refer to memory that they share with the server,
/// instead of sending elements.
const SHARED_MEMORY: &str = "shared_memory_region";

/// A request whose tensors are not decoded yet.
#[derive(Debug, Default)]
pub(super) struct GrpcInferRequest {
    pub model: String,
    /// The requested version. Empty if the server chooses the version.
    pub version: String,
    /// The request id, which the response repeats.
    pub id: String,
    pub inputs: Vec<WireTensor>,
    /// The requested outputs in the order of the response. Empty means all outputs.
    pub outputs: Vec<RequestedOutput>,
    pub priority: Priority,
    /// The time limit in the message, in addition to `grpc-timeout`. `None` if the message sets
    /// none.
    pub timeout: Option<Duration>,
    pub form: ContentsForm,
}

/// The place of the elements in a message. The response uses the same place as the request, because
/// clients rely on it: a client that sends typed elements expects typed elements. Triton's client
/// reads only raw elements, except for strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ContentsForm {
    /// In `raw_input_contents`, in little-endian byte order.
    #[default]
    Raw,
    /// In the `contents` of each input tensor.
    Typed,
}

/// The reason why an input can't be parsed.
#[derive(Debug, thiserror::Error)]
enum GrpcInputError {
    #[error("there is no datatype {}", shorten(.0))]
    UnknownDatatype(String),
    #[error("shape {0:?} has a negative dimension")]
    NegativeDimension(Vec<i64>),
    #[error("its shape has more elements than memory can hold")]
    TooLarge,
    #[error("contents and raw_input_contents are both set; send one")]
    DataTwice,
    #[error(transparent)]
    Contents(#[from] TypedContentsError),
}

/// The error for a parameter that must be a whole number.
#[derive(Debug, thiserror::Error)]
#[error("{0} must be a whole number, not negative")]
struct NotWholeNumber(&'static str);

pub(super) fn read(request: ModelInferRequest) -> Result<GrpcInferRequest, Refusal> {
    let ModelInferRequest {
        model_name,
        model_version,
        id,
        parameters,
        inputs,
        outputs,
        raw_input_contents,
    } = request;
    let form = if inputs.is_empty() || !raw_input_contents.is_empty() {
        ContentsForm::Raw
    } else {
        ContentsForm::Typed
    };
    // Entries and inputs are matched by their order. If an entry were missing, all later inputs
    // would get the wrong bytes.
    if form == ContentsForm::Raw && raw_input_contents.len() != inputs.len() {
        let (given, wanted) = (raw_input_contents.len(), inputs.len());
        return Err(Refusal::malformed(format!(
            "raw_input_contents must have an entry for each input ({wanted}), and has {given}"
        )));
    }
    // This is empty for typed contents. In that case every input contains its own elements.
    let mut raw = raw_input_contents.into_iter();
    let inputs = inputs
        .into_iter()
        .map(|input| read_input(input, raw.next()))
        .collect::<Result<_, _>>()?;
    let outputs = outputs
        .into_iter()
        .map(|output| read_output(output.name, &output.parameters))
        .collect::<Result<_, _>>()?;
    let wrong = |error: NotWholeNumber| Refusal::malformed(format!("request: {error}"));
    let priority = whole_number(&parameters, "priority").map_err(wrong)?;
    // 0 means no time limit.
    let timeout = whole_number(&parameters, "timeout")
        .map_err(wrong)?
        .filter(|microseconds| *microseconds > 0);
    Ok(GrpcInferRequest {
        model: model_name,
        version: model_version,
        id,
        inputs,
        outputs,
        priority: Priority::from_protocol(priority.unwrap_or_default()),
        timeout: timeout.map(Duration::from_micros),
        form,
    })
}

fn read_input(mut input: InferInputTensor, raw: Option<Bytes>) -> Result<WireTensor, Refusal> {
    // An input without a name would count as the only input of the model, whose datatype and shape
    // come from the signature.
    if input.name.is_empty() {
        return Err(Refusal::malformed("input `` has no name"));
    }
    if input.parameters.contains_key(SHARED_MEMORY) {
        return Err(no_shared_memory());
    }
    let name = std::mem::take(&mut input.name);
    match read_tensor(input, raw) {
        Ok(tensor) => Ok(WireTensor { name, ..tensor }),
        Err(error) => Err(Refusal::malformed(format!(
            "input `{}`: {error}",
            shorten(&name)
        ))),
    }
}

/// Reads the datatype, the shape and the elements of a tensor. The caller adds the name. The number
/// of elements is compared with the shape only for typed contents. Raw contents are checked against
/// the model's signature.
fn read_tensor(input: InferInputTensor, raw: Option<Bytes>) -> Result<WireTensor, GrpcInputError> {
    let InferInputTensor {
        name,
        datatype,
        shape,
        contents,
        ..
    } = input;
    let datatype =
        DataType::from_protocol_name(&datatype).ok_or(GrpcInputError::UnknownDatatype(datatype))?;
    let dims = shape
        .iter()
        .map(|dim| usize::try_from(*dim))
        .collect::<Result<Vec<usize>, _>>();
    let shape = dims.map_err(|_| GrpcInputError::NegativeDimension(shape))?;
    let count = elements_of(&shape).ok_or(GrpcInputError::TooLarge)?;
    let contents = contents.filter(|contents| !typed_contents::is_empty(contents));
    let elements = match (raw, contents) {
        (Some(_), Some(_)) => return Err(GrpcInputError::DataTwice),
        (Some(bytes), None) => Elements::Raw(bytes),
        (None, contents) => typed_contents::read(contents.unwrap_or_default(), datatype, count)?,
    };
    Ok(WireTensor {
        name,
        datatype: Some(datatype),
        shape: Some(shape),
        elements,
    })
}

fn read_output(
    name: String,
    parameters: &BTreeMap<String, InferParameter>,
) -> Result<RequestedOutput, Refusal> {
    if parameters.contains_key(SHARED_MEMORY) {
        return Err(no_shared_memory());
    }
    let count = whole_number(parameters, "classification")
        .map_err(|error| Refusal::malformed(format!("output `{}`: {error}", shorten(&name))))?;
    // A count that does not fit into `usize` means all classes.
    let classification = count.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
    Ok(RequestedOutput {
        name,
        binary: None,
        classification,
    })
}

fn no_shared_memory() -> Refusal {
    Refusal::new(
        ErrorCode::Unsupported,
        "shared memory is not supported: send the elements",
    )
}

/// The value of a parameter. `None` if it is absent.
fn whole_number(
    parameters: &BTreeMap<String, InferParameter>,
    name: &'static str,
) -> Result<Option<u64>, NotWholeNumber> {
    let Some(parameter) = parameters.get(name) else {
        return Ok(None);
    };
    let number = match &parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(*number).ok(),
        Some(ParameterChoice::Uint64Param(number)) => Some(*number),
        _ => None,
    };
    number.map(Some).ok_or(NotWholeNumber(name))
}

#[cfg(test)]
mod tests;
