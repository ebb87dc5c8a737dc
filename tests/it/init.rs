//! Drafts: what `init` writes, asks for and marks as a guess, and what `pack` makes of that.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    file_names, fixture_path, golden_examples, json_lines, pack, package_path, run_predictd,
    workplace_with_files,
};

/// Drafts `made/1.0.0` in the place; arguments that begin with `@` are files of it: (exit code, stdout and stderr).
fn init(place: &TempDir, model: &Path, more: &[&str]) -> (i32, String) {
    let file = |text: &&str| {
        text.strip_prefix('@').map_or_else(
            || (*text).to_owned(),
            |name| place.path().join(name).to_str().unwrap().to_owned(),
        )
    };
    let more: Vec<String> = more.iter().map(file).collect();
    let made = draft(place);
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

fn draft(place: &TempDir) -> PathBuf {
    place.path().join("made/1.0.0")
}

fn preprocessing(place: &TempDir) -> Value {
    serde_json::from_str(&fs_err::read_to_string(draft(place).join("preprocessing.json")).unwrap())
        .unwrap()
}

fn model(name: &str) -> PathBuf {
    package_path(name, "1.0.0").join("model.onnx")
}

/// What training answered, with the fields in the order of the graph's columns.
fn answered(name: &str) -> Vec<Value> {
    golden_examples(name, "1.0.0")
}

#[test]
fn what_is_said_and_shown_packs_and_answers() {
    let examples = answered("diabetes");
    // With the training's own lines; its order of columns is the sample's.
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
    let place = workplace_with_files(&[
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
    let (code, text) = init(&place, &model("diabetes"), &arguments);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("golden 20/20") && text.contains("predictd pack") && !text.contains("guess"),
        "{text}"
    );
    assert_eq!(
        file_names(&draft(&place)),
        [
            "README.md",
            "golden.jsonl",
            "model.onnx",
            "preprocessing.json",
            "schema.json"
        ]
    );
    assert_eq!(pack(&draft(&place), &[]).0, 0);
    let rows = place.path().join("rows.jsonl");
    let (code, text, _) = run_predictd(
        &[
            "predict",
            draft(&place).to_str().unwrap(),
            "--input",
            rows.to_str().unwrap(),
        ],
        "",
        &[],
    );
    assert_eq!((code, text.lines().count()), (0, 20));
    let (code, text) = init(&place, &model("diabetes"), &[]);
    assert!(code == 1 && text.contains("not empty"), "{text}");
}

#[test]
fn what_only_the_training_knows_is_asked_for_and_nothing_is_written() {
    let rows = json_lines(
        answered("diabetes")
            .into_iter()
            .map(|example| example["input"].clone()),
    );
    let place = workplace_with_files(&[("rows.jsonl", rows)]);
    let (code, text) = init(&place, &model("diabetes"), &["--sample", "@rows.jsonl"]);
    assert_eq!(code, 1, "{text}");
    let line = "  {\"field\": \"sex\", \"steps\": [{\"one_hot\": {\"categories\": [\"group1\", \"group2\"], \"unknown\": \"error\"}}]}\n";
    assert!(
        text.contains("nothing was drafted") && text.contains(line),
        "{text}"
    );
    assert_eq!(file_names(place.path()), ["rows.jsonl"]);
    // A number of columns that the graph doesn't take.
    let (code, text) = init(
        &place,
        &model("diabetes"),
        &[
            "--sample",
            "@rows.jsonl",
            "--column",
            "{\"field\": \"sex\", \"steps\": [{\"hash\": {\"n_features\": 7}}]}",
        ],
    );
    assert!(code == 1 && text.contains("sex 7"), "{text}");
    let typo = "{\"field\": \"sex\", \"steps\": [{\"onehot\": {}}]}";
    let (code, text) = init(
        &place,
        &model("diabetes"),
        &["--sample", "@rows.jsonl", "--column", typo],
    );
    assert!(
        code == 1 && text.contains("unknown step `onehot`"),
        "{text}"
    );
    for wrong in [
        ["--column", "{\"field\": \"sex\"}"],
        ["--column", "sex"],
        ["--encode", "sex=hash"],
        ["--encode", "sex"],
    ] {
        let (code, text) = init(&place, &model("diabetes"), &wrong);
        assert!(code == 1 && text.contains("expected"), "{text}");
    }
    assert_eq!(file_names(place.path()), ["rows.jsonl"]);
}

#[test]
fn a_guess_is_refused_until_its_key_is_deleted() {
    let rows = json_lines(
        answered("diabetes")
            .into_iter()
            .map(|example| example["input"].clone()),
    );
    let place = workplace_with_files(&[("rows.jsonl", rows)]);
    let (code, text) = init(
        &place,
        &model("diabetes"),
        &["--sample", "@rows.jsonl", "--encode", "sex=one_hot"],
    );
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("guess   preprocessing.json /inputs/features/columns/9/x-guess: the categories are the sample's"), "{text}");
    let (code, text) = pack(&draft(&place), &[]);
    assert_eq!(code, 1);
    assert!(text.contains("FAILED  preprocessing  preprocessing.json /inputs/features/columns/9/x-guess: is a guess"), "{text}");
    assert!(
        text.contains("delete the key \"x-guess\"") && text.contains("or      write golden.jsonl"),
        "{text}"
    );
    assert!(!draft(&place).join("manifest.json").exists());

    let mut confirmed = preprocessing(&place);
    confirmed["inputs"]["features"]["columns"][9]
        .as_object_mut()
        .unwrap()
        .remove("x-guess")
        .unwrap();
    fs_err::write(
        draft(&place).join("preprocessing.json"),
        confirmed.to_string(),
    )
    .unwrap();
    let (code, text) = pack(&draft(&place), &[]);
    assert_eq!(code, 0, "{text}");
    // A mark that comes into a package later is no package's.
    let mut marked = confirmed.clone();
    marked["inputs"]["features"]["x-guess"] = json!("by hand");
    fs_err::write(draft(&place).join("preprocessing.json"), marked.to_string()).unwrap();
    assert_eq!(pack(&draft(&place), &[]).0, 1);
}

#[test]
fn golden_examples_show_a_guess_or_refute_it() {
    let examples = answered("digits").into_iter().map(|example| {
        let probabilities: Vec<Value> = example["output"]["probabilities"]
            .as_object()
            .unwrap()
            .values()
            .cloned()
            .collect();
        json!({"input": example["input"], "output": {"probabilities": probabilities}})
    });
    let place = workplace_with_files(&[("seen.jsonl", json_lines(examples))]);
    let (code, text) = init(&place, &model("digits"), &["--golden", "@seen.jsonl"]);
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
    assert_eq!(
        file_names(&draft(&place)),
        [
            "README.md",
            "golden.jsonl",
            "model.onnx",
            "preprocessing.json",
            "schema.json"
        ]
    );
    let drafted = fs_err::read_to_string(draft(&place).join("preprocessing.json")).unwrap();
    assert_eq!(pack(&draft(&place), &[]).0, 1);
    assert_eq!(
        fs_err::read_to_string(draft(&place).join("preprocessing.json")).unwrap(),
        drafted,
        "the mark stays where the gate refuses"
    );

    let mut corrected = preprocessing(&place);
    let steps = corrected["inputs"]["image"]["steps"]
        .as_array_mut()
        .unwrap();
    steps
        .iter_mut()
        .find(|step| step.get("rescale").is_some())
        .unwrap()["rescale"]["factor"] = json!(16.0 / 255.0);
    fs_err::write(
        draft(&place).join("preprocessing.json"),
        corrected.to_string(),
    )
    .unwrap();
    let (code, text) = pack(&draft(&place), &[]);
    assert!(
        code == 0 && text.contains("prove the guesses in 1 place"),
        "{text}"
    );
    assert_eq!(
        preprocessing(&place)["inputs"]["image"].get("x-guess"),
        None
    );
    let (code, text, error) = run_predictd(&["verify", draft(&place).to_str().unwrap()], "", &[]);
    assert_eq!(code, 0, "{text}{error}");
}

#[test]
fn examples_show_only_the_categories_that_they_have() {
    let examples = answered("diabetes");
    let one_sex = examples
        .iter()
        .filter(|example| example["input"]["sex"] == "group1")
        .cloned();
    let rows = json_lines(examples.iter().map(|example| example["input"].clone()));
    let place = workplace_with_files(&[("rows.jsonl", rows)]);
    assert_eq!(
        init(
            &place,
            &model("diabetes"),
            &["--sample", "@rows.jsonl", "--encode", "sex=one_hot"]
        )
        .0,
        0
    );
    fs_err::write(draft(&place).join("golden.jsonl"), json_lines(one_sex)).unwrap();
    let (code, text) = pack(&draft(&place), &[]);
    assert!(
        code == 1 && text.contains("no golden example has the category \"group2\""),
        "{text}"
    );
}

#[test]
fn samples_come_in_every_form() {
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
        let place = workplace_with_files(&[(file, text)]);
        let (code, text) = init(
            &place,
            &fixture_path("identity_fp32.onnx"),
            &["--sample", &format!("@{file}")],
        );
        assert_eq!(code, 0, "{text}");
        let schema: Value = serde_json::from_str(
            &fs_err::read_to_string(draft(&place).join("schema.json")).unwrap(),
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
        assert_eq!(preprocessing(&place)["inputs"]["x"]["columns"], columns);
        let (code, text) = pack(&draft(&place), &[]);
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn external_data_comes_along_or_is_missed() {
    let place = tempfile::tempdir().unwrap();
    let (code, text) = init(&place, &fixture_path("external_data.onnx"), &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        file_names(&draft(&place)),
        [
            "README.md",
            "external_data.bin",
            "model.onnx",
            "schema.json"
        ]
    );
    assert_eq!(pack(&draft(&place), &[]).0, 0);

    let place = tempfile::tempdir().unwrap();
    fs_err::copy(
        fixture_path("external_data.onnx"),
        place.path().join("alone.onnx"),
    )
    .unwrap();
    let (code, text) = init(&place, &place.path().join("alone.onnx"), &[]);
    assert!(
        code == 1
            && text.contains("external_data.bin: is missing; the graph keeps weights in this file"),
        "{text}"
    );
    assert_eq!(file_names(place.path()), ["alone.onnx"]);
}

#[test]
fn a_long_image_of_the_sample_fills_neither_schema_nor_terminal() {
    let image = golden_examples("digits", "1.0.0")[0]["input"]["image"].clone();
    // Bytes after its end are no part of a PNG.
    let bytes = [
        base64_simd::STANDARD
            .decode_to_vec(image.as_str().unwrap())
            .unwrap(),
        vec![7; 90_000],
    ]
    .concat();
    let place = workplace_with_files(&[(
        "rows.jsonl",
        json_lines([json!({"image": base64_simd::STANDARD.encode_to_string(bytes)})]),
    )]);
    let steps = json!({"field": "image", "steps": [{"decode_image": {"mode": "grey"}}, {"center_crop": {"height": 8, "width": 8}}, {"layout": "nchw"}]});
    let (code, text) = init(
        &place,
        &model("digits"),
        &["--sample", "@rows.jsonl", "--column", &steps.to_string()],
    );
    assert!(
        code == 0
            && text.len() < 4000
            && text.contains("`image` of the schema's example is an even grey image"),
        "{text}"
    );
    let schema = fs_err::read_to_string(draft(&place).join("schema.json")).unwrap();
    assert!(
        schema.len() < 4000 && schema.contains("image/png"),
        "{schema}"
    );
    // The load gate runs the schema's example where no golden one is there: it must be one that the steps take.
    let (code, text) = pack(&draft(&place), &[]);
    assert!(code == 0 && text.contains("batches of 1 and "), "{text}");
}
