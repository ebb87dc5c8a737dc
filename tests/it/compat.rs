//! `predictd compat` compares the packages of the repository in both directions.

use serde_json::{Value, json};

use crate::harness::{copy_directory, models_of_graphs, package_path, run_predictd};

/// Runs `compat`: exit code, first line, and one line for each difference.
fn compat(old: (&str, &str), new: (&str, &str), more: &[&str]) -> (i32, String, Vec<String>) {
    let (old, new) = (package_path(old.0, old.1), package_path(new.0, new.1));
    let arguments = [
        &["compat", old.to_str().unwrap(), new.to_str().unwrap()],
        more,
    ]
    .concat();
    let (code, output, error) = run_predictd(&arguments, "", &[]);
    assert!(error.is_empty(), "{error}");
    let mut lines = output.lines();
    let first = lines.next().unwrap().to_owned();
    (
        code,
        first,
        lines
            .take_while(|line| !line.is_empty())
            .map(|line| line.trim().to_owned())
            .collect(),
    )
}

#[test]
fn versions_with_one_contract_are_compatible() {
    for (old, new) in [("1.0.0", "1.1.0"), ("1.1.0", "1.2.0")] {
        for (old, new) in [(old, new), (new, old)] {
            let (code, first, lines) = compat(("churn", old), ("churn", new), &[]);
            assert_eq!((code, lines), (0, Vec::new()), "{old} {new}");
            assert!(
                first.starts_with(&format!("churn/{old} -> churn/{new}: compatible: ")),
                "{first}"
            );
        }
    }
}

#[test]
fn each_breaking_change_is_named() {
    let (code, first, lines) = compat(("churn", "1.1.0"), ("churn", "2.0.0"), &[]);
    assert_eq!(code, 1);
    assert!(first.contains(": breaking: "), "{first}");
    assert_eq!(
        lines,
        [
            "breaking: input /monthly_charges is renamed /monthly_charge_usd: requests of today's callers would get 422",
            "breaking: input /device_os is gone: requests of today's callers who send it would get 422",
            "breaking: input /autopay is now required: requests of today's callers would get 422",
            "breaking: classes /label (and /probabilities) are [churn, stay] instead of [stay, churn]: callers who read a class by its \
             position, in a tensor or as an index, would read the wrong class",
        ]
    );
    let (code, _, lines) = compat(("churn", "2.0.0"), ("churn", "1.1.0"), &[]);
    assert_eq!(code, 1);
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("breaking: "))
            .count(),
        3,
        "{lines:?}"
    );
    assert!(
        lines.contains(
            &"breaking: input /autopay is gone: requests of today's callers who send it would get \
              422"
            .to_owned()
        )
    );
    for old in ["1.0.0", "1.2.0"] {
        assert_eq!(compat(("churn", old), ("churn", "2.0.0"), &[]).2.len(), 4);
    }
}

#[test]
fn an_added_output_is_forward_only() {
    let (code, first, lines) = compat(("diabetes", "1.0.0"), ("diabetes", "1.1.0"), &[]);
    assert_eq!(code, 0);
    assert!(first.contains("forward-only"), "{first}");
    assert_eq!(
        lines,
        ["/lower_10", "/upper_90"].map(|pointer| {
            format!(
                "forward-only: output {pointer} is new: callers who begin to read it would miss \
                 it after a rollback"
            )
        })
    );
    let (code, _, lines) = compat(("diabetes", "1.1.0"), ("diabetes", "1.0.0"), &[]);
    assert_eq!((code, lines.len()), (1, 2));
}

#[test]
fn changes_of_the_graph_break_callers_that_send_tensors() {
    let (code, _, lines) = compat(("churn", "1.0.0"), ("churn", "1.1.0"), &["--raw"]);
    assert_eq!(code, 1);
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("breaking: preprocessing /inputs/features/columns/")),
        "{lines:?}"
    );
    assert_eq!(
        compat(("churn", "1.1.0"), ("churn", "1.1.0"), &["--raw"]).0,
        0
    );
    let models = models_of_graphs(&[("a", "identity_fp32.onnx"), ("b", "identity_fp32.onnx")]);
    let directory = |name: &str| {
        models
            .path()
            .join(name)
            .join("1")
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (code, output, error) =
        run_predictd(&["compat", &directory("a"), &directory("b")], "", &[]);
    assert_eq!(code, 0, "{output}{error}");
    assert!(output.starts_with("a/1 -> b/1: compatible: "), "{output}");
    assert!(
        output.contains("evaluation: not compared, neither version has evaluation.json"),
        "{output}"
    );
    let churn = package_path("churn", "1.1.0");
    let (code, output, _) = run_predictd(
        &["compat", churn.to_str().unwrap(), &directory("a")],
        "",
        &[],
    );
    assert_eq!(code, 1);
    assert!(
        output.contains("breaking: graph as a whole is a bare graph and has no fields"),
        "{output}"
    );
}

