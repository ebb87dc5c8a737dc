//! Ignored paths of the models directory are reported in the log, by the probe, by a metric and by
//! `serve --check`.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    InProcessServer, Server, ServerClient, check_configuration, fixture_path, install_graph,
    install_package, models_with, wait_for, wait_until,
};

fn put_graph(models: &Path, place: &str) {
    let path = models.join(place);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::copy(fixture_path("scalar.onnx"), path).unwrap();
}

/// The ignored paths in `/readyz?verbose`: (reason, path relative to `root`).
fn ignored_paths(server: &ServerClient, root: &Path) -> Vec<(String, String)> {
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

fn ignored_count(server: &ServerClient, reason: &str) -> f64 {
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
fn each_ignored_path_is_reported_once_until_it_is_fixed() {
    let models = models_with(&[("diabetes", "1.0.0")]);
    for (place, ..) in CASES {
        put_graph(models.path(), place);
    }
    let server = Server::start_unready(models.path(), &[("models.required", "diabetes")]);
    server.wait_until_ready();
    let expected: Vec<(String, String)> = CASES
        .iter()
        .map(|(_, reason, path)| ((*reason).to_owned(), (*path).to_owned()))
        .collect();
    let mut reported = ignored_paths(&server, models.path());
    reported.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(reported, expected);
    for (_, reason, path) in CASES {
        assert_eq!(ignored_count(&server, reason), 1.0, "{reason}");
        assert!(
            server
                .logged("not served")
                .iter()
                .any(|line| line["path"].as_str().unwrap().ends_with(path)),
            "{path}"
        );
    }
    // A later scan reports the added path only.
    put_graph(models.path(), "late/v2/model.onnx");
    wait_until("the new path is counted", || {
        ignored_count(&server, "version_name") == 2.0
    });
    wait_until("the new path is logged", || {
        server.logged("not served").len() > CASES.len()
    });
    assert_eq!(server.logged("not served").len(), CASES.len() + 1);
    fs_err::rename(models.path().join("late/v2"), models.path().join("late/2")).unwrap();
    wait_until("the moved model is loaded", || {
        ignored_count(&server, "version_name") == 1.0
    });
    wait_until("the model answers", || {
        server.get("/models/late").status() == 200
    });
}

#[test]
fn a_version_whose_files_are_gone_is_reported() {
    let models = models_with(&[]);
    install_graph(models.path(), "scalar", 1, "scalar", None);
    let server = Server::start(models.path(), &[]);
    assert_eq!(
        (
            ignored_count(&server, "files_gone"),
            ignored_paths(&server, models.path()).len()
        ),
        (0.0, 0)
    );
    fs_err::rename(models.path().join("scalar"), models.path().join(".gone")).unwrap();
    wait_until("the path is counted", || {
        ignored_count(&server, "files_gone") == 1.0
    });
    let gone = ("files_gone".to_owned(), "scalar/1".to_owned());
    wait_until("the reason is reported", || {
        ignored_paths(&server, models.path()).contains(&gone)
    });
    wait_until("the reason is logged", || {
        server.logged("served without its files").len() == 1
    });
    assert_eq!(
        server.get("/readyz").status(),
        200,
        "the loaded version still answers"
    );
    fs_err::rename(models.path().join(".gone"), models.path().join("scalar")).unwrap();
    wait_until("the restored files are noticed", || {
        ignored_count(&server, "files_gone") == 0.0
    });
}

#[test]
fn the_check_fails_for_each_ignored_path() {
    for (place, _, path) in CASES {
        let models = models_with(&[]);
        install_graph(models.path(), "scalar", 1, "scalar", None);
        assert_eq!(check_configuration(models.path(), &[]).0, 0);
        put_graph(models.path(), place);
        let (code, output) = check_configuration(models.path(), &[]);
        assert!(
            code == 1
                && output.contains(&format!("FAILED  {}", models.path().join(path).display())),
            "{place}: {output}"
        );
    }
}

#[test]
fn a_wrong_models_directory_is_reported_with_the_expected_layout() {
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
        let (code, output) = check_configuration(&directory, &[]);
        assert!(
            code == 1
                && output.contains(directory.to_str().unwrap())
                && output.contains("NAME/VERSION/"),
            "{reason}: {output}"
        );
        let server = Server::start_unready(&directory, &[]);
        let entry = wait_for("the reason is reported", || {
            server.logged("not served").first().cloned()
        });
        assert_eq!(entry["reason"], reason);
        assert_eq!(entry["path"], directory.to_str().unwrap());
        wait_until("the path is counted", || {
            ignored_count(&server, reason) == 1.0
        });
        let detail = wait_for("the start page shows it", || {
            server.get_json("/readyz?verbose")["ignored"][0]["detail"]
                .as_str()
                .map(str::to_owned)
        });
        assert!(detail.contains("NAME/VERSION/"), "{reason}: {detail}");
    }
}

/// A models directory with ignored paths, and the advice about each: (path, text).
fn ignored_with_advice() -> (TempDir, Vec<(&'static str, String)>) {
    let models = models_with(&[]);
    let place = |path: &str| models.path().join(path);
    install_graph(models.path(), "scalar", 1, "scalar", None);
    install_package(models.path(), "digits", "1.0.0");
    fs_err::rename(place("digits/1.0.0"), place("flat")).unwrap();
    fs_err::remove_dir(place("digits")).unwrap();
    put_graph(models.path(), "other/1/weights.onnx");
    put_graph(models.path(), "triton/1/weights.onnx");
    fs_err::write(place("triton/config.pbtxt"), "").unwrap();
    put_graph(models.path(), "tf/1/saved_model.pb");
    put_graph(models.path(), "loose/weights.onnx");
    install_package(models.path(), "churn", "1.0.0");
    fs_err::rename(place("churn/1.0.0"), place("churn/v1")).unwrap();
    let advice = vec![
        (
            "flat",
            format!(
                "manifest.json says digits 1.0.0: move them to {}/",
                place("digits/1.0.0").display()
            ),
        ),
        (
            "churn/v1",
            format!(
                "manifest.json says churn 1.0.0: move it to {}/",
                place("churn/1.0.0").display()
            ),
        ),
        (
            "loose",
            "move them to 1/ (weights.onnx to 1/model.onnx)".to_owned(),
        ),
        (
            "other/1",
            "contains weights.onnx, but only model.onnx is served: rename it".to_owned(),
        ),
        (
            "tf/1",
            "contains saved_model.pb, but only ONNX is served: export the model to model.onnx"
                .to_owned(),
        ),
        (
            "triton/1",
            "only model.onnx is served (default_model_filename of config.pbtxt is not supported): \
             rename it"
                .to_owned(),
        ),
    ];
    (models, advice)
}

#[test]
fn the_check_gives_advice_about_each_ignored_path() {
    let (models, advice) = ignored_with_advice();
    let place = |path: &str| models.path().join(path);
    let (code, output) = check_configuration(models.path(), &[]);
    assert_eq!(code, 1);
    let failed = |output: &str, path: &str| {
        let start = format!("FAILED  {}: ", place(path).display());
        output
            .lines()
            .filter_map(|line| line.strip_prefix(&start).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    for (path, detail) in &advice {
        let failures = failed(&output, path);
        assert!(
            failures.len() == 1 && failures[0].contains(detail),
            "{path}: {failures:?}"
        );
    }
}

#[test]
fn following_the_advice_makes_the_model_served() {
    let (models, advice) = ignored_with_advice();
    let place = |path: &str| models.path().join(path);
    let server = InProcessServer::start_unready(models.path(), &[("models.required", "scalar")]);
    server.wait_until_ready();
    let document = server.get_json("/readyz?verbose");
    for (path, detail) in &advice {
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
        let (_, detail) = advice
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
    wait_until("the model answers after the advice was followed", || {
        server
            .get("/models/digits")
            .json::<Value>()
            .is_ok_and(|model| model["stable"].is_string())
    });
}
