//! `Context`: what a request's headers say about the request itself.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{api::refusal::Refusal, error::ErrorCode, id::PredictionId, predict::Fallback};

/// Which version answered in place of the one that failed, and why.
pub const X_FALLBACK: HeaderName = HeaderName::from_static("x-fallback");

pub const TIMEOUT: &str = "x-request-timeout-ms";

/// Of a timeout, as gRPC has it.
const MAX_DIGITS: usize = 8;

/// Longest `x-request-id` that is taken over.
const MAX_REQUEST_ID: usize = 128;

pub struct Context {
    pub started: Instant,
    pub request_id: RequestId,
    pub trace: Option<Trace>,
    /// The client's own deadline.
    pub timeout: Option<Duration>,
    /// What is wrong with it: such a request is refused, and not answered later than its client thinks.
    pub fault: Option<String>,
}

/// The client's request id, or one of ours where it sent none that can be echoed.
pub enum RequestId {
    Given(HeaderValue),
    Own(PredictionId),
}

impl RequestId {
    fn to_header(&self) -> Option<HeaderValue> {
        match self {
            RequestId::Given(value) => Some(value.clone()),
            RequestId::Own(id) => HeaderValue::from_str(id.write(&mut [0; 26])).ok(),
        }
    }

    pub fn to_text(&self) -> String {
        match self {
            RequestId::Given(value) => value.to_str().unwrap_or_default().to_owned(),
            RequestId::Own(id) => id.to_string(),
        }
    }
}

/// W3C trace context: the caller's trace, continued by a span of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl Trace {
    /// Takes over a `traceparent` of version 00 (or a later one that begins alike); `seed` makes our span's id.
    fn parse(text: &str, seed: u64) -> Option<Trace> {
        let mut parts = text.split('-');
        let (version, trace_id, parent_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(version, 2)
            || version == "ff"
            || !is_hex(trace_id, 32)
            || !is_hex(parent_id, 16)
            || !is_hex(flags, 2)
        {
            return None;
        }
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16)
            .ok()
            .filter(|id| *id != 0)?;
        let parent_id = u64::from_str_radix(parent_id, 16)
            .ok()
            .filter(|id| *id != 0)?;
        let span_id = (seed ^ parent_id.rotate_left(32)).max(1);
        Some(Trace {
            trace_id,
            span_id,
            flags: u8::from_str_radix(flags, 16).ok()?,
        })
    }

    pub fn to_text(self) -> String {
        format!(
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }

    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

fn read_timeout(value: &HeaderValue) -> Result<Duration, String> {
    let text = value.to_str().unwrap_or_default().trim();
    let number = if text.len() <= MAX_DIGITS {
        text.parse().ok().filter(|number| *number > 0)
    } else {
        None
    };
    let fault = || {
        let given: String = text.chars().take(2 * MAX_DIGITS).collect();
        format!(
            "the header {TIMEOUT} must be a whole number of milliseconds from 1 to 99999999, given \"{given}\""
        )
    };
    number.map(Duration::from_millis).ok_or_else(fault)
}

impl Context {
    pub fn new(headers: &HeaderMap) -> Context {
        let started = Instant::now();
        let given = headers
            .get("x-request-id")
            .filter(|value| can_be_echoed(value));
        let request_id = given.map_or_else(
            || RequestId::Own(PredictionId::new()),
            |value| RequestId::Given(value.clone()),
        );
        let trace = headers.get("traceparent").and_then(|value| {
            Trace::parse(value.to_str().ok()?, PredictionId::new().random_bits())
        });
        let (timeout, fault) = match headers.get(TIMEOUT).map(read_timeout) {
            None => (None, None),
            Some(Ok(timeout)) => (Some(timeout), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        Context {
            started,
            request_id,
            trace,
            timeout,
            fault,
        }
    }

    /// Refuses a request whose deadline can't be understood.
    pub fn check(&self) -> Result<(), Refusal> {
        self.fault.clone().map_or(Ok(()), |fault| {
            Err(Refusal::new(ErrorCode::Malformed, fault))
        })
    }

    /// Until when the answer must be there: the server's limit, or less where the client asks for less.
    pub fn deadline(&self, limit: Duration) -> Instant {
        self.started + self.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    /// The headers of every answer.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.request_id.to_header() {
            headers.insert("x-request-id", value);
        }
        if let Some(value) = self
            .trace
            .and_then(|trace| HeaderValue::from_str(&trace.to_text()).ok())
        {
            headers.insert("traceparent", value);
        }
    }
}

fn can_be_echoed(value: &HeaderValue) -> bool {
    !value.is_empty()
        && value.len() <= MAX_REQUEST_ID
        && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// `previous; reason=error`
pub fn fallback_header(fallback: &Fallback) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!(
        "{}; reason={}",
        fallback.to,
        fallback.reason.name()
    ))
    .ok()
}

#[cfg(test)]
mod tests {
    use crate::api::refusal::Refusal;
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use crate::api::context::{Context, Trace};

    fn context(name: &'static str, value: &str) -> Context {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        Context::new(&headers)
    }

    #[test]
    fn request_ids_are_echoed_when_they_are_harmless() {
        assert_eq!(
            context("x-request-id", "abc-123").request_id.to_text(),
            "abc-123"
        );
        for bad in ["", "with space", &"x".repeat(129), "é"] {
            assert_eq!(
                context("x-request-id", bad).request_id.to_text().len(),
                26,
                "{bad}"
            );
        }
    }

    #[test]
    fn traces_are_continued() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let answered = context("traceparent", parent).trace.unwrap().to_text();
        assert!(
            answered.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
                && answered.ends_with("-01")
        );
        assert_ne!(answered, parent);
        let bad = [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ];
        for bad in bad {
            assert_eq!(Trace::parse(bad, 1), None, "{bad}");
        }
    }

    #[test]
    fn a_client_may_ask_for_less_time_only() {
        let limit = Duration::from_secs(10);
        let wait = |text: &str| {
            let context = context("x-request-timeout-ms", text);
            context.deadline(limit) - context.started
        };
        assert_eq!(wait("250"), Duration::from_millis(250));
        assert_eq!(wait("99999999"), limit);
        for wrong in [
            "soon",
            "0",
            "-1",
            "1.5",
            "",
            "100000000",
            "9999999999999999",
        ] {
            let Refusal { code, detail } =
                context("x-request-timeout-ms", wrong).check().unwrap_err();
            assert_eq!(code.http_status(), 400);
            assert!(
                detail.contains("x-request-timeout-ms")
                    && detail.ends_with(&format!("given \"{wrong}\"")),
                "{detail}"
            );
        }
    }
}
