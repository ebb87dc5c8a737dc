//! `Parts`: the documents of a package. Each document is read and checked on its own.

use std::path::Path;

use serde_json::Value;

use crate::{
    document::{self, DocumentError},
    package::{
        EVALUATION_FILE, Evaluation, GOLDEN_FILE, MODEL_FILE, PREPROCESSING_FILE, PROFILE_FILE,
        PackageCheck, PackageError, Profile, SCHEMA_FILE, SERVING_FILE,
        golden::{self, GoldenExample},
        guess,
        serving::Serving,
    },
    schema::Schema,
};

/// The documents of a package, parsed.
pub struct Parts {
    /// The schema of one instance, from `schema.json`.
    pub input: Schema,
    pub(crate) output: Schema,
    pub(crate) schema_document: Value,
    pub(crate) preprocessing: Option<Value>,
    pub(crate) serving: Serving,
    /// The lines of `golden.jsonl`.
    pub golden: Vec<GoldenExample>,
    /// `evaluation.json`
    pub evaluation: Option<Evaluation>,
    /// `profile.json`
    pub profile: Option<Profile>,
    /// `README.md`: the model card.
    pub card: Option<String>,
}

impl Parts {
    /// Reads and checks every document by itself. `model.onnx` must exist, but is not opened.
    pub fn read(directory: &Path) -> Result<Parts, PackageError> {
        // This error comes first: without a graph the directory is probably not a package.
        if !directory.join(MODEL_FILE).is_file() {
            return Err(PackageError::new(
                PackageCheck::Files,
                MODEL_FILE,
                "is missing",
            ));
        }
        let schema_document = read_json(directory, SCHEMA_FILE)?.ok_or_else(|| {
            PackageError::new(
                PackageCheck::Files,
                SCHEMA_FILE,
                "is missing: a package needs one",
            )
        })?;
        let input = compile_schema(&schema_document, "input")?;
        let output = compile_schema(&schema_document, "output")?;
        refuse_unknown_members(
            &schema_document,
            PackageCheck::Schema,
            SCHEMA_FILE,
            &["input", "output", "$schema", "$comment"],
        )?;
        Ok(Parts {
            input,
            output,
            schema_document,
            preprocessing: read_preprocessing(directory)?,
            serving: read_serving(directory)?,
            golden: read_golden(directory)?,
            evaluation: read_typed(directory, EVALUATION_FILE, Evaluation::read)?,
            profile: read_typed(directory, PROFILE_FILE, |value| document::read(&value))?,
            card: read_text(directory, "README.md")?,
        })
    }

    /// Whether the package sets an input that is optional in the graph: the schema has a field of
    /// its name, or the preprocessing a section.
    pub fn feeds(&self, input: &str) -> bool {
        let section = self
            .preprocessing
            .as_ref()
            .and_then(|document| document.get("inputs")?.get(input));
        section.is_some() || self.input.column(input).is_some()
    }
}

/// `side` is `input` or `output`.
fn compile_schema(document: &Value, side: &str) -> Result<Schema, PackageError> {
    let document = document.get(side).ok_or_else(|| {
        PackageError::new(PackageCheck::Schema, SCHEMA_FILE, "is missing").at(&format!("/{side}"))
    })?;
    Schema::compile(document).map_err(|error| {
        PackageError::new(PackageCheck::Schema, SCHEMA_FILE, error.detail)
            .with_source(error.source)
            .at(&format!("/{side}{}", error.pointer))
    })
}

/// The steps are compiled later, against the graph.
fn read_preprocessing(directory: &Path) -> Result<Option<Value>, PackageError> {
    let Some(document) = read_json(directory, PREPROCESSING_FILE)? else {
        return Ok(None);
    };
    refuse_unknown_members(
        &document,
        PackageCheck::Preprocessing,
        PREPROCESSING_FILE,
        &["inputs", "outputs", "$comment"],
    )?;
    // A wrong guess gives plausible wrong answers, so a guess must never be served.
    if let Some(guess) = guess::find(&document, &[]).into_iter().next() {
        let detail = format!("a guess of the draft that nobody confirmed: {}", guess.text);
        return Err(
            PackageError::new(PackageCheck::Preprocessing, PREPROCESSING_FILE, detail)
                .at(&guess.pointer),
        );
    }
    Ok(Some(document))
}

fn read_serving(directory: &Path) -> Result<Serving, PackageError> {
    let Some(document) = read_json(directory, SERVING_FILE)? else {
        return Ok(Serving::default());
    };
    let serving: Serving = document::read(&document)
        .map_err(|error| PackageError::of_document(PackageCheck::Serving, SERVING_FILE, error))?;
    // A batch of 0 rows would never run a request.
    if serving.batching.max_batch_size == Some(0) {
        return Err(PackageError::new(
            PackageCheck::Serving,
            SERVING_FILE,
            "must be at least 1, not 0",
        )
        .at("/batching/max_batch_size"));
    }
    Ok(serving)
}

fn read_golden(directory: &Path) -> Result<Vec<GoldenExample>, PackageError> {
    let Some(text) = read_text(directory, GOLDEN_FILE)? else {
        return Ok(Vec::new());
    };
    golden::parse(&text).map_err(|error| {
        PackageError::caused_by(PackageCheck::Golden, GOLDEN_FILE, "", error.fault)
            .at(&format!("line {}", error.line))
    })
}

fn read_text(directory: &Path, file: &str) -> Result<Option<String>, PackageError> {
    match fs_err::read_to_string(directory.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PackageError::io(file, error)),
    }
}

fn read_json(directory: &Path, file: &str) -> Result<Option<Value>, PackageError> {
    let Some(text) = read_text(directory, file)? else {
        return Ok(None);
    };
    let check = if file == SCHEMA_FILE {
        PackageCheck::Schema
    } else {
        PackageCheck::Files
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| PackageError::of_document(check, file, DocumentError::not_json(&error)))
}

/// Reads an optional file as a type.
fn read_typed<T>(
    directory: &Path,
    file: &str,
    read: impl FnOnce(Value) -> Result<T, DocumentError>,
) -> Result<Option<T>, PackageError> {
    let Some(document) = read_json(directory, file)? else {
        return Ok(None);
    };
    read(document)
        .map(Some)
        .map_err(|error| PackageError::of_document(PackageCheck::Files, file, error))
}

/// Rejects unknown members. An unknown member is a typo, or a feature of a later format. If it were
/// ignored, the model would be served in a way that its author did not mean.
fn refuse_unknown_members(
    document: &Value,
    check: PackageCheck,
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
            format!("unknown member; expected one of: {}", known.join(", ")),
        )
        .at(&format!("/{unknown}"))),
        None => Ok(()),
    }
}
