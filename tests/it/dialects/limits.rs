//! Bodies: compression, chunks and the limit of their size.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use flate2::{Compression, write::GzEncoder};

use super::{DIALECTS, MIB, check_error, check_service, row_request, start_numbers};
use crate::harness::{PATIENCE, ServerClient, wait_until};

#[test]
fn a_decompression_bomb_is_refused() {
    let (_models, server) = start_numbers(&[("server.max_body_bytes", "1048576")]);
    check_service(&server);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..192 {
        encoder.write_all(&vec![0; MIB]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < MIB / 4);
    let before = server.memory("VmHWM");
    for (path, header, member) in DIALECTS {
        let request = server
            .post(path)
            .header(header, "numbers")
            .header("content-encoding", "gzip");
        check_error(
            request.body(bomb.clone()).send().unwrap(),
            413,
            member,
            "the body may have at most 1048576 bytes",
        );
    }
    // The peak grows by pages of the library, too, which the kernel maps when they are first used.
    assert!(
        server.memory("VmHWM") - before < 96 << 20,
        "the bodies were decompressed into memory"
    );
    check_service(&server);
}

/// Sends a body in chunks of one byte each and returns the answer. It is empty if the connection
/// broke.
fn send_bytewise(server: &ServerClient, path: &str, header: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.addresses.data).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}: numbers\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for byte in body.bytes() {
        request.extend_from_slice(b"1\r\n");
        request.push(byte);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        // A server that refuses a body stops reading it.
        let _ = writer.write_all(&request);
    });
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    sender.join().unwrap();
    answer
}

#[test]
fn a_million_chunks_of_one_byte_are_one_body() {
    // On a slow machine a million chunks take longer than the default read timeout.
    let (_models, server) = start_numbers(&[
        ("server.read_timeout_ms", "60000"),
        ("server.request_timeout_ms", "60000"),
    ]);
    for (path, header, _) in DIALECTS {
        let body = format!("{}{}", row_request(path, "1,2", 2), " ".repeat(1_000_000));
        let answer = send_bytewise(&server, path, header, &body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    check_service(&server);
}

#[test]
fn a_chunked_body_beyond_the_limit_is_refused() {
    let (_models, server) = start_numbers(&[
        ("server.max_body_bytes", "65536"),
        ("server.read_timeout_ms", "60000"),
        ("server.request_timeout_ms", "60000"),
    ]);
    for ((path, header, _), protocol) in DIALECTS.into_iter().zip(["v2", "v1", "invocations"]) {
        let body = format!("{}{}", row_request(path, "1,2", 2), " ".repeat(200_000));
        let answer = send_bytewise(&server, path, header, &body);
        // The server closes the connection during the transfer, so the client may miss the answer.
        // The metric shows the refusal.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
            "{path}: {answer}"
        );
        let series = format!(
            "predictd_requests_total{{code=\"413\",model=\"numbers\",protocol=\"{protocol}\",version=\"\"}}"
        );
        wait_until("the refusal is counted", || server.metric(&series) == 1.0);
    }
    check_service(&server);
}

#[test]
fn a_body_of_the_limit_is_accepted_and_a_larger_one_refused() {
    // On a slow machine a large body takes longer than the default timeouts.
    let (_models, server) = start_numbers(&[
        ("server.read_timeout_ms", "60000"),
        ("server.request_timeout_ms", "60000"),
    ]);
    for (path, header, member) in DIALECTS {
        let count = (16 * MIB - 256) / 4;
        let values = vec!["0.5"; count].join(",");
        let mut body = row_request(path, &values, count);
        assert!(body.len() <= 16 * MIB);
        body.push_str(&" ".repeat(16 * MIB - body.len()));
        let answer = server
            .post(path)
            .header(header, "numbers")
            .body(body)
            .send()
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        // A comparison of texts, because a parser takes seconds for four million numbers.
        let answer = answer.text().unwrap();
        let row = &answer[answer.find("0.5").unwrap()..];
        assert!(
            row.starts_with(&values) && row[values.len()..].starts_with(']'),
            "{path}: {} bytes",
            row.len()
        );
        // A body whose announced length is too large is refused before it is sent.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            16 * MIB + 1
        );
        let refused = server.send_raw(head.as_bytes());
        assert!(
            refused.starts_with("HTTP/1.1 413 ")
                && refused.contains(&format!("\"{member}\":\"the body may have at most")),
            "{refused}"
        );
    }
}
