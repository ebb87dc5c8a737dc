//! Connections: slow, silent, malformed, or too many.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{
    InProcessServer, PATIENCE, Server, ServerClient, example_input, models_with, wait_for,
    wait_until,
};

#[test]
fn slow_senders_get_408() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[("server.read_timeout_ms", "300")]);
    let send = |text: &str| {
        let mut stream = TcpStream::connect(server.addresses.data).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let body = send(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"age\":",
    );
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    let head = send("POST /predict HTTP/1.1\r\nhost: x\r\nx-slow: ");
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    // A connection that is idle between requests is not slow.
    let mut stream = TcpStream::connect(server.addresses.data).unwrap();
    for _ in 0..2 {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(600) {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = [0; 4096];
        let _ = stream.read(&mut rest).unwrap();
    }
}

#[test]
fn malformed_bytes_do_not_affect_other_connections() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    for garbage in [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /predict HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let answer = server.send_raw(garbage.as_bytes());
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.0 4"),
            "{garbage:?}: {answer}"
        );
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000));
    let answer = server.send_raw(long.as_bytes());
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    assert_eq!(
        server
            .predict("/predict", &example_input("diabetes", "1.0.0"))
            .status(),
        200
    );
}

#[test]
fn a_silent_connection_is_closed_after_the_configured_time() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(
        models.path(),
        &[
            ("server.idle_timeout_ms", "300"),
            ("server.grpc_idle_timeout_ms", "300"),
        ],
    );
    for address in [server.addresses.data.to_string(), server.grpc_address()] {
        let start = Instant::now();
        let mut silent = TcpStream::connect(&address).unwrap();
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        if address == server.grpc_address() {
            // The connection preface and an empty SETTINGS frame.
            silent
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .unwrap();
        }
        // Read until the end or a GOAWAY frame, which has type 7 and here 8 bytes.
        let (mut received, mut part) = (Vec::new(), [0; 256]);
        let has_goaway = |bytes: &[u8]| bytes.windows(3).any(|bytes| bytes == [0, 8, 7]);
        while !has_goaway(&received) {
            let length = silent.read(&mut part).unwrap();
            received.extend_from_slice(&part[..length]);
            if length == 0 {
                break;
            }
        }
        assert!(
            (Duration::from_millis(300)..Duration::from_secs(20)).contains(&start.elapsed()),
            "{address}: {:?}",
            start.elapsed()
        );
        assert_eq!(
            has_goaway(&received),
            address == server.grpc_address(),
            "{received:?}"
        );
    }
}

/// A request with these header fields.
fn head(fields: &str) -> String {
    format!("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n")
}

fn field_of(bytes: usize) -> String {
    format!("x-large: {}\r\n", "a".repeat(bytes))
}

fn many_fields(count: usize) -> String {
    (0..count)
        .map(|index| format!("x-{index}: 1\r\n"))
        .collect()
}

fn request_of_path(bytes: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(bytes))
}

/// Requests whose head is too large, and the detail of the error.
fn too_large_heads() -> [(String, &'static str); 6] {
    let too_many_bytes = "have more than 262144 bytes; at most 65536 are accepted";
    let too_many_fields = "the head has more than the limit of 100 header fields";
    [
        (head(&field_of(10 << 20)), too_many_bytes),
        (head(&field_of(1 << 20)), too_many_bytes),
        (head(&many_fields(120)), too_many_fields),
        (
            request_of_path(70_000),
            "the path with its query has more than the limit of 65534 bytes",
        ),
        (request_of_path(1 << 20), too_many_bytes),
        // The second request of a connection.
        (
            format!(
                "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n{}",
                head(&many_fields(120))
            ),
            too_many_fields,
        ),
    ]
}

/// Refused requests without a model, as the metrics count them.
fn refusals(server: &ServerClient, code: u16) -> f64 {
    server.metric(&format!(
        "predictd_requests_total{{code=\"{code}\",model=\"\",protocol=\"predict\",version=\"\"}}"
    ))
}

/// Asserts that the last answer on a connection is a 431 with this detail and a request id.
fn check_refused_head(request: &str, expected: &str, answer: &str) {
    let last = answer
        .rfind("HTTP/1.1 ")
        .unwrap_or_else(|| panic!("no answer, expected {expected}"));
    assert_eq!(
        last > 0,
        request.starts_with("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"),
        "{answer}"
    );
    let (head, body) = answer[last..].split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 431 ")
            && head.contains("content-type: application/problem+json"),
        "{answer}"
    );
    let problem: Value = serde_json::from_str(body).unwrap();
    assert!(
        problem["detail"].as_str().unwrap().contains(expected),
        "{problem}"
    );
    assert!(
        head.contains(&format!(
            "x-request-id: {}",
            problem["request_id"].as_str().unwrap()
        )),
        "{answer}"
    );
}

#[test]
fn too_large_heads_are_answered_and_counted() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    assert!(
        server
            .send_raw(head(&field_of(60_000)).as_bytes())
            .starts_with("HTTP/1.1 200 ")
    );
    let answer = server.send_raw(head(&field_of(100_000)).as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 431 ") && answer.contains("at most 65536 are accepted"),
        "{answer}"
    );
    let cases = too_large_heads();
    for (request, expected) in &cases {
        check_refused_head(request, expected, &server.send_raw(request.as_bytes()));
    }
    wait_until("the refusals are counted", || {
        refusals(&server, 431) == 1.0 + cases.len() as f64
    });
    let lines = wait_for("the refusals are logged", || {
        Some(server.logged("refused")).filter(|lines| lines.len() == 1 + cases.len())
    });
    for line in &lines {
        assert_eq!(
            (&line["status"], &line["error"]),
            (&431.into(), &"headers-too-large".into()),
            "{line}"
        );
    }
    assert!(
        lines.iter().any(|line| line["detail"]
            .as_str()
            .unwrap()
            .contains("more than the limit of 100 header fields")),
        "{lines:?}"
    );
}

#[test]
fn a_malformed_head_is_answered_and_counted() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let answer = server.send_raw(b"GET / HTTP/9.9\r\nhost: x\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("this is not an HTTP/1.1 request"),
        "{answer}"
    );
    wait_until("the malformed head is counted", || {
        refusals(&server, 400) == 1.0
    });
}

#[test]
fn connections_beyond_the_limit_are_answered() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[("server.max_connections", "3")]);
    let mut held = Vec::new();
    let refused = wait_for("a connection is refused", || {
        let mut stream = TcpStream::connect(server.addresses.data).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        held.push(stream);
        (!answer.is_empty()).then_some(answer)
    });
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after"),
        "{refused}"
    );
    drop(held);
    wait_for("a connection is accepted again", || {
        server
            .client
            .get(server.url("/livez"))
            .send()
            .ok()
            .filter(|response| response.status() == 200)
    });
}
