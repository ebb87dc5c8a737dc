//! Writes response messages and bodies, without copying large tensors.

use std::{
    convert::Infallible,
    num::TryFromIntError,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body, Frame};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use crate::{
    api::{
        admission::Admission,
        grpc::inference::{ModelInferResponse, ModelStreamInferResponse},
        refusal::Refusal,
    },
    error::ErrorCode,
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The length of a message's header: one byte for a flag, and a 32-bit length.
pub(super) const HEADER_BYTES: usize = 5;

/// Numbers of fields in `proto/open_inference.proto`. A test compares them with the generated code.
const RAW_OUTPUT_CONTENTS: u32 = 6;
const INFER_RESPONSE: u32 = 2;

/// Maximum size of the key and the length of a field, or of the header of the message.
const FIELD_HEADER_BYTES: usize = 10;

/// Tensors below this size are copied into the message, because a separate segment costs more than
/// the copy.
const COPIED_BYTES: usize = 4 << 10;

/// The kind of call that a response belongs to. Streams wrap each response in another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Unary,
    Stream,
}

/// Writes the message for an error in a stream.
pub(super) fn write_stream_error(
    message: &ModelStreamInferResponse,
) -> Result<Vec<Bytes>, Refusal> {
    let mut text = BytesMut::with_capacity(HEADER_BYTES + message.encoded_len());
    text.put_u8(0);
    text.put_u32(u32::try_from(message.encoded_len()).map_err(too_large)?);
    message.encode_raw(&mut text);
    Ok(vec![text.freeze()])
}

fn too_large(_: TryFromIntError) -> Refusal {
    Refusal::new(
        ErrorCode::Internal,
        "the response is larger than a message can be",
    )
}

/// Writes a message with its header, in segments. Large tensors are not copied, unlike with prost's
/// encoder.
pub(super) fn write(
    mut response: ModelInferResponse,
    kind: CallKind,
) -> Result<Vec<Bytes>, Refusal> {
    // The raw contents are written separately, after the other fields. Protobuf allows fields in
    // any order.
    let raw = std::mem::take(&mut response.raw_output_contents);
    // The key of a field with a number below 16 is one byte.
    let field = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let inner = response.encoded_len() + raw.iter().map(|bytes| field(bytes.len())).sum::<usize>();
    let length = if kind == CallKind::Stream {
        field(inner)
    } else {
        inner
    };
    let copied: usize = raw
        .iter()
        .map(|bytes| {
            if bytes.len() < COPIED_BYTES {
                bytes.len()
            } else {
                0
            }
        })
        .sum();
    let keys = (raw.len() + 2) * FIELD_HEADER_BYTES;
    let mut text = BytesMut::with_capacity(response.encoded_len() + copied + keys);
    // Messages are never compressed: floats hardly become smaller, and a client does not have to
    // support compression.
    text.put_u8(0);
    text.put_u32(u32::try_from(length).map_err(too_large)?);
    let key = |number: u32, length: usize, text: &mut BytesMut| {
        encode_key(number, WireType::LengthDelimited, text);
        encode_varint(length as u64, text);
    };
    if kind == CallKind::Stream {
        key(INFER_RESPONSE, inner, &mut text);
    }
    response.encode_raw(&mut text);
    let mut segments = Vec::with_capacity(1);
    for bytes in raw {
        key(RAW_OUTPUT_CONTENTS, bytes.len(), &mut text);
        if bytes.len() < COPIED_BYTES {
            text.extend_from_slice(&bytes);
        } else {
            segments.push(text.split().freeze());
            segments.push(bytes);
        }
    }
    if !text.is_empty() {
        segments.push(text.freeze());
    }
    Ok(segments)
}

/// The body of a successful response: one message and the trailers.
pub(super) struct UnaryBody {
    segments: std::vec::IntoIter<Bytes>,
    /// The admission of the request. It is kept until the client can receive the last segment. Thus
    /// a response that its client does not read still counts as a request in flight.
    admission: Option<Admission>,
    is_done: bool,
}

impl UnaryBody {
    pub(super) fn new(segments: Vec<Bytes>, admission: Option<Admission>) -> UnaryBody {
        UnaryBody {
            segments: segments.into_iter(),
            admission,
            is_done: false,
        }
    }
}

impl Body for UnaryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(segment) = self.segments.next() {
            return Poll::Ready(Some(Ok(Frame::data(segment))));
        }
        // Drop the admission before the client gets the end of the response: the client may send
        // its next request at once.
        self.admission = None;
        let is_done = std::mem::replace(&mut self.is_done, true);
        Poll::Ready((!is_done).then(|| Ok(Frame::trailers(ok_trailers()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }
}

/// The trailers of a successful call.
pub(super) fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use http_body_util::BodyExt;
    use prost::Message;

    use crate::api::grpc::{
        inference::{ModelInferResponse, ModelStreamInferResponse},
        message_writer::{COPIED_BYTES, CallKind, HEADER_BYTES, UnaryBody, write},
    };

    fn response() -> ModelInferResponse {
        ModelInferResponse {
            model_name: "m".to_owned(),
            id: "7".to_owned(),
            raw_output_contents: vec![
                Bytes::new(),
                Bytes::from(vec![1; 3]),
                Bytes::from(vec![2; COPIED_BYTES]),
                Bytes::from(vec![3; 300 << 10]),
            ],
            ..ModelInferResponse::default()
        }
    }

    #[test]
    fn the_generated_code_reads_written_messages() {
        for kind in [CallKind::Unary, CallKind::Stream] {
            let (given, large) = (response(), 3);
            let segments = write(given.clone(), kind).unwrap();
            assert!(
                segments
                    .iter()
                    .any(|segment| segment.as_ptr() == given.raw_output_contents[large].as_ptr()),
                "a large tensor is copied"
            );
            let mut bytes = Bytes::from(segments.concat());
            assert_eq!((bytes.get_u8(), bytes.get_u32() as usize), (0, bytes.len()));
            let read = match kind {
                CallKind::Unary => ModelInferResponse::decode(bytes).unwrap(),
                CallKind::Stream => ModelStreamInferResponse::decode(bytes)
                    .unwrap()
                    .infer_response
                    .unwrap(),
            };
            assert_eq!(read, response());
        }
    }

    #[tokio::test]
    async fn a_response_ends_with_its_status() {
        let collected = UnaryBody::new(write(response(), CallKind::Unary).unwrap(), None)
            .collect()
            .await
            .unwrap();
        assert_eq!(
            collected.trailers().unwrap().get("grpc-status").unwrap(),
            "0"
        );
        assert_eq!(
            collected.to_bytes().len(),
            HEADER_BYTES + response().encoded_len()
        );
    }
}
