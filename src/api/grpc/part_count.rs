//! Limits the number of parts of a request. The parts are counted in the bytes before decoding,
//! because an empty part takes two bytes in the message and hundreds of bytes in memory.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::api::refusal::Refusal;

/// Maximum number of parts of each kind.
const MAX_PARTS: usize = 4096;

/// Maximum size of a message that is not checked. A part takes two bytes, so such a message can't
/// have too many parts.
pub(super) const UNCHECKED_BYTES: usize = 2 * MAX_PARTS;

/// Numbers of fields in `proto/open_inference.proto`. A test compares them with the generated code.
const PARAMETERS: u32 = 4;
const INPUTS: u32 = 5;
const OUTPUTS: u32 = 6;
const RAW_INPUT_CONTENTS: u32 = 7;
const INPUT_PARAMETERS: u32 = 4;
const OUTPUT_PARAMETERS: u32 = 2;

#[derive(Default)]
struct PartCount {
    inputs: usize,
    outputs: usize,
    raw_input_contents: usize,
    /// The number of parameters of the request, its inputs and its outputs together.
    parameters: usize,
}

/// Refuses a `ModelInferRequest` with too many parts. Invalid bytes are not refused here, but by
/// the decoder.
pub(super) fn check(mut message: impl Buf) -> Result<(), Refusal> {
    let mut counts = PartCount::default();
    while message.has_remaining() {
        // Check after each field, so that counting ends soon after the limit is reached.
        let Some(()) = counts.count_field(&mut message) else {
            return Ok(());
        };
        let parts = [
            (counts.inputs, "inputs"),
            (counts.outputs, "outputs"),
            (counts.raw_input_contents, "entries of raw_input_contents"),
            (counts.parameters, "parameters"),
        ];
        if let Some((_, kind)) = parts.iter().find(|(count, _)| *count > MAX_PARTS) {
            return Err(Refusal::malformed(format!(
                "a request may have at most {MAX_PARTS} {kind}"
            )));
        }
    }
    Ok(())
}

impl PartCount {
    /// Counts one field of the request. Returns `None` if the bytes are not a valid field.
    fn count_field(&mut self, message: &mut impl Buf) -> Option<()> {
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
        // A field that ends after its message is invalid.
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
            inference::{
                InferParameter, InferTensorContents, ModelInferRequest,
                infer_parameter::ParameterChoice,
                model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
            },
            part_count::{MAX_PARTS, UNCHECKED_BYTES, check},
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
    fn parts_are_counted_in_all_places() {
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
            assert!(
                make(MAX_PARTS + 1).encoded_len() > UNCHECKED_BYTES,
                "{named}"
            );
        }
    }

    #[test]
    fn elements_are_not_parts() {
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
    fn invalid_messages_are_left_to_the_decoder() {
        // The cases: a message that is cut off, a field without an end, a field that ends after its
        // message, an unknown wire type.
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
