//! gRPC: the service of the Open Inference Protocol, health checks and reflection.

mod call_context;
mod chunked_bytes;
pub(crate) mod connections;
mod health_service;
mod idle_timeout_body;
mod infer;
mod infer_request;
mod infer_response;
mod inference_service;
mod message_reader;
mod message_writer;
mod part_count;
mod status;
mod stream;
mod typed_contents;
mod unary;

use std::{convert::Infallible, sync::Arc};

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::{
    Status,
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxFuture, Service},
    service::Routes,
};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::{Builder, Error};

use crate::{
    api::{
        Api,
        grpc::{
            call_context::context,
            health_service::HealthService,
            idle_timeout_body::IdleTimeoutBody,
            inference::grpc_inference_service_server::{GrpcInferenceServiceServer, SERVICE_NAME},
            inference_service::InferenceService,
            status::{grpc_call, message_timeout, refuse, refuse_head},
        },
        refusal::Refusal,
        request_head,
    },
    error::ErrorCode,
};

/// The messages and the service. `tests/it/proto.rs` generates them from
/// `proto/open_inference.proto`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::redundant_closure_for_method_calls,
    missing_docs,
    rust_2018_idioms,
    reason = "generated code follows the rules of its generator"
)]
pub mod inference {
    include!("generated/inference.rs");
}

/// The descriptors of the messages, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!("generated/inference.bin");

/// Whether the body contains Protobuf messages in gRPC's own framing. False for
/// `application/grpc-web` and `application/grpc+json`.
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

const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Maximum size of a message that is not an inference. Such a message contains only one or two
/// names.
const MAX_MESSAGE: usize = 64 << 10;

/// Maximum size of a message of a reflection call. The reflection service repeats unknown names in
/// a header, and clients limit the size of headers.
const MAX_SYMBOL: usize = 2 << 10;

/// All services of the gRPC listener.
#[derive(Clone)]
pub(crate) struct Services {
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
    /// The calls of the inference service, except for the two that run a model.
    inference: GrpcInferenceServiceServer<InferenceService>,
    /// Health checks and reflection.
    others: Routes,
}

impl Services {
    /// Creates all services. `stopped` ends the streams that would otherwise never end.
    pub(crate) fn new(api: &Arc<Api>, stopped: &watch::Receiver<bool>) -> Result<Services, Error> {
        let mut inference = GrpcInferenceServiceServer::new(InferenceService::new(Arc::clone(api)))
            .max_decoding_message_size(MAX_MESSAGE);
        // Accept the same encodings as for inference messages.
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
        let health = HealthServer::new(HealthService::new(Arc::clone(api), stopped.clone()))
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
        if let Err(refusal) = request_head::check(request.uri(), request.headers()) {
            return ready(refuse_head(&self.api, request.headers(), refusal));
        }
        // The client does not speak gRPC. The protocol requires status 415 in this case.
        if !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return ready(response);
        }
        let api = Arc::clone(&self.api);
        // The two calls with tensors do not use tonic, because its codec would copy the tensors.
        match request.uri().path() {
            unary::PATH => Box::pin(unary::model_infer(api, request).map(Ok)),
            stream::PATH => {
                // A silent client may be waiting for a response. That time does not count as idle.
                let idle_timeout = api.config.grpc_idle_timeout() + api.config.request_timeout();
                let stopped = self.stopped.clone();
                Box::pin(stream::model_stream_infer(api, stopped, idle_timeout, request).map(Ok))
            }
            path if path.split('/').nth(1) == Some(SERVICE_NAME) => {
                self.call_limited(request, |request| self.inference.clone().call(request))
            }
            _ => self.call_limited(request, |request| self.others.clone().call(request)),
        }
    }

    /// Calls a tonic service with time limits for receiving the message. The handlers themselves
    /// take almost no time.
    fn call_limited<F>(
        &self,
        request: Request<Incoming>,
        call: impl FnOnce(Request<IdleTimeoutBody>) -> F,
    ) -> BoxFuture<Response<Body>, Infallible>
    where
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let (api, context) = (Arc::clone(&self.api), context(request.headers()));
        if let Err(refusal) = context.check() {
            return ready(refuse(grpc_call(&api, &context, ""), &refusal.into()));
        }
        let deadline = context.deadline(api.config.request_timeout());
        let timeout = api
            .config
            .read_timeout()
            .min(deadline.saturating_duration_since(context.started));
        let idle_timeout = api.config.grpc_idle_timeout();
        // The clone shares the text: only a call of an unknown method needs it.
        let uri = request.uri().clone();
        let response = call(request.map(|body| IdleTimeoutBody::new(body, idle_timeout)));
        Box::pin(async move {
            match tokio::time::timeout(timeout, response).await {
                Ok(Ok(response)) if is_unknown_method(&response) => {
                    let detail = format!("there is no method {}", uri.path());
                    let refusal = Refusal::new(ErrorCode::Unsupported, detail);
                    Ok(refuse(grpc_call(&api, &context, ""), &refusal.into()))
                }
                Ok(response) => response,
                Err(_) => Ok(refuse(
                    grpc_call(&api, &context, ""),
                    &message_timeout(timeout).into(),
                )),
            }
        })
    }
}

/// Whether tonic has no handler for the call. Its answer has no message.
fn is_unknown_method(response: &Response<Body>) -> bool {
    let headers = response.headers();
    headers
        .get(Status::GRPC_STATUS)
        .is_some_and(|status| status == "12")
        && !headers.contains_key(Status::GRPC_MESSAGE)
}

fn ready(response: Response<Body>) -> BoxFuture<Response<Body>, Infallible> {
    Box::pin(std::future::ready(Ok(response)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use crate::api::grpc::is_grpc;

    #[test]
    fn only_grpc_with_protobuf_is_accepted() {
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
