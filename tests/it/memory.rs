//! Memory follows the configuration, not the largest caller.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Server, install_graph, number_package, wait_for, wait_until};

/// Of the machine's memory that is in use besides, nothing can be said to the last page.
const SLACK: u64 = 48 << 20;

/// A caller's rows for `wide`, which takes two megabytes for each.
fn ask(server: &Server, model: &str, rows: usize) -> (u16, Value) {
    let body = json!({"inputs": [{"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": vec![0.5; rows]}]});
    let answer = server.predict(&format!("/v2/models/{model}/infer"), &body);
    (answer.status().as_u16(), answer.json().unwrap())
}

/// As `ask` for `memory`: eight bytes a number, whatever the size of the body.
fn ask_for(server: &Server, count: u64) -> u16 {
    let body =
        json!({"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [count]}]});
    server
        .predict("/v2/models/memory/infer", &body)
        .status()
        .as_u16()
}

fn returns(server: &Server, before: u64) {
    wait_until("memory returns", || {
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
        assert_eq!(ask(&server, "wide", 1).0, 200);
        assert_eq!(ask_for(&server, 1), 200);
    }
    let before = server.memory("VmRSS");
    for _ in 0..3 {
        assert_eq!(ask(&server, "wide", 150).0, 200);
    }
    returns(&server, before);
    // So many that it counts as usual and is kept, until nobody asks any more.
    wait_until("what is usual is kept", || {
        for _ in 0..8 {
            assert_eq!(ask(&server, "wide", 100).0, 200);
        }
        // Its run begins only when what the last one took is given back, or kept.
        assert_eq!(ask(&server, "wide", 1).0, 200);
        server.memory("VmRSS") > before + SLACK
    });
    returns(&server, before);
    // The size of what came tells nothing here.
    assert_eq!(ask_for(&server, 40_000_000), 200);
    returns(&server, before);
    assert_eq!((ask(&server, "wide", 1).0, ask_for(&server, 1)), (200, 200));
}

fn limited(models: &Path, limit: &str) -> Server {
    Server::start(
        models,
        &[
            ("runtime.workers", "1"),
            ("runtime.memory_limit_bytes", limit),
        ],
    )
}

#[test]
fn a_run_beyond_the_limit_is_refused_and_the_server_goes_on() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "wide", 1, "wide", None);
    let server = limited(models.path(), "100000000");
    assert_eq!(ask(&server, "wide", 40).0, 200);
    let (status, problem) = ask(&server, "wide", 500);
    assert_eq!(status, 503, "{problem}");
    let told = problem.to_string();
    assert!(
        told.contains("needs more memory than the 100000000 bytes")
            && told.contains("send fewer rows"),
        "{told}"
    );
    assert_eq!(
        server.metric("predictd_errors_total{kind=\"overloaded\",model=\"wide\",version=\"1\"}"),
        1.0
    );
    // Neither what was refused nor pieces of other sizes are in the way of what fits.
    for rows in [1, 30, 7, 20, 45, 500, 45] {
        assert_eq!(
            ask(&server, "wide", rows).0,
            if rows == 500 { 503 } else { 200 },
            "{rows}"
        );
    }
    assert!(server.memory("VmRSS") < 400_000_000);
}

/// Each worker may take an equal share, of packages as of bare graphs; a model's own limit goes before the general one.
#[test]
fn a_model_may_have_a_limit_of_its_own_and_its_workers_share_it() {
    let models = tempfile::tempdir().unwrap();
    number_package(models.path(), "small", "wide.onnx", &[(0.0, 0.0)]);
    number_package(models.path(), "free", "wide.onnx", &[(0.0, 0.0)]);
    let config = models.path().join(".predictd.toml");
    let text = "[batching]\nmax_batch_size = 32\n[runtime]\nworkers = 2\nmemory_limit_bytes = 400000000\n[model.small]\nmemory_limit_bytes = 40000000\n";
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
fn a_graph_that_does_not_fit_into_its_share_is_refused_with_the_key() {
    let models = tempfile::tempdir().unwrap();
    install_graph(models.path(), "slow", 1, "slow", None);
    let server = Server::start_unready(
        models.path(),
        &[
            ("runtime.workers", "1"),
            ("runtime.memory_limit_bytes", "1000"),
        ],
    );
    let refused = wait_for("it is refused", || {
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
fn rows_of_a_run_that_can_not_be_cut_are_limited() {
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
fn nor_are_those_that_come_with_an_optional_input() {
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
        "rows that are cut are not limited"
    );
    let (status, text) = ask(101, true);
    assert!(
        status == 400 && text.contains("101 rows") && text.contains("batching.max_rows_per_run"),
        "{status} {text}"
    );
}
