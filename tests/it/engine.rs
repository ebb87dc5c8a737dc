//! Graphs that fail, hang, or make rows depend on each other do not affect other requests.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Server, ServerClient, declare_independent_rows, example_input, fixture_path, install_graph,
    install_package, number_package, object_schema, run_predictd, wait_for,
    wait_for_package_copies, wait_until, write_manifest, write_unpacked_package,
};

fn models_with_number_graph(name: &str, graph: &str) -> TempDir {
    let models = tempfile::tempdir().unwrap();
    number_package(models.path(), name, graph, &[]);
    models
}

/// The package `huge`, whose graph hangs on numbers other than 0. Its golden examples keep the load
/// short.
fn huge() -> TempDir {
    let models = tempfile::tempdir().unwrap();
    let golden = [(0.0, 0.0), (0.0001, 0.0001)];
    number_package(models.path(), "huge", "one_huge_node.onnx", &golden);
    models
}

/// Sends requests at once: their status codes and answers, in the order of the values.
fn send_at_once(server: &ServerClient, path: &str, values: &[f64]) -> Vec<(u16, Value)> {
    std::thread::scope(|scope| {
        let callers: Vec<_> = values
            .iter()
            .map(|x| {
                scope.spawn(move || {
                    let response = server.predict(path, &json!({"x": x}));
                    (response.status().as_u16(), response.json().unwrap())
                })
            })
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect()
    })
}

#[test]
fn an_invalid_row_does_not_fail_other_rows_of_its_run() {
    // A row that the graph refuses is the caller's error. A wrong answer is the model's.
    for (graph, bad, expected, kind) in [
        ("fails_rows.onnx", 50.0, 422, "invalid"),
        ("nan_rows.onnx", -1.0, 500, "inference"),
    ] {
        let models = models_with_number_graph("rows", graph);
        // The queue delay is long enough that all requests share a run.
        let server = Server::start(
            models.path(),
            &[
                ("batching.max_delay_us", "300000"),
                ("batching.max_batch_size", "12"),
            ],
        );
        let mut values = vec![3.0; 12];
        values[5] = bad;
        let answers = send_at_once(&server, "/predict", &values);
        for (index, (status, body)) in answers.iter().enumerate() {
            assert_eq!(
                *status,
                if index == 5 { expected } else { 200 },
                "{graph}: {index}: {body}"
            );
        }
        assert_eq!(
            server.metric(&format!(
                "predictd_errors_total{{kind=\"{kind}\",model=\"rows\",version=\"1.0.0\"}}"
            )),
            1.0
        );
        let sum = server.metric("predictd_batch_size_sum{model=\"rows\",version=\"1.0.0\"}");
        let count = server.metric("predictd_batch_size_count{model=\"rows\",version=\"1.0.0\"}");
        assert!(
            sum / count > 1.5,
            "the requests did not share a run: {sum} rows in {count} runs"
        );
        let problem = &answers[5].1;
        assert!(
            !problem.to_string().contains("onnx"),
            "the library's text names files of the server: {problem}"
        );
        assert!(problem["request_id"].is_string());
        assert_eq!(server.metric("predictd_worker_panics_total"), 0.0);
    }
}

#[test]
fn a_graph_with_dependent_rows_is_not_batched() {
    let models = tempfile::tempdir().unwrap();
    let directory = models.path().join("coupled/1.0.0");
    fs_err::create_dir_all(&directory).unwrap();
    fs_err::copy(
        fixture_path("batch_coupled.onnx"),
        directory.join("model.onnx"),
    )
    .unwrap();
    let numbers = |field: &str| {
        let array =
            json!({"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"}});
        object_schema(json!({field: array}))
    };
    fs_err::write(
        directory.join("schema.json"),
        json!({"input": numbers("x"), "output": numbers("y")}).to_string(),
    )
    .unwrap();
    let golden = "{\"input\": {\"x\": [1, 2, 3]}, \"output\": {\"y\": [0, 0, 0]}}\n\
                  {\"input\": {\"x\": [4, 5, 6]}, \"output\": {\"y\": [0, 0, 0]}}\n";
    fs_err::write(directory.join("golden.jsonl"), golden).unwrap();
    write_manifest(&directory, "coupled", "1.0.0");
    let (code, output, _) = run_predictd(&["verify", directory.to_str().unwrap()], "", &[]);
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains(
            "not batched: ReduceMean (gives \"mean\") reduces along the dimension of the rows"
        ),
        "{output}"
    );
    let server = Server::start(models.path(), &[("batching.max_delay_us", "100000")]);
    let body = json!({"instances": [{"x": [1, 2, 3]}, {"x": [7, 8, 9]}]});
    let answer: Value = server.predict("/predict", &body).json().unwrap();
    assert_eq!(
        answer["predictions"],
        json!([{"y": [0.0, 0.0, 0.0]}, {"y": [0.0, 0.0, 0.0]}])
    );
    assert_eq!(
        server.get_json("/models/coupled/versions/1.0.0")["serving"]["batched"],
        false
    );

    // The gate checks the declaration that rows are independent.
    declare_independent_rows(&directory);
    write_manifest(&directory, "coupled", "1.0.0");
    let (code, output, _) = run_predictd(&["verify", directory.to_str().unwrap()], "", &[]);
    assert_eq!(code, 1);
    assert!(
        output.contains("serving.json /batching/independent_rows"),
        "{output}"
    );
}

