//! Tests that compare two versions and check the report for operators.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    compat::{ComparedVersion, Compatibility, CompatibilityReport, compare},
    package::Parts,
    tensor::{
        DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
};

/// A graph with the input `x` and the output `y`, each with `width` numbers per row.
fn graph(width: usize) -> Signature {
    let spec = |name: &str| TensorSpec {
        name: Arc::from(name),
        datatype: DataType::Fp32,
        shape: Shape(vec![Dim::Any, Dim::Fixed(width)]),
    };
    Signature {
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn parts(input: &Value, output: &Value, preprocessing: &Value, golden: &Value) -> Parts {
    let directory = tempfile::tempdir().unwrap();
    let write =
        |file: &str, text: String| fs_err::write(directory.path().join(file), text).unwrap();
    write("model.onnx", String::new());
    write(
        "schema.json",
        json!({"input": input, "output": output}).to_string(),
    );
    write("preprocessing.json", preprocessing.to_string());
    if !golden.is_null() {
        write(
            "golden.jsonl",
            json!({"input": golden, "output": {}}).to_string(),
        );
    }
    Parts::read(directory.path()).unwrap()
}

fn lines(report: &CompatibilityReport) -> Vec<String> {
    report.differences.iter().map(ToString::to_string).collect()
}

fn versions(
    old: &Parts,
    new: &Parts,
    exposes_graph: bool,
    overrides: &[&str],
) -> CompatibilityReport {
    let graph = graph(1);
    let side = |parts| ComparedVersion {
        parts: Some(parts),
        graph: &graph,
        labels: None,
        exposes_graph,
    };
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    compare(&side(old), &side(new), &overrides)
}

/// Compares two versions that differ only in the schema of the input field `a`.
fn inputs(old: Value, new: Value) -> CompatibilityReport {
    let package = |a: Value| {
        let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
        parts(
            &object(json!({"a": a, "z": {"type": "number"}}), &["z"]),
            &object(json!({"y": {"type": "number"}}), &["y"]),
            &steps,
            &Value::Null,
        )
    };
    versions(&package(old), &package(new), false, &[])
}

/// Compares two versions that differ only in their output schema.
fn outputs(old: Value, new: Value) -> CompatibilityReport {
    let package = |y: Value| {
        let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
        parts(
            &object(json!({"z": {"type": "number"}}), &["z"]),
            &y,
            &steps,
            &Value::Null,
        )
    };
    versions(&package(old), &package(new), false, &[])
}

fn check(report: &CompatibilityReport, compatibility: Compatibility, expected: &[&str]) {
    assert_eq!(lines(report), expected);
    assert_eq!(report.verdict, compatibility);
}

#[test]
fn input_fields_are_compared_in_both_directions() {
    let text = |rules: Value| {
        let mut schema = json!({"type": "string"});
        schema
            .as_object_mut()
            .unwrap()
            .extend(rules.as_object().unwrap().clone());
        schema
    };
    let (two, three) = (
        json!({"type": "string", "enum": ["a", "b"]}),
        json!({"type": "string", "enum": ["a", "b", "c"]}),
    );
    check(
        &inputs(two.clone(), three.clone()),
        Compatibility::ForwardOnly,
        &[
            "forward-only: input /a takes \"c\" now: after a rollback requests with that would get 422",
        ],
    );
    check(
        &inputs(three, two),
        Compatibility::Breaking,
        &[
            "breaking: input /a no longer takes \"c\": requests of today's callers with that would get 422",
        ],
    );
    check(
        &inputs(
            json!({"type": "number", "minimum": 0}),
            json!({"type": "number", "minimum": 18}),
        ),
        Compatibility::Breaking,
        &[
            "breaking: input /a must now be at least 18 (was at least 0): other requests of today's callers, for example 0, would get 422",
        ],
    );
    check(
        &inputs(
            json!({"type": ["number", "null"]}),
            json!({"type": "number"}),
        ),
        Compatibility::Breaking,
        &[
            "breaking: input /a takes number, and took number or null: other requests of today's callers, for example null, would get 422",
        ],
    );
    check(
        &inputs(json!({"type": "integer"}), json!({"type": "number"})),
        Compatibility::ForwardOnly,
        &[
            "forward-only: input /a takes number, and took integer: after a rollback other requests, for example 0.5, would get 422",
        ],
    );
    let report = inputs(
        text(json!({"maxLength": 3})),
        text(json!({"contentEncoding": "base64"})),
    );
    assert_eq!(report.verdict, Compatibility::Breaking);
    assert!(
        lines(&report)[0].starts_with("breaking: input /a must now be base64: other requests"),
        "{report:?}"
    );
}

#[test]
fn an_unproved_difference_is_breaking_until_a_person_accepts_it() {
    let package = |pattern: &str| {
        let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
        let a = json!({"type": "string", "pattern": pattern});
        parts(
            &object(json!({"a": a, "z": {"type": "number"}}), &["z"]),
            &object(json!({"y": {"type": "number"}}), &["y"]),
            &steps,
            &Value::Null,
        )
    };
    let (old, new) = (package("^[a-e]{9}$"), package("^[a-f]{9}$"));
    let line = "input /a can't be shown to fit (pattern \"^[a-f]{9}$\" against \"^[a-e]{9}$\"): \
                requests of today's callers may get 422";
    let back = "input /a can't be shown to fit (pattern \"^[a-e]{9}$\" against \"^[a-f]{9}$\"): \
                after a rollback requests of callers who use the new values may get 422";
    check(
        &versions(&old, &new, false, &[]),
        Compatibility::Breaking,
        &[
            &format!("unproved: {line}"),
            &format!("forward-only: {back}"),
        ],
    );
    for accepted in ["/a", "input:/a"] {
        // The override accepts the promotion, but not the rollback.
        let report = versions(&old, &new, false, &[accepted]);
        check(
            &report,
            Compatibility::ForwardOnly,
            &[
                &format!("unproved (accepted): {line}"),
                &format!("forward-only: {back}"),
            ],
        );
        assert!(report.unused_overrides.is_empty());
    }
    let report = versions(&old, &new, false, &["output:/a", "/b"]);
    assert_eq!(
        (report.verdict, report.unused_overrides.len()),
        (Compatibility::Breaking, 2)
    );
    // A difference that is proved to break callers can't be accepted.
    let report = versions(&package("^a"), &package("^b"), false, &["/a"]);
    assert_eq!(
        (report.verdict, report.unused_overrides),
        (Compatibility::Breaking, vec!["/a".to_owned()])
    );
}

#[test]
fn output_fields_are_compared_in_both_directions() {
    let y = |schema: Value| object(json!({ "y": schema }), &["y"]);
    let number = json!({"type": "number", "minimum": 0, "maximum": 1});
    check(
        &outputs(
            y(number.clone()),
            y(json!({"type": ["number", "null"], "minimum": 0, "maximum": 1})),
        ),
        Compatibility::Breaking,
        &[
            "breaking: output /y may be number or null now, and was number: today's callers don't expect other values, for example null",
        ],
    );
    check(
        &outputs(
            y(number.clone()),
            y(json!({"type": "number", "minimum": 0, "maximum": 2})),
        ),
        Compatibility::Breaking,
        &[
            "breaking: output /y need no longer be at most 1 (now at most 2): today's callers don't expect other values, for example 2",
        ],
    );
    check(
        &outputs(
            y(number.clone()),
            y(json!({"type": "number", "minimum": 0, "maximum": 0.5})),
        ),
        Compatibility::ForwardOnly,
        &[
            "forward-only: output /y is at most 0.5 now (was at most 1): after a rollback callers who rely on that may get other values, for example 1",
        ],
    );
    check(
        &outputs(y(number.clone()), object(json!({ "y": number }), &[])),
        Compatibility::Breaking,
        &["breaking: output /y may be missing now: today's callers expect it in every answer"],
    );
}

#[test]
fn units_and_members_that_are_ignored() {
    check(
        &inputs(
            json!({"type": "number", "x-unit": "USD"}),
            json!({"type": "number", "x-unit": "EUR"}),
        ),
        Compatibility::Breaking,
        &[
            "breaking: units /a is in EUR instead of USD: numbers of today's callers would be read in another unit",
        ],
    );
    check(
        &inputs(
            json!({"type": "number"}),
            json!({"type": "number", "x-unit": "EUR"}),
        ),
        Compatibility::Compatible,
        &["note: units /a now declares its unit, EUR"],
    );
    let open = |properties: Value| {
        let mut input = object(properties, &["z"]);
        input["additionalProperties"] = json!(true);
        let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
        parts(
            &input,
            &object(json!({"y": {"type": "number"}}), &["y"]),
            &steps,
            &Value::Null,
        )
    };
    let (old, new) = (
        open(json!({"z": {"type": "number"}, "a": {"type": "string"}})),
        open(json!({"z": {"type": "number"}})),
    );
    check(
        &versions(&old, &new, false, &[]),
        Compatibility::ForwardOnly,
        &[
            "forward-only: input /a takes anything, and took string: after a rollback other requests, for example null, would get 422",
            "note: input /a is no longer read: it may still be sent, and has no effect",
        ],
    );
}

#[test]
fn a_column_of_another_kind_can_not_be_bound() {
    // The new schema accepts every listed value, but its column can't represent all of them.
    let report = inputs(
        json!({"type": ["string", "number"], "enum": ["YQ==", 1]}),
        json!({"type": "string", "contentEncoding": "base64"}),
    );
    assert_eq!(report.verdict, Compatibility::Breaking);
    check(
        &inputs(
            json!({"type": "string", "enum": ["YQ=="]}),
            json!({"type": "string", "contentEncoding": "base64"}),
        ),
        Compatibility::Breaking,
        &[
            "breaking: input /a is decoded as strings by the old version, but the new version expects bytes from base64: today's requests can't be used by the new version",
            "forward-only: input /a need no longer be one of [\"YQ==\"]: after a rollback other requests, for example \"\", would get 422",
        ],
    );
}

#[test]
fn preprocessing_may_refuse_values_that_the_schema_accepts() {
    let package = |steps: Value| {
        let input = object(json!({"plan": {"type": ["string", "null"]}}), &["plan"]);
        let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "plan", "steps": steps}]}}});
        parts(
            &input,
            &object(json!({"y": {"type": "number"}}), &["y"]),
            &steps,
            &json!({"plan": "a"}),
        )
    };
    let encode = |unknown: &str| json!({"one_hot": {"categories": ["a"], "unknown": unknown}});
    let (old, new) = (
        package(json!([encode("zeros")])),
        package(json!([encode("error")])),
    );
    let report = versions(&old, &new, false, &[]);
    assert_eq!(report.verdict, Compatibility::Breaking, "{report:?}");
    assert!(
        lines(&report)[0].starts_with(
            "breaking: preprocessing /plan is accepted by the schema and refused by the \
             preprocessing"
        ),
        "{report:?}"
    );
    let report = versions(&new, &old, false, &[]);
    assert_eq!(report.verdict, Compatibility::ForwardOnly, "{report:?}");
    assert!(
        lines(&report)[0].ends_with("after a rollback such requests would get 422"),
        "{report:?}"
    );
}

