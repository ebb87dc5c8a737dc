//! The gRPC port, as its clients ask it.

use std::{collections::BTreeMap, io::Write, net::TcpStream, thread};

use bytes::Bytes;
use http::uri::PathAndQuery;
use predictd::api::grpc::inference::{
    DataType, InferParameter, InferTensorContents, ModelConfigRequest, ModelConfigResponse,
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    codec::CompressionEncoding,
    codegen::Service,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::harness::{
    PATIENCE, Server, golden_examples, models_of_graphs, models_with, wait_for, wait_until,
};

/// A client and its connection.
struct Client {
    runtime: Runtime,
    channel: Channel,
    grpc: Grpc<Channel>,
}

impl Client {
    fn new(server: &Server) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc_address()))
            .unwrap()
            .timeout(PATIENCE);
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Client {
            runtime,
            grpc: Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX),
            channel,
        }
    }

    fn ask<Q, A>(&mut self, method: &str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path =
            PathAndQuery::try_from(format!("/inference.GRPCInferenceService/{method}")).unwrap();
        self.runtime.block_on(async {
            self.grpc.ready().await.unwrap();
            self.grpc
                .unary(request, path, ProstCodec::<Q, A>::default())
                .await
        })
    }

    fn infer(&mut self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.ask("ModelInfer", Request::new(request))
            .map(Response::into_inner)
    }

    /// One whose answers wait at the server until they are read, but for the first 64 KiB.
    fn with_small_windows(server: &Server) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc_address()))
            .unwrap()
            .timeout(PATIENCE);
        let channel = runtime
            .block_on(endpoint.initial_stream_window_size(65_535).connect())
            .unwrap();
        Client {
            runtime,
            grpc: Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX),
            channel,
        }
    }

    /// The answer's head has come, and nobody has read the rest.
    fn begin(&mut self, request: ModelInferRequest) -> Streaming<ModelInferResponse> {
        let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
        let codec: ProstCodec<ModelInferRequest, ModelInferResponse> = ProstCodec::default();
        self.runtime.block_on(async {
            self.grpc.ready().await.unwrap();
            self.grpc
                .server_streaming(Request::new(request), path, codec)
                .await
                .unwrap()
                .into_inner()
        })
    }

    fn stream(
        &mut self,
    ) -> (
        mpsc::Sender<ModelInferRequest>,
        Streaming<ModelStreamInferResponse>,
    ) {
        let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
        let (send, mut waiting) = mpsc::channel(64);
        let asked = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
        let codec: ProstCodec<ModelInferRequest, ModelStreamInferResponse> = ProstCodec::default();
        let answers = self.runtime.block_on(async {
            self.grpc.ready().await.unwrap();
            self.grpc
                .streaming(Request::new(asked), path, codec)
                .await
                .unwrap()
                .into_inner()
        });
        (send, answers)
    }

    fn refusal(&mut self, request: ModelInferRequest) -> (Code, String) {
        let status = self.infer(request).unwrap_err();
        (status.code(), status.message().to_owned())
    }
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn floats(values: &[f32]) -> Bytes {
    Bytes::from(
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>(),
    )
}

/// `a` and `b` for `add_sub`, raw.
fn add_sub(a: &[f32], b: &[f32]) -> ModelInferRequest {
    let shape = [1, i64::try_from(a.len()).unwrap()];
    ModelInferRequest {
        model_name: "add_sub".to_owned(),
        id: "7".to_owned(),
        inputs: vec![input("a", "FP32", &shape), input("b", "FP32", &[1, 4])],
        raw_input_contents: vec![floats(a), floats(b)],
        ..ModelInferRequest::default()
    }
}

/// For `slow`: some 0.2 ms a round.
fn slow(rounds: i64) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "slow".to_owned(),
        inputs: vec![input("rounds", "INT64", &[1])],
        raw_input_contents: vec![Bytes::copy_from_slice(&rounds.to_le_bytes())],
        ..ModelInferRequest::default()
    }
}

const ONES: [f32; 4] = [1.0; 4];

