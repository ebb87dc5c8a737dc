//! Cancellation: a request whose caller disconnects or cancels is counted and logged like every
//! other request.
//!
//! In this case the server drops the future of the request. Only the destructor of a guard in that
//! future can notice this.

use crate::{
    api::{call::Call, failed_request::FailedRequest},
    error::ErrorCode,
    predict::{AnsweringVersion, Failure, PredictError},
};

/// Counts the call as cancelled if it is dropped before it is finished.
pub(super) struct CancelGuard<'a> {
    pub call: Call<'a>,
    /// The version that will answer, once it is known.
    pub answering: AnsweringVersion,
    is_finished: bool,
}

impl<'a> CancelGuard<'a> {
    pub(super) fn new(call: Call<'a>) -> CancelGuard<'a> {
        CancelGuard {
            call,
            answering: AnsweringVersion::default(),
            is_finished: false,
        }
    }

    /// Marks the call as finished. Its caller receives the outcome, which is counted elsewhere.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // If no version is known, the request is counted for the model that it names.
        let failed = FailedRequest::from(Failure {
            error: PredictError::Cancelled,
            servable: self.answering.get(),
            unversioned: None,
        });
        failed.count(self.call, ErrorCode::Cancelled.http_status());
    }
}
