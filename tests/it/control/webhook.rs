//! The webhook: each decision is posted once, and a failing webhook delays no decision.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use super::start_site;
use crate::harness::{assert_contains, wait_for};

/// Reads the body of an HTTP request that has a content length.
fn read_body(stream: &mut impl BufRead) -> Vec<u8> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let (name, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        if name.is_empty() {
            break;
        }
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    body
}

/// A webhook receiver. It answers request N with the status `answer(N)` and keeps the bodies that
/// it answered with 200.
fn start_webhook_receiver(answer: fn(usize) -> u16) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://{}/services/SECRET?key=SECRET",
        listener.local_addr().unwrap()
    );
    let received: Arc<Mutex<Vec<Value>>> = Arc::default();
    let bodies = Arc::clone(&received);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let body = read_body(&mut stream);
            let status = answer(number);
            if status == 200 {
                bodies
                    .lock()
                    .unwrap()
                    .push(serde_json::from_slice(&body).unwrap());
            }
            write!(
                stream.get_mut(),
                "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
        }
    });
    (url, received)
}

#[test]
fn each_decision_is_posted_to_the_webhook_once() {
    // The first request fails and is repeated.
    let (url, received) = start_webhook_receiver(|number| if number == 0 { 500 } else { 200 });
    let site = start_site(&[("admin.webhook", &url)]);
    site.start_rollout();
    site.output_of(&["rollout", "pause", "churn"]);
    site.output_of(&["rollout", "abort", "churn", "--reason", "enough"]);
    site.output_of(&[
        "rollback",
        "churn",
        "--to",
        "1.1.0",
        "--never-stable",
        "--reason",
        "a test",
    ]);
    let messages = wait_for("all decisions are posted", || {
        Some(received.lock().unwrap().clone()).filter(|messages| messages.len() == 5)
    });
    let actions: Vec<&str> = messages
        .iter()
        .map(|message| message["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["adopt", "start", "pause", "abort", "rollback"]);
    let abort = &messages[3];
    assert_eq!(
        (&abort["model"], &abort["seq"], &abort["reason"]),
        (&json!("churn"), &json!(4), &json!("enough"))
    );
    assert_eq!(
        (
            &abort["from"]["version"],
            &abort["to"]["version"],
            &abort["strategy"]
        ),
        (&json!("1.0.0"), &json!("1.1.0"), &json!("held"))
    );
    assert_contains(
        abort["text"].as_str().unwrap(),
        &[
            "churn: the rollout of 1.1.0 is aborted; 1.0.0 answers all requests, by unverified:",
            ": enough (entry 4)",
        ],
    );
    assert_eq!(site.server.metric("predictd_webhook_failures_total"), 0.0);
    assert!(
        !site
            .server
            .logged("posting to the webhook failed; it will be tried again")
            .is_empty()
    );
    for line in site.server.log() {
        assert!(!line.to_string().contains("SECRET"), "{line}");
    }
}

#[test]
fn a_failing_webhook_is_counted_and_its_url_is_not_logged() {
    let (url, received) = start_webhook_receiver(|_| 503);
    let site = start_site(&[("admin.webhook", &url)]);
    site.server
        .wait_for_metric("predictd_webhook_failures_total", 1.0);
    let lines = wait_for("the reason is logged", || {
        Some(
            site.server
                .logged("a decision could not be posted to the webhook"),
        )
        .filter(|lines| !lines.is_empty())
    });
    assert_eq!(
        (&lines[0]["model"], &lines[0]["seq"], &lines[0]["error"]),
        (
            &json!("churn"),
            &json!(1),
            &json!("the webhook answered with status 503")
        )
    );
    assert!(
        lines[0]["host"]
            .as_str()
            .is_some_and(|host| host.starts_with("127.0.0.1:")),
        "{}",
        lines[0]
    );
    assert!(received.lock().unwrap().is_empty());
    for line in site.server.log() {
        assert!(!line.to_string().contains("SECRET"), "{line}");
    }
}

#[test]
fn a_hanging_webhook_delays_no_decision() {
    // The system accepts connections, and nothing answers them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = start_site(&[(
        "admin.webhook",
        &format!("http://{}/", silent.local_addr().unwrap()),
    )]);
    site.start_rollout();
    site.output_of(&["rollout", "pause", "churn"]);
    site.output_of(&["rollout", "resume", "churn"]);
    site.output_of(&["rollout", "abort", "churn", "--reason", "enough"]);
    assert!(
        site.output_of(&["history", "churn", "--verify"])
            .starts_with("ok: 5 entries")
    );
    // If each decision had waited for the webhook, each would be counted as failed by now.
    assert!(site.server.metric("predictd_webhook_failures_total") < 5.0);
}

#[test]
fn decisions_go_to_an_https_webhook_only_after_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = start_site(&[(
        "admin.webhook",
        &format!("https://{}/services/SECRET", listener.local_addr().unwrap()),
    )]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).unwrap();
    // A handshake record of TLS, and in it a ClientHello (RFC 8446, 5.1 and 4).
    assert_eq!((hello[0], hello[1], hello[5]), (22, 3, 1), "{hello:?}");
    // After an answer that is not TLS, no decision is sent.
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    wait_for("the post is repeated", || {
        site.server
            .logged("posting to the webhook failed; it will be tried again")
            .pop()
    });
}
