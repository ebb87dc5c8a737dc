//! Head: how large a request's header fields may be, whatever carries them.

use http::{HeaderMap, Uri};
use hyper::Error;

use crate::{api::refusal::Refusal, error::ErrorCode};

/// Of the path with its query and all header fields together.
pub const MAX_HEADER_BYTES: usize = 64 << 10;

/// What is read at all; beyond it a head is refused before all of it came.
pub const MAX_PARSED_BYTES: usize = 256 << 10;

/// Refuses a head that is too large.
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
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
        "the path and the header fields have {bytes} bytes; at most {MAX_HEADER_BYTES} are taken"
    );
    Err(Refusal::new(ErrorCode::HeadersTooLarge, detail))
}

/// Header fields that the library reads.
const MAX_FIELDS: usize = 100;

/// Bytes of a path with its query that the library reads.
const MAX_PATH_BYTES: usize = 65_534;

/// Why the library refused a head, of which `read` had come.
pub fn explain(error: &Error, read: &[u8]) -> Refusal {
    let detail = error.to_string();
    if !error.is_parse_too_large() {
        return Refusal::new(
            ErrorCode::Malformed,
            format!("this is no request of HTTP/1.1: {detail}"),
        );
    }
    let detail = if detail.contains("URI too long") {
        format!("the path with its query has more than the {MAX_PATH_BYTES} bytes that are taken")
    } else if read.len() >= MAX_PARSED_BYTES {
        format!(
            "the path and the header fields have more than {MAX_PARSED_BYTES} bytes; at most {MAX_HEADER_BYTES} are taken"
        )
    } else {
        format!("the head has more than the {MAX_FIELDS} header fields that are taken")
    };
    Refusal::new(ErrorCode::HeadersTooLarge, detail)
}

/// Where the answer begins that the library wrote by itself to a head it refused: a status and nothing else, at the end of `bytes`.
pub fn bare_refusal(bytes: &[u8]) -> Option<usize> {
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
    // Every answer of ours has a request id.
    (matches!(status, "400" | "414" | "431") && !fields.is_empty() && bare).then_some(start)
}

#[cfg(test)]
mod tests {
    use crate::api::head::bare_refusal;

    #[test]
    fn answers_of_the_librarys_own_are_told_from_ours() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
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
