//! Requests in flight: when a call takes its place, when it gives it back, and calls that are
//! cancelled.

use std::thread;

use http::uri::PathAndQuery;
use predictd::api::grpc::inference::{ModelInferRequest, ModelInferResponse};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::{
    Client, ONES, add_sub_request, echo_request, open_call, slow_request, start_with_one_place,
};
use crate::harness::{
    InProcessServer, PATIENT, Server, ServerClient, models_of_graphs, wait_for, wait_until,
};

#[test]
fn calls_beyond_the_limit_are_refused() {
    let directory = models_of_graphs(&[("slow", "slow.onnx"), ("add_sub", "add_sub.onnx")]);
    let server = InProcessServer::start(directory.path(), &[("server.max_inflight", "1"), PATIENT]);
    thread::scope(|scope| {
        let busy = scope.spawn(|| Client::new(&server).infer(slow_request(1 << 13)));
        wait_until("a request is in flight", || {
            server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}") > 0.0
        });
        let status = Client::new(&server)
            .infer(add_sub_request(&ONES, &ONES))
            .unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert_eq!(
            status.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "1000"
        );
        assert_eq!(status.metadata().get("x-request-id").unwrap().len(), 26);
        busy.join().unwrap().unwrap();
    });
}

#[test]
fn a_drain_finishes_the_calls_in_flight() {
    let directory = models_of_graphs(&[("slow", "slow.onnx")]);
    let mut server = Server::start(directory.path(), &[PATIENT]);
    let mut client = Client::new(&server);
    let busy = thread::spawn(move || client.infer(slow_request(1 << 12)));
    wait_until("a request is in flight", || {
        server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}") > 0.0
    });
    server.signal(rustix::process::Signal::TERM);
    assert!(busy.join().unwrap().is_ok());
    assert!(server.wait_for_exit().success());
}

fn cancelled_calls(server: &ServerClient) -> f64 {
    server.metric(
        "predictd_requests_total{code=\"499\",model=\"slow\",protocol=\"grpc\",version=\"1\"}",
    )
}

fn calls_in_flight(server: &ServerClient) -> f64 {
    server.metric("predictd_inflight_requests{model=\"slow\",version=\"1\"}")
}

/// Asserts that this many cancelled calls are counted and logged, and nothing else is counted as an
/// error.
fn check_cancelled_calls(server: &Server, count: usize) {
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"cancelled\",model=\"slow\",version=\"1\"}"),
        count as f64
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"cancelled\",model=\"\",version=\"\"}"),
        0.0
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"invalid\",model=\"\",version=\"\"}"),
        0.0
    );
    let line = wait_for("the cancelled calls are logged", || {
        server.logged("cancelled").get(count - 1).cloned()
    });
    assert_eq!(
        (&line["status"], &line["protocol"], &line["model"]),
        (&499.into(), &"grpc".into(), &"slow".into()),
        "{line}"
    );
}

