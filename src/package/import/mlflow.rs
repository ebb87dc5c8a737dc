//! MLflow: a model with the flavor `onnx`, as a package. The signature becomes the schema, the input example the instances
//! of golden examples.

#![expect(clippy::indexing_slicing, reason = "members are set on documents made here as objects")]

use serde_json::{Map, Value, json};

use crate::{
    id::{ModelId, ModelName},
    package::{
        MODEL_FILE, PREPROCESSING_FILE, PackageError,
        draft::draft,
        import::{
            Imported, card,
            mlmodel::{self, ColumnSpec, ColumnType, DeclaredTensor, Inputs, MlModel, OnnxFlavor},
        },
        manifest::Provenance,
        signature::{Signature, TensorSpec},
    },
    tensor::{DataType, Dim},
};

/// Examples beyond this make every load slow and prove no more.
const MAX_EXAMPLES: usize = 100;

/// What MLflow and its stores call every model, which therefore names none.
const GENERIC: [&str; 3] = ["model", "artifacts", "data"];

/// The flavor that is served.
pub fn flavor(model: &MlModel) -> Result<&OnnxFlavor, PackageError> {
    model.flavors.onnx.as_ref().ok_or_else(|| {
        let names = if model.flavors.names.is_empty() { "none".to_owned() } else { model.flavors.names.join(", ") };
        let advice = "convert it (skl2onnx.to_onnx, torch.onnx.export, onnxmltools) and log the result with mlflow.onnx.log_model";
        PackageError::new("mlflow", mlmodel::FILE, format!("expected the flavor onnx, found {names}; {advice}")).at("/flavors")
    })
}

/// A name for the model: the directory's, or what MLflow calls it where that says more.
pub fn name(model: &MlModel, directory: &str) -> Option<ModelName> {
    let last = |path: &str| path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned();
    let candidates: Vec<String> =
        [directory.to_owned(), model.artifact_path.as_deref().map(last).unwrap_or_default()].iter().map(|text| sanitise(text)).collect();
    let telling = candidates.iter().find(|name| !name.is_empty() && !GENERIC.contains(&name.as_str()));
    ModelName::parse(telling.or_else(|| candidates.iter().find(|name| !name.is_empty()))?)
}

fn sanitise(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let text: String = text.chars().map(plain).collect();
    text.trim_start_matches(['.', '_', '-']).trim_end_matches('-').chars().take(128).collect()
}

/// The package's documents, from the signature, the example and the graph.
pub fn import(id: &ModelId, model: &MlModel, example: Option<&Value>, signature: &Signature) -> Result<Imported, PackageError> {
    let mut notes = Vec::new();
    let columns = match model.inputs()? {
        Some(Inputs::Columns(columns)) => named(columns),
        Some(Inputs::Tensors(tensors)) => {
            check_tensors(&tensors, signature)?;
            None
        }
        None => {
            notes.push("the model was logged without a signature: fields are named as the graph's inputs".to_owned());
            None
        }
    };
    let mut drafted = draft(signature, &[]).map_err(|detail| PackageError::new("schema", MODEL_FILE, detail))?;
    let mut preprocessing = None;
    let mut examples = example.map(|example| rows(example, columns.as_deref(), signature)).unwrap_or_default();
    if let Some(columns) = &columns {
        let mut properties = Map::new();
        for (name, column) in columns {
            let nullable = !column.required || examples.iter().any(|row| row.get(name).is_none_or(Value::is_null));
            properties.insert(name.clone(), property(&column.kind, nullable));
        }
        let required: Vec<&String> = columns.iter().filter(|(_, column)| column.required).map(|(name, _)| name).collect();
        drafted.schema["input"] = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        preprocessing = bring_together(columns, signature)?;
    }
    let input = &mut drafted.schema["input"];
    examples.iter_mut().for_each(|row| unwrap_scalars(row, &input["properties"]));
    input["title"] = json!(format!("Input of {}", id.name));
    if let Some(first) = examples.first() {
        input["examples"] = json!([first]);
    }
    if example.is_some() && examples.is_empty() {
        notes.push("the input example has a form that is not understood: no golden examples were made of it".to_owned());
    }
    let params = model.signature.as_ref().and_then(|signature| signature.params.as_deref());
    let warnings: Vec<String> =
        params.map(|_| "MLmodel /signature/params: not taken over; a package has no parameters".to_owned()).into_iter().collect();
    let origin = origin(model);
    Ok(Imported {
        preprocessing,
        serving: None,
        card: card(
            id.name.as_str(),
            &format!("Imported from {origin}, by `predictd import mlflow`."),
            signature,
            &[("Not taken over", &warnings)],
        ),
        schema: drafted.schema,
        examples,
        provenance: Provenance { source: Some(origin), ..Provenance::default() },
        warnings,
        notes,
    })
}

