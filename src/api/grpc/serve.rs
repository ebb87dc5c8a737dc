//! Serve: the accept loop for gRPC, with limits on time and number of connections.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tonic::{body::Body, codegen::BoxFuture};

use crate::{
    api::{
        accept::{ServeOptions, accept},
        grpc::{
            Services,
            traffic::{Answer, Open, Traffic},
        },
        head,
    },
    error::ErrorCode,
    metrics::Protocol,
};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a preface that came in part is looked at again.
const PREFACE_TICK: Duration = Duration::from_millis(10);

/// How long a client may leave an answer unread, however long it may be silent.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a connection that was told to leave may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer that is gone is found out by asking.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// ErrorReport to who speaks HTTP/1 here.
const FAREWELL: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\ncontent-length: 35\r\nconnection: close\r\n\r\nthis port speaks gRPC, over HTTP/2\n";
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// What one stream may send ahead, and all of a connection together: one that nobody reads must not stop the others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Calls at once on one connection; clients make others wait. Each may have messages and answers under way.
const MAX_STREAMS: u32 = 256;

/// As HTTP/2 counts them: what is larger the library refuses by itself, with a bare 431.
const MAX_HEADER_LIST: u32 = head::MAX_PARSED_BYTES as u32;

/// Accepts until `stop` turns true, then lets every connection finish its calls. Returns when the last one has ended.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    options: ServeOptions,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(
        options.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let all = u32::try_from(options.max_connections).unwrap_or(u32::MAX);
    let stopped = stop.clone();
    let take = |stream: TcpStream| {
        // Without a slot the connection is closed at once: gRPC has no words before a call.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            return options.metrics.unrouted().observe_error(
                Protocol::Grpc,
                ErrorCode::Overloaded,
                ErrorCode::Overloaded.http_status(),
                Duration::ZERO,
            );
        };
        let connection = Connection {
            services: services.clone(),
            options: options.clone(),
            stop: stopped.clone(),
            _slot: slot,
        };
        tokio::spawn(connection.run(stream));
    };
    accept(listener, &mut stop, take).await;
    // All slots free: all connections ended.
    let _ = slots.acquire_many(all).await;
}

