//! Rows of different lengths in one request, arrays of booleans, and outputs whose rows are not the
//! first dimension.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    InProcessServer, ServerClient, models_of_graphs, object_schema, run_predictd, write_manifest,
    write_unpacked_package,
};

/// Writes a package around a fixture's graph, with a manifest and without a run of the gate.
fn write_package(
    models: &Path,
    graph: &str,
    (input, output): (&Value, &Value),
    preprocessing: Option<&Value>,
    golden: &[Value],
) {
    let schema =
        json!({"input": object_schema(input.clone()), "output": object_schema(output.clone())});
    let directory = write_unpacked_package(
        models,
        graph,
        graph,
        &schema,
        preprocessing.unwrap_or(&Value::Null),
    );
    let lines: String = golden
        .iter()
        .map(|example| format!("{example}\n"))
        .collect();
    fs_err::write(directory.join("golden.jsonl"), lines).unwrap();
    write_manifest(&directory, graph, "1.0.0");
}

/// A package that takes token ids and a mask of any length.
fn tokens() -> TempDir {
    let list = |kind: &str| json!({"type": "array", "items": {"type": kind}});
    let input = json!({"ids": list("integer"), "mask": list("boolean")});
    let output =
        json!({"total": {"type": "integer"}, "doubled": list("integer"), "kept": list("boolean")});
    let golden: Vec<Value> = [vec![3, 4], vec![1, 2, 3], vec![7, 8]]
        .iter()
        .map(|ids| json!({"input": instance_of(ids), "output": answer_of(ids)}))
        .collect();
    let models = tempfile::tempdir().unwrap();
    write_package(models.path(), "tokens", (&input, &output), None, &golden);
    models
}

/// Every other id is masked.
fn mask_of(ids: &[i64]) -> Vec<bool> {
    (0..ids.len()).map(|at| at % 2 == 0).collect()
}

fn instance_of(ids: &[i64]) -> Value {
    json!({"ids": ids, "mask": mask_of(ids)})
}

fn answer_of(ids: &[i64]) -> Value {
    let total: i64 = ids.iter().step_by(2).sum();
    json!({"total": total, "doubled": ids.iter().map(|id| id * 2).collect::<Vec<_>>(), "kept": mask_of(ids)})
}

#[test]
fn rows_of_different_lengths_are_answered_in_their_order() {
    let models = tokens();
    let server = InProcessServer::start(models.path(), &[]);
    assert_eq!(
        server.get_json("/models/tokens/versions/1.0.0")["serving"]["batched"],
        true
    );
    let lengths = |lengths: &[usize]| {
        let rows = lengths.iter().enumerate().map(|(row, length)| {
            (0..*length as i64)
                .map(|at| row as i64 * 100 + at)
                .collect()
        });
        rows.collect::<Vec<Vec<i64>>>()
    };
    let many: Vec<usize> = (0..700).map(|row| row * 7 % 5).collect();
    for rows in [
        lengths(&[3, 5, 2]),
        lengths(&[4, 4, 4]),
        lengths(&[2, 3, 2, 3, 0, 2]),
        lengths(&[1]),
        lengths(&many),
    ] {
        let instances: Vec<Value> = rows.iter().map(|ids| instance_of(ids)).collect();
        let expected: Vec<Value> = rows.iter().map(|ids| answer_of(ids)).collect();
        let body: Value = server
            .predict("/predict", &json!({"instances": instances, "id": "mine"}))
            .json()
            .unwrap();
        assert_eq!(body["predictions"], json!(expected), "{body}");
        assert_eq!(body["id"], "mine");
        // The same rows in another protocol.
        let body: Value = server
            .predict(
                "/v1/models/tokens:predict",
                &json!({"instances": instances}),
            )
            .json()
            .unwrap();
        assert_eq!(body["predictions"], json!(expected), "{body}");
    }
    // Rows of three lengths need at least three runs.
    assert!(server.metric("predictd_batch_size_count{model=\"tokens\",version=\"1.0.0\"}") >= 3.0);

    let (code, output, error) = run_predictd(
        &[
            "predict",
            models.path().join("tokens/1.0.0").to_str().unwrap(),
        ],
        &json!({"instances": [instance_of(&[1, 2, 3]), instance_of(&[4]), instance_of(&[5, 6, 7])]})
            .to_string(),
        &[],
    );
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (code, lines),
        (
            0,
            vec![
                answer_of(&[1, 2, 3]),
                answer_of(&[4]),
                answer_of(&[5, 6, 7])
            ]
        ),
        "{error}"
    );
}

