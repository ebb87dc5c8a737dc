//! Decompress: what callers compressed, within the limit of a body.

use std::io::Read;

use bytes::Bytes;

use crate::{
    api::refusal::{Refusal, too_large},
    error::ErrorCode,
};

/// Undoes the encoding of that name; never makes more than `max_bytes`.
pub fn decompress_as(encoding: &str, body: &Bytes, max_bytes: usize) -> Result<Bytes, Refusal> {
    let input: &[u8] = body;
    let broken = |error: std::io::Error| {
        Refusal::new(
            ErrorCode::Malformed,
            format!("the body is not valid {encoding}: {error}"),
        )
    };
    match encoding {
        "identity" => return Ok(body.clone()),
        "gzip" | "x-gzip" => inflate(flate2::read::MultiGzDecoder::new(input), max_bytes),
        // Called deflate, meant zlib; some send it raw.
        "deflate" if input.first().is_some_and(|byte| byte & 0x0f == 8) => {
            inflate(flate2::read::ZlibDecoder::new(input), max_bytes)
        }
        "deflate" => inflate(flate2::read::DeflateDecoder::new(input), max_bytes),
        "zstd" => zstd_decoder(input).and_then(|decoder| inflate(decoder, max_bytes)),
        "br" => inflate(brotli::Decompressor::new(input, 16 << 10), max_bytes),
        _ => {
            return Err(Refusal::new(
                ErrorCode::UnsupportedMediaType,
                "content-encoding must be gzip, deflate, zstd or br".to_owned(),
            ));
        }
    }
    .map_err(broken)?
    .ok_or_else(|| too_large(max_bytes))
}

/// A frame may ask for a window as large as the limit of a body is sensible, not for gigabytes.
fn zstd_decoder(input: &[u8]) -> std::io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    decoder.window_log_max(24)?;
    Ok(decoder)
}

/// `None` where more than `max_bytes` would come out.
fn inflate(decoder: impl Read, max_bytes: usize) -> std::io::Result<Option<Bytes>> {
    let mut output = Vec::new();
    decoder
        .take(max_bytes as u64 + 1)
        .read_to_end(&mut output)?;
    Ok((output.len() <= max_bytes).then(|| Bytes::from(output)))
}