/// For `identity_fp32`, which answers it with itself: a MiB.
fn echo() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![input("x", "FP32", &[1, 1 << 18])],
        raw_input_contents: vec![Bytes::from(vec![0; 1 << 20])],
        ..ModelInferRequest::default()
    }
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection that opened a call, of which nothing but its head and this came.
fn opened(server: &Server, method: &str, data: &[u8]) -> TcpStream {
    let path = format!("/inference.GRPCInferenceService/{method}");
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    // Literals that are not indexed.
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block: Vec<u8> = headers
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect();
    let asked = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &block),
        frame(0, 0, 1, data),
    ];
    let mut client = TcpStream::connect(server.grpc_address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&asked.concat()).unwrap();
    client
}

#[test]
fn a_bare_graph_answers_in_the_form_in_which_it_is_asked() {
    let directory = models_of_graphs(&[
        ("add_sub", "add_sub.onnx"),
        ("identity_fp16", "identity_fp16.onnx"),
    ]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let answer = client.infer(add_sub(&[1.0, 2.0, 3.0, 4.0], &ONES)).unwrap();
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
        [floats(&[2.0, 3.0, 4.0, 5.0]), floats(&[0.0, 1.0, 2.0, 3.0])]
    );
    assert!(
        answer
            .outputs
            .iter()
            .all(|output| output.contents.is_none() && output.shape == [1, 4])
    );

    let mut typed = add_sub(&[], &[]);
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
    let server = Server::start(directory.path(), &[]);
    let best = InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(2)),
    };
    let request = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: "sum".to_owned(),
            parameters: BTreeMap::from([("classification".to_owned(), best)]),
        }],
        ..add_sub(&[1.0, 5.0, 3.0, 2.0], &ONES)
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

