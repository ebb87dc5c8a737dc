//! Drafts of schemas and preprocessing, from graphs and samples.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    package::draft::{Draft, DraftEncoding, DraftSources, FieldHint, Preparation, draft},
    tensor::{
        DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
    transform::image,
};

fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
    TensorSpec {
        name: Arc::from(name),
        datatype,
        shape: Shape([&[Dim::Any], row].concat()),
    }
}

fn signature_with(inputs: Vec<TensorSpec>) -> Signature {
    Signature {
        inputs,
        outputs: vec![spec("y", DataType::Fp32, &[Dim::Fixed(1)])],
    }
}

fn of(inputs: Vec<TensorSpec>, rows: &[Value]) -> Result<Draft, String> {
    draft(
        &signature_with(inputs),
        &DraftSources {
            rows,
            ..DraftSources::default()
        },
    )
    .map_err(|error| error.to_string())
}

fn with(
    inputs: Vec<TensorSpec>,
    rows: &[Value],
    hints: &[(&str, Preparation)],
) -> Result<Draft, String> {
    let hints: Vec<FieldHint> = hints
        .iter()
        .map(|(field, preparation)| FieldHint {
            field: (*field).to_owned(),
            preparation: preparation.clone(),
        })
        .collect();
    draft(
        &signature_with(inputs),
        &DraftSources {
            rows,
            hints: &hints,
            ..DraftSources::default()
        },
    )
    .map_err(|error| error.to_string())
}

fn row_of(width: usize) -> Vec<TensorSpec> {
    vec![spec("X", DataType::Fp32, &[Dim::Fixed(width)])]
}

fn property<'a>(drafted: &'a Draft, field: &str) -> &'a Value {
    &drafted.schema["input"]["properties"][field]
}

fn rows() -> Vec<Value> {
    vec![
        json!({"age": 41, "plan": "plus", "spend": 3.5}),
        json!({"age": null, "plan": "basic", "spend": 1.5}),
        json!({"age": 30, "plan": "basic", "spend": 2}),
    ]
}

#[test]
fn numbers_stay_unchanged_and_null_becomes_nan() {
    let drafted = of(
        row_of(3),
        &[
            json!({"a": 1, "b": true, "c": 2.5}),
            json!({"a": null, "b": null}),
            json!({"a": 3, "b": false, "c": 4}),
        ],
    )
    .unwrap();
    assert_eq!(
        drafted.preprocessing.as_ref().unwrap()["inputs"]["X"]["columns"],
        json!([{"field": "a"}, {"field": "b"}, {"field": "c"}])
    );
    assert_eq!(
        property(&drafted, "a")["type"],
        json!(["number", "null"]),
        "whole in the sample, a float in the graph"
    );
    assert_eq!(property(&drafted, "b")["type"], json!(["boolean", "null"]));
    assert_eq!(property(&drafted, "c")["type"], json!(["number", "null"]));
    assert_eq!(
        drafted.schema["input"]["required"],
        json!(["a", "b"]),
        "a field that some rows lack is optional"
    );
    assert_eq!(
        drafted.schema["output"]["properties"]["y"],
        json!({"type": "number"})
    );
}

