//! Shutting down: not ready at once, nothing lost, exit 0.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use rustix::process::Signal;

use crate::harness::{Server, example_input, models_with, wait_until};

#[test]
fn no_request_is_lost_under_load() {
    let models = models_with(&[("churn", "1.1.0")]);
    let mut server = Server::start(models.path(), &[("server.drain_grace_ms", "700")]);
    let (done, answered, refused) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let (url, body) = (
        server.url("/predict"),
        example_input("churn", "1.1.0").to_string(),
    );
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let client = reqwest::blocking::Client::new();
                while !done.load(Ordering::Relaxed) {
                    let sent = client
                        .post(&url)
                        .header("content-type", "application/json")
                        .body(body.clone())
                        .send();
                    match sent.and_then(|response| Ok((response.status(), response.bytes()?))) {
                        Ok((status, _)) => {
                            assert_eq!(status, 200);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        // A balancer stops sending when readiness goes; who comes after the drain finds no listener.
                        Err(error) if error.is_connect() => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        // Anything else is a request that was sent and never answered.
                        Err(error) => panic!("a request was lost: {error:?}"),
                    }
                }
            });
        }
        wait_until("load is on", || answered.load(Ordering::Relaxed) > 200);
        server.signal(Signal::TERM);
        wait_until("readiness is off", || server.get("/readyz").status() == 503);
        assert_eq!(server.get("/livez").status(), 200);
        let before = answered.load(Ordering::Relaxed);
        wait_until("it still serves", || {
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
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    write!(stream, "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{first}", body.len())
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
    wait_until("nobody is let in", || {
        std::net::TcpStream::connect_timeout(&server.address, Duration::from_millis(100)).is_err()
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
fn a_second_signal_ends_it_at_once() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let mut server = Server::start(models.path(), &[("server.drain_grace_ms", "600000")]);
    server.signal(Signal::INT);
    wait_until("it drains", || server.get("/readyz").status() == 503);
    server.signal(Signal::TERM);
    server.wait_for_exit();
    assert_eq!(server.logged("second signal: stopping at once").len(), 1);
}
