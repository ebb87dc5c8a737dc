//! The functions under fuzzing, for the fuzz targets and for the test that replays the corpus.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a finding is reported by a panic"
)]

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use predictd::{
    api::http::v2::request,
    decode::{
        DecodeError, DecodeLimits, RowOptions,
        csv_table::{self, CsvTable, Header},
        decode_request, decode_rows,
        elements::{self, WireTensor},
        json_rows::{self, JsonRows},
        row_origin::RowOrigin,
    },
    graph::{
        GraphAnalysis, locale,
        model::Model,
        zipmap::{self, UnservableOutput},
    },
    package::{import::external, triton_config},
    schema::{Schema, columns::Column},
    tensor::{
        Data, DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
    transform::fields,
};

const LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 64,
    max_depth: 32,
    max_array_values: 4096,
};

/// A schema with a column of every kind.
const SCHEMA: &str = r#"{
  "type": "object", "additionalProperties": false, "required": ["age", "plan"],
  "properties": {
    "age": {"type": "integer", "minimum": 0, "maximum": 130},
    "plan": {"enum": ["basic", "plus", "max"]},
    "spend": {"type": ["number", "null"], "multipleOf": 0.01},
    "paid": {"type": "boolean"},
    "email": {"type": "string", "maxLength": 40, "x-pii": true},
    "since": {"type": "string", "format": "date"},
    "code": {"type": "string", "pattern": "^[A-Z]{2,4}$"},
    "image": {"type": "string", "contentEncoding": "base64"},
    "signal": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 4},
    "address": {"type": "object", "additionalProperties": false, "properties": {"zip": {"type": "string"}, "lift": {"type": "boolean"}}}
  }
}"#;

static COMPILED: LazyLock<Schema> =
    LazyLock::new(|| Schema::compile(&serde_json::from_str(SCHEMA).unwrap()).unwrap());

/// All work of the server on the tensors of a request before a graph runs.
fn use_tensors(tensors: &[WireTensor]) {
    for tensor in tensors {
        let rank = tensor.shape.as_ref().map_or(2, Vec::len);
        let Some(datatype) = tensor.datatype else {
            continue;
        };
        let spec = TensorSpec {
            name: tensor.name.as_str().into(),
            datatype,
            shape: Shape(vec![Dim::Any; rank]),
        };
        if let Ok(made) = tensor.to_tensor(&spec) {
            assert_eq!(made.datatype(), datatype);
            assert_eq!(made.shape().iter().product::<usize>(), made.data().len());
            let again = elements::from_raw(
                datatype,
                &elements::to_raw(made.data().clone()),
                made.data().len(),
            )
            .unwrap();
            // NaN is not equal to itself.
            if !datatype.is_float() {
                assert_eq!(&again, made.data());
            }
        }
    }
    if let Ok(columns) = fields::decode(&COMPILED, tensors, &LIMITS) {
        assert!(columns.rows > 0 && columns.rows <= LIMITS.max_instances);
    }
}

/// A JSON request of the Open Inference Protocol.
pub fn oip_json(data: &[u8]) {
    if let Ok(request) = request::read(&Bytes::copy_from_slice(data), None) {
        use_tensors(&request.inputs);
    }
}

/// Two bytes of header length, then a body of JSON and binary data.
pub fn oip_binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let length = usize::from(u16::from_le_bytes(*length));
    if let Ok(request) = request::read(&body, Some(length)) {
        let raw: usize = request
            .inputs
            .iter()
            .map(|input| match &input.elements {
                elements::Elements::Raw(bytes) => bytes.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(raw, body.len() - length);
        use_tensors(&request.inputs);
    }
}

/// The elements of a BYTES tensor.
pub fn bytes_tensor(data: &[u8]) {
    let Some((&count, bytes)) = data.split_first() else {
        return;
    };
    if let Ok(texts) = elements::split_texts(bytes, usize::from(count)) {
        assert_eq!(texts.len(), usize::from(count));
        let owned: Result<Vec<String>, _> = texts
            .iter()
            .map(|text| String::from_utf8(text.to_vec()))
            .collect();
        if let Ok(owned) = owned {
            assert_eq!(elements::to_raw(Data::Bytes(owned)), bytes);
        }
    }
    let _ = elements::from_raw(
        DataType::Bytes,
        &Bytes::copy_from_slice(bytes),
        usize::from(count),
    );
}

/// A model's `config.pbtxt`.
pub fn config_pbtxt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(error) = triton_config::parse(text) {
        assert!(
            error.line >= 1 && error.line <= text.lines().count().max(1) + 1,
            "{error}"
        );
    }
}

