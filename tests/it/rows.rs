//! Rows: graphs whose rows are independent, outputs without rows, and rows that a graph refuses.

use serde_json::{Value, json};

use crate::harness::{
    InProcessServer, ServerClient, declare_independent_rows, fixture_path, install_graph,
    models_with, object_schema, pack, run_predictd, write_manifest, write_unpacked_package,
};

fn numbers(count: usize) -> Value {
    json!({"type": "array", "items": {"type": "number"}, "minItems": count, "maxItems": count})
}

#[test]
fn a_graph_with_one_scale_for_all_rows_is_not_batched() {
    let models = models_with(&[]);
    let pair = json!({"input": object_schema(json!({"x": numbers(2)})), "output": object_schema(json!({"y": numbers(2)}))});
    let directory = write_unpacked_package(
        models.path(),
        "int8",
        "dynamic_quantize",
        &pair,
        &Value::Null,
    );
    fs_err::write(
        directory.join("golden.jsonl"),
        "{\"input\": {\"x\": [0.5, 1]}, \"output\": {\"y\": [0.5, 1]}, \"tolerance\": 0.1}\n"
            .repeat(3),
    )
    .unwrap();
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(
            "not batched: DynamicQuantizeLinear \"quantize\" takes one scale from the values of \
             all rows (output \"y\")"
        ),
        "{text}"
    );
    // The declaration that rows are independent is refuted with an example.
    declare_independent_rows(&directory);
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains(
            "serving.json /batching/independent_rows: says that rows are independent, but a row \
             has another answer in a batch with"
        ),
        "{text}"
    );
    fs_err::remove_file(directory.join("serving.json")).unwrap();
    write_manifest(&directory, "int8", "1.0.0");
    // The same for a bare graph: batching that the configuration requests happens only if rows are
    // independent.
    install_graph(
        models.path(),
        "bare",
        1,
        "dynamic_quantize",
        Some("max_batch_size: 8\ndynamic_batching { }\n"),
    );
    let server = InProcessServer::start(models.path(), &[]);
    for (name, version) in [("int8", "1.0.0"), ("bare", "1")] {
        let serving =
            server.get_json(&format!("/models/{name}/versions/{version}"))["serving"].clone();
        assert_eq!(
            (&serving["batched"], &serving["max_batch_size"]),
            (&json!(false), &json!(1)),
            "{serving}"
        );
        let both = json!({"instances": [{"x": [0.5, 1.0]}, {"x": [1e6, -1e6]}]});
        if name == "int8" {
            let answer: Value = server
                .predict("/models/int8/predict", &both)
                .json()
                .unwrap();
            let first = answer["predictions"][0]["y"][0].as_f64().unwrap();
            assert!((first - 0.5).abs() < 0.01, "{answer}");
        }
    }
}

#[test]
fn a_bare_graph_with_independent_rows_is_batched_unless_configured_otherwise() {
    let models = models_with(&[]);
    install_graph(models.path(), "proved", 1, "add_sub", None);
    install_graph(
        models.path(),
        "forbidden",
        1,
        "add_sub",
        Some("max_batch_size: 0\n"),
    );
    install_graph(models.path(), "coupled", 1, "batch_coupled", None);
    let server = InProcessServer::start(models.path(), &[]);
    let serving =
        |name: &str| server.get_json(&format!("/models/{name}/versions/1"))["serving"].clone();
    assert_eq!(
        (
            &serving("proved")["batched"],
            &serving("proved")["max_batch_size"]
        ),
        (&json!(true), &json!(64))
    );
    assert_eq!(
        serving("forbidden")["not_batched_because"],
        "config.pbtxt says max_batch_size: 0"
    );
    let because = serving("coupled")["not_batched_because"].clone();
    assert!(
        because
            .as_str()
            .is_some_and(|text| text.starts_with("ReduceMean") && text.ends_with("(output \"y\")")),
        "{because}"
    );
}

