//! Bodies and deadlines that fit no scenario file: what every dialect does with them, and that the server goes on.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use reqwest::blocking::Response;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    PATIENCE, Server, example_input, install_graph, models_with, wait_for, wait_until,
};

/// The path of a dialect, a header that names the model where the path does not, and the member of an error's text.
const DIALECTS: [(&str, &str, &str); 3] = [
    ("/v2/models/numbers/infer", "x-unread", "error"),
    ("/v1/models/numbers:predict", "x-unread", "error"),
    ("/invocations", TARGET, "message"),
];

const TARGET: &str = "x-amzn-sagemaker-target-model";

const MIB: usize = 1 << 20;

/// A model that answers what it is asked, of any number of columns.
fn start(settings: &[(&str, &str)]) -> (TempDir, Server) {
    let models = models_with(&[]);
    install_graph(models.path(), "numbers", 1, "identity_fp32", None);
    let server = Server::start(models.path(), settings);
    (models, server)
}

/// A request of one row, for the dialect of this path.
fn one_row(path: &str, values: &str, count: usize) -> String {
    match path.starts_with("/v2/") {
        true => format!(
            r#"{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"FP32","data":[{values}]}}]}}"#
        ),
        false => format!(r#"{{"instances":[[{values}]]}}"#),
    }
}

/// The row that came back.
fn row(path: &str, answer: &Value) -> Vec<f64> {
    let values = if path.starts_with("/v2/") {
        &answer["outputs"][0]["data"]
    } else {
        &answer["predictions"][0]
    };
    values
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

fn expect_error(response: Response, status: u16, member: &str, text: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        response.headers().contains_key("retry-after"),
        status == 503
    );
    let answer: Value = response.json().unwrap();
    assert!(
        answer[member]
            .as_str()
            .is_some_and(|detail| detail.contains(text)),
        "{answer}"
    );
    assert_eq!(
        answer.get("error_code").is_some(),
        member == "message",
        "{answer}"
    );
}

fn expect_service(server: &Server) {
    for (path, header, _) in DIALECTS {
        let answer = server
            .post(path)
            .header(header, "numbers")
            .body(one_row(path, "1,2", 2))
            .send()
            .unwrap();
        assert_eq!(row(path, &answer.json().unwrap()), [1.0, 2.0], "{path}");
    }
}

#[test]
fn a_compressed_bomb_is_refused() {
    let (_models, server) = start(&[("server.max_body_bytes", "1048576")]);
    expect_service(&server);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![0; MIB]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < MIB / 8);
    let before = server.memory("VmHWM");
    for (path, header, member) in DIALECTS {
        let request = server
            .post(path)
            .header(header, "numbers")
            .header("content-encoding", "gzip");
        expect_error(
            request.body(bomb.clone()).send().unwrap(),
            413,
            member,
            "the body may have at most 1048576 bytes",
        );
    }
    assert!(
        server.memory("VmHWM") - before < 32 << 20,
        "the bodies were written out"
    );
    expect_service(&server);
}

/// Sends a body in chunks of a byte each and gives what comes back, which is nothing where the connection broke.
fn send_bytewise(server: &Server, path: &str, header: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}: numbers\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
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
        // A server that refuses does not read on.
        let _ = writer.write_all(&request);
    });
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    sender.join().unwrap();
    answer
}

