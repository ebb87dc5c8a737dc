//! Imports an MLflow model with the flavor `onnx`. The signature becomes the schema, and the input
//! example the inputs of golden examples.

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

mod columns;
mod input_example;

use serde_json::{Value, json};

use crate::{
    id::{ModelId, ModelName},
    package::{
        MODEL_FILE, PackageCheck, PackageError,
        draft::{DraftSources, draft},
        import::{
            Imported, card,
            mlmodel::{self, MlModel, MlModelInputs, OnnxFlavor},
        },
        manifest::Provenance,
    },
    tensor::signature::Signature,
};

/// Names that MLflow and its stores give to every model, and that don't identify one.
const GENERIC_NAMES: [&str; 3] = ["model", "artifacts", "data"];

/// The flavor `onnx`, which is the only one that is served.
pub(crate) fn flavor(model: &MlModel) -> Result<&OnnxFlavor, PackageError> {
    model.flavors.onnx.as_ref().ok_or_else(|| {
        let names = if model.flavors.names.is_empty() {
            "none".to_owned()
        } else {
            model.flavors.names.join(", ")
        };
        let advice = "convert it (skl2onnx.to_onnx, torch.onnx.export, onnxmltools) and log the \
                      result with mlflow.onnx.log_model";
        PackageError::new(
            PackageCheck::Mlflow,
            mlmodel::FILE,
            format!("expected the flavor onnx, found {names}; {advice}"),
        )
        .at("/flavors")
    })
}

/// Returns a name for the model: the first that is not generic, of the directory's name and
/// MLflow's artifact path.
pub(crate) fn name(model: &MlModel, directory: &str) -> Option<ModelName> {
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
    // A generic name would collide as soon as a second model is imported.
    let specific = candidates
        .iter()
        .find(|name| !name.is_empty() && !GENERIC_NAMES.contains(&name.as_str()));
    ModelName::parse(specific.or_else(|| candidates.iter().find(|name| !name.is_empty()))?)
}

/// Replaces the characters that a model's name can't have.
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
        // The maximum length of a model name.
        .take(128)
        .collect()
}

/// Creates the package's documents from the signature, the example and the graph.
pub(crate) fn import(
    id: &ModelId,
    model: &MlModel,
    example: Option<&Value>,
    signature: &Signature,
) -> Result<Imported, PackageError> {
    let mut notes = Vec::new();
    let columns = signature_columns(model, signature, &mut notes)?;
    let mut drafted = draft(signature, &DraftSources::default())
        .map_err(|error| PackageError::caused_by(PackageCheck::Schema, MODEL_FILE, "", error))?;
    let mut rows = example
        .map(|example| input_example::rows(example, columns.as_deref(), signature))
        .unwrap_or_default();
    let mut preprocessing = None;
    if let Some(columns) = &columns {
        drafted.schema["input"] = columns::input_schema(columns, &rows, signature);
        preprocessing = columns::preprocessing(columns, signature)?;
    }
    let input = &mut drafted.schema["input"];
    for row in &mut rows {
        input_example::unwrap_scalars(row, &input["properties"]);
    }
    // MLflow has no title, and the draft's title asks a person to write one.
    input["title"] = json!(format!("Input of {}", id.name));
    if let Some(first) = rows.first() {
        input["examples"] = json!([first]);
    }
    // The import continues, because an example is useful but not required.
    if example.is_some() && rows.is_empty() {
        notes.push(
            "the input example has a form that is not understood: no golden examples were made \
             of it"
                .to_owned(),
        );
    }
    let warnings = parameter_warnings(model);
    let origin = origin(model);
    let golden = if rows.is_empty() {
        Vec::new()
    } else {
        vec![
            "inputs of MLflow's input example, with the answers that ONNX Runtime gave at the \
             import"
                .to_owned(),
        ]
    };
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
        examples: rows,
        provenance: Provenance {
            source: Some(origin),
            ..Provenance::default()
        },
        warnings,
        notes,
    })
}

/// The named columns of the signature. `None` means that the fields are the graph's inputs.
fn signature_columns(
    model: &MlModel,
    signature: &Signature,
    notes: &mut Vec<String>,
) -> Result<Option<columns::NamedColumns>, PackageError> {
    match model.inputs()? {
        Some(MlModelInputs::Columns(columns)) => Ok(columns::by_name(columns)),
        Some(MlModelInputs::Tensors(tensors)) => {
            columns::check_tensors(&tensors, signature)?;
            Ok(None)
        }
        None => {
            notes.push(
                "the model was logged without a signature: fields are named as the graph's inputs"
                    .to_owned(),
            );
            Ok(None)
        }
    }
}

fn parameter_warnings(model: &MlModel) -> Vec<String> {
    let has_parameters = model
        .signature
        .as_ref()
        .is_some_and(|signature| signature.params.is_some());
    if !has_parameters {
        return Vec::new();
    }
    vec!["MLmodel /signature/params: not taken over; a package has no parameters".to_owned()]
}

/// Describes the run or model for the provenance and the model card.
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

#[cfg(test)]
mod tests;
