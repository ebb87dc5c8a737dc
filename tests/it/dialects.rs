//! What fits no scenario file: bodies that grow, trickle or are very large, and deadlines, in every dialect's own form.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, graph, instance, models};

/// Path, a body that is answered 200, and the member of an error that tells it.
fn dialects() -> [(&'static str, Value, &'static str); 4] {
    let rows = json!([[5.1, 3.5, 1.4, 0.2]]);
    [
        ("/predict", instance("churn", "1.1.0"), "detail"),
        ("/v2/models/iris/infer", json!({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": rows}]}), "error"),
        ("/v1/models/iris:predict", json!({"instances": rows}), "error"),
        ("/invocations", json!({"instances": [instance("churn", "1.1.0")]}), "message"),
    ]
}

fn serve(settings: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let models = models(&[("churn", "1.1.0")]);
    graph(models.path(), "iris", 1, "iris", None);
    graph(models.path(), "slow", 1, "slow", None);
    let server = Server::start(models.path(), &[&[("models.default", "churn")], settings].concat());
    (models, server)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_bodies_are_taken_within_the_limit() {
    let (_models, server) = serve(&[("server.max_body_bytes", "1048576")]);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    for (path, body, member) in dialects() {
        let send = |bytes: Vec<u8>, encoding: &str| server.post(path).header("content-encoding", encoding).body(bytes).send().unwrap();
        let answer = send(gzip(body.to_string().as_bytes()), "gzip");
        assert_eq!(answer.status(), 200, "{path}");
        for (bytes, encoding, status) in [(bomb.clone(), "gzip", 413), (b"no gzip".to_vec(), "gzip", 400), (Vec::new(), "lzma", 415)] {
            let answer = send(bytes, encoding);
            assert_eq!(answer.status(), status, "{path}");
            let document: Value = answer.json().unwrap();
            assert!(document[member].is_string(), "{path}: {document}");
        }
    }
}

#[test]
fn a_million_tiny_chunks_are_a_body_like_any_other() {
    let (_models, server) = serve(&[]);
    for (path, body, _) in dialects() {
        let padding = " ".repeat(1_000_000 - body.to_string().len());
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut sent = head.into_bytes();
        for byte in format!("{body}{padding}").bytes() {
            sent.extend_from_slice(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
        }
        sent.extend_from_slice(b"0\r\n\r\n");
        let writer = std::thread::spawn(move || {
            // A server that has read enough may close; what it answered says why.
            let _ = stream.write_all(&sent);
        });
        let mut answer = String::new();
        let _ = reader.read_to_string(&mut answer);
        writer.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {}", answer.lines().next().unwrap_or_default());
    }
}

#[test]
fn very_large_bodies_are_answered() {
    let (_models, server) = serve(&[]);
    let number = "0.123456789,".repeat(1_300_000);
    let body = format!(
        "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [325000, 4], \"datatype\": \"FP32\", \"data\": [{}]}}]}}",
        &number[..number.len() - 1]
    );
    let outputs = "\"outputs\": [{\"name\": \"label\"}]}";
    let answer = server.post("/v2/models/iris/infer").body(format!("{}, {outputs}", &body[..body.len() - 1])).send().unwrap();
    assert_eq!(answer.status(), 200);
    let document: Value = answer.json().unwrap();
    assert_eq!(document["outputs"][0]["shape"], json!([325_000]));
    let refused = server.post("/v2/models/iris/infer").body(" ".repeat((16 << 20) + 1)).send().unwrap();
    assert_eq!(refused.status(), 413);
    assert!(refused.json::<Value>().unwrap()["error"].is_string());
}

#[test]
fn a_passed_deadline_is_told_in_the_dialects_form() {
    let (_models, server) = serve(&[]);
    let rounds = |timeout: u64| json!({"inputs": [{"name": "rounds", "shape": [1], "datatype": "INT64", "data": [20_000]}], "parameters": {"timeout": timeout}});
    let answer = server.predict("/v2/models/slow/infer", &rounds(50_000));
    assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after")), (504, None));
    assert_eq!(answer.json::<Value>().unwrap(), json!({"error": "the answer was not ready by the deadline"}));
    for (path, body, member) in [
        ("/v1/models/slow:predict", json!({"inputs": {"rounds": [20_000]}}), "error"),
        ("/invocations", json!({"inputs": {"rounds": [20_000]}}), "message"),
    ] {
        let request = server.post(path).header("x-request-timeout-ms", "50").header("x-amzn-sagemaker-target-model", "slow");
        let answer = request.body(body.to_string()).send().unwrap();
        assert_eq!(answer.status(), 504, "{path}");
        assert!(answer.json::<Value>().unwrap()[member].is_string(), "{path}");
    }
    assert_eq!(server.metric("predictd_requests_total{code=\"504\",model=\"slow\",protocol=\"v2\",version=\"1\"}"), 1.0);
    assert_eq!(server.metric("predictd_requests_total{code=\"504\",model=\"slow\",protocol=\"v1\",version=\"1\"}"), 1.0);
}

#[test]
fn every_request_is_counted_under_its_protocol() {
    let (_models, server) = serve(&[]);
    for (path, body, _) in dialects() {
        assert_eq!(server.predict(path, &body).status(), 200, "{path}");
        assert!([400, 422].contains(&server.predict(path, &json!({"instances": [{"x": "y"}], "inputs": []})).status().as_u16()), "{path}");
    }
    let text = server.get("/metrics").text().unwrap();
    for (model, protocol) in [("churn", "predict"), ("iris", "v2"), ("iris", "v1"), ("churn", "invocations")] {
        let answered = text.lines().any(|line| {
            line.starts_with("predictd_requests_total{code=\"200\"")
                && line.contains(&format!("model=\"{model}\",protocol=\"{protocol}\""))
                && line.ends_with(" 1")
        });
        assert!(answered, "{protocol}: {text}");
    }
}