#[test]
fn a_run_that_exceeds_its_deadline_is_stopped() {
    let models = models_with_number_graph("slow", "slow_rows.onnx");
    let server = Server::start(models.path(), &[("runtime.workers", "1")]);
    let start = Instant::now();
    let response = server
        .post("/predict")
        .header("x-request-timeout-ms", "300")
        .body("{\"x\": 1e12}")
        .send()
        .unwrap();
    assert_eq!(response.status(), 504);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(
        server.predict("/predict", &json!({"x": 1})).status(),
        200,
        "the only worker is free again"
    );
    assert_eq!(server.metric("predictd_wedged_workers"), 0.0);
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"timeout\",model=\"slow\",version=\"1.0.0\"}"),
        1.0
    );
}

#[test]
fn overload_is_shed_and_probes_answer() {
    let models = models_with_number_graph("slow", "slow_rows.onnx");
    let server = Server::start(
        models.path(),
        &[("server.max_inflight", "4"), ("runtime.workers", "1")],
    );
    let held: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(server.addresses.data).unwrap();
            let body = "{\"x\": 1e12}";
            write!(
                stream,
                "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            stream
        })
        .collect();
    let inflight = "predictd_inflight_requests{model=\"slow\",version=\"1.0.0\"}";
    server.wait_for_metric(inflight, 4.0);
    let start = Instant::now();
    let response = server
        .post("/predict")
        .body("this is not even looked at")
        .send()
        .unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(server.get("/livez").status(), 200);
    assert_eq!(server.get("/readyz").status(), 200);
    assert!(
        server.metric("predictd_errors_total{kind=\"overloaded\",model=\"slow\",version=\"\"}")
            >= 1.0
    );
    // Callers that hang up give their places back.
    drop(held);
    server.wait_for_metric(inflight, 0.0);
}

