//! Refused and failed calls: their status codes, messages and limits.

use bytes::Bytes;
use predictd::api::grpc::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelReadyRequest,
    ModelReadyResponse,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use tonic::{Code, Request, codec::CompressionEncoding, codegen::Service};

use super::{Client, ONES, add_sub_request, input, open_call, raw_floats, slow_request};
use crate::harness::{InProcessServer, Server, models_of_graphs, wait_for, wait_until};

#[test]
fn each_refusal_has_its_status_code() {
    let directory = models_of_graphs(&[
        ("add_sub", "add_sub.onnx"),
        ("fails", "fails_out_of_range.onnx"),
    ]);
    let server = InProcessServer::start(directory.path(), &[("server.max_body_bytes", "100000")]);
    let mut client = Client::new(&server);
    let (code, message) = client.refused_inference(ModelInferRequest {
        model_name: "nowhere".to_owned(),
        ..add_sub_request(&ONES, &ONES)
    });
    assert!(
        code == Code::NotFound && message.contains("nowhere"),
        "{message}"
    );
    let (code, message) = client.refused_inference(ModelInferRequest {
        model_version: "2".to_owned(),
        ..add_sub_request(&ONES, &ONES)
    });
    assert!(
        code == Code::NotFound && message.contains("version"),
        "{message}"
    );
    let (code, message) = client.refused_inference(add_sub_request(&[1.0; 3], &ONES));
    assert!(
        code == Code::InvalidArgument && message.contains("`a`"),
        "{message}"
    );
    let fails = ModelInferRequest {
        model_name: "fails".to_owned(),
        inputs: vec![input("i", "INT64", &[1])],
        raw_input_contents: vec![Bytes::from_static(&[100, 0, 0, 0, 0, 0, 0, 0])],
        ..ModelInferRequest::default()
    };
    let (code, message) = client.refused_inference(fails);
    assert!(
        code == Code::InvalidArgument && message.contains("Gather"),
        "{message}"
    );
    let (code, message) = client.refused_inference(ModelInferRequest {
        id: "x".repeat(100_000),
        ..add_sub_request(&ONES, &ONES)
    });
    assert!(
        code == Code::ResourceExhausted && message.contains("100000"),
        "{message}"
    );
    // The bytes are not a message of this method: a string field is not UTF-8.
    let broken = client.call::<InferTensorContents, ModelInferResponse>(
        "ModelInfer",
        Request::new(InferTensorContents {
            int_contents: vec![-1],
            ..InferTensorContents::default()
        }),
    );
    assert_eq!(broken.unwrap_err().code(), Code::InvalidArgument);
    assert!(
        client.infer(add_sub_request(&ONES, &ONES)).is_ok(),
        "the connection stays open"
    );
    assert_eq!(
        server.metric(
            "predictd_requests_total{code=\"413\",model=\"\",protocol=\"grpc\",version=\"\"}"
        ),
        1.0
    );
}

