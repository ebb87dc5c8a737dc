//! MLflow: a model with the flavor `onnx`, as a package. The signature becomes the schema, the input example the instances
//! of golden examples.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

use serde_json::{Map, Value, json};

use crate::{
    id::{ModelId, ModelName},
    package::{
        MODEL_FILE, PackageError,
        draft::{Known, draft},
        import::{
            Imported, card,
            mlmodel::{self, ColumnSpec, ColumnType, DeclaredTensor, Inputs, MlModel, OnnxFlavor},
        },
        manifest::Provenance,
    },
    tensor::{
        DataType, Dim,
        signature::{Signature, TensorSpec},
    },
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
    let last = |path: &str| {
        path.rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let candidates: Vec<String> = [
        directory.to_owned(),
        model.artifact_path.as_deref().map(last).unwrap_or_default(),
    ]
    .iter()
    .map(|text| sanitise(text))
    .collect();
    let telling = candidates
        .iter()
        .find(|name| !name.is_empty() && !GENERIC.contains(&name.as_str()));
    ModelName::parse(telling.or_else(|| candidates.iter().find(|name| !name.is_empty()))?)
}

fn sanitise(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let text: String = text.chars().map(plain).collect();
    text.trim_start_matches(['.', '_', '-'])
        .trim_end_matches('-')
        .chars()
        .take(128)
        .collect()
}

/// The package's documents, from the signature, the example and the graph.
pub fn import(
    id: &ModelId,
    model: &MlModel,
    example: Option<&Value>,
    signature: &Signature,
) -> Result<Imported, PackageError> {
    let mut notes = Vec::new();
    let columns = match model.inputs()? {
        Some(Inputs::Columns(columns)) => named(columns),
        Some(Inputs::Tensors(tensors)) => {
            check_tensors(&tensors, signature)?;
            None
        }
        None => {
            notes.push(
                "the model was logged without a signature: fields are named as the graph's inputs"
                    .to_owned(),
            );
            None
        }
    };
    let mut drafted = draft(signature, &Known::default())
        .map_err(|detail| PackageError::new("schema", MODEL_FILE, detail))?;
    let mut preprocessing = None;
    let mut examples = example
        .map(|example| rows(example, columns.as_deref(), signature))
        .unwrap_or_default();
    if let Some(columns) = &columns {
        let mut properties = Map::new();
        for (name, column) in columns {
            let in_example = || {
                examples
                    .iter()
                    .any(|row| row.get(name).is_none_or(Value::is_null))
            };
            let nullable = !column.required
                || match column.kind {
                    // MLflow takes null for NaN; the graph has one only among floats.
                    ColumnType::Float | ColumnType::Double => {
                        goes_to(name, signature).is_some_and(DataType::is_float)
                    }
                    // As in MLflow: what would make them floats is refused.
                    ColumnType::Boolean | ColumnType::Integer | ColumnType::Long => false,
                    _ => in_example(),
                };
            properties.insert(name.clone(), property(&column.kind, nullable));
        }
        let required: Vec<&String> = columns
            .iter()
            .filter(|(_, column)| column.required)
            .map(|(name, _)| name)
            .collect();
        drafted.schema["input"] = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        preprocessing = bring_together(columns, signature)?;
    }
    let input = &mut drafted.schema["input"];
    examples
        .iter_mut()
        .for_each(|row| unwrap_scalars(row, &input["properties"]));
    input["title"] = json!(format!("Input of {}", id.name));
    if let Some(first) = examples.first() {
        input["examples"] = json!([first]);
    }
    if example.is_some() && examples.is_empty() {
        notes.push("the input example has a form that is not understood: no golden examples were made of it".to_owned());
    }
    let params = model
        .signature
        .as_ref()
        .and_then(|signature| signature.params.as_deref());
    let warnings: Vec<String> = params
        .map(|_| {
            "MLmodel /signature/params: not taken over; a package has no parameters".to_owned()
        })
        .into_iter()
        .collect();
    let golden: Vec<String> = examples
        .first()
        .map(|_| "inputs of MLflow's input example, with the answers that ONNX Runtime gave at the import".to_owned())
        .into_iter()
        .collect();
    let origin = origin(model);
    Ok(Imported {
        preprocessing,
        serving: None,
        card: card(
            id.name.as_str(),
            &format!("Imported from {origin}, by `predictd import mlflow`."),
            signature,
            &[("Golden examples", &golden), ("Not taken over", &warnings)],
        ),
        schema: drafted.schema,
        examples,
        provenance: Provenance {
            source: Some(origin),
            ..Provenance::default()
        },
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

/// The type of the graph input that takes a column: the one of its name, or the only one.
fn goes_to(column: &str, signature: &Signature) -> Option<DataType> {
    let own = signature.inputs.iter().find(|spec| *spec.name == *column);
    let only = || {
        if let [only] = signature.inputs.as_slice() {
            Some(only)
        } else {
            None
        }
    };
    own.or_else(only).map(|spec| spec.datatype)
}

/// Columns with their names; without names a row is a tensor's.
fn named(columns: Vec<ColumnSpec>) -> Option<Columns> {
    columns
        .into_iter()
        .map(|column| Some((column.name.clone()?, column)))
        .collect()
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
    let fault = |detail: String| {
        Err(PackageError::new("mlflow", mlmodel::FILE, detail).at("/signature/inputs"))
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
            // MLflow gives the only tensor to the only input, whatever their names.
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
        if !agree(tensor, spec) {
            return fault(format!(
                "says {:?} for a tensor; the graph's input {} takes {spec}",
                tensor.shape, spec.name
            ));
        }
    }
    Ok(())
}

/// Types may differ, since MLflow casts; numbers are not texts.
fn agree(tensor: &DeclaredTensor, spec: &TensorSpec) -> bool {
    let text = |datatype| datatype == DataType::Bytes;
    tensor
        .datatype
        .is_none_or(|datatype| text(datatype) == text(spec.datatype))
        && tensor.shape.len() == spec.shape.0.len()
        && tensor
            .shape
            .iter()
            .zip(&spec.shape.0)
            .all(|(size, dim)| usize::try_from(*size).map_or(true, |size| dim.fits(size)))
}

/// From columns to graph inputs as MLflow does it: an input takes the column of its name; the only input takes all columns,
/// side by side. `None` where names are enough.
fn bring_together(columns: &Columns, signature: &Signature) -> Result<Option<Value>, PackageError> {
    let fault = |detail: String| {
        Err(PackageError::new("mlflow", mlmodel::FILE, detail).at("/signature/inputs"))
    };
    let has = |spec: &TensorSpec| columns.iter().any(|(name, _)| **name == *spec.name);
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
    if let [(column, _)] = columns.as_slice() {
        return Ok(Some(
            json!({"inputs": {name: {"dtype": dtype, "field": column}}}),
        ));
    }
    let is_number = |kind: &ColumnType| {
        !matches!(
            kind,
            ColumnType::String | ColumnType::Binary | ColumnType::Datetime | ColumnType::Array(_)
        )
    };
    if only.datatype == DataType::Bytes
        || columns.iter().any(|(_, column)| !is_number(&column.kind))
    {
        let odd = columns
            .iter()
            .find(|(_, column)| !is_number(&column.kind))
            .map(|(name, _)| format!("column \"{name}\" is no number"))
            .unwrap_or_default();
        return fault(format!(
            "{odd}{}the graph's only input {name} takes {only}; draft with `predictd init --sample`, and say with --column how the training encoded it",
            if odd.is_empty() { "" } else { ", and " }
        ));
    }
    let fits = match only.shape.row() {
        [Dim::Any] => true,
        [Dim::Fixed(width)] => *width == columns.len(),
        _ => false,
    };
    if !fits {
        return fault(format!(
            "has {} columns; the graph's only input {name} takes {only}",
            columns.len()
        ));
    }
    let side_by_side: Vec<Value> = columns
        .iter()
        .map(|(column, _)| json!({"field": column}))
        .collect();
    Ok(Some(
        json!({"inputs": {name: {"dtype": dtype, "columns": side_by_side}}}),
    ))
}

/// The rows of an example, in any of the forms in which MLflow keeps one and its server takes one; none where it is in no
/// such form.
fn rows(
    example: &Value,
    columns: Option<&[(String, ColumnSpec)]>,
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
    // Where the graph takes a row as it is.
    let whole = fields
        .first()
        .filter(|_| columns.is_none() && fields.len() == 1)
        .map(String::as_str);
    let mut rows = read_rows(example, &fields, whole).unwrap_or_default();
    rows.truncate(MAX_EXAMPLES);
    for row in &mut rows {
        // MLflow drops columns that the signature does not name.
        row.retain(|name, _| fields.contains(name));
    }
    rows.into_iter()
        .filter(|row| !row.is_empty())
        .map(Value::Object)
        .collect()
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
    if let (Some(Value::Array(names)), Some(Value::Array(data))) =
        (members.get("columns"), members.get("data"))
    {
        if whole.is_some() {
            return data.iter().map(row).collect();
        }
        let names: Vec<String> = names
            .iter()
            .map(|name| {
                name.as_str()
                    .map_or_else(|| name.to_string(), str::to_owned)
            })
            .collect();
        return data
            .iter()
            .map(|values| {
                Some(
                    names
                        .iter()
                        .cloned()
                        .zip(values.as_array()?.iter().cloned())
                        .collect(),
                )
            })
            .collect();
    }
    match members.get("inputs").or_else(|| members.get("instances")) {
        Some(Value::Array(list)) => list.iter().map(row).collect(),
        Some(Value::Object(tensors)) if tensors.values().any(|tensor| !tensor.is_array()) => {
            Some(vec![tensors.clone()])
        }
        Some(Value::Object(tensors)) => {
            let count = tensors
                .values()
                .map(|tensor| tensor.as_array().map_or(0, Vec::len))
                .min()?;
            let at = |index: usize| {
                tensors
                    .iter()
                    .filter_map(|(name, tensor)| Some((name.clone(), tensor.get(index)?.clone())))
                    .collect()
            };
            Some((0..count).map(at).collect())
        }
        Some(_) => None,
        None => Some(vec![members.clone()]),
    }
}

/// A column of a tensor is a list of one where the schema has a scalar.
fn unwrap_scalars(row: &mut Value, properties: &Value) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{
        id::{ModelId, ModelName, Version},
        package::{
            PackageError,
            import::{
                Imported,
                mlflow::{flavor, import, name},
                mlmodel::{Flavors, MlModel, SignatureTexts},
            },
        },
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    fn spec(name: &str, datatype: DataType, row: &[Dim]) -> TensorSpec {
        TensorSpec {
            name: Arc::from(name),
            datatype,
            shape: Shape([&[Dim::Any], row].concat()),
        }
    }

    fn imported(
        signature: Option<Value>,
        example: Option<Value>,
        inputs: Vec<TensorSpec>,
    ) -> Result<Imported, PackageError> {
        let signature = signature.map(|inputs| SignatureTexts {
            inputs: Some(inputs.to_string()),
            params: None,
        });
        let model = MlModel {
            run_id: Some("r1".to_owned()),
            mlflow_version: Some("2.14.1".to_owned()),
            signature,
            ..MlModel::default()
        };
        let id = ModelId {
            name: ModelName::parse("m").unwrap(),
            version: Version::parse("1.0.0").unwrap(),
        };
        import(
            &id,
            &model,
            example.as_ref(),
            &Signature {
                inputs,
                outputs: vec![spec("y", DataType::Fp32, &[Dim::Fixed(1)])],
            },
        )
    }

    fn column(kind: &str, name: &str) -> Value {
        json!({"type": kind, "name": name, "required": true})
    }

    #[test]
    fn columns_become_fields_side_by_side() {
        let optional = json!({"type": "integer", "name": "d", "required": false});
        let signature = json!([
            column("double", "a b"),
            column("boolean", "b"),
            column("long", "c"),
            optional
        ]);
        let example = json!({"columns": ["a b", "b", "c", "more", "d"], "data": [[1.5, true, 3, "x", 4], [2.5, false, null, "x", null]]});
        let imported = imported(
            Some(signature),
            Some(example),
            vec![spec("X", DataType::Fp32, &[Dim::Fixed(4)])],
        )
        .unwrap();
        let expected = json!({"a b": {"type": ["number", "null"]}, "b": {"type": "boolean"}, "c": {"type": "integer"},
            "d": {"type": ["integer", "null"], "minimum": i32::MIN, "maximum": i32::MAX}});
        assert_eq!(imported.schema["input"]["properties"], expected);
        assert_eq!(
            imported.schema["input"]["required"],
            json!(["a b", "b", "c"])
        );
        let columns = json!([{"field": "a b"}, {"field": "b"}, {"field": "c"}, {"field": "d"}]);
        assert_eq!(
            imported.preprocessing,
            Some(json!({"inputs": {"X": {"dtype": "float32", "columns": columns}}}))
        );
        let rows = [
            json!({"a b": 1.5, "b": true, "c": 3, "d": 4}),
            json!({"a b": 2.5, "b": false, "c": null, "d": null}),
        ];
        assert_eq!(imported.examples, rows);
        assert_eq!(imported.schema["input"]["examples"], json!([rows[0]]));
        assert_eq!(
            imported.provenance.source.as_deref(),
            Some("MLflow run r1 by MLflow 2.14.1")
        );
    }

    #[test]
    fn null_is_nan_where_mlflow_and_the_graph_have_it() {
        let types = |kind: &str, required: bool, datatype: DataType| {
            let signature = json!([{"type": kind, "name": "a", "required": required}]);
            let example = json!({"columns": ["a"], "data": [[null]]});
            let made = imported(
                Some(signature),
                Some(example),
                vec![spec("X", datatype, &[Dim::Fixed(1)])],
            )
            .unwrap();
            assert!(
                !made.preprocessing.unwrap().to_string().contains("steps"),
                "nothing is imputed"
            );
            (
                made.schema["input"]["properties"]["a"]["type"].clone(),
                made.schema["input"]["required"].clone(),
            )
        };
        let (number, integer, boolean) = (json!("number"), json!("integer"), json!("boolean"));
        let or_null = |kind: &Value| json!([kind, "null"]);
        for (kind, required, datatype, expected) in [
            ("double", true, DataType::Fp32, or_null(&number)),
            ("float", true, DataType::Fp64, or_null(&number)),
            ("double", true, DataType::Int64, number.clone()),
            ("double", false, DataType::Int64, or_null(&number)),
            ("long", true, DataType::Fp32, integer.clone()),
            ("integer", true, DataType::Int64, integer.clone()),
            ("long", false, DataType::Fp32, or_null(&integer)),
            ("boolean", true, DataType::Fp32, boolean),
        ] {
            let needed = if required { json!(["a"]) } else { json!([]) };
            assert_eq!(
                types(kind, required, datatype),
                (expected, needed),
                "{kind} {required} {datatype}"
            );
        }
    }

    #[test]
    fn inputs_of_the_columns_names_need_no_steps() {
        let signature = json!([
            column("string", "plan"),
            column("datetime", "at"),
            column("binary", "raw"),
            column("float", "x")
        ]);
        let inputs = vec![
            spec("x", DataType::Fp32, &[Dim::Fixed(1)]),
            spec("plan", DataType::Bytes, &[Dim::Fixed(1)]),
        ];
        let imported = imported(Some(signature), None, inputs).unwrap();
        assert_eq!(imported.preprocessing, None);
        let properties = &imported.schema["input"]["properties"];
        assert_eq!(
            properties["at"],
            json!({"type": "string", "format": "date-time"})
        );
        assert_eq!(
            properties["raw"],
            json!({"type": "string", "contentEncoding": "base64"})
        );
    }

    #[test]
    fn tensors_keep_the_graphs_shape() {
        let tensor = |shape: Value| json!([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": shape}}]);
        let inputs = || {
            vec![spec(
                "pixels",
                DataType::Fp32,
                &[Dim::Fixed(2), Dim::Fixed(2)],
            )]
        };
        let example = json!({"inputs": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]});
        let made = imported(Some(tensor(json!([-1, 2, 2]))), Some(example), inputs()).unwrap();
        assert_eq!(made.schema["input"]["properties"]["pixels"]["maxItems"], 2);
        assert_eq!(
            made.examples,
            [
                json!({"pixels": [[1, 2], [3, 4]]}),
                json!({"pixels": [[5, 6], [7, 8]]})
            ]
        );
        let error = imported(Some(tensor(json!([-1, 3, 2]))), None, inputs())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("MLmodel /signature/inputs: says [-1, 3, 2]"),
            "{error}"
        );
    }

    #[test]
    fn examples_in_every_form() {
        let signature = json!([column("double", "a"), column("double", "b")]);
        let rows = [json!({"a": 1, "b": 2}), json!({"a": 3, "b": 4})];
        for example in [
            json!({"columns": ["b", "a"], "index": [0, 1], "data": [[2, 1], [4, 3]]}),
            json!({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}),
            json!({"dataframe_records": rows}),
            json!({"inputs": {"a": [1, 3], "b": [[2], [4]]}}),
            json!({"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}),
            json!([[1, 2], [3, 4]]),
            json!(rows),
        ] {
            let imported = imported(
                Some(signature.clone()),
                Some(example.clone()),
                vec![spec("X", DataType::Fp32, &[Dim::Any])],
            )
            .unwrap();
            assert_eq!(imported.examples, rows, "{example}");
        }
        let one = imported(
            Some(signature.clone()),
            Some(rows[0].clone()),
            vec![spec("X", DataType::Fp32, &[Dim::Any])],
        )
        .unwrap();
        assert_eq!(one.examples, [rows[0].clone()]);
        let wrapped = json!({"inputs": rows[0]});
        let one = imported(
            Some(signature.clone()),
            Some(wrapped),
            vec![spec("X", DataType::Fp32, &[Dim::Any])],
        )
        .unwrap();
        assert_eq!(one.examples, [rows[0].clone()]);
        for odd in [
            json!("text"),
            json!([[1, 2, 3]]),
            json!({"inputs": 3}),
            json!({"columns": ["a"], "data": [1]}),
            json!([1]),
        ] {
            let imported = imported(
                Some(signature.clone()),
                Some(odd.clone()),
                vec![spec("X", DataType::Fp32, &[Dim::Any])],
            )
            .unwrap();
            assert!(
                imported.examples.is_empty() && imported.notes[0].contains("not understood"),
                "{odd}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_names_the_column() {
        let two = json!([column("double", "a"), column("string", "plan")]);
        let cases = [
            (
                two.clone(),
                vec![spec("X", DataType::Fp32, &[Dim::Any])],
                "column \"plan\" is no number, and the graph's only input X",
            ),
            (
                json!([column("double", "a"), column("long", "b")]),
                vec![spec("X", DataType::Fp32, &[Dim::Fixed(3)])],
                "has 2 columns",
            ),
            (
                two,
                vec![
                    spec("a", DataType::Fp32, &[]),
                    spec("c", DataType::Fp32, &[]),
                ],
                "has no column \"c\"",
            ),
        ];
        for (signature, inputs, expected) in cases {
            let error = imported(Some(signature), None, inputs)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("MLmodel /signature/inputs: ") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn models_are_named_by_what_says_most() {
        let named = |path: &str, directory: &str| {
            let model = MlModel {
                artifact_path: Some(path.to_owned()),
                ..MlModel::default()
            };
            name(&model, directory).map(|name| name.to_string())
        };
        assert_eq!(named("model", "churn").as_deref(), Some("churn"));
        assert_eq!(
            named("runs/churn model", "model").as_deref(),
            Some("churn-model")
        );
        assert_eq!(named("model", "model").as_deref(), Some("model"));
        assert_eq!(named("", "__é"), None);
    }

    #[test]
    fn another_flavor_is_told_how_to_become_onnx() {
        let model = MlModel {
            flavors: Flavors {
                names: vec!["sklearn".to_owned()],
                onnx: None,
            },
            ..MlModel::default()
        };
        let error = flavor(&model).unwrap_err().to_string();
        assert!(
            error.contains("found sklearn") && error.contains("mlflow.onnx.log_model"),
            "{error}"
        );
    }
}