#[test]
fn outputs_without_rows_are_in_tensor_protocols_only() {
    let models = models_with(&[]);
    install_graph(models.path(), "targets", 1, "two_targets", None);
    install_graph(models.path(), "found", 1, "detections", None);
    let server = InProcessServer::start(models.path(), &[]);
    for (name, width, why) in [
        ("targets", 3, "its rows are along dimension 1"),
        ("found", 2, "NonZero"),
    ] {
        for count in [1usize, 2, 3] {
            let row: Vec<f32> = (1..=width).map(|x| x as f32).collect();
            let instances: Vec<Value> = vec![json!({"x": row}); count];
            for path in [
                format!("/models/{name}/predict"),
                format!("/v1/models/{name}:predict"),
            ] {
                let answer = server.predict(&path, &json!({"instances": instances}));
                assert_eq!(answer.status(), 400, "{path} with {count} rows");
                let text = answer.text().unwrap();
                assert!(
                    text.contains("can't be written row by row") && text.contains(why),
                    "{text}"
                );
            }
            let flat: Vec<f32> = row.repeat(count);
            let body = json!({"inputs": [{"name": "x", "shape": [count, width], "datatype": "FP32", "data": flat}]});
            let answer = server.predict(&format!("/v2/models/{name}/infer"), &body);
            assert_eq!(answer.status(), 200);
        }
    }
}

#[test]
fn a_package_splits_outputs_along_another_dimension() {
    let models = models_with(&[]);
    let input = object_schema(json!({"x": numbers(3)}));
    let output = object_schema(json!({"first": numbers(3), "second": numbers(3)}));
    let schema = json!({"input": input, "output": output});
    let plain = json!({"outputs": {"first": {"from": "y"}, "second": {"from": "y"}}});
    let directory =
        write_unpacked_package(models.path(), "targets", "two_targets", &schema, &plain);
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("has its rows along dimension 1")
            && text.contains("`take`")
            && text.contains("`transpose`"),
        "{text}"
    );
    let take =
        |index: usize| json!({"from": "y", "steps": [{"take": {"axis": 0, "index": index}}]});
    let good = json!({"outputs": {"first": take(0), "second": take(1)}});
    fs_err::write(directory.join("preprocessing.json"), good.to_string()).unwrap();
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 0, "{text}");
    let server = InProcessServer::start(models.path(), &[]);
    let rows: Vec<Value> = (0..5).map(|row| json!({"x": [row, 1, 2]})).collect();
    let answer: Value = server
        .predict("/models/targets/predict", &json!({"instances": rows}))
        .json()
        .unwrap();
    for row in 0..5 {
        assert_eq!(
            answer["predictions"][row]["first"][0].as_f64(),
            Some(row as f64),
            "{answer}"
        );
        assert_eq!(
            answer["predictions"][row]["second"][1].as_f64(),
            Some(-1.0),
            "{answer}"
        );
    }
}

