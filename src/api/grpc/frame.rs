//! Frame: messages as they lie in a call's body, each behind a flag and its length; read and written without copying tensors.

use std::{
    collections::VecDeque,
    convert::Infallible,
    num::TryFromIntError,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use crate::{
    api::{
        Admission,
        decompress::decompress_as,
        grpc::{
            census,
            inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse},
        },
        refusal::Refusal,
    },
    error::ErrorCode,
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// A flag and the length of the message.
const HEAD: usize = 5;

/// Numbers of fields, as `proto/open_inference.proto` has them; a test holds these to the generated code.
const RAW_OUTPUT_CONTENTS: u32 = 6;
const INFER_RESPONSE: u32 = 2;

/// Tensors below this are copied into the message: a piece of its own costs more.
const SMALL: usize = 4 << 10;

/// Bytes in the pieces in which they arrived.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    chunks: VecDeque<Bytes>,
    length: usize,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.length += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// The first bytes, as they lie. The caller has made sure of their number.
    fn cut(&mut self, mut length: usize) -> Chunks {
        let mut cut = Chunks::default();
        while length > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let piece = chunk.split_to(chunk.len().min(length));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            length -= piece.len();
            self.length -= piece.len();
            cut.push(piece);
        }
        cut
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let piece = chunk.len().min(count);
            chunk.advance(piece);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            count -= piece;
            self.length -= piece;
        }
    }

    /// What lies in one piece is shared; what does not gets memory of its own, in which it lies as processors like it.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self.chunks.front_mut() {
            Some(chunk) if chunk.len() > length => {
                self.length -= length;
                chunk.split_to(length)
            }
            _ => {
                let mut cut = self.cut(length).chunks;
                if cut.len() == 1
                    && let Some(whole) = cut.pop_front()
                {
                    return whole;
                }
                let mut bytes = BytesMut::with_capacity(length);
                cut.into_iter()
                    .for_each(|chunk| bytes.extend_from_slice(&chunk));
                bytes.freeze()
            }
        }
    }
}

/// A message that arrived whole.
#[derive(Debug)]
pub struct Received {
    bytes: Chunks,
    /// How it is compressed, and how large it may become.
    compressed: Option<(HeaderValue, usize)>,
}

impl Received {
    /// About as many bytes as somebody will have to go through.
    pub fn weight(&self) -> usize {
        if self.compressed.is_some() {
            usize::MAX
        } else {
            self.bytes.remaining()
        }
    }

    pub fn decode(self) -> Result<ModelInferRequest, Refusal> {
        let mut bytes = self.bytes;
        if let Some((encoding, limit)) = self.compressed {
            let compressed = bytes.copy_to_bytes(bytes.remaining());
            bytes = Chunks::default();
            bytes.push(decompress_as(
                encoding.to_str().unwrap_or_default(),
                &compressed,
                limit,
            )?);
        }
        if bytes.remaining() > census::SMALL {
            census::check(bytes.clone())?;
        }
        let decoded = ModelInferRequest::decode(bytes);
        // What the library says of it may repeat what lies in it.
        decoded.map_err(|_| {
            Refusal::new(
                ErrorCode::Malformed,
                "the message is not one of this call's".to_owned(),
            )
        })
    }
}

/// What stands before a message.
pub struct Head {
    length: usize,
    compressed: Option<(HeaderValue, usize)>,
}

