//! A model at rest: the parts of a package, verified before they exist as values.

pub mod answered;
pub mod bare;
pub mod draft;
pub mod golden;
pub mod guess;
pub mod import;
pub mod labels;
pub mod manifest;
pub mod pbtxt;
pub mod sample;
pub mod serving;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    decode,
    id::ModelId,
    package::{golden::GoldenExample, manifest::Manifest, serving::Serving},
    schema::{
        Pii, Schema,
        columns::Columns,
        fault::{self, Fault},
    },
    tensor::{Tensors, signature::Signature},
    transform::{
        outputs::Outputs,
        plan::{Field, RowFault},
        postprocess::{Postprocess, PostprocessFault},
        preprocess::{Group, Preprocess},
    },
};

pub const MODEL_FILE: &str = "model.onnx";
pub const SCHEMA_FILE: &str = "schema.json";
pub const PREPROCESSING_FILE: &str = "preprocessing.json";
pub const GOLDEN_FILE: &str = "golden.jsonl";

/// Why a package is refused: which file, where in it, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageError {
    /// The step of the load gate, and the `reason` of the refusal in metrics.
    pub check: &'static str,
    pub file: String,
    /// JSON pointer or line; empty where the whole file is meant.
    pub field: String,
    pub detail: String,
}

impl PackageError {
    pub fn new(check: &'static str, file: &str, detail: impl Into<String>) -> PackageError {
        PackageError {
            check,
            file: file.to_owned(),
            field: String::new(),
            detail: detail.into(),
        }
    }

    #[must_use]
    pub fn at(mut self, field: &str) -> PackageError {
        self.field = field.to_owned();
        self
    }

    pub fn io(file: &str, error: &std::io::Error) -> PackageError {
        PackageError::new("files", file, format!("can't be read: {error}"))
    }
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is wrong with the whole has no place in it.
        let place = [self.file.as_str(), self.field.as_str()].join(" ");
        match place.trim() {
            "" => f.write_str(&self.detail),
            place => write!(f, "{place}: {}", self.detail),
        }
    }
}

impl std::error::Error for PackageError {}

/// A package whose files are what its manifest says and whose parts are well formed.
pub struct ModelPackage {
    pub id: ModelId,
    pub directory: PathBuf,
    pub manifest: Manifest,
    pub parts: Parts,
}

/// The parts of a package, read and checked apart from each other.
pub struct Parts {
    pub input: Schema,
    pub output: Schema,
    pub schema_document: Value,
    pub preprocessing: Option<Value>,
    pub serving: Serving,
    pub golden: Vec<GoldenExample>,
    pub evaluation: Option<Value>,
    pub profile: Option<Value>,
    pub card: Option<String>,
}

/// The declared way from columns to tensors and back, compiled against the graph.
pub struct Transform {
    pub preprocess: Preprocess,
    pub postprocess: Postprocess,
    /// The answer, of one row, where the model can't give one.
    pub constant: Option<Outputs>,
}

impl ModelPackage {
    /// Reads the manifest, checks the files against it and reads the parts. A value means: the hashes matched.
    pub fn open(directory: &Path) -> Result<ModelPackage, PackageError> {
        let manifest = Manifest::read(directory)?;
        let id = manifest.id().ok_or_else(|| {
            PackageError::new("manifest", manifest::FILE, "has no valid name and version")
        })?;
        manifest.check_files(directory)?;
        let parts = Parts::read(directory)?;
        Ok(ModelPackage {
            id,
            directory: directory.to_path_buf(),
            manifest,
            parts,
        })
    }

    /// `sha256:` and 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    pub fn model_path(&self) -> PathBuf {
        self.directory.join(MODEL_FILE)
    }
}

