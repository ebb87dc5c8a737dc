//! Runs the commands of the README in their order, with a restart of the server in between.

use std::{path::Path, process::Command};

use serde_json::json;

use crate::harness::{
    PREDICTD, Server, fixture_path, golden_examples, install_package, root, wait_for,
};

/// The commands in the `sh` blocks of the section with this title, one a line, without comments and
/// the alias.
fn commands(title: &str) -> Vec<String> {
    let text = fs_err::read_to_string(root().join("README.md")).unwrap();
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(title))
        .unwrap();
    let blocks = section
        .split("```")
        .filter_map(|block| block.strip_prefix("sh\n"));
    let lines = blocks
        .flat_map(str::lines)
        .map(|line| line.split(" #").next().unwrap().trim().to_owned());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("alias "))
        .collect()
}

struct Walk<'a> {
    place: &'a Path,
    server: Option<Server>,
}

impl Walk<'_> {
    fn serve(&mut self) {
        self.server = None;
        let (models, state) = (self.place.join("models"), self.place.join("state"));
        self.server = Some(Server::start(
            &models,
            &[("state.url", state.to_str().unwrap())],
        ));
    }

    /// Runs the command as it is printed in the README, and returns its output.
    fn run(&self, command: &str) -> String {
        let server = self.server.as_ref().unwrap();
        let admin = server.admin_url("");
        let words = shlex::split(command).unwrap();
        let (program, arguments) = words.split_first().unwrap();
        let mut process = Command::new(if program == "predictd" {
            PREDICTD
        } else {
            program
        });
        process
            .args(arguments)
            .current_dir(self.place)
            .env("PREDICTD_SERVER", admin)
            .env("PREDICTD_STATE__URL", self.place.join("state"));
        process.env(
            "PREDICTD_RUNTIME__LIBRARY",
            root().join(".onnxruntime").join(library()),
        );
        let output = process.output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{command}: {text}");
        text
    }

    fn answered(&self) -> String {
        let server = self.server.as_ref().unwrap();
        let row = fs_err::read_to_string(self.place.join("rows.jsonl")).unwrap();
        let row = row.lines().next().unwrap().to_owned();
        wait_for("the model answers", || {
            let answer = server
                .post("/models/iris/predict")
                .body(row.clone())
                .send()
                .unwrap();
            let version = answer
                .headers()
                .get("x-model-version")
                .map(|version| version.to_str().unwrap().to_owned());
            version.filter(|_| answer.status() == 200)
        })
    }
}

fn library() -> &'static str {
    if cfg!(target_os = "macos") {
        "libonnxruntime.dylib"
    } else {
        "libonnxruntime.so"
    }
}

#[test]
fn the_commands_of_the_readme_work() {
    let place = tempfile::tempdir().unwrap();
    // The files that the Python block writes: the graph, and rows of four measures.
    fs_err::copy(fixture_path("iris.onnx"), place.path().join("iris.onnx")).unwrap();
    let row = |a: f64| {
        json!({"sepal_length_cm": a, "sepal_width_cm": 3.0, "petal_length_cm": 1.4, "petal_width_cm": 0.2}).to_string()
    };
    fs_err::write(
        place.path().join("rows.jsonl"),
        [row(5.1), row(6.3), row(7.0)].join("\n") + "\n",
    )
    .unwrap();
    install_package(&place.path().join("models"), "churn", "1.1.0");
    let mut walk = Walk {
        place: place.path(),
        server: None,
    };
    walk.serve();
    let commands = commands("Your own model");
    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        let output = walk.run(command);
        match command.as_str() {
            "cp -r drafts/iris/1.0.0 models/iris/" => {
                assert_eq!(walk.answered(), "1.0.0");
                walk.serve();
                assert_eq!(walk.answered(), "1.0.0");
            }
            start if start.starts_with("predictd rollout start") => {
                assert!(output.contains("1.0.1 begins step 1"), "{output}");
                walk.serve();
            }
            "predictd rollback iris" => {
                assert!(output.contains("-> 1.0.0"), "{output}");
                assert_eq!(walk.answered(), "1.0.0");
                walk.serve();
                assert_eq!(walk.answered(), "1.0.0");
            }
            _ => {}
        }
    }
    assert_eq!(
        walk.server
            .as_ref()
            .unwrap()
            .predict(
                "/models/churn/predict",
                &golden_examples("churn", "1.1.0")[0]["input"]
            )
            .status(),
        200
    );
}

#[test]
fn a_rollout_is_the_next_thing_after_the_start() {
    let place = tempfile::tempdir().unwrap();
    for version in ["1.0.0", "1.1.0"] {
        install_package(&place.path().join("models"), "churn", version);
    }
    let mut walk = Walk {
        place: place.path(),
        server: None,
    };
    walk.serve();
    let server = walk.server.as_ref().unwrap();
    let input = &golden_examples("churn", "1.1.0")[0]["input"];
    let answering = || server.answering_version("/models/churn/predict", input);
    assert_eq!(answering(), "1.1.0");
    let commands = commands("Commands");
    assert!(commands.len() >= 6, "{commands:?}");
    for command in &commands {
        let output = walk.run(command);
        if command.contains("rollout start") && !command.contains("--dry-run") {
            assert!(output.contains("1.1.1 begins step 1"), "{output}");
        } else if command.contains("rollout promote") {
            assert_eq!(answering(), "1.1.1");
        } else if command.contains("rollback") {
            assert_eq!(answering(), "1.1.0");
        }
    }
    assert!(commands.last().unwrap().contains("history churn --verify"));
}
