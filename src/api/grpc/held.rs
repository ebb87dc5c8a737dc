//! Held: a place among the requests in flight that an answer keeps until its client has taken it.

use std::{future::pending, pin::Pin, sync::Arc};

use futures_util::FutureExt;

use crate::api::http::Api;

/// Bodies outlive the call that made them, and an admission borrows from its server: this one brings the server along.
pub struct Held {
    _place: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Held {
    /// `None` where the server has its fill.
    pub fn take(api: &Arc<Api>) -> Option<Held> {
        let api = Arc::clone(api);
        let mut place: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let admission = api.admit();
            if admission.is_some() {
                // What was taken is given back when this is dropped.
                pending::<()>().await;
            }
        });
        let is_over = place.as_mut().now_or_never().is_some();
        (!is_over).then_some(Held { _place: place })
    }
}
