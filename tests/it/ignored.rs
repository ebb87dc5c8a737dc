//! What was meant as a model and is not served: told in the log, by the probe, by a metric and by `serve --check`.

use std::path::Path;

use serde_json::Value;

use crate::harness::{
    Server, fixture_path, install_graph, install_package, models_with, run_predictd, wait_for,
    wait_until,
};

fn put(models: &Path, place: &str) {
    let path = models.join(place);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::copy(fixture_path("scalar.onnx"), path).unwrap();
}

/// (reason, directory) of `/readyz?verbose`.
fn told(server: &Server, root: &Path) -> Vec<(String, String)> {
    let document = server.get_json("/readyz?verbose");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let below = |path: String| {
        Path::new(&path)
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    document["ignored"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(entry, "reason"), below(text(entry, "path"))))
        .collect()
}

fn count(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("predictd_models_ignored{{reason=\"{reason}\"}}"))
}

const CASES: [(&str, &str, &str); 5] = [
    ("a name/1/model.onnx", "model_name", "a name"),
    ("flat/model.onnx", "no_version_directory", "flat"),
    ("renamed/2/net.onnx", "file_name", "renamed/2"),
    ("word/v1/model.onnx", "version_name", "word/v1"),
    ("zero/03/model.onnx", "leading_zero", "zero/03"),
];

#[test]
fn each_is_told_once_and_goes_when_it_is_mended() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    for (place, ..) in CASES {
        put(models.path(), place);
    }
    let server = Server::start_unready(models.path(), &[("models.required", "diabetes")]);
    server.wait_until_ready();
    let expected: Vec<(String, String)> = CASES
        .iter()
        .map(|(_, reason, path)| ((*reason).to_owned(), (*path).to_owned()))
        .collect();
    let mut seen = told(&server, models.path());
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(seen, expected);
    for (_, reason, path) in CASES {
        assert_eq!(count(&server, reason), 1.0, "{reason}");
        assert!(
            server
                .logged("not served")
                .iter()
                .any(|line| line["path"].as_str().unwrap().ends_with(path)),
            "{path}"
        );
    }
    // A later look sees what was added, and says no word of the others.
    put(models.path(), "late/v2/model.onnx");
    wait_until("the new one is counted", || {
        count(&server, "version_name") == 2.0
    });
    wait_until("the new one is told", || {
        server.logged("not served").len() > CASES.len()
    });
    assert_eq!(server.logged("not served").len(), CASES.len() + 1);
    fs_err::rename(models.path().join("late/v2"), models.path().join("late/2")).unwrap();
    wait_until("it is taken", || count(&server, "version_name") == 1.0);
    wait_until("it answers", || server.get("/models/late").status() == 200);
}

#[test]
fn a_version_whose_files_are_gone_is_told() {
    let models = models_with(&[]);
    install_graph(models.path(), "scalar", 1, "scalar", None);
    let server = Server::start(models.path(), &[]);
    assert_eq!(
        (
            count(&server, "files_gone"),
            told(&server, models.path()).len()
        ),
        (0.0, 0)
    );
    fs_err::rename(models.path().join("scalar"), models.path().join(".gone")).unwrap();
    wait_until("it is counted", || count(&server, "files_gone") == 1.0);
    let gone = ("files_gone".to_owned(), "scalar/1".to_owned());
    wait_until("it is told", || {
        told(&server, models.path()).contains(&gone)
    });
    wait_until("it is logged", || {
        server.logged("served without its files").len() == 1
    });
    assert_eq!(
        server.get("/readyz").status(),
        200,
        "it answers from memory"
    );
    fs_err::rename(models.path().join(".gone"), models.path().join("scalar")).unwrap();
    wait_until("they are back", || count(&server, "files_gone") == 0.0);
}

