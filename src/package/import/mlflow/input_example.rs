//! Reads the rows of MLflow's input example.

use serde_json::{Map, Value};

use crate::{package::import::mlmodel::MlModelColumn, tensor::signature::Signature};

/// Maximum number of examples. More examples would make every load slow and prove nothing more.
const MAX_EXAMPLES: usize = 100;

/// The rows of an example. MLflow writes examples in several forms, and its server takes more of
/// them. The result is empty if the example has none of these forms.
pub(super) fn rows(
    example: &Value,
    columns: Option<&[(String, MlModelColumn)]>,
    signature: &Signature,
) -> Vec<Value> {
    let fields: Vec<String> = match columns {
        Some(columns) => columns.iter().map(|(name, _)| name.clone()).collect(),
        None => signature
            .inputs
            .iter()
            .map(|spec| spec.name.to_string())
            .collect(),
    };
    // Without columns, a row of a graph with one input is the value of that input.
    let only_field = fields
        .first()
        .filter(|_| columns.is_none() && fields.len() == 1)
        .map(String::as_str);
    let mut rows = read_rows(example, &fields, only_field).unwrap_or_default();
    // Any rows would do, because MLflow's example has no order.
    rows.truncate(MAX_EXAMPLES);
    for row in &mut rows {
        // MLflow ignores columns that the signature does not name.
        row.retain(|name, _| fields.contains(name));
    }
    rows.into_iter()
        .filter(|row| !row.is_empty())
        .map(Value::Object)
        .collect()
}

type Row = Map<String, Value>;

/// `only_field` is the field of a whole row, if the rows have no columns.
fn read_rows(example: &Value, fields: &[String], only_field: Option<&str>) -> Option<Vec<Row>> {
    let row = |value: &Value| -> Option<Row> {
        match (value, only_field) {
            (Value::Object(members), _) => Some(members.clone()),
            (value, Some(field)) => Some(Map::from_iter([(field.to_owned(), value.clone())])),
            // A row without names has its values in the order of the signature.
            (Value::Array(values), None) if values.len() == fields.len() => {
                Some(fields.iter().cloned().zip(values.iter().cloned()).collect())
            }
            _ => None,
        }
    };
    let members = match example {
        Value::Array(list) => return list.iter().map(row).collect(),
        Value::Object(members) => members,
        _ => return None,
    };
    // MLflow's server names the form of a data frame; the example file does not.
    if let Some(frame) = members.get("dataframe_split") {
        return read_rows(frame, fields, only_field);
    }
    if let Some(list) = members.get("dataframe_records") {
        return list.as_array()?.iter().map(row).collect();
    }
    if let (Some(Value::Array(names)), Some(Value::Array(data))) =
        (members.get("columns"), members.get("data"))
    {
        return match only_field {
            Some(_) => data.iter().map(row).collect(),
            None => rows_of_frame(names, data),
        };
    }
    match members.get("inputs").or_else(|| members.get("instances")) {
        Some(Value::Array(list)) => list.iter().map(row).collect(),
        Some(Value::Object(tensors)) => rows_of_tensors(tensors),
        Some(_) => None,
        // An object without any of these members is one row.
        None => Some(vec![members.clone()]),
    }
}

/// The rows of a data frame in the form `split`.
fn rows_of_frame(names: &[Value], data: &[Value]) -> Option<Vec<Row>> {
    let names: Vec<String> = names
        .iter()
        .map(|name| {
            name.as_str()
                .map_or_else(|| name.to_string(), str::to_owned)
        })
        .collect();
    let row = |values: &Value| {
        let values = values.as_array()?.iter().cloned();
        Some(names.iter().cloned().zip(values).collect())
    };
    data.iter().map(row).collect()
}

/// The rows of named tensors. If a member is not a list, the members are one row.
fn rows_of_tensors(tensors: &Row) -> Option<Vec<Row>> {
    if tensors.values().any(|tensor| !tensor.is_array()) {
        return Some(vec![tensors.clone()]);
    }
    let count = tensors
        .values()
        .map(|tensor| tensor.as_array().map_or(0, Vec::len))
        .min()?;
    let row = |index: usize| {
        tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.clone(), tensor.get(index)?.clone())))
            .collect()
    };
    Some((0..count).map(row).collect())
}

/// Replaces a list of one element with the element in fields whose schema is not an array. The
/// column of a tensor contains such lists.
pub(super) fn unwrap_scalars(row: &mut Value, properties: &Value) {
    for (name, value) in row.as_object_mut().into_iter().flatten() {
        let is_array = properties
            .get(name)
            .is_some_and(|property| property.get("type").is_some_and(|kind| kind == "array"));
        if let (false, Value::Array(values)) = (is_array, &*value)
            && let [only] = values.as_slice()
        {
            *value = only.clone();
        }
    }
}
