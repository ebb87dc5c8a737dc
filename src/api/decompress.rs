//! Decompression of request bodies and messages, within the size limit of a body.

use std::io::Read;

use bytes::Bytes;

use crate::{api::refusal::Refusal, error::ErrorCode};

/// Maximum window of a zstd frame, as a power of two: 16 MiB. A frame declares its window, and the
/// decoder allocates the whole window at once.
const MAX_ZSTD_WINDOW_LOG: u32 = 24;

const BROTLI_BUFFER: usize = 16 << 10;

/// Decompresses a body. The result never has more than `max_bytes` bytes.
pub(super) fn decompress(encoding: &str, body: &Bytes, max_bytes: usize) -> Result<Bytes, Refusal> {
    let input: &[u8] = body;
    let output = match encoding {
        "identity" => return Ok(body.clone()),
        "gzip" | "x-gzip" => read_limited(flate2::read::MultiGzDecoder::new(input), max_bytes),
        // RFC 9110 8.4.1.2: `deflate` means the zlib format. However, some clients send raw
        // deflate. The low bits of the first byte of zlib are 8.
        "deflate" if input.first().is_some_and(|byte| byte & 0x0f == 8) => {
            read_limited(flate2::read::ZlibDecoder::new(input), max_bytes)
        }
        "deflate" => read_limited(flate2::read::DeflateDecoder::new(input), max_bytes),
        "zstd" => zstd_decoder(input).and_then(|decoder| read_limited(decoder, max_bytes)),
        "br" => read_limited(brotli::Decompressor::new(input, BROTLI_BUFFER), max_bytes),
        _ => {
            return Err(Refusal::new(
                ErrorCode::UnsupportedMediaType,
                "content-encoding must be gzip, deflate, zstd or br",
            ));
        }
    };
    output
        .map_err(|error| Refusal::malformed(format!("the body is not valid {encoding}: {error}")))?
        .ok_or_else(|| Refusal::too_large(max_bytes))
}

fn zstd_decoder(input: &[u8]) -> std::io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// Reads everything. Returns `None` if there are more than `max_bytes` bytes.
fn read_limited(decoder: impl Read, max_bytes: usize) -> std::io::Result<Option<Bytes>> {
    let mut output = Vec::new();
    // Read one byte more than the limit, to distinguish a body at the limit from a larger one.
    decoder
        .take(max_bytes as u64 + 1)
        .read_to_end(&mut output)?;
    Ok((output.len() <= max_bytes).then(|| Bytes::from(output)))
}
