//! Accept: taking connections until the server stops; what is spoken on them is the caller's matter.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::metrics::Metrics;

/// How long to wait after the kernel refused a connection for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct ServeOptions {
    /// For a request's head to arrive, from its first byte.
    pub read_timeout: Duration,
    pub max_connections: usize,
    /// How long a connection may be silent between requests, or leave an answer unread: longer than load balancers keep theirs, so
    /// that it is they who close, and no request meets a closing connection.
    pub idle_timeout: Duration,
    pub metrics: Metrics,
    /// While it is set every answer closes its connection, so that clients go elsewhere before the listener is gone.
    pub draining: Arc<AtomicBool>,
}

/// Hands over every connection until `stop` turns true, and then those that are already there.
pub async fn accept(
    listener: TcpListener,
    stop: &mut watch::Receiver<bool>,
    take: impl Fn(TcpStream),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => take(stream),
            // One client's failure is not ours; being out of descriptors passes.
            Err(error) if is_clients(&error) => {}
            Err(error) => {
                tracing::error!(error = %error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Whoever connected before the listener closes is still served. The kernel is asked itself: the reactor knows of a
    // connection only after its next turn.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(stream) = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
            {
                take(stream);
            }
        }
    }
}

fn is_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
