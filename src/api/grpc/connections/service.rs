//! The services on one connection. Counts the connection's open calls.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use tonic::{body::Body, codegen::BoxFuture};

use crate::api::grpc::{
    Services,
    connections::activity::{ConnectionActivity, OpenCall, ResponseBody},
};

pub(super) struct GrpcConnectionService {
    pub services: Services,
    pub activity: Arc<ConnectionActivity>,
    pub draining: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for GrpcConnectionService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = CallFuture;

    fn call(&self, request: Request<Incoming>) -> CallFuture {
        if self.draining.load(Ordering::Relaxed) {
            self.activity.leave.notify_one();
        }
        CallFuture {
            inner: self.services.call(request),
            open: Some(OpenCall::new(&self.activity)),
        }
    }
}

/// A call until the head of its response. Afterwards the body of the response keeps the call open.
pub(super) struct CallFuture {
    inner: BoxFuture<Response<Body>, Infallible>,
    open: Option<OpenCall>,
}

impl Future for CallFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = self.inner.as_mut().poll(context) else {
            return Poll::Pending;
        };
        // `None` only if the future is polled again after its end, which hyper does not do.
        let Some(open) = self.open.take() else {
            return Poll::Pending;
        };
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, open))))
    }
}
