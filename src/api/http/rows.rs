//! What the dialects of rows have in common: `instances` and `inputs` in, `predictions` and `outputs` out.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    api::{
        http::{
            encode::{check_rows, write_object, write_rows, write_tensor_row},
            v2,
        },
        refusal::Refusal,
    },
    decode::{
        elements::{Elements, WireTensor, write_element, write_nested},
        json_object,
        json_rows::JsonRows,
        row_origin::RowOrigin,
    },
    error::ErrorCode,
    predict::{Input, ModelOutput, Prediction},
    tensor::{Data, Tensor},
    transform::outputs::{OutputColumn, json_key},
};

/// Outputs with such names are bytes, and JSON carries them in base64: TensorFlow Serving's rule.
const BYTES_SUFFIX: &str = "_bytes";

/// A request's data in one of the forms, and how it is to be answered.
pub enum Form {
    Rows(Input),
    Columns(Input),
    /// Tensors as the Open Inference Protocol has them, in a request of another's.
    Tensors(v2::request::InferRequest),
}

/// An object's members; `known` are those that carry data, of which there must be exactly one.
pub struct Members {
    members: Vec<(String, Bytes)>,
    whole: Bytes,
}

impl Members {
    pub fn read(body: &Bytes) -> Result<Members, Refusal> {
        let members = json_object::members(body).map_err(|error| malformed(error.to_string()))?;
        Ok(Members {
            members,
            whole: body.clone(),
        })
    }

    /// Those of the object that a member is.
    pub fn inner(&self, name: &str) -> Result<Option<Members>, Refusal> {
        let read = |text: &Bytes| match json_object::members_of(text, name) {
            Ok(members) => Ok(Members {
                members,
                whole: text.clone(),
            }),
            Err(error) => Err(malformed(error.to_string())),
        };
        self.get(name).map(read).transpose()
    }

    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.members
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// The one of `known` that is there.
    pub fn only<'a>(&self, known: &[&'a str]) -> Result<Option<&'a str>, Refusal> {
        let mut given = known.iter().filter(|name| self.get(name).is_some());
        match (given.next(), given.next()) {
            (Some(one), None) => Ok(Some(one)),
            (None, _) => Ok(None),
            (Some(one), Some(other)) => Err(malformed(format!(
                "the request has both \"{one}\" and \"{other}\"; send one"
            ))),
        }
    }

    pub fn instances(&self) -> Result<Form, Refusal> {
        let text = self.get("instances").cloned().unwrap_or_default();
        if text.first() != Some(&b'[') {
            return Err(malformed("the member \"instances\" must be an array"));
        }
        Ok(Form::Rows(Input::Rows(JsonRows {
            text,
            names: None,
            frame: false,
            origin: RowOrigin::Instances,
        })))
    }

    /// Columns by name, the only input's values, or tensors.
    pub fn inputs(&self) -> Result<Form, Refusal> {
        let text = self.get("inputs").cloned().unwrap_or_default();
        let tensor = |name: String, text: Bytes| WireTensor {
            name,
            datatype: None,
            shape: None,
            elements: Elements::Json(text),
        };
        match text.first() {
            Some(b'{') => {
                let members = json_object::members_of(&text, "inputs")
                    .map_err(|error| malformed(error.to_string()))?;
                let tensors = members
                    .into_iter()
                    .map(|(name, text)| tensor(name, text))
                    .collect();
                Ok(Form::Columns(Input::Tensors(tensors)))
            }
            Some(b'[') if are_tensors(&text) => {
                v2::request::read(&self.whole, None).map(Form::Tensors)
            }
            _ => Ok(Form::Columns(Input::Tensors(vec![tensor(
                String::new(),
                text,
            )]))),
        }
    }
}

pub fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::Malformed, detail.into())
}

/// Whether these are objects that have a name, a shape and a datatype.
fn are_tensors(text: &[u8]) -> bool {
    let Ok(items) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(text) else {
        return false;
    };
    let is_tensor = |item: &&serde_json::value::RawValue| {
        let members = json_object::members(&Bytes::copy_from_slice(item.get().as_bytes()))
            .unwrap_or_default();
        ["name", "shape", "datatype"]
            .iter()
            .all(|wanted| members.iter().any(|(name, _)| name == wanted))
    };
    !items.is_empty() && items.iter().all(is_tensor)
}