impl Parts {
    /// Reads and checks every part by itself; `model.onnx` must be there, but is not opened.
    pub fn read(directory: &Path) -> Result<Parts, PackageError> {
        if !directory.join(MODEL_FILE).is_file() {
            return Err(PackageError::new("files", MODEL_FILE, "is missing"));
        }
        let schema_document = read_json(directory, SCHEMA_FILE)?.ok_or_else(|| {
            PackageError::new(
                "files",
                SCHEMA_FILE,
                "is missing; `predictd init` drafts one",
            )
        })?;
        let side = |name: &str| {
            let document = schema_document.get(name).ok_or_else(|| {
                PackageError::new("schema", SCHEMA_FILE, "is missing").at(&format!("/{name}"))
            })?;
            Schema::compile(document).map_err(|error| {
                PackageError::new("schema", SCHEMA_FILE, error.detail)
                    .at(&format!("/{name}{}", error.pointer))
            })
        };
        let (input, output) = (side("input")?, side("output")?);
        only_members(
            &schema_document,
            "schema",
            SCHEMA_FILE,
            &["input", "output", "$schema", "$comment"],
        )?;
        let preprocessing = read_json(directory, PREPROCESSING_FILE)?;
        if let Some(document) = &preprocessing {
            only_members(
                document,
                "preprocessing",
                PREPROCESSING_FILE,
                &["inputs", "outputs", "$comment"],
            )?;
            if let Some(guess) = guess::standing(document, &[]).into_iter().next() {
                let detail = format!(
                    "a guess of `predictd init` that nobody confirmed; `predictd pack` says how: {}",
                    guess.text
                );
                return Err(
                    PackageError::new("preprocessing", PREPROCESSING_FILE, detail)
                        .at(&guess.pointer),
                );
            }
        }
        let serving = match read_json(directory, "serving.json")? {
            Some(document) => serde_json::from_value(document)
                .map_err(|error| PackageError::new("serving", "serving.json", error.to_string()))?,
            None => Serving::default(),
        };
        if serving.batching.max_batch_size == Some(0) {
            return Err(
                PackageError::new("serving", "serving.json", "must be at least 1")
                    .at("/batching/max_batch_size"),
            );
        }
        let golden = match read_text(directory, GOLDEN_FILE)? {
            Some(text) => golden::parse(&text).map_err(|error| {
                PackageError::new("golden", GOLDEN_FILE, error.detail)
                    .at(&format!("line {}", error.line))
            })?,
            None => Vec::new(),
        };
        let evaluation = read_json(directory, "evaluation.json")?;
        let profile = read_json(directory, "profile.json")?;
        let card = read_text(directory, "README.md")?;
        Ok(Parts {
            input,
            output,
            schema_document,
            preprocessing,
            serving,
            golden,
            evaluation,
            profile,
            card,
        })
    }

    /// Whether an input of this name, which the graph could do without, gets a field or a section of the preprocessing.
    pub fn feeds(&self, input: &str) -> bool {
        let declared = self
            .preprocessing
            .as_ref()
            .and_then(|document| document.get("inputs")?.get(input));
        declared.is_some() || self.input.column(input).is_some()
    }

    /// Compiles the transformation against the graph, and checks that what comes out is what the output schema says.
    pub fn bind(&self, signature: &Signature) -> Result<Transform, PackageError> {
        let fields: Vec<Field> = self
            .input
            .columns()
            .iter()
            .map(|column| Field {
                name: column.name.clone(),
                kind: column.kind,
                nullable: column.nullable,
                array_shape: column.array_shape.clone(),
                pii: column.pii != Pii::None,
            })
            .collect();
        let section = |name: &str| {
            self.preprocessing
                .as_ref()
                .and_then(|document| document.get(name))
        };
        let preprocess =
            Preprocess::compile(section("inputs"), &fields, signature).map_err(|error| {
                PackageError::new("preprocessing", PREPROCESSING_FILE, error.detail)
                    .at(&format!("/inputs{}", error.pointer))
            })?;
        let nullable = |field: &str| self.output.allows_null(field);
        let postprocess =
            Postprocess::compile(section("outputs"), signature, nullable).map_err(|error| {
                PackageError::new("preprocessing", PREPROCESSING_FILE, error.detail)
                    .at(&format!("/outputs{}", error.pointer))
            })?;
        let postprocess = postprocess.with_lists(signature, |field| self.output.is_list(field));
        self.check_output_fields(&postprocess)?;
        let constant = self
            .serving
            .fallback
            .as_ref()
            .map(|answer| self.constant(answer, &postprocess, signature))
            .transpose()?;
        Ok(Transform {
            preprocess,
            postprocess,
            constant,
        })
    }

