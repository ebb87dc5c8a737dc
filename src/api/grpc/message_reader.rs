//! `MessageReader`: reads the messages in the body of a call. Each message follows a flag and its
//! length (gRPC over HTTP/2, `Length-Prefixed-Message`).

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Body;
use prost::Message;

use crate::{
    api::{
        decompress::decompress,
        grpc::{
            chunked_bytes::ChunkedBytes, inference::ModelInferRequest,
            message_writer::HEADER_BYTES, part_count,
        },
        refusal::Refusal,
    },
    error::ErrorCode,
};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

const CUT_OFF: &str = "the message ended before its end";

/// A complete message that is not decoded yet.
#[derive(Debug)]
pub(super) struct ReceivedMessage {
    bytes: ChunkedBytes,
    /// The compression. `None` if the message is not compressed.
    compression: Option<Compression>,
}

impl ReceivedMessage {
    /// The number of bytes that decoding reads. A compressed message counts as heavy, because its
    /// size is unknown.
    pub(super) fn weight(&self) -> usize {
        if self.compression.is_some() {
            usize::MAX
        } else {
            self.bytes.remaining()
        }
    }

    pub(super) fn decode(self) -> Result<ModelInferRequest, Refusal> {
        let mut bytes = self.bytes;
        if let Some(compression) = self.compression {
            // Decompressors can read only from one slice.
            let compressed = bytes.copy_to_bytes(bytes.remaining());
            let encoding = compression.encoding.to_str().unwrap_or_default();
            bytes = ChunkedBytes::default();
            bytes.push(decompress(encoding, &compressed, compression.max_bytes)?);
        }
        // The parts are counted after decompression, because a few compressed bytes can contain
        // many parts.
        if bytes.remaining() > part_count::UNCHECKED_BYTES {
            part_count::check(bytes.clone())?;
        }
        // The library's error is dropped, because it may quote bytes of the message.
        ModelInferRequest::decode(bytes)
            .map_err(|_| Refusal::malformed("the message is not a ModelInferRequest"))
    }
}

/// The encoding of a compressed message, and its maximum size.
#[derive(Debug)]
struct Compression {
    encoding: HeaderValue,
    max_bytes: usize,
}

/// The header of a message.
pub(super) struct MessageHeader {
    length: usize,
    compression: Option<Compression>,
}

/// Reads the messages of a call from its body.
pub(super) struct MessageReader<B> {
    body: B,
    arrived: ChunkedBytes,
    encoding: Option<HeaderValue>,
    max_bytes: usize,
}

impl<B: Body<Data = Bytes> + Unpin> MessageReader<B> {
    pub(super) fn new(
        body: B,
        headers: &HeaderMap,
        max_bytes: usize,
    ) -> Result<MessageReader<B>, Refusal> {
        let encoding = headers
            .get(GRPC_ENCODING)
            .filter(|value| *value != "identity")
            .cloned();
        if encoding.as_ref().is_some_and(|value| {
            !["gzip", "deflate", "zstd"]
                .iter()
                .any(|known| value == known)
        }) {
            return Err(Refusal::new(
                ErrorCode::Unsupported,
                "grpc-encoding must be gzip, deflate or zstd",
            ));
        }
        Ok(MessageReader {
            body,
            arrived: ChunkedBytes::default(),
            encoding,
            max_bytes,
        })
    }

