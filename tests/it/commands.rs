//! The commands, run as a person types them.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{
    InProcessServer, PREDICTD, Server, copy_directory, example_input, fixture_path,
    golden_examples, install_graph, models_with, package_path, root, run_predictd, wait_until,
};

#[test]
fn errors_name_their_cause() {
    let (code, _, error) = run_predictd(&["inspect", "models/nope"], "", &[]);
    assert!(
        code == 1
            && error.contains("models/nope is not a directory")
            && !error.contains("manifest.json"),
        "{error}"
    );
    let (code, _, error) = run_predictd(
        &["serve", "--check"],
        "",
        &[("PREDICTD_BATCHING__MAX_BATCH_SIZE", "abc")],
    );
    assert_eq!(code, 1);
    assert!(
        error.contains("PREDICTD_BATCHING__MAX_BATCH_SIZE: `batching.max_batch_size`: "),
        "{error}"
    );
    assert!(error.contains("expected a whole number"), "{error}");
    let (code, _, error) = run_predictd(&["health", "--listen", "127.0.0.1:1"], "", &[]);
    assert!(
        code == 1
            && error.contains("start one with `predictd serve`")
            && error.contains("--listen"),
        "{error}"
    );
    let (code, _, error) = run_predictd(&["verify", "models", "--memory-bytes", "1"], "", &[]);
    assert!(
        code == 1 && error.contains("`models.gate_memory_bytes` must be at least"),
        "{error}"
    );
    let (code, output, _) = run_predictd(
        &["verify", "models/churn/1.1.0", "--timeout-ms", "1"],
        "",
        &[],
    );
    assert!(
        code == 1 && output.contains("took longer than 0.001 s (models.gate_timeout_ms)"),
        "{output}"
    );
}

#[test]
fn a_package_is_not_packed_under_another_version_than_its_directory() {
    let models = models_with(&[("churn", "1.0.0")]);
    let package = models.path().join("churn/1.0.0");
    let package = package.to_str().unwrap();
    let (code, output, error) =
        run_predictd(&["pack", package, "--model-version", "1.1.0"], "", &[]);
    assert!(
        code == 1 && error.contains("is a directory of version 1.0.0, not 1.1.0"),
        "{output}{error}"
    );
}

#[test]
fn an_unreadable_manifest_is_replaced_with_a_warning() {
    let models = models_with(&[("churn", "1.0.0")]);
    let package = models.path().join("churn/1.0.0");
    fs_err::write(package.join("manifest.json"), "{\"name\": 3}").unwrap();
    let (code, output, error) = run_predictd(&["pack", package.to_str().unwrap()], "", &[]);
    let expected = "warning manifest.json can't be read and is replaced, without its provenance: \
                    /name: expected a string, found 3";
    assert!(code == 0 && output.contains(expected), "{output}{error}");
}

#[test]
fn numbers_of_options_are_whole_and_positive() {
    for (arguments, text) in [
        (["history", "churn", "--limit"], "0"),
        (["history", "churn", "--limit"], "-1"),
        (["history", "churn", "--limit"], "few"),
        (["verify", "models", "--timeout-ms"], "abc"),
        (["verify", "models", "--memory-bytes"], "1.5"),
    ] {
        let (code, _, error) = run_predictd(&[&arguments[..], &[text]].concat(), "", &[]);
        assert!(
            code == 2 && error.contains("it must be a whole number of at least 1"),
            "{arguments:?} {text}: {error}"
        );
    }
}

#[test]
fn a_package_in_the_directory_of_another_version_is_rejected() {
    let models = models_with(&[]);
    let directory = models.path().join("churn/1.2.0");
    copy_directory(&package_path("churn", "1.1.0"), &directory);
    let (code, output, _) = run_predictd(&["verify", directory.to_str().unwrap()], "", &[]);
    assert!(
        code == 1
            && output.contains("FAILED  identity")
            && output.contains("says churn 1.1.0, but is in the directory of churn 1.2.0"),
        "{output}"
    );
    // A directory with another name is not a version's.
    let draft = models.path().join("draft");
    copy_directory(&package_path("churn", "1.1.0"), &draft);
    let (code, output, _) = run_predictd(&["verify", draft.to_str().unwrap()], "", &[]);
    assert_eq!(code, 0, "{output}");
}

