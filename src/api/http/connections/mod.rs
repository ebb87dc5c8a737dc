//! The connections of an HTTP listener. Their number and their time are limited, unlike with
//! `axum::serve`.

mod connection_progress;
mod connection_refusal;
mod monitored_stream;
mod service;

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};

use crate::{
    api::{
        accept::{ServeOptions, accept},
        http::connections::{
            connection_progress::{ConnectionPhase, ConnectionProgress},
            connection_refusal::{refuse_connection, refuse_unparsed},
            monitored_stream::MonitoredStream,
            service::HttpConnectionService,
        },
        refusal::Refusal,
        request_head,
    },
    error::ErrorCode,
};

/// After the stop: the time that a connection may be silent, and the interval of checks.
const STOP_IDLE: Duration = Duration::from_millis(1000);
const STOP_TICK: Duration = Duration::from_millis(100);

/// Number of checks of a connection per shortest time limit. A limit is noticed with a delay of at
/// most a quarter of it.
const CHECKS_PER_TIMEOUT: u32 = 4;

/// Accepts connections until `stop` turns true. Returns when every connection has finished its
/// request.
pub(crate) async fn serve(
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
            let connection = HttpConnection {
                router: router.clone(),
                options: options.clone(),
                stop: stopped.clone(),
                _slot: slot,
            };
            tokio::spawn(connection.run(stream));
        }
        Err(_) => {
            let refusal = Refusal::new(ErrorCode::Overloaded, "too many open connections");
            let metrics = options.metrics.clone();
            tokio::spawn(refuse_connection(stream, refusal, metrics));
        }
    };
    accept(listener, &mut stop, take).await;
    // All slots are free once all connections have ended.
    let _ = slots.acquire_many(all).await;
}

struct HttpConnection {
    router: Router,
    options: ServeOptions,
    stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

/// The end of a connection.
enum ConnectionEnd {
    /// The connection is closed, and nothing is left to write.
    Closed,
    /// The head of a request did not arrive in time.
    TimedOut(TcpStream),
    /// Hyper could not parse a request. `is_unanswered`: whether hyper's own response was dropped.
    Unparsed {
        stream: TcpStream,
        refusal: Refusal,
        is_unanswered: bool,
    },
}

impl HttpConnection {
    async fn run(self, stream: TcpStream) {
        let metrics = self.options.metrics.clone();
        metrics.server.connections.inc();
        // Responses are written as a whole. Waiting for more bytes to fill a packet would only
        // delay them.
        let _ = stream.set_nodelay(true);
        match self.serve(stream).await {
            ConnectionEnd::Closed => {}
            ConnectionEnd::TimedOut(stream) => {
                let refusal =
                    Refusal::new(ErrorCode::BodyTimeout, "the head did not arrive in time");
                refuse_connection(stream, refusal, metrics.clone()).await;
            }
            ConnectionEnd::Unparsed {
                stream,
                refusal,
                is_unanswered,
            } => refuse_unparsed(stream, refusal, is_unanswered, metrics.clone()).await,
        }
        metrics.server.connections.dec();
    }

    /// Answers the requests of a connection until it ends or a time limit passes.
    async fn serve(&self, stream: TcpStream) -> ConnectionEnd {
        let progress = Arc::new(ConnectionProgress::new());
        let io = TokioIo::new(MonitoredStream::new(stream, Arc::clone(&progress)));
        let service = HttpConnectionService {
            router: self.router.clone(),
            progress: Arc::clone(&progress),
            draining: Arc::clone(&self.options.draining),
            metrics: self.options.metrics.clone(),
        };
        let mut builder = http1::Builder::new();
        // `pipeline_flush` is not set. With it, hyper would write neither the response to a head
        // that it refuses nor the responses before it.
        builder.max_header_size(request_head::MAX_PARSED_BYTES);
        let mut connection = builder.serve_connection(io, service);
        let mut stop = self.stop.clone();
        let mut stopping = *stop.borrow();
        let mut check = Box::pin(sleep(self.check_every()));
        let ended = loop {
            let is_check_due = tokio::select! {
                // Poll the connection first, so that a finished response is written even if a time
                // limit passes at the same moment.
                biased;
                ended = &mut connection => break ended,
                _ = stop.wait_for(|stop| *stop), if !stopping => false,
                () = &mut check => true,
            };
            if !is_check_due {
                // The time limits are shorter after the stop, so the next check comes earlier.
                stopping = true;
                check.as_mut().reset(Instant::now() + STOP_TICK);
                continue;
            }
            match self.check(&progress, stopping) {
                HttpConnectionCheck::Keep(next) => check.as_mut().reset(Instant::now() + next),
                HttpConnectionCheck::Close => return ConnectionEnd::Closed,
                HttpConnectionCheck::TimedOut => {
                    let stream = connection.into_parts().io.into_inner();
                    return ConnectionEnd::TimedOut(stream.stream);
                }
            }
        };
        match ended {
            Err(error) if error.is_parse() => {
                let parts = connection.into_parts();
                let stream = parts.io.into_inner();
                ConnectionEnd::Unparsed {
                    refusal: request_head::explain(&error, &parts.read_buf),
                    is_unanswered: stream.has_dropped_refusal,
                    stream: stream.stream,
                }
            }
            // If the connection is broken, nobody needs a response, and its requests were counted.
            _ => ConnectionEnd::Closed,
        }
    }

    fn check_every(&self) -> Duration {
        self.options.read_timeout.min(self.options.idle_timeout) / CHECKS_PER_TIMEOUT
    }

    /// Compares the phase of the connection with its time limits.
    fn check(&self, progress: &ConnectionProgress, stopping: bool) -> HttpConnectionCheck {
        // A draining server closes each connection with its next response. A connection without a
        // request is closed a moment later: hyper's graceful shutdown would close it at once,
        // although a request may be on its way.
        let idle_timeout = if stopping {
            STOP_IDLE.min(self.options.idle_timeout)
        } else {
            self.options.idle_timeout
        };
        match progress.get() {
            (ConnectionPhase::Head, elapsed) if elapsed >= self.options.read_timeout => {
                HttpConnectionCheck::TimedOut
            }
            (ConnectionPhase::Idle, elapsed) if elapsed >= idle_timeout => {
                HttpConnectionCheck::Close
            }
            _ if stopping => HttpConnectionCheck::Keep(STOP_TICK),
            _ => HttpConnectionCheck::Keep(self.check_every()),
        }
    }
}

/// The result of checking a connection.
enum HttpConnectionCheck {
    /// The next check is due after this time.
    Keep(Duration),
    Close,
    TimedOut,
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::Router;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        sync::watch,
    };

    use crate::{
        api::{accept::ServeOptions, http::connections::serve},
        metrics::Metrics,
    };

    /// The client requests large responses and reads none of them.
    #[tokio::test]
    async fn a_connection_whose_client_does_not_read_is_closed() {
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
        let closed = async {
            while metrics.server.connections.get() == 0 {
                tokio::task::yield_now().await;
            }
            while metrics.server.connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), closed)
            .await
            .expect("the connection is still open");
    }
}