#[test]
fn a_first_dimension_of_time_is_rejected_with_the_export_option() {
    let models = models_with(&[]);
    let steps = json!({"type": "array", "items": numbers(3)});
    let schema = json!({"input": object_schema(json!({"x": steps})), "output": object_schema(json!({"y": steps}))});
    for fixture in ["time_first", "time_unnamed"] {
        let directory =
            write_unpacked_package(models.path(), fixture, fixture, &schema, &Value::Null);
        let (code, text) = pack(&directory, &["--licence", "MIT"]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("batch_first=True"), "{text}");
    }
    let served = models.path().join("served");
    install_graph(&served, "time", 1, "time_first", None);
    let server = InProcessServer::start(&served, &[]);
    let one = json!({"instances": [{"x": [[1, 2, 3]]}]});
    let refused = server.predict("/models/time/predict", &one);
    assert_eq!(refused.status(), 400);
    assert!(refused.text().unwrap().contains("batch_first=True"));
    let body = json!({"inputs": [{"name": "x", "shape": [2, 1, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]});
    assert_eq!(server.predict("/v2/models/time/infer", &body).status(), 200);
}

/// An inference of a bare graph: status and answer.
fn infer_bare(server: &ServerClient, name: &str, inputs: Value) -> (u16, Value) {
    let answer = server.predict(
        &format!("/v2/models/{name}/infer"),
        &json!({"inputs": inputs}),
    );
    (answer.status().as_u16(), answer.json().unwrap())
}

fn fp32(shape: Value, data: Value) -> Value {
    json!([{"name": "x", "shape": shape, "datatype": "FP32", "data": data}])
}

#[test]
fn a_zipmap_is_replaced_by_its_values() {
    let models = models_with(&[]);
    install_graph(models.path(), "map", 1, "zipmap", None);
    let server = InProcessServer::start(models.path(), &[]);
    // The ZipMap is removed: its values are a tensor under the same name.
    let (status, answer) = infer_bare(&server, "map", fp32(json!([1, 2]), json!([0, 0])));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (
            &answer["outputs"][1]["name"],
            &answer["outputs"][1]["shape"]
        ),
        (&json!("output_probability"), &json!([1, 3]))
    );
}

#[test]
fn external_weights_are_read_from_the_directory_of_the_graph() {
    let models = models_with(&[]);
    install_graph(models.path(), "beside", 1, "external_map", None);
    let weights = "external_data.bin";
    fs_err::copy(
        fixture_path(weights),
        models.path().join("beside/1").join(weights),
    )
    .unwrap();
    let server = InProcessServer::start(models.path(), &[]);
    // The weights are next to the graph's file, whatever the working directory of the server.
    let (status, answer) = infer_bare(&server, "beside", fp32(json!([1, 4]), json!([1, 0, 0, 1])));
    assert_eq!(
        (status, &answer["outputs"][0]["data"]),
        (200, &json!([1.125, 1.375, 1.625])),
        "{answer}"
    );
}

#[test]
fn a_graph_without_a_rank_takes_every_shape() {
    let models = models_with(&[]);
    install_graph(models.path(), "any", 1, "unranked", None);
    let server = InProcessServer::start(models.path(), &[]);
    for (shape, data) in [
        (json!([2, 3]), json!([1, 2, 3, 4, 5, 6])),
        (json!([1, 2, 1]), json!([1, 2])),
        (json!([]), json!([4])),
    ] {
        let (status, answer) = infer_bare(&server, "any", fp32(shape.clone(), data));
        assert_eq!(
            (status, &answer["outputs"][0]["shape"]),
            (200, &shape),
            "{answer}"
        );
    }
}

#[test]
fn an_input_with_a_default_is_optional() {
    let models = models_with(&[]);
    install_graph(models.path(), "scale", 1, "optional_scale", None);
    let server = InProcessServer::start(models.path(), &[]);
    let x = || json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]});
    let scale = json!({"name": "scale", "shape": [], "datatype": "FP32", "data": [10]});
    assert_eq!(
        infer_bare(&server, "scale", json!([x()])).1["outputs"][0]["data"],
        json!([3.0, 6.0])
    );
    assert_eq!(
        infer_bare(&server, "scale", json!([x(), scale])).1["outputs"][0]["data"],
        json!([10.0, 20.0])
    );
    let listed: Vec<Value> = server.get_json("/v2/models/scale")["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| input["name"].clone())
        .collect();
    assert_eq!(listed, ["x", "scale"]);
    // The names of the graph's dimensions.
    assert_eq!(
        server.get_json("/v2/models/scale")["inputs"][0]["parameters"],
        json!({"dimensions": ["batch", ""]})
    );
}

#[test]
fn a_locale_that_does_not_exist_is_ignored() {
    let models = models_with(&[]);
    install_graph(models.path(), "lower", 1, "lowercase", None);
    let server = InProcessServer::start(models.path(), &[]);
    let answer: Value = server
        .predict(
            "/models/lower/predict",
            &json!({"text": ["\u{c4}rger IN Stra\u{df}e"]}),
        )
        .json()
        .unwrap();
    assert_eq!(
        answer["predictions"][0]["y"],
        json!(["\u{e4}rger in stra\u{df}e"]),
        "{answer}"
    );
}

#[test]
fn a_row_that_the_graph_refuses_is_the_error_of_the_caller() {
    let models = models_with(&[]);
    install_graph(models.path(), "hot", 1, "categories", None);
    let server = InProcessServer::start(models.path(), &[]);
    let refused = server.predict("/models/hot/predict", &json!({"city": ["Oslo"]}));
    assert_eq!(refused.status(), 422);
    let text = refused.text().unwrap();
    assert!(text.contains("OneHotEncoder \\\"encode\\\""), "{text}");
    assert_eq!(
        server
            .predict("/models/hot/predict", &json!({"city": ["Bern"]}))
            .status(),
        200
    );
}

