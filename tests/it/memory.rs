//! The configuration limits memory, not the largest request.

use std::{path::Path, sync::Arc};

use predictd::{
    engine::{Engine, infer::OnnxFactory},
    tensor::{Data, Tensor, Tensors},
};
use serde_json::{Value, json};

use crate::harness::{
    Server, ServerClient, fixture_path, install_graph, number_package, runtime, wait_for,
    wait_until,
};

/// Other uses of memory vary by about this much.
const SLACK: u64 = 48 << 20;

/// A request of rows for `wide`, which needs 2 MB for each row.
fn infer_rows(server: &ServerClient, model: &str, rows: usize) -> (u16, Value) {
    let body = json!({"inputs": [{"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": vec![0.5; rows]}]});
    let answer = server.predict(&format!("/v2/models/{model}/infer"), &body);
    (answer.status().as_u16(), answer.json().unwrap())
}

/// A request for `memory`, which needs eight bytes for each number, whatever the size of the body.
fn infer_memory(server: &ServerClient, count: u64) -> u16 {
    let body =
        json!({"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [count]}]});
    server
        .predict("/v2/models/memory/infer", &body)
        .status()
        .as_u16()
}

fn wait_until_memory_returns(server: &Server, before: u64) {
    wait_until("the memory is given back", || {
        server.memory("VmRSS") <= (before + before / 5).max(before + SLACK)
    });
}

#[test]
fn resident_memory_returns_after_a_burst() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "wide", 1, "wide", None);
    install_graph(models.path(), "memory", 1, "memory", None);
    let server = Server::start(models.path(), &[("runtime.workers", "1")]);
    for _ in 0..20 {
        assert_eq!(infer_rows(&server, "wide", 1).0, 200);
        assert_eq!(infer_memory(&server, 1), 200);
    }
    let before = server.memory("VmRSS");
    for _ in 0..3 {
        assert_eq!(infer_rows(&server, "wide", 150).0, 200);
    }
    wait_until_memory_returns(&server, before);
    // After many requests of one size, the server keeps their memory until no more such requests
    // come.
    wait_until("the memory of usual requests is kept", || {
        for _ in 0..8 {
            assert_eq!(infer_rows(&server, "wide", 100).0, 200);
        }
        // Its run starts only when the memory of the last run is given back or kept.
        assert_eq!(infer_rows(&server, "wide", 1).0, 200);
        server.memory("VmRSS") > before + SLACK
    });
    wait_until_memory_returns(&server, before);
    // The size of the body says nothing about the memory of the run.
    assert_eq!(infer_memory(&server, 40_000_000), 200);
    wait_until_memory_returns(&server, before);
    assert_eq!(
        (infer_rows(&server, "wide", 1).0, infer_memory(&server, 1)),
        (200, 200)
    );
}

fn start_with_limit(models: &Path, limit: &str) -> Server {
    Server::start(
        models,
        &[
            ("runtime.workers", "1"),
            ("runtime.memory_limit_bytes", limit),
        ],
    )
}

#[test]
fn a_run_beyond_the_limit_is_refused_and_later_runs_succeed() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "wide", 1, "wide", None);
    let server = start_with_limit(models.path(), "100000000");
    assert_eq!(infer_rows(&server, "wide", 40).0, 200);
    let (status, problem) = infer_rows(&server, "wide", 500);
    assert_eq!(status, 503, "{problem}");
    let text = problem.to_string();
    assert!(
        text.contains("needs more memory than the 100000000 bytes")
            && text.contains("send fewer rows"),
        "{text}"
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"overloaded\",model=\"wide\",version=\"1\"}"),
        1.0
    );
    // Refused runs and free blocks of other sizes do not prevent a run that fits.
    for rows in [1, 30, 7, 20, 45, 500, 45] {
        assert_eq!(
            infer_rows(&server, "wide", rows).0,
            if rows == 500 { 503 } else { 200 },
            "{rows}"
        );
    }
    assert!(server.memory("VmRSS") < 400_000_000);
}

