//! Reads the body of a request within limits on size and time.

use std::{error::Error, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use crate::{api::refusal::Refusal, error::ErrorCode};

#[derive(Clone, Copy)]
pub(super) struct BodyLimits {
    pub max_bytes: usize,
    pub timeout: Duration,
}

/// Accepts only JSON in UTF-8. A body without a content type counts as JSON.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    // The most frequent value is compared first, without an allocation.
    if value == "application/json" {
        return Ok(());
    }
    let refuse = || {
        Err(Refusal::new(
            ErrorCode::UnsupportedMediaType,
            "send content-type: application/json",
        ))
    };
    let Ok(text) = value.to_str() else {
        return refuse();
    };
    let media_type = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    // RFC 6839: media types with the suffix `+json` are JSON.
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    if is_json && check_charset(headers).is_ok() {
        Ok(())
    } else {
        refuse()
    }
}

/// Refuses a body that is not in UTF-8 according to its content type.
pub(super) fn check_charset(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let parameters = text
        .split(';')
        .skip(1)
        .filter_map(|part| part.trim().split_once('='));
    let fits = parameters
        .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
        // ASCII is a subset of UTF-8.
        .all(|(_, charset)| {
            let charset = charset.trim_matches('"');
            charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
        });
    if fits {
        Ok(())
    } else {
        Err(Refusal::new(ErrorCode::UnsupportedMediaType, "send UTF-8"))
    }
}

/// Accepts JSON under the media types that clients of other protocols send. `curl -d` sends
/// `application/x-www-form-urlencoded`, whatever the body is.
pub(super) fn check_any_json(headers: &HeaderMap) -> Result<(), Refusal> {
    const ACCEPTED: [&str; 3] = [
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/plain",
    ];
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    if ACCEPTED
        .iter()
        .any(|accepted| media_type.eq_ignore_ascii_case(accepted))
    {
        Ok(())
    } else {
        check_content_type(headers)
    }
}

/// Reads the whole body, without decompressing it. If `offset` is set and the body is large, the
/// byte at that offset gets an address that is aligned for the elements of any tensor.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
    offset: Option<usize>,
) -> Result<Bytes, Refusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // The body is refused by its declared length, before any byte of it is read.
    if announced.is_some_and(|length| length > limits.max_bytes as u64) {
        return Err(Refusal::too_large(limits.max_bytes));
    }
    let too_slow = || {
        Refusal::new(
            ErrorCode::BodyTimeout,
            format!(
                "the body did not arrive within {} ms",
                limits.timeout.as_millis()
            ),
        )
    };
    let collected = async {
        match (announced, offset) {
            (Some(length), Some(offset)) if length >= ALIGNED_BYTES => match reserve(length) {
                Some(buffer) => collect_aligned(body, limits.max_bytes, buffer, offset).await,
                None => collect(body, limits.max_bytes).await,
            },
            _ => collect(body, limits.max_bytes).await,
        }
    };
    tokio::time::timeout(limits.timeout, collected)
        .await
        .map_err(|_| too_slow())?
}

/// Minimum size of a body that is aligned. In smaller bodies, copying a tensor later costs less.
const ALIGNED_BYTES: u64 = 64 << 10;

/// The alignment in bytes: the size of a cache line, and of the widest vector register (AVX-512).
const ALIGNMENT: usize = 64;

/// Reserves a buffer for a declared length. A false length costs no memory, because the system
/// provides pages only when bytes are written to them. Returns `None` if the system refuses. An
/// allocation that must not fail would end the process, because a caller may declare any length up
/// to the limit.
fn reserve(length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let capacity = usize::try_from(length).ok()?.checked_add(ALIGNMENT)?;
    bytes.try_reserve_exact(capacity).ok()?;
    Some(bytes)
}