/// A model's file, read without the runtime.
pub fn onnx_file(data: &[u8]) {
    let _ = GraphAnalysis::read(data, &[]);
    let _ = external::files(data);
    let _ = locale::replaced(data);
    if let Ok(model) = Model::read(data) {
        model
            .graph
            .outputs
            .iter()
            .for_each(|output| drop(UnservableOutput::of(&model, output.name)));
    }
    // An edited model must be a valid model.
    if let Ok(Some(edited)) = zipmap::cut(data) {
        assert!(Model::read(&edited.model).is_ok());
    }
}

/// Instances, rows and tables against a schema. The first byte chooses the form.
pub fn schema_decoder(data: &[u8]) {
    let Some((form, body)) = data.split_first() else {
        return;
    };
    let text = Bytes::copy_from_slice(body);
    let outcome = match form % 4 {
        0 => decode_request(&COMPILED, body, &LIMITS).map(|decoded| decoded.columns),
        1 => decode_rows(&COMPILED, body, RowOptions::default(), &LIMITS),
        2 => decode_rows(
            &COMPILED,
            body,
            RowOptions {
                names: None,
                ignore_unknown: true,
                null_is_missing: true,
                origin: None,
            },
            &LIMITS,
        ),
        _ => {
            let Ok(rows) = csv_table::to_rows(
                &CsvTable {
                    text,
                    header: Header::Guess,
                },
                COMPILED.columns(),
            ) else {
                return;
            };
            let form = RowOptions {
                names: rows.names.as_deref(),
                ignore_unknown: true,
                null_is_missing: true,
                origin: None,
            };
            decode_rows(&COMPILED, &rows.text, form, &LIMITS)
        }
    };
    match outcome {
        Ok(columns) => {
            assert!(columns.rows > 0 && columns.rows <= LIMITS.max_instances);
            assert_eq!(columns.columns.len(), COMPILED.columns().len());
            let lengths: BTreeSet<usize> = columns.columns.iter().map(Column::len).collect();
            assert_eq!(lengths, BTreeSet::from([columns.rows]));
        }
        Err(DecodeError::Invalid { faults, .. }) => assert!(!faults.is_empty()),
        Err(DecodeError::Malformed { detail }) => assert!(!detail.to_string().is_empty()),
    }
    rows_for_a_graph(form % 2 == 0, body);
}

/// Rows as the inputs of a graph without a schema.
fn rows_for_a_graph(frame: bool, body: &[u8]) {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: Shape(vec![Dim::Any, Dim::Any]),
    };
    let graph = Signature {
        inputs: vec![spec("age"), spec("plan")],
        outputs: Vec::new(),
    };
    let text = Bytes::copy_from_slice(body);
    if let Ok(tensors) = json_rows::to_tensors(
        JsonRows {
            text,
            names: None,
            frame,
            origin: RowOrigin::default(),
        },
        &graph,
    ) {
        for (tensor, spec) in tensors.iter().zip(&graph.inputs) {
            let _ = tensor.to_tensor(spec);
        }
    }
}

pub type Target = fn(&[u8]);

/// The targets by the name of their corpus directory.
pub const TARGETS: [(&str, Target); 6] = [
    ("oip_json", oip_json),
    ("oip_binary", oip_binary),
    ("bytes_tensor", bytes_tensor),
    ("config_pbtxt", config_pbtxt),
    ("schema_decoder", schema_decoder),
    ("onnx_file", onnx_file),
];
