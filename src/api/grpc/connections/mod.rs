//! The connections of the gRPC listener. Their number and their idle time are limited.

mod activity;
mod service;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api::{
        accept::{ServeOptions, accept},
        grpc::{
            Services,
            connections::{activity::ConnectionActivity, service::GrpcConnectionService},
        },
        request_head,
    },
    error::ErrorCode,
    metrics::Protocol,
};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

/// The first bytes of every HTTP/2 connection (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The interval of checks for the rest of an incomplete preface.
const PREFACE_TICK: Duration = Duration::from_millis(10);

/// Time that a client may leave a response unread. It applies even if a longer silence is allowed.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Time that a client has to close an idle connection after the server sent GOAWAY.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of checks of a connection per shortest time limit. A limit is noticed with a delay of at
/// most one eighth of it.
const CHECKS_PER_TIMEOUT: u32 = 8;

/// The interval of pings. A ping without an answer shows that the client disappeared without
/// closing the connection.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The response to a client that speaks HTTP/1.
const HTTP1_RESPONSE: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
                                content-type: text/plain\r\n\
                                content-length: 35\r\n\
                                connection: close\r\n\r\n\
                                this port speaks gRPC, over HTTP/2\n";
const HTTP1_RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum number of unread bytes that a client may send, on one stream and on all streams of a
/// connection. The limit for the connection is larger, so that one unread stream does not block the
/// others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Maximum number of concurrent calls on one connection. Clients queue further calls. This limits
/// memory, because each call may hold messages and responses.
const MAX_STREAMS: u32 = 256;

/// Maximum size of the header fields, in the way HTTP/2 counts it. The library refuses larger
/// headers with status 431 and no body.
const MAX_HEADER_LIST: u32 = request_head::MAX_PARSED_BYTES as u32;

/// Accepts connections until `stop` turns true. Returns when every connection has finished its
/// calls.
pub(crate) async fn serve(
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
        // If there is no free slot, the connection is closed at once, because gRPC has no error
        // response outside of a call.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            return options.metrics.unrouted().observe_error(
                Protocol::Grpc,
                ErrorCode::Overloaded,
                ErrorCode::Overloaded.http_status(),
                Duration::ZERO,
            );
        };
        let connection = GrpcConnection {
            services: services.clone(),
            options: options.clone(),
            stop: stopped.clone(),
            _slot: slot,
        };
        tokio::spawn(connection.run(stream));
    };
    accept(listener, &mut stop, take).await;
    // All slots are free once all connections have ended.
    let _ = slots.acquire_many(all).await;
}

struct GrpcConnection {
    services: Services,
    options: ServeOptions,
    stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl GrpcConnection {
    async fn run(self, mut stream: TcpStream) {
        self.options.metrics.server.connections.inc();
        // Responses are written as a whole. Waiting for more bytes to fill a packet would only
        // delay them.
        let _ = stream.set_nodelay(true);
        match tokio::time::timeout(self.options.read_timeout, has_preface(&stream)).await {
            Ok(Ok(true)) => self.serve(stream).await,
            Ok(Ok(false)) => drop(
                tokio::time::timeout(HTTP1_RESPONSE_TIMEOUT, stream.write_all(HTTP1_RESPONSE))
                    .await,
            ),
            // The client sent nothing in time, or disconnected, so nobody would receive a response.
            Ok(Err(_)) | Err(_) => {}
        }
        self.options.metrics.server.connections.dec();
    }

    async fn serve(&self, stream: TcpStream) {
        let activity = Arc::new(ConnectionActivity::new());
        let service = GrpcConnectionService {
            services: self.services.clone(),
            activity: Arc::clone(&activity),
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
        let shortest = self.options.idle_timeout.min(LEAVE_TIMEOUT);
        let mut check = tokio::time::interval(shortest / CHECKS_PER_TIMEOUT);
        loop {
            let leave = tokio::select! {
                // Check the connection first: when it ends, all other events are irrelevant.
                biased;
                // If the connection is broken, nobody needs a response, and its calls were counted.
                _ = &mut connection => return,
                _ = stop.wait_for(|stop| *stop), if leaving.is_none() => true,
                () = activity.leave.notified(), if leaving.is_none() => true,
                _ = check.tick() => match self.check(&activity, leaving) {
                    GrpcConnectionCheck::Close => return,
                    GrpcConnectionCheck::Leave => true,
                    GrpcConnectionCheck::Keep => false,
                },
            };
            if leave {
                leaving = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }

    /// Compares the activity of the connection with its time limits. `leaving`: the time at which
    /// the server sent GOAWAY to the client.
    fn check(
        &self,
        activity: &ConnectionActivity,
        leaving: Option<Instant>,
    ) -> GrpcConnectionCheck {
        let idle_timeout = self.options.idle_timeout;
        let quiet_for = activity.quiet_for();
        if activity.is_unread() && quiet_for >= idle_timeout.min(UNREAD_TIMEOUT) {
            return GrpcConnectionCheck::Close;
        }
        match leaving {
            Some(since) if activity.is_idle() && since.elapsed() >= LEAVE_TIMEOUT => {
                GrpcConnectionCheck::Close
            }
            None if activity.is_idle() && quiet_for >= idle_timeout => GrpcConnectionCheck::Leave,
            _ => GrpcConnectionCheck::Keep,
        }
    }
}

/// The result of checking a connection.
enum GrpcConnectionCheck {
    Keep,
    /// Ask the client to close the connection.
    Leave,
    Close,
}

/// Whether the client speaks HTTP/2. Waits until the preface is complete or wrong.
async fn has_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        let received = start.get(..length).unwrap_or_default();
        if !PREFACE.starts_with(received) {
            return Ok(false);
        }
        match length {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length if length == PREFACE.len() => return Ok(true),
            // Peeked bytes stay in the socket, so the socket already counts as readable, and
            // waiting for readability would return at once.
            _ => tokio::time::sleep(PREFACE_TICK).await,
        }
    }
}

#[cfg(test)]
mod tests;