/// Reads a body into a buffer that is large enough for it and for the padding.
async fn collect_aligned(
    mut body: Body,
    max_bytes: usize,
    mut bytes: Vec<u8>,
    offset: usize,
) -> Result<Bytes, Refusal> {
    let start = (ALIGNMENT - (bytes.as_ptr().addr().wrapping_add(offset)) % ALIGNMENT) % ALIGNMENT;
    // The bytes before the start are padding, which is cut off at the end.
    bytes.resize(start, 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| read_error(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() - start + data.len() > max_bytes {
            return Err(Refusal::too_large(max_bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from(bytes).slice(start..))
}

async fn collect(mut body: Body, max_bytes: usize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| read_error(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // A chunked body declares no length, and other declared lengths may be wrong.
        if first.len() + rest.len() + data.len() > max_bytes {
            return Err(Refusal::too_large(max_bytes));
        }
        // A small body arrives in one frame, which is not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

/// Creates the refusal of a body that can't be read to its end. A lost connection means that the
/// caller disconnected. Every other error concerns the framing of the body.
fn read_error(error: &(dyn Error + 'static)) -> Refusal {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_disconnect = |error: &(dyn Error + 'static)| {
        let kind = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        matches!(
            kind,
            Some(UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
        ) || error
            .downcast_ref::<hyper::Error>()
            .is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
    };
    // The reason may be several sources deep: axum wraps an error of hyper, which wraps an error of
    // the socket.
    let mut cause = Some(error);
    while let Some(error) = cause.filter(|error| !is_disconnect(*error)) {
        cause = error.source();
    }
    let code = if cause.is_some() {
        ErrorCode::Cancelled
    } else {
        ErrorCode::Malformed
    };
    Refusal::new(code, "the body ended before its end")
}

/// The body's `content-encoding`. `None` if the body is not compressed.
pub(super) fn content_encoding(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let is_compressed = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !is_compressed {
        return Ok(None);
    }
    let mut encodings = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|text| text.trim().to_ascii_lowercase());
    match (encodings.next(), encodings.next()) {
        (Some(encoding), None) => Ok(Some(encoding)),
        // Each further encoding would multiply the work that a small body can cause.
        _ => Err(Refusal::new(
            ErrorCode::UnsupportedMediaType,
            "the body may have one content-encoding only",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io::Write, time::Duration};

    use axum::body::Body;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, header};

    use crate::{
        api::{
            decompress::decompress,
            http::body::{BodyLimits, check_content_type, content_encoding, read},
        },
        error::ErrorCode,
    };

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn content_types() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.api+json",
        ] {
            assert!(
                check_content_type(&headers(header::CONTENT_TYPE, good)).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
        ] {
            assert_eq!(
                check_content_type(&headers(header::CONTENT_TYPE, bad))
                    .unwrap_err()
                    .code,
                ErrorCode::UnsupportedMediaType,
                "{bad}"
            );
        }
        assert!(check_content_type(&HeaderMap::new()).is_ok());
    }

    #[tokio::test]
    async fn binary_data_after_a_text_is_read_to_an_aligned_address() {
        let limits = BodyLimits {
            max_bytes: 1 << 20,
            timeout: Duration::from_secs(60),
        };
        for offset in [0, 1, 63, 64, 777] {
            let sent: Vec<u8> = (0..200_000u32).map(|index| index as u8).collect();
            let headers = headers(header::CONTENT_LENGTH, &sent.len().to_string());
            let pieces = sent
                .chunks(7001)
                .map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)))
                .collect::<Vec<_>>();
            let body = Body::from_stream(futures_util::stream::iter(pieces));
            let bytes = read(&headers, body, limits, Some(offset)).await.unwrap();
            assert_eq!(bytes, sent);
            assert_eq!(bytes[offset..].as_ptr().addr() % 64, 0, "{offset}");
            let small = BodyLimits {
                max_bytes: 100_000,
                ..limits
            };
            let body = Body::from(sent);
            assert_eq!(
                read(&HeaderMap::new(), body, small, Some(offset))
                    .await
                    .unwrap_err()
                    .code,
                ErrorCode::BodyTooLarge
            );
        }
    }

    #[tokio::test]
    async fn an_announced_length_beyond_the_memory_does_not_end_the_process() {
        let limits = BodyLimits {
            max_bytes: usize::MAX,
            timeout: Duration::from_secs(60),
        };
        for announced in [i64::MAX as u64, u64::MAX, 7 << 50] {
            let headers = headers(header::CONTENT_LENGTH, &announced.to_string());
            let bytes = read(&headers, Body::from("[1]"), limits, Some(0)).await;
            assert_eq!(bytes.unwrap(), "[1]", "{announced}");
        }
    }

    fn compress(encoding: &str, text: &[u8]) -> Bytes {
        let level = flate2::Compression::default();
        Bytes::from(match encoding {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "deflate" => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "zstd" => zstd::encode_all(text, 3).unwrap(),
            _ => {
                let mut encoded = Vec::new();
                brotli::CompressorReader::new(text, 4096, 5, 20).read_to_end_into(&mut encoded);
                encoded
            }
        })
    }

    trait ReadAll {
        fn read_to_end_into(&mut self, output: &mut Vec<u8>);
    }

    impl<R: std::io::Read> ReadAll for R {
        fn read_to_end_into(&mut self, output: &mut Vec<u8>) {
            self.read_to_end(output).unwrap();
        }
    }

    #[test]
    fn bodies_are_decompressed_within_the_limit() {
        for encoding in ["gzip", "deflate", "zstd", "br"] {
            let bomb = vec![b' '; 1 << 20];
            let body = compress(encoding, &bomb);
            assert!(body.len() < 10_000);
            assert_eq!(
                decompress(encoding, &body, 1 << 20).unwrap(),
                bomb,
                "{encoding}"
            );
            assert_eq!(
                decompress(encoding, &body, (1 << 20) - 1).unwrap_err().code,
                ErrorCode::BodyTooLarge,
                "{encoding}"
            );
            assert_eq!(
                decompress(encoding, &Bytes::from_static(b"not compressed at all"), 100)
                    .unwrap_err()
                    .code,
                ErrorCode::Malformed,
                "{encoding}"
            );
        }
    }

    #[test]
    fn a_body_may_have_one_encoding_only() {
        let encoding = |text| content_encoding(&headers(header::CONTENT_ENCODING, text));
        assert_eq!(encoding("GZIP").unwrap().as_deref(), Some("gzip"));
        assert_eq!(encoding("identity").unwrap(), None);
        assert_eq!(content_encoding(&HeaderMap::new()).unwrap(), None);
        assert_eq!(
            encoding("gzip, gzip").unwrap_err().code,
            ErrorCode::UnsupportedMediaType
        );
    }
}
