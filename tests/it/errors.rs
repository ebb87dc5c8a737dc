//! What bad input gets: the right status as problem+json, soon, with the server unharmed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{
    PATIENCE, Server, example_input, install_graph, models_with, root, wait_for, wait_until,
};

fn problem(response: reqwest::blocking::Response) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let status = response.status().as_u16();
    let document: Value = response.json().unwrap();
    assert_eq!(document["status"], status);
    for member in ["type", "title", "detail", "request_id"] {
        assert!(document[member].is_string(), "{member}: {document}");
    }
    document
}

#[test]
fn each_kind_has_its_status() {
    let models = models_with(&[("churn", "1.1.0"), ("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[("server.max_body_bytes", "100000")]);
    let churn = "/models/churn/predict";
    let good = example_input("churn", "1.1.0").to_string();
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let json = "application/json";
    let cases: &[(&str, &str, &str, &str, u16)] = &[
        ("POST", churn, json, &good, 200),
        ("POST", churn, json, "{\"instances\": []}", 400),
        ("POST", churn, json, "", 400),
        ("POST", churn, json, "{", 400),
        ("POST", churn, json, "[]", 400),
        ("POST", churn, json, "null", 400),
        ("POST", churn, json, "{\"instances\": 1}", 400),
        ("POST", churn, json, "{\"instances\": [1]}", 422),
        ("POST", churn, json, "{\"age\": NaN}", 400),
        ("POST", churn, json, "{\"age\": Infinity}", 400),
        ("POST", churn, json, "{\"age\": 1, \"age\": 2}", 400),
        (
            "POST",
            churn,
            json,
            "{\"instances\": [{}], \"instances\": [{}]}",
            400,
        ),
        (
            "POST",
            churn,
            json,
            "{\"instances\": [{}], \"other\": 1}",
            400,
        ),
        ("POST", churn, json, "\u{feff}{}", 400),
        ("POST", churn, json, "{}{}", 400),
        ("POST", churn, json, "{}", 422),
        ("POST", churn, json, &deep, 400),
        ("POST", churn, "text/plain", &good, 415),
        (
            "POST",
            churn,
            "application/x-www-form-urlencoded",
            &good,
            415,
        ),
        ("POST", "/predict", json, &good, 404),
        ("POST", "/models/nobody/predict", json, &good, 404),
        (
            "POST",
            "/models/churn/versions/9.9.9/predict",
            json,
            &good,
            404,
        ),
        ("POST", "/models/%FF/predict", json, &good, 404),
        ("GET", churn, json, "", 405),
        ("PUT", "/livez", json, "", 405),
        ("GET", "/nowhere", json, "", 404),
        ("GET", "/models/nobody", json, "", 404),
        ("GET", "/models/churn/versions/9.9.9", json, "", 404),
    ];
    for (method, path, content_type, body, expected) in cases {
        let start = Instant::now();
        let request = server
            .client
            .request(method.parse().unwrap(), server.url(path))
            .header("content-type", *content_type)
            .body((*body).to_owned());
        let response = request.send().unwrap();
        let shown: String = body.chars().take(60).collect();
        assert_eq!(
            response.status().as_u16(),
            *expected,
            "{method} {path} {shown}: {}",
            response.text().unwrap()
        );
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{method} {path} {shown}"
        );
        if *expected != 200 {
            problem(response);
        }
    }
    let mut number = example_input("churn", "1.1.0");
    number["tenure_months"] = json!("@");
    let too_large = number.to_string().replace("\"@\"", "1e999");
    assert_eq!(
        server.post(churn).body(too_large).send().unwrap().status(),
        400
    );
    assert_eq!(
        server
            .post(churn)
            .body(vec![b' '; 100_001])
            .send()
            .unwrap()
            .status(),
        413
    );
    assert_eq!(
        server
            .post(churn)
            .body(b"{\"plan\": \"\xff\"}".to_vec())
            .send()
            .unwrap()
            .status(),
        400
    );
    assert_eq!(
        server
            .predict(churn, &example_input("churn", "1.1.0"))
            .status(),
        200
    );
    assert_eq!(server.metric("predictd_worker_panics_total"), 0.0);
}

#[test]
fn every_fault_is_named_with_pointer_and_keyword() {
    let models = models_with(&[("churn", "1.1.0")]);
    let server = Server::start(models.path(), &[]);
    let mut second = example_input("churn", "1.1.0");
    second["age"] = json!(131.5);
    second["contract"] = json!("for ever");
    second["paperless"] = json!("yes");
    second["extra"] = json!(1);
    second.as_object_mut().unwrap().remove("plan");
    let document = problem(server.predict(
        "/predict",
        &json!({"instances": [example_input("churn", "1.1.0"), second]}),
    ));
    let mut found: Vec<(String, String)> = document["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (
                error["pointer"].as_str().unwrap().to_owned(),
                error["keyword"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    found.sort();
    let expected = [
        ("/instances/1/age", "maximum"),
        ("/instances/1/contract", "enum"),
        ("/instances/1/extra", "additionalProperties"),
        ("/instances/1/paperless", "type"),
        ("/instances/1/plan", "required"),
    ];
    assert_eq!(
        found,
        expected.map(|(pointer, keyword)| (pointer.to_owned(), keyword.to_owned()))
    );
    let text = document.to_string();
    assert!(
        text.contains("month-to-month"),
        "the allowed values help: {text}"
    );
    assert!(
        !text.contains("131.5"),
        "a personal value was echoed: {text}"
    );

    let many = problem(server.predict("/predict", &json!({"instances": vec![json!({}); 100]})));
    assert_eq!(many["errors"].as_array().unwrap().len(), 20);
}

#[test]
fn every_dialect_says_what_to_send_for_a_number_that_json_does_not_have() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    install_graph(models.path(), "bare", 1, "identity_fp64", None);
    let server = Server::start(models.path(), &[("models.default", "diabetes")]);
    for number in ["NaN", "Infinity", "-Infinity", "nan", "-inf"] {
        let instance = format!("{{\"age\": 37,\n \"bmi\": {number}, \"rest\": [1]}}");
        let tensor = format!(
            "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [1, 2], \"datatype\": \"FP64\", \"data\": [1, {number}]}}]}}"
        );
        let cases = [
            ("/models/diabetes/predict", instance.clone()),
            ("/predict", format!("{{\"instances\": [{instance}]}}")),
            ("/models/bare/predict", format!("{{\"x\": [1, {number}]}}")),
            (
                "/v1/models/diabetes:predict",
                format!("{{\"instances\": [{instance}]}}"),
            ),
            (
                "/v1/models/bare:predict",
                format!("{{\"inputs\": [[1, {number}]]}}"),
            ),
            ("/v2/models/diabetes/infer", tensor.clone()),
            ("/v2/models/bare/infer", tensor),
            (
                "/invocations",
                format!("{{\"dataframe_records\": [{instance}]}}"),
            ),
            (
                "/invocations",
                format!(
                    "{{\"dataframe_split\": {{\"columns\": [\"age\"], \"data\": [[{number}]]}}}}"
                ),
            ),
        ];
        for (path, body) in cases {
            let response = server.post(path).body(body.clone()).send().unwrap();
            let (status, text) = (response.status().as_u16(), response.text().unwrap());
            assert!(
                status == 400 && text.contains("send null for a missing number"),
                "{path} {body}: {status} {text}"
            );
        }
        let lines = format!("{{\"age\": 1}}\n{{\"age\": {number}}}\n");
        let response = server
            .client
            .post(server.url("/invocations"))
            .header("content-type", "application/jsonlines")
            .body(lines)
            .send();
        let text = response.unwrap().text().unwrap();
        assert!(
            text.contains("line 2 is not JSON: NaN and Infinity do not exist in JSON"),
            "{text}"
        );
    }
    // Other words keep their own reasons.
    for word in ["nano", "info", "-", "Null", "\"NaN\""] {
        let response = server
            .post("/predict")
            .body(format!("{{\"age\": {word}}}"))
            .send()
            .unwrap();
        assert!(!response.text().unwrap().contains("send null"), "{word}");
    }
}

#[test]
fn the_log_says_which_rules_were_violated_and_no_value() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let mut bad = example_input("diabetes", "1.0.0");
    bad["age"] = json!(-987_654);
    bad["Ann Smith"] = json!(1);
    assert_eq!(
        server
            .predict("/predict", &json!({"instances": [bad]}))
            .status(),
        422
    );
    let line = wait_for("it is logged", || server.logged("refused").pop());
    let detail = line["detail"].as_str().unwrap();
    assert!(
        detail.contains("/instances/0/age minimum")
            && detail.contains("/instances/0 additionalProperties"),
        "{line}"
    );
    assert!(
        !line.to_string().contains("987654") && !line.to_string().contains("Ann"),
        "{line}"
    );
}

#[test]
fn requests_that_the_training_rejects() {
    let versions = ["1.0.0", "1.1.0", "1.2.0", "2.0.0"];
    let packages: Vec<(&str, &str)> = versions.iter().map(|version| ("churn", *version)).collect();
    let models = models_with(&packages);
    let server = Server::start(models.path(), &[("models.keep_versions", "4")]);
    for version in versions {
        let text = fs_err::read_to_string(
            root().join(format!("tests/fixtures/rejected/churn-{version}.jsonl")),
        )
        .unwrap();
        let mut count = 0;
        for line in text.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let response = server.predict(
                &format!("/models/churn/versions/{version}/predict"),
                &case["instance"],
            );
            let expected = if case["expected"]
                .as_str()
                .unwrap_or_default()
                .starts_with("accepted")
            {
                200
            } else {
                422
            };
            assert_eq!(
                response.status().as_u16(),
                expected,
                "{version} {line}: {}",
                response.text().unwrap()
            );
            count += 1;
        }
        assert!(count >= 5, "{version} has {count} rejected requests");
    }
}

#[test]
fn slow_senders_get_408() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[("server.read_timeout_ms", "300")]);
    let send = |text: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
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
    // A connection that waits between requests is not slow.
    let mut stream = TcpStream::connect(server.address).unwrap();
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
fn garbage_on_the_wire_harms_nobody() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
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
fn a_silent_connection_is_closed_when_the_configuration_says() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(
        models.path(),
        &[
            ("server.idle_timeout_ms", "300"),
            ("server.grpc_idle_timeout_ms", "300"),
        ],
    );
    for address in [server.address.to_string(), server.grpc_address()] {
        let start = Instant::now();
        let mut silent = TcpStream::connect(&address).unwrap();
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        if address == server.grpc_address() {
            // The preface, and settings without any.
            silent
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .unwrap();
        }
        // Until it is closed, or told to leave: GOAWAY is the frame of type 7, here of 8 bytes.
        let (mut told, mut part) = (Vec::new(), [0; 256]);
        let goes = |told: &[u8]| told.windows(3).any(|bytes| bytes == [0, 8, 7]);
        while !goes(&told) {
            let length = silent.read(&mut part).unwrap();
            told.extend_from_slice(&part[..length]);
            if length == 0 {
                break;
            }
        }
        assert!(
            (Duration::from_millis(300)..Duration::from_secs(20)).contains(&start.elapsed()),
            "{address}: {:?}",
            start.elapsed()
        );
        assert_eq!(goes(&told), address == server.grpc_address(), "{told:?}");
    }
}