#[test]
fn types_follow_the_graph() {
    let one = |datatype| vec![spec("n", datatype, &[Dim::Fixed(1)])];
    let kind = |datatype, value: Value| {
        of(one(datatype), &[json!({"n": value})])
            .map(|drafted| property(&drafted, "n")["type"].clone())
    };
    assert_eq!(kind(DataType::Fp64, json!(1)), Ok(json!("number")));
    assert_eq!(kind(DataType::Int64, json!(1)), Ok(json!("integer")));
    assert_eq!(kind(DataType::Int64, json!(true)), Ok(json!("boolean")));
    assert_eq!(kind(DataType::Bool, json!(1)), Ok(json!("integer")));
    for (datatype, value, expected) in [
        (
            DataType::Int64,
            json!(1.5),
            "has 1.5; the graph's input n takes int64",
        ),
        (
            DataType::Bool,
            json!(2),
            "has 2; the graph's input n takes bool",
        ),
        (DataType::Bytes, json!(2), "values that are not strings"),
        (DataType::Int64, json!({}), "values of several types"),
    ] {
        let error = kind(datatype, value).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn texts_for_numbers_are_a_question() {
    let error = of(row_of(4), &rows()).unwrap_err();
    for expected in [
        "`plan` has texts such as \"plus\", and the graph's input X takes float32",
        "  {\"field\": \"plan\", \"steps\": [{\"one_hot\": {\"categories\": [\"basic\", \"plus\"], \"unknown\": \"error\"}}]}\n",
        "  {\"field\": \"plan\", \"steps\": [{\"ordinal\": {\"categories\": [\"basic\", \"plus\"], \"unknown\": \"error\"}}]}\n",
        "\"target_encode\"",
        "X takes 4 numbers per row; the sample's 3 fields give 3, or 4 with one-hot columns for all texts.",
        "The categories are those of the SAMPLE",
        "--column 'LINE'",
        "--encode plan=one_hot|ordinal",
        "--sample ROWS",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!error.contains("date_parts"), "{error}");
    let dates = of(
        row_of(1),
        &[
            json!({"day": "2024-01-31"}),
            json!({"day": "2024-02-29T10:00:00Z"}),
        ],
    )
    .unwrap_err();
    assert!(
        dates.contains("texts that look like dates such as \"2024-01-31\"")
            && dates.contains("date_parts"),
        "{dates}"
    );
    let many: Vec<Value> = (0..60)
        .map(|index| json!({"id": format!("u{index:02}")}))
        .collect();
    let many = of(row_of(1), &many).unwrap_err();
    assert!(
        many.contains("\"u02\", <and the others: the sample alone has 60>]")
            && !many.contains("--encode id"),
        "{many}"
    );
    let own = of(
        vec![spec("plan", DataType::Int64, &[Dim::Fixed(1)])],
        &[json!({"plan": "a"})],
    )
    .unwrap_err();
    assert!(own.contains("the graph's input plan takes int64"), "{own}");
}

#[test]
fn null_where_the_graph_has_none_is_a_question() {
    let nullable = [json!({"n": 1}), json!({"n": null})];
    for datatype in [DataType::Int64, DataType::Bool] {
        let inputs = || vec![spec("n", datatype, &[Dim::Fixed(1)])];
        let error = of(inputs(), &nullable).unwrap_err();
        assert!(
            error.contains("`n` is null in some rows")
                && error.contains("[{\"impute\": {\"value\": <value from training>}}]"),
            "{error}"
        );
        let steps = Preparation::Steps(vec![json!({"impute": {"value": 0}})]);
        let drafted = with(inputs(), &nullable, &[("n", steps)]).unwrap();
        assert_eq!(
            drafted.preprocessing.unwrap()["inputs"]["n"]["steps"],
            json!([{"impute": {"value": 0}}])
        );
    }
    let text = of(
        vec![spec("t", DataType::Bytes, &[])],
        &[json!({"t": "a"}), json!({})],
    )
    .unwrap_err();
    assert!(text.contains("`t` is missing in some rows"), "{text}");
}

#[test]
fn hints_are_used_and_guesses_are_marked() {
    let steps = json!([{"one_hot": {"categories": ["basic", "plus", "pro"], "unknown": "zeros"}}]);
    let drafted = with(
        row_of(5),
        &rows(),
        &[(
            "plan",
            Preparation::Steps(steps.as_array().unwrap().clone()),
        )],
    )
    .unwrap();
    assert_eq!(
        drafted.preprocessing.unwrap()["inputs"]["X"]["columns"][1],
        json!({"field": "plan", "steps": steps})
    );

    let drafted = with(
        row_of(4),
        &rows(),
        &[("plan", Preparation::Encode(DraftEncoding::OneHot))],
    )
    .unwrap();
    let column = &drafted.preprocessing.unwrap()["inputs"]["X"]["columns"][1];
    assert_eq!(
        column["steps"],
        json!([{"one_hot": {"categories": ["basic", "plus"], "unknown": "error"}}])
    );
    assert!(
        column["x-guess"]
            .as_str()
            .unwrap()
            .contains("those of the sample"),
        "{column}"
    );
}

#[test]
fn an_encoding_takes_the_values_of_the_sample() {
    let numbers = [
        json!({"zip": 1000, "plan": "a"}),
        json!({"zip": 900, "plan": null}),
    ];
    let given = [
        ("zip", Preparation::Encode(DraftEncoding::OneHot)),
        ("plan", Preparation::Encode(DraftEncoding::Ordinal)),
    ];
    let columns = with(row_of(3), &numbers, &given)
        .unwrap()
        .preprocessing
        .unwrap()["inputs"]["X"]["columns"]
        .clone();
    assert_eq!(
        columns[0]["steps"][0]["one_hot"]["categories"],
        json!([900, 1000])
    );
    assert_eq!(
        columns[1]["steps"][0]["ordinal"]["unknown"],
        json!(-1),
        "null is a value that the sample shows"
    );

    let error = with(
        row_of(7),
        &rows(),
        &[("plan", Preparation::Encode(DraftEncoding::OneHot))],
    )
    .unwrap_err();
    assert!(
        error.contains(
            "takes 7 numbers per row; the sample's 3 fields give 4 (plan 2, the others 1)"
        ),
        "{error}"
    );
    assert!(
        with(row_of(3), &rows(), &given)
            .unwrap_err()
            .contains("no field \"zip\"")
    );
}

#[test]
fn several_columns_may_come_from_one_field() {
    // Each `--column` adds one column of the tensor.
    let lines = [
        json!({"missing_indicator": {}}),
        json!({"impute": {"value": 40}}),
    ]
    .map(|step| ("age", Preparation::Steps(vec![step])));
    let known: Vec<Value> = rows()
        .into_iter()
        .map(|row| json!({"age": row["age"]}))
        .collect();
    let columns = json!([{"field": "age", "steps": [{"missing_indicator": {}}]}, {"field": "age", "steps": [{"impute": {"value": 40}}]}]);
    assert_eq!(
        with(row_of(2), &known, &lines)
            .unwrap()
            .preprocessing
            .unwrap()["inputs"]["X"]["columns"],
        columns
    );
    let own = with(
        vec![spec("age", DataType::Int64, &[Dim::Fixed(2)])],
        &known,
        &lines,
    )
    .unwrap();
    assert_eq!(
        own.preprocessing.unwrap()["inputs"]["age"]["columns"],
        columns
    );
    let both = [
        lines[0].clone(),
        ("age", Preparation::Encode(DraftEncoding::OneHot)),
    ];
    assert!(
        with(row_of(2), &known, &both)
            .unwrap_err()
            .contains("an encoding and more")
    );
}

#[test]
fn inputs_of_the_fields_names_need_no_steps() {
    let inputs = vec![
        spec("age", DataType::Fp64, &[Dim::Fixed(1)]),
        spec("plan", DataType::Bytes, &[Dim::Fixed(1)]),
        spec("spend", DataType::Fp32, &[]),
    ];
    assert_eq!(of(inputs.clone(), &rows()).unwrap().preprocessing, None);
    let drafted = of(inputs[..2].to_vec(), &rows()).unwrap();
    assert!(
        drafted.notes[0].contains("no input of the graph takes `spend`"),
        "{:?}",
        drafted.notes
    );
    assert!(
        of(inputs, &[json!({"age": 1})])
            .unwrap_err()
            .contains("the graph has the inputs age, plan, spend")
    );
    let wide = of(
        vec![spec("x", DataType::Fp32, &[Dim::Fixed(3)])],
        &[json!({"x": 1})],
    )
    .unwrap_err();
    assert!(wide.contains("`x` gives one value per row"), "{wide}");
}

#[test]
fn lists_are_as_long_as_the_graph_fixes() {
    let drafted = |datatype, row: &[Dim], value: Value| {
        of(vec![spec("x", datatype, row)], &[json!({"x": value})])
    };
    let schema = |datatype, row: &[Dim], value: Value| {
        drafted(datatype, row, value).map(|drafted| property(&drafted, "x").clone())
    };
    assert_eq!(
        schema(DataType::Int64, &[Dim::Any], json!([1, 2])),
        Ok(json!({"type": "array", "items": {"type": "integer"}}))
    );
    let booleans =
        json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}});
    assert_eq!(
        schema(DataType::Bool, &[Dim::Fixed(2)], json!([true, false])),
        Ok(booleans)
    );
    let floats = json!({"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}});
    assert_eq!(
        schema(DataType::Fp32, &[Dim::Any, Dim::Fixed(2)], json!([[1, 2]])),
        Ok(floats)
    );
    for (row, value, expected) in [
        (
            &[Dim::Fixed(3)][..],
            json!([1, 2]),
            "has a row of the shape [2]",
        ),
        (&[Dim::Any][..], json!([1.5]), "has 1.5"),
        (
            &[Dim::Any][..],
            json!([1, null]),
            "contains null inside a list",
        ),
        (&[Dim::Any][..], json!(["a"]), "neither always of numbers"),
        (
            &[Dim::Fixed(2), Dim::Fixed(2)][..],
            json!([1, 2, 3, 4]),
            "{\"reshape\":{\"shape\":[2,2]}}",
        ),
    ] {
        let error = drafted(DataType::Int64, row, value).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let flat = [json!({"x": [1, 2, 3, 4]})];
    let inputs = vec![spec("x", DataType::Fp32, &[Dim::Fixed(2), Dim::Fixed(2)])];
    let reshaped = with(
        inputs,
        &flat,
        &[(
            "x",
            Preparation::Steps(vec![json!({"reshape": {"shape": [2, 2]}})]),
        )],
    )
    .unwrap();
    assert_eq!(property(&reshaped, "x")["maxItems"], 4);
    let unnamed = of(row_of(2), &[json!({"features": [1, 2]})]).unwrap();
    assert_eq!(
        unnamed.preprocessing.unwrap()["inputs"]["X"],
        json!({"dtype": "float32", "field": "features"})
    );
}

#[test]
fn image_steps_are_a_guess() {
    let inputs = || {
        vec![spec(
            "image",
            DataType::Fp32,
            &[Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)],
        )]
    };
    let photo = [json!({"photo": "iVBORw0KGgoAAAA"})];
    let drafted = of(inputs(), &photo).unwrap();
    assert_eq!(property(&drafted, "photo")["contentMediaType"], "image/png");
    let section = drafted.preprocessing.unwrap()["inputs"]["image"].clone();
    assert_eq!(
        section["steps"][0],
        json!({"decode_image": {"mode": "rgb"}})
    );
    assert!(section["x-guess"].is_string());
    let steps = vec![
        json!({"decode_image": {"mode": "rgb"}}),
        json!({"layout": "nchw"}),
    ];
    let said = with(
        inputs(),
        &photo,
        &[("photo", Preparation::Steps(steps.clone()))],
    )
    .unwrap();
    assert_eq!(
        said.preprocessing.unwrap()["inputs"]["image"],
        json!({"dtype": "float32", "field": "photo", "steps": steps})
    );
}

#[test]
fn the_media_type_of_an_image_comes_from_its_bytes() {
    let inputs = || {
        vec![spec(
            "photo",
            DataType::Fp32,
            &[Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)],
        )]
    };
    let [png, jpeg] =
        ["image/png", "image/jpeg"].map(|media_type| image::grey_image(media_type, 4, 4).unwrap());
    for (photos, expected) in [
        (vec![&png], json!("image/png")),
        (vec![&jpeg, &jpeg], json!("image/jpeg")),
        // No single media type describes both images.
        (vec![&png, &jpeg], Value::Null),
    ] {
        let rows: Vec<Value> = photos.iter().map(|photo| json!({"photo": photo})).collect();
        let property = property(&of(inputs(), &rows).unwrap(), "photo").clone();
        assert_eq!(
            (&property["contentMediaType"], &property["contentEncoding"]),
            (&expected, &json!("base64"))
        );
    }
    for (begin, media_type) in [
        (&b"GIF89a\x01\0\x01\0"[..], "image/gif"),
        (b"RIFF\x1a\0\0\0WEBPVP8 ", "image/webp"),
    ] {
        let error = of(
            inputs(),
            &[json!({"photo": base64_simd::STANDARD.encode_to_string(begin)})],
        )
        .unwrap_err();
        assert!(
            error.contains(&format!("field \"photo\" of the sample holds {media_type}")),
            "{error}"
        );
    }
}