#[test]
fn an_invalid_row_is_named() {
    let models = tokens();
    let server = InProcessServer::start(models.path(), &[]);
    let refused = |instances: Value, pointer: &str, keyword: &str| {
        let response = server.predict("/predict", &json!({"instances": instances}));
        let status = response.status();
        let body: Value = response.json().unwrap();
        assert_eq!(
            (
                status.as_u16(),
                &body["errors"][0]["pointer"],
                &body["errors"][0]["keyword"]
            ),
            (422, &json!(pointer), &json!(keyword)),
            "{body}"
        );
    };
    refused(
        json!([instance_of(&[1]), {"ids": [1, 2], "mask": [true, 1]}]),
        "/instances/1/mask/1",
        "type",
    );
    // The graph requires both inputs to have one length.
    refused(
        json!([instance_of(&[1]), {"ids": [1, 2], "mask": [true, true, true]}]),
        "/instances/1",
        "items",
    );
    let alone: Value = server
        .predict("/predict", &json!({"ids": [1, 2], "mask": [true]}))
        .json()
        .unwrap();
    let detail = "the model's input `mask`: its dimension S is 1, but that of input `ids` is 2";
    assert_eq!(
        alone["errors"][0],
        json!({"pointer": "", "keyword": "items", "detail": detail})
    );
    let beyond = json!([instance_of(&[1, 2]), instance_of(&[3]), {"ids": [1e30, 2], "mask": [true, true]}, instance_of(&[3])]);
    refused(beyond, "/instances/2/ids", "dtype");
}

/// An inference of `tokens`: status and answer.
fn infer_tokens(server: &ServerClient, shape: Value, ids: Value, mask: Value) -> (u16, Value) {
    let inputs = json!([
        {"name": "ids", "datatype": "INT64", "shape": shape, "data": ids},
        {"name": "mask", "datatype": "BOOL", "shape": shape, "data": mask}
    ]);
    let response = server.predict("/v2/models/tokens/infer", &json!({"inputs": inputs}));
    (
        response.status().as_u16(),
        response.json::<Value>().unwrap(),
    )
}

#[test]
fn a_tensor_has_one_shape() {
    let models = tokens();
    let server = InProcessServer::start(models.path(), &[]);
    let (status, body) = infer_tokens(
        &server,
        json!([2, 2]),
        json!([1, 2, 3, 4]),
        json!([true, false, true, true]),
    );
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["outputs"][0],
        json!({"name": "total", "datatype": "INT64", "shape": [2, 1], "data": [1, 7]})
    );
    assert_eq!(
        body["outputs"][2],
        json!({"name": "kept", "datatype": "BOOL", "shape": [2, 2], "data": [true, false, true, true]})
    );
    let (status, body) = infer_tokens(
        &server,
        json!([2, 2]),
        json!([[1, 2], [3, 4]]),
        json!([[true, false], [true, true]]),
    );
    assert_eq!(
        (status, &body["outputs"][1]["data"]),
        (200, &json!([2, 4, 6, 8])),
        "{body}"
    );
    for (ids, mask) in [
        (json!([[1, 2], [3]]), json!([[true, true], [true]])),
        (json!([[1], [3, 2]]), json!([[true], [true, true]])),
        (
            json!([[1, 2, 3], [4, 5, 6]]),
            json!([[true, true, true], [true, true, true]]),
        ),
    ] {
        let (status, body) = infer_tokens(&server, json!([2, 2]), ids, mask);
        assert!(status == 400 || status == 422, "{body}");
        assert!(
            body["error"]
                .as_str()
                .unwrap()
                .contains("a tensor has one shape"),
            "{body}"
        );
    }
    let (status, body) = infer_tokens(&server, json!([1, 2]), json!([1, 2]), json!([1, 0]));
    assert_eq!(status, 400, "{body}");
}

#[test]
fn rows_without_elements_are_rows() {
    let models = tokens();
    let server = InProcessServer::start(models.path(), &[]);
    for data in [json!([]), json!([[], []])] {
        let (status, body) = infer_tokens(&server, json!([2, 0]), data.clone(), data);
        assert_eq!(
            (
                status,
                &body["outputs"][0]["data"],
                &body["outputs"][1]["shape"]
            ),
            (200, &json!([0, 0]), &json!([2, 0])),
            "{body}"
        );
    }
}

/// A server with the graph `sequence` as a bare graph and as a package: lists of rows of four
/// numbers.
fn sequences() -> (TempDir, InProcessServer) {
    let models = models_of_graphs(&[("bare", "sequence.onnx")]);
    let number = json!({"type": "number"});
    let list = json!({"type": "array", "items": {"type": "array", "items": number, "minItems": 4, "maxItems": 4}});
    let golden = json!({"input": {"x": [[1, 2, 3, 4]]}, "output": {"y": [[1, 2, 3, 4]]}});
    write_package(
        models.path(),
        "sequence",
        (&json!({"x": list}), &json!({"y": list})),
        None,
        &[golden],
    );
    let server = InProcessServer::start(models.path(), &[]);
    (models, server)
}

