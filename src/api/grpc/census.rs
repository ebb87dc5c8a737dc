//! Census: how many parts a request has, by a walk over its bytes, before they are decoded. An empty part is two bytes on the wire
//! and hundreds in memory.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::{api::refusal::Refusal, error::ErrorCode};

/// Parts of a kind that a request may have.
const MAX_PARTS: usize = 4096;

/// Messages up to this size can't have more.
pub const SMALL: usize = 2 * MAX_PARTS;

/// Numbers of fields, as `proto/open_inference.proto` has them; a test holds these to the generated code.
const PARAMETERS: u32 = 4;
const INPUTS: u32 = 5;
const OUTPUTS: u32 = 6;
const RAW_INPUT_CONTENTS: u32 = 7;
const INPUT_PARAMETERS: u32 = 4;
const OUTPUT_PARAMETERS: u32 = 2;

#[derive(Default)]
struct Census {
    inputs: usize,
    outputs: usize,
    raw_input_contents: usize,
    /// Wherever they lie.
    parameters: usize,
}

/// Refuses a `ModelInferRequest` of too many parts. What is no message at all is left to who decodes it.
pub fn check(mut message: impl Buf) -> Result<(), Refusal> {
    let mut census = Census::default();
    while message.has_remaining() {
        let Some(()) = census.take(&mut message) else {
            return Ok(());
        };
        let parts = [
            (census.inputs, "inputs"),
            (census.outputs, "outputs"),
            (census.raw_input_contents, "entries of raw_input_contents"),
            (census.parameters, "parameters"),
        ];
        if let Some((_, kind)) = parts.iter().find(|(count, _)| *count > MAX_PARTS) {
            return Err(Refusal::new(
                ErrorCode::Malformed,
                format!("a request may have at most {MAX_PARTS} {kind}"),
            ));
        }
    }
    Ok(())
}

impl Census {
    /// Counts one field of the request; `None` where it is none.
    fn take(&mut self, message: &mut impl Buf) -> Option<()> {
        let (field, wire_type) = decode_key(message).ok()?;
        let inner = match (field, wire_type) {
            (INPUTS, WireType::LengthDelimited) => {
                self.inputs += 1;
                INPUT_PARAMETERS
            }
            (OUTPUTS, WireType::LengthDelimited) => {
                self.outputs += 1;
                OUTPUT_PARAMETERS
            }
            _ => {
                self.raw_input_contents += usize::from(field == RAW_INPUT_CONTENTS);
                self.parameters += usize::from(field == PARAMETERS);
                return skip_field(wire_type, field, message, DecodeContext::default()).ok();
            }
        };
        let length = usize::try_from(decode_varint(message).ok()?).ok()?;
        let end = message.remaining().checked_sub(length)?;
        while message.remaining() > end && self.parameters <= MAX_PARTS {
            let (field, wire_type) = decode_key(message).ok()?;
            self.parameters += usize::from(field == inner);
            skip_field(wire_type, field, message, DecodeContext::default()).ok()?;
        }
        // A field that reaches beyond its message is none.
        (message.remaining() >= end).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use crate::api::refusal::Refusal;
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use prost::Message;

    use crate::{
        api::grpc::{
            census::{MAX_PARTS, SMALL, check},
            inference::{
                InferParameter, InferTensorContents, ModelInferRequest,
                infer_parameter::ParameterChoice,
                model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
            },
        },
        error::ErrorCode,
    };

    fn parameters(count: usize) -> BTreeMap<String, InferParameter> {
        let parameter = InferParameter {
            parameter_choice: Some(ParameterChoice::Int64Param(1)),
        };
        (0..count)
            .map(|number| (number.to_string(), parameter.clone()))
            .collect()
    }

    fn refusal(request: &ModelInferRequest) -> Option<String> {
        check(&request.encode_to_vec()[..])
            .err()
            .map(|Refusal { code, detail }| {
                assert_eq!(code, ErrorCode::Malformed);
                detail
            })
    }

    #[test]
    fn parts_are_counted_wherever_they_lie() {
        type Make = fn(usize) -> ModelInferRequest;
        let cases: [(Make, &str); 6] = [
            (
                |count| ModelInferRequest {
                    inputs: vec![InferInputTensor::default(); count],
                    ..Default::default()
                },
                " inputs",
            ),
            (
                |count| ModelInferRequest {
                    outputs: vec![InferRequestedOutputTensor::default(); count],
                    ..Default::default()
                },
                " outputs",
            ),
            (
                |count| ModelInferRequest {
                    raw_input_contents: vec![Bytes::new(); count],
                    ..Default::default()
                },
                "raw_input_contents",
            ),
            (
                |count| ModelInferRequest {
                    parameters: parameters(count),
                    ..Default::default()
                },
                " parameters",
            ),
            (
                |count| {
                    let input = |count| InferInputTensor {
                        name: "x".to_owned(),
                        parameters: parameters(count),
                        ..Default::default()
                    };
                    ModelInferRequest {
                        inputs: vec![input(count / 2), input(count - count / 2)],
                        ..Default::default()
                    }
                },
                " parameters",
            ),
            (
                |count| {
                    let output = InferRequestedOutputTensor {
                        name: "x".to_owned(),
                        parameters: parameters(count),
                    };
                    ModelInferRequest {
                        outputs: vec![output],
                        ..Default::default()
                    }
                },
                " parameters",
            ),
        ];
        for (make, named) in cases {
            assert_eq!(refusal(&make(MAX_PARTS)), None, "{named}");
            let detail = refusal(&make(MAX_PARTS + 1)).unwrap();
            assert!(
                detail.contains("4096") && detail.ends_with(named),
                "{detail}"
            );
            assert!(make(MAX_PARTS + 1).encoded_len() > SMALL, "{named}");
        }
    }

    #[test]
    fn elements_are_no_parts() {
        let contents = InferTensorContents {
            bytes_contents: vec![Bytes::new(); 3 * MAX_PARTS],
            ..Default::default()
        };
        let input = InferInputTensor {
            name: "x".to_owned(),
            shape: vec![1; 9],
            contents: Some(contents),
            ..Default::default()
        };
        let request = ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: vec![input],
            raw_input_contents: vec![Bytes::from(vec![0x2a; 1 << 16])],
            ..Default::default()
        };
        assert_eq!(refusal(&request), None);
    }

    #[test]
    fn what_is_no_message_is_left_to_its_reader() {
        // Cut off, a field without an end, one that reaches beyond its message, a key of no wire type.
        for broken in [
            &[0x2a][..],
            &[0x2a, 5, 0],
            &[0x2a, 2, 0x0a, 9, 0],
            &[0x2f],
            &[0xff; 11],
        ] {
            assert!(check(broken).is_ok(), "{broken:?}");
            assert!(ModelInferRequest::decode(broken).is_err(), "{broken:?}");
        }
    }
}
