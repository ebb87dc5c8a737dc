//! Tests of request and response messages with all datatypes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use half::f16;
use prost::Message;

use crate::{
    api::{
        grpc::{
            infer_request::{ContentsForm, GrpcInferRequest, read},
            infer_response::write_outputs,
            inference::{
                InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
                infer_parameter::ParameterChoice,
                model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
            },
        },
        oip::RequestedOutput,
        refusal::Refusal,
    },
    decode::elements::to_raw,
    error::ErrorCode,
    predict::Priority,
    tensor::{Data, DataType, Dim, Shape, Tensor, signature::TensorSpec},
    transform::fields::NamedTensor,
};

fn input(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        parameters: BTreeMap::new(),
        contents,
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&[u8]]) -> ModelInferRequest {
    let raw_input_contents = raw
        .iter()
        .map(|bytes| Bytes::copy_from_slice(bytes))
        .collect();
    ModelInferRequest {
        model_name: "m".to_owned(),
        id: "7".to_owned(),
        inputs,
        raw_input_contents,
        ..ModelInferRequest::default()
    }
}

fn fp32(values: &[f32]) -> Option<InferTensorContents> {
    Some(InferTensorContents {
        fp32_contents: values.to_vec(),
        ..InferTensorContents::default()
    })
}

fn ints(values: &[i32]) -> Option<InferTensorContents> {
    Some(InferTensorContents {
        int_contents: values.to_vec(),
        ..InferTensorContents::default()
    })
}

