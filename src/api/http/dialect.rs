//! `Dialect`: the parts of a protocol over HTTP that differ from other protocols.
//! [`exchange`](super::exchange) does everything else.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    api::{context::Context, error_report::ErrorReport, refusal::Refusal},
    error::ErrorCode,
    metrics::Protocol,
    predict::{Input, Prediction, Priority},
};

/// Reads the requests of a protocol, and writes its responses and errors.
pub(super) trait Dialect: Copy + Send + Sync + 'static {
    /// The data that the response depends on, other than the prediction.
    type ResponseOptions: Send + 'static;

    fn protocol(self) -> Protocol;

    /// Refuses a body by its headers, before the body is read, if it can't be of this dialect.
    fn check_headers(self, headers: &HeaderMap) -> Result<(), Refusal>;

    /// The media types of the responses. The first one is the default.
    fn response_types(self) -> &'static [&'static str] {
        &["application/json"]
    }

    /// The offset of binary tensors in the body. They are read to an aligned address. `None` if
    /// there are none.
    fn binary_offset(self, headers: &HeaderMap) -> Option<usize> {
        let _ = headers;
        None
    }

    /// The number of bytes that `parse` reads one by one. It is a measure of the duration.
    fn text_bytes(self, headers: &HeaderMap, body: &Bytes) -> usize {
        self.binary_offset(headers).unwrap_or(body.len())
    }

    fn parse(
        self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<ParsedRequest<Self::ResponseOptions>, Refusal>;

    fn encode(
        self,
        options: &Self::ResponseOptions,
        prediction: &mut Prediction,
    ) -> Result<EncodedResponse, Refusal>;

    /// The HTTP status of an error.
    fn status(self, code: ErrorCode) -> u16 {
        code.http_status()
    }

    /// The media type and the body of an error response. The caller adds the status and the common
    /// headers.
    fn write_error(self, error: &ErrorReport<'_>, context: &Context) -> (&'static str, Vec<u8>);
}

/// A request body after parsing. The values in `input` are not decoded yet.
pub(crate) struct ParsedRequest<O> {
    pub input: Input,
    /// Names of the requested outputs. Empty means all outputs.
    pub outputs: Vec<String>,
    pub priority: Priority,
    pub timeout: Option<Duration>,
    pub options: O,
}

impl<O> ParsedRequest<O> {
    pub(crate) fn new(input: Input, options: O) -> ParsedRequest<O> {
        ParsedRequest {
            input,
            outputs: Vec::new(),
            priority: Priority::default(),
            timeout: None,
            options,
        }
    }
}

/// The body of a response: text, followed by binary tensors that are not copied.
pub(crate) struct EncodedResponse {
    pub content_type: &'static str,
    pub text: Vec<u8>,
    pub tensors: Vec<Bytes>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl EncodedResponse {
    pub(crate) fn json(text: Vec<u8>) -> EncodedResponse {
        EncodedResponse {
            content_type: "application/json",
            text,
            tensors: Vec::new(),
            headers: Vec::new(),
        }
    }
}