struct Connection {
    services: Services,
    options: ServeOptions,
    stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, mut stream: TcpStream) {
        self.options.metrics.server.connections.inc();
        // Answers are written whole; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        match tokio::time::timeout(self.options.read_timeout, has_preface(&stream)).await {
            Ok(Ok(true)) => self.carry(stream).await,
            Ok(Ok(false)) => {
                drop(tokio::time::timeout(FAREWELL_TIMEOUT, stream.write_all(FAREWELL)).await)
            }
            // Nobody spoke, or nobody is there.
            Ok(Err(_)) | Err(_) => {}
        }
        self.options.metrics.server.connections.dec();
    }

    async fn carry(&self, stream: TcpStream) {
        let traffic = Arc::new(Traffic::new());
        let service = Tracked {
            services: self.services.clone(),
            traffic: Arc::clone(&traffic),
            draining: Arc::clone(&self.options.draining),
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stop = self.stop.clone();
        let mut leaving = None;
        let idle_timeout = self.options.idle_timeout;
        let mut check = tokio::time::interval(idle_timeout.min(LEAVE_TIMEOUT) / 8);
        loop {
            let leave = tokio::select! {
                biased;
                // A broken connection is the client's business; what it asked for was counted.
                _ = &mut connection => return,
                _ = stop.wait_for(|stop| *stop), if leaving.is_none() => true,
                () = traffic.leave.notified(), if leaving.is_none() => true,
                _ = check.tick() => {
                    if traffic.is_unread() && traffic.quiet_for() >= idle_timeout.min(UNREAD_TIMEOUT) {
                        return;
                    }
                    match leaving {
                        Some(since) if traffic.is_idle() && Instant::now().duration_since(since) >= LEAVE_TIMEOUT => return,
                        Some(_) => false,
                        None => traffic.is_idle() && traffic.quiet_for() >= idle_timeout,
                    }
                }
            };
            if leave {
                leaving = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Whether what comes is HTTP/2; waits until there is enough to tell.
async fn has_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        let came = start.get(..length).unwrap_or_default();
        if !PREFACE.starts_with(came) {
            return Ok(false);
        }
        match length {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length if length == PREFACE.len() => return Ok(true),
            // What was peeked at stays there, so that waiting for more would not wait.
            _ => tokio::time::sleep(PREFACE_TICK).await,
        }
    }
}

/// The services, on one connection.
struct Tracked {
    services: Services,
    traffic: Arc<Traffic>,
    draining: Arc<AtomicBool>,
}

impl hyper::service::Service<Request<Incoming>> for Tracked {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Working;

    fn call(&self, request: Request<Incoming>) -> Working {
        if self.draining.load(Ordering::Relaxed) {
            self.traffic.leave.notify_one();
        }
        Working {
            inner: self.services.call(request),
            open: Some(Open::new(&self.traffic)),
        }
    }
}

struct Working {
    inner: BoxFuture<Response<Body>, Infallible>,
    open: Option<Open>,
}

impl Future for Working {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = self.inner.as_mut().poll(context) else {
            return Poll::Pending;
        };
        // A future is not polled again once it is ready.
        let Some(open) = self.open.take() else {
            return Poll::Pending;
        };
        Poll::Ready(Ok(response.map(|body| Answer::new(body, open))))
    }
}

#[cfg(test)]
mod tests {
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
                inference::{
                    ModelInferRequest, ModelStreamInferResponse, RepositoryModelLoadRequest,
                    RepositoryModelLoadResponse, ServerLiveRequest, ServerLiveResponse,
                },
                serve::{PREFACE, serve},
            },
        },
        config::{RequestLog, ServerConfig},
        metrics::Metrics,
        predict::Predictor,
        registry::Registry,
    };

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Started {
        address: SocketAddr,
        metrics: Metrics,
        stop: watch::Sender<bool>,
        done: JoinHandle<()>,
    }

    impl Started {
        /// A server without models, whose streams may be silent as long as its clients may not read.
        async fn new(read_timeout: Duration, idle_timeout: Duration) -> Started {
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
            Started {
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
            let there = async {
                while self.metrics.server.connections.get() != expected {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, there)
                .await
                .expect("as many connections as expected");
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
        let started = Started::new(PATIENCE, PATIENCE).await;
        let channel = started.channel().await;
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
        let ask = |service: &str| HealthCheckRequest {
            service: service.to_owned(),
        };
        assert_eq!(
            health.check(ask("")).await.unwrap().get_ref().status(),
            ServingStatus::NotServing
        );
        assert_eq!(
            health.check(ask("nowhere")).await.unwrap_err().code(),
            Code::NotFound
        );
        let mut watch = health.watch(ask("nowhere")).await.unwrap().into_inner();
        assert_eq!(
            watch.message().await.unwrap().unwrap().status(),
            ServingStatus::ServiceUnknown
        );
        // A watcher holds nothing up.
        started.stop.send(true).unwrap();
        assert!(watch.message().await.unwrap().is_none());
        tokio::time::timeout(PATIENCE, started.done)
            .await
            .expect("the server ends")
            .unwrap();
    }

    #[tokio::test]
    async fn who_speaks_something_else_is_told() {
        let started = Started::new(PATIENCE, PATIENCE).await;
        let mut client = TcpStream::connect(started.address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer))
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
    async fn who_says_nothing_is_given_up() {
        let started = Started::new(Duration::from_millis(100), PATIENCE).await;
        let _silent = TcpStream::connect(started.address).await.unwrap();
        let mut halting = TcpStream::connect(started.address).await.unwrap();
        halting.write_all(&PREFACE[..7]).await.unwrap();
        started.until_connections(2).await;
        started.until_connections(0).await;
    }

    #[tokio::test]
    async fn a_silent_stream_is_ended() {
        let started = Started::new(Duration::from_secs(1), Duration::from_millis(100)).await;
        let mut client = Grpc::new(started.channel().await);
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
        let codec: ProstCodec<ModelInferRequest, ModelStreamInferResponse> = ProstCodec::default();
        let silent = tonic::Request::new(futures_util::stream::pending());
        let mut answers = client
            .streaming(silent, path, codec)
            .await
            .unwrap()
            .into_inner();
        let end = tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("the stream ends")
            .unwrap_err();
        assert!(
            end.code() == Code::DeadlineExceeded && end.message().contains("1100 ms"),
            "{end}"
        );

        // One whose own time is over earlier.
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
        let end = tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("the stream ends")
            .unwrap_err();
        assert!(
            end.code() == Code::DeadlineExceeded && end.message().contains("deadline"),
            "{end}"
        );

        let mut reflection = ServerReflectionClient::new(started.channel().await);
        let mut answers = reflection
            .server_reflection_info(futures_util::stream::pending())
            .await
            .unwrap()
            .into_inner();
        let end = tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("the stream ends");
        assert!(end.unwrap().is_none());
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// A client whose window for answers is empty: what it asked for is given up, with its connection.
    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let started = Started::new(PATIENCE, Duration::from_millis(200)).await;
        let mut client = TcpStream::connect(started.address).await.unwrap();
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/inference.GRPCInferenceService/ServerLive"),
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
        let initial_window_size = [0, 4, 0, 0, 0, 0];
        let asked = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &initial_window_size),
            frame(1, 4, 1, &block),
            // An empty message.
            frame(0, 1, 1, &[0; 5]),
        ];
        client.write_all(&asked.concat()).await.unwrap();
        started.until_connections(1).await;
        started.until_connections(0).await;
    }
}