#[test]
fn verify_prints_a_line_per_check() {
    let (code, output, error) = run_predictd(
        &["verify", "models/churn/1.1.0", "models/digits/1.0.0"],
        "",
        &[],
    );
    assert_eq!(code, 0, "{output}{error}");
    for check in [
        "manifest",
        "hashes",
        "graph",
        "schema",
        "preprocessing",
        "warm-up",
        "golden 20/20",
        "rows",
    ] {
        assert_eq!(
            output.matches(&format!("ok      {check} ")).count(),
            2,
            "{check}: {output}"
        );
    }
    let (code, output, _) = run_predictd(&["verify", "--json", "models/churn/1.1.0"], "", &[]);
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (code, &report["passed"], &report["batched"]),
        (0, &json!(true), &json!(true))
    );
    assert_eq!(report["checks"].as_array().unwrap().len(), 8);
    let (code, output, _) = run_predictd(&["verify", "--json", "src"], "", &[]);
    assert_eq!(code, 1);
    assert_eq!(
        serde_json::from_str::<Value>(&output).unwrap()["failure"]["check"],
        "manifest"
    );
}

#[test]
fn the_digest_is_the_output_of_sha256sum() {
    for directory in ["models/churn/1.1.0", "tests/fixtures/models/digits/1.1.0"] {
        let script = "find . -type f ! -name manifest.json | sed 's|^\\./||' | LC_ALL=C sort \
                      | tr '\\n' '\\0' | xargs -0 sha256sum | sha256sum";
        let output = Command::new("sh")
            .args(["-c", script])
            .current_dir(root().join(directory))
            .output()
            .unwrap();
        let hex = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned();
        let manifest: Value = serde_json::from_str(
            &fs_err::read_to_string(root().join(directory).join("manifest.json")).unwrap(),
        )
        .unwrap();
        assert_eq!(manifest["digest"], format!("sha256:{hex}"));
    }
}

#[test]
fn pack_is_reproducible_and_rejects_packages_that_fail_the_gate() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("churn/1.1.0");
    copy_directory(&package_path("churn", "1.1.0"), &path);
    let text = path.to_str().unwrap();
    let manifest = || fs_err::read_to_string(path.join("manifest.json")).unwrap();
    let (code, output, error) =
        run_predictd(&["pack", text], "", &[("SOURCE_DATE_EPOCH", "1795478400")]);
    assert_eq!(code, 0, "{output}{error}");
    assert_eq!(
        manifest(),
        fs_err::read_to_string(package_path("churn", "1.1.0").join("manifest.json")).unwrap()
    );

    let before = manifest();
    let steps = fs_err::read_to_string(path.join("preprocessing.json")).unwrap();
    let broken: &[(&str, String, &str)] = &[
        (
            "preprocessing.json",
            steps.replacen("\"std\": 20.98258882", "\"std\": 0", 1),
            "preprocessing.json /inputs/features/columns/0/steps/0: std must be a number other \
             than 0",
        ),
        (
            "preprocessing.json",
            steps.replace("tenure_months", "tenure_month"),
            "did you mean \"tenure_months\"?",
        ),
        (
            "preprocessing.json",
            steps.replacen("standard_scale", "standardise", 1),
            "unknown step",
        ),
        (
            "preprocessing.json",
            steps.replacen("\"two-year\"", "\"one-year\"", 1),
            "occurs twice",
        ),
        (
            "preprocessing.json",
            steps.replacen("\"mean\": 25.07899", "\"mean\": 26.07899", 1),
            "golden.jsonl line",
        ),
        (
            "preprocessing.json",
            steps.replacen("float32", "float64", 1),
            "the graph takes float32",
        ),
        ("schema.json", "{}".to_owned(), "schema.json /input"),
        (
            "schema.json",
            "{\"input\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"number\", \
             \"minimun\": 1}}, \"additionalProperties\": false}}"
                .to_owned(),
            "minimun",
        ),
        (
            "golden.jsonl",
            "{\"input\": {}, \"output\": {}}\n".to_owned(),
            "the input is refused by the schema",
        ),
        ("model.onnx", "not a model".to_owned(), "model.onnx"),
        (
            "serving.json",
            "{\"batch\": 1}".to_owned(),
            "serving.json /batch: unknown member",
        ),
        (
            "serving.json",
            "{\"batching\": []}".to_owned(),
            "serving.json /batching: expected an object, found an array",
        ),
        (
            "serving.json",
            "{\"batching\": {\"max_batch_size\": 2.5}}".to_owned(),
            "/batching/max_batch_size: expected a whole number that is not negative, found 2.5",
        ),
        (
            "profile.json",
            "[]".to_owned(),
            "profile.json: expected an object, found an array",
        ),
        (
            "profile.json",
            json!({"features": {"tenure_months": {"kind": "numeric", "count": 2, "decile_histogram":
                {"edges": [0, 1], "counts": [1, 1]}}}})
            .to_string(),
            "profile.json /features/tenure_months/decile_histogram: 2 bins need 3 edges, not 2",
        ),
        (
            "evaluation.json",
            "{".to_owned(),
            "evaluation.json: is not JSON: the text ends too early",
        ),
    ];
    for (file, content, expected) in broken {
        let original = fs_err::read(path.join(file)).unwrap();
        fs_err::write(path.join(file), content).unwrap();
        let (code, output, error) = run_predictd(&["pack", text], "", &[]);
        assert_eq!(code, 1, "{file}: {output}");
        assert!(
            format!("{output}{error}").contains(expected),
            "{file}: expected {expected:?} in {output}{error}"
        );
        assert_eq!(
            manifest(),
            before,
            "a rejected package keeps its old manifest"
        );
        fs_err::write(path.join(file), original).unwrap();
    }
}