#[test]
fn any_difference_breaks_callers_of_the_graph() {
    let package = |mean: f64| {
        let input = object(json!({"z": {"type": "number"}}), &["z"]);
        let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z", "steps": [{"standard_scale": {"mean": mean, "std": 1}}]}]}}});
        parts(
            &input,
            &object(json!({"y": {"type": "number"}}), &["y"]),
            &steps,
            &Value::Null,
        )
    };
    let (old, new) = (package(1.0), package(2.0));
    check(
        &versions(&old, &new, false, &[]),
        Compatibility::Compatible,
        &[],
    );
    check(
        &versions(&old, &new, true, &[]),
        Compatibility::Breaking,
        &[
            "breaking: preprocessing /inputs/x/columns/0 (z) has other steps: tensors that callers prepare by the old steps get another meaning",
        ],
    );
    let bare = |graph: &Signature| {
        compare(
            &ComparedVersion {
                parts: None,
                graph: &self::graph(1),
                labels: None,
                exposes_graph: true,
            },
            &ComparedVersion {
                parts: None,
                graph,
                labels: None,
                exposes_graph: true,
            },
            &[],
        )
    };
    check(&bare(&graph(1)), Compatibility::Compatible, &[]);
    let report = bare(&graph(2));
    assert_eq!(
        (report.verdict, report.differences.len()),
        (Compatibility::Breaking, 2)
    );
    assert_eq!(
        lines(&report)[0],
        "breaking: graph /x (input) is float32[-1, 2] instead of float32[-1, 1]: callers who send tensors would get an error, or misread it"
    );
}

