//! `SegmentedBody`: a response body of several buffers, which are sent one after the other without
//! a copy.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

pub(super) struct SegmentedBody {
    segments: VecDeque<Bytes>,
    /// The number of bytes in `segments`. It becomes the content length of the response.
    left: u64,
}

impl SegmentedBody {
    pub(super) fn new(text: Vec<u8>, tensors: Vec<Bytes>) -> SegmentedBody {
        let segments: VecDeque<Bytes> = std::iter::once(Bytes::from(text))
            .chain(tensors)
            // An empty segment would cause a needless write.
            .filter(|segment| !segment.is_empty())
            .collect();
        let left = segments.iter().map(|segment| segment.len() as u64).sum();
        SegmentedBody { segments, left }
    }
}

impl Body for SegmentedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let segment = self.segments.pop_front();
        self.left -= segment.as_ref().map_or(0, |segment| segment.len() as u64);
        Poll::Ready(segment.map(|segment| Ok(Frame::data(segment))))
    }

    fn is_end_stream(&self) -> bool {
        self.segments.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use hyper::body::Body;

    use crate::api::http::segmented_body::SegmentedBody;

    #[tokio::test]
    async fn segments_are_sent_without_a_copy() {
        let data = Bytes::from(vec![7u8; 100]);
        let mut body = SegmentedBody::new(b"head".to_vec(), vec![data.clone(), Bytes::new()]);
        assert_eq!(body.size_hint().exact(), Some(104));
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(frames, [Bytes::from_static(b"head"), data.clone()]);
        assert_eq!(frames[1].as_ptr(), data.as_ptr());
        assert!(body.is_end_stream());
    }
}
