//! Serve: the accept loop, with limits on time and number of connections that `axum::serve` does not have.

use std::{
    convert::Infallible,
    future::Future,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant as TokioInstant,
};
use tower::Service;

use crate::{
    api::refusal::Refusal,
    api::{
        accept::{ServeOptions, accept},
        context::Context as RequestContext,
        head,
        http::problem::Problem,
    },
    error::ErrorCode,
    metrics::{Metrics, Protocol},
};

/// After the stop: how long a connection may still be silent, and how often that is looked at.
const STOP_IDLE: Duration = Duration::from_millis(1000);
const STOP_TICK: Duration = Duration::from_millis(100);

/// How long a farewell may take to write.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Accepts until `stop` turns true, then lets every connection finish its request. Returns when the last one has ended.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(
        options.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let all = u32::try_from(options.max_connections).unwrap_or(u32::MAX);
    let stopped = stop.clone();
    let take = |stream: TcpStream| match Arc::clone(&slots).try_acquire_owned() {
        Ok(slot) => {
            let connection = Connection {
                router: router.clone(),
                options: options.clone(),
                stop: stopped.clone(),
                _slot: slot,
            };
            tokio::spawn(connection.run(stream));
        }
        Err(_) => {
            tokio::spawn(farewell(
                stream,
                ErrorCode::Overloaded,
                "too many open connections",
                options.metrics.clone(),
            ));
        }
    };
    accept(listener, &mut stop, take).await;
    // All slots free: all connections ended.
    let _ = slots.acquire_many(all).await;
}

