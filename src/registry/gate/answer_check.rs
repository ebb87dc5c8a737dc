//! `AnswerCheck`: builds whole responses, through postprocessing and the output schema, like the
//! server.

use crate::{
    decode::{DecodeError, decode_instance},
    engine::{Engine, infer::OnnxEngine},
    error::{counted, text_with_sources},
    graph::{
        flow::Mixing,
        row_report::{OutputRows, RowReport},
    },
    package::{
        PREPROCESSING_FILE, PackageCheck, PackageError, Parts, SCHEMA_FILE, Transform,
        warmup_instance::InstanceOrigin,
    },
    registry::gate::{OWN_LIMITS, RESPONSE_SIZES, first_fault, repeat_rows},
    tensor::{Tensors, join},
    transform::outputs::Outputs,
};

/// Keywords of JSON Schema whose violation does not depend on the values of a row. A generated row
/// may violate other keywords, because its values are not realistic.
const STRUCTURAL_KEYWORDS: [&str; 7] = [
    "type",
    "required",
    "additionalProperties",
    "minItems",
    "maxItems",
    "items",
    "prefixItems",
];

pub(super) struct AnswerCheck<'a> {
    pub parts: &'a Parts,
    pub transform: &'a Transform,
    pub report: &'a RowReport,
    pub origin: InstanceOrigin,
    /// The number of rows that share a run.
    pub rows_per_run: usize,
}

impl AnswerCheck<'_> {
    /// Builds the responses for requests of several sizes that repeat `rows`.
    pub(super) fn check(
        &self,
        engine: &mut OnnxEngine,
        rows: &[Tensors],
    ) -> Result<(), PackageError> {
        self.check_sources()?;
        for count in RESPONSE_SIZES {
            for run in repeat_rows(rows, count).chunks(self.rows_per_run) {
                // Rows of different shapes never share a run. The graph may also reject generated
                // rows.
                let Some(batch) = join(run) else { continue };
                let Ok(outputs) = engine.run(&batch) else {
                    continue;
                };
                self.check_response(&outputs, run.len(), count)?;
            }
        }
        Ok(())
    }

    /// Checks that every output in the response has one row per row of the inputs.
    fn check_sources(&self) -> Result<(), PackageError> {
        let untouched = self
            .transform
            .postprocess
            .sources()
            // Output steps that rearrange the axes may move the rows to the first dimension.
            .filter(|source| !source.rearranged);
        for source in untouched {
            let because = match self.report.output(source.output) {
                Some(OutputRows::Axis(axis)) => format!(
                    "has its rows along dimension {axis}: begin its output steps with `take` (one \
                     index of an axis) or `transpose`, so that its first dimension goes over the \
                     rows, or export one output for each"
                ),
                Some(OutputRows::Without) => {
                    "has no dimension of rows: leave it out of the outputs, or export the model \
                     without it"
                        .to_owned()
                }
                Some(OutputRows::Mixed(reason)) if reason.kind == Mixing::DataDependent => format!(
                    "has not one value for each row: {} {}; serve it as a bare repository over a \
                     tensor protocol",
                    reason.node, reason.effect
                ),
                _ => continue,
            };
            let detail = format!("the graph's output \"{}\" {because}", source.output);
            return Err(
                PackageError::new(PackageCheck::Outputs, PREPROCESSING_FILE, detail)
                    .at(&format!("/outputs/{}", source.field)),
            );
        }
        Ok(())
    }

    /// Checks one response. `rows` is the number of rows in the run, and `count` is the number of
    /// rows in the request.
    fn check_response(
        &self,
        outputs: &Tensors,
        rows: usize,
        count: usize,
    ) -> Result<(), PackageError> {
        let Some(outputs) = self.interpret(outputs, rows, count)? else {
            return Ok(());
        };
        for row in 0..rows {
            let text = outputs.to_value(row).to_string();
            let Err(error) = decode_instance(&self.parts.output, text.as_bytes(), &OWN_LIMITS)
            else {
                continue;
            };
            if self.origin == InstanceOrigin::Documented || is_structural(&error) {
                let detail = format!(
                    "an answer to {} does not fit: {}",
                    counted(count, "row"),
                    first_fault(&error)
                );
                return Err(
                    PackageError::new(PackageCheck::Schema, SCHEMA_FILE, detail).at("/output")
                );
            }
        }
        Ok(())
    }

    /// Builds the answer. `None` if a generated row has no finite output, because this is not an
    /// error of the package.
    fn interpret(
        &self,
        outputs: &Tensors,
        rows: usize,
        count: usize,
    ) -> Result<Option<Outputs>, PackageError> {
        let fault = match self.transform.interpret(outputs, rows) {
            Ok(outputs) => return Ok(Some(outputs)),
            Err(fault) => fault,
        };
        if fault.not_finite() && self.origin == InstanceOrigin::Generated {
            return Ok(None);
        }
        let mut sources = self.transform.postprocess.sources();
        let output = sources
            .find(|source| source.field == fault.field)
            .map(|source| source.output);
        let advice = match output.and_then(|output| self.report.output(output)) {
            _ if fault.not_finite() => {
                ": `impute` the value of the row that has none, or let the output schema allow null"
                    .to_owned()
            }
            Some(OutputRows::Mixed(reason)) => format!(
                " ({} {}); export the model with a row of each output for each row of the inputs",
                reason.node, reason.effect
            ),
            _ => String::new(),
        };
        let detail = format!(
            "no answer can be built for {}: {}{advice}",
            counted(count, "row"),
            text_with_sources(&fault)
        );
        Err(PackageError::new(PackageCheck::Outputs, PREPROCESSING_FILE, detail).at("/outputs"))
    }
}

fn is_structural(error: &DecodeError) -> bool {
    match error {
        DecodeError::Malformed { .. } => true,
        DecodeError::Invalid { faults, .. } => faults
            .iter()
            .any(|fault| STRUCTURAL_KEYWORDS.contains(&fault.keyword)),
    }
}