#[test]
fn a_long_image_is_a_short_example_of_the_same_size() {
    let inputs = vec![spec(
        "photo",
        DataType::Fp32,
        &[Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)],
    )];
    // Bytes after the end of a PNG are ignored.
    let mut bytes = base64_simd::STANDARD
        .decode_to_vec(image::grey_image("image/png", 300, 200).unwrap())
        .unwrap();
    bytes.extend([7; 90_000]);
    let long = base64_simd::STANDARD.encode_to_string(&bytes);
    let drafted = of(inputs.clone(), &[json!({"photo": long})]).unwrap();
    let example = drafted.schema["input"]["examples"][0]["photo"]
        .as_str()
        .unwrap();
    let short = base64_simd::STANDARD.decode_to_vec(example).unwrap();
    assert!(example.len() < 2048, "{}", example.len());
    assert_eq!(
        (image::media_type(&short), image::size(&short)),
        (Some("image/png"), Some((300, 200)))
    );
    assert!(drafted.schema.to_string().len() < 4096);
    assert!(
        drafted
            .notes
            .iter()
            .any(|note| note.contains("`photo` of the schema's example")),
        "{:?}",
        drafted.notes
    );
    let own = image::grey_image("image/png", 8, 8).unwrap();
    let kept = of(inputs, &[json!({"photo": own})]).unwrap();
    assert_eq!(kept.schema["input"]["examples"][0]["photo"], json!(own));
}

