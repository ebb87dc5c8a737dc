//! Inference: tensors, fields, classes, roles, compression.

use std::collections::BTreeMap;

use bytes::Bytes;
use predictd::api::grpc::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelReadyRequest, ModelReadyResponse,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use tonic::{Code, Request, codec::CompressionEncoding};

use super::{Client, ONES, add_sub_request, echo_request, input, raw_floats};
use crate::harness::{InProcessServer, golden_examples, models_of_graphs, models_with};

#[test]
fn a_request_with_raw_contents_has_a_raw_answer() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let answer = client
        .infer(add_sub_request(&[1.0, 2.0, 3.0, 4.0], &ONES))
        .unwrap();
    assert_eq!(
        (
            answer.model_name.as_str(),
            answer.model_version.as_str(),
            answer.id.as_str()
        ),
        ("add_sub", "1", "7")
    );
    assert_eq!(
        answer
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect::<Vec<_>>(),
        ["sum", "difference"]
    );
    assert_eq!(
        answer.raw_output_contents,
        [
            raw_floats(&[2.0, 3.0, 4.0, 5.0]),
            raw_floats(&[0.0, 1.0, 2.0, 3.0])
        ]
    );
    assert!(
        answer
            .outputs
            .iter()
            .all(|output| output.contents.is_none() && output.shape == [1, 4])
    );
}

#[test]
fn a_request_with_typed_contents_has_a_typed_answer() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let mut typed = add_sub_request(&[], &[]);
    typed.raw_input_contents.clear();
    for (tensor, value) in typed.inputs.iter_mut().zip([3.0, 1.0]) {
        tensor.shape = vec![1, 4];
        tensor.contents = Some(InferTensorContents {
            fp32_contents: vec![value; 4],
            ..InferTensorContents::default()
        });
    }
    typed.outputs = vec![InferRequestedOutputTensor {
        name: "difference".to_owned(),
        ..InferRequestedOutputTensor::default()
    }];
    let answer = client.infer(typed).unwrap();
    assert!(answer.raw_output_contents.is_empty() && answer.outputs.len() == 1);
    assert_eq!(
        answer.outputs[0].contents.as_ref().unwrap().fp32_contents,
        [2.0; 4]
    );
}

#[test]
fn fp16_values_are_raw() {
    let directory = models_of_graphs(&[("identity_fp16", "identity_fp16.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let half = ModelInferRequest {
        model_name: "identity_fp16".to_owned(),
        model_version: "1".to_owned(),
        inputs: vec![input("x", "FP16", &[1, 2])],
        raw_input_contents: vec![Bytes::from_static(&[0, 60, 0, 192])],
        ..ModelInferRequest::default()
    };
    assert_eq!(
        client.infer(half).unwrap().raw_output_contents,
        [Bytes::from_static(&[0, 60, 0, 192])]
    );
}

#[test]
fn classes_are_ranked() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let best = InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(2)),
    };
    let request = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: "sum".to_owned(),
            parameters: BTreeMap::from([("classification".to_owned(), best)]),
        }],
        ..add_sub_request(&[1.0, 5.0, 3.0, 2.0], &ONES)
    };
    let answer = Client::new(&server).infer(request).unwrap();
    assert_eq!(
        (
            answer.outputs[0].datatype.as_str(),
            &answer.outputs[0].shape[..]
        ),
        ("BYTES", &[1, 2][..])
    );
    assert_eq!(
        answer.raw_output_contents[0],
        &b"\x05\0\0\x006.0:1\x05\0\0\x004.0:2"[..]
    );
}

/// A field of one row as a tensor with typed contents.
fn field(name: &str, value: &serde_json::Value) -> Option<InferInputTensor> {
    let (datatype, contents) = match value {
        serde_json::Value::String(text) => (
            "BYTES",
            InferTensorContents {
                bytes_contents: vec![Bytes::from(text.clone())],
                ..InferTensorContents::default()
            },
        ),
        serde_json::Value::Number(number) => (
            "FP64",
            InferTensorContents {
                fp64_contents: vec![number.as_f64().unwrap()],
                ..InferTensorContents::default()
            },
        ),
        serde_json::Value::Bool(value) => (
            "BOOL",
            InferTensorContents {
                bool_contents: vec![*value],
                ..InferTensorContents::default()
            },
        ),
        _ => return None,
    };
    Some(InferInputTensor {
        contents: Some(contents),
        ..input(name, datatype, &[1, 1])
    })
}

