//! `Refusal`: the reason why a request is not answered.

use crate::error::ErrorCode;

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// The reason as a message for the caller.
    pub detail: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Refusal {
        Refusal {
            code,
            detail: detail.into(),
        }
    }

    /// Creates the refusal of a request that violates the format of its protocol.
    pub fn malformed(detail: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::Malformed, detail)
    }

    /// Creates the refusal of a body that has more than `max_bytes` bytes, compressed or not.
    pub fn too_large(max_bytes: usize) -> Refusal {
        Refusal::new(
            ErrorCode::BodyTooLarge,
            format!("the body may have at most {max_bytes} bytes"),
        )
    }
}
