//! `ModelStreamInfer`.

use std::thread;

use predictd::api::grpc::inference::ModelInferRequest;
use tonic::Code;

use super::{
    Client, ONES, add_sub_request, echo_request, raw_floats, slow_request, start_with_one_place,
};
use crate::harness::{InProcessServer, PATIENCE, Server, models_of_graphs, wait_until};

#[test]
fn an_invalid_message_does_not_end_a_stream() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let (send, mut answers) = client.open_stream();
    client.runtime.block_on(async {
        for number in 0..40 {
            let width = if number == 4 { 3 } else { 4 };
            let request = ModelInferRequest {
                id: number.to_string(),
                ..add_sub_request(&vec![number as f32; width], &ONES)
            };
            send.send(request).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            let inference = answer.infer_response.unwrap();
            assert_eq!(inference.id, number.to_string());
            assert_eq!(
                answer.error_message.contains("`a`"),
                number == 4,
                "{}",
                answer.error_message
            );
            if number != 4 {
                assert_eq!(
                    inference.raw_output_contents[0],
                    raw_floats(&[number as f32 + 1.0; 4])
                );
            }
        }
    });
}

#[test]
fn answers_to_concurrent_messages_have_the_order_of_the_messages() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let (send, mut answers) = client.open_stream();
    client.runtime.block_on(async {
        for number in 0..64 {
            let request = ModelInferRequest {
                id: number.to_string(),
                ..add_sub_request(&[number as f32; 4], &ONES)
            };
            send.send(request).await.unwrap();
        }
        for number in 0..64 {
            assert_eq!(
                answers
                    .message()
                    .await
                    .unwrap()
                    .unwrap()
                    .infer_response
                    .unwrap()
                    .id,
                number.to_string()
            );
        }
    });
}

#[test]
fn an_open_stream_does_not_delay_a_drain() {
    let directory = models_of_graphs(&[("add_sub", "add_sub.onnx")]);
    let mut server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    let (_send, mut answers) = client.open_stream();
    server.signal(rustix::process::Signal::TERM);
    let end = client.runtime.block_on(async {
        tokio::time::timeout(PATIENCE, answers.message())
            .await
            .expect("the stream ends")
            .unwrap_err()
    });
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(server.wait_for_exit().success());
}

#[test]
fn a_refused_message_does_not_end_a_stream() {
    let (_directory, server) = start_with_one_place();
    let mut client = Client::new(&server);
    let (send, mut answers) = client.open_stream();
    thread::scope(|scope| {
        let busy = scope.spawn(|| Client::new(&server).infer(slow_request(1 << 13)));
        wait_until("a request is in flight", || {
            server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}") > 0.0
        });
        let answer = client.runtime.block_on(async {
            send.send(echo_request()).await.unwrap();
            answers.message().await.unwrap().unwrap()
        });
        assert!(
            answer.error_message.contains("in flight"),
            "{}",
            answer.error_message
        );
        busy.join().unwrap().unwrap();
    });
    let answer = client.runtime.block_on(async {
        send.send(add_sub_request(&ONES, &ONES)).await.unwrap();
        answers.message().await.unwrap().unwrap()
    });
    assert_eq!(answer.error_message, "");
}