#[test]
fn predict_answers_without_a_server() {
    let examples = golden_examples("diabetes", "1.0.0");
    let lines: String = examples
        .iter()
        .map(|example| format!("{}\n", example["input"]))
        .collect();
    let (code, output, error) = run_predictd(&["predict", "models/diabetes/1.0.0"], &lines, &[]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(output.lines().count(), 20);
    for (line, example) in output.lines().zip(&examples) {
        let answer: Value = serde_json::from_str(line).unwrap();
        let (expected, actual) = (
            example["output"]["prediction"].as_f64().unwrap(),
            answer["prediction"].as_f64().unwrap(),
        );
        assert!((expected - actual).abs() < 0.1, "{expected} {actual}");
    }
    let array = json!(
        examples
            .iter()
            .map(|example| &example["input"])
            .collect::<Vec<_>>()
    )
    .to_string();
    assert_eq!(
        run_predictd(&["predict", "models/diabetes/1.0.0"], &array, &[])
            .1
            .lines()
            .count(),
        20
    );
    let (code, output, error) = run_predictd(
        &["predict", "models/diabetes/1.0.0"],
        &format!("{{\"age\": 1}}\n{lines}"),
        &[],
    );
    assert_eq!((code, output.lines().next()), (1, Some("null")));
    assert!(error.contains("line 1: /bmi required"), "{error}");
}

#[test]
fn predict_answers_many_lines_with_a_short_queue() {
    let examples = golden_examples("churn", "1.1.0");
    // Each line has more rows than a run.
    let inputs: Vec<&Value> = examples
        .iter()
        .cycle()
        .take(200)
        .map(|example| &example["input"])
        .collect();
    let line = json!({ "instances": inputs }).to_string();
    let (code, output, error) = run_predictd(
        &["predict", package_path("churn", "1.1.0").to_str().unwrap()],
        &format!("{line}\n").repeat(20),
        &[("PREDICTD_BATCHING__QUEUE_CAPACITY", "4")],
    );
    assert_eq!(code, 0, "{error}");
    let labels: Vec<String> = output
        .lines()
        .map(|row| serde_json::from_str::<Value>(row).unwrap()["label"].to_string())
        .collect();
    let expected: Vec<String> = examples
        .iter()
        .cycle()
        .take(200)
        .map(|example| example["output"]["label"].to_string())
        .collect();
    assert!(labels.chunks(200).all(|of_line| *of_line == expected));
    assert_eq!(labels.len(), 20 * 200);
}

#[test]
fn inspect_describes_a_package() {
    let (code, output, error) = run_predictd(&["inspect", "models/churn/1.1.0"], "", &[]);
    assert_eq!(code, 0, "{error}");
    for part in [
        "churn/1.1.0  sha256:",
        "features float32[N, 29]",
        "tenure_months",
        "licence     Apache-2.0",
        "golden      20 examples",
        "personal",
        "model.onnx",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let (_, output, _) = run_predictd(&["inspect", "--json", "models/churn/1.1.0"], "", &[]);
    assert_eq!(
        serde_json::from_str::<Value>(&output).unwrap()["graph"]["inputs"][0]["name"],
        "features"
    );
}

#[test]
fn wrong_usage_and_wrong_configuration() {
    assert_eq!(run_predictd(&["serve", "--what"], "", &[]).0, 2);
    assert_eq!(run_predictd(&[], "", &[]).0, 2);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("PREDICTD_SERVER__LISTNE", "x")],
            "did you mean `server.listen`?",
        ),
        (&[("PREDICTD_SERVER__LISTEN", "here")], "`server.listen`"),
        (
            &[("PREDICTD_TELEMETRY__LOG_LEVEL", "a=b=c")],
            "`telemetry.log_level`",
        ),
        (
            &[("PREDICTD_RUNTIME__LIBRARY", "/nowhere/libonnxruntime.so")],
            "/nowhere/libonnxruntime.so",
        ),
    ];
    for (environment, expected) in cases {
        let (code, _, error) = run_predictd(&["serve", "--listen", "127.0.0.1:0"], "", environment);
        assert_eq!(code, 1, "{expected}");
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    let (code, _, error) = run_predictd(
        &["serve", "--listen", "127.0.0.1:0"],
        "",
        &[("PREDICTD_RUNTIME__LIBRARY", "Cargo.toml")],
    );
    assert_eq!(code, 1, "a file that is no library");
    assert!(
        error.contains("Cargo.toml") && !error.contains("panicked"),
        "{error}"
    );
}

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, error) = run_predictd(&["serve", "--listen", &address], "", &[]);
    assert_eq!(code, 1);
    assert_eq!(
        error,
        format!(
            "predictd: {address} is in use, by another process or by another listener of this server; choose another address with --listen or server.listen\n"
        )
    );
}