fn origin(model: &MlModel) -> String {
    let mut text = match (&model.run_id, &model.model_id) {
        (Some(run), _) => format!("MLflow run {run}"),
        (None, Some(model)) => format!("MLflow model {model}"),
        (None, None) => "an MLflow model".to_owned(),
    };
    if let Some(created) = &model.utc_time_created {
        text += &format!(", logged {created} UTC");
    }
    if let Some(version) = &model.mlflow_version {
        text += &format!(" by MLflow {version}");
    }
    text
}

type Columns = Vec<(String, ColumnSpec)>;

/// Columns with their names; without names a row is a tensor's.
fn named(columns: Vec<ColumnSpec>) -> Option<Columns> {
    columns.into_iter().map(|column| Some((column.name.clone()?, column))).collect()
}

fn property(kind: &ColumnType, nullable: bool) -> Value {
    let mut schema = match kind {
        ColumnType::Boolean => json!({"type": "boolean"}),
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

fn check_tensors(tensors: &[DeclaredTensor], signature: &Signature) -> Result<(), PackageError> {
    let fault = |detail: String| Err(PackageError::new("mlflow", mlmodel::FILE, detail).at("/signature/inputs"));
    let names = || signature.inputs.iter().map(|spec| &*spec.name).collect::<Vec<_>>().join(", ");
    for tensor in tensors {
        let spec = match (signature.inputs.as_slice(), &tensor.name) {
            // MLflow gives the only tensor to the only input, whatever their names.
            ([only], _) if tensors.len() == 1 => only,
            (inputs, Some(name)) => match inputs.iter().find(|spec| *spec.name == **name) {
                Some(spec) => spec,
                None => return fault(format!("has the tensor \"{name}\"; the graph's inputs are {}", names())),
            },
            (_, None) => return fault(format!("has a tensor without a name; the graph's inputs are {}", names())),
        };
        if !agree(tensor, spec) {
            return fault(format!("says {:?} for a tensor; the graph's input {} takes {spec}", tensor.shape, spec.name));
        }
    }
    Ok(())
}

/// Types may differ, since MLflow casts; numbers are not texts.
fn agree(tensor: &DeclaredTensor, spec: &TensorSpec) -> bool {
    let text = |datatype| datatype == DataType::Bytes;
    tensor.datatype.is_none_or(|datatype| text(datatype) == text(spec.datatype))
        && tensor.shape.len() == spec.shape.0.len()
        && tensor.shape.iter().zip(&spec.shape.0).all(|(size, dim)| usize::try_from(*size).map_or(true, |size| dim.fits(size)))
}

/// From columns to graph inputs as MLflow does it: an input takes the column of its name; the only input takes all columns,
/// side by side. `None` where names are enough.
fn bring_together(columns: &Columns, signature: &Signature) -> Result<Option<Value>, PackageError> {
    let fault = |detail: String| Err(PackageError::new("mlflow", mlmodel::FILE, detail).at("/signature/inputs"));
    let has = |spec: &TensorSpec| columns.iter().any(|(name, _)| **name == *spec.name);
    let only = match signature.inputs.as_slice() {
        [only] if columns.len() > 1 || !has(only) => only,
        inputs => {
            return match inputs.iter().find(|spec| !has(spec)) {
                Some(missing) => fault(format!("has no column \"{}\", which is an input of the graph", missing.name)),
                None => Ok(None),
            };
        }
    };
    let dtype = only.datatype.numpy_name();
    let name = &*only.name;
    if let [(column, _)] = columns.as_slice() {
        return Ok(Some(json!({"inputs": {name: {"dtype": dtype, "field": column}}})));
    }
    let is_number =
        |kind: &ColumnType| !matches!(kind, ColumnType::String | ColumnType::Binary | ColumnType::Datetime | ColumnType::Array(_));
    if only.datatype == DataType::Bytes || columns.iter().any(|(_, column)| !is_number(&column.kind)) {
        let odd = columns
            .iter()
            .find(|(_, column)| !is_number(&column.kind))
            .map(|(name, _)| format!("column \"{name}\" is no number"))
            .unwrap_or_default();
        return fault(format!(
            "{odd}{}the graph's only input {name} takes {only}; draft with `predictd init --sample` and write the encoding in {PREPROCESSING_FILE}",
            if odd.is_empty() { "" } else { ", and " }
        ));
    }
    let fits = match only.shape.row() {
        [Dim::Any] => true,
        [Dim::Fixed(width)] => *width == columns.len(),
        _ => false,
    };
    if !fits {
        return fault(format!("has {} columns; the graph's only input {name} takes {only}", columns.len()));
    }
    let side_by_side: Vec<Value> = columns.iter().map(|(column, _)| json!({"field": column})).collect();
    Ok(Some(json!({"inputs": {name: {"dtype": dtype, "columns": side_by_side}}})))
}

/// The rows of an example, in any of the forms in which MLflow keeps one and its server takes one; none where it is in no
/// such form.
fn rows(example: &Value, columns: Option<&[(String, ColumnSpec)]>, signature: &Signature) -> Vec<Value> {
    let fields: Vec<String> = match columns {
        Some(columns) => columns.iter().map(|(name, _)| name.clone()).collect(),
        None => signature.inputs.iter().map(|spec| spec.name.to_string()).collect(),
    };
    // Where the graph takes a row as it is.
    let whole = fields.first().filter(|_| columns.is_none() && fields.len() == 1).map(String::as_str);
    let mut rows = read_rows(example, &fields, whole).unwrap_or_default();
    rows.truncate(MAX_EXAMPLES);
    for row in &mut rows {
        // MLflow drops columns that the signature does not name.
        row.retain(|name, _| fields.contains(name));
    }
    rows.into_iter().filter(|row| !row.is_empty()).map(Value::Object).collect()
}

type Row = Map<String, Value>;

fn read_rows(example: &Value, fields: &[String], whole: Option<&str>) -> Option<Vec<Row>> {
    let row = |value: &Value| -> Option<Row> {
        match (value, whole) {
            (Value::Object(members), _) => Some(members.clone()),
            (value, Some(field)) => Some(Map::from_iter([(field.to_owned(), value.clone())])),
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
    if let Some(frame) = members.get("dataframe_split") {
        return read_rows(frame, fields, whole);
    }
    if let Some(list) = members.get("dataframe_records") {
        return list.as_array()?.iter().map(row).collect();
    }
    if let (Some(Value::Array(names)), Some(Value::Array(data))) = (members.get("columns"), members.get("data")) {
        if whole.is_some() {
            return data.iter().map(row).collect();
        }
        let names: Vec<String> = names.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect();
        return data.iter().map(|values| Some(names.iter().cloned().zip(values.as_array()?.iter().cloned()).collect())).collect();
    }
    match members.get("inputs").or_else(|| members.get("instances")) {
        Some(Value::Array(list)) => list.iter().map(row).collect(),
        Some(Value::Object(tensors)) => {
            let count = tensors.values().map(|tensor| tensor.as_array().map_or(0, Vec::len)).min()?;
            let at = |index: usize| tensors.iter().filter_map(|(name, tensor)| Some((name.clone(), tensor.get(index)?.clone()))).collect();
            Some((0..count).map(at).collect())
        }
        Some(_) => None,
        None => Some(vec![members.clone()]),
    }
}

/// A column of a tensor is a list of one where the schema has a scalar.
fn unwrap_scalars(row: &mut Value, properties: &Value) {
    for (name, value) in row.as_object_mut().into_iter().flatten() {
        let is_array = properties.get(name).is_some_and(|property| property.get("type").is_some_and(|kind| kind == "array"));
        if let (false, Value::Array(values)) = (is_array, &*value)
            && let [only] = values.as_slice()
        {
            *value = only.clone();
        }
    }
}
