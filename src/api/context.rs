//! `Context`: the request id, the trace and the deadline of a request, from its headers.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    api::{refusal::Refusal, trace::Trace},
    id::PredictionId,
    predict::Fallback,
};

/// The response header that names the fallback that answered, and the reason why the assigned
/// version did not answer.
pub(super) const X_FALLBACK: HeaderName = HeaderName::from_static("x-fallback");

/// The request header with the caller's time limit.
pub(super) const TIMEOUT: &str = "x-request-timeout-ms";

/// Maximum number of digits of a time limit. The gRPC protocol has the same maximum.
const MAX_DIGITS: usize = 8;

/// Maximum length of `x-request-id`. A longer id is replaced, because the id is written into every
/// line of the log.
const MAX_REQUEST_ID: usize = 128;

pub(super) struct Context {
    pub started: Instant,
    pub request_id: RequestId,
    pub trace: Option<Trace>,
    /// The caller's time limit, counted from `started`. `None` if the caller sets none.
    pub timeout: Option<Duration>,
    /// The error if the time limit can't be parsed. The request is refused in this case: without
    /// its limit it would be answered after its caller has given up.
    pub timeout_fault: Option<Refusal>,
}

/// The client's request id. If the client sent none, or one that can't be returned in a header: a
/// new id.
pub(super) enum RequestId {
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

    pub(super) fn to_text(&self) -> String {
        match self {
            RequestId::Given(value) => value.to_str().unwrap_or_default().to_owned(),
            RequestId::Own(id) => id.to_string(),
        }
    }
}

fn read_timeout(value: &HeaderValue) -> Result<Duration, Refusal> {
    let text = value.to_str().unwrap_or_default().trim();
    // Check the length before parsing, so that the value fits into milliseconds of any type.
    let number = if text.len() <= MAX_DIGITS {
        text.parse().ok().filter(|number| *number > 0)
    } else {
        None
    };
    let fault = || {
        // The text is cut, because the header may be as long as the head of a request.
        let given: String = text.chars().take(2 * MAX_DIGITS).collect();
        Refusal::malformed(format!(
            "the header {TIMEOUT} must be a whole number of milliseconds from 1 to 99999999, got \"{given}\""
        ))
    };
    number.map(Duration::from_millis).ok_or_else(fault)
}

impl Context {
    pub(super) fn new(headers: &HeaderMap) -> Context {
        let started = Instant::now();
        let given = headers
            .get("x-request-id")
            .filter(|value| can_be_echoed(value));
        let request_id = given.map_or_else(
            || RequestId::Own(PredictionId::new()),
            |value| RequestId::Given(value.clone()),
        );
        // An invalid header is ignored: the request is answered without a trace.
        let trace = headers.get("traceparent").and_then(|value| {
            Trace::parse(value.to_str().ok()?, PredictionId::new().random_bits())
        });
        let (timeout, timeout_fault) = match headers.get(TIMEOUT).map(read_timeout) {
            None => (None, None),
            Some(Ok(timeout)) => (Some(timeout), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        Context {
            started,
            request_id,
            trace,
            timeout,
            timeout_fault,
        }
    }

    /// Refuses a request whose time limit can't be parsed.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        self.timeout_fault.clone().map_or(Ok(()), Err)
    }

    /// The deadline of the response: the earlier one of the server's deadline and the caller's
    /// deadline.
    pub(super) fn deadline(&self, limit: Duration) -> Instant {
        self.started + self.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    /// Writes the headers that every response has.
    pub(super) fn write_headers(&self, headers: &mut HeaderMap) {
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
    // Spaces and control characters could forge a field or a line of the log.
    !value.is_empty()
        && value.len() <= MAX_REQUEST_ID
        && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// Formats the value of `x-fallback`, like `previous; reason=error`.
pub(super) fn fallback_header(fallback: &Fallback) -> Option<HeaderValue> {
    // Model names and reasons are ASCII.
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

    use crate::api::context::Context;

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
    fn a_client_may_only_shorten_the_time_limit() {
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
                    && detail.ends_with(&format!("got \"{wrong}\"")),
                "{detail}"
            );
        }
    }
}