#[test]
fn a_full_queue_answers_503_and_requests_of_callers_that_hung_up_are_not_run() {
    let models = models_with_number_graph("slow", "slow_rows.onnx");
    let settings = [
        ("runtime.workers", "1"),
        ("batching.queue_capacity", "3"),
        ("batching.max_batch_size", "1"),
        // The run of a caller that hung up ends at its deadline.
        ("server.request_timeout_ms", "4000"),
    ];
    let server = Server::start(models.path(), &settings);
    let send = |x: f64| {
        let mut stream = TcpStream::connect(server.addresses.data).unwrap();
        let body = format!("{{\"x\": {x}}}");
        write!(
            stream,
            "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream
    };
    let depth = "predictd_queue_depth{model=\"slow\",version=\"1.0.0\"}";
    let inflight = "predictd_inflight_requests{model=\"slow\",version=\"1.0.0\"}";
    let runs = "predictd_batch_size_count{model=\"slow\",version=\"1.0.0\"}";
    let busy = send(1e12);
    wait_until("the worker is busy", || {
        server.metric(inflight) == 1.0 && server.metric(depth) == 0.0
    });
    let waiting: Vec<TcpStream> = (0..3).map(|_| send(1.0)).collect();
    server.wait_for_metric(depth, 3.0);
    let response = server.predict("/predict", &json!({"x": 1}));
    assert_eq!(response.status(), 503);
    assert!(
        response
            .text()
            .unwrap()
            .contains("too many requests are waiting")
    );
    drop(waiting);
    server.wait_for_metric(inflight, 1.0);
    let before = server.metric(runs);
    // The queue has room although the worker is busy, because requests of callers that hung up were
    // removed.
    let alive = send(1.0);
    server.wait_for_metric(inflight, 2.0);
    drop(busy);
    wait_until("the worker is free", || {
        server.predict("/predict", &json!({"x": 1})).status() == 200
    });
    assert!(
        server.metric(runs) - before <= 4.0,
        "requests of callers that hung up were run: {} runs",
        server.metric(runs) - before
    );
    drop(alive);
}

#[test]
fn a_hanging_worker_is_replaced() {
    let models = huge();
    install_package(models.path(), "diabetes", "1.0.0");
    let server = Server::start(
        models.path(),
        &[("runtime.workers", "1"), ("runtime.max_wedged", "2")],
    );
    // A run of x takes time in proportion to the square of x: about ten seconds for 0.5. The
    // deadline is long enough that the run begins before it, even on a busy machine.
    let hang = || {
        let response = server
            .post("/models/huge/predict")
            .header("x-request-timeout-ms", "1000")
            .body("{\"x\": 0.5}")
            .send()
            .unwrap();
        assert_eq!(response.status(), 504);
    };
    hang();
    server.wait_for_metric("predictd_wedged_workers", 1.0);
    assert_eq!(
        server
            .predict("/models/huge/predict", &json!({"x": 0}))
            .status(),
        200,
        "the worker is replaced"
    );
    assert_eq!(
        server.get("/livez").status(),
        200,
        "one hanging worker does not make the server dead"
    );
    hang();
    server.wait_for_metric("predictd_wedged_workers", 2.0);
    let response = server.get("/livez");
    assert_eq!(response.status(), 503);
    assert!(response.text().unwrap().contains("2 engine threads hang"));
    let reasons = server.get_json("/readyz");
    assert!(
        reasons["reasons"].to_string().contains("huge"),
        "the version is unready after repeated replacements: {reasons}"
    );
    assert_eq!(
        server
            .predict(
                "/models/diabetes/predict",
                &example_input("diabetes", "1.0.0")
            )
            .status(),
        200
    );
    server.wait_for_metric("predictd_wedged_workers", 0.0);
    assert_eq!(server.get("/livez").status(), 200);
}

#[test]
fn a_load_runs_only_inputs_that_the_gate_ran() {
    let models = tempfile::tempdir().unwrap();
    number_package(
        models.path(),
        "picky",
        "hangs_on_zeros.onnx",
        &[(2.0, 2.0), (5.0, 5.0)],
    );
    let server = Server::start(models.path(), &[]);
    assert_eq!(server.predict("/predict", &json!({"x": 3})).status(), 200);
}

#[test]
fn a_worker_is_replaced_from_verified_files_only() {
    let hang = |server: &ServerClient| {
        let response = server
            .post("/predict")
            .header("x-request-timeout-ms", "100")
            .body("{\"x\": 0.5}")
            .send()
            .unwrap();
        assert_eq!(response.status(), 504);
    };
    let models = huge();
    let graph = models.path().join("huge/1.0.0/model.onnx");
    let (verified, other) = (
        fs_err::read(&graph).unwrap(),
        fixture_path("slow_rows.onnx"),
    );
    let state = tempfile::tempdir().unwrap();
    let url = state.path().to_str().unwrap();
    let settings = [("runtime.workers", "1"), ("state.url", url)];
    let server = Server::start(
        models.path(),
        &[&settings[..], &[("state.keep_packages", "false")]].concat(),
    );
    // The graph is overwritten. The loaded version answers, but a worker cannot be replaced from
    // other files.
    fs_err::copy(&other, &graph).unwrap();
    hang(&server);
    let line = wait_for("the replacement fails", || {
        server.logged("no replacement engine worker").pop()
    });
    assert!(
        line["error"].as_str().unwrap().contains("model.onnx: has"),
        "{line}"
    );
    let request = server
        .post("/predict")
        .header("x-request-timeout-ms", "500");
    assert_ne!(request.body("{\"x\": 0}").send().unwrap().status(), 200);
    drop(server);

    // The copy in the state is the verified package, so that a worker can be replaced from it. The
    // state also remembers the gate's verdict.
    fs_err::write(&graph, verified).unwrap();
    let server = Server::start(models.path(), &settings);
    wait_for_package_copies(state.path(), "huge", 1);
    fs_err::copy(&other, &graph).unwrap();
    hang(&server);
    wait_until("the worker is replaced", || {
        server.predict("/predict", &json!({"x": 0})).status() == 200
    });
}

#[test]
fn the_log_contains_no_request_values() {
    let models = tempfile::tempdir().unwrap();
    number_package(
        models.path(),
        "table",
        "fails_rows.onnx",
        &[(1.0, 10.0), (2.0, 20.0)],
    );
    let server = Server::start(models.path(), &[]);
    assert_eq!(
        server.predict("/predict", &json!({"x": 987654})).status(),
        422
    );
    wait_for("the refusal is logged", || {
        server.log().into_iter().find(|line| line["status"] == 422)
    });
    server.assert_never_logged("987654");
}

#[test]
fn the_log_has_the_detail_under_the_request_id_of_the_error() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "pair", 1, "fails_inside", None);
    let server = Server::start(models.path(), &[]);
    let tensors = |width: usize, delta: i64| json!({"a": [vec![1.0; width]], "b": [[1.0], [2.0]], "delta": delta});
    let logged = |id: &str| {
        wait_for("the reason is logged", || {
            server
                .log()
                .into_iter()
                .find(|line| line["request_id"] == id)
        })
    };
    // An error that the caller's shapes cause.
    let refused = server.predict("/v1/models/pair:predict", &json!({"inputs": tensors(3, 1)}));
    let id = refused.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(refused.status(), 400);
    let line = logged(&id);
    let expected =
        "MatMul \"interaction\": MatMul dimension mismatch (inputs: a [1, 3], b [2, 1], delta [])";
    assert_eq!(
        (&line["detail"], &line["level"]),
        (&expected.into(), &"WARN".into()),
        "{line}"
    );
    // An error of the model, in every dialect.
    let input = |name: &str, shape: Value, datatype: &str, data: Value| json!({"name": name, "shape": shape, "datatype": datatype, "data": data});
    let v2 = json!({"inputs": [
        input("a", json!([1, 2]), "FP32", json!([1, 2])), input("b", json!([2, 1]), "FP32", json!([1, 2])), input("delta", json!([]), "INT64", json!([0])),
    ]});
    let cases = [
        ("/v1/models/pair:predict", json!({"inputs": tensors(2, 0)})),
        ("/v2/models/pair/infer", v2),
        ("/invocations", json!({"inputs": tensors(2, 0)})),
    ];
    for (path, body) in cases {
        let failed = server.predict(path, &body);
        let id = failed.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(failed.status(), 500, "{path}");
        let text = failed.text().unwrap();
        assert!(
            text.contains(&format!("under the request id {id}")),
            "{path}: {text}"
        );
        let line = logged(&id);
        let expected = "Range \"steps\": delta in Range operator can not be zero! \
                        (inputs: a [1, 2], b [2, 1], delta [])";
        assert_eq!(
            (&line["detail"], &line["level"]),
            (&expected.into(), &"ERROR".into()),
            "{line}"
        );
    }
}