#[test]
fn json_output_has_all_facts() {
    let (old, new) = (
        package_path("churn", "1.1.0"),
        package_path("churn", "2.0.0"),
    );
    let (code, output, error) = run_predictd(
        &[
            "compat",
            old.to_str().unwrap(),
            new.to_str().unwrap(),
            "--json",
        ],
        "",
        &[],
    );
    assert_eq!(code, 1, "{error}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["verdict"], "breaking");
    assert_eq!(report["differences"].as_array().unwrap().len(), 4);
    assert_eq!(report["differences"][2]["pointer"], "/autopay");
    assert_eq!(report["old"]["name"], "churn/1.1.0");
    for side in ["old", "new"] {
        let measured = &report[side]["measured"];
        assert!(
            measured["row_us"].as_f64().unwrap() > 0.0
                && measured["batch_us"].as_f64().unwrap() > 0.0,
            "{measured}"
        );
        assert_eq!(measured["batch_rows"], 64);
        // The weights and the buffers of the runs take memory.
        assert!(
            measured["memory_bytes"].as_u64().unwrap() > 100_000,
            "{measured}"
        );
    }
    let evaluation: Value =
        serde_json::from_str(&fs_err::read_to_string(new.join("evaluation.json")).unwrap())
            .unwrap();
    assert_eq!(report["evaluation"]["same_data"], true);
    let auc = report["evaluation"]["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|metric| metric["slice"] == "plan=pro" && metric["name"] == "auc");
    assert_eq!(
        auc.unwrap()["new"],
        evaluation["slices"]["plan"]["pro"]["auc"]
    );
    let feature = |name: &str| {
        report["profile"]
            .as_array()
            .unwrap()
            .iter()
            .find(|feature| feature["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(feature("autopay")["old"], Value::Null);
    assert!(feature("churn_probability")["psi"].as_f64().unwrap() < 0.1);
}

#[test]
fn an_unproved_difference_is_accepted_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let version = |name: &str, pattern: &str| {
        let path = directory.path().join(name);
        copy_directory(&package_path("diabetes", "1.0.0"), &path);
        fs_err::remove_file(path.join("profile.json")).unwrap();
        let mut schema: Value =
            serde_json::from_str(&fs_err::read_to_string(path.join("schema.json")).unwrap())
                .unwrap();
        schema["input"]["properties"]["ward"] = json!({"type": "string", "pattern": pattern});
        fs_err::write(path.join("schema.json"), schema.to_string()).unwrap();
        let (code, output, error) = run_predictd(
            &[
                "pack",
                path.to_str().unwrap(),
                "--name",
                "diabetes",
                "--model-version",
                "1.0.0",
            ],
            "",
            &[],
        );
        assert_eq!(code, 0, "{output}{error}");
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (
        version("old", "^[A-E][0-9]{6}$"),
        version("new", "^[A-F][0-9]{6}$"),
    );
    let run = |more: &[&str]| run_predictd(&[&["compat", &old, &new], more].concat(), "", &[]);
    let (code, output, _) = run(&[]);
    assert_eq!(code, 1);
    assert!(
        output.contains("unproved: input /ward can't be shown to fit")
            && output.contains("--accept-unproved"),
        "{output}"
    );
    assert!(
        output.contains("profile: not compared, neither version has profile.json"),
        "{output}"
    );
    let (code, output, error) = run(&[
        "--accept-unproved",
        "/ward",
        "--reason",
        "wards A to E are among A to F",
    ]);
    assert_eq!(code, 0, "{output}{error}");
    assert!(
        output.contains("unproved (accepted): input /ward")
            && output.contains("accepted: wards A to E are among"),
        "{output}"
    );
    assert_eq!(
        run(&["--accept-unproved", "/ward"]).0,
        2,
        "a reason is required"
    );
    let (code, _, error) = run(&["--accept-unproved", "/age", "--reason", "x"]);
    assert!(
        code == 1 && error.contains("there is no unproved difference"),
        "{error}"
    );
}

#[test]
fn a_version_that_fails_the_gate_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("churn");
    copy_directory(&package_path("churn", "1.1.0"), &path);
    fs_err::write(path.join("model.onnx"), "no graph").unwrap();
    let old = package_path("churn", "1.0.0");
    let (code, output, error) = run_predictd(
        &["compat", old.to_str().unwrap(), path.to_str().unwrap()],
        "",
        &[],
    );
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(error.contains("model.onnx"), "{error}");
}
