//! `ErrorCode`: every error that a caller can get, with its status in each protocol.

use std::fmt::Display;

/// An error and its sources, joined by colons. A source whose text is the end of the text before it
/// is left out: some libraries repeat theirs.
pub(crate) fn text_with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

/// A number with its noun, such as `1 row` or `2 rows`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not JSON, or does not have the layout of a request.
    Malformed,
    /// The caller has no valid credentials.
    Unauthenticated,
    /// The caller is not allowed to do this.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// The caller accepts none of the media types that the answer can have.
    NotAcceptable,
    /// Another change was made first.
    Conflict,
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    UnsupportedMediaType,
    /// The request violates the schema.
    Invalid,
    /// The model failed, or its answer is not allowed.
    Inference,
    Internal,
    /// The protocol defines this operation, but this server does not implement it.
    Unsupported,
    Overloaded,
    NotReady,
    DeadlineExceeded,
    /// The caller closed the connection or cancelled the call, so nobody receives the answer.
    Cancelled,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 19] = [
        ErrorCode::Malformed,
        ErrorCode::Unauthenticated,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::MethodNotAllowed,
        ErrorCode::NotAcceptable,
        ErrorCode::Conflict,
        ErrorCode::BodyTimeout,
        ErrorCode::BodyTooLarge,
        ErrorCode::HeadersTooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::Invalid,
        ErrorCode::Inference,
        ErrorCode::Internal,
        ErrorCode::Unsupported,
        ErrorCode::Overloaded,
        ErrorCode::NotReady,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Cancelled,
    ];

    pub fn http_status(self) -> u16 {
        match self {
            ErrorCode::Malformed => 400,
            ErrorCode::Unauthenticated => 401,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::NotAcceptable => 406,
            ErrorCode::BodyTimeout => 408,
            ErrorCode::Conflict => 409,
            ErrorCode::BodyTooLarge => 413,
            ErrorCode::UnsupportedMediaType => 415,
            ErrorCode::Invalid => 422,
            ErrorCode::HeadersTooLarge => 431,
            ErrorCode::Cancelled => 499,
            ErrorCode::Inference | ErrorCode::Internal => 500,
            ErrorCode::Unsupported => 501,
            ErrorCode::Overloaded | ErrorCode::NotReady => 503,
            ErrorCode::DeadlineExceeded => 504,
        }
    }

    /// The status in gRPC (google.rpc.Code).
    pub fn grpc_status(self) -> i32 {
        match self {
            ErrorCode::Cancelled => 1,
            ErrorCode::Malformed
            | ErrorCode::Invalid
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::NotAcceptable => 3,
            ErrorCode::DeadlineExceeded | ErrorCode::BodyTimeout => 4,
            ErrorCode::NotFound => 5,
            ErrorCode::Conflict => 10,
            ErrorCode::Forbidden => 7,
            ErrorCode::Unauthenticated => 16,
            ErrorCode::Overloaded | ErrorCode::BodyTooLarge | ErrorCode::HeadersTooLarge => 8,
            ErrorCode::Unsupported | ErrorCode::MethodNotAllowed => 12,
            ErrorCode::Inference | ErrorCode::Internal => 13,
            ErrorCode::NotReady => 14,
        }
    }

    /// The short name of the error in the member `type` of a problem document, and in logs.
    pub fn slug(self) -> &'static str {
        match self {
            ErrorCode::Malformed => "malformed-request",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not-found",
            ErrorCode::MethodNotAllowed => "method-not-allowed",
            ErrorCode::NotAcceptable => "not-acceptable",
            ErrorCode::Conflict => "conflict",
            ErrorCode::BodyTimeout => "body-timeout",
            ErrorCode::BodyTooLarge => "body-too-large",
            ErrorCode::HeadersTooLarge => "headers-too-large",
            ErrorCode::UnsupportedMediaType => "unsupported-media-type",
            ErrorCode::Invalid => "invalid-request",
            ErrorCode::Inference => "inference-failed",
            ErrorCode::Internal => "internal-error",
            ErrorCode::Unsupported => "unsupported",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::NotReady => "not-ready",
            ErrorCode::DeadlineExceeded => "deadline-exceeded",
            ErrorCode::Cancelled => "cancelled",
        }
    }

    /// The title of a problem document. It is the same for all errors with this code.
    pub fn title(self) -> &'static str {
        match self {
            ErrorCode::Malformed => "The request is malformed",
            ErrorCode::Unauthenticated => "Unauthenticated",
            ErrorCode::Forbidden => "Forbidden",
            ErrorCode::NotFound => "No such route, model or version",
            ErrorCode::MethodNotAllowed => "Method not allowed",
            ErrorCode::NotAcceptable => "No media type of the answer is accepted",
            ErrorCode::Conflict => "Another change came first",
            ErrorCode::BodyTimeout => "The body came too slowly",
            ErrorCode::BodyTooLarge => "The body is too large",
            ErrorCode::HeadersTooLarge => "The header fields are too large",
            ErrorCode::UnsupportedMediaType => "Content type not supported",
            ErrorCode::Invalid => "The request does not fit the model's schema",
            ErrorCode::Inference => "The model could not answer",
            ErrorCode::Internal => "Internal error",
            ErrorCode::Unsupported => "Not offered by this server",
            ErrorCode::Overloaded => "Overloaded",
            ErrorCode::NotReady => "Not ready",
            ErrorCode::DeadlineExceeded => "The deadline passed",
            ErrorCode::Cancelled => "The caller disconnected before the answer",
        }
    }

    /// The value of the label `kind` of `predictd_errors_total`. `None` for errors that are not
    /// about a prediction.
    pub fn kind(self) -> Option<&'static str> {
        match self {
            ErrorCode::Unauthenticated
            | ErrorCode::Forbidden
            | ErrorCode::NotFound
            | ErrorCode::MethodNotAllowed
            | ErrorCode::Conflict
            | ErrorCode::Unsupported => None,
            ErrorCode::Malformed
            | ErrorCode::BodyTooLarge
            | ErrorCode::HeadersTooLarge
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::NotAcceptable
            | ErrorCode::Invalid => Some("invalid"),
            ErrorCode::BodyTimeout | ErrorCode::DeadlineExceeded => Some("timeout"),
            ErrorCode::Cancelled => Some("cancelled"),
            ErrorCode::Inference => Some("inference"),
            ErrorCode::Internal => Some("internal"),
            ErrorCode::Overloaded | ErrorCode::NotReady => Some("overloaded"),
        }
    }

    /// Whether the same request may succeed later. Such a response has the header `retry-after`.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorCode::Overloaded | ErrorCode::NotReady)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use crate::error::{ErrorCode, counted, text_with_sources};

    /// Clients branch on statuses and kinds.
    #[test]
    fn codes() {
        let text = ErrorCode::ALL
            .into_iter()
            .fold(String::new(), |mut text, code| {
                let _ = writeln!(
                    text,
                    "{}: HTTP {}, gRPC {}, kind {}, retryable {}, {:?}",
                    code.slug(),
                    code.http_status(),
                    code.grpc_status(),
                    code.kind().unwrap_or("none"),
                    code.is_retryable(),
                    code.title()
                );
                text
            });
        insta::assert_snapshot!(text);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(
            [
                counted(0_u64, "byte"),
                counted(1_usize, "row"),
                counted(2_u64, "byte")
            ],
            ["0 bytes", "1 row", "2 bytes"]
        );
    }

    #[derive(Debug, thiserror::Error)]
    enum Nested {
        #[error("starting")]
        Start(#[source] Box<Nested>),
        #[error("`level`: {0}")]
        Repeats(#[source] Box<Nested>),
        #[error("not a number")]
        Number,
    }

    #[test]
    fn sources_are_printed_once() {
        let repeated = Nested::Repeats(Box::new(Nested::Number));
        assert_eq!(
            text_with_sources(&Nested::Start(Box::new(repeated))),
            "starting: `level`: not a number"
        );
        assert_eq!(text_with_sources(&Nested::Number), "not a number");
    }
}
