//! Keeps 64 ModelInfer requests in flight over 4 connections, and prints their rate and times.
//!
//! usage: bench-grpc-load ADDRESS [SECONDS [MODEL]]      (default: 3 seconds and `add_sub` of
//! tests/fixtures/onnx)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool for measuring"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use predictd::api::grpc::inference::{
    ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor,
};
use tonic::{
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 64;
const WARM_UP: Duration = Duration::from_millis(500);

fn request(model: &str) -> ModelInferRequest {
    let input = |name: &str| InferInputTensor {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, 4],
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![input("a"), input("b")],
        raw_input_contents: vec![
            Bytes::from_static(&[
                0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64
            ]);
            2
        ],
        ..ModelInferRequest::default()
    }
}

/// Sends requests one after the other. Returns the microseconds of each request that started after
/// the warm-up, and the number of all requests.
async fn ask(
    channel: Channel,
    request: ModelInferRequest,
    start: Instant,
    end: Instant,
) -> (Vec<u32>, usize) {
    let mut client = Grpc::new(channel);
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
    let mut times = Vec::with_capacity(1 << 16);
    let mut all = 0;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return (times, all);
        }
        client.ready().await.unwrap();
        let codec: ProstCodec<ModelInferRequest, ModelInferResponse> = ProstCodec::default();
        let answer = client
            .unary(tonic::Request::new(request.clone()), path.clone(), codec)
            .await
            .expect("an answer");
        assert_eq!(answer.get_ref().outputs.len(), 2);
        all += 1;
        if sent >= start {
            times.push(sent.elapsed().as_micros() as u32);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds: f64 = arguments.get(1).map_or(3.0, |text| text.parse().unwrap());
    let request = request(arguments.get(2).map_or("add_sub", String::as_str));
    let endpoint = Endpoint::from_shared(format!("http://{}", arguments[0]))
        .unwrap()
        .tcp_nodelay(true);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut times, all) = runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(endpoint.connect().await.unwrap());
        }
        let start = Instant::now() + WARM_UP;
        let end = start + Duration::from_secs_f64(seconds);
        let tasks = channels
            .iter()
            .cycle()
            .take(IN_FLIGHT)
            .map(|channel| tokio::spawn(ask(channel.clone(), request.clone(), start, end)));
        let tasks: Vec<_> = tasks.collect();
        let (mut times, mut all) = (Vec::new(), 0);
        for task in tasks {
            let (more, count) = task.await.unwrap();
            times.extend(more);
            all += count;
        }
        (times, all)
    });
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{{\"requests\": {all}, \"rps\": {:.0}, \"p50_us\": {}, \"p99_us\": {}}}",
        times.len() as f64 / seconds,
        quantile(0.5),
        quantile(0.99)
    );
}