#[test]
fn lists_end_at_a_dimension_of_0() {
    let (_models, server) = sequences();
    for model in ["bare", "sequence"] {
        for (shape, data) in [
            ([2, 0, 4], json!([])),
            ([2, 0, 4], json!([[], []])),
            ([2, 1, 4], json!([[[1, 2, 3, 4]], [[5, 6, 7, 8]]])),
        ] {
            let inputs = json!([{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]);
            let response = server.predict(
                &format!("/v2/models/{model}/infer"),
                &json!({"inputs": inputs}),
            );
            let (status, body) = (response.status(), response.json::<Value>().unwrap());
            assert_eq!(
                (status.as_u16(), &body["outputs"][0]["shape"]),
                (200, &json!(shape)),
                "{model} {data}: {body}"
            );
        }
        let rows = server.predict(
            &format!("/v1/models/{model}:predict"),
            &json!({"instances": [{"x": []}, {"x": []}]}),
        );
        let (status, body) = (rows.status(), rows.json::<Value>().unwrap());
        assert_eq!(
            (
                status.as_u16(),
                body["predictions"].as_array().map(Vec::len)
            ),
            (200, Some(2)),
            "{model}: {body}"
        );
    }
}

#[test]
fn rows_of_different_lengths_may_be_empty() {
    let (_models, server) = sequences();
    let instances = json!([{"x": [[1, 2, 3, 4], [5, 6, 7, 8]]}, {"x": []}, {"x": [[0, 0, 0, 9]]}]);
    let body: Value = server
        .predict("/models/sequence/predict", &json!({"instances": instances}))
        .json()
        .unwrap();
    let y: Vec<&Value> = body["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["y"])
        .collect();
    assert_eq!(
        json!(y),
        json!([
            [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
            [],
            [[0.0, 0.0, 0.0, 9.0]]
        ]),
        "{body}"
    );
}

#[test]
fn a_request_without_rows_is_answered_by_a_bare_graph_only() {
    let (_models, server) = sequences();
    let none =
        json!({"inputs": [{"name": "x", "shape": [0, 3, 4], "datatype": "FP32", "data": []}]});
    assert_eq!(
        server
            .predict("/v2/models/bare/infer", &none)
            .json::<Value>()
            .unwrap()["outputs"][0]["shape"],
        json!([0, 3, 4])
    );
    assert_eq!(
        server.predict("/v2/models/sequence/infer", &none).status(),
        400
    );
}

#[test]
fn rows_may_be_another_dimension_of_the_answer() {
    let number = json!({"type": "array", "items": {"type": "number"}});
    let input =
        json!({"x": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}});
    let output = json!({"both": {"type": "array", "items": number}, "first": number, "worst": {"type": "string"}});
    let take = |index: i64| json!({"take": {"axis": 0, "index": index}});
    let preprocessing = json!({"outputs": {
        "both": {"from": "y", "steps": [{"transpose": {"axes": [1, 0, 2]}}]},
        "first": {"from": "y", "steps": [take(0)]},
        "worst": {"from": "y", "steps": [take(-1), {"argmax": {"labels": ["a", "b", "c"]}}]}
    }});
    let case = |x: [f64; 3], worst: &str| {
        (
            json!({"x": x}),
            json!({"both": [x, x.map(|x| -x)], "first": x, "worst": worst}),
        )
    };
    let cases = [
        case([1.0, 2.0, 3.0], "a"),
        case([5.0, 4.0, 0.5], "c"),
        case([3.0, 1.0, 2.0], "b"),
    ];
    let golden: Vec<Value> = cases
        .iter()
        .map(|(input, output)| json!({"input": input, "output": output}))
        .collect();
    let models = tempfile::tempdir().unwrap();
    write_package(
        models.path(),
        "two_targets",
        (&input, &output),
        Some(&preprocessing),
        &golden,
    );
    let server = InProcessServer::start(models.path(), &[]);
    let instances: Vec<&Value> = cases.iter().map(|(input, _)| input).collect();
    let expected: Vec<&Value> = cases.iter().map(|(_, output)| output).collect();
    let body: Value = server
        .predict("/predict", &json!({"instances": instances}))
        .json()
        .unwrap();
    assert_eq!(body["predictions"], json!(expected), "{body}");
    let metadata = server.get_json("/v2/models/two_targets");
    assert_eq!(
        metadata["outputs"][0],
        json!({"name": "both", "datatype": "FP32", "shape": [-1, 2, 3]}),
        "{metadata}"
    );
}