    /// The answer of `serving.json`, checked as an answer of the model's is.
    fn constant(
        &self,
        answer: &serde_json::Map<String, Value>,
        postprocess: &Postprocess,
        signature: &Signature,
    ) -> Result<Outputs, PackageError> {
        let wrong = |pointer: String, detail: String| {
            PackageError::new("serving", "serving.json", detail).at(&format!("/fallback{pointer}"))
        };
        let outputs = postprocess
            .constant(answer, signature)
            .map_err(|(pointer, detail)| wrong(pointer, detail))?;
        let text = outputs.to_value(0).to_string();
        let limits = decode::DecodeLimits {
            max_instances: 1,
            max_depth: 64,
            max_array_values: usize::MAX,
        };
        match decode::decode_instance(&self.output, text.as_bytes(), &limits) {
            Ok(_) => Ok(outputs),
            Err(decode::DecodeError::Invalid { faults, .. }) => {
                let fault = faults.into_iter().next();
                let (pointer, detail) = fault
                    .map(|fault| (fault.pointer, fault.detail))
                    .unwrap_or_default();
                Err(wrong(
                    pointer,
                    format!("does not fit the output schema: {detail}"),
                ))
            }
            Err(decode::DecodeError::Malformed { detail }) => Err(wrong(String::new(), detail)),
        }
    }

    fn check_output_fields(&self, postprocess: &Postprocess) -> Result<(), PackageError> {
        let produced: Vec<&str> = postprocess.field_names().collect();
        let document = self.output.document();
        let declared = document.get("properties").and_then(Value::as_object);
        let wrong = |pointer: &str, detail: String| {
            Err(PackageError::new("schema", SCHEMA_FILE, detail).at(pointer))
        };
        if let Some(extra) = produced
            .iter()
            .find(|field| !declared.is_some_and(|declared| declared.contains_key(**field)))
        {
            return wrong(
                "/output/properties",
                format!("\"{extra}\" is missing: the graph or preprocessing.json produces it"),
            );
        }
        let required = document
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        if let Some(missing) = required.into_iter().find(|field| !produced.contains(field)) {
            return wrong(
                "/output/required",
                format!(
                    "\"{missing}\" is never produced; the answer has: {}",
                    produced.join(", ")
                ),
            );
        }
        Ok(())
    }
}

impl Transform {
    /// The tensors of one row, or of rows that can share a run.
    pub fn prepare(&self, columns: &Columns) -> Result<Tensors, Vec<RowFault>> {
        let mut groups = self.preprocess.apply(columns)?;
        match (groups.pop(), groups.first()) {
            (Some(only), None) => Ok(only.tensors),
            (last, _) => {
                let row = last
                    .and_then(|group| group.rows?.first().copied())
                    .unwrap_or_default();
                let detail = "has arrays of other shapes than the rows before it".to_owned();
                Err(vec![RowFault {
                    row,
                    field: String::new(),
                    keyword: "items",
                    detail,
                }])
            }
        }
    }

    /// The tensors of all rows, those of different shapes apart.
    pub fn prepare_groups(&self, columns: &Columns) -> Result<Vec<Group>, Vec<RowFault>> {
        self.preprocess.apply(columns)
    }

    pub fn interpret(&self, outputs: &Tensors, rows: usize) -> Result<Outputs, PostprocessFault> {
        self.postprocess.apply(outputs, rows)
    }
}

/// A fault of a row as callers know it, with a pointer into their request.
pub fn locate(fault: RowFault, single: bool) -> Fault {
    let field = fault::pointer_to(&fault.field);
    let pointer = if single {
        field
    } else {
        format!("/instances/{}{field}", fault.row)
    };
    Fault {
        pointer,
        keyword: fault.keyword,
        detail: fault.detail,
    }
}

fn read_text(directory: &Path, file: &str) -> Result<Option<String>, PackageError> {
    match fs_err::read_to_string(directory.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PackageError::io(file, &error)),
    }
}

fn read_json(directory: &Path, file: &str) -> Result<Option<Value>, PackageError> {
    let Some(text) = read_text(directory, file)? else {
        return Ok(None);
    };
    let check = if file == SCHEMA_FILE {
        "schema"
    } else {
        "files"
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| PackageError::new(check, file, format!("is not JSON: {error}")))
}

fn only_members(
    document: &Value,
    check: &'static str,
    file: &str,
    known: &[&str],
) -> Result<(), PackageError> {
    let Some(members) = document.as_object() else {
        return Err(PackageError::new(check, file, "is not a JSON object"));
    };
    match members
        .keys()
        .find(|member| !known.contains(&member.as_str()))
    {
        Some(unknown) => Err(PackageError::new(
            check,
            file,
            format!("unknown member; known are {}", known.join(", ")),
        )
        .at(&format!("/{unknown}"))),
        None => Ok(()),
    }
}