fn uints(values: &[u32]) -> Option<InferTensorContents> {
    Some(InferTensorContents {
        uint_contents: values.to_vec(),
        ..InferTensorContents::default()
    })
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

/// Decodes the tensor for an input of a graph.
fn tensor(request: &GrpcInferRequest) -> Result<Tensor, String> {
    let [input] = &request.inputs[..] else {
        panic!("one input")
    };
    let shape = Shape(vec![Dim::Any; input.shape.as_ref().unwrap().len()]);
    let spec = TensorSpec {
        name: Arc::from("x"),
        datatype: input.datatype.unwrap(),
        shape,
    };
    input.to_tensor(&spec).map_err(|error| error.to_string())
}

/// Two elements of each datatype, if possible its extremes.
fn samples() -> Vec<Data> {
    vec![
        Data::Bool(vec![true, false]),
        Data::Uint8(vec![0, u8::MAX].into()),
        Data::Uint16(vec![0, u16::MAX].into()),
        Data::Uint32(vec![0, u32::MAX].into()),
        Data::Uint64(vec![0, u64::MAX].into()),
        Data::Int8(vec![i8::MIN, i8::MAX].into()),
        Data::Int16(vec![i16::MIN, i16::MAX].into()),
        Data::Int32(vec![i32::MIN, i32::MAX].into()),
        Data::Int64(vec![i64::MIN, i64::MAX].into()),
        Data::Fp16(vec![f16::MIN, f16::MAX].into()),
        Data::Fp32(vec![f32::MIN, f32::INFINITY].into()),
        Data::Fp64(vec![f64::MIN_POSITIVE, f64::MAX].into()),
        Data::Bytes(vec![String::new(), "é".to_owned()]),
    ]
}

fn named(data: Data) -> NamedTensor {
    let shape = vec![data.len(), 1];
    NamedTensor {
        name: Arc::from("x"),
        tensor: Tensor::new(shape, data).unwrap(),
        labels: None,
    }
}

fn respond(outputs: Vec<NamedTensor>, form: ContentsForm) -> ModelInferResponse {
    let (outputs, raw_output_contents) = write_outputs(outputs, form);
    ModelInferResponse {
        outputs,
        raw_output_contents,
        ..ModelInferResponse::default()
    }
}

#[test]
fn a_response_can_be_sent_as_a_request() {
    for data in samples() {
        for form in [ContentsForm::Raw, ContentsForm::Typed] {
            let response = respond(vec![named(data.clone())], form);
            let output = response.outputs[0].clone();
            // Encode and decode the output, as if a client sent it on.
            let message = request(
                vec![input(&output.datatype, &output.shape, output.contents)],
                &[],
            );
            let message = ModelInferRequest {
                raw_input_contents: response.raw_output_contents,
                ..message
            };
            let message = ModelInferRequest::decode(Bytes::from(message.encode_to_vec())).unwrap();
            let given = read(message).unwrap();
            let has_typed_form = data.datatype() != DataType::Fp16;
            assert_eq!(
                given.form == form,
                form == ContentsForm::Raw || has_typed_form,
                "{data:?}"
            );
            assert_eq!(
                tensor(&given).unwrap(),
                named(data.clone()).tensor,
                "{form:?}"
            );
            assert_eq!((given.model.as_str(), given.id.as_str()), ("m", "7"));
        }
    }
}

#[test]
fn raw_elements_are_not_copied() {
    let bytes = Bytes::from(vec![0u8; 8]);
    let mut message = request(vec![input("FP32", &[2], None)], &[]);
    message.raw_input_contents.push(bytes.clone());
    let given = tensor(&read(message).unwrap()).unwrap();
    let response = respond(vec![named(given.into_parts().1)], ContentsForm::Raw);
    assert_eq!(response.raw_output_contents[0].as_ptr(), bytes.as_ptr());
}

#[test]
fn a_request_without_inputs_is_answered_raw() {
    assert_eq!(read(request(vec![], &[])).unwrap().form, ContentsForm::Raw);
}

#[test]
fn one_output_without_a_typed_form_makes_all_outputs_raw() {
    let outputs = vec![
        named(Data::Fp32(vec![1.0].into())),
        named(Data::Fp16(vec![f16::ONE].into())),
    ];
    let response = respond(outputs, ContentsForm::Typed);
    assert_eq!(response.raw_output_contents.len(), 2);
    assert!(
        response
            .outputs
            .iter()
            .all(|output| output.contents.is_none())
    );
}

#[test]
fn tensors_without_elements_need_no_contents() {
    for (contents, raw) in [
        (None, &[][..]),
        (Some(InferTensorContents::default()), &[][..]),
        (None, &[&b""[..]][..]),
    ] {
        let given = read(request(vec![input("FP32", &[0, 3], contents)], raw)).unwrap();
        assert_eq!(tensor(&given).unwrap().shape(), [0, 3]);
    }
    let scalar = read(request(vec![input("FP32", &[], fp32(&[1.5]))], &[])).unwrap();
    assert_eq!(
        tensor(&scalar).unwrap().data(),
        &Data::Fp32(vec![1.5].into())
    );
}

#[test]
fn malformed_messages_are_refused() {
    let four = 1.0f32.to_le_bytes();
    let both = InferTensorContents {
        int_contents: vec![1],
        fp32_contents: vec![1.0],
        ..InferTensorContents::default()
    };
    let cases = [
        (
            request(vec![input("FP32", &[1], fp32(&[1.0]))], &[&four]),
            "both set",
        ),
        (
            request(
                vec![input("FP32", &[1], None), input("FP32", &[1], fp32(&[1.0]))],
                &[&four],
            ),
            "for each input (2), and has 1",
        ),
        (
            request(vec![input("FP32", &[1], None)], &[&four, &four]),
            "for each input (1), and has 2",
        ),
        (request(vec![], &[&four]), "for each input (0), and has 1"),
        (
            request(vec![input("FP32", &[2], fp32(&[1.0]))], &[]),
            "2 elements, got 1",
        ),
        (
            request(vec![input("FP32", &[1], None)], &[]),
            "1 elements, got 0",
        ),
        (
            request(vec![input("FP32", &[1], ints(&[1]))], &[]),
            "FP32 belongs in fp32_contents, got int_contents",
        ),
        (
            request(vec![input("FP32", &[1], Some(both))], &[]),
            "got int_contents",
        ),
        (
            request(vec![input("FP32", &[-1, -2], fp32(&[1.0, 2.0]))], &[]),
            "negative",
        ),
        (
            request(vec![input("FP32", &[1 << 62, 8], fp32(&[1.0]))], &[]),
            "more elements than memory can hold",
        ),
        (
            request(vec![input("FP32", &[i64::MAX], fp32(&[1.0]))], &[]),
            "got 1",
        ),
        (
            request(vec![input("fp32", &[1], fp32(&[1.0]))], &[]),
            "no datatype",
        ),
        (
            request(vec![input("", &[1], None)], &[&four]),
            "no datatype",
        ),
        (
            request(
                vec![InferInputTensor {
                    name: String::new(),
                    ..input("FP32", &[1], None)
                }],
                &[&four],
            ),
            "has no name",
        ),
        (
            request(vec![input("FP16", &[1], fp32(&[1.0]))], &[]),
            "FP16 has no typed contents",
        ),
        (
            request(vec![input("BF16", &[1], fp32(&[1.0]))], &[]),
            "BF16 has no typed contents",
        ),
        (
            request(vec![input("INT8", &[2], ints(&[0, 128]))], &[]),
            "element 1 is out of range for INT8",
        ),
        (
            request(vec![input("INT16", &[1], ints(&[-32_769]))], &[]),
            "out of range",
        ),
        (
            request(vec![input("UINT8", &[1], uints(&[256]))], &[]),
            "out of range",
        ),
        (
            request(vec![input("UINT16", &[1], uints(&[1 << 16]))], &[]),
            "out of range",
        ),
    ];
    for (message, expected) in cases {
        match read(message).unwrap_err() {
            Refusal {
                code: ErrorCode::Malformed,
                detail,
            } => assert!(
                detail.contains(expected),
                "{detail:?} instead of {expected:?}"
            ),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    }
    // The number of raw elements is checked against the model's signature.
    for raw in [&four[..3], &[0; 5][..]] {
        assert!(tensor(&read(request(vec![input("FP32", &[1], None)], &[raw])).unwrap()).is_err());
    }
}

#[test]
fn outputs_and_their_order_are_chosen() {
    let output = |name: &str, parameters: &[(&str, ParameterChoice)]| InferRequestedOutputTensor {
        name: name.to_owned(),
        parameters: parameters
            .iter()
            .map(|(name, choice)| ((*name).to_owned(), parameter(choice.clone())))
            .collect(),
    };
    let message = |outputs| {
        read(ModelInferRequest {
            outputs,
            ..request(vec![], &[])
        })
    };
    let binary = ("binary_data", ParameterChoice::BoolParam(true));
    let given = message(vec![
        output("b", &[("classification", ParameterChoice::Int64Param(3))]),
        output("a", &[binary]),
    ])
    .unwrap();
    let expected = [("b", 3), ("a", 0)];
    assert_eq!(
        given.outputs,
        expected.map(|(name, classification)| RequestedOutput {
            name: name.to_owned(),
            binary: None,
            classification
        })
    );
    for none in [
        ParameterChoice::Int64Param(0),
        ParameterChoice::Uint64Param(0),
    ] {
        assert_eq!(
            message(vec![output("b", &[("classification", none)])])
                .unwrap()
                .outputs[0]
                .classification,
            0
        );
    }
    for wrong in [
        ParameterChoice::Int64Param(-1),
        ParameterChoice::StringParam("1".to_owned()),
    ] {
        assert!(matches!(
            message(vec![output("b", &[("classification", wrong)])]),
            Err(Refusal {
                code: ErrorCode::Malformed,
                ..
            })
        ));
    }
    let shared = output(
        "b",
        &[(
            "shared_memory_region",
            ParameterChoice::StringParam("r".to_owned()),
        )],
    );
    assert!(matches!(
        message(vec![shared]),
        Err(Refusal {
            code: ErrorCode::Unsupported,
            ..
        })
    ));
}

#[test]
fn priority_and_timeout_are_read() {
    let message = |parameters: &[(&str, ParameterChoice)]| {
        let parameters = parameters
            .iter()
            .map(|(name, choice)| ((*name).to_owned(), parameter(choice.clone())))
            .collect();
        read(ModelInferRequest {
            parameters,
            ..request(vec![], &[])
        })
    };
    let given = message(&[
        ("priority", ParameterChoice::Uint64Param(1)),
        ("timeout", ParameterChoice::Int64Param(1500)),
        ("anything", ParameterChoice::DoubleParam(0.5)),
    ]);
    let given = given.unwrap();
    assert_eq!(
        (given.priority, given.timeout),
        (
            Priority::from_protocol(1),
            Some(Duration::from_micros(1500))
        )
    );
    let nothing = message(&[("timeout", ParameterChoice::Int64Param(0))]).unwrap();
    assert_eq!(
        (nothing.priority, nothing.timeout),
        (Priority::default(), None)
    );
    for (name, wrong) in [
        ("timeout", ParameterChoice::Int64Param(-1)),
        ("priority", ParameterChoice::BoolParam(true)),
    ] {
        assert!(message(&[(name, wrong)]).is_err(), "{name}");
    }
}

#[test]
fn shared_memory_is_not_supported() {
    let mut shared = input("FP32", &[1], None);
    shared.parameters.insert(
        "shared_memory_region".to_owned(),
        parameter(ParameterChoice::StringParam("r".to_owned())),
    );
    assert!(matches!(
        read(request(vec![shared], &[b""])),
        Err(Refusal {
            code: ErrorCode::Unsupported,
            ..
        })
    ));
}

#[test]
fn texts_follow_their_lengths() {
    let response = respond(
        vec![named(Data::Bytes(vec!["ab".to_owned()]))],
        ContentsForm::Raw,
    );
    assert_eq!(response.raw_output_contents[0], &b"\x02\0\0\0ab"[..]);
    assert_eq!(
        response.raw_output_contents[0],
        to_raw(Data::Bytes(vec!["ab".to_owned()]))
    );
}