/// `[...]` with an entry for each row: the value itself where there is one output, else an object.
pub fn write_predictions(prediction: &Prediction, text: &mut Vec<u8>) -> Result<(), Refusal> {
    let names = names(&prediction.output);
    write_rows(
        prediction,
        &mut |row, text| write_prediction(&prediction.output, &names, row, text),
        text,
    )
}

/// One row's answer; `names` are the outputs'.
pub fn write_prediction(output: &ModelOutput, names: &[String], row: usize, text: &mut Vec<u8>) {
    match names {
        [name] => write_value(output, 0, name, row, text),
        _ if names.iter().any(|name| name.ends_with(BYTES_SUFFIX)) => {
            text.push(b'{');
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(json_key(name).as_bytes());
                write_value(output, index, name, row, text);
            }
            text.push(b'}');
        }
        _ => write_object(output, row, text),
    }
}

/// The values of each output over all rows: by name, or by themselves where there is one output.
pub fn write_columns(prediction: &Prediction, text: &mut Vec<u8>) -> Result<(), Refusal> {
    let names = names(&prediction.output);
    let column = |index: usize, name: &str, text: &mut Vec<u8>| match &prediction.output {
        // A graph may answer otherwise than row by row.
        ModelOutput::Graph(tensors) if check_rows(prediction).is_err() => {
            if let Some((_, tensor)) = tensors.0.get(index) {
                write_nested(tensor.shape(), 0, text, &mut |at, text| {
                    write_element(tensor.data(), at, text)
                });
            }
        }
        output => {
            text.push(b'[');
            for row in 0..prediction.rows {
                if row > 0 {
                    text.push(b',');
                }
                write_value(output, index, name, row, text);
            }
            text.push(b']');
        }
    };
    if let [name] = names.as_slice() {
        column(0, name, text);
        return Ok(());
    }
    text.push(b'{');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(json_key(name).as_bytes());
        column(index, name, text);
    }
    text.push(b'}');
    Ok(())
}

/// The outputs' names in their order.
pub fn names(output: &ModelOutput) -> Vec<String> {
    match output {
        ModelOutput::Fields(outputs) => outputs.names().collect(),
        ModelOutput::Graph(tensors) => tensors.0.iter().map(|(name, _)| name.to_string()).collect(),
    }
}

fn write_value(output: &ModelOutput, index: usize, name: &str, row: usize, text: &mut Vec<u8>) {
    let bytes = name.ends_with(BYTES_SUFFIX);
    match output {
        ModelOutput::Fields(outputs) => match outputs.fields.get(index) {
            Some((_, OutputColumn::Texts { shape, values })) if bytes => {
                write_b64(shape, values, row, text)
            }
            Some((_, column)) => column.write_json(row, text),
            None => text.extend_from_slice(b"null"),
        },
        ModelOutput::Graph(tensors) => match tensors.0.get(index).map(|(_, tensor)| tensor) {
            Some(tensor) => write_tensor(tensor, bytes, row, text),
            None => text.extend_from_slice(b"null"),
        },
    }
}

fn write_tensor(tensor: &Tensor, bytes: bool, row: usize, text: &mut Vec<u8>) {
    match tensor.data() {
        Data::Bytes(values) if bytes => write_b64(
            tensor.shape().get(1..).unwrap_or_default(),
            values,
            row,
            text,
        ),
        _ => write_tensor_row(tensor, row, text),
    }
}

fn write_b64(shape: &[usize], values: &[String], row: usize, text: &mut Vec<u8>) {
    let width: usize = shape.iter().product();
    write_nested(shape, row * width, text, &mut |at, text| {
        let encoded =
            base64_simd::STANDARD.encode_to_string(values.get(at).map_or("", String::as_str));
        text.extend_from_slice(b"{\"b64\":\"");
        text.extend_from_slice(encoded.as_bytes());
        text.extend_from_slice(b"\"}");
    });
}

/// The cells of one row's answer: all values in their order, lists and objects one after the other.
pub fn cells(output: &ModelOutput, names: &[String], row: usize) -> Vec<String> {
    let mut text = Vec::new();
    write_prediction(output, names, row, &mut text);
    let mut cells = Vec::new();
    flatten(
        &serde_json::from_slice(&text).unwrap_or_default(),
        &mut cells,
    );
    cells
}

fn flatten(value: &Value, cells: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, cells)),
        Value::Object(members) => members.values().for_each(|item| flatten(item, cells)),
        Value::String(text) => cells.push(text.clone()),
        Value::Null => cells.push(String::new()),
        other => cells.push(other.to_string()),
    }
}
