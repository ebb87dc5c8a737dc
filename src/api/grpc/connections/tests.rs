//! Tests of connections with real clients, to a server without models.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::{
    Code,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::{
    api::{
        Api, ApiParts,
        accept::ServeOptions,
        grpc::{
            Services,
            connections::{PREFACE, serve},
            inference::{
                ModelInferRequest, ModelStreamInferResponse, RepositoryModelLoadRequest,
                RepositoryModelLoadResponse, ServerLiveRequest, ServerLiveResponse,
            },
        },
    },
    config::{RequestLog, ServerConfig},
    metrics::Metrics,
    predict::Predictor,
    registry::Registry,
};

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

struct TestServer {
    address: SocketAddr,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    done: JoinHandle<()>,
}

impl TestServer {
    /// Starts a server without models. `idle_timeout` limits both silent streams and unread
    /// responses.
    async fn new(read_timeout: Duration, idle_timeout: Duration) -> TestServer {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        let (metrics, registry) = (Metrics::new(0.0).unwrap(), Registry::default());
        let api = Api::new(ApiParts {
            registry: registry.clone(),
            predictor: Predictor::new(registry, 1, Vec::new()).unwrap(),
            metrics: metrics.clone(),
            config: ServerConfig {
                read_timeout_ms: millis(read_timeout),
                request_timeout_ms: millis(read_timeout),
                grpc_idle_timeout_ms: millis(idle_timeout),
                ..Default::default()
            },
            platform: Default::default(),
            max_wedged: 1,
            request_log: RequestLog::Errors,
            dropped_log_lines: Arc::new(|| 0),
        });
        let options = ServeOptions {
            read_timeout,
            max_connections: 4,
            idle_timeout,
            metrics: metrics.clone(),
            draining: Arc::clone(&api.draining),
        };
        let (stop, stopped) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let services = Services::new(&api, &stopped).unwrap();
        let done = tokio::spawn(serve(listener, services, options, stopped));
        TestServer {
            address,
            metrics,
            stop,
            done,
        }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    async fn until_connections(&self, expected: i64) {
        let reached = async {
            while self.metrics.server.connections.get() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, reached)
            .await
            .expect("the expected number of connections");
    }
}

async fn is_live(channel: Channel) -> bool {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ServerLive");
    let codec: ProstCodec<ServerLiveRequest, ServerLiveResponse> = ProstCodec::default();
    client
        .unary(tonic::Request::new(ServerLiveRequest {}), path, codec)
        .await
        .unwrap()
        .into_inner()
        .live
}

async fn refusal(channel: Channel, path: &'static str) -> tonic::Status {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let codec: ProstCodec<RepositoryModelLoadRequest, RepositoryModelLoadResponse> =
        ProstCodec::default();
    client
        .unary(
            tonic::Request::new(RepositoryModelLoadRequest::default()),
            PathAndQuery::from_static(path),
            codec,
        )
        .await
        .unwrap_err()
}

#[tokio::test]
async fn calls_are_answered_until_the_stop() {
    let server = TestServer::new(TEST_TIMEOUT, TEST_TIMEOUT).await;
    let channel = server.channel().await;
    assert!(is_live(channel.clone()).await);
    let load = refusal(
        channel.clone(),
        "/inference.GRPCInferenceService/RepositoryModelLoad",
    )
    .await;
    assert!(
        load.code() == Code::Unimplemented && load.message().contains("admin.listen"),
        "{load}"
    );
    for path in [
        "/inference.GRPCInferenceService/TraceSetting",
        "/nobodys.Service/Method",
    ] {
        assert_eq!(
            refusal(channel.clone(), path).await.code(),
            Code::Unimplemented
        );
    }
    let mut health = HealthClient::new(channel);
    let check = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    assert_eq!(
        health.check(check("")).await.unwrap().get_ref().status(),
        ServingStatus::NotServing
    );
    assert_eq!(
        health.check(check("nowhere")).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut watch = health.watch(check("nowhere")).await.unwrap().into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::ServiceUnknown
    );
    // A watching client does not delay the stop.
    server.stop.send(true).unwrap();
    assert!(watch.message().await.unwrap().is_none());
    tokio::time::timeout(TEST_TIMEOUT, server.done)
        .await
        .expect("the server ends")
        .unwrap();
}

#[tokio::test]
async fn clients_of_another_protocol_get_an_explanation() {
    let server = TestServer::new(TEST_TIMEOUT, TEST_TIMEOUT).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(TEST_TIMEOUT, client.read_to_end(&mut answer))
        .await
        .expect("an answer");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 505 ")
            && head.contains(&format!("content-length: {}\r\n", body.len())),
        "{answer}"
    );
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let server = TestServer::new(Duration::from_millis(100), TEST_TIMEOUT).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut halting = TcpStream::connect(server.address).await.unwrap();
    halting.write_all(&PREFACE[..7]).await.unwrap();
    server.until_connections(2).await;
    server.until_connections(0).await;
}

#[tokio::test]
async fn a_silent_stream_is_ended() {
    let server = TestServer::new(Duration::from_secs(1), Duration::from_millis(100)).await;
    let mut client = Grpc::new(server.channel().await);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
    let codec: ProstCodec<ModelInferRequest, ModelStreamInferResponse> = ProstCodec::default();
    let silent = tonic::Request::new(futures_util::stream::pending());
    let mut answers = client
        .streaming(silent, path, codec)
        .await
        .unwrap()
        .into_inner();
    let end = tokio::time::timeout(TEST_TIMEOUT, answers.message())
        .await
        .expect("the stream ends")
        .unwrap_err();
    assert!(
        end.code() == Code::DeadlineExceeded && end.message().contains("1100 ms"),
        "{end}"
    );

    // The deadline of this stream is earlier than the idle timeout.
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
    let codec: ProstCodec<ModelInferRequest, ModelStreamInferResponse> = ProstCodec::default();
    let mut silent = tonic::Request::new(futures_util::stream::pending());
    silent
        .metadata_mut()
        .insert("x-request-timeout-ms", "1".parse().unwrap());
    let mut answers = client
        .streaming(silent, path, codec)
        .await
        .unwrap()
        .into_inner();
    let end = tokio::time::timeout(TEST_TIMEOUT, answers.message())
        .await
        .expect("the stream ends")
        .unwrap_err();
    assert!(
        end.code() == Code::DeadlineExceeded && end.message().contains("deadline"),
        "{end}"
    );

    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let mut answers = reflection
        .server_reflection_info(futures_util::stream::pending())
        .await
        .unwrap()
        .into_inner();
    let end = tokio::time::timeout(TEST_TIMEOUT, answers.message())
        .await
        .expect("the stream ends");
    assert!(end.unwrap().is_none());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The flow-control window of the client is empty, so the response can't be sent, and the
/// connection is closed.
#[tokio::test]
async fn a_connection_whose_client_does_not_read_is_closed() {
    let server = TestServer::new(TEST_TIMEOUT, Duration::from_millis(200)).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/inference.GRPCInferenceService/ServerLive"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    // Header fields as literals without indexing (RFC 7541, 6.2.2).
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block: Vec<u8> = headers
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect();
    let initial_window_size = [0, 4, 0, 0, 0, 0];
    let frames = [
        PREFACE.to_vec(),
        frame(4, 0, 0, &initial_window_size),
        frame(1, 4, 1, &block),
        // An empty message.
        frame(0, 1, 1, &[0; 5]),
    ];
    client.write_all(&frames.concat()).await.unwrap();
    server.until_connections(1).await;
    server.until_connections(0).await;
}
