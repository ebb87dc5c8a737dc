//! Paced: a call's body whose client may not be silent for ever.

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

pub struct Paced {
    inner: Incoming,
    patience: Duration,
    /// Since nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub fn new(inner: Incoming, patience: Duration) -> Paced {
        Paced {
            inner,
            patience,
            silence: None,
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        silence.as_mut().poll(context).map(|()| {
            let told = Status::deadline_exceeded(format!(
                "nothing came within {} ms",
                patience.as_millis()
            ));
            Some(Err(told.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
