//! Imports of MLflow models, document by document.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    id::{ModelId, ModelName, Version},
    package::{
        PackageError,
        import::{
            Imported,
            mlflow::{flavor, import, name},
            mlmodel::{Flavors, MlModel, SignatureTexts},
        },
    },
    tensor::{
        DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
};

fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
    TensorSpec {
        name: Arc::from(name),
        datatype,
        shape: Shape([&[Dim::Any], row].concat()),
    }
}

fn imported(
    signature: Option<Value>,
    example: Option<Value>,
    inputs: Vec<TensorSpec>,
) -> Result<Imported, PackageError> {
    let signature = signature.map(|inputs| SignatureTexts {
        inputs: Some(inputs.to_string()),
        params: None,
    });
    let model = MlModel {
        run_id: Some("r1".to_owned()),
        mlflow_version: Some("2.14.1".to_owned()),
        signature,
        ..MlModel::default()
    };
    let id = ModelId {
        name: ModelName::parse("m").unwrap(),
        version: Version::parse("1.0.0").unwrap(),
    };
    import(
        &id,
        &model,
        example.as_ref(),
        &Signature {
            inputs,
            outputs: vec![spec("y", DataType::Fp32, &[Dim::Fixed(1)])],
        },
    )
}

fn column(kind: &str, name: &str) -> Value {
    json!({"type": kind, "name": name, "required": true})
}

#[test]
fn columns_become_fields_side_by_side() {
    let optional = json!({"type": "integer", "name": "d", "required": false});
    let signature = json!([
        column("double", "a b"),
        column("boolean", "b"),
        column("long", "c"),
        optional
    ]);
    let example = json!({"columns": ["a b", "b", "c", "more", "d"], "data": [[1.5, true, 3, "x", 4], [2.5, false, null, "x", null]]});
    let imported = imported(
        Some(signature),
        Some(example),
        vec![spec("X", DataType::Fp32, &[Dim::Fixed(4)])],
    )
    .unwrap();
    let expected = json!({"a b": {"type": ["number", "null"]}, "b": {"type": "boolean"}, "c": {"type": "integer"},
        "d": {"type": ["integer", "null"], "minimum": i32::MIN, "maximum": i32::MAX}});
    assert_eq!(imported.schema["input"]["properties"], expected);
    assert_eq!(
        imported.schema["input"]["required"],
        json!(["a b", "b", "c"])
    );
    let columns = json!([{"field": "a b"}, {"field": "b"}, {"field": "c"}, {"field": "d"}]);
    assert_eq!(
        imported.preprocessing,
        Some(json!({"inputs": {"X": {"dtype": "float32", "columns": columns}}}))
    );
    let rows = [
        json!({"a b": 1.5, "b": true, "c": 3, "d": 4}),
        json!({"a b": 2.5, "b": false, "c": null, "d": null}),
    ];
    assert_eq!(imported.examples, rows);
    assert_eq!(imported.schema["input"]["examples"], json!([rows[0]]));
    assert_eq!(
        imported.provenance.source.as_deref(),
        Some("MLflow run r1 by MLflow 2.14.1")
    );
}

#[test]
fn null_is_nan_if_both_mlflow_and_the_graph_have_it() {
    let types = |kind: &str, required: bool, datatype: DataType| {
        let signature = json!([{"type": kind, "name": "a", "required": required}]);
        let example = json!({"columns": ["a"], "data": [[null]]});
        let made = imported(
            Some(signature),
            Some(example),
            vec![spec("X", datatype, &[Dim::Fixed(1)])],
        )
        .unwrap();
        assert!(
            !made.preprocessing.unwrap().to_string().contains("steps"),
            "nothing is imputed"
        );
        (
            made.schema["input"]["properties"]["a"]["type"].clone(),
            made.schema["input"]["required"].clone(),
        )
    };
    let (number, integer, boolean) = (json!("number"), json!("integer"), json!("boolean"));
    let or_null = |kind: &Value| json!([kind, "null"]);
    for (kind, required, datatype, expected) in [
        ("double", true, DataType::Fp32, or_null(&number)),
        ("float", true, DataType::Fp64, or_null(&number)),
        ("double", true, DataType::Int64, number.clone()),
        ("double", false, DataType::Int64, or_null(&number)),
        ("long", true, DataType::Fp32, integer.clone()),
        ("integer", true, DataType::Int64, integer.clone()),
        ("long", false, DataType::Fp32, or_null(&integer)),
        ("boolean", true, DataType::Fp32, boolean),
    ] {
        let needed = if required { json!(["a"]) } else { json!([]) };
        assert_eq!(
            types(kind, required, datatype),
            (expected, needed),
            "{kind} {required} {datatype}"
        );
    }
}

