use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    tensor::{
        Data, DataType, Dim, Shape, Tensor, Tensors,
        signature::{Signature, TensorSpec},
    },
    transform::{
        declaration::DeclarationError,
        postprocess::{OutputSource, Postprocess},
    },
};

const TARGETS: [Dim; 3] = [Dim::Fixed(2), Dim::Any, Dim::Fixed(3)];

fn signature(datatype: DataType) -> Signature {
    Signature {
        inputs: Vec::new(),
        outputs: vec![TensorSpec {
            name: "y".into(),
            datatype,
            shape: Shape(TARGETS.to_vec()),
        }],
    }
}

fn compile(steps: &Value, datatype: DataType) -> Result<Postprocess, DeclarationError> {
    Postprocess::compile(
        Some(&json!({"a": {"from": "y", "steps": steps}})),
        &signature(datatype),
        |_| false,
    )
}

#[test]
fn rearrangements_are_checked_against_the_graph() {
    let cases = [
        (
            json!([{"take": {"axis": 3, "index": 0}}]),
            "/a/steps/0",
            "there is no axis 3 in [2, -1, 3]",
        ),
        (
            json!([{"take": {"axis": 0, "index": 2}}]),
            "/a/steps/0/index",
            "which has the size 2 in [2, -1, 3]",
        ),
        (
            json!([{"take": {"axis": -1, "index": -4}}]),
            "/a/steps/0/index",
            "the size 3",
        ),
        (
            json!([{"transpose": {"axes": [0, 1]}}]),
            "/a/steps/0",
            "each axis of [2, -1, 3] once",
        ),
        (
            json!([{"transpose": {"axes": [1, 1, 2]}}]),
            "/a/steps/0",
            "once",
        ),
        (
            json!([{"take": {"axis": 0}}]),
            "/a/steps/0/take",
            "the member \"index\" is missing",
        ),
        (
            json!([{"take": {"axis": 2, "index": 0}}]),
            "/a/steps",
            "the first dimension must be the rows; it is [2, -1]",
        ),
        (
            json!([{"transpose": {"axes": [2, 1, 0]}}]),
            "/a/steps",
            "it is [3, -1, 2]",
        ),
        (
            json!([{"softmax": {}}, {"take": {"axis": 0, "index": 0}}]),
            "/a/steps/1",
            "must come before every other step",
        ),
        (
            json!([{"take": {"axis": 0, "index": 0}}, {"argmax": {"labels": ["a", "b"]}}]),
            "/a/steps/1/labels",
            "3 values per row",
        ),
    ];
    for (steps, pointer, detail) in cases {
        let error = compile(&steps, DataType::Fp32).map(|_| ()).unwrap_err();
        assert_eq!(error.pointer, pointer, "{steps}: {error:?}");
        assert!(error.detail.contains(detail), "{steps}: {error:?}");
    }
    let texts = json!([{"take": {"axis": 0, "index": 0}}, {"softmax": {}}]);
    assert!(
        compile(&texts, DataType::Bytes)
            .map(|_| ())
            .unwrap_err()
            .detail
            .contains("only take and transpose")
    );
}

#[test]
fn fields_are_described_as_they_are_rearranged() {
    let cases = [
        (
            json!([{"take": {"axis": 0, "index": 1}}]),
            DataType::Fp32,
            "float32[-1, 3]",
        ),
        (
            json!([{"transpose": {"axes": [1, 0, 2]}}]),
            DataType::Bool,
            "bool[-1, 2, 3]",
        ),
        (
            json!([{"transpose": {"axes": [1, 0, 2]}}, {"argmax": {}}]),
            DataType::Fp32,
            "int64[-1, 2]",
        ),
        (
            json!([{"take": {"axis": 0, "index": 0}}, {"take": {"axis": 1, "index": 0}}]),
            DataType::Bytes,
            "string[-1, 1]",
        ),
    ];
    for (steps, datatype, expected) in cases {
        let compiled = compile(&steps, datatype).unwrap();
        let described: Vec<String> = compiled
            .describe(&signature(datatype))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(described, [expected], "{steps}");
        assert_eq!(
            compiled.sources().collect::<Vec<_>>(),
            [OutputSource {
                field: "a",
                output: "y",
                rearranged: true
            }]
        );
    }
}

#[test]
fn an_answer_of_another_shape_is_refused() {
    let compiled = compile(&json!([{"take": {"axis": 0, "index": 1}}]), DataType::Fp32).unwrap();
    let answer = |shape: &[usize]| {
        let data = Data::zeros(DataType::Fp32, shape.iter().product());
        compiled.apply(
            &Tensors(vec![(
                Arc::from("y"),
                Tensor::new(shape.to_vec(), data).unwrap(),
            )]),
            4,
        )
    };
    assert!(answer(&[2, 4, 3]).is_ok());
    for shape in [&[1, 4, 3][..], &[2, 5, 3], &[]] {
        assert!(answer(shape).is_err(), "{shape:?}");
    }
}