#[test]
fn without_rows_the_graph_gives_the_fields() {
    let signature = Signature {
        inputs: vec![spec("pixels", DataType::Fp32, &[Dim::Fixed(8), Dim::Any])],
        outputs: vec![spec("label", DataType::Int64, &[])],
    };
    let drafted = draft(&signature, &DraftSources::default()).unwrap();
    let expected = json!({"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "array", "items": {"type": "number"}}});
    assert_eq!(drafted.schema["input"]["properties"]["pixels"], expected);
    assert_eq!(
        drafted.schema["output"]["properties"]["label"],
        json!({"type": "integer"})
    );
}

#[test]
fn an_answer_of_free_width_may_be_one_value() {
    let signature = Signature {
        inputs: vec![],
        outputs: vec![spec("y", DataType::Fp32, &[Dim::Any])],
    };
    let expected = json!({"type": ["array", "number"], "items": {"type": "number"}});
    assert_eq!(
        draft(&signature, &DraftSources::default()).unwrap().schema["output"]["properties"]["y"],
        expected
    );
}

#[test]
fn labels_of_the_graph_are_no_guess() {
    let outputs = vec![
        spec("label", DataType::Int64, &[]),
        spec("p", DataType::Fp32, &[Dim::Fixed(2)]),
    ];
    let signature = Signature {
        inputs: vec![],
        outputs,
    };
    let labels = [
        ("label".to_owned(), vec![json!(3), json!(7)]),
        ("p".to_owned(), vec![json!(3), json!(7)]),
    ];
    // Callers still get a map for an output whose map was cut off.
    let drafted = draft(
        &signature,
        &DraftSources {
            maps: &labels[1..],
            labels: &labels,
            ..DraftSources::default()
        },
    )
    .unwrap();
    let section = json!({"label": {"from": "label"}, "p": {"from": "p", "steps": [{"as_map": {"labels": [3, 7]}}]}});
    assert_eq!(
        drafted.preprocessing,
        Some(json!({"outputs": section.clone()}))
    );
    let map = json!({"type": "object", "properties": {"3": {"type": "number"}, "7": {"type": "number"}}, "required": ["3", "7"], "additionalProperties": false});
    assert_eq!(
        drafted.schema["output"]["properties"],
        json!({"label": {"type": "integer"}, "p": map.clone()})
    );
    // A list stays a list, and its description names the labels of its values.
    let drafted = draft(
        &signature,
        &DraftSources {
            labels: &labels,
            ..DraftSources::default()
        },
    )
    .unwrap();
    assert_eq!(drafted.preprocessing, None);
    assert_eq!(
        drafted.schema["output"]["properties"]["p"]["description"],
        "a value for each of 3, 7, in this order"
    );
    let hint = format!("\"outputs\": {section}, and into schema.json /output/properties/p: {map}");
    assert!(
        drafted.notes.iter().any(|note| note.contains(&hint)),
        "{:?}",
        drafted.notes
    );
    let plain = vec![spec("p", DataType::Fp32, &[Dim::Fixed(2)])];
    assert!(
        draft(
            &Signature {
                inputs: vec![],
                outputs: plain
            },
            &DraftSources::default()
        )
        .unwrap()
        .notes
        .iter()
        .any(|note| note.contains("`as_map`"))
    );
}

#[test]
fn arrays_of_texts_are_refused_and_other_arrays_are_drafted() {
    let drafted = |datatype, row: &[Dim]| {
        draft(
            &signature_with(vec![spec("x", datatype, row)]),
            &DraftSources::default(),
        )
    };
    let expected =
        json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}});
    assert_eq!(
        *property(&drafted(DataType::Bool, &[Dim::Fixed(2)]).unwrap(), "x"),
        expected
    );
    assert!(
        drafted(DataType::Bytes, &[Dim::Fixed(2)])
            .unwrap_err()
            .to_string()
            .contains("one string per row")
    );
    assert_eq!(
        *property(&drafted(DataType::Bytes, &[Dim::Any]).unwrap(), "x"),
        json!({"type": "string"})
    );
}