#[test]
fn health_asks_the_server() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    let server = InProcessServer::start(models.path(), &[]);
    let (code, output, _) = run_predictd(
        &["health", "--listen", &server.addresses.data.to_string()],
        "",
        &[],
    );
    assert_eq!((code, output.as_str()), (0, "{\"ready\":true}\n"));
    let address = server.addresses.data.to_string();
    drop(server);
    assert_eq!(
        run_predictd(&["health", "--listen", &address], "", &[]).0,
        1
    );
}

/// ONNX Runtime's vendor telemetry writes files below HOME and /tmp and opens sockets, unless it is
/// turned off before the library loads.
#[test]
fn no_files_are_written_to_the_home_directory() {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let models = models_with(&[("churn", "1.1.0")]);
    let server = Server::start_prepared(models.path(), &[], |command| {
        command
            .env_remove("ORT_DISABLE_TELEMETRY")
            .env("HOME", home.path())
            .env("TMPDIR", temporary.path());
        command.env("XDG_CACHE_HOME", home.path().join("cache"));
    });
    assert_eq!(
        server
            .predict("/predict", &example_input("churn", "1.1.0"))
            .status(),
        200
    );
    drop(server);
    for directory in [home.path(), temporary.path()] {
        assert_eq!(
            fs_err::read_dir(directory).unwrap().count(),
            0,
            "{}",
            directory.display()
        );
    }
}