/// Each worker may use an equal share of the limit, for packages and for bare graphs. The limit of
/// a model overrides the general one.
#[test]
fn the_workers_of_a_model_share_its_limit() {
    let models = tempfile::tempdir().unwrap();
    number_package(models.path(), "small", "wide.onnx", &[(0.0, 0.0)]);
    number_package(models.path(), "free", "wide.onnx", &[(0.0, 0.0)]);
    let config = models.path().join(".predictd.toml");
    let text = "[batching]\nmax_batch_size = 32\n[runtime]\nworkers = 2\n\
                memory_limit_bytes = 400000000\n[model.small]\nmemory_limit_bytes = 40000000\n";
    fs_err::write(&config, text).unwrap();
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.arg("--config").arg(&config);
    });
    let ask = |model: &str, rows: usize| {
        let answer = server.predict(
            &format!("/models/{model}/predict"),
            &json!({"instances": vec![json!({"x": 0.5}); rows]}),
        );
        (answer.status().as_u16(), answer.text().unwrap())
    };
    assert_eq!(ask("free", 32).0, 200);
    assert_eq!(ask("small", 8).0, 200);
    let (status, text) = ask("small", 32);
    assert!(
        status == 503 && text.contains("more memory than the 20000000 bytes"),
        "{status} {text}"
    );
    assert_eq!(ask("small", 8).0, 200);
}

#[test]
fn a_graph_beyond_its_share_is_rejected_with_the_configuration_key() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "slow", 1, "slow", None);
    let server = Server::start_unready(
        models.path(),
        &[
            ("runtime.workers", "1"),
            ("runtime.memory_limit_bytes", "1000"),
        ],
    );
    let refused = wait_for("the version is rejected", || {
        server.logged("refused").first().cloned()
    });
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("runtime.memory_limit_bytes"),
        "{refused}"
    );
}

#[test]
fn rows_of_a_run_that_cannot_be_split_are_limited() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "coupled", 1, "batch_coupled", None);
    let server = Server::start(models.path(), &[("batching.max_rows_per_run", "100")]);
    let ask = |rows: usize| {
        let body = json!({"inputs": [{"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": vec![0.5; rows * 3]}]});
        let answer = server.predict("/v2/models/coupled/infer", &body);
        (answer.status().as_u16(), answer.text().unwrap())
    };
    assert_eq!(ask(100).0, 200);
    let (status, text) = ask(101);
    assert!(
        status == 400 && text.contains("101 rows") && text.contains("batching.max_rows_per_run"),
        "{status} {text}"
    );
}

#[test]
fn rows_with_an_optional_input_are_limited() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "scale", 1, "optional_scale", None);
    let server = Server::start(models.path(), &[("batching.max_rows_per_run", "100")]);
    let metadata = server.get_json("/v2/models/scale");
    let ask = |rows: usize, scale: bool| {
        let mut inputs = Vec::new();
        for input in metadata["inputs"].as_array().unwrap() {
            let own = if inputs.is_empty() { rows } else { 1 };
            let shape: Vec<i64> = input["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|size| size.as_i64().unwrap())
                .collect();
            let shape: Vec<i64> = shape
                .iter()
                .map(|size| if *size < 0 { own as i64 } else { *size })
                .collect();
            let count = shape.iter().product::<i64>() as usize;
            if scale || inputs.is_empty() {
                inputs.push(json!({"name": input["name"], "shape": shape, "datatype": input["datatype"], "data": vec![0.5; count]}));
            }
        }
        let answer = server.predict("/v2/models/scale/infer", &json!({"inputs": inputs}));
        (answer.status().as_u16(), answer.text().unwrap())
    };
    assert_eq!(
        (ask(101, false).0, ask(100, true).0),
        (200, 200),
        "rows of a run that can be split are not limited"
    );
    let (status, text) = ask(101, true);
    assert!(
        status == 400 && text.contains("101 rows") && text.contains("batching.max_rows_per_run"),
        "{status} {text}"
    );
}

#[test]
fn a_failed_allocation_of_the_runtime_is_recognised() {
    let (_, mut engine) = OnnxFactory::open(runtime(), &fixture_path("memory.onnx"), 1).unwrap();
    let mut run = |elements: i64| {
        let tensor = Tensor::new(vec![1], Data::Int64(vec![elements].into())).unwrap();
        engine.run(&Tensors(vec![(Arc::from("n"), tensor)]))
    };
    // More bytes than the address space of a process has.
    let error = run(1 << 48).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    let error = run(-1).unwrap_err();
    assert!(!error.is_out_of_memory(), "{error}");
}
