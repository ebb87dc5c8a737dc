//! Invalid and hostile packages are rejected with the file and the reason, and other models are not
//! affected.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    InProcessServer, copy_directory, example_input, install_package, models_with, number_package,
    package_path, root, run_predictd, wait_until, write_manifest,
};

fn run_verify(directory: &Path, settings: &[&str]) -> (i32, Value) {
    let arguments = [&["verify", "--json", directory.to_str().unwrap()], settings].concat();
    let (code, output, error) = run_predictd(&arguments, "", &[]);
    (
        code,
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}{error}")),
    )
}

#[test]
fn hostile_graphs_are_rejected_within_their_limits() {
    let models = tempfile::tempdir().unwrap();
    let cases = [
        ("endless", "endless_loop.onnx", "timeout", "the warm-up run"),
        (
            "nested",
            "nested_functions.onnx",
            "timeout",
            "loading the graph",
        ),
    ];
    for (name, graph, check, detail) in cases {
        number_package(models.path(), name, graph, &[]);
        let start = Instant::now();
        let (code, report) = run_verify(
            &models.path().join(name).join("1.0.0"),
            &["--timeout-ms", "2000"],
        );
        assert_eq!(
            (code, report["failure"]["check"].as_str()),
            (1, Some(check)),
            "{name}: {report}"
        );
        assert!(
            report["failure"]["detail"]
                .as_str()
                .unwrap()
                .contains(detail),
            "{name}: {report}"
        );
        assert_eq!(report["failure"]["file"], "model.onnx");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{name} took {:?}",
            start.elapsed()
        );
    }
    number_package(models.path(), "constant", "huge_constant.onnx", &[]);
    let (code, report) = run_verify(
        &models.path().join("constant/1.0.0"),
        &["--memory-bytes", "4000000000"],
    );
    assert_eq!(code, 1, "{report}");
    assert!(
        ["warm-up", "crash"].contains(&report["failure"]["check"].as_str().unwrap()),
        "{report}"
    );
    check_server_with_hostile_graphs(&models);
}

/// The server rejects all of the hostile graphs and serves the other models.
fn check_server_with_hostile_graphs(models: &TempDir) {
    install_package(models.path(), "diabetes", "1.0.0");
    let server = InProcessServer::start_unready(
        models.path(),
        &[
            ("models.gate_timeout_ms", "2000"),
            ("models.gate_memory_bytes", "4000000000"),
            ("models.required", "diabetes"),
        ],
    );
    server.wait_until_ready();
    for name in ["endless", "nested", "constant"] {
        wait_until("the version is rejected", || {
            server.get_json(&format!("/models/{name}"))["versions"][0]["state"] == "refused"
        });
        assert_eq!(
            server
                .predict(&format!("/models/{name}/predict"), &json!({"x": 1}))
                .status(),
            503
        );
    }
    assert_eq!(
        server
            .predict(
                "/models/diabetes/predict",
                &example_input("diabetes", "1.0.0")
            )
            .status(),
        200
    );
    assert_eq!(server.get("/livez").status(), 200);
}

#[test]
fn the_smallest_memory_limit_is_enough_for_a_small_model() {
    let (code, report) = run_verify(
        &package_path("churn", "1.1.0"),
        &["--memory-bytes", "268435456"],
    );
    assert_eq!((code, &report["passed"]), (0, &json!(true)), "{report}");
}

