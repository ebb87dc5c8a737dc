//! The service on one connection: routes its requests.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use tower::Service;

use crate::{
    api::{
        http::connections::{
            connection_progress::{ConnectionPhase, ConnectionProgress},
            connection_refusal::refuse_head,
        },
        request_head,
    },
    metrics::Metrics,
};

/// Routes requests, and updates the phase of the connection.
pub(super) struct HttpConnectionService {
    pub router: Router,
    pub progress: Arc<ConnectionProgress>,
    pub draining: Arc<AtomicBool>,
    pub metrics: Metrics,
}

impl hyper::service::Service<Request<Incoming>> for HttpConnectionService {
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        self.progress.set(ConnectionPhase::Busy);
        let response = match request_head::check(request.uri(), request.headers()) {
            // A router is always ready. Cloning it only increases a reference count.
            Ok(()) => PendingResponse::Routed(self.router.clone().call(request.map(Body::new))),
            Err(refusal) => {
                let response = refuse_head(&refusal, request.headers(), &self.metrics);
                PendingResponse::Refused(Some(response))
            }
        };
        ResponseFuture {
            response,
            progress: Arc::clone(&self.progress),
            draining: Arc::clone(&self.draining),
        }
    }
}

enum PendingResponse {
    Routed(<Router as Service<Request<Body>>>::Future),
    Refused(Option<Response>),
}

pub(super) struct ResponseFuture {
    response: PendingResponse,
    progress: Arc<ConnectionProgress>,
    draining: Arc<AtomicBool>,
}

impl Future for ResponseFuture {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut polled = match &mut self.response {
            PendingResponse::Routed(routed) => Pin::new(routed).poll(cx),
            // `None` only if the future is polled again after its end, which hyper does not do.
            PendingResponse::Refused(response) => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
        };
        if let Poll::Ready(Ok(response)) = &mut polled {
            self.progress.set(ConnectionPhase::Idle);
            // The header makes clients move to another server before the listener closes.
            if self.draining.load(Ordering::Relaxed) {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        polled
    }
}