/// The messages of a call's body.
pub struct Messages<B> {
    body: B,
    arrived: Chunks,
    encoding: Option<HeaderValue>,
    max_bytes: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    pub fn new(body: B, headers: &HeaderMap, max_bytes: usize) -> Result<Messages<B>, Refusal> {
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
                "grpc-encoding must be gzip, deflate or zstd".to_owned(),
            ));
        }
        Ok(Messages {
            body,
            arrived: Chunks::default(),
            encoding,
            max_bytes,
        })
    }

    /// Whether anything came; false at the end.
    pub async fn more(&mut self) -> Result<bool, Refusal> {
        while self.arrived.length == 0 {
            if !self.fill().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Received>, Refusal> {
        match self.head().await? {
            Some(head) => self.rest(head).await.map(Some),
            None => Ok(None),
        }
    }

    /// What the next message says of itself; `None` at the end. Its rest must be asked for, or skipped.
    pub async fn head(&mut self) -> Result<Option<Head>, Refusal> {
        if !self.more().await? {
            return Ok(None);
        }
        self.until(HEAD).await?;
        let (flag, length) = (self.arrived.get_u8(), self.arrived.get_u32() as usize);
        if length > self.max_bytes {
            return Err(Refusal::new(
                ErrorCode::BodyTooLarge,
                format!("a message may have at most {} bytes", self.max_bytes),
            ));
        }
        let compressed = match (flag, &self.encoding) {
            (0, _) => None,
            (1, Some(encoding)) => Some((encoding.clone(), self.max_bytes)),
            _ => {
                return Err(Refusal::new(
                    ErrorCode::Malformed,
                    "the flag of the message does not fit grpc-encoding".to_owned(),
                ));
            }
        };
        Ok(Some(Head { length, compressed }))
    }

    pub async fn rest(&mut self, head: Head) -> Result<Received, Refusal> {
        self.until(head.length).await?;
        Ok(Received {
            bytes: self.arrived.cut(head.length),
            compressed: head.compressed,
        })
    }

    /// Lets a message go by that there is no place for: nothing of it is kept.
    pub async fn skip(&mut self, head: Head) -> Result<(), Refusal> {
        let mut left = head.length;
        loop {
            left -= self.arrived.cut(left).length;
            if left == 0 {
                return Ok(());
            }
            if !self.fill().await? {
                return Err(broke_off());
            }
        }
    }

    /// The message of a call that has one.
    pub async fn only(&mut self) -> Result<Received, Refusal> {
        let one = |count: &str| {
            Refusal::new(
                ErrorCode::Malformed,
                format!("the call takes one message, given {count}"),
            )
        };
        let message = self.next().await?.ok_or_else(|| one("none"))?;
        if self.more().await? {
            Err(one("more"))
        } else {
            Ok(message)
        }
    }

    async fn until(&mut self, length: usize) -> Result<(), Refusal> {
        while self.arrived.length < length {
            if !self.fill().await? {
                return Err(broke_off());
            }
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<bool, Refusal> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        // The connection or the call was given up.
        if let Ok(data) = frame
            .map_err(|_| Refusal::new(ErrorCode::Cancelled, "the message broke off".to_owned()))?
            .into_data()
        {
            self.arrived.push(data);
        }
        Ok(true)
    }
}

fn broke_off() -> Refusal {
    Refusal::new(ErrorCode::Malformed, "the message broke off".to_owned())
}

/// Which of the two calls is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unary,
    Stream,
}

/// A stream's answer that is an error.
pub fn write_told(told: &ModelStreamInferResponse) -> Result<Vec<Bytes>, Refusal> {
    let mut text = BytesMut::with_capacity(HEAD + told.encoded_len());
    text.put_u8(0);
    text.put_u32(u32::try_from(told.encoded_len()).map_err(too_large)?);
    told.encode_raw(&mut text);
    Ok(vec![text.freeze()])
}

fn too_large(_: TryFromIntError) -> Refusal {
    Refusal::new(
        ErrorCode::Internal,
        "the answer is larger than a message can be".to_owned(),
    )
}

/// A message with its head; in pieces, so that large tensors stay where they are.
pub fn write(mut response: ModelInferResponse, kind: Kind) -> Result<Vec<Bytes>, Refusal> {
    let raw = std::mem::take(&mut response.raw_output_contents);
    let field = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let inner = response.encoded_len() + raw.iter().map(|bytes| field(bytes.len())).sum::<usize>();
    let length = if kind == Kind::Stream {
        field(inner)
    } else {
        inner
    };
    let copied: usize = raw
        .iter()
        .map(|bytes| if bytes.len() < SMALL { bytes.len() } else { 0 })
        .sum();
    let mut text = BytesMut::with_capacity(
        2 * HEAD + response.encoded_len() + raw.len() * (2 * HEAD) + copied + 2 * HEAD,
    );
    text.put_u8(0);
    text.put_u32(u32::try_from(length).map_err(too_large)?);
    let key = |number: u32, length: usize, text: &mut BytesMut| {
        encode_key(number, WireType::LengthDelimited, text);
        encode_varint(length as u64, text);
    };
    if kind == Kind::Stream {
        key(INFER_RESPONSE, inner, &mut text);
    }
    response.encode_raw(&mut text);
    let mut pieces = Vec::with_capacity(1);
    for bytes in raw {
        key(RAW_OUTPUT_CONTENTS, bytes.len(), &mut text);
        if bytes.len() < SMALL {
            text.extend_from_slice(&bytes);
        } else {
            pieces.push(text.split().freeze());
            pieces.push(bytes);
        }
    }
    if !text.is_empty() {
        pieces.push(text.freeze());
    }
    Ok(pieces)
}

/// The body of an answer: one message, and that all is well.
pub struct Unary {
    pieces: std::vec::IntoIter<Bytes>,
    /// Until the client has room for the last piece: answers that nobody reads take places of requests.
    held: Option<Admission>,
    is_done: bool,
}

impl Unary {
    pub fn new(pieces: Vec<Bytes>, held: Option<Admission>) -> Unary {
        Unary {
            pieces: pieces.into_iter(),
            held,
            is_done: false,
        }
    }
}

impl Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(piece) = self.pieces.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        // Before the client learns of the end: it may ask again at once.
        self.held = None;
        let is_done = std::mem::replace(&mut self.is_done, true);
        Poll::Ready((!is_done).then(|| Ok(Frame::trailers(all_is_well()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done
    }
}

/// The trailers of a call that ended as it should.
pub fn all_is_well() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

#[cfg(test)]
mod tests {
    use crate::api::refusal::Refusal;
    use std::convert::Infallible;

    use bytes::{Buf, Bytes};
    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use prost::Message;

    use crate::{
        api::grpc::{
            frame::{Chunks, GRPC_ENCODING, HEAD, Kind, Messages, Received, SMALL, Unary, write},
            inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse},
        },
        error::ErrorCode,
    };

    fn response() -> ModelInferResponse {
        ModelInferResponse {
            model_name: "m".to_owned(),
            id: "7".to_owned(),
            raw_output_contents: vec![
                Bytes::new(),
                Bytes::from(vec![1; 3]),
                Bytes::from(vec![2; SMALL]),
                Bytes::from(vec![3; 300 << 10]),
            ],
            ..ModelInferResponse::default()
        }
    }

    #[test]
    fn what_is_written_is_what_the_generated_code_reads() {
        for kind in [Kind::Unary, Kind::Stream] {
            let (given, large) = (response(), 3);
            let pieces = write(given.clone(), kind).unwrap();
            assert!(
                pieces
                    .iter()
                    .any(|piece| piece.as_ptr() == given.raw_output_contents[large].as_ptr()),
                "a large tensor is copied"
            );
            let mut bytes = Bytes::from(pieces.concat());
            assert_eq!((bytes.get_u8(), bytes.get_u32() as usize), (0, bytes.len()));
            let read = match kind {
                Kind::Unary => ModelInferResponse::decode(bytes).unwrap(),
                Kind::Stream => ModelStreamInferResponse::decode(bytes)
                    .unwrap()
                    .infer_response
                    .unwrap(),
            };
            assert_eq!(read, response());
        }
    }

    #[tokio::test]
    async fn an_answer_ends_with_its_status() {
        let collected = Unary::new(write(response(), Kind::Unary).unwrap(), None)
            .collect()
            .await
            .unwrap();
        assert_eq!(
            collected.trailers().unwrap().get("grpc-status").unwrap(),
            "0"
        );
        assert_eq!(collected.to_bytes().len(), HEAD + response().encoded_len());
    }

    #[test]
    fn chunks_are_one_text() {
        let mut chunks = Chunks::default();
        for text in ["ab", "", "cdef", "g"] {
            chunks.push(Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(chunks.copy_to_bytes(1), "a");
        assert_eq!(chunks.copy_to_bytes(3), "bcd");
        chunks.advance(1);
        assert_eq!((chunks.remaining(), chunks.chunk()), (2, &b"f"[..]));
        assert_eq!(chunks.copy_to_bytes(2), "fg");
        assert_eq!((chunks.remaining(), chunks.chunk()), (0, &b""[..]));
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [
            &[flag],
            &u32::try_from(message.len()).unwrap().to_be_bytes()[..],
            message,
        ]
        .concat()
    }

    /// The messages of a body that arrives in pieces of `size`.
    async fn received(
        body: &[u8],
        size: usize,
        encoding: Option<&'static str>,
    ) -> Result<Vec<Received>, Refusal> {
        let frames: Vec<Result<_, Infallible>> = body
            .chunks(size)
            .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        let headers: HeaderMap = encoding
            .map(|name| (GRPC_ENCODING, HeaderValue::from_static(name)))
            .into_iter()
            .collect();
        let mut messages = Messages::new(
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
    async fn messages_arrive_in_any_pieces() {
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
            assert_eq!(messages.len(), 3, "{size}");
            for (index, message) in messages.into_iter().enumerate() {
                let expected = if index == 1 {
                    ModelInferRequest::default()
                } else {
                    request.clone()
                };
                assert_eq!(message.decode().unwrap(), expected, "{size}");
            }
        }
    }

    #[tokio::test]
    async fn a_message_that_is_skipped_leaves_the_next() {
        let body = [framed(0, &[9; 300]), framed(0, b""), framed(0, b"")].concat();
        for size in [1, 7, 305, body.len()] {
            let frames: Vec<Result<_, Infallible>> = body
                .chunks(size)
                .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
                .collect();
            let mut messages = Messages::new(
                StreamBody::new(futures_util::stream::iter(frames)),
                &HeaderMap::new(),
                1000,
            )
            .unwrap();
            for _ in 0..2 {
                let head = messages.head().await.unwrap().unwrap();
                messages.skip(head).await.unwrap();
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
        let mut messages = Messages::new(
            StreamBody::new(futures_util::stream::iter(frames)),
            &HeaderMap::new(),
            1000,
        )
        .unwrap();
        let head = messages.head().await.unwrap().unwrap();
        assert_eq!(
            messages.skip(head).await.unwrap_err().code,
            ErrorCode::Malformed
        );
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
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
            let mut messages = Messages::new(
                StreamBody::new(futures_util::stream::iter(frames)),
                &HeaderMap::new(),
                10,
            )
            .unwrap();
            assert_eq!(messages.only().await.is_ok(), good, "{bodies}");
        }
    }
}
