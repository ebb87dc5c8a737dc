//! Every preprocessing and postprocessing step gives the values that scikit-learn, NumPy, Pillow
//! and Python computed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic: that is how it fails"
)]

use std::{path::Path, sync::Arc};

use predictd::{
    decode::{DecodeError, DecodeLimits, decode_request},
    schema::{Pii, Schema},
    tensor::{
        Data, DataType, Dim, Shape, Tensor, Tensors,
        signature::{Signature, TensorSpec},
    },
    transform::{
        field_plan::FieldSpec, outputs::Outputs, postprocess::Postprocess, preprocess::Preprocess,
    },
};
use serde_json::{Value, json};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: usize::MAX,
    max_depth: 64,
    max_array_values: usize::MAX,
};

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/steps")
        .join(file);
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn spec(name: &str, document: &Value) -> TensorSpec {
    let dims = document["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dim| usize::try_from(dim.as_i64().unwrap()).map_or(Dim::Any, Dim::Fixed))
        .collect();
    TensorSpec {
        name: Arc::from(name),
        datatype: DataType::from_numpy_name(document["dtype"].as_str().unwrap()).unwrap(),
        shape: Shape(dims),
    }
}

fn schema(case: &Value) -> Schema {
    let fields = case
        .get("fields")
        .cloned()
        .unwrap_or_else(|| json!({"value": case["field"]}));
    let document = json!({"type": "object", "properties": fields, "additionalProperties": false});
    Schema::compile(&document).unwrap_or_else(|error| panic!("{}: {error:?}", case["name"]))
}

fn compile(case: &Value, schema: &Schema) -> Preprocess {
    let fields: Vec<FieldSpec> = schema
        .columns()
        .iter()
        .map(|column| FieldSpec {
            name: column.name.clone(),
            kind: column.kind,
            nullable: column.nullable,
            array_shape: column.array_shape.clone(),
            pii: column.pii != Pii::None,
        })
        .collect();
    let signature = Signature {
        inputs: vec![spec("X", &case["tensor"])],
        outputs: Vec::new(),
    };
    Preprocess::compile(case.get("inputs"), &fields, &signature)
        .unwrap_or_else(|error| panic!("{}: {error:?}", case["name"]))
}

/// The tensor, or the indices of the refused rows.
fn run(case: &Value) -> Result<Tensor, Vec<usize>> {
    let schema = schema(case);
    let preprocess = compile(case, &schema);
    let body = json!({"instances": case["instances"]}).to_string();
    let decoded =
        decode_request(&schema, body.as_bytes(), &LIMITS).map_err(|error| match error {
            DecodeError::Malformed { detail } => panic!("{}: {detail}", case["name"]),
            DecodeError::Invalid { faults, .. } => faults
                .iter()
                .map(|fault| fault.pointer.split('/').nth(2).unwrap().parse().unwrap())
                .collect::<Vec<usize>>(),
        })?;
    let groups = preprocess
        .apply(&decoded.columns)
        .map_err(|faults| faults.iter().map(|fault| fault.row).collect::<Vec<_>>())?;
    assert_eq!(
        groups.len(),
        1,
        "{}: rows of one shape share a run",
        case["name"]
    );
    Ok(groups
        .into_iter()
        .next()
        .unwrap()
        .tensors
        .0
        .into_iter()
        .next()
        .unwrap()
        .1)
}

fn elements(data: &Data) -> Vec<Value> {
    fn floats(values: impl Iterator<Item = f64>) -> Vec<Value> {
        values
            .map(|x| if x.is_nan() { Value::Null } else { json!(x) })
            .collect()
    }
    match data {
        Data::Bool(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Uint8(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Uint16(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Uint32(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Uint64(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Int8(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Int16(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Int32(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Int64(values) => values.iter().map(|x| json!(x)).collect(),
        Data::Fp16(values) => floats(values.iter().map(|x| x.to_f64())),
        Data::Bf16(values) => floats(values.iter().map(|x| x.to_f64())),
        Data::Fp32(values) => floats(values.iter().map(|x| f64::from(*x))),
        Data::Fp64(values) => floats(values.iter().copied()),
        Data::Bytes(values) => values.iter().map(|x| json!(x)).collect(),
    }
}

/// |a - b| <= tolerance * max(1, |expected|); with tolerance 0 numbers are equal.
fn close(expected: &Value, actual: &Value, tolerance: f64) -> bool {
    let number = |value: &Value| {
        value
            .as_f64()
            .or_else(|| value.as_bool().map(|x| f64::from(u8::from(x))))
    };
    match (expected, actual) {
        // Integers beyond the precision of a double are compared exactly.
        (Value::Number(a), Value::Number(b)) if a.is_i64() && b.is_i64() => {
            tolerance > 0.0 && close(&json!(a.as_f64()), &json!(b.as_f64()), tolerance) || a == b
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| close(a, b, tolerance)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b, tolerance))
        }
        _ => match (number(expected), number(actual)) {
            (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs().max(1.0),
            _ => expected == actual,
        },
    }
}

#[test]
fn preprocessing_gives_the_values_of_the_libraries() {
    let cases = cases("preprocess.json");
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        // The numbers of the fixtures are rounded to five digits if they have a tolerance.
        let tolerance = case["tolerance"]
            .as_f64()
            .map(|tolerance| {
                if tolerance > 0.0 {
                    tolerance + 1e-5
                } else {
                    0.0
                }
            })
            .unwrap();
        match (run(case), case.get("refused_rows")) {
            (Err(rows), Some(expected)) => {
                let mut rows = rows;
                rows.dedup();
                if json!(rows) != *expected {
                    wrong.push(format!("{name}: refused the rows {rows:?}, not {expected}"));
                }
            }
            (Err(rows), None) => wrong.push(format!("{name}: refused the rows {rows:?}")),
            (Ok(_), Some(expected)) => wrong.push(format!(
                "{name}: answered, but the rows {expected} must be refused"
            )),
            (Ok(tensor), None) => {
                if json!(tensor.shape()) != case["expected_shape"] {
                    wrong.push(format!(
                        "{name}: has the shape {:?}, not {}",
                        tensor.shape(),
                        case["expected_shape"]
                    ));
                    continue;
                }
                let actual = elements(tensor.data());
                let expected = case["expected"].as_array().unwrap();
                if let Some(at) =
                    (0..expected.len()).find(|at| !close(&expected[*at], &actual[*at], tolerance))
                {
                    let count = (0..expected.len())
                        .filter(|at| !close(&expected[*at], &actual[*at], tolerance))
                        .count();
                    wrong.push(format!(
                        "{name}: element {at} is {}, not {} ({count} of {} differ)",
                        actual[at],
                        expected[at],
                        expected.len()
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

fn tensor(document: &Value) -> Tensor {
    let shape: Vec<usize> = document["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dim| dim.as_u64().unwrap() as usize)
        .collect();
    let data = document["data"].as_array().unwrap();
    let number = |x: &Value| match x.as_str() {
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => x.as_f64().unwrap_or(f64::NAN),
    };
    let data = match document["dtype"].as_str().unwrap() {
        "float32" => Data::Fp32(data.iter().map(|x| number(x) as f32).collect()),
        "float64" => Data::Fp64(data.iter().map(number).collect()),
        "float16" => Data::Fp16(
            data.iter()
                .map(|x| half::f16::from_f64(number(x)))
                .collect(),
        ),
        "int64" => Data::Int64(data.iter().map(|x| x.as_i64().unwrap()).collect()),
        "int32" => Data::Int32(data.iter().map(|x| x.as_i64().unwrap() as i32).collect()),
        "uint64" => Data::Uint64(data.iter().map(|x| x.as_u64().unwrap()).collect()),
        "uint8" => Data::Uint8(data.iter().map(|x| x.as_u64().unwrap() as u8).collect()),
        "bool" => Data::Bool(data.iter().map(|x| x.as_bool().unwrap()).collect()),
        "string" => Data::Bytes(
            data.iter()
                .map(|x| x.as_str().unwrap().to_owned())
                .collect(),
        ),
        other => panic!("no such dtype: {other}"),
    };
    Tensor::new(shape, data).unwrap()
}

/// The first row whose answer differs from the expected one.
fn wrong_row(case: &Value, outputs: &Outputs) -> Option<String> {
    let name = case["name"].as_str().unwrap();
    let tolerance = case["tolerance"].as_f64().unwrap();
    for (row, expected) in case["expected"].as_array().unwrap().iter().enumerate() {
        let mut text = Vec::new();
        outputs.write_json(row, &mut text);
        let actual: Value = serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", String::from_utf8_lossy(&text)));
        assert_eq!(
            actual,
            outputs.to_value(row),
            "{name}: text and value differ"
        );
        if !close(expected, &actual, tolerance) {
            return Some(format!("{name}: row {row} is {actual}, not {expected}"));
        }
    }
    None
}

#[test]
fn postprocessing_gives_the_values_of_the_libraries() {
    let cases = cases("postprocess.json");
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let graph = case["graph_outputs"].as_object().unwrap();
        let tensors = Tensors(
            graph
                .iter()
                .map(|(name, document)| (Arc::from(name.as_str()), tensor(document)))
                .collect(),
        );
        let outputs = graph
            .iter()
            .map(|(name, document)| {
                let mut shape = document["shape"].clone();
                // The graph fixes all dimensions but the rows. If rows are not the first dimension,
                // no size is known.
                match case.get("rows") {
                    Some(_) => shape.as_array_mut().unwrap().fill(json!(-1)),
                    None => shape[0] = json!(-1),
                }
                spec(name, &json!({"dtype": document["dtype"], "shape": shape}))
            })
            .collect();
        let signature = Signature {
            inputs: Vec::new(),
            outputs,
        };
        let nullable = |field: &str| {
            case.get("nullable")
                .and_then(Value::as_array)
                .is_some_and(|fields| fields.iter().any(|name| name == field))
        };
        let compiled = match Postprocess::compile(case.get("outputs"), &signature, nullable) {
            Ok(compiled) => compiled,
            Err(error) => {
                wrong.push(format!("{name}: {error:?}"));
                continue;
            }
        };
        let rows = case
            .get("rows")
            .map_or(tensors.rows(), |rows| rows.as_u64().unwrap() as usize);
        match (compiled.apply(&tensors, rows), case.get("refused")) {
            (Err(_), Some(_)) => {}
            (Err(error), None) => wrong.push(format!("{name}: {error}")),
            (Ok(_), Some(_)) => wrong.push(format!("{name}: answered, but must be refused")),
            (Ok(outputs), None) => wrong.extend(wrong_row(case, &outputs)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
