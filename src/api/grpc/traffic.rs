//! Traffic: what a connection carries, so that one that carries nothing, or whose client does not read, can be given up.

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

/// Answers are handed over in pieces of this size, so that one that the client does not take stays in sight.
const PIECE: usize = 64 << 10;

/// What a connection carries at the moment.
pub struct Traffic {
    origin: Instant,
    /// Calls that are not answered whole.
    open: AtomicUsize,
    /// Answers of which the client has a piece that it does not take.
    unread: AtomicUsize,
    /// Milliseconds from the origin to the last change of these.
    changed: AtomicU64,
    /// ErrorReport when the server drains: clients go elsewhere before the listener is gone.
    pub leave: Notify,
}

impl Traffic {
    pub fn new() -> Traffic {
        Traffic {
            origin: Instant::now(),
            open: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            changed: AtomicU64::new(0),
            leave: Notify::new(),
        }
    }

    fn touch(&self) {
        self.changed
            .store(self.origin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub fn quiet_for(&self) -> Duration {
        self.origin
            .elapsed()
            .saturating_sub(Duration::from_millis(self.changed.load(Ordering::Relaxed)))
    }

    pub fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) > 0
    }
}

/// One call, from its headers to the end of its answer.
pub struct Open(Arc<Traffic>);

impl Open {
    pub fn new(traffic: &Arc<Traffic>) -> Open {
        traffic.open.fetch_add(1, Ordering::Relaxed);
        traffic.touch();
        Open(Arc::clone(traffic))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// An answer's body, piece by piece.
pub struct Answer {
    inner: Body,
    rest: Bytes,
    /// A piece was handed over, and nobody has come back for the next.
    is_handed: bool,
    open: Open,
}

impl Answer {
    pub fn new(inner: Body, open: Open) -> Answer {
        Answer {
            inner,
            rest: Bytes::new(),
            is_handed: false,
            open,
        }
    }

    fn set_handed(&mut self, is_handed: bool) {
        if self.is_handed != is_handed {
            self.is_handed = is_handed;
            let traffic = &self.open.0;
            if is_handed {
                traffic.unread.fetch_add(1, Ordering::Relaxed)
            } else {
                traffic.unread.fetch_sub(1, Ordering::Relaxed)
            };
            traffic.touch();
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        self.set_handed(true);
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE)))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.set_handed(false);
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    Poll::Ready(Some(Ok(self.piece())))
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

impl Drop for Answer {
    fn drop(&mut self) {
        self.set_handed(false);
    }
}
