//! `init` writes a draft, asks for missing facts and marks guesses. `pack` makes a package of the
//! draft.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    file_names, fixture_path, golden_examples, json_lines, pack, package_path, run_predictd,
    workplace_with_files,
};

/// Runs `init` for `made/1.0.0` in the directory. An option that begins with `@` is a file of it:
/// (exit code, stdout and stderr).
fn run_init(workplace: &TempDir, model: &Path, more: &[&str]) -> (i32, String) {
    let file = |text: &&str| {
        text.strip_prefix('@').map_or_else(
            || (*text).to_owned(),
            |name| workplace.path().join(name).to_str().unwrap().to_owned(),
        )
    };
    let more: Vec<String> = more.iter().map(file).collect();
    let made = draft_path(workplace);
    let mut arguments = vec![
        "init",
        model.to_str().unwrap(),
        "--output",
        made.to_str().unwrap(),
    ];
    arguments.extend(more.iter().map(String::as_str));
    let (code, output, error) = run_predictd(&arguments, "", &[]);
    (code, output + &error)
}

fn draft_path(workplace: &TempDir) -> PathBuf {
    workplace.path().join("made/1.0.0")
}

fn read_preprocessing(workplace: &TempDir) -> Value {
    serde_json::from_str(
        &fs_err::read_to_string(draft_path(workplace).join("preprocessing.json")).unwrap(),
    )
    .unwrap()
}

fn graph_path(name: &str) -> PathBuf {
    package_path(name, "1.0.0").join("model.onnx")
}

/// The golden examples that training wrote, with the fields in the order of the graph's columns.
/// The files of a draft with preprocessing and golden examples.
const DRAFT_FILES: [&str; 5] = [
    "README.md",
    "golden.jsonl",
    "model.onnx",
    "preprocessing.json",
    "schema.json",
];

/// The inputs of the golden examples of diabetes, one a line.
fn diabetes_rows() -> String {
    let examples = golden_examples_of_1_0_0("diabetes");
    json_lines(examples.into_iter().map(|example| example["input"].clone()))
}

fn golden_examples_of_1_0_0(name: &str) -> Vec<Value> {
    golden_examples(name, "1.0.0")
}

#[test]
fn a_draft_from_options_and_samples_packs_and_answers() {
    let examples = golden_examples_of_1_0_0("diabetes");
    // With the examples that training wrote. The order of columns is that of the sample.
    let own: Value = serde_json::from_str(
        &fs_err::read_to_string(package_path("diabetes", "1.0.0").join("preprocessing.json"))
            .unwrap(),
    )
    .unwrap();
    let columns: Vec<String> = own["inputs"]["features"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let plain = examples.iter().map(|example| {
        let mut row = example["input"].clone();
        row["prediction"] = example["output"]["prediction"].clone();
        row
    });
    let workplace = workplace_with_files(&[
        (
            "rows.jsonl",
            json_lines(examples.iter().map(|example| example["input"].clone())),
        ),
        ("seen.jsonl", json_lines(plain)),
    ]);
    let mut arguments = vec!["--sample", "@rows.jsonl", "--golden", "@seen.jsonl"];
    columns
        .iter()
        .for_each(|line| arguments.extend(["--column", line]));
    let (code, text) = run_init(&workplace, &graph_path("diabetes"), &arguments);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("golden 20/20") && text.contains("predictd pack") && !text.contains("guess"),
        "{text}"
    );
    assert_eq!(file_names(&draft_path(&workplace)), DRAFT_FILES);
    assert_eq!(pack(&draft_path(&workplace), &[]).0, 0);
    let rows = workplace.path().join("rows.jsonl");
    let (code, text, _) = run_predictd(
        &[
            "predict",
            draft_path(&workplace).to_str().unwrap(),
            "--input",
            rows.to_str().unwrap(),
        ],
        "",
        &[],
    );
    assert_eq!((code, text.lines().count()), (0, 20));
    let (code, text) = run_init(&workplace, &graph_path("diabetes"), &[]);
    assert!(code == 1 && text.contains("not empty"), "{text}");
}