#[test]
fn a_cancelled_call_is_counted_and_logged() {
    let directory = models_of_graphs(&[("slow", "slow.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let client = Client::new(&server);
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelInfer");
    let mut grpc = client.grpc.clone();
    let call = client.runtime.spawn(async move {
        grpc.ready().await.unwrap();
        grpc.unary(
            Request::new(slow_request(10_000_000)),
            path,
            ProstCodec::<ModelInferRequest, ModelInferResponse>::default(),
        )
        .await
        .unwrap();
    });
    wait_until("the call is in flight", || {
        client.poll_runtime();
        calls_in_flight(&server) == 1.0
    });
    call.abort();
    wait_until("the cancelled call is counted", || {
        client.poll_runtime();
        cancelled_calls(&server) == 1.0
    });
    check_cancelled_calls(&server, 1);
}

#[test]
fn cancelled_messages_of_a_stream_are_counted_and_logged() {
    let directory = models_of_graphs(&[("slow", "slow.onnx")]);
    let server = Server::start(directory.path(), &[]);
    let mut client = Client::new(&server);
    // A stream without messages is not counted.
    let (idle, answers) = client.open_stream();
    drop((idle, answers));
    let (send, answers) = client.open_stream();
    for _ in 0..3 {
        send.blocking_send(slow_request(10_000_000)).unwrap();
    }
    wait_until("the messages are in flight", || {
        client.poll_runtime();
        calls_in_flight(&server) == 3.0
    });
    drop((send, answers));
    wait_until("the cancelled messages are counted", || {
        client.poll_runtime();
        cancelled_calls(&server) == 3.0
    });
    check_cancelled_calls(&server, 3);
}

fn is_full(client: &mut Client) -> Option<()> {
    client
        .infer(add_sub_request(&ONES, &ONES))
        .is_err_and(|status| status.code() == Code::ResourceExhausted)
        .then_some(())
}

fn has_room(client: &mut Client) -> Option<()> {
    client
        .infer(add_sub_request(&ONES, &ONES))
        .is_ok()
        .then_some(())
}

#[test]
fn an_unread_answer_keeps_its_place() {
    let (_directory, server) = start_with_one_place();
    let (mut slow_reader, mut other) = (Client::with_small_windows(&server), Client::new(&server));
    let mut answer = slow_reader.start_call(echo_request());
    assert!(is_full(&mut other).is_some());
    let read = slow_reader.runtime.block_on(async {
        let message = answer.message().await.unwrap().unwrap();
        assert!(answer.message().await.unwrap().is_none());
        message
    });
    assert_eq!(read.raw_output_contents, echo_request().raw_input_contents);
    assert!(
        has_room(&mut other).is_some(),
        "after the answer is read, the place is free"
    );

    drop(slow_reader.start_call(echo_request()));
    slow_reader.runtime.block_on(tokio::task::yield_now());
    drop(slow_reader);
    wait_for("a dropped answer gives its place back", || {
        has_room(&mut other)
    });
}

#[test]
fn an_unread_answer_of_a_stream_keeps_its_place() {
    let (_directory, server) = start_with_one_place();
    let (mut slow_reader, mut other) = (Client::with_small_windows(&server), Client::new(&server));
    let (send, mut answers) = slow_reader.open_stream();
    slow_reader
        .runtime
        .block_on(send.send(echo_request()))
        .unwrap();
    let answered = "predictd_requests_total{code=\"200\",model=\"identity_fp32\",\
                    protocol=\"grpc\",version=\"1\"}";
    wait_until("the message is answered", || {
        // The client sends only while its runtime is polled.
        slow_reader.runtime.block_on(tokio::task::yield_now());
        server.metric(answered) > 0.0
    });
    assert!(is_full(&mut other).is_some());
    slow_reader.runtime.block_on(async {
        for _ in 0..3 {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(
                (
                    answer.error_message.as_str(),
                    answer.infer_response.unwrap().raw_output_contents.len()
                ),
                ("", 1)
            );
            send.send(echo_request()).await.unwrap();
        }
    });
    drop((send, answers, slow_reader));
    wait_for("a closed stream gives its places back", || {
        has_room(&mut other)
    });
}

#[test]
fn a_message_takes_its_place_before_its_body_arrives() {
    let (_directory, server) = start_with_one_place();
    let mut other = Client::new(&server);
    for method in ["ModelInfer", "ModelStreamInfer"] {
        // The prefix of the message announces a thousand bytes.
        let mut incomplete = None;
        wait_for("the place is taken", || {
            // The probe itself may hold the place when the call arrives. Then the call was refused,
            // and is opened again.
            let full = incomplete.is_some().then(|| is_full(&mut other)).flatten();
            if full.is_none() {
                incomplete = Some(open_call(&server, method, &[0, 0, 0, 3, 232, 10]));
            }
            full
        });
        drop(incomplete);
        wait_for("the place is given back", || has_room(&mut other));
    }
    // An open stream takes no place. Only its messages do.
    let silent = open_call(&server, "ModelStreamInfer", &[]);
    assert!(has_room(&mut other).is_some());
    drop(silent);
}