#[test]
fn a_field_with_the_name_of_an_optional_input_is_passed_to_it() {
    let models = models_with(&[]);
    let pair = |fields: Value| json!({"input": object_schema(fields), "output": object_schema(json!({"y": numbers(2)}))});
    for (name, fields) in [
        ("given", json!({"x": numbers(2), "offset": numbers(2)})),
        ("left", json!({"x": numbers(2)})),
    ] {
        let (code, text) = pack(
            &write_unpacked_package(
                models.path(),
                name,
                "optional_offset",
                &pair(fields),
                &Value::Null,
            ),
            &["--licence", "MIT"],
        );
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("batched: rows are independent in the graph"),
            "{text}"
        );
    }
    let server = InProcessServer::start(models.path(), &[]);
    let answers = |name: &str, rows: Value| {
        server
            .predict(
                &format!("/models/{name}/predict"),
                &json!({"instances": rows}),
            )
            .json::<Value>()
            .unwrap()["predictions"]
            .clone()
    };
    let rows = json!([{"x": [1, 2], "offset": [10, 20]}, {"x": [3, 4], "offset": [0, 5]}]);
    assert_eq!(
        answers("given", rows),
        json!([{"y": [11.0, 22.0]}, {"y": [3.0, 9.0]}])
    );
    assert_eq!(
        answers("left", json!([{"x": [1, 2]}, {"x": [3, 4]}])),
        json!([{"y": [2.0, 4.0]}, {"y": [4.0, 6.0]}])
    );
}

#[test]
fn predict_ignores_an_unverified_declaration_of_independent_rows() {
    let models = models_with(&[]);
    let pair = json!({"input": object_schema(json!({"x": numbers(2)})), "output": object_schema(json!({"y": numbers(2)}))});
    let directory = write_unpacked_package(
        models.path(),
        "scaled",
        "dynamic_quantize",
        &pair,
        &Value::Null,
    );
    declare_independent_rows(&directory);
    // The gate would reject the package. `predict` accepts every package whose files match its
    // manifest.
    write_manifest(&directory, "scaled", "1.0.0");
    let alone = |row: &str| run_predictd(&["predict", directory.to_str().unwrap()], row, &[]).1;
    let (small, large) = ("{\"x\": [0.068, -0.04]}\n", "{\"x\": [900000, 1]}\n");
    assert_eq!(
        alone(&format!("{small}{large}")),
        format!("{}{}", alone(small), alone(large))
    );
}

#[test]
fn predict_reports_rows_that_the_graph_refuses_and_continues() {
    let models = models_with(&[]);
    for (name, personal) in [("open", false), ("personal", true)] {
        let schema = json!({"input": object_schema(json!({"city": {"type": "string", "x-pii": personal}})), "output": object_schema(json!({"y": numbers(2)}))});
        let directory =
            write_unpacked_package(models.path(), name, "categories", &schema, &Value::Null);
        assert_eq!(pack(&directory, &["--licence", "MIT"]).0, 0);
        // The input is a table or lines of JSON.
        let table = models.path().join("rows.csv");
        fs_err::write(&table, "city\nOslo\nRoma\n").unwrap();
        let rows = "{\"city\": \"Oslo\"}\n{\"city\": \"Roma\"}\n";
        for (more, input) in [(&["--input", table.to_str().unwrap()][..], ""), (&[], rows)] {
            let (code, output, error) = run_predictd(
                &[&["predict", directory.to_str().unwrap()], more].concat(),
                input,
                &[],
            );
            assert_eq!(
                (code, output.trim()),
                (1, "null\n{\"y\":[0.0,1.0]}"),
                "{error}"
            );
            assert!(
                error.contains(
                    "line 1: the model's graph refuses this input: OneHotEncoder \"encode\""
                ),
                "{error}"
            );
            assert!(!error.contains("Oslo"), "{error}");
        }
    }
}

