//! Encoding: compressed answers, where the client takes them and it pays.

use std::io::Write;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, header};

/// Smaller answers fit a packet anyway.
const MIN_BYTES: usize = 1 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Zstd,
    Brotli,
    Gzip,
    Deflate,
}

/// In the order in which they are preferred at the same weight.
const KNOWN: [(Encoding, &str); 4] = [
    (Encoding::Zstd, "zstd"),
    (Encoding::Brotli, "br"),
    (Encoding::Gzip, "gzip"),
    (Encoding::Deflate, "deflate"),
];

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
        }
    }
}

/// The encoding for an answer of `length` bytes; `None`: as it is.
fn choose(headers: &HeaderMap, length: usize) -> Option<Encoding> {
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

/// The text as it goes out: compressed where the client takes that and it pays.
pub fn encoded(headers: &HeaderMap, text: Vec<u8>) -> (Vec<u8>, Option<Encoding>) {
    let compressed = choose(headers, text.len())
        .and_then(|encoding| Some((compress(encoding, &text)?, encoding)));
    match compressed {
        Some((compressed, encoding)) if compressed.len() < text.len() => {
            (compressed, Some(encoding))
        }
        _ => (text, None),
    }
}

/// Says how the body is encoded; `None` says nothing.
pub fn write_header(headers: &mut HeaderMap, encoding: Option<Encoding>) {
    if let Some(encoding) = encoding {
        headers.insert(
            header::CONTENT_ENCODING,
            HeaderValue::from_static(encoding.name()),
        );
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// An answer that is not a prediction.
pub fn answer(headers: &HeaderMap, content_type: &'static str, text: Vec<u8>) -> Response {
    let (body, encoding) = encoded(headers, text);
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    write_header(response.headers_mut(), encoding);
    response
}

fn weighted(item: &str) -> (&str, f32) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts
        .find_map(|part| part.strip_prefix("q="))
        .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
    (name, weight)
}

/// The compressed bytes; `None` where that did not work, and the answer goes out as it is.
fn compress(encoding: Encoding, text: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(text.len() / 3);
    let level = flate2::Compression::fast();
    match encoding {
        Encoding::Zstd => zstd::stream::copy_encode(text, &mut output, 1).ok()?,
        Encoding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(&mut output, 16 << 10, 3, 20);
            encoder
                .write_all(text)
                .and_then(|()| encoder.flush())
                .ok()?;
            drop(encoder);
        }
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut output, level);
            encoder
                .write_all(text)
                .and_then(|()| encoder.try_finish())
                .ok()?;
            drop(encoder);
        }
        Encoding::Deflate => {
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

    use crate::api::http::encoding::{Encoding, choose};

    fn chosen(accept: &str, length: usize) -> Option<Encoding> {
        choose(
            &HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(accept).unwrap(),
            )]),
            length,
        )
    }

    #[test]
    fn the_client_chooses_and_small_answers_stay_as_they_are() {
        assert_eq!(chosen("gzip", 5000), Some(Encoding::Gzip));
        assert_eq!(chosen("gzip", 500), None);
        assert_eq!(
            chosen("gzip, deflate, br, zstd", 5000),
            Some(Encoding::Zstd)
        );
        assert_eq!(chosen("gzip;q=1.0, zstd;q=0.5", 5000), Some(Encoding::Gzip));
        assert_eq!(chosen("*", 5000), Some(Encoding::Zstd));
        assert_eq!(chosen("*, zstd;q=0", 5000), Some(Encoding::Brotli));
        assert_eq!(chosen("identity", 5000), None);
        assert_eq!(chosen("gzip;q=none", 5000), None);
        assert_eq!(choose(&HeaderMap::new(), 5000), None);
    }
}