#[test]
fn text_that_may_come_from_a_personal_value_is_not_logged() {
    let models = tempfile::tempdir().unwrap();
    let schema = json!({
        "input": object_schema(json!({"x": {"type": "number", "x-pii": true}})),
        "output": object_schema(json!({"y": {"type": "number"}})),
    });
    let directory =
        write_unpacked_package(models.path(), "table", "fails_rows", &schema, &Value::Null);
    fs_err::write(
        directory.join("golden.jsonl"),
        "{\"input\": {\"x\": 1}, \"output\": {\"y\": 10}}\n",
    )
    .unwrap();
    write_manifest(&directory, "table", "1.0.0");
    let server = Server::start(models.path(), &[]);
    let document = server.get_json("/openapi.json");
    let operation = &document["paths"]["/models/table/predict"]["post"];
    let examples = &operation["requestBody"]["content"]["application/json"];
    let one = &examples["examples"]["one"]["value"];
    assert!(
        one["x"].is_number() && *one != json!({"x": 1}),
        "a golden example is logged: {examples}"
    );
    let refused = server.predict("/predict", &json!({"x": 987654}));
    assert_eq!(refused.status(), 422);
    assert!(!refused.text().unwrap().contains("987654"));
    let line = wait_for("the refusal is logged", || {
        server.log().into_iter().find(|line| line["status"] == 422)
    });
    assert_eq!(line["detail"], "Gather: out of data bounds", "{line}");
    server.assert_never_logged("987654");
}
