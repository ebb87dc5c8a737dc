//! Columns and tensors of an MLflow signature: converts them to fields of the schema and to inputs
//! of the graph.

use serde_json::{Map, Value, json};

use crate::{
    package::{
        PackageCheck, PackageError,
        import::mlmodel::{self, ColumnType, DeclaredTensor, MlModelColumn},
    },
    tensor::{
        DataType, Dim,
        signature::{Signature, TensorSpec},
    },
};

/// The columns of a signature by name.
pub(super) type NamedColumns = Vec<(String, MlModelColumn)>;

/// The input schema of a signature's columns. `examples` are rows of the input example.
pub(super) fn input_schema(
    columns: &[(String, MlModelColumn)],
    examples: &[Value],
    signature: &Signature,
) -> Value {
    let mut properties = Map::new();
    for (name, column) in columns {
        let nullable = is_nullable(name, column, examples, signature);
        properties.insert(name.clone(), property(&column.kind, nullable));
    }
    let required: Vec<&String> = columns
        .iter()
        .filter(|(_, column)| column.required)
        .map(|(name, _)| name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn is_nullable(
    name: &str,
    column: &MlModelColumn,
    examples: &[Value],
    signature: &Signature,
) -> bool {
    if !column.required {
        return true;
    }
    match column.kind {
        // MLflow reads null as NaN, which only floats have.
        ColumnType::Float | ColumnType::Double => {
            input_type(name, signature).is_some_and(DataType::is_float)
        }
        // Like MLflow: null would turn the column into floats.
        ColumnType::Boolean | ColumnType::Integer | ColumnType::Long => false,
        _ => examples
            .iter()
            .any(|row| row.get(name).is_none_or(Value::is_null)),
    }
}

/// The type of the graph input that takes a column: the input of the same name, or the only input.
fn input_type(column: &str, signature: &Signature) -> Option<DataType> {
    let same_name = signature.inputs.iter().find(|spec| *spec.name == *column);
    let only = || {
        if let [only] = signature.inputs.as_slice() {
            Some(only)
        } else {
            None
        }
    };
    same_name.or_else(only).map(|spec| spec.datatype)
}

/// The columns by name. `None` means that a column has no name: the rows are then rows of a tensor.
pub(super) fn by_name(columns: Vec<MlModelColumn>) -> Option<NamedColumns> {
    columns
        .into_iter()
        .map(|column| Some((column.name.clone()?, column)))
        .collect()
}

/// The schema of a column's field.
fn property(kind: &ColumnType, nullable: bool) -> Value {
    let mut schema = match kind {
        ColumnType::Boolean => json!({"type": "boolean"}),
        // MLflow's integer has 32 bits, and its long has 64.
        ColumnType::Integer => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        ColumnType::Long => json!({"type": "integer"}),
        ColumnType::Float | ColumnType::Double => json!({"type": "number"}),
        ColumnType::String => json!({"type": "string"}),
        ColumnType::Binary => json!({"type": "string", "contentEncoding": "base64"}),
        ColumnType::Datetime => json!({"type": "string", "format": "date-time"}),
        ColumnType::Array(items) => json!({"type": "array", "items": property(items, false)}),
    };
    if nullable {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema
}

/// Checks the tensors of a signature against the graph's inputs.
pub(super) fn check_tensors(
    tensors: &[DeclaredTensor],
    signature: &Signature,
) -> Result<(), PackageError> {
    let fault = |detail: String| {
        Err(PackageError::new(PackageCheck::Mlflow, mlmodel::FILE, detail).at("/signature/inputs"))
    };
    let names = || {
        signature
            .inputs
            .iter()
            .map(|spec| &*spec.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for tensor in tensors {
        let spec = match (signature.inputs.as_slice(), &tensor.name) {
            // MLflow passes the only tensor to the only input, even if their names differ.
            ([only], _) if tensors.len() == 1 => only,
            (inputs, Some(name)) => match inputs.iter().find(|spec| *spec.name == **name) {
                Some(spec) => spec,
                None => {
                    return fault(format!(
                        "has the tensor \"{name}\"; the graph's inputs are {}",
                        names()
                    ));
                }
            },
            (_, None) => {
                return fault(format!(
                    "has a tensor without a name; the graph's inputs are {}",
                    names()
                ));
            }
        };
        if !is_compatible(tensor, spec) {
            return fault(format!(
                "says {:?} for a tensor; the graph's input {} takes {spec}",
                tensor.shape, spec.name
            ));
        }
    }
    Ok(())
}

/// Whether the graph's input accepts the tensor. Their types may differ, because MLflow casts
/// numbers, but numbers are not cast to strings.
fn is_compatible(tensor: &DeclaredTensor, spec: &TensorSpec) -> bool {
    let is_text = |datatype| datatype == DataType::Bytes;
    tensor
        .datatype
        .is_none_or(|datatype| is_text(datatype) == is_text(spec.datatype))
        && tensor.shape.len() == spec.shape.0.len()
        && tensor
            .shape
            .iter()
            .zip(&spec.shape.0)
            .all(|(size, dim)| usize::try_from(*size).map_or(true, |size| dim.fits(size)))
}

/// Maps columns to graph inputs like MLflow does: each input takes the column of its name, or the
/// only input takes all columns. Returns `preprocessing.json`, or `None` if the names alone are
/// enough.
pub(super) fn preprocessing(
    columns: &[(String, MlModelColumn)],
    signature: &Signature,
) -> Result<Option<Value>, PackageError> {
    let fault = |detail: String| {
        Err(PackageError::new(PackageCheck::Mlflow, mlmodel::FILE, detail).at("/signature/inputs"))
    };
    let has = |spec: &TensorSpec| columns.iter().any(|(name, _)| **name == *spec.name);
    // A single column of the input's own name is mapped by name, even if the graph has one input.
    let only = match signature.inputs.as_slice() {
        [only] if columns.len() > 1 || !has(only) => only,
        inputs => {
            return match inputs.iter().find(|spec| !has(spec)) {
                Some(missing) => fault(format!(
                    "has no column \"{}\", which is an input of the graph",
                    missing.name
                )),
                None => Ok(None),
            };
        }
    };
    let dtype = only.datatype.numpy_name();
    let name = &*only.name;
    // One column is one field, and its values may be lists.
    if let [(column, _)] = columns {
        return Ok(Some(
            json!({"inputs": {name: {"dtype": dtype, "field": column}}}),
        ));
    }
    if let Some(detail) = joining_fault(columns, only) {
        return fault(detail);
    }
    let fields: Vec<Value> = columns
        .iter()
        .map(|(column, _)| json!({"field": column}))
        .collect();
    Ok(Some(
        json!({"inputs": {name: {"dtype": dtype, "columns": fields}}}),
    ))
}

/// Why the columns can't be joined into the graph's only input.
fn joining_fault(columns: &[(String, MlModelColumn)], input: &TensorSpec) -> Option<String> {
    let name = &input.name;
    // The only input is one tensor: numbers can be cast to its type, but strings can't.
    let is_number = |kind: &ColumnType| {
        !matches!(
            kind,
            ColumnType::String | ColumnType::Binary | ColumnType::Datetime | ColumnType::Array(_)
        )
    };
    let not_a_number = columns
        .iter()
        .find(|(_, column)| !is_number(&column.kind))
        .map(|(name, _)| format!("column \"{name}\" is not a number, and "));
    if input.datatype == DataType::Bytes || not_a_number.is_some() {
        return Some(format!(
            "{}the graph's only input {name} takes {input}; draft with `predictd init --sample`, and say with --column how the training encoded it",
            not_a_number.unwrap_or_default()
        ));
    }
    // All columns side by side must fill the input exactly.
    let fits = match input.shape.row() {
        [Dim::Any] => true,
        [Dim::Fixed(width)] => *width == columns.len(),
        _ => false,
    };
    (!fits).then(|| {
        format!(
            "has {} columns; the graph's only input {name} takes {input}",
            columns.len()
        )
    })
}
