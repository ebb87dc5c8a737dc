//! The context of a gRPC call, from its headers.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::api::{context::Context, refusal::Refusal};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Creates the context of a call. Its time limit is the shorter one of `grpc-timeout` and
/// predictd's own header.
pub(super) fn context(headers: &HeaderMap) -> Context {
    let mut context = Context::new(headers);
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return context;
    };
    match value.to_str().ok().and_then(parse_timeout) {
        Some(timeout) => {
            let shorter = context.timeout.map_or(timeout, |own| own.min(timeout));
            context.timeout = Some(shorter);
        }
        None => {
            context.timeout_fault = Some(Refusal::malformed(
                "the header grpc-timeout must be at most eight digits and a unit of H, M, S, m, u or n",
            ));
        }
    }
    context
}

/// Parses a timeout like `250m`: at most eight digits and a unit (gRPC over HTTP/2, `Timeout`).
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::api::grpc::call_context::parse_timeout;

    #[test]
    fn timeouts_have_a_unit() {
        let cases = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("1500u", Some(Duration::from_micros(1500))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("100000000S", None),
            ("-1S", None),
            ("1s", None),
            ("1", None),
            ("1\u{e9}", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
