//! `Transform`: a package's preprocessing and postprocessing, compiled against its graph.

use serde_json::{Map, Value};

use crate::{
    decode::{DecodeError, DecodeLimits, decode_instance},
    package::{PREPROCESSING_FILE, PackageCheck, PackageError, Parts, SCHEMA_FILE, SERVING_FILE},
    schema::{
        Pii,
        columns::Columns,
        fault::{self, Fault, FaultSubject},
    },
    tensor::{Tensors, signature::Signature},
    transform::{
        field_plan::FieldSpec,
        outputs::Outputs,
        postprocess::{Postprocess, PostprocessFault},
        preprocess::{Group, Preprocess},
        row_fault::RowFault,
    },
};

/// The preprocessing and the postprocessing of a package, compiled for its graph.
pub struct Transform {
    /// From the fields of a request to the input tensors of the graph.
    pub preprocess: Preprocess,
    /// From the output tensors of the graph to the fields of the response.
    pub postprocess: Postprocess,
    /// The answer for one row if the model can't give one, from `serving.json`.
    pub fallback: Option<Outputs>,
}

impl Parts {
    /// Compiles the preprocessing and the postprocessing against the graph, and checks that they
    /// produce the fields of the output schema.
    pub fn bind(&self, signature: &Signature) -> Result<Transform, PackageError> {
        // The transform does not use the schema. It gets only the columns that it can use.
        let fields: Vec<FieldSpec> = self
            .input
            .columns()
            .iter()
            .map(|column| FieldSpec {
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
                PackageError::new(
                    PackageCheck::Preprocessing,
                    PREPROCESSING_FILE,
                    error.detail,
                )
                .with_source(error.source)
                .at(&format!("/inputs{}", error.pointer))
            })?;
        let nullable = |field: &str| self.output.allows_null(field);
        let postprocess =
            Postprocess::compile(section("outputs"), signature, nullable).map_err(|error| {
                PackageError::new(
                    PackageCheck::Preprocessing,
                    PREPROCESSING_FILE,
                    error.detail,
                )
                .with_source(error.source)
                .at(&format!("/outputs{}", error.pointer))
            })?;
        // A row of dynamic width can be one value or a list. The output schema decides.
        let postprocess = postprocess.with_lists(signature, |field| self.output.is_list(field));
        // The check runs at the load, so that the first request can't find the error.
        self.check_output_fields(&postprocess)?;
        let fallback = self
            .serving
            .fallback
            .as_ref()
            .map(|answer| self.compile_fallback(answer, &postprocess, signature))
            .transpose()?;
        Ok(Transform {
            preprocess,
            postprocess,
            fallback,
        })
    }

    /// Compiles the fallback of `serving.json`, which must fit the output schema like an answer of
    /// the model.
    fn compile_fallback(
        &self,
        answer: &Map<String, Value>,
        postprocess: &Postprocess,
        signature: &Signature,
    ) -> Result<Outputs, PackageError> {
        let wrong = |pointer: String, detail: String| {
            PackageError::new(PackageCheck::Serving, SERVING_FILE, detail)
                .at(&format!("/fallback{pointer}"))
        };
        let outputs = postprocess
            .constant(answer, signature)
            .map_err(|error| wrong(error.pointer, error.detail).with_source(error.source))?;
        // The fallback is encoded and decoded like an answer, so that it breaks no caller who
        // validates answers.
        let text = outputs.to_value(0).to_string();
        let limits = DecodeLimits {
            max_instances: 1,
            max_depth: 64,
            max_array_values: usize::MAX,
        };
        match decode_instance(&self.output, text.as_bytes(), &limits) {
            Ok(_) => Ok(outputs),
            Err(DecodeError::Invalid { faults, .. }) => {
                let fault = faults.into_iter().next();
                let (pointer, detail) = fault
                    .map(|fault| (fault.pointer, fault.detail))
                    .unwrap_or_default();
                Err(wrong(
                    pointer,
                    format!("does not fit the output schema: {detail}"),
                ))
            }
            Err(DecodeError::Malformed { detail }) => Err(wrong(String::new(), detail.to_string())),
        }
    }

    /// Checks the produced fields against the output schema: it must declare all of them, and
    /// require no others.
    fn check_output_fields(&self, postprocess: &Postprocess) -> Result<(), PackageError> {
        let produced: Vec<&str> = postprocess.field_names().collect();
        let document = self.output.document();
        let declared = document.get("properties").and_then(Value::as_object);
        let wrong = |pointer: &str, detail: String| {
            Err(PackageError::new(PackageCheck::Schema, SCHEMA_FILE, detail).at(pointer))
        };
        // An undeclared field would be missing in the OpenAPI document of the model.
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
        // A required field that is never produced would make every answer invalid.
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
    /// The tensors of one row, or of several rows with equal shapes.
    ///
    /// # Errors
    /// If the preprocessing refuses a row, or if the arrays of the rows have different shapes.
    pub fn prepare(&self, columns: &Columns) -> Result<Tensors, Vec<RowFault>> {
        let mut groups = self.preprocess.apply(columns)?;
        // One group means that all rows have equal shapes and fit into one tensor.
        match (groups.pop(), groups.first()) {
            (Some(only), None) => Ok(only.tensors),
            // The last group has the first row whose shape differs.
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

    /// The tensors of all rows, in groups of equal shapes.
    pub fn prepare_groups(&self, columns: &Columns) -> Result<Vec<Group>, Vec<RowFault>> {
        self.preprocess.apply(columns)
    }

    /// Computes the answer's fields from the outputs of a run on `rows` rows.
    pub fn interpret(&self, outputs: &Tensors, rows: usize) -> Result<Outputs, PostprocessFault> {
        self.postprocess.apply(outputs, rows)
    }
}

/// Adds to the fault of a row the JSON pointer in the caller's request. `single` says that the
/// request is one instance instead of a list.
pub fn locate(fault: RowFault, single: bool) -> Fault {
    let field = fault::pointer_to(&fault.field);
    let pointer = if single {
        field
    } else {
        format!("/instances/{}{field}", fault.row)
    };
    // A fault of the whole row names no field.
    let subject = if fault.field.is_empty() {
        FaultSubject::Row
    } else {
        FaultSubject::Field
    };
    Fault {
        pointer,
        keyword: fault.keyword,
        subject,
        detail: fault.detail,
    }
}