#[test]
fn no_answer_contains_a_command_for_operators() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let changed = models.path().join("churn/1.1.0");
    flip_bit(&changed.join("model.onnx"), 2000);
    let server = InProcessServer::start(models.path(), &[]);
    wait_until("the version is rejected", || {
        let model = server.get_json("/models/churn");
        let versions = model["versions"].as_array().unwrap().iter();
        versions
            .map(|version| &version["state"])
            .any(|state| state == "refused")
    });
    let paths = [
        "/readyz?verbose",
        "/models/churn",
        "/models/churn/versions/1.1.0",
        "/v1/models/churn",
    ];
    let mut texts: Vec<String> = paths
        .iter()
        .map(|path| server.get(path).text().unwrap())
        .collect();
    let predicted = server.predict("/models/churn/versions/1.1.0/predict", &json!({}));
    assert_eq!(predicted.status(), 503);
    texts.push(predicted.text().unwrap());
    assert!(
        texts.iter().any(|text| text.contains("manifest.json says")),
        "{texts:?}"
    );
    for text in texts {
        assert!(
            !text.contains("predictd ") && !text.contains(" --"),
            "{text}"
        );
    }
    let (_, output, _) = run_predictd(&["verify", changed.to_str().unwrap()], "", &[]);
    assert!(
        output.contains(&format!("predictd pack {} --bump", changed.display())),
        "{output}"
    );
}

type Damage = Box<dyn Fn(&Path)>;

/// Changes of files that the manifest lists: name, the check that fails, change.
fn changes_of_files(outside: PathBuf) -> Vec<(&'static str, &'static str, Damage)> {
    vec![
        (
            "unlisted",
            "files",
            Box::new(|path| fs_err::write(path.join("notes.txt"), "x").unwrap()),
        ),
        (
            "missing",
            "files",
            Box::new(|path| fs_err::remove_file(path.join("serving.json")).unwrap()),
        ),
        (
            "flipped",
            "hashes",
            Box::new(|path| flip_bit(&path.join("model.onnx"), 2000)),
        ),
        (
            "shorter",
            "hashes",
            Box::new(|path| fs_err::write(path.join("README.md"), "").unwrap()),
        ),
        ("symlink", "files", {
            Box::new(move |path| {
                fs_err::remove_file(path.join("README.md")).unwrap();
                std::os::unix::fs::symlink(&outside, path.join("README.md")).unwrap();
            })
        }),
        (
            "pipe",
            "files",
            Box::new(|path| {
                fs_err::remove_file(path.join("README.md")).unwrap();
                assert!(
                    std::process::Command::new("mkfifo")
                        .arg(path.join("README.md"))
                        .status()
                        .unwrap()
                        .success()
                );
            }),
        ),
    ]
}

/// Changes of the manifest: name, the check that fails, change.
fn changes_of_the_manifest() -> Vec<(&'static str, &'static str, Damage)> {
    vec![
        (
            "manifest",
            "manifest",
            Box::new(|path| edit_manifest(path, "\"name\": \"churn\"", "\"name\": \"../churn\"")),
        ),
        (
            "digest",
            "manifest",
            Box::new(|path| {
                edit_manifest(path, "\"digest\": \"sha256:0", "\"digest\": \"sha256:1")
            }),
        ),
        (
            "created",
            "manifest",
            Box::new(|path| edit_manifest(path, "\"created\": \"2", "\"created\": \"y")),
        ),
        (
            "unknown",
            "manifest",
            Box::new(|path| edit_manifest(path, "\"format\"", "\"surprise\": 1, \"format\"")),
        ),
        (
            "future",
            "manifest",
            Box::new(|path| edit_manifest(path, "predictd.package/1", "predictd.package/2")),
        ),
        (
            "escape",
            "manifest",
            Box::new(|path| edit_manifest(path, "\"README.md\"", "\"../README.md\"")),
        ),
        (
            "garbage",
            "manifest",
            Box::new(|path| fs_err::write(path.join("manifest.json"), [0xff; 100]).unwrap()),
        ),
    ]
}

#[test]
fn files_that_differ_from_the_manifest_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside.txt");
    fs_err::write(&outside, "outside").unwrap();
    let cases = changes_of_files(outside)
        .into_iter()
        .chain(changes_of_the_manifest());
    for (name, check, damage) in cases {
        let path = directory.path().join(name);
        copy_directory(&package_path("churn", "1.1.0"), &path);
        damage(&path);
        let (code, report) = run_verify(&path, &[]);
        assert_eq!(
            (code, report["failure"]["check"].as_str()),
            (1, Some(check)),
            "{name}: {report}"
        );
        assert!(
            report["failure"]["file"].is_string()
                && !report["failure"]["detail"].as_str().unwrap().is_empty(),
            "{name}: {report}"
        );
    }
}

