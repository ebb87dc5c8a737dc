//! `MonitoredStream`: the socket of a connection, which notices requests and hyper's own responses.

use std::{
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::api::{
    http::connections::connection_progress::{ConnectionPhase, ConnectionProgress},
    request_head,
};

/// A socket that notices when a request begins to arrive. If hyper refuses a head, this type drops
/// hyper's own response, because it explains nothing. The connection then writes a better response.
pub(super) struct MonitoredStream {
    pub stream: TcpStream,
    progress: Arc<ConnectionProgress>,
    /// Whether one of hyper's own responses was dropped.
    pub has_dropped_refusal: bool,
}

impl MonitoredStream {
    pub(super) fn new(stream: TcpStream, progress: Arc<ConnectionProgress>) -> MonitoredStream {
        MonitoredStream {
            stream,
            progress,
            has_dropped_refusal: false,
        }
    }

    /// The number of bytes before a response that hyper itself created. Such a response is always
    /// the last one on a connection.
    fn own_bytes(&self, bytes: &[u8]) -> usize {
        // While a handler works, hyper writes no response of its own.
        if self.progress.phase() == ConnectionPhase::Busy {
            bytes.len()
        } else {
            request_head::bare_refusal(bytes).unwrap_or(bytes.len())
        }
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        // Bytes that arrive while a handler works belong to the body or to the next request. They
        // don't start a new phase.
        if buffer.filled().len() > before && self.progress.phase() == ConnectionPhase::Idle {
            self.progress.set(ConnectionPhase::Head);
        }
        polled
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.own_bytes(bytes) {
            0 if !bytes.is_empty() => {
                // The bytes are reported as written, so that hyper continues with its shutdown.
                self.has_dropped_refusal = true;
                Poll::Ready(Ok(bytes.len()))
            }
            own => Pin::new(&mut self.stream).poll_write(cx, bytes.get(..own).unwrap_or(bytes)),
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
        match (self.own_bytes(last), slices.get(..at)) {
            (own, _) if own == last.len() => {
                Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
            }
            // The slices before hyper's response are written first. Hyper offers the last slice
            // again.
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
        // The connection writes its own response after hyper has shut down.
        if self.has_dropped_refusal {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