#[test]
fn a_refused_made_up_row_does_not_reject_the_model() {
    let models = models_with(&[]);
    let schema = |city: Value| json!({"input": object_schema(json!({"city": city})), "output": object_schema(json!({"y": numbers(2)}))});
    let directory = write_unpacked_package(
        models.path(),
        "hot",
        "categories",
        &schema(json!({"type": "string"})),
        &Value::Null,
    );
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("not warmed: needs golden.jsonl or examples in the schema"),
        "{text}"
    );
    // The declaration of independent rows stands, because no example refutes it.
    declare_independent_rows(&directory);
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("not batched: no row is known that the graph answers"),
        "{text}"
    );
    fs_err::remove_file(directory.join("serving.json")).unwrap();
    // A golden example is not a made-up row.
    fs_err::write(
        directory.join("golden.jsonl"),
        "{\"input\": {\"city\": \"Oslo\"}, \"output\": {\"y\": [0, 0]}}\n",
    )
    .unwrap();
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains(
            "golden.jsonl line 1: the model's graph refuses this input: OneHotEncoder \"encode\""
        ),
        "{text}"
    );
    fs_err::remove_file(directory.join("golden.jsonl")).unwrap();
    fs_err::write(
        directory.join("schema.json"),
        schema(json!({"type": "string", "x-pii": true, "enum": ["Bern", "Roma", "Oslo"]}))
            .to_string(),
    )
    .unwrap();
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("warm-up") && !text.contains("not warmed"),
        "{text}"
    );
    // No value of a personal field is in the output.
    let server = InProcessServer::start(models.path(), &[]);
    let refused = server.predict("/models/hot/predict", &json!({"city": "Oslo"}));
    assert_eq!(refused.status(), 422);
    assert!(!refused.text().unwrap().contains("Oslo"));
}

#[test]
fn the_name_of_a_field_is_not_a_failed_allocation() {
    let models = models_with(&[]);
    let number = |field: &str| object_schema(json!({field: {"type": "number"}}));
    // A generated row contains 0, which this step refuses with a message that names the field.
    let steps = json!([{"power": {"method": "box-cox", "lambda": 0}}]);
    let column = json!({"field": "allocation", "steps": steps});
    let directory = write_unpacked_package(
        models.path(),
        "sine",
        "nan_rows",
        &json!({"input": number("allocation"), "output": number("y")}),
        &json!({"inputs": {"x": {"dtype": "float32", "columns": [column]}}}),
    );
    let (code, text) = pack(&directory, &["--licence", "MIT"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("a generated row was refused: allocation: `allocation` must be above 0"),
        "{text}"
    );
}

#[test]
fn labels_that_contradict_the_graph_are_rejected() {
    let models = models_with(&[]);
    let scores = |labels: &[&str]| {
        let properties: serde_json::Map<String, Value> = labels
            .iter()
            .map(|label| ((*label).to_owned(), json!({"type": "number"})))
            .collect();
        object_schema(Value::Object(properties))
    };
    let own = ["ham", "spam", "unsure"];
    let parts = |labels: &[&str], choices: &[&str]| {
        let output = object_schema(
            json!({"label": {"type": "string", "enum": choices}, "scores": scores(labels)}),
        );
        let outputs = json!({"label": {"from": "output_label"}, "scores": {"from": "output_probability", "steps": [{"as_map": {"labels": labels}}]}});
        (
            json!({"input": object_schema(json!({"x": numbers(2)})), "output": output}),
            json!({"outputs": outputs}),
        )
    };
    for (name, labels, choices, expected) in [
        ("right", own, &own[..], None),
        (
            "swapped",
            ["unsure", "spam", "ham"],
            &own[..],
            Some("/outputs/scores/steps/0/as_map/labels"),
        ),
        (
            "fewer",
            own,
            &own[..2],
            Some("/output/properties/label/enum"),
        ),
    ] {
        let (schema, preprocessing) = parts(&labels, choices);
        let (code, text) = pack(
            &write_unpacked_package(models.path(), name, "zipmap", &schema, &preprocessing),
            &["--licence", "MIT"],
        );
        match expected {
            None => assert_eq!(code, 0, "{name}: {text}"),
            Some(pointer) => assert!(code == 1 && text.contains(pointer), "{name}: {text}"),
        }
    }
}

#[test]
fn an_unsupported_ir_version_is_reported_with_the_export_option() {
    let directory = tempfile::tempdir().unwrap();
    let model = fixture_path("future_ir.onnx");
    let output = directory.path().join("m/1.0.0");
    let (code, _, error) = run_predictd(
        &[
            "init",
            model.to_str().unwrap(),
            "--output",
            output.to_str().unwrap(),
        ],
        "",
        &[],
    );
    assert_eq!(code, 1, "{error}");
    let (advice, own) = (
        error.find("lower it in the export"),
        error.find("Unsupported model IR version"),
    );
    assert!(
        advice.is_some() && own > advice && !error.contains("onnxruntime_src"),
        "{error}"
    );
}
