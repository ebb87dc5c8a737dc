//! Answers over HTTP: every package answers its golden examples.

use std::io::Write;

use serde_json::{Value, json};

use crate::harness::{
    InProcessServer, Server, example_input, golden_examples, models_with, wait_for,
};

/// Asserts |actual - expected| <= tolerance * max(1, |expected|) for all members.
fn assert_close(expected: &Value, actual: &Value, tolerance: f64, place: &str) {
    match (expected, actual) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!(
                (a - b).abs() <= tolerance * a.abs().max(1.0),
                "{place}: expected {a}, got {b}"
            );
        }
        (Value::Object(a), Value::Object(_)) => {
            a.iter().for_each(|(key, a)| {
                assert_close(a, &actual[key], tolerance, &format!("{place}/{key}"))
            });
        }
        _ => assert_eq!(expected, actual, "{place}"),
    }
}

#[test]
fn golden_examples_are_answered_alone_and_together() {
    let packages = [
        ("churn", "1.0.0"),
        ("churn", "1.1.0"),
        ("churn-pipeline", "1.1.0"),
        ("diabetes", "1.0.0"),
        ("digits", "1.0.0"),
        ("digits-array", "1.0.0"),
        ("digits", "1.1.0"),
        ("diabetes", "1.1.0"),
    ];
    let models = models_with(&packages);
    let server = InProcessServer::start(models.path(), &[]);
    for (name, version) in packages {
        let path = format!("/models/{name}/versions/{version}/predict");
        let examples = golden_examples(name, version);
        assert_eq!(examples.len(), 20);
        for example in &examples {
            let answer: Value = server.predict(&path, &example["input"]).json().unwrap();
            assert_eq!(answer["version"], version);
            assert_close(
                &example["output"],
                &answer["predictions"][0],
                example["tolerance"].as_f64().unwrap(),
                name,
            );
        }
        // 300 rows need more than one run of the engine.
        let instances: Vec<&Value> = examples
            .iter()
            .cycle()
            .take(300)
            .map(|example| &example["input"])
            .collect();
        let answer: Value = server
            .predict(&path, &json!({"instances": instances, "id": "mine"}))
            .json()
            .unwrap();
        assert_eq!(answer["id"], "mine");
        let predictions = answer["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), 300);
        for (example, prediction) in examples.iter().cycle().zip(predictions) {
            assert_close(
                &example["output"],
                prediction,
                example["tolerance"].as_f64().unwrap(),
                name,
            );
        }
    }
}

#[test]
fn an_answer_has_its_headers() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = Server::start(models.path(), &[("telemetry.request_log", "all")]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = server
        .post("/predict")
        .header("x-request-id", "order-7")
        .header("traceparent", trace);
    let response = request
        .body(example_input("churn", "1.1.0").to_string())
        .send()
        .unwrap();
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-request-id"), "order-7");
    assert_eq!(header("x-model-name"), "churn");
    assert_eq!(header("x-model-version"), "1.1.0");
    assert_eq!(header("content-type"), "application/json");
    assert!(header("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    let timing = header("server-timing");
    for span in ["decode;dur=", "queue;dur=", "infer;dur=", "encode;dur="] {
        assert!(timing.contains(span), "{timing}");
    }
    let (digest, id) = (header("x-model-digest"), header("x-prediction-id"));
    let answer: Value = response.json().unwrap();
    assert_eq!(answer["prediction_id"], id);
    assert_eq!(answer["digest"], digest);
    assert_eq!(
        server.get_json("/models/churn/versions/1.1.0")["digest"],
        digest
    );

    let line = wait_for("the request is logged", || server.logged("answered").pop());
    assert_eq!(line["request_id"], "order-7");
    assert_eq!(line["prediction_id"], id);
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(
        (
            line["status"].as_i64(),
            line["model"].as_str(),
            line["version"].as_str()
        ),
        (Some(200), Some("churn"), Some("1.1.0"))
    );
    for stage in [
        "decode_ms",
        "preprocess_ms",
        "queue_ms",
        "infer_ms",
        "postprocess_ms",
        "encode_ms",
    ] {
        assert!(line[stage].is_number(), "{stage}");
    }
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.to_string().contains("month-to-month")),
        "the log contains a value of the input"
    );
}

/// The body in each encoding.
fn compressed(body: &str) -> [(&'static str, Vec<u8>); 4] {
    let level = flate2::Compression::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    gzip.write_all(body.as_bytes()).unwrap();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), level);
    deflate.write_all(body.as_bytes()).unwrap();
    let mut br = Vec::new();
    brotli::CompressorWriter::new(&mut br, 4096, 5, 20)
        .write_all(body.as_bytes())
        .unwrap();
    [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", deflate.finish().unwrap()),
        ("zstd", zstd::encode_all(body.as_bytes(), 3).unwrap()),
        ("br", br),
    ]
}

