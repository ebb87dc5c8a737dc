//! A minimal tonic server that reads a ModelInfer request and answers a fixed one: the lower bound
//! for a gRPC server with these libraries.
//!
//! usage: bench-grpc-echo      (prints its address; answers like `add_sub`, with two outputs of [1,
//! 4] float32)

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for measuring"
)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use predictd::api::grpc::inference::{
    ModelInferRequest, ModelInferResponse, model_infer_response::InferOutputTensor,
};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service},
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

fn answer() -> ModelInferResponse {
    let output = |name: &str| InferOutputTensor {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, 4],
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: "add_sub".to_owned(),
        model_version: "1".to_owned(),
        outputs: vec![output("sum"), output("difference")],
        raw_output_contents: vec![Bytes::from_static(&[7; 16]); 2],
        ..ModelInferResponse::default()
    }
}

/// The service of one method, in the form of tonic's generator.
#[derive(Clone)]
struct Echo(ModelInferResponse);

impl UnaryService<ModelInferRequest> for Echo {
    type Response = ModelInferResponse;
    type Future = Ready<Result<tonic::Response<ModelInferResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<ModelInferRequest>) -> Self::Future {
        std::hint::black_box(request.into_inner());
        ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(echo, request).await) })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "inference.GRPCInferenceService";
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap())
            .unwrap()
            .with_nodelay(Some(true));
        println!("{}", incoming.local_addr().unwrap());
        Server::builder()
            .add_service(Echo(answer()))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}