#[test]
fn missing_facts_are_asked_for_and_nothing_is_written() {
    let rows = diabetes_rows();
    let workplace = workplace_with_files(&[("rows.jsonl", rows)]);
    let (code, text) = run_init(
        &workplace,
        &graph_path("diabetes"),
        &["--sample", "@rows.jsonl"],
    );
    assert_eq!(code, 1, "{text}");
    let line = "  {\"field\": \"sex\", \"steps\": [{\"one_hot\": {\"categories\": [\"group1\", \
                \"group2\"], \"unknown\": \"error\"}}]}\n";
    assert!(
        text.contains("nothing was drafted") && text.contains(line),
        "{text}"
    );
    assert_eq!(file_names(workplace.path()), ["rows.jsonl"]);
    // The sample has a number of columns that the graph does not accept.
    let (code, text) = run_init(
        &workplace,
        &graph_path("diabetes"),
        &[
            "--sample",
            "@rows.jsonl",
            "--column",
            "{\"field\": \"sex\", \"steps\": [{\"hash\": {\"n_features\": 7}}]}",
        ],
    );
    assert!(code == 1 && text.contains("sex 7"), "{text}");
    let typo = "{\"field\": \"sex\", \"steps\": [{\"onehot\": {}}]}";
    let (code, text) = run_init(
        &workplace,
        &graph_path("diabetes"),
        &["--sample", "@rows.jsonl", "--column", typo],
    );
    assert!(
        code == 1 && text.contains("unknown step \"onehot\""),
        "{text}"
    );
    for wrong in [
        ["--column", "{\"field\": \"sex\"}"],
        ["--column", "sex"],
        ["--encode", "sex=hash"],
        ["--encode", "sex"],
    ] {
        let (code, text) = run_init(&workplace, &graph_path("diabetes"), &wrong);
        assert!(code == 1 && text.contains("expected"), "{text}");
    }
    assert_eq!(file_names(workplace.path()), ["rows.jsonl"]);
}

#[test]
fn a_guess_is_rejected_until_its_key_is_deleted() {
    let rows = diabetes_rows();
    let workplace = workplace_with_files(&[("rows.jsonl", rows)]);
    let (code, text) = run_init(
        &workplace,
        &graph_path("diabetes"),
        &["--sample", "@rows.jsonl", "--encode", "sex=one_hot"],
    );
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(
            "guess   preprocessing.json /inputs/features/columns/9/x-guess: the categories are \
             those of the sample"
        ),
        "{text}"
    );
    let (code, text) = pack(&draft_path(&workplace), &[]);
    assert_eq!(code, 1);
    assert!(
        text.contains(
            "FAILED  preprocessing  preprocessing.json /inputs/features/columns/9/x-guess: is a \
             guess"
        ),
        "{text}"
    );
    assert!(
        text.contains("delete the key \"x-guess\"") && text.contains("or      write golden.jsonl"),
        "{text}"
    );
    assert!(!draft_path(&workplace).join("manifest.json").exists());

    let mut confirmed = read_preprocessing(&workplace);
    confirmed["inputs"]["features"]["columns"][9]
        .as_object_mut()
        .unwrap()
        .remove("x-guess")
        .unwrap();
    fs_err::write(
        draft_path(&workplace).join("preprocessing.json"),
        confirmed.to_string(),
    )
    .unwrap();
    let (code, text) = pack(&draft_path(&workplace), &[]);
    assert_eq!(code, 0, "{text}");
    // A package into which a mark is written later is rejected.
    let mut marked = confirmed.clone();
    marked["inputs"]["features"]["x-guess"] = json!("by hand");
    fs_err::write(
        draft_path(&workplace).join("preprocessing.json"),
        marked.to_string(),
    )
    .unwrap();
    assert_eq!(pack(&draft_path(&workplace), &[]).0, 1);
}

#[test]
fn golden_examples_confirm_or_refute_a_guess() {
    let examples = golden_examples_of_1_0_0("digits")
        .into_iter()
        .map(|example| {
            let probabilities: Vec<Value> = example["output"]["probabilities"]
                .as_object()
                .unwrap()
                .values()
                .cloned()
                .collect();
            json!({"input": example["input"], "output": {"probabilities": probabilities}})
        });
    let workplace = workplace_with_files(&[("seen.jsonl", json_lines(examples))]);
    let (code, text) = run_init(
        &workplace,
        &graph_path("digits"),
        &["--golden", "@seen.jsonl"],
    );
    assert_eq!(code, 1, "the training's numbers go from 0 to 16: {text}");
    assert!(
        text.contains("FAILED  golden         golden.jsonl line 1: output /probabilities/")
            && text.contains("does not reproduce golden.jsonl"),
        "{text}"
    );
    assert!(
        text.contains("guess   preprocessing.json /inputs/image/x-guess"),
        "{text}"
    );
    assert_eq!(file_names(&draft_path(&workplace)), DRAFT_FILES);
    let drafted =
        fs_err::read_to_string(draft_path(&workplace).join("preprocessing.json")).unwrap();
    assert_eq!(pack(&draft_path(&workplace), &[]).0, 1);
    assert_eq!(
        fs_err::read_to_string(draft_path(&workplace).join("preprocessing.json")).unwrap(),
        drafted,
        "the mark stays if the gate rejects the draft"
    );
    correct_the_scale_and_pack(&workplace);
}