#[test]
fn a_package_is_asked_by_its_fields() {
    let server = Server::start(models_with(&[("churn", "1.1.0")]).path(), &[]);
    let example = &golden_examples("churn", "1.1.0")[0];
    let mut request = ModelInferRequest {
        model_name: "churn".to_owned(),
        ..ModelInferRequest::default()
    };
    let mut expected = None;
    for (name, value) in example["input"].as_object().unwrap() {
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
            _ => continue,
        };
        request.inputs.push(InferInputTensor {
            contents: Some(contents),
            ..input(name, datatype, &[1, 1])
        });
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
    let (code, message) = client.refusal(request);
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
fn what_does_not_fit_has_its_code() {
    let directory = models_of_graphs(&[
        ("add_sub", "add_sub.onnx"),
        ("fails", "fails_out_of_range.onnx"),
    ]);
    let server = Server::start(directory.path(), &[("server.max_body_bytes", "100000")]);
    let mut client = Client::new(&server);
    let (code, message) = client.refusal(ModelInferRequest {
        model_name: "nowhere".to_owned(),
        ..add_sub(&ONES, &ONES)
    });
    assert!(
        code == Code::NotFound && message.contains("nowhere"),
        "{message}"
    );
    let (code, message) = client.refusal(ModelInferRequest {
        model_version: "2".to_owned(),
        ..add_sub(&ONES, &ONES)
    });
    assert!(
        code == Code::NotFound && message.contains("version"),
        "{message}"
    );
    let (code, message) = client.refusal(add_sub(&[1.0; 3], &ONES));
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
    let (code, message) = client.refusal(fails);
    assert!(
        code == Code::InvalidArgument && message.contains("Gather"),
        "{message}"
    );
    let (code, message) = client.refusal(ModelInferRequest {
        id: "x".repeat(100_000),
        ..add_sub(&ONES, &ONES)
    });
    assert!(
        code == Code::ResourceExhausted && message.contains("100000"),
        "{message}"
    );
    // Not a message of this call's: a text that is no UTF-8.
    let broken = client.ask::<InferTensorContents, ModelInferResponse>(
        "ModelInfer",
        Request::new(InferTensorContents {
            int_contents: vec![-1],
            ..InferTensorContents::default()
        }),
    );
    assert_eq!(broken.unwrap_err().code(), Code::InvalidArgument);
    assert!(
        client.infer(add_sub(&ONES, &ONES)).is_ok(),
        "the connection lives on"
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
    let server = Server::start(directory.path(), &[]);
    let mut request = Request::new(slow(1 << 16));
    // The client itself would wait for longer.
    request
        .metadata_mut()
        .insert("x-request-timeout-ms", "50".parse().unwrap());
    let mut client = Client::new(&server);
    let status = client
        .ask::<_, ModelInferResponse>("ModelInfer", request)
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[test]
fn large_and_compressed_messages_are_taken() {
    let directory = models_of_graphs(&[("identity_fp32", "identity_fp32.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let values: Vec<f32> = (0..3 << 20).map(|value| value as f32).collect();
    let request = ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![input("x", "FP32", &[3, 1 << 20])],
        raw_input_contents: vec![floats(&values)],
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
fn a_fault_does_not_end_a_stream() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let mut server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
    let (send, mut waiting) = tokio::sync::mpsc::channel(64);
    let asked = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
    let codec: ProstCodec<ModelInferRequest, ModelStreamInferResponse> = ProstCodec::default();
    let answers = client.runtime.block_on(async {
        client.grpc.ready().await.unwrap();
        let mut answers = client
            .grpc
            .streaming(Request::new(asked), path, codec)
            .await
            .unwrap()
            .into_inner();
        for number in 0..40 {
            let width = if number == 4 { 3 } else { 4 };
            let request = ModelInferRequest {
                id: number.to_string(),
                ..add_sub(&vec![number as f32; width], &ONES)
            };
            send.send(request).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            let told = answer.infer_response.unwrap();
            assert_eq!(told.id, number.to_string());
            assert_eq!(
                answer.error_message.contains("`a`"),
                number == 4,
                "{}",
                answer.error_message
            );
            if number != 4 {
                assert_eq!(
                    told.raw_output_contents[0],
                    floats(&[number as f32 + 1.0; 4])
                );
            }
        }
        // Many at once come back in their order.
        for number in 0..64 {
            let request = ModelInferRequest {
                id: number.to_string(),
                ..add_sub(&[number as f32; 4], &ONES)
            };
            send.send(request).await.unwrap();
        }
        for number in 0..64 {
            assert_eq!(
                answers
                    .message()
                    .await
                    .unwrap()
                    .unwrap()
                    .infer_response
                    .unwrap()
                    .id,
                number.to_string()
            );
        }
        answers
    });
    // A stream that its client leaves open holds nothing up.
    server.signal(rustix::process::Signal::TERM);
    let end = client.runtime.block_on(async {
        let mut answers = answers;
        tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("the stream ends")
            .unwrap_err()
    });
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(server.wait_for_exit().success());
}

#[test]
fn what_the_server_says_of_itself() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let ready: ServerReadyResponse = client
        .ask("ServerReady", Request::new(ServerReadyRequest {}))
        .unwrap()
        .into_inner();
    assert!(ready.ready);
    let about: ServerMetadataResponse = client
        .ask("ServerMetadata", Request::new(ServerMetadataRequest {}))
        .unwrap()
        .into_inner();
    assert_eq!(about.name, "predictd");
    let (name, version) = ("add_sub".to_owned(), String::new());
    let ready = ModelReadyRequest {
        name: name.clone(),
        version: version.clone(),
    };
    assert!(
        client
            .ask::<_, ModelReadyResponse>("ModelReady", Request::new(ready))
            .unwrap()
            .into_inner()
            .ready
    );
    let nowhere = ModelReadyRequest {
        name: "nowhere".to_owned(),
        version: version.clone(),
    };
    assert_eq!(
        client
            .ask::<_, ModelReadyResponse>("ModelReady", Request::new(nowhere))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let about = ModelMetadataRequest {
        name: name.clone(),
        version: version.clone(),
    };
    let about: ModelMetadataResponse = client
        .ask("ModelMetadata", Request::new(about))
        .unwrap()
        .into_inner();
    assert_eq!(
        (&about.versions[..], &about.inputs[0].shape[..]),
        (&["1".to_owned()][..], &[-1, 4][..])
    );
    let config = ModelConfigRequest {
        name: name.clone(),
        version: version.clone(),
    };
    let config: ModelConfigResponse = client
        .ask("ModelConfig", Request::new(config))
        .unwrap()
        .into_inner();
    let config = config.config.unwrap();
    assert_eq!(
        (config.backend.as_str(), config.input[0].data_type()),
        ("onnxruntime", DataType::TypeFp32)
    );
    client.infer(add_sub(&ONES, &ONES)).unwrap();
    let statistics = ModelStatisticsRequest {
        name: name.clone(),
        version,
    };
    let statistics: ModelStatisticsResponse = client
        .ask("ModelStatistics", Request::new(statistics))
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            statistics.model_stats[0].inference_count,
            statistics.model_stats[0].execution_count
        ),
        (1, 1)
    );
    let index: RepositoryIndexResponse = client
        .ask(
            "RepositoryIndex",
            Request::new(RepositoryIndexRequest::default()),
        )
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            index.models[0].name.as_str(),
            index.models[0].state.as_str()
        ),
        ("add_sub", "READY")
    );
}

#[test]
fn more_than_the_server_takes_is_refused() {
    let directory = models_of_graphs(&[("slow", "slow.onnx"), ("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[("server.max_inflight", "1")]);
    thread::scope(|scope| {
        let busy = scope.spawn(|| Client::new(&server).infer(slow(1 << 13)));
        wait_until("a request is in flight", || {
            server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}") > 0.0
        });
        let status = Client::new(&server)
            .infer(add_sub(&ONES, &ONES))
            .unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(
            status.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "1000"
        );
        assert_eq!(status.metadata().get("x-request-id").unwrap().len(), 26);
        busy.join().unwrap().unwrap();
    });
}

#[test]
fn a_drain_finishes_what_is_in_flight() {
    let directory = models_of_graphs(&[("slow", "slow.onnx")]);
    let mut server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let busy = thread::spawn(move || client.infer(slow(1 << 12)));
    wait_until("a request is in flight", || {
        server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}") > 0.0
    });
    server.signal(rustix::process::Signal::TERM);
    assert!(busy.join().unwrap().is_ok());
    assert!(server.wait_for_exit().success());
}

/// A server that takes one request at a time, and what waits for another to have its place.
#[test]
fn a_failure_names_the_id_under_which_the_log_explains_it() {
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
            floats(&[1.0, 2.0]),
            floats(&[1.0, 2.0]),
            Bytes::from(vec![0; 8]),
        ],
        ..ModelInferRequest::default()
    };
    let mut request = Request::new(pair.clone());
    request
        .metadata_mut()
        .insert("x-request-id", "mine".parse().unwrap());
    let status = client
        .ask::<_, ModelInferResponse>("ModelInfer", request)
        .unwrap_err();
    assert!(
        status.code() == Code::Internal && status.message().contains("under the request id mine"),
        "{status}"
    );
    let (send, mut answers) = client.stream();
    send.blocking_send(pair).unwrap();
    let told = client
        .runtime
        .block_on(answers.message())
        .unwrap()
        .unwrap()
        .error_message;
    let id = told
        .split_once("under the request id ")
        .unwrap()
        .1
        .to_owned();
    for id in ["mine", &id] {
        let line = wait_for("it is logged", || {
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
fn header_fields_that_are_too_large_are_told_so_and_counted() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let mut ask = |bytes: usize| {
        let mut request = Request::new(add_sub(&ONES, &ONES));
        request
            .metadata_mut()
            .insert("x-large", "a".repeat(bytes).parse().unwrap());
        client.ask::<_, ModelInferResponse>("ModelInfer", request)
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
        wait_for("it is logged", || server.logged("refused").pop())["error"],
        "headers-too-large"
    );
}

#[test]
fn a_deadline_that_is_none_is_refused() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    for (header, text) in [
        ("x-request-timeout-ms", "soon"),
        ("x-request-timeout-ms", "0"),
        ("grpc-timeout", "100000000S"),
        ("grpc-timeout", "soon"),
    ] {
        let mut request = Request::new(add_sub(&ONES, &ONES));
        request.metadata_mut().insert(header, text.parse().unwrap());
        let status = client
            .ask::<_, ModelInferResponse>("ModelInfer", request)
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
            .ask::<_, ModelReadyResponse>("ModelReady", request)
            .unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(header),
            "{header} {text}: {status}"
        );
    }
}

#[test]
fn a_version_is_asked_for_by_its_role() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let answer = client
        .infer(ModelInferRequest {
            model_version: "stable".to_owned(),
            ..add_sub(&ONES, &ONES)
        })
        .unwrap();
    assert_eq!(
        (answer.model_version.as_str(), answer.model_name.as_str()),
        ("1", "add_sub")
    );
    let (code, detail) = client.refusal(ModelInferRequest {
        model_version: "candidate".to_owned(),
        ..add_sub(&ONES, &ONES)
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
            .ask::<_, ModelReadyResponse>("ModelReady", ready("stable"))
            .unwrap()
            .into_inner()
            .ready
    );
    assert_eq!(
        client
            .ask::<_, ModelReadyResponse>("ModelReady", ready("previous"))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}

#[test]
fn who_cancels_before_the_answer_leaves_a_trace() {
    let directory = models_of_graphs(&[("slow", "slow.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let counted = || {
        server.metric(
            "predictd_requests_total{code=\"499\",model=\"slow\",protocol=\"grpc\",version=\"1\"}",
        )
    };
    let inflight = || server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}");
    let mut client = Client::new(&server);
    // A call is cancelled, and its connection goes on.
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
    let mut grpc = client.grpc.clone();
    let call = client.runtime.spawn(async move {
        grpc.ready().await.unwrap();
        grpc.unary(
            Request::new(slow(10_000_000)),
            path,
            ProstCodec::<ModelInferRequest, ModelInferResponse>::default(),
        )
        .await
        .unwrap();
    });
    let turn = |client: &Client| {
        client
            .runtime
            .block_on(async { tokio::time::sleep(std::time::Duration::from_millis(1)).await })
    };
    wait_until("it is worked on", || {
        turn(&client);
        inflight() == 1.0
    });
    call.abort();
    wait_until("the cancelled call is counted", || {
        turn(&client);
        counted() == 1.0
    });
    // So is each message of a stream that is not answered; a stream without one leaves nothing.
    let (idle, answers) = client.stream();
    drop((idle, answers));
    let (send, answers) = client.stream();
    for _ in 0..3 {
        send.blocking_send(slow(10_000_000)).unwrap();
    }
    wait_until("they are worked on", || {
        turn(&client);
        inflight() == 3.0
    });
    drop((send, answers));
    wait_until("the cancelled messages are counted", || {
        turn(&client);
        counted() == 4.0
    });
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"cancelled\",model=\"slow\",version=\"1\"}"),
        4.0
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"cancelled\",model=\"\",version=\"\"}"),
        0.0
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"invalid\",model=\"\",version=\"\"}"),
        0.0
    );
    let line = wait_for("they are logged", || {
        server.logged("cancelled").get(3).cloned()
    });
    assert_eq!(
        (&line["status"], &line["protocol"], &line["model"]),
        (&499.into(), &"grpc".into(), &"slow".into()),
        "{line}"
    );
}

