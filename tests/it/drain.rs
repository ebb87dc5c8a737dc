//! Shutdown: the server is unready at once, finishes the requests in flight, and exits with 0.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::blocking::Client;
use rustix::process::Signal;

use crate::harness::{Server, example_input, models_with, wait_until};

/// Sends a prediction. Returns false if there is no listener any more.
fn predict(client: &Client, url: &str, body: &str) -> bool {
    let sent = client
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_owned())
        .send();
    match sent.and_then(|response| Ok((response.status(), response.bytes()?))) {
        Ok((status, _)) => {
            assert_eq!(status, 200);
            true
        }
        // A load balancer stops sending when the server is unready. After the drain there is no
        // listener.
        Err(error) if error.is_connect() => false,
        // Every other error is a request that was sent and not answered.
        Err(error) => panic!("a request was lost: {error:?}"),
    }
}

#[test]
fn no_request_is_lost_under_load() {
    let models = models_with(&[("churn", "1.1.0")]);
    let mut server = Server::start(models.path(), &[("server.drain_grace_ms", "700")]);
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (url, body) = (
        server.url("/predict"),
        example_input("churn", "1.1.0").to_string(),
    );
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let client = Client::new();
                while !done.load(Ordering::Relaxed) && predict(&client, &url, &body) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_until("requests are answered", || {
            answered.load(Ordering::Relaxed) > 200
        });
        server.signal(Signal::TERM);
        wait_until("the server is unready", || {
            server.get("/readyz").status() == 503
        });
        assert_eq!(server.get("/livez").status(), 200);
        let before = answered.load(Ordering::Relaxed);
        wait_until("the server still answers", || {
            answered.load(Ordering::Relaxed) > before + 50
        });
        let status = server.wait_for_exit();
        done.store(true, Ordering::Relaxed);
        assert_eq!(status.code(), Some(0));
    });
    assert_eq!(server.logged("all requests are answered").len(), 1);
}

#[test]
fn a_request_in_flight_is_finished() {
    use std::io::{Read, Write};
    let models = models_with(&[("diabetes", "1.0.0")]);
    let mut server = Server::start(models.path(), &[]);
    let body = example_input("diabetes", "1.0.0").to_string();
    let (first, second) = body.split_at(20);
    let mut stream = std::net::TcpStream::connect(server.addresses.data).unwrap();
    write!(
        stream,
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{first}",
        body.len()
    )
    .unwrap();
    wait_until("the connection is open", || {
        server.metric("predictd_open_connections") >= 1.0
    });
    server.signal(Signal::TERM);
    wait_until("the listener is closed", || {
        server
            .logged("no new connections; finishing the requests in flight")
            .len()
            == 1
    });
    wait_until("new connections are refused", || {
        std::net::TcpStream::connect_timeout(&server.addresses.data, Duration::from_millis(100))
            .is_err()
    });
    stream.write_all(second.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.contains("predictions"),
        "{answer}"
    );
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_drain() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let mut server = Server::start(models.path(), &[("server.drain_grace_ms", "600000")]);
    server.signal(Signal::INT);
    wait_until("the drain has started", || {
        server.get("/readyz").status() == 503
    });
    server.signal(Signal::TERM);
    server.wait_for_exit();
    assert_eq!(server.logged("second signal: stopping at once").len(), 1);
}

/// Some directories look like versions, such as `/proc/1`, whose links lead to the whole disk.
#[test]
fn a_server_of_the_root_of_the_disk_ends() {
    let mut server = Server::start_unready(Path::new("/"), &[("server.drain_grace_ms", "0")]);
    wait_until("the root is scanned", || {
        server
            .get("/readyz?verbose")
            .text()
            .unwrap()
            .contains("\"ignored\":[")
    });
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
}
