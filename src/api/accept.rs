//! Accepts connections until the server stops, for every protocol.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::metrics::Metrics;

/// The pause after the process ran out of file descriptors. Without a pause, the loop would spin
/// until a connection closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct ServeOptions {
    /// Time limit for receiving the head of a request, from its first byte.
    pub read_timeout: Duration,
    pub max_connections: usize,
    /// Time that a connection may be silent between requests, or leave a response unread. It should
    /// be longer than the idle timeout of load balancers. If the load balancer closes first, no
    /// request arrives on a connection that the server closes.
    pub idle_timeout: Duration,
    pub metrics: Metrics,
    /// While this flag is set, every response closes its connection, so that clients move to
    /// another server before the listener closes.
    pub draining: Arc<AtomicBool>,
}

/// Passes every connection to `take` until `stop` turns true, and finally the connections that the
/// kernel has already accepted.
pub(super) async fn accept(
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
            // The client closed its connection before it was accepted. Other connections are not
            // affected.
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                tracing::error!(error = %error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Clients that connected before the listener closes are still served. Their connections are
    // accepted directly from the kernel, because tokio's reactor would report them only on its next
    // turn.
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

fn is_client_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