fn decompress(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match encoding {
        "gzip" => std::io::copy(&mut flate2::read::GzDecoder::new(bytes), &mut text)
            .map(drop)
            .unwrap(),
        "deflate" => std::io::copy(&mut flate2::read::ZlibDecoder::new(bytes), &mut text)
            .map(drop)
            .unwrap(),
        "zstd" => text = zstd::decode_all(bytes).unwrap(),
        _ => std::io::copy(&mut brotli::Decompressor::new(bytes, 4096), &mut text)
            .map(drop)
            .unwrap(),
    }
    text
}

#[test]
fn requests_and_answers_can_be_compressed() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[("server.max_body_bytes", "200000")]);
    let body = json!({"instances": vec![example_input("churn", "1.1.0"); 300]}).to_string();
    for (encoding, body) in compressed(&body) {
        let response = server
            .post("/predict")
            .header("content-encoding", encoding)
            .header("accept-encoding", encoding)
            .body(body)
            .send()
            .unwrap();
        assert_eq!(response.status(), 200, "{encoding}");
        assert_eq!(response.headers()["content-encoding"], encoding);
        let bytes = response.bytes().unwrap();
        let text = decompress(encoding, &bytes);
        let answer: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            answer["predictions"].as_array().unwrap().len(),
            300,
            "{encoding}"
        );
    }
}

#[test]
fn invalid_encodings_are_refused() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[("server.max_body_bytes", "200000")]);
    let bomb = zstd::encode_all(&vec![b' '; 1 << 20][..], 3).unwrap();
    assert_eq!(
        server
            .post("/predict")
            .header("content-encoding", "zstd")
            .body(bomb)
            .send()
            .unwrap()
            .status(),
        413
    );
    assert_eq!(
        server
            .post("/predict")
            .header("content-encoding", "lzma")
            .body("{}")
            .send()
            .unwrap()
            .status(),
        415
    );
    assert_eq!(
        server
            .post("/predict")
            .header("content-encoding", "gzip")
            .body("{}")
            .send()
            .unwrap()
            .status(),
        400
    );
}

#[test]
fn concurrent_callers_get_their_own_answers() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let examples = golden_examples("churn", "1.1.0");
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let (server, examples) = (&server, &examples);
            scope.spawn(move || {
                for round in 0..40 {
                    let example = &examples[(caller + round) % examples.len()];
                    let answer: Value = server
                        .predict("/predict", &example["input"])
                        .json()
                        .unwrap();
                    assert_close(
                        &example["output"],
                        &answer["predictions"][0],
                        1e-4,
                        "concurrent",
                    );
                }
            });
        }
    });
    assert_eq!(
        server.metric(
            "predictd_requests_total{code=\"200\",model=\"churn\",protocol=\"predict\",\
             version=\"1.1.0\"}"
        ),
        640.0
    );
    assert!(server.metric("predictd_batch_size_count{model=\"churn\",version=\"1.1.0\"}") <= 640.0);
    assert_eq!(
        server.metric("predictd_batch_size_sum{model=\"churn\",version=\"1.1.0\"}"),
        640.0
    );
}