#[test]
fn a_package_takes_its_fields_as_tensors() {
    let server = InProcessServer::start(models_with(&[("churn", "1.1.0")]).path(), &[]);
    let example = &golden_examples("churn", "1.1.0")[0];
    let mut request = ModelInferRequest {
        model_name: "churn".to_owned(),
        ..ModelInferRequest::default()
    };
    let mut expected = None;
    for (name, value) in example["input"].as_object().unwrap() {
        request.inputs.extend(field(name, value));
    }
    for (name, value) in example["output"].as_object().unwrap() {
        if let Some(text) = value.as_str() {
            expected = Some((name.clone(), text.to_owned()));
        }
    }
    let mut client = Client::new(&server);
    let answer = client.infer(request.clone()).unwrap();
    let (name, label) = expected.unwrap();
    let output = answer
        .outputs
        .iter()
        .find(|output| output.name == name)
        .unwrap();
    assert_eq!(
        output.contents.as_ref().unwrap().bytes_contents,
        [Bytes::from(label)]
    );

    request.inputs.retain(|input| input.name != "plan");
    let (code, message) = client.refused_inference(request);
    assert!(
        code == Code::InvalidArgument && message.contains("plan"),
        "{message}"
    );
    let series = |code| {
        format!(
            "predictd_requests_total{{code=\"{code}\",model=\"churn\",protocol=\"grpc\",version=\"1.1.0\"}}"
        )
    };
    assert_eq!(
        (server.metric(&series("200")), server.metric(&series("400"))),
        (1.0, 1.0)
    );
}

#[test]
fn large_and_compressed_messages_are_accepted() {
    let directory = models_of_graphs(&[("identity_fp32", "identity_fp32.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let values: Vec<f32> = (0..3 << 20).map(|value| value as f32).collect();
    let request = ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![input("x", "FP32", &[3, 1 << 20])],
        raw_input_contents: vec![raw_floats(&values)],
        ..ModelInferRequest::default()
    };
    assert!(
        client.infer(request.clone()).unwrap().raw_output_contents == request.raw_input_contents
    );
    let typed = |values: &[f32]| ModelInferRequest {
        inputs: vec![InferInputTensor {
            contents: Some(InferTensorContents {
                fp32_contents: values.to_vec(),
                ..InferTensorContents::default()
            }),
            ..input("x", "FP32", &[1, i64::try_from(values.len()).unwrap()])
        }],
        raw_input_contents: Vec::new(),
        ..request.clone()
    };
    assert!(
        client.infer(typed(&values)).unwrap().outputs[0]
            .contents
            .as_ref()
            .unwrap()
            .fp32_contents
            == values
    );
    let (plain, values) = (client.grpc.clone(), &values[..1 << 16]);
    for encoding in [
        CompressionEncoding::Gzip,
        CompressionEncoding::Deflate,
        CompressionEncoding::Zstd,
    ] {
        client.grpc = plain.clone().send_compressed(encoding);
        assert!(
            client.infer(typed(values)).unwrap().outputs[0]
                .contents
                .as_ref()
                .unwrap()
                .fp32_contents
                == values,
            "{encoding}"
        );
    }
}

#[test]
fn a_version_can_be_named_by_its_role() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let answer = client
        .infer(ModelInferRequest {
            model_version: "stable".to_owned(),
            ..add_sub_request(&ONES, &ONES)
        })
        .unwrap();
    assert_eq!(
        (answer.model_version.as_str(), answer.model_name.as_str()),
        ("1", "add_sub")
    );
    let (code, detail) = client.refused_inference(ModelInferRequest {
        model_version: "candidate".to_owned(),
        ..add_sub_request(&ONES, &ONES)
    });
    assert!(
        code == Code::NotFound
            && detail.contains("no candidate version at the moment: no rollout is running"),
        "{detail}"
    );
    let ready = |version: &str| {
        Request::new(ModelReadyRequest {
            name: "add_sub".to_owned(),
            version: version.to_owned(),
        })
    };
    assert!(
        client
            .call::<_, ModelReadyResponse>("ModelReady", ready("stable"))
            .unwrap()
            .into_inner()
            .ready
    );
    assert_eq!(
        client
            .call::<_, ModelReadyResponse>("ModelReady", ready("previous"))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}

#[test]
fn zero_classes_mean_values_and_an_unnamed_input_is_refused() {
    let directory = models_of_graphs(&[
        ("identity_fp32", "identity_fp32.onnx"),
        ("add_sub", "add_sub.onnx"),
    ]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let none = InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(0)),
    };
    let request = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: "sum".to_owned(),
            parameters: BTreeMap::from([("classification".to_owned(), none)]),
        }],
        ..add_sub_request(&ONES, &ONES)
    };
    assert_eq!(
        client.infer(request).unwrap().raw_output_contents,
        [raw_floats(&[2.0; 4])]
    );
    let mut nameless = echo_request();
    nameless.inputs[0].name.clear();
    let (code, message) = client.refused_inference(nameless);
    assert!(
        code == Code::InvalidArgument && message.contains("has no name"),
        "{message}"
    );
}