/// Refuses a connection that never became a request of the router's; counted and logged as one all the same.
async fn farewell(mut stream: TcpStream, code: ErrorCode, detail: &str, metrics: Metrics) {
    let context = RequestContext::new(&HeaderMap::new());
    note_refusal(code, code.http_status(), detail, &context, &metrics);
    let text = farewell_text(code, detail, &context);
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// Counts and logs what never came to the router.
fn note_refusal(
    code: ErrorCode,
    status: u16,
    detail: &str,
    context: &RequestContext,
    metrics: &Metrics,
) {
    metrics
        .unrouted()
        .observe_error(Protocol::Predict, code, status, context.started.elapsed());
    let request_id = context.request_id.to_text();
    tracing::warn!(target: "predictd::request", status, request_id, error = code.slug(), detail, "refused");
}

fn farewell_text(code: ErrorCode, detail: &str, context: &RequestContext) -> String {
    let body = Problem::new(code, detail.to_owned()).to_json(context);
    let status =
        StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let retry = if code.is_retryable() {
        "retry-after: 1\r\n"
    } else {
        ""
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n{retry}x-request-id: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        context.request_id.to_text(),
        body.len()
    )
}

/// Closes a connection whose client is still sending. Closed at once it would be reset, and the client might not see its answer.
async fn linger(mut stream: TcpStream) {
    let mut discarded = [0; 4 << 10];
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, async {
        stream.shutdown().await?;
        while stream.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}

/// How a connection ended.
enum End {
    Closed,
    TimedOut,
    /// What came is no head that is taken.
    Refused(hyper::Error),
}

struct Connection {
    router: Router,
    options: ServeOptions,
    stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(mut self, stream: TcpStream) {
        self.options.metrics.server.connections.inc();
        // Answers are written whole; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let progress = Arc::new(Progress::new());
        let io = TokioIo::new(Watched {
            stream,
            progress: Arc::clone(&progress),
            refusing: false,
        });
        let service = Tracked {
            router: self.router.clone(),
            progress: Arc::clone(&progress),
            draining: Arc::clone(&self.options.draining),
            metrics: self.options.metrics.clone(),
        };
        let mut builder = http1::Builder::new();
        // Without `pipeline_flush`: with it the answer to a head that is refused is never written, nor the answers before it.
        builder.max_header_size(head::MAX_PARSED_BYTES);
        let mut connection = builder.serve_connection(io, service);
        let check_every = self.options.read_timeout.min(self.options.idle_timeout) / 4;
        let mut check = Box::pin(tokio::time::sleep(check_every));
        // Every answer of a draining server closes its connection. What has no answer to come is given a moment: a graceful
        // shutdown would close it at once, perhaps in the face of a request that is on its way.
        let mut stopping = *self.stop.borrow();
        let idle_limit = |stopping: bool| {
            if stopping {
                STOP_IDLE.min(self.options.idle_timeout)
            } else {
                self.options.idle_timeout
            }
        };
        let end = loop {
            tokio::select! {
                biased;
                // A broken connection is the client's business; what it asked for was counted. A head that is none was not.
                ended = &mut connection => break ended.err().filter(hyper::Error::is_parse).map_or(End::Closed, End::Refused),
                _ = self.stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    check.as_mut().reset(TokioInstant::now() + STOP_TICK);
                }
                () = &mut check => match progress.get() {
                    (Phase::Head, elapsed) if elapsed >= self.options.read_timeout => break End::TimedOut,
                    (Phase::Idle, elapsed) if elapsed >= idle_limit(stopping) => break End::Closed,
                    _ => check.as_mut().reset(TokioInstant::now() + if stopping { STOP_TICK } else { check_every }),
                },
            }
        };
        match end {
            End::Closed => {}
            End::TimedOut => {
                let stream = connection.into_parts().io.into_inner().stream;
                farewell(
                    stream,
                    ErrorCode::BodyTimeout,
                    "the head did not arrive in time",
                    self.options.metrics.clone(),
                )
                .await;
            }
            End::Refused(error) => {
                let parts = connection.into_parts();
                let Watched {
                    mut stream,
                    refusing,
                    ..
                } = parts.io.into_inner();
                let Refusal { code, detail } = head::explain(&error, &parts.read_buf);
                let context = RequestContext::new(&HeaderMap::new());
                note_refusal(
                    code,
                    code.http_status(),
                    &detail,
                    &context,
                    &self.options.metrics,
                );
                // To another protocol than this one the library writes nothing.
                if refusing {
                    let text = farewell_text(code, &detail, &context);
                    let _ =
                        tokio::time::timeout(FAREWELL_TIMEOUT, stream.write_all(text.as_bytes()))
                            .await;
                }
                linger(stream).await;
            }
        }
        self.options.metrics.server.connections.dec();
    }
}

/// What a connection is doing, and since when.
struct Progress {
    origin: Instant,
    /// Milliseconds since `origin`, times 4, plus the phase.
    state: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle = 0,
    /// The first bytes of a request arrived.
    Head = 1,
    /// A handler is at work; its body has a timeout of its own.
    Busy = 2,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            origin: Instant::now(),
            state: AtomicU64::new(0),
        }
    }

    fn set(&self, phase: Phase) {
        let milliseconds = self.origin.elapsed().as_millis() as u64;
        self.state
            .store(milliseconds << 2 | phase as u64, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        phase_of(self.state.load(Ordering::Relaxed))
    }

    fn get(&self) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Relaxed);
        (
            phase_of(state),
            self.origin
                .elapsed()
                .saturating_sub(Duration::from_millis(state >> 2)),
        )
    }
}

fn phase_of(state: u64) -> Phase {
    match state & 3 {
        0 => Phase::Idle,
        1 => Phase::Head,
        _ => Phase::Busy,
    }
}

/// The socket; notices when a request begins to arrive, and keeps back the answer that the library writes to a head it refuses:
/// it explains nothing.
struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
    /// Such an answer was kept back: ours is to be written.
    refusing: bool,
}

