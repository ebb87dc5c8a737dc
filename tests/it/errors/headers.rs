//! Header fields: `accept` and the deadline of a request.

use crate::harness::{InProcessServer, example_input, models_with};

#[test]
fn an_unacceptable_accept_header_is_answered_with_the_available_types() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let body = example_input("diabetes", "1.0.0").to_string();
    let posts = [
        "/predict",
        "/v1/models/diabetes:predict",
        "/v2/models/diabetes/infer",
        "/invocations",
    ];
    let cases = posts
        .map(|path| ("POST", path, "application/json"))
        .into_iter()
        .chain([("GET", "/", "text/html"), ("GET", "/metrics", "text/plain")]);
    for (method, path, offered) in cases {
        let ask = |accept: &str| {
            let request = server
                .client
                .request(method.parse().unwrap(), server.url(path))
                .header("accept", accept);
            request
                .header("content-type", "application/json")
                .body(if method == "POST" {
                    body.clone()
                } else {
                    String::new()
                })
                .send()
                .unwrap()
        };
        for refused in ["image/png", &format!("*/*;q=0, {offered};q=0")] {
            let response = ask(refused);
            assert_eq!(response.status(), 406, "{path} {refused}");
            assert!(response.text().unwrap().contains(offered), "{path}");
        }
        let taken = [
            offered.to_owned(),
            format!("{}/*", offered.split_once('/').unwrap().0),
            "image/png, */*;q=0.1".to_owned(),
        ];
        for accept in taken {
            assert_ne!(ask(&accept).status(), 406, "{path} {accept}");
        }
    }
    let index = |accept: &str| {
        server
            .client
            .get(server.url("/"))
            .header("accept", accept)
            .send()
            .unwrap()
            .headers()["content-type"]
            .clone()
    };
    assert_eq!(
        index("text/html;q=0.5, application/json"),
        "application/json"
    );
    assert_eq!(index("text/html, */*;q=0.8"), "text/html; charset=utf-8");
    assert!(
        server.metric(
            "predictd_requests_total{code=\"406\",model=\"diabetes\",protocol=\"predict\",\
             version=\"\"}"
        ) >= 2.0
    );
}

#[test]
fn an_invalid_deadline_is_refused() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let body = example_input("diabetes", "1.0.0").to_string();
    let ask = |path: &str, timeout: &str| {
        server
            .post(path)
            .header("x-request-timeout-ms", timeout)
            .body(body.clone())
            .send()
            .unwrap()
    };
    for path in [
        "/predict",
        "/v1/models/diabetes:predict",
        "/v2/models/diabetes/infer",
        "/invocations",
    ] {
        for wrong in ["soon", "0", "-5", "1e3", "99999999999999999999999"] {
            let response = ask(path, wrong);
            assert_eq!(response.status(), 400, "{path} {wrong}");
            assert!(
                response
                    .text()
                    .unwrap()
                    .contains("the header x-request-timeout-ms must be"),
                "{path} {wrong}"
            );
        }
    }
    assert_eq!(ask("/predict", "99999999").status(), 200);
}

#[test]
fn a_missed_deadline_is_reported_with_its_origin() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[("server.read_timeout_ms", "500")]);
    // The body is never sent.
    let ask = |header: &str| {
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n{header}\r\n{{"
        );
        server.send_raw(head.as_bytes())
    };
    let answer = ask("x-request-timeout-ms: 1\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("x-request-timeout-ms allowed 1 ms"),
        "{answer}"
    );
    for patient in ["", "x-request-timeout-ms: 60000\r\n"] {
        let answer = ask(patient);
        assert!(
            answer.starts_with("HTTP/1.1 408 ")
                && answer.contains("the body did not arrive within 500 ms"),
            "{answer}"
        );
    }
}
