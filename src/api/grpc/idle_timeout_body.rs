//! `IdleTimeoutBody`: the body of a call. It fails if its client sends nothing for too long.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

pub(super) struct IdleTimeoutBody {
    inner: Incoming,
    idle_timeout: Duration,
    /// A timer for the time since the last frame. `None` if data has just arrived.
    silence: Option<Pin<Box<Sleep>>>,
}

impl IdleTimeoutBody {
    pub(super) fn new(inner: Incoming, idle_timeout: Duration) -> IdleTimeoutBody {
        IdleTimeoutBody {
            inner,
            idle_timeout,
            silence: None,
        }
    }
}

impl Body for IdleTimeoutBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // A timer is created only if there is nothing to read, because most bodies arrive without a
        // pause.
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle_timeout = self.idle_timeout;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(sleep(idle_timeout)));
        silence.as_mut().poll(context).map(|()| {
            let status = Status::deadline_exceeded(format!(
                "nothing arrived within {} ms",
                idle_timeout.as_millis()
            ));
            Some(Err(status.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