    /// Waits for the first byte of the next message. Returns false at the end of the body.
    pub(super) async fn has_more(&mut self) -> Result<bool, Refusal> {
        while self.arrived.remaining() == 0 {
            if !self.receive().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the next message. `None` at the end of the body.
    pub(super) async fn next(&mut self) -> Result<Option<ReceivedMessage>, Refusal> {
        match self.next_header().await? {
            Some(header) => self.read(header).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the header of the next message. `None` at the end of the body. The caller must then
    /// read or skip that message.
    pub(super) async fn next_header(&mut self) -> Result<Option<MessageHeader>, Refusal> {
        if !self.has_more().await? {
            return Ok(None);
        }
        self.fill_to(HEADER_BYTES).await?;
        let (flag, length) = (self.arrived.get_u8(), self.arrived.get_u32() as usize);
        // The message is refused by its declared length, before it takes memory.
        if length > self.max_bytes {
            return Err(Refusal::new(
                ErrorCode::BodyTooLarge,
                format!("a message may have at most {} bytes", self.max_bytes),
            ));
        }
        let compression = match (flag, &self.encoding) {
            (0, _) => None,
            (1, Some(encoding)) => Some(Compression {
                encoding: encoding.clone(),
                max_bytes: self.max_bytes,
            }),
            _ => {
                return Err(Refusal::malformed(
                    "the compression flag of the message contradicts grpc-encoding",
                ));
            }
        };
        Ok(Some(MessageHeader {
            length,
            compression,
        }))
    }

    /// Reads the message with this header.
    pub(super) async fn read(&mut self, header: MessageHeader) -> Result<ReceivedMessage, Refusal> {
        self.fill_to(header.length).await?;
        Ok(ReceivedMessage {
            bytes: self.arrived.take_first(header.length),
            compression: header.compression,
        })
    }

    /// Skips the message with this header. Its bytes are dropped as they arrive.
    pub(super) async fn skip(&mut self, header: MessageHeader) -> Result<(), Refusal> {
        let mut left = header.length;
        loop {
            left -= self.arrived.take_first(left).remaining();
            if left == 0 {
                return Ok(());
            }
            if !self.receive().await? {
                return Err(cut_off());
            }
        }
    }

    /// Returns the message of a call that takes exactly one message.
    pub(super) async fn only(&mut self) -> Result<ReceivedMessage, Refusal> {
        let one =
            |count: &str| Refusal::malformed(format!("the call takes one message, got {count}"));
        let message = self.next().await?.ok_or_else(|| one("none"))?;
        if self.has_more().await? {
            Err(one("more"))
        } else {
            Ok(message)
        }
    }

    /// Receives until `length` bytes have arrived.
    async fn fill_to(&mut self, length: usize) -> Result<(), Refusal> {
        while self.arrived.remaining() < length {
            if !self.receive().await? {
                return Err(cut_off());
            }
        }
        Ok(())
    }

    /// Receives the next frame of the body. Returns false at the end of the body.
    async fn receive(&mut self) -> Result<bool, Refusal> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        // This error means that the client cancelled the call or closed the connection.
        let frame = frame.map_err(|_| Refusal::new(ErrorCode::Cancelled, CUT_OFF))?;
        // A frame without data contains trailers, which are not part of a message.
        if let Ok(data) = frame.into_data() {
            self.arrived.push(data);
        }
        Ok(true)
    }
}

fn cut_off() -> Refusal {
    Refusal::malformed(CUT_OFF)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use prost::Message;

    use crate::{
        api::{
            grpc::{
                inference::ModelInferRequest,
                message_reader::{GRPC_ENCODING, MessageReader, ReceivedMessage},
            },
            refusal::Refusal,
        },
        error::ErrorCode,
    };

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [
            &[flag],
            &u32::try_from(message.len()).unwrap().to_be_bytes()[..],
            message,
        ]
        .concat()
    }

    /// Returns the messages of a body that arrives in frames of `size` bytes.
    async fn received(
        body: &[u8],
        size: usize,
        encoding: Option<&'static str>,
    ) -> Result<Vec<ReceivedMessage>, Refusal> {
        let frames: Vec<Result<_, Infallible>> = body
            .chunks(size)
            .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        let headers: HeaderMap = encoding
            .map(|name| (GRPC_ENCODING, HeaderValue::from_static(name)))
            .into_iter()
            .collect();
        let mut messages = MessageReader::new(
            StreamBody::new(futures_util::stream::iter(frames)),
            &headers,
            1000,
        )?;
        let mut all = Vec::new();
        while let Some(message) = messages.next().await? {
            all.push(message);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn messages_may_arrive_in_any_frames() {
        let request = ModelInferRequest {
            raw_input_contents: vec![Bytes::from(vec![9; 100])],
            ..ModelInferRequest::default()
        };
        let body = [
            framed(0, &request.encode_to_vec()),
            framed(0, b""),
            framed(0, &request.encode_to_vec()),
        ]
        .concat();
        for size in [1, 2, 7, 104, body.len()] {
            let messages = received(&body, size, None).await.unwrap();
            let decoded = messages
                .into_iter()
                .map(|message| message.decode().unwrap());
            let empty = ModelInferRequest::default();
            assert_eq!(
                decoded.collect::<Vec<_>>(),
                [request.clone(), empty, request.clone()],
                "{size}"
            );
        }
    }

    #[tokio::test]
    async fn the_message_after_a_skipped_one_is_read() {
        let body = [framed(0, &[9; 300]), framed(0, b""), framed(0, b"")].concat();
        for size in [1, 7, 305, body.len()] {
            let frames: Vec<Result<_, Infallible>> = body
                .chunks(size)
                .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
                .collect();
            let mut messages = MessageReader::new(
                StreamBody::new(futures_util::stream::iter(frames)),
                &HeaderMap::new(),
                1000,
            )
            .unwrap();
            for _ in 0..2 {
                let header = messages.next_header().await.unwrap().unwrap();
                messages.skip(header).await.unwrap();
            }
            assert_eq!(
                messages.next().await.unwrap().unwrap().weight(),
                0,
                "{size}"
            );
            assert!(messages.next().await.unwrap().is_none(), "{size}");
        }
        let frames = vec![Ok::<_, Infallible>(Frame::data(Bytes::from(
            framed(0, b"abc")[..7].to_vec(),
        )))];
        let mut messages = MessageReader::new(
            StreamBody::new(futures_util::stream::iter(frames)),
            &HeaderMap::new(),
            1000,
        )
        .unwrap();
        let header = messages.next_header().await.unwrap().unwrap();
        assert_eq!(
            messages.skip(header).await.unwrap_err().code,
            ErrorCode::Malformed
        );
    }

    #[tokio::test]
    async fn invalid_messages_are_refused() {
        let cases = [
            (framed(0, &[0; 1001]), None, ErrorCode::BodyTooLarge),
            (framed(2, b""), None, ErrorCode::Malformed),
            (framed(1, b""), None, ErrorCode::Malformed),
            (framed(1, b""), Some("identity"), ErrorCode::Malformed),
            (framed(0, b""), Some("snappy"), ErrorCode::Unsupported),
            (framed(0, b"abc")[..7].to_vec(), None, ErrorCode::Malformed),
            (vec![0, 0], None, ErrorCode::Malformed),
        ];
        for (body, encoding, code) in cases {
            assert_eq!(
                received(&body, 3, encoding).await.unwrap_err().code,
                code,
                "{body:?} {encoding:?}"
            );
        }
    }

    #[tokio::test]
    async fn decompression_has_the_same_limit() {
        let request = |length| {
            ModelInferRequest {
                id: "x".repeat(length),
                ..ModelInferRequest::default()
            }
            .encode_to_vec()
        };
        for (length, good) in [(900, true), (100_000, false)] {
            let body = framed(1, &zstd::encode_all(&request(length)[..], 3).unwrap());
            let message = received(&body, body.len(), Some("zstd"))
                .await
                .unwrap()
                .pop()
                .unwrap();
            let decoded = message.decode();
            assert_eq!(
                decoded
                    .map_err(|refusal| refusal.code)
                    .map(|request| request.id.len()),
                if good {
                    Ok(length)
                } else {
                    Err(ErrorCode::BodyTooLarge)
                }
            );
        }
        let body = framed(1, b"not compressed at all");
        let message = received(&body, body.len(), Some("gzip"))
            .await
            .unwrap()
            .pop()
            .unwrap();
        assert_eq!(message.decode().unwrap_err().code, ErrorCode::Malformed);
    }

    #[tokio::test]
    async fn a_call_takes_one_message() {
        for (bodies, good) in [(0, false), (1, true), (2, false)] {
            let frames: Vec<Result<_, Infallible>> = (0..bodies)
                .map(|_| Ok(Frame::data(Bytes::from(framed(0, b"")))))
                .collect();
            let mut messages = MessageReader::new(
                StreamBody::new(futures_util::stream::iter(frames)),
                &HeaderMap::new(),
                10,
            )
            .unwrap();
            assert_eq!(messages.only().await.is_ok(), good, "{bodies}");
        }
    }
}