/// Corrects the guessed scale. Then `pack` accepts the draft and removes the mark.
fn correct_the_scale_and_pack(workplace: &TempDir) {
    let mut corrected = read_preprocessing(workplace);
    let steps = corrected["inputs"]["image"]["steps"]
        .as_array_mut()
        .unwrap();
    steps
        .iter_mut()
        .find(|step| step.get("rescale").is_some())
        .unwrap()["rescale"]["factor"] = json!(16.0 / 255.0);
    fs_err::write(
        draft_path(workplace).join("preprocessing.json"),
        corrected.to_string(),
    )
    .unwrap();
    let (code, text) = pack(&draft_path(workplace), &[]);
    assert!(
        code == 0 && text.contains("prove the guesses in 1 place"),
        "{text}"
    );
    assert_eq!(
        read_preprocessing(workplace)["inputs"]["image"].get("x-guess"),
        None
    );
    let (code, text, error) = run_predictd(
        &["verify", draft_path(workplace).to_str().unwrap()],
        "",
        &[],
    );
    assert_eq!(code, 0, "{text}{error}");
}

#[test]
fn examples_show_only_the_categories_that_they_have() {
    let examples = golden_examples_of_1_0_0("diabetes");
    let one_sex = examples
        .iter()
        .filter(|example| example["input"]["sex"] == "group1")
        .cloned();
    let rows = json_lines(examples.iter().map(|example| example["input"].clone()));
    let workplace = workplace_with_files(&[("rows.jsonl", rows)]);
    assert_eq!(
        run_init(
            &workplace,
            &graph_path("diabetes"),
            &["--sample", "@rows.jsonl", "--encode", "sex=one_hot"]
        )
        .0,
        0
    );
    fs_err::write(
        draft_path(&workplace).join("golden.jsonl"),
        json_lines(one_sex),
    )
    .unwrap();
    let (code, text) = pack(&draft_path(&workplace), &[]);
    assert!(
        code == 1 && text.contains("no golden example has the category \"group2\""),
        "{text}"
    );
}

