//! Head: how large a request's header fields may be, whatever carries them.

use http::{HeaderMap, Uri};

use crate::{api::oip::Refusal, error::ErrorCode};

/// Of the path with its query and all header fields together.
pub const MAX_HEADER_BYTES: usize = 64 << 10;

/// What is read at all. Between the two limits the answer explains itself; beyond it the library below answers a bare 431.
pub const MAX_PARSED_BYTES: usize = 256 << 10;

/// Refuses a head that is too large.
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let bytes = target + fields;
    if bytes <= MAX_HEADER_BYTES {
        return Ok(());
    }
    let detail = format!("the path and the header fields have {bytes} bytes; at most {MAX_HEADER_BYTES} are taken");
    Err((ErrorCode::HeadersTooLarge, detail))
}