#[test]
fn a_million_chunks_of_a_byte_are_one_body() {
    // A million frames take a slow machine longer than a body may usually take.
    let (_models, server) = start(&[
        ("server.read_timeout_ms", "60000"),
        ("server.request_timeout_ms", "60000"),
    ]);
    for (path, header, _) in DIALECTS {
        let body = format!("{}{}", one_row(path, "1,2", 2), " ".repeat(1_000_000));
        let answer = send_bytewise(&server, path, header, &body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    expect_service(&server);
}

#[test]
fn chunks_are_counted() {
    let (_models, server) = start(&[
        ("server.max_body_bytes", "65536"),
        ("server.read_timeout_ms", "60000"),
        ("server.request_timeout_ms", "60000"),
    ]);
    for ((path, header, _), protocol) in DIALECTS.into_iter().zip(["v2", "v1", "invocations"]) {
        let body = format!("{}{}", one_row(path, "1,2", 2), " ".repeat(200_000));
        let answer = send_bytewise(&server, path, header, &body);
        // The connection closes on what is still being sent, which can cost the sender the answer: the server's count tells.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
            "{path}: {answer}"
        );
        let series = format!(
            "predictd_requests_total{{code=\"413\",model=\"numbers\",protocol=\"{protocol}\",version=\"\"}}"
        );
        wait_until("the refusal is counted", || server.metric(&series) == 1.0);
    }
    expect_service(&server);
}

#[test]
fn bodies_may_be_as_large_as_the_limit() {
    let (_models, server) = start(&[]);
    for (path, header, member) in DIALECTS {
        let count = (16 * MIB - 256) / 4;
        let mut body = one_row(path, &vec!["0.5"; count].join(","), count);
        assert!(body.len() <= 16 * MIB);
        body.push_str(&" ".repeat(16 * MIB - body.len()));
        let answer = server
            .post(path)
            .header(header, "numbers")
            .body(body)
            .send()
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let row = row(path, &answer.json().unwrap());
        assert!(
            row.len() == count && row.iter().all(|value| *value == 0.5),
            "{path}: {} values",
            row.len()
        );
        // Announced, and refused before it is sent.
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

fn slow(settings: &[(&str, &str)]) -> (TempDir, Server) {
    let models = models_with(&[]);
    install_graph(models.path(), "slow", 1, "slow", None);
    let server = Server::start(models.path(), settings);
    (models, server)
}

#[test]
fn a_deadline_in_the_request_is_kept() {
    let (_models, server) = slow(&[]);
    let body = |parameters: Value| {
        let input =
            json!({"name": "rounds", "shape": [1], "datatype": "INT64", "data": [10_000_000]});
        json!({"inputs": [input], "parameters": parameters})
    };
    let late = server.predict("/v2/models/slow/infer", &body(json!({"timeout": 50_000})));
    expect_error(late, 504, "error", "deadline");
    // The same request, inside of other dialects' inputs.
    expect_error(
        server.predict("/v1/models/slow:predict", &body(json!({"timeout": 50_000}))),
        504,
        "error",
        "deadline",
    );
    expect_error(
        server.predict("/invocations", &body(json!({"timeout": 50_000}))),
        504,
        "message",
        "deadline",
    );
}

#[test]
fn the_servers_deadline_is_kept_in_every_dialect() {
    let (_models, server) = slow(&[("server.request_timeout_ms", "300")]);
    let rows = json!({"instances": [10_000_000]});
    expect_error(
        server.predict("/v1/models/slow:predict", &rows),
        504,
        "error",
        "deadline",
    );
    expect_error(
        server.predict("/invocations", &rows),
        504,
        "message",
        "deadline",
    );
    let input = json!({"name": "rounds", "shape": [1], "datatype": "INT64", "data": [10_000_000]});
    // A later deadline of the request's own changes nothing.
    let body = json!({"inputs": [input], "parameters": {"timeout": 60_000_000}});
    expect_error(
        server.predict("/v2/models/slow/infer", &body),
        504,
        "error",
        "deadline",
    );
}

#[test]
fn an_overloaded_server_says_when_to_come_back() {
    let (_models, server) = start(&[("server.max_inflight", "1")]);
    let (path, ..) = DIALECTS[0];
    let body = one_row(path, "1,2", 2);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // What asks whether the place is taken takes it, too: then the one that is to hold it is refused, and tried again.
    let mut held = wait_for("the request without its body is in flight", || {
        let mut held = TcpStream::connect(server.address).unwrap();
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
            .body(one_row(path, "1,2", 2))
            .send()
            .unwrap();
        expect_error(refused, 503, member, "try again later");
    }
    held.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    expect_service(&server);
}

#[test]
fn vertex_ai_names_the_routes() {
    let models = models_with(&[]);
    install_graph(models.path(), "iris", 3, "iris", None);
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.env("AIP_HEALTH_ROUTE", "/alive").env(
            "AIP_PREDICT_ROUTE",
            "/v1/endpoints/1/deployedModels/2:predict",
        );
    });
    assert_eq!(server.get("/alive").status(), 200);
    let rows = json!({"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]});
    let answer: Value = server
        .predict("/v1/endpoints/1/deployedModels/2:predict", &rows)
        .json()
        .unwrap();
    assert_eq!(
        (
            &answer["predictions"][0]["label"],
            &answer["predictions"][1]["label"]
        ),
        (&json!(0), &json!(1)),
        "{answer}"
    );
    expect_error(
        server.predict(
            "/v1/endpoints/1/deployedModels/2:predict",
            &json!({"instances": []}),
        ),
        400,
        "error",
        "no row",
    );
}

#[test]
fn errors_name_row_and_field_and_no_place_in_a_text_that_nobody_wrote() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    install_graph(models.path(), "iris", 1, "iris", None);
    let server = Server::start(models.path(), &[]);
    let good = example_input("diabetes", "1.0.0").to_string();
    let wrong = |value: &str| {
        good.replacen(
            &format!("\"bmi\":{}", example_input("diabetes", "1.0.0")["bmi"]),
            &format!("\"bmi\":{value}"),
            1,
        )
    };
    assert_ne!(wrong("1e999"), good);
    let json = "application/json";
    let iris = |rows: &str| format!("{{\"instances\": {rows}}}");
    let tensor = |data: &str| {
        format!(
            "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [2, 4], \"datatype\": \"FP32\", \"data\": {data}}}]}}"
        )
    };
    let split = |data: &str| {
        format!(
            "{{\"dataframe_split\": {{\"columns\": [\"a\", \"b\", \"c\", \"d\"], \"data\": {data}}}}}"
        )
    };
    let field = |data: &str| format!("{{\"inputs\": {{\"bmi\": {data}}}}}");
    let cases = [
        // A package: rows cut out of the request, fields, a table.
        (
            "/v1/models/diabetes:predict",
            json,
            format!("{{\"instances\": [{good}, {}]}}", wrong("1e999")),
            "row 1, field `bmi`: the number is too large",
        ),
        (
            "/v1/models/diabetes:predict",
            json,
            field("[[1], [1e999]]"),
            "row 1, field `bmi`: the number is too large",
        ),
        (
            "/invocations?",
            json,
            format!("{{\"dataframe_records\": [{good}, {}]}}", wrong("1e999")),
            "row 1, field `bmi`: the number is too large",
        ),
        (
            "/invocations?",
            "text/csv",
            "bmi\n1\nx\n".to_owned(),
            "line 3 (row 2), column `bmi` of the table must be a number",
        ),
        // A graph: elements of tensors.
        (
            "/v1/models/iris:predict",
            json,
            iris("[[1, 2, 3, 4], [1, \"], [\", 3, 4]]"),
            "element [1][1] is not",
        ),
        (
            "/v1/models/iris:predict",
            json,
            iris("[[1, 2, 3, 4], [1, 2, 3, 1e999]]"),
            "element [1][3]: the number is too large",
        ),
        (
            "/v2/models/iris/infer",
            json,
            tensor("[1, 2, 3, 4, 5, 1e39, 7, 8]"),
            "the number at element [5] is out of range",
        ),
        (
            "/v2/models/iris/infer",
            json,
            tensor("[[1, 2, 3, 4], [5, 6, null, true]]"),
            "element [1][3] is not",
        ),
        (
            "/invocations",
            json,
            split("[[1, 2, 3, 4], [1, {\"b64\": \",,\"}, 3, 4]]"),
            "element [1][1] is not",
        ),
        (
            "/invocations",
            json,
            "{\"dataframe_split\": {\"columns\": [], \"columns\": []}}".to_owned(),
            "the member \"dataframe_split\": the member \"columns\" occurs twice",
        ),
    ];
    for (path, content_type, body, expected) in cases {
        let (path, model) = path
            .split_once('?')
            .map_or((path, "iris"), |(path, _)| (path, "diabetes"));
        let request = server
            .client
            .post(server.url(path))
            .header("content-type", content_type);
        let response = request
            .header("x-amzn-sagemaker-target-model", model)
            .body(body.clone())
            .send()
            .unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let told: Value = response.json().unwrap();
        let text = told["error"].as_str().or(told["message"].as_str()).unwrap();
        assert!(text.contains(expected), "{body}: {text}");
        assert!(
            !text.contains("byte")
                && (!text.contains("line ") || content_type == "text/csv")
                && !text.contains("1e999"),
            "{body}: {text}"
        );
    }
}

#[test]
fn errors_name_places_as_the_caller_wrote_them() {
    let models = models_with(&[("churn", "1.0.0")]);
    install_graph(models.path(), "iris", 1, "iris", None);
    let server = Server::start(models.path(), &[]);
    let good = example_input("churn", "1.0.0");
    let with = |field: &str, value: Value| {
        let mut row = good.clone();
        row[field] = value;
        row
    };
    let bad = with("age", json!("old"));
    let names: Vec<&String> = good.as_object().unwrap().keys().collect();
    let age = names.iter().position(|name| *name == "age").unwrap();
    let list = |row: &Value| {
        names
            .iter()
            .map(|name| row[*name].clone())
            .collect::<Value>()
    };
    let cells = |row: &Value| {
        names
            .iter()
            .map(|name| row[*name].to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let header = names
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(",");
    let nan = |text: String| text.replace("\"old\"", "NaN");
    let tensors = |rows: usize, field: &str, data: &Value| {
        let one = |name: &&String| {
            let datatype = if good[*name].is_number() {
                "FP64"
            } else if good[*name].is_boolean() {
                "BOOL"
            } else {
                "BYTES"
            };
            let (rows, data) = if *name == field {
                (rows, data.clone())
            } else {
                (2, json!([good[*name], good[*name]]))
            };
            let datatype = if *name == field { "INT64" } else { datatype };
            json!({"name": name, "shape": [rows, 1], "datatype": datatype, "data": data})
        };
        json!({"inputs": names.iter().map(one).collect::<Value>()}).to_string()
    };
    let tensor_of_age = format!("/inputs/{age}/data/1");
    let (json_type, csv, lines) = ("application/json", "text/csv", "application/jsonlines");
    let (invocations, v2, v1) = (
        "/invocations",
        "/v2/models/churn/infer",
        "/v1/models/churn:predict",
    );
    let unknown = with("colour", json!(1));
    let cases: Vec<(&str, &str, String, String)> = vec![
        (
            invocations,
            csv,
            format!("{header}\n{}\n{}\n", cells(&good), cells(&bad)),
            "line 3 (row 2), column `age`".to_owned(),
        ),
        (
            invocations,
            csv,
            format!("{header}\n\n{}\n1,2\n", cells(&good)),
            "line 4 (row 2) of the table has 2 cells".to_owned(),
        ),
        (
            invocations,
            csv,
            format!("{header}\n{}\n", cells(&with("contract", json!("none")))),
            "line 2 (row 1), column `contract` must be".to_owned(),
        ),
        (
            invocations,
            lines,
            format!("{good}\n\n{bad}\n"),
            "line 3: /age `age` must be".to_owned(),
        ),
        (
            invocations,
            lines,
            format!("{good}\n\n{unknown}\n"),
            "line 3: /colour \"colour\" is not".to_owned(),
        ),
        (
            invocations,
            lines,
            nan(format!("{good}\n\n{bad}\n")),
            "line 3 is not JSON: NaN and Infinity do not exist".to_owned(),
        ),
        (
            invocations,
            lines,
            nan(format!("{good}\n\n{bad}\n")),
            "(/age)".to_owned(),
        ),
        (
            invocations,
            json_type,
            json!({"dataframe_split": {"columns": names, "data": [list(&good), list(&bad)]}})
                .to_string(),
            format!("/dataframe_split/data/1/{age} `age` must be"),
        ),
        (
            invocations,
            json_type,
            json!({"dataframe_records": [good, bad]}).to_string(),
            "/dataframe_records/1/age `age` must be".to_owned(),
        ),
        (
            invocations,
            json_type,
            bad.to_string(),
            "/age `age` must be".to_owned(),
        ),
        (
            invocations,
            json_type,
            json!({"instances": [good, bad]}).to_string(),
            "/instances/1/age `age` must be".to_owned(),
        ),
        (
            invocations,
            json_type,
            nan(json!({"dataframe_records": [good, bad]}).to_string()),
            "(/dataframe_records/1/age)".to_owned(),
        ),
        (
            v1,
            json_type,
            nan(json!({"instances": [good, bad]}).to_string()),
            "(/instances/1/age)".to_owned(),
        ),
        (
            v2,
            json_type,
            nan(tensors(2, "age", &json!([30, "old"]))),
            tensor_of_age,
        ),
        (
            v2,
            json_type,
            tensors(2, "age", &json!([30, 3.5])),
            "every element must be a whole number; element [1] is not".to_owned(),
        ),
        (
            v2,
            json_type,
            tensors(2, "age", &json!([30, 9_223_372_036_854_775_808_u64])),
            "element [1] is out of range".to_owned(),
        ),
        (
            v2,
            json_type,
            tensors(2, "paperless", &json!([true, 2])).replace("INT64", "BOOL"),
            "`paperless` must be boolean".to_owned(),
        ),
        (
            v2,
            json_type,
            tensors(2, "age", &json!([30, -1])).replace("INT64", "UINT8"),
            "element [1] is out of range".to_owned(),
        ),
        (
            v2,
            json_type,
            tensors(2, "age", &json!([30, 1e39])).replace("INT64", "FP32"),
            "element [1] is out of range".to_owned(),
        ),
        (
            v2,
            json_type,
            tensors(3, "age", &json!([30, 40])),
            "input `age`: shape [3, 1] takes 3 elements, given 2".to_owned(),
        ),
        (
            "/models/churn/predict",
            json_type,
            nan(json!({"instances": [good, bad]}).to_string()),
            "(/instances/1/age)".to_owned(),
        ),
        // A graph.
        (
            "/invocations?",
            lines,
            "[1, 2, 3, 4]\n\n[1, 2]\n".to_owned(),
            "line 3 has 2 values, and an earlier array has 4".to_owned(),
        ),
        (
            "/invocations?",
            csv,
            "1,2,3,4\n1,2,1e39,4\n".to_owned(),
            "the number at line 2 (row 2), element [2] is out of range".to_owned(),
        ),
    ];
    for (path, content_type, body, expected) in cases {
        let (path, model) = path
            .split_once('?')
            .map_or((path, "churn"), |(path, _)| (path, "iris"));
        let request = server
            .client
            .post(server.url(path))
            .header("content-type", content_type);
        let response = request
            .header(TARGET, model)
            .body(body.clone())
            .send()
            .unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let told: Value = response.json().unwrap();
        let text = ["error", "message", "detail"]
            .iter()
            .find_map(|member| told[*member].as_str())
            .unwrap();
        assert!(
            text.contains(&expected),
            "{path} {body}: {text}, expected {expected}"
        );
    }
}