#[test]
fn samples_can_have_every_supported_form() {
    for (file, text) in [
        ("rows.csv", "a,b,c\n1,2,3\n4,5.5,\n".to_owned()),
        (
            "rows.json",
            json!([{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5.5, "c": null}]).to_string(),
        ),
        (
            "rows.jsonl",
            "{\"a\": 1, \"b\": 2, \"c\": 3}\n\n{\"a\": 4, \"b\": 5.5, \"c\": null}\n".to_owned(),
        ),
    ] {
        let workplace = workplace_with_files(&[(file, text)]);
        let (code, text) = run_init(
            &workplace,
            &fixture_path("identity_fp32.onnx"),
            &["--sample", &format!("@{file}")],
        );
        assert_eq!(code, 0, "{text}");
        let schema: Value = serde_json::from_str(
            &fs_err::read_to_string(draft_path(&workplace).join("schema.json")).unwrap(),
        )
        .unwrap();
        let types: Vec<&Value> = schema["input"]["properties"]
            .as_object()
            .unwrap()
            .values()
            .map(|property| &property["type"])
            .collect();
        assert_eq!(
            types,
            [
                &json!("number"),
                &json!("number"),
                &json!(["number", "null"])
            ]
        );
        let columns = json!([{"field": "a"}, {"field": "b"}, {"field": "c"}]);
        assert_eq!(
            read_preprocessing(&workplace)["inputs"]["x"]["columns"],
            columns
        );
        let (code, text) = pack(&draft_path(&workplace), &[]);
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn external_data_is_copied_or_reported_as_missing() {
    let workplace = tempfile::tempdir().unwrap();
    let (code, text) = run_init(&workplace, &fixture_path("external_data.onnx"), &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        file_names(&draft_path(&workplace)),
        [
            "README.md",
            "external_data.bin",
            "model.onnx",
            "schema.json"
        ]
    );
    assert_eq!(pack(&draft_path(&workplace), &[]).0, 0);

    let workplace = tempfile::tempdir().unwrap();
    fs_err::copy(
        fixture_path("external_data.onnx"),
        workplace.path().join("alone.onnx"),
    )
    .unwrap();
    let (code, text) = run_init(&workplace, &workplace.path().join("alone.onnx"), &[]);
    assert!(
        code == 1
            && text.contains("external_data.bin: is missing; the graph keeps weights in this file"),
        "{text}"
    );
    assert_eq!(file_names(workplace.path()), ["alone.onnx"]);
}

#[test]
fn a_long_image_of_the_sample_is_left_out_of_schema_and_output() {
    let image = golden_examples("digits", "1.0.0")[0]["input"]["image"].clone();
    // A PNG reader ignores bytes after the end of the image.
    let bytes = [
        base64_simd::STANDARD
            .decode_to_vec(image.as_str().unwrap())
            .unwrap(),
        vec![7; 90_000],
    ]
    .concat();
    let workplace = workplace_with_files(&[(
        "rows.jsonl",
        json_lines([json!({"image": base64_simd::STANDARD.encode_to_string(bytes)})]),
    )]);
    let steps = json!({"field": "image", "steps": [{"decode_image": {"mode": "grey"}}, {"center_crop": {"height": 8, "width": 8}}, {"layout": "nchw"}]});
    let (code, text) = run_init(
        &workplace,
        &graph_path("digits"),
        &["--sample", "@rows.jsonl", "--column", &steps.to_string()],
    );
    assert!(
        code == 0
            && text.len() < 4000
            && text.contains("`image` of the schema's example is an even grey image"),
        "{text}"
    );
    let schema = fs_err::read_to_string(draft_path(&workplace).join("schema.json")).unwrap();
    assert!(
        schema.len() < 4000 && schema.contains("image/png"),
        "{schema}"
    );
    // Without golden examples the gate runs the schema's example, so the preprocessing steps must
    // accept it.
    let (code, text) = pack(&draft_path(&workplace), &[]);
    assert!(code == 0 && text.contains("batches of 1 and "), "{text}");
}

#[test]
fn the_next_command_packs_a_draft_in_any_directory() {
    let workplace = workplace_with_files(&[("rows.jsonl", diabetes_rows())]);
    let rows = workplace.path().join("rows.jsonl");
    let own: Value = serde_json::from_str(
        &fs_err::read_to_string(package_path("diabetes", "1.0.0").join("preprocessing.json"))
            .unwrap(),
    )
    .unwrap();
    let columns = own["inputs"]["features"]["columns"].as_array().unwrap();
    let columns: Vec<String> = columns.iter().map(Value::to_string).collect();
    let draft = workplace.path().join("foo");
    let (graph, draft) = (graph_path("diabetes"), draft.to_str().unwrap());
    let mut arguments = vec!["init", graph.to_str().unwrap(), "--output", draft];
    arguments.extend(["--name", "diabetes", "--sample", rows.to_str().unwrap()]);
    columns
        .iter()
        .for_each(|line| arguments.extend(["--column", line]));
    let (code, output, error) = run_predictd(&arguments, "", &[]);
    assert_eq!(code, 0, "{output}{error}");
    let next = output
        .lines()
        .find(|line| line.contains("predictd pack"))
        .unwrap();
    let words = shlex::split(next.trim()).unwrap();
    assert_eq!(
        words[3..],
        ["--name", "diabetes", "--model-version", "1.0.0"]
    );
    let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let (code, output, error) = run_predictd(&words, "", &[]);
    assert!(
        code == 0 && output.contains("packed diabetes/1.0.0"),
        "{output}{error}"
    );
}

#[test]
fn a_file_that_is_no_graph_is_named() {
    let workplace = workplace_with_files(&[("rows.jsonl", diabetes_rows())]);
    let rows = workplace.path().join("rows.jsonl");
    let (code, text) = run_init(&workplace, &rows, &[]);
    assert!(
        code == 1
            && text.contains("rows.jsonl: is not an ONNX model")
            && !text.contains("model.onnx"),
        "{text}"
    );
}
