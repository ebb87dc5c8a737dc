//! `Evaluation`: `evaluation.json`, the offline evaluation of a version.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use crate::document::{self, DocumentError};

/// An offline evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The file's content, unchanged.
    pub(crate) document: Value,
    pub(crate) members: EvaluationMembers,
}

/// The members that predictd reads. Other members are ignored, because tools add their own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EvaluationMembers {
    pub data: EvaluationData,
    /// The metrics on all rows, by name. Only the numbers are compared.
    pub metrics: Metrics,
    /// The metrics of slices: by field, then by the field's value.
    pub slices: IndexMap<String, IndexMap<String, Metrics>>,
}

pub(crate) type Metrics = IndexMap<String, Value>;

/// The rows of the evaluation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EvaluationData {
    pub sha256: Option<String>,
}

impl Evaluation {
    pub(crate) fn read(document: Value) -> Result<Evaluation, DocumentError> {
        let members = document::read(&document)?;
        Ok(Evaluation { document, members })
    }
}