fn check(models: &Path) -> (i32, String) {
    let state = tempfile::tempdir().unwrap();
    let environment = [
        ("PREDICTD_STATE__URL", state.path().to_str().unwrap()),
        ("PREDICTD_SERVER__GRPC_LISTEN", "127.0.0.1:0"),
        ("PREDICTD_ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    let arguments = [
        "serve",
        "--check",
        "--listen",
        "127.0.0.1:0",
        "--models",
        models.to_str().unwrap(),
    ];
    let (code, output, error) = run_predictd(&arguments, "", &environment);
    (code, output + &error)
}

#[test]
fn the_check_fails_for_each() {
    for (place, _, path) in CASES {
        let models = models_with(&[]);
        install_graph(models.path(), "scalar", 1, "scalar", None);
        assert_eq!(check(models.path()).0, 0);
        put(models.path(), place);
        let (code, output) = check(models.path());
        assert!(
            code == 1
                && output.contains(&format!("FAILED  {}", models.path().join(path).display())),
            "{place}: {output}"
        );
    }
}

#[test]
fn a_wrong_models_directory_is_told_with_its_path_and_the_layout() {
    let models = models_with(&[]);
    install_package(models.path(), "diabetes", "1.0.0");
    fs_err::create_dir(models.path().join(".empty")).unwrap();
    let above = tempfile::tempdir().unwrap();
    fs_err::create_dir(above.path().join("models")).unwrap();
    install_package(&above.path().join("models"), "diabetes", "1.0.0");
    let place = |path: &str| models.path().join(path);
    let cases = [
        (place("nowhere"), "root_absent"),
        (place(".empty"), "root_empty"),
        (place("diabetes"), "root_too_deep"),
        (place("diabetes/1.0.0"), "root_too_deep"),
        (above.path().to_path_buf(), "root_too_shallow"),
    ];
    for (directory, reason) in cases {
        let (code, output) = check(&directory);
        assert!(
            code == 1
                && output.contains(directory.to_str().unwrap())
                && output.contains("NAME/VERSION/"),
            "{reason}: {output}"
        );
        let server = Server::start_unready(&directory, &[]);
        let told = wait_for("it is told", || {
            server.logged("not served").first().cloned()
        });
        assert_eq!(told["reason"], reason);
        assert_eq!(told["path"], directory.to_str().unwrap());
        wait_until("it is counted", || count(&server, reason) == 1.0);
        let detail = wait_for("it is shown", || {
            server.get_json("/readyz?verbose")["ignored"][0]["detail"]
                .as_str()
                .map(str::to_owned)
        });
        assert!(detail.contains("NAME/VERSION/"), "{reason}: {detail}");
    }
}

#[test]
fn the_advice_leads_to_what_is_served() {
    let models = models_with(&[]);
    let place = |path: &str| models.path().join(path);
    install_graph(models.path(), "scalar", 1, "scalar", None);
    install_package(models.path(), "digits", "1.0.0");
    fs_err::rename(place("digits/1.0.0"), place("flat")).unwrap();
    fs_err::remove_dir(place("digits")).unwrap();
    put(models.path(), "other/1/weights.onnx");
    put(models.path(), "triton/1/weights.onnx");
    fs_err::write(place("triton/config.pbtxt"), "").unwrap();
    put(models.path(), "tf/1/saved_model.pb");
    put(models.path(), "loose/weights.onnx");
    install_package(models.path(), "churn", "1.0.0");
    fs_err::rename(place("churn/1.0.0"), place("churn/v1")).unwrap();
    let cases = [
        ("flat", format!("manifest.json says digits 1.0.0: move them to {}/", place("digits/1.0.0").display())),
        ("churn/v1", format!("manifest.json says churn 1.0.0: move it to {}/", place("churn/1.0.0").display())),
        ("loose", "move them to 1/ (weights.onnx to 1/model.onnx)".to_owned()),
        ("other/1", "holds weights.onnx, but only model.onnx is served: rename it".to_owned()),
        ("tf/1", "holds saved_model.pb, but only ONNX is served: export the model to model.onnx".to_owned()),
        ("triton/1", "only model.onnx is served (default_model_filename of config.pbtxt is not supported): rename it".to_owned()),
    ];
    let (code, output) = check(models.path());
    assert_eq!(code, 1);
    let failed = |output: &str, path: &str| {
        let start = format!("FAILED  {}: ", place(path).display());
        output
            .lines()
            .filter_map(|line| line.strip_prefix(&start).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    for (path, detail) in &cases {
        let told = failed(&output, path);
        assert!(
            told.len() == 1 && told[0].contains(detail),
            "{path}: {told:?}"
        );
    }
    // The same of the version and of its directory.
    let server = Server::start_unready(models.path(), &[("models.required", "scalar")]);
    server.wait_until_ready();
    let document = server.get_json("/readyz?verbose");
    for (path, detail) in &cases {
        let ignored = document["ignored"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["path"] == place(path).to_str().unwrap())
            .unwrap();
        assert!(
            ignored["detail"].as_str().unwrap().contains(detail),
            "{path}: {ignored}"
        );
    }
    for model in ["other", "tf", "triton"] {
        let (_, detail) = cases
            .iter()
            .find(|(path, _)| path.starts_with(model))
            .unwrap();
        wait_until(model, || {
            server
                .get(&format!("/models/{model}"))
                .text()
                .unwrap()
                .contains(detail)
        });
        assert!(
            !server
                .get(&format!("/models/{model}"))
                .text()
                .unwrap()
                .contains("manifest.json is missing")
        );
    }
    fs_err::create_dir(place("digits")).unwrap();
    fs_err::rename(place("flat"), place("digits/1.0.0")).unwrap();
    wait_until("it answers where it was told to go", || {
        server
            .get("/models/digits")
            .json::<Value>()
            .is_ok_and(|model| model["stable"].is_string())
    });
}
