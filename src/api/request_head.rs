//! Limits on the head of a request: its path and its header fields, for HTTP/1.1 and HTTP/2.

use http::{HeaderMap, Uri};
use hyper::Error;

use crate::{api::refusal::Refusal, error::ErrorCode};

/// Maximum size of the path, its query and all header fields together, in bytes.
pub(super) const MAX_HEADER_BYTES: usize = 64 << 10;

/// Maximum size of a head that the HTTP library reads, in bytes. It is larger than
/// `MAX_HEADER_BYTES`, so that the refusal of a head between the two limits can contain the head's
/// size.
pub(super) const MAX_PARSED_BYTES: usize = 256 << 10;

/// Refuses a head that is too large.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    // The size is computed here for both versions of HTTP, because the libraries compute it
    // differently.
    let target = uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let fields: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let bytes = target + fields;
    if bytes <= MAX_HEADER_BYTES {
        return Ok(());
    }
    let detail = format!(
        "the path and the header fields have {bytes} bytes; at most {MAX_HEADER_BYTES} are accepted"
    );
    Err(Refusal::new(ErrorCode::HeadersTooLarge, detail))
}

/// Maximum number of header fields that hyper reads (its `DEFAULT_MAX_HEADERS`).
const MAX_FIELDS: usize = 100;

/// Maximum length of a path with its query in the `http` library (`u16::MAX - 1`).
const MAX_PATH_BYTES: usize = 65_534;

/// Creates the refusal of a head that the HTTP library could not parse. `read`: the part of it that
/// arrived.
pub(super) fn explain(error: &Error, read: &[u8]) -> Refusal {
    if !error.is_parse_too_large() {
        return Refusal::malformed(format!("this is not an HTTP/1.1 request: {error}"));
    }
    let detail = if is_path_too_long(error) {
        format!("the path with its query has more than the limit of {MAX_PATH_BYTES} bytes")
    } else if read.len() >= MAX_PARSED_BYTES {
        format!(
            "the path and the header fields have more than {MAX_PARSED_BYTES} bytes; at most {MAX_HEADER_BYTES} are accepted"
        )
    } else {
        format!("the head has more than the limit of {MAX_FIELDS} header fields")
    };
    Refusal::new(ErrorCode::HeadersTooLarge, detail)
}

/// Hyper has one kind of error for all limits of a head, and its source has no type. Only the text
/// tells this limit from the others.
fn is_path_too_long(error: &Error) -> bool {
    error.to_string().contains("URI too long")
}

/// Finds the response that the HTTP library itself writes to a head that it refuses, at the end of
/// `bytes`. Returns its start. This response has a status but no body, so it explains nothing.
pub(super) fn bare_refusal(bytes: &[u8]) -> Option<usize> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = memchr::memmem::rfind(bytes, b"HTTP/1.1 4")?;
    let mut lines = std::str::from_utf8(bytes.get(start..)?)
        .ok()?
        .trim_end()
        .split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?;
    let fields: Vec<(&str, &str)> = lines
        .map(|line| line.split_once(": ").unwrap_or_default())
        .collect();
    let bare = fields.iter().all(|(name, value)| {
        matches!(
            (*name, *value),
            ("content-length", "0") | ("connection", "close") | ("date", _)
        )
    });
    // Every response of this server has a request id, so it is never mistaken for a response of the
    // library.
    (matches!(status, "400" | "414" | "431") && !fields.is_empty() && bare).then_some(start)
}

#[cfg(test)]
mod tests {
    use crate::api::request_head::bare_refusal;

    #[test]
    fn responses_of_the_library_are_recognized() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                    content-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(bare_refusal(bare.as_bytes()), Some(0));
        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(
            bare_refusal(format!("{before}{bare}").as_bytes()),
            Some(before.len())
        );
        for ours in [
            before.to_owned(),
            bare.replace("date", "x-request-id"),
            bare.replace("431", "404"),
            bare.replace("content-length: 0", "content-length: 4") + "\r\n\r\n",
            "\r\n\r\n".to_owned(),
        ] {
            assert_eq!(bare_refusal(ours.as_bytes()), None, "{ours}");
        }
    }
}
