//! Compresses responses if the client accepts this and the response becomes smaller.

use std::io::Write;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, header};

/// Minimum size of a response that is compressed. Smaller responses fit into one network packet.
const MIN_BYTES: usize = 1 << 10;

/// Fast compression levels, because the caller waits during compression.
const ZSTD_LEVEL: i32 = 1;
const BROTLI_QUALITY: u32 = 3;
const BROTLI_WINDOW_BITS: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    Zstd,
    Brotli,
    Gzip,
    Deflate,
}

/// The known encodings in order of preference, for encodings with the same weight.
const KNOWN: [(ContentEncoding, &str); 4] = [
    (ContentEncoding::Zstd, "zstd"),
    (ContentEncoding::Brotli, "br"),
    (ContentEncoding::Gzip, "gzip"),
    (ContentEncoding::Deflate, "deflate"),
];

impl ContentEncoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            ContentEncoding::Zstd => "zstd",
            ContentEncoding::Brotli => "br",
            ContentEncoding::Gzip => "gzip",
            ContentEncoding::Deflate => "deflate",
        }
    }
}

/// The encoding for a response of `length` bytes. `None` means no compression.
fn choose(headers: &HeaderMap, length: usize) -> Option<ContentEncoding> {
    // Check the length before the header is parsed, because most responses are small.
    if length < MIN_BYTES {
        return None;
    }
    let accepted: Vec<(&str, f32)> = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(weighted)
        .collect();
    let weight = |name: &str| {
        // `*` gives the weight of each encoding that is not named (RFC 9110, 12.5.3).
        let named = accepted
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        named
            .or_else(|| accepted.iter().find(|(known, _)| *known == "*"))
            .map_or(0.0, |(_, weight)| *weight)
    };
    let mut best = None;
    for (encoding, name) in KNOWN {
        let weight = weight(name);
        if weight > best.map_or(0.0, |(_, weight)| weight) {
            best = Some((encoding, weight));
        }
    }
    best.map(|(encoding, _)| encoding)
}

/// Compresses the text if the client accepts this and the text becomes smaller.
pub(super) fn compress(headers: &HeaderMap, text: Vec<u8>) -> (Vec<u8>, Option<ContentEncoding>) {
    let compressed = choose(headers, text.len())
        .and_then(|encoding| Some((compress_as(encoding, &text)?, encoding)));
    match compressed {
        // Random numbers and images can become larger.
        Some((compressed, encoding)) if compressed.len() < text.len() => {
            (compressed, Some(encoding))
        }
        _ => (text, None),
    }
}

/// Writes the headers of a compressed body.
pub(super) fn write_header(headers: &mut HeaderMap, encoding: Option<ContentEncoding>) {
    if let Some(encoding) = encoding {
        headers.insert(
            header::CONTENT_ENCODING,
            HeaderValue::from_static(encoding.name()),
        );
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// The response to a request that does not ask for a prediction.
pub(super) fn respond(headers: &HeaderMap, content_type: &'static str, text: Vec<u8>) -> Response {
    let (body, encoding) = compress(headers, text);
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    write_header(response.headers_mut(), encoding);
    response
}

/// Parses one item of `Accept-Encoding`, like `gzip;q=0.5`. A weight that is not a number counts as
/// 0.
fn weighted(item: &str) -> (&str, f32) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts
        .find_map(|part| part.strip_prefix("q="))
        .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
    (name, weight)
}

/// Returns the compressed bytes. `None` if compression failed; the response is then sent
/// uncompressed.
fn compress_as(encoding: ContentEncoding, text: &[u8]) -> Option<Vec<u8>> {
    // This estimate avoids most reallocations, because JSON has few different characters.
    let mut output = Vec::with_capacity(text.len() / 3);
    let level = flate2::Compression::fast();
    match encoding {
        ContentEncoding::Zstd => zstd::stream::copy_encode(text, &mut output, ZSTD_LEVEL).ok()?,
        ContentEncoding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(
                &mut output,
                16 << 10,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            );
            encoder
                .write_all(text)
                .and_then(|()| encoder.flush())
                .ok()?;
            drop(encoder);
        }
        ContentEncoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut output, level);
            encoder
                .write_all(text)
                .and_then(|()| encoder.try_finish())
                .ok()?;
            drop(encoder);
        }
        ContentEncoding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(&mut output, level);
            encoder
                .write_all(text)
                .and_then(|()| encoder.try_finish())
                .ok()?;
            drop(encoder);
        }
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use crate::api::http::content_encoding::{ContentEncoding, choose};

    fn chosen(accept: &str, length: usize) -> Option<ContentEncoding> {
        choose(
            &HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(accept).unwrap(),
            )]),
            length,
        )
    }

    #[test]
    fn the_client_chooses_and_small_responses_are_not_compressed() {
        assert_eq!(chosen("gzip", 5000), Some(ContentEncoding::Gzip));
        assert_eq!(chosen("gzip", 500), None);
        assert_eq!(
            chosen("gzip, deflate, br, zstd", 5000),
            Some(ContentEncoding::Zstd)
        );
        assert_eq!(
            chosen("gzip;q=1.0, zstd;q=0.5", 5000),
            Some(ContentEncoding::Gzip)
        );
        assert_eq!(chosen("*", 5000), Some(ContentEncoding::Zstd));
        assert_eq!(chosen("*, zstd;q=0", 5000), Some(ContentEncoding::Brotli));
        assert_eq!(chosen("identity", 5000), None);
        assert_eq!(chosen("gzip;q=none", 5000), None);
        assert_eq!(choose(&HeaderMap::new(), 5000), None);
    }
}
