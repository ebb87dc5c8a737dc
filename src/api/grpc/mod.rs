//! gRPC: the Open Inference Protocol's service, health checks and reflection.

mod census;
pub mod contents;
mod frame;
mod health;
mod infer;
mod paced;
pub mod serve;
mod service;
mod traffic;

use std::{convert::Infallible, sync::Arc};

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxFuture, Service},
    service::Routes,
};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::{Builder, Error};

use crate::api::refusal::Refusal;
use crate::api::{
    Api,
    grpc::{
        health::Health,
        inference::grpc_inference_service_server::{GrpcInferenceServiceServer, SERVICE_NAME},
        paced::Paced,
        service::Inference,
    },
    head,
};

/// The messages and the service, made from `proto/open_inference.proto` by `tests/it/proto.rs`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::redundant_closure_for_method_calls,
    rust_2018_idioms,
    reason = "generated code is as its generator writes it"
)]
pub mod inference {
    include!("generated/inference.rs");
}

/// The descriptors of these messages, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!("generated/inference.bin");

/// Whether messages are told to be framed and encoded as they are here: neither `application/grpc-web` nor `application/grpc+json`.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let essence = content_type
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

/// Bytes of a message that is no inference: it has a name or two.
const MAX_MESSAGE: usize = 64 << 10;

/// Reflection repeats names that it does not know in a header, where clients take no more.
const MAX_SYMBOL: usize = 2 << 10;

/// Every service of the port.
#[derive(Clone)]
pub struct Services {
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
    /// All but inference itself.
    inference: GrpcInferenceServiceServer<Inference>,
    /// What is asked rarely.
    others: Routes,
}

impl Services {
    /// What streams without an end of its own ends when `stopped` turns true.
    pub fn new(api: &Arc<Api>, stopped: &watch::Receiver<bool>) -> Result<Services, Error> {
        let mut inference = GrpcInferenceServiceServer::new(Inference::new(Arc::clone(api)))
            .max_decoding_message_size(MAX_MESSAGE);
        for encoding in [
            CompressionEncoding::Gzip,
            CompressionEncoding::Deflate,
            CompressionEncoding::Zstd,
        ] {
            inference = inference.accept_compressed(encoding);
        }
        let reflection = || {
            let builder = Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
            builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let health = HealthServer::new(Health::new(Arc::clone(api), stopped.clone()))
            .max_decoding_message_size(MAX_MESSAGE);
        let others = Routes::new(health)
            .add_service(
                reflection()
                    .build_v1()?
                    .max_decoding_message_size(MAX_SYMBOL),
            )
            .add_service(
                reflection()
                    .build_v1alpha()?
                    .max_decoding_message_size(MAX_SYMBOL),
            )
            .prepare();
        Ok(Services {
            api: Arc::clone(api),
            stopped: stopped.clone(),
            inference,
            others,
        })
    }

    fn call(&self, request: Request<Incoming>) -> BoxFuture<Response<Body>, Infallible> {
        if let Err(Refusal { code, detail }) = head::check(request.uri(), request.headers()) {
            return Box::pin(std::future::ready(Ok(infer::refuse_head(
                &self.api,
                request.headers(),
                code,
                detail,
            ))));
        }
        if !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Box::pin(std::future::ready(Ok(response)));
        }
        match request.uri().path() {
            infer::UNARY => Box::pin(infer::unary(Arc::clone(&self.api), request).map(Ok)),
            infer::STREAM => {
                let patience =
                    self.api.config.grpc_idle_timeout() + self.api.config.request_timeout();
                Box::pin(
                    infer::stream(
                        Arc::clone(&self.api),
                        self.stopped.clone(),
                        patience,
                        request,
                    )
                    .map(Ok),
                )
            }
            path if path.split('/').nth(1) == Some(SERVICE_NAME) => {
                self.limited(request, |request| self.inference.clone().call(request))
            }
            _ => self.limited(request, |request| self.others.clone().call(request)),
        }
    }

    /// Gives a call that the library answers its limits of time. AnsweringVersion takes none: what takes time is the message.
    fn limited<F>(
        &self,
        request: Request<Incoming>,
        call: impl FnOnce(Request<Paced>) -> F,
    ) -> BoxFuture<Response<Body>, Infallible>
    where
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let (api, context) = (Arc::clone(&self.api), infer::context(request.headers()));
        if let Err(Refusal { code, detail }) = context.check() {
            return Box::pin(std::future::ready(Ok(infer::refuse(
                &api, &context, code, detail,
            ))));
        }
        let deadline = context.deadline(api.config.request_timeout());
        let timeout = api
            .config
            .read_timeout()
            .min(deadline.saturating_duration_since(context.started));
        let patience = self.api.config.grpc_idle_timeout();
        let answer = call(request.map(|body| Paced::new(body, patience)));
        Box::pin(async move {
            match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(infer::give_up(&api, &context, timeout)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use crate::api::grpc::is_grpc;

    #[test]
    fn only_grpc_itself_is_spoken() {
        for known in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
            "Application/gRPC+proto;x",
        ] {
            assert!(is_grpc(&HeaderValue::from_static(known)), "{known}");
        }
        for other in [
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcx",
            "text/plain",
            "",
        ] {
            assert!(!is_grpc(&HeaderValue::from_static(other)), "{other}");
        }
    }
}