#[test]
fn deadlines_are_kept() {
    let directory = models_of_graphs(&[("slow", "slow.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut request = Request::new(slow_request(1 << 16));
    // The client's own deadline is later.
    request
        .metadata_mut()
        .insert("x-request-timeout-ms", "50".parse().unwrap());
    let mut client = Client::new(&server);
    let status = client
        .call::<_, ModelInferResponse>("ModelInfer", request)
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[test]
fn a_failure_names_the_request_id_of_its_log_line() {
    let directory = models_of_graphs(&[("pair", "fails_inside.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let pair = ModelInferRequest {
        model_name: "pair".to_owned(),
        inputs: vec![
            input("a", "FP32", &[1, 2]),
            input("b", "FP32", &[2, 1]),
            input("delta", "INT64", &[]),
        ],
        raw_input_contents: vec![
            raw_floats(&[1.0, 2.0]),
            raw_floats(&[1.0, 2.0]),
            Bytes::from(vec![0; 8]),
        ],
        ..ModelInferRequest::default()
    };
    let mut request = Request::new(pair.clone());
    request
        .metadata_mut()
        .insert("x-request-id", "mine".parse().unwrap());
    let status = client
        .call::<_, ModelInferResponse>("ModelInfer", request)
        .unwrap_err();
    assert!(
        status.code() == Code::Internal && status.message().contains("under the request id mine"),
        "{status}"
    );
    let (send, mut answers) = client.open_stream();
    send.blocking_send(pair).unwrap();
    let status = client
        .runtime
        .block_on(answers.message())
        .unwrap()
        .unwrap()
        .error_message;
    let id = status
        .split_once("under the request id ")
        .unwrap()
        .1
        .to_owned();
    for id in ["mine", &id] {
        let line = wait_for("the reason is logged", || {
            server
                .logged("failed")
                .into_iter()
                .find(|line| line["request_id"] == id)
        });
        assert!(
            line["detail"]
                .as_str()
                .unwrap()
                .contains("Range \"steps\": delta in Range operator"),
            "{line}"
        );
    }
}

#[test]
fn too_large_header_fields_are_answered_and_counted() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let mut ask = |bytes: usize| {
        let mut request = Request::new(add_sub_request(&ONES, &ONES));
        request
            .metadata_mut()
            .insert("x-large", "a".repeat(bytes).parse().unwrap());
        client.call::<_, ModelInferResponse>("ModelInfer", request)
    };
    assert!(ask(60_000).is_ok());
    let status = ask(100_000).unwrap_err();
    assert!(
        status.code() == Code::ResourceExhausted
            && status.message().contains("at most 65536 are accepted"),
        "{status}"
    );
    assert_eq!(
        server.metric(
            "predictd_requests_total{code=\"431\",model=\"\",protocol=\"grpc\",version=\"\"}"
        ),
        1.0
    );
    assert_eq!(
        wait_for("the reason is logged", || server.logged("refused").pop())["error"],
        "headers-too-large"
    );
}

#[test]
fn an_invalid_deadline_is_refused() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    for (header, text) in [
        ("x-request-timeout-ms", "soon"),
        ("x-request-timeout-ms", "0"),
        ("grpc-timeout", "100000000S"),
        ("grpc-timeout", "soon"),
    ] {
        let mut request = Request::new(add_sub_request(&ONES, &ONES));
        request.metadata_mut().insert(header, text.parse().unwrap());
        let status = client
            .call::<_, ModelInferResponse>("ModelInfer", request)
            .unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(header),
            "{header} {text}: {status}"
        );
        let mut request = Request::new(ModelReadyRequest {
            name: "add_sub".to_owned(),
            version: String::new(),
        });
        request.metadata_mut().insert(header, text.parse().unwrap());
        let status = client
            .call::<_, ModelReadyResponse>("ModelReady", request)
            .unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(header),
            "{header} {text}: {status}"
        );
    }
}

#[test]
fn a_request_of_millions_of_parts_is_refused_before_it_is_decoded() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let parts = [
        ModelInferRequest {
            inputs: vec![InferInputTensor::default(); 1 << 20],
            ..add_sub_request(&ONES, &ONES)
        },
        ModelInferRequest {
            outputs: vec![InferRequestedOutputTensor::default(); 1 << 20],
            ..add_sub_request(&ONES, &ONES)
        },
        ModelInferRequest {
            raw_input_contents: vec![Bytes::new(); 1 << 20],
            ..add_sub_request(&ONES, &ONES)
        },
    ];
    let plain = client.grpc.clone();
    for request in parts {
        for grpc in [
            plain.clone(),
            plain.clone().send_compressed(CompressionEncoding::Zstd),
        ] {
            client.grpc = grpc;
            let (code, message) = client.refused_inference(request.clone());
            assert!(
                code == Code::InvalidArgument && message.contains("at most 4096"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_long_error_keeps_its_code() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let mut request = add_sub_request(&ONES, &ONES);
    // The error message contains the shape.
    request.inputs[0].shape = vec![1; 100_000];
    let (code, message) = client.refused_inference(request.clone());
    assert!(
        code == Code::InvalidArgument && message.ends_with("..."),
        "{code} {} bytes",
        message.len()
    );
    let long = "\u{e9}".repeat(20_000);
    let (code, message) = client.refused_inference(ModelInferRequest {
        model_name: long.clone(),
        ..add_sub_request(&ONES, &ONES)
    });
    assert!(
        code == Code::NotFound && message.len() < 3000,
        "{code} {} bytes",
        message.len()
    );
    let ready = ModelReadyRequest {
        name: long.clone(),
        version: String::new(),
    };
    assert_eq!(
        client
            .call::<_, ModelReadyResponse>("ModelReady", Request::new(ready))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel.clone());
    let health_check = tonic_health::pb::HealthCheckRequest { service: long };
    assert_eq!(
        client
            .runtime
            .block_on(health.check(health_check))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    // In a stream the error is part of a message, and is cut, too.
    let (send, mut answers) = client.open_stream();
    let status = client.runtime.block_on(async {
        send.send(request).await.unwrap();
        answers.message().await.unwrap().unwrap()
    });
    assert!(
        status.error_message.ends_with("..."),
        "{} bytes",
        status.error_message.len()
    );
}

#[test]
fn other_content_types_are_refused() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    for (content_type, status) in [
        ("application/grpc", 200),
        ("application/grpc+proto; x=y", 200),
        ("application/grpc-web", 415),
        ("application/grpc+json", 415),
    ] {
        let path = "/inference.GRPCInferenceService/ServerLive";
        let answer = call_without_message(&mut client, path, content_type);
        assert_eq!(answer.status(), status, "{content_type}");
    }
}

#[test]
fn calls_other_than_inference_have_limits() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[("server.read_timeout_ms", "200")]);
    let given_up = || {
        server.metric(
            "predictd_requests_total{code=\"408\",model=\"\",protocol=\"grpc\",version=\"\"}",
        )
    };
    for (count, method) in [
        (1.0, "ServerLive"),
        (2.0, "ModelMetadata"),
        (3.0, "ModelStatistics"),
    ] {
        // The message stays incomplete, and the connection stays open.
        let incomplete = open_call(&server, method, &[0, 0, 0]);
        wait_until("the call is refused", || given_up() >= count);
        drop(incomplete);
    }
    let mut client = Client::new(&server);
    let ready = |length: usize| ModelReadyRequest {
        name: "x".repeat(length),
        version: String::new(),
    };
    let status = client
        .call::<_, ModelReadyResponse>("ModelReady", Request::new(ready(60_000)))
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    for encoding in [None, Some(CompressionEncoding::Gzip)] {
        if let Some(encoding) = encoding {
            client.grpc = client.grpc.clone().send_compressed(encoding);
        }
        let status = client
            .call::<_, ModelReadyResponse>("ModelReady", Request::new(ready(70_000)))
            .unwrap_err();
        assert_ne!(status.code(), Code::NotFound, "{status}");
    }
}

/// Sends a call whose body is empty.
fn call_without_message(
    client: &mut Client,
    path: &str,
    content_type: &str,
) -> http::Response<tonic::body::Body> {
    let request = http::Request::post(path).header("content-type", content_type);
    let request = request.body(tonic::body::Body::empty()).unwrap();
    client.runtime.block_on(async {
        std::future::poll_fn(|context| client.channel.poll_ready(context))
            .await
            .unwrap();
        client.channel.call(request).await.unwrap()
    })
}

#[test]
fn an_unknown_method_is_named() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    for path in [
        "/inference.GRPCInferenceService/ModelGuess",
        "/nowhere.Service/Call",
    ] {
        let answer = call_without_message(&mut client, path, "application/grpc");
        let status = tonic::Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::Unimplemented,
                format!("there is no method {path}").as_str()
            )
        );
    }
}