fn one_at_a_time() -> (tempfile::TempDir, Server) {
    let directory = models_of_graphs(&[
        ("identity_fp32", "identity_fp32.onnx"),
        ("add_sub", "add_sub.onnx"),
        ("slow", "slow.onnx"),
    ]);
    let server = Server::start(directory.path(), &[("server.max_inflight", "1")]);
    (directory, server)
}

fn is_full(client: &mut Client) -> Option<()> {
    client
        .infer(add_sub(&ONES, &ONES))
        .is_err_and(|status| status.code() == Code::ResourceExhausted)
        .then_some(())
}

fn has_room(client: &mut Client) -> Option<()> {
    client.infer(add_sub(&ONES, &ONES)).is_ok().then_some(())
}

#[test]
fn an_answer_that_nobody_reads_keeps_its_place() {
    let (_directory, server) = one_at_a_time();
    let (mut slow_reader, mut other) = (Client::with_small_windows(&server), Client::new(&server));
    let mut answer = slow_reader.begin(echo());
    assert!(is_full(&mut other).is_some());
    let read = slow_reader.runtime.block_on(async {
        let message = answer.message().await.unwrap().unwrap();
        assert!(answer.message().await.unwrap().is_none());
        message
    });
    assert_eq!(read.raw_output_contents, echo().raw_input_contents);
    assert!(has_room(&mut other).is_some(), "who has read can ask again");

    drop(slow_reader.begin(echo()));
    slow_reader.runtime.block_on(tokio::task::yield_now());
    drop(slow_reader);
    wait_for(
        "an answer that nobody will read gives its place back",
        || has_room(&mut other),
    );
}