fn flip_bit(path: &Path, at: usize) {
    let mut bytes = fs_err::read(path).unwrap();
    bytes[at] ^= 1;
    fs_err::write(path, bytes).unwrap();
}

fn edit_manifest(directory: &Path, from: &str, to: &str) {
    let path = directory.join("manifest.json");
    let text = fs_err::read_to_string(&path).unwrap();
    let edited = if text.contains(from) {
        text.replacen(from, to, 1)
    } else {
        text.replacen("\"digest\": \"sha256:", "\"digest\": \"sha256:f", 1)
    };
    assert_ne!(edited, text);
    fs_err::write(path, edited).unwrap();
}

#[test]
fn external_data_must_be_in_the_package_and_in_its_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let fixtures = root().join("tests/fixtures/onnx");
    let make = |name: &str, graph: &str| {
        let path = directory.path().join(name);
        fs_err::create_dir_all(&path).unwrap();
        fs_err::copy(fixtures.join(graph), path.join("model.onnx")).unwrap();
        let array = |size: usize| json!({"type": "array", "minItems": size, "maxItems": size, "items": {"type": "number"}});
        let side = |field: &str, size| json!({"type": "object", "properties": {field: array(size)}, "required": [field], "additionalProperties": false});
        fs_err::write(
            path.join("schema.json"),
            json!({"input": side("x", 4), "output": side("y", 3)}).to_string(),
        )
        .unwrap();
        path
    };
    let good = make("good", "external_data.onnx");
    fs_err::copy(
        fixtures.join("external_data.bin"),
        good.join("external_data.bin"),
    )
    .unwrap();
    write_manifest(&good, "external", "1.0.0");
    let (code, report) = run_verify(&good, &[]);
    assert_eq!(code, 0, "{report}");

    fs_err::copy(
        fixtures.join("external_data.bin"),
        directory.path().join("secret.bin"),
    )
    .unwrap();
    let bad = make("bad", "external_escape.onnx");
    write_manifest(&bad, "external", "1.0.1");
    let (code, report) = run_verify(&bad, &[]);
    assert_eq!(
        (code, report["failure"]["check"].as_str()),
        (1, Some("graph")),
        "{report}"
    );
}

/// The gate's verdict is remembered by digest, but the files are hashed at every start.
#[test]
fn files_are_hashed_even_if_the_verdict_is_remembered() {
    let models = models_with(&[("diabetes", "1.0.0"), ("churn", "1.1.0")]);
    let state = tempfile::tempdir().unwrap();
    // Otherwise the copy of the package would be served.
    let settings = [
        ("state.url", state.path().to_str().unwrap()),
        ("state.keep_packages", "false"),
    ];
    drop(InProcessServer::start(models.path(), &settings));
    assert_eq!(
        fs_err::read_dir(state.path().join("gates"))
            .unwrap()
            .count(),
        2
    );
    flip_bit(&models.path().join("churn/1.1.0/model.onnx"), 3000);
    let server = InProcessServer::start_unready(models.path(), &settings);
    wait_until("churn is rejected", || {
        server.get_json("/models/churn")["versions"][0]["state"] == "refused"
    });
    let predict = || {
        server
            .predict(
                "/models/diabetes/predict",
                &example_input("diabetes", "1.0.0"),
            )
            .status()
    };
    wait_until("diabetes answers", || predict() == 200);
    assert_eq!(
        server.metric(
            "predictd_model_loads_total{model=\"churn\",outcome=\"refused\",reason=\"hashes\",\
             version=\"1.1.0\"}"
        ),
        1.0
    );
}
