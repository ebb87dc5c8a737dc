//! The gRPC listener, called with a gRPC client.

use std::{io::Write, net::TcpStream};

use bytes::Bytes;
use http::uri::PathAndQuery;
use predictd::api::grpc::inference::{
    ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    model_infer_request::InferInputTensor,
};
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::harness::{PATIENCE, PATIENT, Server, ServerClient, models_of_graphs};

mod admission;
mod errors;
mod infer;
mod service;
mod stream;

/// A gRPC client with its runtime and its connection.
struct Client {
    runtime: Runtime,
    channel: Channel,
    grpc: Grpc<Channel>,
}

impl Client {
    fn new(server: &ServerClient) -> Client {
        Client::connect(server, |endpoint| endpoint)
    }

    /// A client with a flow-control window of 64 KiB: the server holds the rest of an answer until
    /// it is read.
    fn with_small_windows(server: &ServerClient) -> Client {
        Client::connect(server, |endpoint| {
            endpoint.initial_stream_window_size(65_535)
        })
    }

    fn connect(server: &ServerClient, configure: fn(Endpoint) -> Endpoint) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc_address()))
            .unwrap()
            .timeout(PATIENCE);
        let channel = runtime.block_on(configure(endpoint).connect()).unwrap();
        Client {
            runtime,
            grpc: Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX),
            channel,
        }
    }

    fn call<Q, A>(&mut self, method: &str, request: Request<Q>) -> Result<Response<A>, Status>
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
        self.call("ModelInfer", Request::new(request))
            .map(Response::into_inner)
    }

    /// Returns when the head of the answer has arrived. The rest is unread.
    fn start_call(&mut self, request: ModelInferRequest) -> Streaming<ModelInferResponse> {
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

    /// Opens a stream: a sender of messages, and the answers.
    fn open_stream(
        &mut self,
    ) -> (
        mpsc::Sender<ModelInferRequest>,
        Streaming<ModelStreamInferResponse>,
    ) {
        let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
        let (send, mut waiting) = mpsc::channel(64);
        let requests = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
        let codec: ProstCodec<ModelInferRequest, ModelStreamInferResponse> = ProstCodec::default();
        let answers = self.runtime.block_on(async {
            self.grpc.ready().await.unwrap();
            self.grpc
                .streaming(Request::new(requests), path, codec)
                .await
                .unwrap()
                .into_inner()
        });
        (send, answers)
    }

    /// Lets the runtime of this client work on its connection.
    fn poll_runtime(&self) {
        self.runtime
            .block_on(async { tokio::time::sleep(std::time::Duration::from_millis(1)).await });
    }

    /// The code and the message of an inference that is refused.
    fn refused_inference(&mut self, request: ModelInferRequest) -> (Code, String) {
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

fn raw_floats(values: &[f32]) -> Bytes {
    Bytes::from(
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>(),
    )
}

/// A request for `add_sub` with raw contents.
fn add_sub_request(a: &[f32], b: &[f32]) -> ModelInferRequest {
    let shape = [1, i64::try_from(a.len()).unwrap()];
    ModelInferRequest {
        model_name: "add_sub".to_owned(),
        id: "7".to_owned(),
        inputs: vec![input("a", "FP32", &shape), input("b", "FP32", &[1, 4])],
        raw_input_contents: vec![raw_floats(a), raw_floats(b)],
        ..ModelInferRequest::default()
    }
}

/// A request for `slow`, which takes about 0.2 ms a round.
fn slow_request(rounds: i64) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "slow".to_owned(),
        inputs: vec![input("rounds", "INT64", &[1])],
        raw_input_contents: vec![Bytes::copy_from_slice(&rounds.to_le_bytes())],
        ..ModelInferRequest::default()
    }
}

const ONES: [f32; 4] = [1.0; 4];

/// A request of 1 MiB for `identity_fp32`, which answers the same values.
fn echo_request() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![input("x", "FP32", &[1, 1 << 18])],
        raw_input_contents: vec![Bytes::from(vec![0; 1 << 20])],
        ..ModelInferRequest::default()
    }
}

/// A frame of HTTP/2.
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection on which only the head of a call and these bytes of its body were sent.
fn open_call(server: &ServerClient, method: &str, data: &[u8]) -> TcpStream {
    let path = format!("/inference.GRPCInferenceService/{method}");
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    // Literal header fields without indexing (RFC 7541, 6.2.2).
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block: Vec<u8> = headers
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect();
    let frames = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        http2_frame(4, 0, 0, &[]),
        http2_frame(1, 4, 1, &block),
        http2_frame(0, 0, 1, data),
    ];
    let mut client = TcpStream::connect(server.grpc_address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&frames.concat()).unwrap();
    client
}

/// A server that accepts one request at a time.
fn start_with_one_place() -> (tempfile::TempDir, Server) {
    let directory = models_of_graphs(&[
        ("identity_fp32", "identity_fp32.onnx"),
        ("add_sub", "add_sub.onnx"),
        ("slow", "slow.onnx"),
    ]);
    let server = Server::start(directory.path(), &[("server.max_inflight", "1"), PATIENT]);
    (directory, server)
}
