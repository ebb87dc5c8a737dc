//! Cancellation: a request whose caller hangs up or cancels is counted and logged like every other
//! request.
//!
//! The server drops the future that works on the request. Only the destructor of a guard in that
//! future can notice it.

use crate::{
    api::{call::Call, failed_request::FailedRequest},
    error::ErrorCode,
    predict::{AnsweringVersion, Failure, PredictError},
};

/// Counts the call as cancelled if it is dropped before it is finished.
pub(super) struct CancelGuard<'a> {
    pub call: Call<'a>,
    /// The version that is to answer, once it is known.
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

    /// The call has an outcome, which its caller receives and which is counted elsewhere.
    pub(super) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Without a version the request is counted for the model that it names.
        let failed = FailedRequest::from(Failure {
            error: PredictError::Cancelled,
            servable: self.answering.get(),
            unversioned: None,
        });
        failed.count(self.call, ErrorCode::Cancelled.http_status());
    }
}
