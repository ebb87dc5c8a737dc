//! `MlModel`: the file `MLmodel`, which MLflow writes next to a model. The only file that reads
//! YAML.

use std::{fmt, path::Path};

use serde::{
    Deserialize,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{
    package::{PackageCheck, PackageError, import::resolve_inside},
    tensor::DataType,
};

pub(crate) const FILE: &str = "MLmodel";

/// MLflow writes a few kilobytes. The limit also bounds the expansion of YAML's aliases: each of
/// the few fields takes at most a text.
const MAX_BYTES: u64 = 1 << 20;

/// Bounds the list of names in an error.
const MAX_FLAVORS: usize = 100;

/// Bounds the recursion. Columns of more than 3 nested arrays are not known.
const MAX_DEPTH: usize = 8;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MlModel {
    pub artifact_path: Option<String>,
    pub run_id: Option<String>,
    pub model_id: Option<String>,
    pub utc_time_created: Option<String>,
    pub mlflow_version: Option<String>,
    pub flavors: Flavors,
    pub signature: Option<SignatureTexts>,
    pub saved_input_example_info: Option<ExampleInfo>,
}

/// The names of all flavors, and the flavor that is served.
#[derive(Debug, Default)]
pub(crate) struct Flavors {
    pub names: Vec<String>,
    pub onnx: Option<OnnxFlavor>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OnnxFlavor {
    /// The graph, relative to the directory.
    pub data: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
/// The signature's parts, each as JSON in a text.
pub(crate) struct SignatureTexts {
    pub inputs: Option<String>,
    pub params: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExampleInfo {
    pub artifact_path: Option<String>,
    pub serving_input_path: Option<String>,
}

/// The inputs that a signature declares.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MlModelInputs {
    Columns(Vec<MlModelColumn>),
    Tensors(Vec<DeclaredTensor>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MlModelColumn {
    pub name: Option<String>,
    pub kind: ColumnType,
    pub required: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Boolean,
    Integer,
    Long,
    Float,
    Double,
    String,
    Binary,
    Datetime,
    Array(Box<ColumnType>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeclaredTensor {
    pub name: Option<String>,
    /// `None` for types that exist only in NumPy.
    pub datatype: Option<DataType>,
    pub shape: Vec<i64>,
}

impl<'de> Deserialize<'de> for Flavors {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Flavors, D::Error> {
        deserializer.deserialize_map(FlavorsVisitor)
    }
}

struct FlavorsVisitor;

impl<'de> Visitor<'de> for FlavorsVisitor {
    type Value = Flavors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of flavors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Flavors, A::Error> {
        let mut flavors = Flavors::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                // Only this flavor has a graph that can be served.
                "onnx" => flavors.onnx = Some(map.next_value()?),
                // Other flavors have members of any kind, and are only named in an error.
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            flavors.names.push(name);
            if flavors.names.len() > MAX_FLAVORS {
                return Err(A::Error::custom(format_args!(
                    "there are more than {MAX_FLAVORS}"
                )));
            }
        }
        Ok(flavors)
    }
}

impl MlModel {
    /// Reads `MLmodel` of a directory.
    pub(crate) fn read(directory: &Path) -> Result<MlModel, PackageError> {
        let path = directory.join(FILE);
        let metadata = fs_err::metadata(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                PackageError::new(PackageCheck::Mlflow, FILE, missing_text(directory))
            }
            _ => PackageError::io(FILE, error),
        })?;
        // The file may be a link that leads to any YAML file of the machine.
        let path = resolve_inside(directory, &path)?;
        // Checked before the file is read.
        if metadata.len() > MAX_BYTES {
            return Err(PackageError::new(
                PackageCheck::Mlflow,
                FILE,
                format!("has {} bytes; at most {MAX_BYTES} are read", metadata.len()),
            ));
        }
        MlModel::parse(
            &fs_err::read_to_string(&path).map_err(|error| PackageError::io(FILE, error))?,
        )
    }

    fn parse(text: &str) -> Result<MlModel, PackageError> {
        serde_norway::from_str(text).map_err(|error| {
            PackageError::caused_by(PackageCheck::Mlflow, FILE, "can't be read as YAML", error)
        })
    }

    /// The inputs of the signature. `None` means that the model was logged without a signature.
    pub(crate) fn inputs(&self) -> Result<Option<MlModelInputs>, PackageError> {
        let Some(text) = self
            .signature
            .as_ref()
            .and_then(|signature| signature.inputs.as_deref())
        else {
            return Ok(None);
        };
        parse_inputs(text).map(Some).map_err(|error| {
            PackageError::caused_by(PackageCheck::Mlflow, FILE, "", error).at("/signature/inputs")
        })
    }
}

/// The error of a directory without the file. Often the run's directory is given, and the model is
/// in a directory below it.
fn missing_text(directory: &Path) -> String {
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let below = entries
        .map(|entry| entry.path())
        .find(|path| path.join(FILE).is_file());
    let hint = below
        .map(|path| format!("; there is one in {}", path.display()))
        .unwrap_or_default();
    format!("is missing; give the directory that contains it{hint}")
}

/// An entry of a signature in MLflow's JSON.
#[derive(Deserialize)]
struct SignatureEntry {
    /// It is a number if the data frame's columns had no names.
    name: Option<Value>,
    #[serde(flatten)]
    kind: EntryType,
    required: Option<bool>,
    /// Written by versions of MLflow before `required`.
    optional: Option<bool>,
    #[serde(rename = "tensor-spec")]
    tensor_spec: Option<TensorEntry>,
}

#[derive(Deserialize)]
struct EntryType {
    #[serde(rename = "type")]
    name: String,
    items: Option<Box<EntryType>>,
}

#[derive(Deserialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<i64>,
}

/// Why the inputs of a signature can't be read.
#[derive(Debug, thiserror::Error)]
enum MlflowSignatureError {
    #[error("is not a list of columns or tensors")]
    Json(#[source] serde_json::Error),
    #[error("is empty")]
    Empty,
    #[error("has a tensor without \"tensor-spec\"")]
    NoTensorSpec,
    #[error(
        "column \"{column}\" has the type {unknown}; expected boolean, integer, long, float, double, string, binary, datetime or an array of one"
    )]
    ColumnType {
        column: String,
        unknown: UnknownColumnType,
    },
}

/// The name of a type that is not known, or that is nested too deeply.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UnknownColumnType(String);

fn parse_inputs(text: &str) -> Result<MlModelInputs, MlflowSignatureError> {
    let entries: Vec<SignatureEntry> =
        serde_json::from_str(text).map_err(MlflowSignatureError::Json)?;
    // A model without inputs can't be served.
    if entries.is_empty() {
        return Err(MlflowSignatureError::Empty);
    }
    let name = |name: Option<Value>| {
        name.map(|name| {
            name.as_str()
                .map_or_else(|| name.to_string(), str::to_owned)
        })
    };
    // MLflow does not mix tensors and columns in one signature.
    if entries.iter().all(|entry| entry.kind.name == "tensor") {
        let tensor = |entry: SignatureEntry| {
            let spec = entry
                .tensor_spec
                .ok_or(MlflowSignatureError::NoTensorSpec)?;
            Ok(DeclaredTensor {
                name: name(entry.name),
                datatype: DataType::from_numpy_name(&spec.dtype),
                shape: spec.shape,
            })
        };
        return entries
            .into_iter()
            .map(tensor)
            .collect::<Result<_, MlflowSignatureError>>()
            .map(MlModelInputs::Tensors);
    }
    let column = |entry: SignatureEntry| {
        let name = name(entry.name);
        let kind =
            column_type(&entry.kind, 0).map_err(|unknown| MlflowSignatureError::ColumnType {
                column: name.clone().unwrap_or_else(|| "without a name".to_owned()),
                unknown,
            })?;
        // Without either member a column is required.
        let required = entry.required.unwrap_or(!entry.optional.unwrap_or(false));
        Ok(MlModelColumn {
            name,
            kind,
            required,
        })
    };
    entries
        .into_iter()
        .map(column)
        .collect::<Result<_, MlflowSignatureError>>()
        .map(MlModelInputs::Columns)
}

fn column_type(entry: &EntryType, depth: usize) -> Result<ColumnType, UnknownColumnType> {
    Ok(match (entry.name.as_str(), &entry.items) {
        ("boolean", _) => ColumnType::Boolean,
        ("integer", _) => ColumnType::Integer,
        ("long", _) => ColumnType::Long,
        ("float", _) => ColumnType::Float,
        ("double", _) => ColumnType::Double,
        ("string", _) => ColumnType::String,
        ("binary", _) => ColumnType::Binary,
        ("datetime", _) => ColumnType::Datetime,
        ("array", Some(items)) if depth < MAX_DEPTH => {
            ColumnType::Array(Box::new(column_type(items, depth + 1)?))
        }
        (unknown, _) => return Err(UnknownColumnType(unknown.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        error::text_with_sources,
        package::import::mlmodel::{
            ColumnType, DeclaredTensor, MlModel, MlModelColumn, MlModelInputs, parse_inputs,
        },
        tensor::DataType,
    };

    #[test]
    fn a_file_of_mlflow_is_read() {
        let model = MlModel::parse(
            r#"artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.16.1
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    loader_module: mlflow.onnx
mlflow_version: 2.14.1
model_uuid: 0f
run_id: 7e
signature:
  inputs: '[{"type": "double", "name": "a", "required": true}]'
  outputs: null
  params: null
utc_time_created: '2026-11-20 08:15:30.123456'
"#,
        )
        .unwrap();
        assert_eq!(model.flavors.names, ["onnx", "python_function"]);
        assert_eq!(model.flavors.onnx.as_ref().unwrap().data, "model.onnx");
        assert_eq!(
            (model.run_id.as_deref(), model.mlflow_version.as_deref()),
            (Some("7e"), Some("2.14.1"))
        );
        let column = MlModelColumn {
            name: Some("a".to_owned()),
            kind: ColumnType::Double,
            required: true,
        };
        assert_eq!(
            model.inputs().unwrap(),
            Some(MlModelInputs::Columns(vec![column]))
        );
    }

    #[test]
    fn columns_and_tensors_are_read() {
        let column = |name: &str, kind, required| MlModelColumn {
            name: Some(name.to_owned()),
            kind,
            required,
        };
        let columns = parse_inputs(
            r#"[{"type": "long", "name": "a"}, {"type": "datetime", "name": "b", "required": false}, {"type": "string", "name": 3, "optional": true},
                {"type": "array", "items": {"type": "float"}, "name": "d", "required": true}]"#,
        );
        let expected = vec![
            column("a", ColumnType::Long, true),
            column("b", ColumnType::Datetime, false),
            column("3", ColumnType::String, false),
            column("d", ColumnType::Array(Box::new(ColumnType::Float)), true),
        ];
        assert_eq!(columns.unwrap(), MlModelInputs::Columns(expected));
        let tensors = parse_inputs(
            r#"[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}}]"#,
        );
        let expected = DeclaredTensor {
            name: None,
            datatype: Some(DataType::Fp32),
            shape: vec![-1, 28, 28],
        };
        assert_eq!(tensors.unwrap(), MlModelInputs::Tensors(vec![expected]));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("{}", "not a list"),
            ("[]", "is empty"),
            (r#"[{"name": "a"}]"#, "type"),
            (r#"[{"type": "tensor"}]"#, "tensor-spec"),
            (
                r#"[{"type": "object", "properties": {}, "name": "a"}]"#,
                "column \"a\" has the type object",
            ),
            (r#"[{"type": "array", "name": "a"}]"#, "type array"),
        ] {
            let error = text_with_sources(&parse_inputs(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        for text in [
            "a: [",
            "- a",
            "flavors: 3",
            "flavors: {onnx: {}}",
            "a: b: c",
        ] {
            let error = text_with_sources(&MlModel::parse(text).unwrap_err());
            assert!(
                error.starts_with("MLmodel: can't be read as YAML"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn aliases_do_not_multiply() {
        // "A billion laughs": no field keeps the expansion of the aliases.
        let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..30 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{list}]\n");
        }
        let model = MlModel::parse(&(bomb.clone() + "run_id: r\n")).unwrap();
        assert_eq!(model.run_id.as_deref(), Some("r"));
        assert!(MlModel::parse(&(bomb.clone() + "run_id: *a29\n")).is_err());
        assert!(MlModel::parse(&(bomb + "flavors: {onnx: *a29}\n")).is_err());
        let many: String = (0..1000).map(|index| format!("  f{index}: *x\n")).collect();
        let text = format!("x: &x {}\nflavors:\n{many}", "y".repeat(10_000));
        let error = MlModel::parse(&text).unwrap_err();
        assert!(text_with_sources(&error).contains("more than"));
    }
}
