//! Cancellation: a caller that hangs up or cancels is counted and logged as every other request is. The future that works on its
//! request is dropped in the middle, and nothing but a guard in it notices.

use crate::{
    api::{Api, context::Context, refusal::FailedRequest},
    error::ErrorCode,
    metrics::Protocol,
    predict::{AnsweringVersion, Failure, PredictError},
    registry::route::Target,
};

/// Counts the request where it is dropped before it is finished.
pub struct CancelGuard<'a> {
    api: &'a Api,
    protocol: Protocol,
    pub target: Target<'a>,
    pub context: &'a Context,
    /// The version that was to answer, where the request got so far.
    pub answering: AnsweringVersion,
    is_finished: bool,
}

impl<'a> CancelGuard<'a> {
    pub fn new(
        api: &'a Api,
        protocol: Protocol,
        target: Target<'a>,
        context: &'a Context,
    ) -> CancelGuard<'a> {
        CancelGuard {
            api,
            protocol,
            target,
            context,
            answering: AnsweringVersion::default(),
            is_finished: false,
        }
    }

    /// The request has an outcome, which its caller is told and which is counted by whoever tells it.
    pub fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let refused = match self.answering.get() {
            Some(servable) => FailedRequest::from(Failure {
                error: PredictError::Cancelled,
                servable: Some(servable),
                unversioned: None,
            }),
            None => FailedRequest::from(PredictError::Cancelled),
        };
        refused.count(
            self.api,
            self.protocol,
            ErrorCode::Cancelled.http_status(),
            self.target,
            self.context,
        );
    }
}