#[test]
fn a_streams_answer_that_nobody_reads_keeps_its_place() {
    let (_directory, server) = one_at_a_time();
    let (mut slow_reader, mut other) = (Client::with_small_windows(&server), Client::new(&server));
    let (send, mut answers) = slow_reader.stream();
    slow_reader.runtime.block_on(send.send(echo())).unwrap();
    let answered = "predictd_requests_total{code=\"200\",model=\"identity_fp32\",protocol=\"grpc\",version=\"1\"}";
    wait_until("the message is answered", || {
        // The client sends only while it is asked to.
        slow_reader.runtime.block_on(tokio::task::yield_now());
        server.metric(answered) > 0.0
    });
    assert!(is_full(&mut other).is_some());
    slow_reader.runtime.block_on(async {
        for _ in 0..3 {
            let told = answers.message().await.unwrap().unwrap();
            assert_eq!(
                (
                    told.error_message.as_str(),
                    told.infer_response.unwrap().raw_output_contents.len()
                ),
                ("", 1)
            );
            send.send(echo()).await.unwrap();
        }
    });
    drop((send, answers, slow_reader));
    wait_for("a stream that is gone gives its places back", || {
        has_room(&mut other)
    });
}

#[test]
fn a_message_takes_its_place_before_its_bytes_come() {
    let (_directory, server) = one_at_a_time();
    let mut other = Client::new(&server);
    for method in ["ModelInfer", "ModelStreamInfer"] {
        // The head promises a thousand bytes.
        let mut halting = None;
        wait_for("the place is taken", || {
            // Who asks whether it is taken may have it just then: the call is opened anew.
            let full = halting.is_some().then(|| is_full(&mut other)).flatten();
            if full.is_none() {
                halting = Some(opened(&server, method, &[0, 0, 0, 3, 232, 10]));
            }
            full
        });
        drop(halting);
        wait_for("the place is given back", || has_room(&mut other));
    }
    // A stream is open for as long as its client likes: only its messages take places.
    let silent = opened(&server, "ModelStreamInfer", &[]);
    assert!(has_room(&mut other).is_some());
    drop(silent);
}