#[test]
fn check_finds_configured_models_that_are_missing() {
    for (key, value, expected) in [
        (
            "PREDICTD_MODELS__REQUIRED",
            "diabetes,nobody",
            "models.required names nobody",
        ),
        (
            "PREDICTD_MODELS__DEFAULT",
            "nobody",
            "models.default names nobody",
        ),
    ] {
        let models = models_with(&[("diabetes", "1.0.0")]);
        let arguments = [
            "serve",
            "--check",
            "--models",
            models.path().to_str().unwrap(),
        ];
        let (code, output, _) = run_predictd(&arguments, "", &[(key, value)]);
        assert!(code == 1 && output.contains(expected), "{output}");
    }
    let (code, _, error) = run_predictd(
        &["serve", "--check"],
        "",
        &[("PREDICTD_RUNTIME__WORKERS", "100000")],
    );
    assert!(code == 1 && error.contains("runtime.workers"), "{error}");
}

/// Commands with a short and a long help text.
const COMMANDS: [&str; 14] = [
    "rollback",
    "history",
    "serve",
    "init",
    "import",
    "pack",
    "verify",
    "inspect",
    "compat",
    "predict",
    "models",
    "completions",
    "man",
    "health",
];

#[test]
fn the_short_help_has_one_line_for_each_option() {
    let mut longer = 0;
    let orders = [
        "start", "status", "pause", "resume", "approve", "abort", "promote",
    ]
    .map(|order| vec!["rollout", order]);
    let imports = ["triton", "mlflow"].map(|from| vec!["import", from]);
    for command in COMMANDS
        .iter()
        .map(|command| vec![*command])
        .chain(orders)
        .chain(imports)
    {
        let (code, short, _) = run_predictd(&[&command[..], &["-h"]].concat(), "", &[]);
        let wrapped: Vec<&str> = short
            .lines()
            .filter(|line| line.starts_with("                "))
            .collect();
        assert!(code == 0 && wrapped.is_empty(), "{command:?}: {wrapped:?}");
        let (_, long, _) = run_predictd(&[&command[..], &["--help"]].concat(), "", &[]);
        longer += usize::from(long.len() > short.len());
        let example = format!("\n  predictd {}", command.join(" "));
        assert!(
            long.contains(&example) || long.contains(&format!("| {}", example.trim())),
            "{long}"
        );
        assert!(!short.contains("Examples"), "{short}");
        let (_, page, _) = run_predictd(&[&["man"], &command[..]].concat(), "", &[]);
        assert!(
            page.contains("Examples:") && page.contains(&example.trim().replace('-', "\\-")),
            "{page}"
        );
    }
    assert!(longer > 5, "the long help has every option");
}

#[test]
fn shell_completion_covers_all_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = run_predictd(&["completions", shell], "", &[]);
        assert!(
            code == 0 && script.contains("rollback") && script.contains("check"),
            "{shell}"
        );
        assert!(
            !script.contains("__gate") && !script.contains("intra-op-threads"),
            "{shell}: internal commands are not completed"
        );
    }
    let (_, script, _) = run_predictd(&["completions", "bash"], "", &[]);
    let mut bash = std::process::Command::new("bash")
        .arg("-n")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    assert_eq!(run_predictd(&["completions", "csh"], "", &[]).0, 2);
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let (code, page, _) = run_predictd(&["man"], "", &[]);
    assert!(
        code == 0 && page.contains(".TH predictd 1") && page.contains("predictd\\-rollout(1)"),
        "{page}"
    );
    assert!(!page.contains("gate\\(1)"), "{page}");
    let (code, page, _) = run_predictd(&["man", "rollout", "start"], "", &[]);
    assert!(
        code == 0
            && page.contains(".TH predictd-rollout-start 1")
            && page.contains("\\-\\-dry\\-run"),
        "{page}"
    );
    for (name, part) in [
        (
            "gate",
            "unknown command \"gate\"; the commands are: serve, ",
        ),
        (
            "rolout",
            "unknown command \"rolout\"; did you mean \"rollout\"?",
        ),
    ] {
        let (code, _, error) = run_predictd(&["man", name], "", &[]);
        assert!(code == 2 && error.contains(part), "{error}");
    }
}

