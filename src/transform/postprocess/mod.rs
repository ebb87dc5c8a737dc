//! `Postprocess`: from the outputs of the graph to the fields of the response.

mod arithmetic;
mod compile;
mod output_field;
mod step;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    tensor::{
        Dim, Tensors,
        signature::{Signature, TensorSpec},
    },
    transform::{
        constant,
        declaration::DeclarationError,
        outputs::{OutputColumn, Outputs},
        postprocess::output_field::OutputField,
    },
};

/// An answer of the model that can't become a field of the response.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("output `{field}`")]
pub struct PostprocessFault {
    /// The name of the field of the response.
    pub field: String,
    /// Why the output cannot become the field.
    #[source]
    pub fault: OutputFault,
}

impl PostprocessFault {
    /// Whether the model answered with NaN or an infinity.
    pub fn not_finite(&self) -> bool {
        matches!(self.fault, OutputFault::NotFinite { .. })
    }
}

/// Why an output of the graph can't become a field of the response.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum OutputFault {
    #[error("the model gave no such output")]
    Missing,
    #[error("the model answered with the shape {shape:?}, which take and transpose don't fit")]
    Rearrangement { shape: Vec<usize> },
    #[error("the model answered with the shape {shape:?} for {rows} rows")]
    RowCount { shape: Vec<usize>, rows: usize },
    #[error("the model gave {shape:?} per row, but one list of values is expected")]
    NotAList { shape: Vec<usize> },
    #[error("the model gave {width} values per row for {labels} labels")]
    LabelCount { width: usize, labels: usize },
    /// A step names an index that the row does not have.
    #[error("the model gave {width} values per row")]
    TooFewValues { width: usize },
    #[error("the model answered {value}, which is not an answer")]
    NotFinite { value: f64 },
}

/// The compiled section `outputs` of `preprocessing.json`.
#[derive(Debug)]
pub struct Postprocess {
    fields: Vec<OutputField>,
}

/// The output of the graph from which a field of the response is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputSource<'a> {
    pub(crate) field: &'a str,
    pub(crate) output: &'a str,
    /// Whether the field starts with `take` or `transpose`, so that the first dimension of the
    /// output may be other than the rows.
    pub rearranged: bool,
}

impl Postprocess {
    /// Compiles the section `outputs` against the graph. Without a section, each output of the
    /// graph becomes a field with its own name. `nullable` says whether the output schema allows
    /// null for a field.
    pub fn compile(
        section: Option<&Value>,
        signature: &Signature,
        nullable: impl Fn(&str) -> bool,
    ) -> Result<Postprocess, DeclarationError> {
        let same_names;
        let declared: &Map<String, Value> = match section {
            None => {
                let output = |spec: &TensorSpec| {
                    let name = spec.name.to_string();
                    (name.clone(), serde_json::json!({"from": name}))
                };
                // A graph without a declaration answers with the names of its own outputs.
                same_names = signature.outputs.iter().map(output).collect();
                &same_names
            }
            // Without fields, a package would give empty answers.
            Some(Value::Object(declared)) if !declared.is_empty() => declared,
            Some(_) => {
                let detail = "must be an object with at least one field";
                return Err(DeclarationError::new("", detail));
            }
        };
        let fields = declared.iter().map(|(name, section)| {
            OutputField::compile(name, section, signature, nullable(name))
                .map_err(|error| error.below(&format!("/{name}")))
        });
        Ok(Postprocess {
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// Writes rows of dynamic width as lists for each field that the schema declares as a list,
    /// even if they have one value. Otherwise the same field would be a list for some requests and
    /// a scalar for others.
    #[must_use]
    pub fn with_lists(
        mut self,
        signature: &Signature,
        is_list: impl Fn(&str) -> bool,
    ) -> Postprocess {
        for field in &mut self.fields {
            let described = signature
                .output(&field.from)
                .map(|from| field.describe(from))
                .unwrap_or_default();
            // With a dynamic width, a row may have one value in this request and several in the
            // next. The schema says that the field is a list in both cases.
            field.list = is_list(&field.name)
                && described
                    .first()
                    .is_some_and(|spec| spec.shape.row() == [Dim::Any]);
        }
        self
    }

    pub(crate) fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The output of the graph for each field, in the order of the fields.
    pub fn sources(&self) -> impl Iterator<Item = OutputSource<'_>> {
        self.fields.iter().map(|field| OutputSource {
            field: &field.name,
            output: &field.from,
            rearranged: !field.moves.is_empty(),
        })
    }

    /// The specifications of the tensors that
    /// [`fields::tensors`](crate::transform::fields::tensors) creates from a response.
    pub fn describe(&self, signature: &Signature) -> Vec<TensorSpec> {
        self.fields
            .iter()
            .filter_map(|field| Some((field, signature.output(&field.from)?)))
            .flat_map(|(field, from)| field.describe(from))
            .collect()
    }

    /// One row with the values of `answer`, in the same types as the answers of the graph.
    pub fn constant(
        &self,
        answer: &Map<String, Value>,
        signature: &Signature,
    ) -> Result<Outputs, DeclarationError> {
        let fields = self.fields.iter().filter_map(|field| {
            let field_type = field.constant_type(signature.output(&field.from)?)?;
            Some((field.name.clone(), Arc::clone(&field.key), field_type))
        });
        constant::outputs(answer, fields)
    }

    /// The fields of the response for `rows` rows.
    pub fn apply(&self, outputs: &Tensors, rows: usize) -> Result<Outputs, PostprocessFault> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let fault = |fault| PostprocessFault {
                field: field.name.clone(),
                fault,
            };
            let mut column = field.apply(outputs, rows).map_err(fault)?;
            if let OutputColumn::Numbers { shape, .. }
            | OutputColumn::Bools { shape, .. }
            | OutputColumn::Texts { shape, .. } = &mut column
                && field.list
                && shape.is_empty()
            {
                // The shape of one value is empty. A list of one value has one dimension.
                shape.push(1);
            }
            fields.push((Arc::clone(&field.key), column));
        }
        Ok(Outputs { rows, fields })
    }
}
