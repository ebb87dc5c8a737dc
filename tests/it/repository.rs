//! A repository of graphs without manifests, in the layout of Triton, KServe and TensorFlow
//! Serving.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    InProcessServer, Server, ServerClient, example_input, install_graph, models_with, wait_for,
    wait_until,
};

fn infer(server: &ServerClient, path: &str, inputs: Value) -> (u16, Value) {
    let answer = server.predict(path, &json!({"inputs": inputs}));
    (answer.status().as_u16(), answer.json().unwrap())
}

fn fp32(name: &str, shape: &[usize], data: &[f32]) -> Value {
    json!({"name": name, "shape": shape, "datatype": "FP32", "data": data})
}

#[test]
fn a_graph_is_served_as_it_is_and_marked_unverified() {
    let models = models_with(&[]);
    install_graph(models.path(), "iris", 3, "iris", None);
    let server = InProcessServer::start(models.path(), &[]);
    let (status, answer) = infer(
        &server,
        "/v2/models/iris/infer",
        json!([fp32(
            "x",
            &[2, 4],
            &[5.1, 3.5, 1.4, 0.2, 6.2, 2.9, 4.3, 1.3]
        )]),
    );
    assert_eq!(
        (status, &answer["outputs"][0]["data"]),
        (200, &json!([0, 1])),
        "{answer}"
    );
    let metrics = server.metrics();
    assert!(
        metrics.contains("role=\"stable\",verified=\"false\",version=\"3\""),
        "{metrics}"
    );
    assert_eq!(
        server.get_json("/models/iris")["versions"][0]["verified"],
        false
    );
    // predictd's own dialect has a value by the name of each input.
    let answer: Value = server
        .predict("/predict", &json!({"x": [5.1, 3.5, 1.4, 0.2]}))
        .json()
        .unwrap();
    assert_eq!(answer["predictions"][0]["label"], 0);
    assert_eq!(
        answer["predictions"][0]["prob"].as_array().unwrap().len(),
        3
    );
    let refused = server.predict("/predict", &json!({"x": [5.1, 3.5]}));
    assert_eq!(refused.status(), 422);
    assert!(
        refused
            .text()
            .unwrap()
            .contains("expected FP32 [-1, 4], got [1, 2]")
    );
}

#[test]
fn no_unverified_graph_is_served_if_manifests_are_required() {
    let models = models_with(&[("churn", "1.1.0")]);
    install_graph(models.path(), "iris", 1, "iris", None);
    let server = InProcessServer::start(
        models.path(),
        &[
            ("models.require_manifest", "true"),
            ("models.required", "churn"),
        ],
    );
    wait_until("the directory is scanned", || {
        let document = server.get_json("/models/iris");
        document["versions"][0]["reason"] == "manifest.json is missing"
    });
    assert_eq!(
        server
            .predict("/v2/models/iris/infer", &json!({"inputs": []}))
            .status(),
        503
    );
}

/// A server with a graph that runs each request alone, one that batches, and one of a fixed batch
/// size.
fn graphs_with_batching() -> (TempDir, InProcessServer) {
    let models = models_with(&[]);
    install_graph(
        models.path(),
        "alone",
        1,
        "add_sub",
        Some("max_batch_size: 0\n"),
    );
    install_graph(
        models.path(),
        "shared",
        1,
        "add_sub",
        Some("max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 200000 }\n"),
    );
    install_graph(
        models.path(),
        "fixed",
        1,
        "fixed_batch",
        Some("dynamic_batching { }\n"),
    );
    let server = InProcessServer::start(models.path(), &[]);
    (models, server)
}

