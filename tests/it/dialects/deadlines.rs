//! Deadlines and overload.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DIALECTS, check_error, check_service, row_request, start_numbers};
use crate::harness::{InProcessServer, PATIENCE, install_graph, models_with, wait_for, wait_until};

fn start_slow(settings: &[(&str, &str)]) -> (TempDir, InProcessServer) {
    let models = models_with(&[]);
    install_graph(models.path(), "slow", 1, "slow", None);
    let server = InProcessServer::start(models.path(), settings);
    (models, server)
}

#[test]
fn the_deadline_of_a_request_is_kept() {
    let (_models, server) = start_slow(&[]);
    let body = |parameters: Value| {
        let input =
            json!({"name": "rounds", "shape": [1], "datatype": "INT64", "data": [10_000_000]});
        json!({"inputs": [input], "parameters": parameters})
    };
    let late = server.predict("/v2/models/slow/infer", &body(json!({"timeout": 50_000})));
    check_error(late, 504, "error", "deadline");
    // The same deadline in the requests of other dialects.
    check_error(
        server.predict("/v1/models/slow:predict", &body(json!({"timeout": 50_000}))),
        504,
        "error",
        "deadline",
    );
    check_error(
        server.predict("/invocations", &body(json!({"timeout": 50_000}))),
        504,
        "message",
        "deadline",
    );
}

#[test]
fn the_deadline_of_the_server_is_kept_in_every_dialect() {
    let (_models, server) = start_slow(&[("server.request_timeout_ms", "300")]);
    let rows = json!({"instances": [10_000_000]});
    check_error(
        server.predict("/v1/models/slow:predict", &rows),
        504,
        "error",
        "deadline",
    );
    check_error(
        server.predict("/invocations", &rows),
        504,
        "message",
        "deadline",
    );
    let input = json!({"name": "rounds", "shape": [1], "datatype": "INT64", "data": [10_000_000]});
    // A later deadline in the request does not extend the server's.
    let body = json!({"inputs": [input], "parameters": {"timeout": 60_000_000}});
    check_error(
        server.predict("/v2/models/slow/infer", &body),
        504,
        "error",
        "deadline",
    );
}

#[test]
fn an_overloaded_server_answers_with_retry_after() {
    let (_models, server) = start_numbers(&[("server.max_inflight", "1")]);
    let (path, ..) = DIALECTS[0];
    let body = row_request(path, "1,2", 2);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // The probe takes the place, too. If the request that shall hold it is refused for that reason,
    // it is sent again.
    let mut held = wait_for("the request without its body is in flight", || {
        let mut held = TcpStream::connect(server.addresses.data).unwrap();
        held.write_all(head.as_bytes()).unwrap();
        held.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let refused = || held.peek(&mut [0]).is_ok();
        wait_until("the place is taken", || {
            let taken = server
                .post(path)
                .body(body.clone())
                .send()
                .unwrap()
                .status()
                == 503;
            taken || refused()
        });
        if refused() { None } else { Some(held) }
    });
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    for (path, header, member) in DIALECTS {
        let refused = server
            .post(path)
            .header(header, "numbers")
            .body(row_request(path, "1,2", 2))
            .send()
            .unwrap();
        check_error(refused, 503, member, "try again later");
    }
    held.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    check_service(&server);
}