#[test]
fn a_message_of_a_stream_without_a_place_goes_by() {
    let (_directory, server) = one_at_a_time();
    let mut client = Client::new(&server);
    let (send, mut answers) = client.stream();
    thread::scope(|scope| {
        let busy = scope.spawn(|| Client::new(&server).infer(slow(1 << 13)));
        wait_until("a request is in flight", || {
            server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}") > 0.0
        });
        let told = client.runtime.block_on(async {
            send.send(echo()).await.unwrap();
            answers.message().await.unwrap().unwrap()
        });
        assert!(
            told.error_message.contains("in flight"),
            "{}",
            told.error_message
        );
        busy.join().unwrap().unwrap();
    });
    let told = client.runtime.block_on(async {
        send.send(add_sub(&ONES, &ONES)).await.unwrap();
        answers.message().await.unwrap().unwrap()
    });
    assert_eq!(told.error_message, "");
}

#[test]
fn a_request_of_millions_of_parts_is_refused_before_it_is_decoded() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let parts = [
        ModelInferRequest {
            inputs: vec![InferInputTensor::default(); 1 << 20],
            ..add_sub(&ONES, &ONES)
        },
        ModelInferRequest {
            outputs: vec![InferRequestedOutputTensor::default(); 1 << 20],
            ..add_sub(&ONES, &ONES)
        },
        ModelInferRequest {
            raw_input_contents: vec![Bytes::new(); 1 << 20],
            ..add_sub(&ONES, &ONES)
        },
    ];
    let plain = client.grpc.clone();
    for request in parts {
        for grpc in [
            plain.clone(),
            plain.clone().send_compressed(CompressionEncoding::Zstd),
        ] {
            client.grpc = grpc;
            let (code, message) = client.refusal(request.clone());
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
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let mut request = add_sub(&ONES, &ONES);
    // The error repeats the shape.
    request.inputs[0].shape = vec![1; 100_000];
    let (code, message) = client.refusal(request.clone());
    assert!(
        code == Code::InvalidArgument && message.ends_with("..."),
        "{code} {} bytes",
        message.len()
    );
    let long = "\u{e9}".repeat(20_000);
    let (code, message) = client.refusal(ModelInferRequest {
        model_name: long.clone(),
        ..add_sub(&ONES, &ONES)
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
            .ask::<_, ModelReadyResponse>("ModelReady", Request::new(ready))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.channel.clone());
    let asked = tonic_health::pb::HealthCheckRequest { service: long };
    assert_eq!(
        client
            .runtime
            .block_on(health.check(asked))
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    // In a stream it is no header, and as short.
    let (send, mut answers) = client.stream();
    let told = client.runtime.block_on(async {
        send.send(request).await.unwrap();
        answers.message().await.unwrap().unwrap()
    });
    assert!(
        told.error_message.ends_with("..."),
        "{} bytes",
        told.error_message.len()
    );
}

#[test]
fn no_classes_are_values_and_no_name_is_no_input() {
    let directory = models_of_graphs(&[
        ("identity_fp32", "identity_fp32.onnx"),
        ("add_sub", "add_sub.onnx"),
    ]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let none = InferParameter {
        parameter_choice: Some(ParameterChoice::Int64Param(0)),
    };
    let request = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: "sum".to_owned(),
            parameters: BTreeMap::from([("classification".to_owned(), none)]),
        }],
        ..add_sub(&ONES, &ONES)
    };
    assert_eq!(
        client.infer(request).unwrap().raw_output_contents,
        [floats(&[2.0; 4])]
    );
    let mut nameless = echo();
    nameless.inputs[0].name.clear();
    let (code, message) = client.refusal(nameless);
    assert!(
        code == Code::InvalidArgument && message.contains("has no name"),
        "{message}"
    );
}

#[test]
fn another_framing_is_not_taken_for_this_one() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    for (content_type, status) in [
        ("application/grpc", 200),
        ("application/grpc+proto; x=y", 200),
        ("application/grpc-web", 415),
        ("application/grpc+json", 415),
    ] {
        let request = http::Request::post("/inference.GRPCInferenceService/ServerLive")
            .header("content-type", content_type);
        let request = request.body(tonic::body::Body::empty()).unwrap();
        let answer = client.runtime.block_on(async {
            std::future::poll_fn(|context| client.channel.poll_ready(context))
                .await
                .unwrap();
            client.channel.call(request).await.unwrap()
        });
        assert_eq!(answer.status(), status, "{content_type}");
    }
}

#[test]
fn what_is_no_inference_has_its_limits_too() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = Server::start(directory.path(), &[("server.read_timeout_ms", "200")]);
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
        // Its message never comes whole; the connection stays.
        let halting = opened(&server, method, &[0, 0, 0]);
        wait_until("the call is given up", || given_up() >= count);
        drop(halting);
    }
    let mut client = Client::new(&server);
    let ready = |length: usize| ModelReadyRequest {
        name: "x".repeat(length),
        version: String::new(),
    };
    let told = client
        .ask::<_, ModelReadyResponse>("ModelReady", Request::new(ready(60_000)))
        .unwrap_err();
    assert_eq!(told.code(), Code::NotFound, "{told}");
    for encoding in [None, Some(CompressionEncoding::Gzip)] {
        if let Some(encoding) = encoding {
            client.grpc = client.grpc.clone().send_compressed(encoding);
        }
        let told = client
            .ask::<_, ModelReadyResponse>("ModelReady", Request::new(ready(70_000)))
            .unwrap_err();
        assert_ne!(told.code(), Code::NotFound, "{told}");
    }
}