#[test]
fn requests_share_a_run_only_if_the_configuration_allows_it() {
    let (_models, server) = graphs_with_batching();
    let batched = |name: &str| {
        server.get_json(&format!("/models/{name}/versions/1"))["serving"]["batched"].clone()
    };
    assert_eq!(
        (batched("alone"), batched("shared"), batched("fixed")),
        (json!(false), json!(true), json!(false))
    );
    std::thread::scope(|scope| {
        for name in ["alone", "shared"] {
            for index in 0..4 {
                let server = &server;
                scope.spawn(move || {
                    let row = [index as f32, 1.0, 2.0, 3.0];
                    let inputs = json!([fp32("a", &[1, 4], &row), fp32("b", &[1, 4], &[1.0; 4])]);
                    let (status, answer) =
                        infer(server, &format!("/v2/models/{name}/infer"), inputs);
                    assert_eq!(
                        (status, &answer["outputs"][0]["data"][0]),
                        (200, &json!(index as f32 + 1.0)),
                        "{answer}"
                    );
                });
            }
        }
    });
    let counts = |name: &str| {
        let document = server.get_json(&format!("/v2/models/{name}/stats"));
        let stats = &document["model_stats"][0];
        (
            stats["inference_count"].as_u64().unwrap(),
            stats["execution_count"].as_u64().unwrap(),
        )
    };
    assert_eq!(counts("alone"), (4, 4));
    let (rows, runs) = counts("shared");
    assert!(rows == 4 && runs < 4, "{rows} rows in {runs} runs");
}

#[test]
fn more_rows_than_a_run_holds_are_run_in_parts() {
    let (_models, server) = graphs_with_batching();
    let twenty: Vec<f32> = (0..80).map(|index| index as f32).collect();
    let inputs = json!([
        fp32("a", &[20, 4], &twenty),
        fp32("b", &[20, 4], &[0.0; 80])
    ]);
    let (_, answer) = infer(&server, "/v2/models/shared/infer", inputs);
    assert_eq!(
        (
            &answer["outputs"][0]["shape"],
            &answer["outputs"][0]["data"]
        ),
        (&json!([20, 4]), &json!(twenty))
    );
}

#[test]
fn a_graph_of_a_fixed_batch_size_takes_that_size_only() {
    let (_models, server) = graphs_with_batching();
    let (status, answer) = infer(
        &server,
        "/v2/models/fixed/infer",
        json!([fp32("x", &[7, 3], &[0.0; 21])]),
    );
    assert_eq!(status, 400);
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("expected FP32 [8, 3], got [7, 3]"),
        "{answer}"
    );
}

#[test]
fn the_version_policy_selects_the_loaded_versions() {
    let models = models_with(&[]);
    for version in [1, 2, 3, 10] {
        install_graph(
            models.path(),
            "all",
            version,
            "scalar",
            Some("version_policy { all { } }\n"),
        );
        install_graph(
            models.path(),
            "some",
            version,
            "scalar",
            Some("version_policy { specific { versions: [1, 3] } }\n"),
        );
        install_graph(
            models.path(),
            "latest",
            version,
            "scalar",
            Some("version_policy { latest { num_versions: 3 } }\n"),
        );
        install_graph(models.path(), "none", version, "scalar", None);
    }
    let server = InProcessServer::start(models.path(), &[]);
    let loaded = |name: &str| server.get_json(&format!("/v2/models/{name}"))["versions"].clone();
    assert_eq!(loaded("all"), json!(["1", "2", "3", "10"]));
    assert_eq!(loaded("some"), json!(["1", "3"]));
    assert_eq!(loaded("latest"), json!(["2", "3", "10"]));
    assert_eq!(loaded("none"), json!(["3", "10"]), "models.keep_versions");
    let (_, answer) = infer(
        &server,
        "/v2/models/all/infer",
        json!([fp32("x", &[], &[2.0])]),
    );
    assert_eq!(
        (&answer["model_version"], &answer["outputs"][0]["data"]),
        (&json!("10"), &json!([-2.0])),
        "the highest number"
    );
}