#[test]
fn inputs_of_the_columns_names_need_no_steps() {
    let signature = json!([
        column("string", "plan"),
        column("datetime", "at"),
        column("binary", "raw"),
        column("float", "x")
    ]);
    let inputs = vec![
        spec("x", DataType::Fp32, &[Dim::Fixed(1)]),
        spec("plan", DataType::Bytes, &[Dim::Fixed(1)]),
    ];
    let imported = imported(Some(signature), None, inputs).unwrap();
    assert_eq!(imported.preprocessing, None);
    let properties = &imported.schema["input"]["properties"];
    assert_eq!(
        properties["at"],
        json!({"type": "string", "format": "date-time"})
    );
    assert_eq!(
        properties["raw"],
        json!({"type": "string", "contentEncoding": "base64"})
    );
}

#[test]
fn tensors_keep_the_graphs_shape() {
    let tensor = |shape: Value| json!([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": shape}}]);
    let inputs = || {
        vec![spec(
            "pixels",
            DataType::Fp32,
            &[Dim::Fixed(2), Dim::Fixed(2)],
        )]
    };
    let example = json!({"inputs": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]});
    let made = imported(Some(tensor(json!([-1, 2, 2]))), Some(example), inputs()).unwrap();
    assert_eq!(made.schema["input"]["properties"]["pixels"]["maxItems"], 2);
    assert_eq!(
        made.examples,
        [
            json!({"pixels": [[1, 2], [3, 4]]}),
            json!({"pixels": [[5, 6], [7, 8]]})
        ]
    );
    let error = imported(Some(tensor(json!([-1, 3, 2]))), None, inputs())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("MLmodel /signature/inputs: says [-1, 3, 2]"),
        "{error}"
    );
}

#[test]
fn examples_are_read_in_every_form() {
    let signature = json!([column("double", "a"), column("double", "b")]);
    let rows = [json!({"a": 1, "b": 2}), json!({"a": 3, "b": 4})];
    for example in [
        json!({"columns": ["b", "a"], "index": [0, 1], "data": [[2, 1], [4, 3]]}),
        json!({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}),
        json!({"dataframe_records": rows}),
        json!({"inputs": {"a": [1, 3], "b": [[2], [4]]}}),
        json!({"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}),
        json!([[1, 2], [3, 4]]),
        json!(rows),
    ] {
        let imported = imported(
            Some(signature.clone()),
            Some(example.clone()),
            vec![spec("X", DataType::Fp32, &[Dim::Any])],
        )
        .unwrap();
        assert_eq!(imported.examples, rows, "{example}");
    }
    let one = imported(
        Some(signature.clone()),
        Some(rows[0].clone()),
        vec![spec("X", DataType::Fp32, &[Dim::Any])],
    )
    .unwrap();
    assert_eq!(one.examples, [rows[0].clone()]);
    let wrapped = json!({"inputs": rows[0]});
    let one = imported(
        Some(signature.clone()),
        Some(wrapped),
        vec![spec("X", DataType::Fp32, &[Dim::Any])],
    )
    .unwrap();
    assert_eq!(one.examples, [rows[0].clone()]);
    for odd in [
        json!("text"),
        json!([[1, 2, 3]]),
        json!({"inputs": 3}),
        json!({"columns": ["a"], "data": [1]}),
        json!([1]),
    ] {
        let imported = imported(
            Some(signature.clone()),
            Some(odd.clone()),
            vec![spec("X", DataType::Fp32, &[Dim::Any])],
        )
        .unwrap();
        assert!(
            imported.examples.is_empty() && imported.notes[0].contains("not understood"),
            "{odd}"
        );
    }
}

#[test]
fn errors_name_the_column() {
    let two = json!([column("double", "a"), column("string", "plan")]);
    let cases = [
        (
            two.clone(),
            vec![spec("X", DataType::Fp32, &[Dim::Any])],
            "column \"plan\" is not a number, and the graph's only input X",
        ),
        (
            json!([column("double", "a"), column("long", "b")]),
            vec![spec("X", DataType::Fp32, &[Dim::Fixed(3)])],
            "has 2 columns",
        ),
        (
            two,
            vec![
                spec("a", DataType::Fp32, &[]),
                spec("c", DataType::Fp32, &[]),
            ],
            "has no column \"c\"",
        ),
    ];
    for (signature, inputs, expected) in cases {
        let error = imported(Some(signature), None, inputs)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("MLmodel /signature/inputs: ") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn a_specific_name_wins_over_a_generic_one() {
    let named = |path: &str, directory: &str| {
        let model = MlModel {
            artifact_path: Some(path.to_owned()),
            ..MlModel::default()
        };
        name(&model, directory).map(|name| name.to_string())
    };
    assert_eq!(named("model", "churn").as_deref(), Some("churn"));
    assert_eq!(
        named("runs/churn model", "model").as_deref(),
        Some("churn-model")
    );
    assert_eq!(named("model", "model").as_deref(), Some("model"));
    assert_eq!(named("", "__é"), None);
}

#[test]
fn another_flavor_is_an_error_with_advice() {
    let model = MlModel {
        flavors: Flavors {
            names: vec!["sklearn".to_owned()],
            onnx: None,
        },
        ..MlModel::default()
    };
    let error = flavor(&model).unwrap_err().to_string();
    assert!(
        error.contains("found sklearn") && error.contains("mlflow.onnx.log_model"),
        "{error}"
    );
}
