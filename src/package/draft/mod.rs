//! Draft: a first schema and preprocessing, made from a graph and a sample of rows.
//!
//! The draft contains only neutral preparations: types follow the graph, and null becomes NaN for
//! inputs of floats. The draft asks for the preprocessing that only the training code shows. A
//! guess is marked as one, see [`guess`](crate::package::guess).

#![expect(
    clippy::indexing_slicing,
    reason = "members are set on documents made here as objects"
)]

mod array_field;
mod error;
mod field_draft;
mod inputs;
mod outputs;
mod properties;
mod question;
mod sample_field;
mod sample_rows;

use serde_json::{Map, Value, json};

pub(crate) use error::DraftError;

use crate::tensor::signature::Signature;

#[derive(Debug, PartialEq)]
pub(crate) struct Draft {
    pub schema: Value,
    /// The draft of `preprocessing.json`. Its guesses are marked. `None` if no such file is needed.
    pub preprocessing: Option<Value>,
    /// Notes about what a person should check.
    pub notes: Vec<String>,
}

/// The sources of a draft in addition to the graph.
#[derive(Debug, Default)]
pub(crate) struct DraftSources<'a> {
    /// The rows of the sample, which are instances with the same fields.
    pub rows: &'a [Value],
    /// Hints of a person about fields.
    pub hints: &'a [FieldHint],
    /// The outputs that were maps before their ZipMap was removed, with the labels in the graph's
    /// order.
    pub maps: &'a [(String, Vec<Value>)],
    /// Outputs whose values have labels in the graph, with the labels in the graph's order.
    pub labels: &'a [(String, Vec<Value>)],
}

/// How a field was preprocessed in training.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldHint {
    pub field: String,
    pub preparation: Preparation,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Preparation {
    /// Steps in the form of `preprocessing.json`.
    Steps(Vec<Value>),
    /// An encoding with the categories of the sample, which is a guess.
    Encode(DraftEncoding),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DraftEncoding {
    OneHot,
    Ordinal,
}

/// Drafts the documents of a package from a graph, and from rows if there are any.
///
/// # Errors
/// If the rows do not fit the graph, or if only a person knows their preparation. The error says
/// what the person can do.
pub(crate) fn draft(
    signature: &Signature,
    sources: &DraftSources<'_>,
) -> Result<Draft, DraftError> {
    let fields = sample_rows::read_fields(sources.rows)?;
    let mut notes = Vec::new();
    let (properties, inputs) = if fields.is_empty() {
        notes.push(
            "no sample was given: fields are named as the graph's inputs; --sample makes a better \
             draft"
                .to_owned(),
        );
        (properties::graph_properties(&signature.inputs)?, None)
    } else {
        inputs::draft_inputs(signature, &fields, sources, &mut notes)?
    };
    let is_optional = |name: &str| {
        fields
            .iter()
            .any(|field| field.name == name && !field.in_every_row)
    };
    // A field that some rows of the sample lack is optional for callers.
    let required: Vec<Value> = properties
        .keys()
        .filter(|name| !is_optional(name))
        .map(|name| json!(name))
        .collect();
    let mut input = json!({"type": "object", "title": "Describe the model's input here", "properties": properties, "required": required, "additionalProperties": false});
    if let Some(first) = sources.rows.first() {
        let (example, replaced) = sample_field::example(first);
        input["examples"] = json!([example]);
        notes.extend(replaced.iter().map(|name| {
            format!(
                "`{name}` of the schema's example is an even grey image, since the sample's is \
                 long; put a short one of your own there"
            )
        }));
    }
    let (output, outputs) = outputs::draft_outputs(signature, sources, &mut notes);
    let sections: Map<String, Value> = [("inputs", inputs), ("outputs", outputs)]
        .into_iter()
        .filter_map(|(name, section)| Some((name.to_owned(), section?)))
        .collect();
    let preprocessing = (!sections.is_empty()).then_some(Value::Object(sections));
    Ok(Draft {
        schema: json!({"input": input, "output": output}),
        preprocessing,
        notes,
    })
}

#[cfg(test)]
mod tests;