#[test]
fn errors_of_a_configuration_are_named() {
    let models = models_with(&[]);
    let configs = [
        (
            "shape",
            "max_batch_size: 8\ninput { name: \"x\" data_type: TYPE_FP32 dims: [ 5 ] }\n",
            "says float32[-1, 5]; the graph has float32[-1, 4]",
        ),
        (
            "datatype",
            "input { name: \"x\" data_type: TYPE_INT32 dims: [ -1, 4 ] }\n",
            "says int32",
        ),
        (
            "unknown",
            "output { name: \"z\" }\n",
            "the graph has no such output; it has label, prob",
        ),
        ("name", "name: \"other\"\n", "names the model \"other\""),
        ("syntax", "input [ {\n", "line "),
        (
            "labels",
            "output { name: \"prob\" label_filename: \"../secret\" }\n",
            "must be a file next to it",
        ),
    ];
    for (name, config, _) in configs {
        install_graph(models.path(), name, 1, "iris", Some(config));
    }
    install_graph(
        models.path(),
        "good",
        1,
        "iris",
        Some("optimization { }\nbackend: \"onnxruntime\"\n"),
    );
    let server = Server::start_unready(models.path(), &[]);
    for (name, _, expected) in configs {
        let reason = wait_for(name, || {
            let document = server.get_json(&format!("/models/{name}"));
            (document["versions"][0]["state"] == "refused").then(|| {
                document["versions"][0]["reason"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
        });
        assert!(
            reason.contains("config.pbtxt") && reason.contains(expected),
            "{name}: {reason}"
        );
    }
    let warning = wait_for("the warning", || {
        server
            .logged("keys of config.pbtxt that are ignored")
            .first()
            .cloned()
    });
    assert_eq!(
        (&warning["model"], &warning["keys"]),
        (&json!("good"), &json!("optimization"))
    );
}

#[test]
fn a_graph_is_loaded_when_its_copy_is_complete() {
    let models = models_with(&[]);
    install_graph(models.path(), "iris", 1, "iris", None);
    let server = Server::start(models.path(), &[]);
    let whole = fs_err::read(models.path().join("iris/1/model.onnx")).unwrap();
    let second = models.path().join("iris/2");
    fs_err::create_dir_all(&second).unwrap();
    // The file is written in three parts, with scans between them.
    for part in 1..=3 {
        fs_err::write(second.join("model.onnx"), &whole[..whole.len() * part / 3]).unwrap();
        let rejections = server.logged("refused").len();
        wait_until("a scan reports the incomplete file", || {
            let document = server.get_json("/models/iris");
            let known = document["versions"]
                .as_array()
                .unwrap()
                .iter()
                .any(|version| version["version"] == "2");
            known || server.logged("refused").len() > rejections
        });
    }
    wait_until("version 2 is loaded", || {
        let document = server.get_json("/models/iris");
        document["versions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|version| version["version"] == "2" && version["state"] == "available")
    });
    assert_eq!(server.get_json("/models/iris")["stable"], "1");
}

#[test]
fn a_hostile_graph_is_rejected_and_other_models_are_served() {
    let models = models_with(&[]);
    install_graph(models.path(), "iris", 1, "iris", None);
    for hostile in ["nested_functions", "external_escape"] {
        install_graph(models.path(), hostile, 1, hostile, None);
    }
    fs_err::create_dir_all(models.path().join("text/1")).unwrap();
    fs_err::write(models.path().join("text/1/model.onnx"), "no graph").unwrap();
    let server = InProcessServer::start_unready(
        models.path(),
        &[
            ("models.gate_timeout_ms", "1500"),
            ("models.required", "iris"),
        ],
    );
    server.wait_until_ready();
    let error = wait_for("the version is rejected", || {
        let answer = server
            .predict("/v2/models/text/infer", &json!({"inputs": []}))
            .text()
            .unwrap();
        answer.contains("is refused").then_some(answer)
    });
    assert!(
        error.contains("Load model from model.onnx failed")
            && !error.contains(models.path().to_str().unwrap()),
        "{error}"
    );
    for hostile in ["nested_functions", "external_escape", "text"] {
        wait_until(hostile, || {
            server.get_json(&format!("/models/{hostile}"))["versions"][0]["state"] == "refused"
        });
    }
    let (status, _) = infer(
        &server,
        "/v2/models/iris/infer",
        json!([fp32("x", &[1, 4], &[0.0; 4])]),
    );
    assert_eq!(status, 200);
}

#[test]
fn the_graph_of_a_package_is_exposed_if_configured() {
    let models = models_with(&[("churn", "1.1.0")]);
    let config = models.path().join("predictd.toml");
    fs_err::write(&config, "[model.churn]\noip = \"graph\"\n").unwrap();
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.arg("--config").arg(&config);
    });
    let document = server.get_json("/v2/models/churn");
    assert_eq!(
        document["inputs"].as_array().unwrap().len(),
        1,
        "{document}"
    );
    let width = document["inputs"][0]["shape"][1].as_u64().unwrap() as usize;
    let name = document["inputs"][0]["name"].as_str().unwrap();
    let (status, answer) = infer(
        &server,
        "/v2/models/churn/infer",
        json!([fp32(name, &[1, width], &vec![0.0; width])]),
    );
    assert_eq!(status, 200, "{answer}");
    // Requests of instances work as without this setting.
    assert_eq!(
        server
            .predict("/predict", &example_input("churn", "1.1.0"))
            .status(),
        200
    );
}

#[test]
fn strings_are_returned_unchanged() {
    let models = models_with(&[]);
    install_graph(models.path(), "texts", 1, "identity_bytes", None);
    let server = InProcessServer::start(models.path(), &[]);
    // A NUL ends a C string, the form in which the runtime's API takes strings.
    let texts = json!(["", "\u{0}", "a\u{0}b", "日本\u{0}", "plain"]);
    let inputs = json!([{"name": "x", "shape": [1, 5], "datatype": "BYTES", "data": texts}]);
    let (status, answer) = infer(&server, "/v2/models/texts/infer", inputs);
    assert_eq!(
        (status, &answer["outputs"][0]["data"]),
        (200, &texts),
        "{answer}"
    );
}

const SHARED: Option<&str> = Some("max_batch_size: 8\ndynamic_batching { }\n");

#[test]
fn rows_without_elements_are_limited() {
    let models = models_with(&[]);
    install_graph(models.path(), "shared", 1, "identity_fp32", SHARED);
    install_graph(models.path(), "alone", 1, "identity_fp32", None);
    let server = InProcessServer::start(models.path(), &[]);
    for name in ["shared", "alone"] {
        for rows in [1u64 << 62, 1 << 40, 1 << 27] {
            let inputs = json!([{"name": "x", "shape": [rows, 0], "datatype": "FP32", "data": []}]);
            let (status, answer) = infer(&server, &format!("/v2/models/{name}/infer"), inputs);
            assert!(
                status == 400
                    && answer["error"]
                        .as_str()
                        .unwrap()
                        .contains("rows without elements"),
                "{status} {answer}"
            );
        }
        let inputs = json!([{"name": "x", "shape": [1000, 0], "datatype": "FP32", "data": []}]);
        let (status, answer) = infer(&server, &format!("/v2/models/{name}/infer"), inputs);
        assert_eq!(
            (status, &answer["outputs"][0]["shape"]),
            (200, &json!([1000, 0])),
            "{answer}"
        );
    }
}

#[test]
fn classes_are_ranked_for_every_model() {
    let models = models_with(&[]);
    install_graph(models.path(), "x", 1, "identity_fp32", None);
    install_graph(models.path(), "iris", 1, "iris", SHARED);
    let server = InProcessServer::start(models.path(), &[]);
    let data: Vec<Value> = (0..100)
        .map(|index| {
            if index % 5 < 2 {
                Value::Null
            } else {
                json!(index * 37 % 100)
            }
        })
        .collect();
    let body = json!({"inputs": [{"name": "x", "shape": [1, 100], "datatype": "FP32", "data": data}],
        "outputs": [{"name": "y", "parameters": {"classification": 2}}]});
    let answer: Value = server.predict("/v2/models/x/infer", &body).json().unwrap();
    assert_eq!(
        answer["outputs"][0]["data"],
        json!(["99.0:27", "98.0:54"]),
        "{answer}"
    );
    // Each row has one value, and so one class.
    let body = json!({"inputs": [fp32("x", &[2, 4], &[5.1, 3.5, 1.4, 0.2, 6.2, 2.9, 4.3, 1.3])],
        "outputs": [{"name": "label", "parameters": {"classification": 1}}]});
    let answer: Value = server
        .predict("/v2/models/iris/infer", &body)
        .json()
        .unwrap();
    assert_eq!(
        (
            &answer["outputs"][0]["shape"],
            &answer["outputs"][0]["data"]
        ),
        (&json!([2, 1]), &json!(["0:0", "1:0"])),
        "{answer}"
    );
    let twice = json!({"inputs": body["inputs"], "outputs": [{"name": "prob"}, {"name": "prob"}]});
    assert_eq!(
        server.predict("/v2/models/iris/infer", &twice).status(),
        400
    );
}

#[test]
fn a_model_that_is_installed_version_by_version_is_served() {
    let models = models_with(&[]);
    install_graph(models.path(), "first", 1, "iris", None);
    let server = InProcessServer::start(models.path(), &[]);
    install_graph(models.path(), "iris", 1, "iris", None);
    wait_until("version 1 is seen", || {
        server.get("/models/iris").status() == 200
    });
    for version in [2, 3, 4] {
        install_graph(models.path(), "iris", version, "iris", None);
    }
    wait_until("the model answers", || {
        let (status, _) = infer(
            &server,
            "/v2/models/iris/infer",
            json!([fp32("x", &[1, 4], &[0.0; 4])]),
        );
        status == 200
    });
}

#[test]
fn files_next_to_a_graph_are_limited() {
    let models = models_with(&[]);
    install_graph(models.path(), "good", 1, "iris", None);
    install_graph(models.path(), "pipe", 1, "iris", None);
    install_graph(
        models.path(),
        "large",
        1,
        "iris",
        Some(&"a: 1\n".repeat(300_000)),
    );
    install_graph(
        models.path(),
        "many",
        1,
        "iris",
        Some(&"a{}\n".repeat(200_000)),
    );
    install_graph(
        models.path(),
        "link",
        1,
        "iris",
        Some("output { name: \"prob\" label_filename: \"labels.txt\" }\n"),
    );
    let made = std::process::Command::new("mkfifo")
        .arg(models.path().join("pipe/config.pbtxt"))
        .status()
        .unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("/etc/passwd", models.path().join("link/labels.txt")).unwrap();
    let server = InProcessServer::start_unready(models.path(), &[("models.required", "good")]);
    server.wait_until_ready();
    for name in ["pipe", "large", "link"] {
        let reason = wait_for(name, || {
            let version = server.get_json(&format!("/models/{name}"))["versions"][0].clone();
            (version["state"] == "refused").then(|| version["reason"].as_str().unwrap().to_owned())
        });
        let expected = if name == "link" {
            "leads out"
        } else {
            "must be a file of at most"
        };
        assert!(reason.contains(expected), "{name}: {reason}");
    }
    wait_until("the warning about the keys is logged", || {
        server.get_json("/models/many")["versions"][0]["state"] == "available"
    });
}

#[test]
fn a_graph_without_usable_inputs_or_outputs_is_rejected() {
    let models = models_with(&[]);
    install_graph(models.path(), "mute", 1, "no_output", None);
    install_graph(models.path(), "nul", 1, "nul_name", None);
    let server = InProcessServer::start_unready(models.path(), &[]);
    for (name, expected) in [
        ("mute", "gives no output"),
        ("nul", "\"x\\u{0}y\": a name with a NUL"),
    ] {
        let reason = wait_for("the version is rejected", || {
            let version = server.get_json(&format!("/models/{name}"))["versions"][0].clone();
            (version["state"] == "refused").then(|| version["reason"].as_str().unwrap().to_owned())
        });
        assert!(reason.contains(expected), "{name}: {reason}");
    }
}