impl Watched {
    /// How much of these bytes is to be written, before an answer of the library's own.
    fn answers(&mut self, bytes: &[u8]) -> usize {
        if self.progress.phase() == Phase::Busy {
            bytes.len()
        } else {
            head::bare_refusal(bytes).unwrap_or(bytes.len())
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.progress.phase() == Phase::Idle {
            self.progress.set(Phase::Head);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.answers(bytes) {
            0 if !bytes.is_empty() => {
                self.refusing = true;
                Poll::Ready(Ok(bytes.len()))
            }
            answers => {
                Pin::new(&mut self.stream).poll_write(cx, bytes.get(..answers).unwrap_or(bytes))
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let Some((at, last)) = slices
            .iter()
            .enumerate()
            .rfind(|(_, slice)| !slice.is_empty())
        else {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        };
        match (self.answers(last), slices.get(..at)) {
            (answers, _) if answers == last.len() => {
                Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
            }
            // What comes before is written first, and the rest is offered again.
            (_, Some(before)) if before.iter().any(|slice| !slice.is_empty()) => {
                Pin::new(&mut self.stream).poll_write_vectored(cx, before)
            }
            _ => self.poll_write(cx, last),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // Our answer is yet to be written.
        if self.refusing {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The router, as a service that says when it is at work.
struct Tracked {
    router: Router,
    progress: Arc<Progress>,
    draining: Arc<AtomicBool>,
    metrics: Metrics,
}

impl hyper::service::Service<Request<Incoming>> for Tracked {
    type Response = Response;
    type Error = Infallible;
    type Future = Working;

    fn call(&self, request: Request<Incoming>) -> Working {
        self.progress.set(Phase::Busy);
        let inner = match head::check(request.uri(), request.headers()) {
            // A router is always ready; cloning it is counting a reference.
            Ok(()) => Inner::Routed(self.router.clone().call(request.map(Body::new))),
            Err(Refusal { code, detail }) => Inner::Refused(Some(refuse(
                code,
                &detail,
                request.headers(),
                &self.metrics,
            ))),
        };
        Working {
            inner,
            progress: Arc::clone(&self.progress),
            draining: Arc::clone(&self.draining),
        }
    }
}

/// An answer to a request that does not come to the router.
fn refuse(code: ErrorCode, detail: &str, headers: &HeaderMap, metrics: &Metrics) -> Response {
    let context = RequestContext::new(headers);
    note_refusal(code, code.http_status(), detail, &context, metrics);
    let mut response = Response::new(Body::from(
        Problem::new(code, detail.to_owned()).to_json(&context),
    ));
    *response.status_mut() =
        StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    // The body was not read: this connection can't carry another request.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    context.write_headers(headers);
    response
}

enum Inner {
    Routed(<Router as Service<Request<Body>>>::Future),
    Refused(Option<Response>),
}

struct Working {
    inner: Inner,
    progress: Arc<Progress>,
    draining: Arc<AtomicBool>,
}

impl Future for Working {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut polled = match &mut self.inner {
            Inner::Routed(routed) => Pin::new(routed).poll(cx),
            // A future is not polled again once it is ready.
            Inner::Refused(response) => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
        };
        if let Poll::Ready(Ok(response)) = &mut polled {
            self.progress.set(Phase::Idle);
            if self.draining.load(Ordering::Relaxed) {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::Router;
    use http::HeaderMap;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        sync::watch,
    };

    use crate::{
        api::{
            accept::ServeOptions,
            context::Context as RequestContext,
            http::serve::{Phase, Progress, farewell_text, serve},
        },
        error::ErrorCode,
        metrics::Metrics,
    };

    #[test]
    fn progress_knows_its_phase() {
        let progress = Progress::new();
        assert_eq!(progress.get().0, Phase::Idle);
        for phase in [Phase::Head, Phase::Busy, Phase::Idle] {
            progress.set(phase);
            assert_eq!(progress.phase(), phase);
            assert!(progress.get().1 < Duration::from_secs(60));
        }
    }

    /// Asks for large answers and reads none of them: the connection is given up, and costs nothing until then.
    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let metrics = Metrics::new(0.0).unwrap();
        let options = ServeOptions {
            read_timeout: Duration::from_secs(60),
            max_connections: 4,
            idle_timeout: Duration::from_millis(200),
            metrics: metrics.clone(),
            draining: Arc::default(),
        };
        let router = Router::new().route("/", axum::routing::get(|| async { "x".repeat(1 << 20) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, router, options, stopped));
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64).as_slice())
            .await
            .unwrap();
        let given_up = async {
            while metrics.server.connections.get() == 0 {
                tokio::task::yield_now().await;
            }
            while metrics.server.connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), given_up)
            .await
            .expect("the connection is still open");
    }

    #[test]
    fn farewells_are_as_long_as_they_say() {
        let context = RequestContext::new(&HeaderMap::new());
        for (code, status) in [(ErrorCode::BodyTimeout, 408), (ErrorCode::Overloaded, 503)] {
            let text = farewell_text(code, "why", &context);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(
                head.contains(&format!("content-length: {}\r\n", body.len())),
                "{head}"
            );
            let document: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(document["request_id"], context.request_id.to_text());
        }
    }
}