#[test]
fn changed_classes_break_callers() {
    let package = |labels: &[&str], listed: &[&str]| {
        let input = object(json!({"z": {"type": "number"}}), &["z"]);
        let steps = json!({
            "inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}, {"field": "z"}]}},
            "outputs": {"y": {"steps": [{"argmax": {"labels": labels}}]}},
        });
        parts(
            &input,
            &object(json!({"y": {"type": "string", "enum": listed}}), &["y"]),
            &steps,
            &Value::Null,
        )
    };
    let compare = |old: &Parts, new: &Parts| {
        let graph = graph(2);
        let side = |parts| ComparedVersion {
            parts: Some(parts),
            graph: &graph,
            labels: None,
            exposes_graph: false,
        };
        crate::compat::compare(&side(old), &side(new), &[])
    };
    let old = package(&["stay", "churn"], &["stay", "churn"]);
    check(
        &compare(&old, &package(&["churn", "stay"], &["churn", "stay"])),
        Compatibility::Breaking,
        &[
            "breaking: classes /y are [churn, stay] instead of [stay, churn]: callers who read a class by its position, in a tensor or as an index, would read the wrong class",
        ],
    );
    check(
        &compare(&old, &package(&["stay", "leave"], &["stay", "leave"])),
        Compatibility::Breaking,
        &[
            "breaking: classes /y are [stay, leave] instead of [stay, churn]: today's callers don't expect leave, and would never get churn",
        ],
    );
}