#[test]
fn what_accept_does_not_take_is_told_with_what_can_be_had() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
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
    assert!(server.metric("predictd_requests_total{code=\"406\",model=\"diabetes\",protocol=\"predict\",version=\"\"}") >= 2.0);
}

#[test]
fn a_deadline_that_is_none_is_refused() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
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
fn heads_that_are_too_large_are_told_so_and_counted() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[]);
    let counted = |code: u16| {
        server.metric(&format!("predictd_requests_total{{code=\"{code}\",model=\"\",protocol=\"predict\",version=\"\"}}"))
    };
    let head = |fields: &str| {
        format!("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n")
    };
    let field = |bytes: usize| format!("x-large: {}\r\n", "a".repeat(bytes));
    assert!(
        server
            .send_raw(head(&field(60_000)).as_bytes())
            .starts_with("HTTP/1.1 200 ")
    );
    let answer = server.send_raw(head(&field(100_000)).as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 431 ") && answer.contains("at most 65536 are accepted"),
        "{answer}"
    );
    // What is larger than anything, what has too many of them, and a path that is too long.
    let path = |bytes: usize| format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(bytes));
    let fields = |count: usize| {
        head(
            &(0..count)
                .map(|index| format!("x-{index}: 1\r\n"))
                .collect::<String>(),
        )
    };
    let cases = [
        (
            head(&field(10 << 20)),
            "have more than 262144 bytes; at most 65536 are accepted",
        ),
        (
            head(&field(1 << 20)),
            "have more than 262144 bytes; at most 65536 are accepted",
        ),
        (
            fields(120),
            "the head has more than the limit of 100 header fields",
        ),
        (
            path(70_000),
            "the path with its query has more than the limit of 65534 bytes",
        ),
        (
            path(1 << 20),
            "have more than 262144 bytes; at most 65536 are accepted",
        ),
        // Behind a request that is answered.
        (
            format!("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n{}", fields(120)),
            "the head has more than the limit of 100 header fields",
        ),
    ];
    for (request, expected) in &cases {
        let answer = server.send_raw(request.as_bytes());
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
        let told: Value = serde_json::from_str(body).unwrap();
        assert!(
            told["detail"].as_str().unwrap().contains(expected),
            "{told}"
        );
        assert!(
            head.contains(&format!(
                "x-request-id: {}",
                told["request_id"].as_str().unwrap()
            )),
            "{answer}"
        );
    }
    wait_until("they are counted", || {
        counted(431) == 1.0 + cases.len() as f64
    });
    let lines = wait_for("they are logged", || {
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
    let answer = server.send_raw(b"GET / HTTP/9.9\r\nhost: x\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("this is not an HTTP/1.1 request"),
        "{answer}"
    );
    wait_until("a head that is none is counted", || counted(400) == 1.0);
}

#[test]
fn a_deadline_of_the_callers_own_is_told_in_its_words() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[("server.read_timeout_ms", "500")]);
    // A body that never comes.
    let ask = |header: &str| {
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n{header}\r\n{{"
        );
        server.send_raw(head.as_bytes())
    };
    let answer = ask("x-request-timeout-ms: 1\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("x-request-timeout-ms gave it 1 ms"),
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

#[test]
fn too_many_connections_are_told_so() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = Server::start(models.path(), &[("server.max_connections", "3")]);
    let mut held = Vec::new();
    let refused = wait_for("a connection is refused", || {
        let mut stream = TcpStream::connect(server.address).unwrap();
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
    wait_for("there is room again", || {
        server
            .client
            .get(server.url("/livez"))
            .send()
            .ok()
            .filter(|response| response.status() == 200)
    });
}
