//! The activity of a connection. It is used to close connections that are idle, or whose client
//! does not read.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tonic::body::Body;

/// Maximum size of a piece of a response that hyper gets at once. Hyper requests the next piece
/// when the client has taken the last one. With larger pieces, the server could not notice that a
/// client stops reading.
const PIECE_BYTES: usize = 64 << 10;

pub(super) struct ConnectionActivity {
    origin: Instant,
    /// The number of calls whose response is not complete.
    open: AtomicUsize,
    /// The number of responses with a piece that the client has not taken yet.
    unread: AtomicUsize,
    /// The time of the last change of `open` or `unread`, in milliseconds since `origin`.
    changed: AtomicU64,
    /// Notified by the first call while the server drains. Its client then moves to another server
    /// before the listener closes.
    pub leave: Notify,
}

impl ConnectionActivity {
    pub(super) fn new() -> ConnectionActivity {
        ConnectionActivity {
            origin: Instant::now(),
            open: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            changed: AtomicU64::new(0),
            leave: Notify::new(),
        }
    }

    fn touch(&self) {
        // Relaxed ordering is enough for all these numbers, because only time limits depend on
        // them.
        self.changed
            .store(self.origin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The time since the last change of `open` or `unread`.
    pub(super) fn quiet_for(&self) -> Duration {
        self.origin
            .elapsed()
            .saturating_sub(Duration::from_millis(self.changed.load(Ordering::Relaxed)))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) > 0
    }
}

/// Counts a call as open, from its headers to the end of its response.
pub(super) struct OpenCall(Arc<ConnectionActivity>);

impl OpenCall {
    pub(super) fn new(activity: &Arc<ConnectionActivity>) -> OpenCall {
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.touch();
        OpenCall(Arc::clone(activity))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// The body of a response, in pieces. The server can observe whether the client takes each piece.
pub(super) struct ResponseBody {
    inner: Body,
    rest: Bytes,
    /// Whether hyper still holds the last piece: it has not requested the next one.
    is_unread: bool,
    open: OpenCall,
}

impl ResponseBody {
    pub(super) fn new(inner: Body, open: OpenCall) -> ResponseBody {
        ResponseBody {
            inner,
            rest: Bytes::new(),
            is_unread: false,
            open,
        }
    }

    fn set_unread(&mut self, is_unread: bool) {
        if self.is_unread != is_unread {
            self.is_unread = is_unread;
            let activity = &self.open.0;
            if is_unread {
                activity.unread.fetch_add(1, Ordering::Relaxed)
            } else {
                activity.unread.fetch_sub(1, Ordering::Relaxed)
            };
            activity.touch();
        }
    }

    fn next_piece(&mut self) -> Frame<Bytes> {
        self.set_unread(true);
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE_BYTES)))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.set_unread(false);
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next_piece())));
        }
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    Poll::Ready(Some(Ok(self.next_piece())))
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.set_unread(false);
    }
}