#[test]
fn models_lists_the_served_versions() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    install_graph(models.path(), "bad", 1, "iris", Some("name: \"other\"\n"));
    fs_err::create_dir_all(models.path().join("flat")).unwrap();
    fs_err::copy(
        fixture_path("scalar.onnx"),
        models.path().join("flat/model.onnx"),
    )
    .unwrap();
    let server = Server::start_unready(models.path(), &[]);
    wait_until("every version is loaded or rejected", || {
        server.logged("models are loaded").len() == 1
    });
    // The command works while the server is not ready.
    let url = server.admin_url("");
    let (code, text, error) = run_predictd(&["models", "--server", &url], "", &[]);
    assert_eq!(code, 0, "{error}");
    let line = |parts: &[&str]| {
        text.lines().any(|line| {
            line.split_whitespace()
                .take(parts.len())
                .eq(parts.iter().copied())
        })
    };
    assert!(
        line(&["churn", "1.1.0", "1.1.0", "available", "stable"])
            && line(&["1.0.0", "available", "idle"]),
        "{text}"
    );
    assert!(
        line(&["bad", "none", "1", "refused"]) && text.contains("names the model \"other\""),
        "{text}"
    );
    assert!(
        text.contains("not served") && text.contains("flat"),
        "{text}"
    );
    let (code, text, _) = run_predictd(&["models", "--json"], "", &[("PREDICTD_SERVER", &url)]);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (
            code,
            &document["models"][1]["stable"],
            document["models"][1]["versions"].as_array().unwrap().len()
        ),
        (0, &json!("1.1.0"), 2)
    );
    assert_eq!(document["ignored"][0]["reason"], "no_version_directory");
    // No server listens on this port.
    let (code, _, error) = run_predictd(&["models", "--server", "http://127.0.0.1:9"], "", &[]);
    assert!(
        code == 1 && error.contains("no server answers at"),
        "{error}"
    );
}

#[test]
fn a_directory_of_one_model_is_reported_with_its_versions() {
    let models = models_with(&[("churn", "1.0.0"), ("churn", "1.1.0")]);
    let directory = models.path().join("churn");
    for command in ["inspect", "pack", "predict"] {
        let (code, _, error) = run_predictd(&[command, directory.to_str().unwrap()], "", &[]);
        assert!(
            code == 1
                && error.contains("is the directory of a model, not of a package")
                && error.contains("churn/1.0.0, ")
                && error.contains("churn/1.1.0"),
            "{error}"
        );
    }
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let golden = golden_examples("churn", "1.1.0");
    let rows: String = (0..20_000)
        .map(|index| format!("{}\n", golden[index % golden.len()]["input"]))
        .collect();
    let input = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(input.path(), rows).unwrap();
    let directory = package_path("churn", "1.1.0");
    let mut command = Command::new(PREDICTD);
    command
        .args([
            "predict",
            directory.to_str().unwrap(),
            "--input",
            input.path().to_str().unwrap(),
        ])
        .current_dir(root());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(0), "")
    );
}

#[test]
fn listeners_and_state_can_be_set_on_the_command_line() {
    let (models, state) = (
        models_with(&[("diabetes", "1.0.0")]),
        tempfile::tempdir().unwrap(),
    );
    let own = state.path().join("own");
    let arguments = [
        "--grpc-listen",
        "",
        "--admin-listen",
        "127.0.0.1:0",
        "--state",
        own.to_str().unwrap(),
    ];
    let server = Server::start_prepared(models.path(), &[], |command| {
        command.args(arguments);
    });
    wait_until("the journal is in the given directory", || {
        own.join("journal/diabetes/00000001.json").exists()
    });
    assert!(server.logged("listening")[0]["grpc"].is_null());
    let (code, _, error) = run_predictd(&["serve", "--state", "ftp://elsewhere"], "", &[]);
    assert!(
        code == 1 && error.contains("--state") && error.contains("local directory"),
        "{error}"
    );
}
