//! `GraphAnalysis`: what a model's file says about rows, labels and names. The analysis does not
//! need the runtime.

use std::sync::Arc;

use crate::graph::{
    class_labels::{self, ClassLabel},
    dimension_names,
    model::Model,
    row_dimension,
    row_report::RowReport,
    wire::Malformed,
};

/// The result of the analysis of one ONNX file.
pub struct GraphAnalysis {
    pub(crate) report: RowReport,
    /// The message if dimension 0 is time steps instead of rows, with the export option that puts
    /// the rows first. `None` if dimension 0 is rows.
    pub time_first: Option<String>,
    /// The outputs whose values belong to classes, or are classes, with the labels in the graph.
    pub labels: Vec<(String, Vec<ClassLabel>)>,
    pub(crate) vocabulary: Vocabulary,
    /// An input or output whose name contains a NUL. The runtime ends the name at the NUL, so no
    /// request could name it. `None` if there is no such name.
    pub nul_name: Option<String>,
}

impl GraphAnalysis {
    /// Analyses the bytes of a model. `fed` are inputs with a default that every run sets.
    ///
    /// # Errors
    /// If the bytes are not an ONNX model.
    pub fn read(bytes: &[u8], fed: &[Arc<str>]) -> Result<GraphAnalysis, Malformed> {
        let model = Model::read(bytes)?;
        let report = row_dimension::trace_rows(&model, fed);
        let time_first = dimension_names::time_first(&model, &report);
        let labels = class_labels::output_labels(&model);
        // The runtime's own signature does not show the part after the NUL.
        let mut names = model
            .graph
            .inputs
            .iter()
            .chain(&model.graph.outputs)
            .map(|info| info.name);
        let nul_name = names
            .find(|name| name.contains('\0'))
            .map(|name| name.escape_default().to_string());
        Ok(GraphAnalysis {
            report,
            time_first,
            labels,
            vocabulary: Vocabulary::read(&model),
            nul_name,
        })
    }

    /// Why rows of several requests must not share a run. `None` means that the graph is proved to
    /// keep them apart.
    pub fn batching_objection(&self) -> Option<String> {
        self.time_first
            .clone()
            .or_else(|| self.report.batching_objection())
    }
}

/// Categories that the graph itself contains. Test rows use them, because the graph may treat all
/// other values as the same unknown category.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    pub(crate) texts: Vec<String>,
    pub(crate) numbers: Vec<i64>,
}

impl Vocabulary {
    /// Maximum number of strings, and of numbers. More of them find no further errors.
    const MAX: usize = 16;

    fn read(model: &Model<'_>) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        let attributes = model.graph.nodes.iter().flat_map(|node| &node.attributes);
        for (name, attribute) in attributes {
            match *name {
                "cats_strings" | "keys_strings" | "pool_strings" => {
                    vocabulary.texts.extend(
                        attribute
                            .texts
                            .iter()
                            .filter_map(|text| String::from_utf8(text.to_vec()).ok()),
                    );
                }
                "cats_int64s" | "keys_int64s" => {
                    vocabulary.numbers.extend_from_slice(&attribute.ints)
                }
                _ => {}
            }
        }
        // A label encoder may have millions of categories.
        vocabulary.texts.truncate(Vocabulary::MAX);
        vocabulary.numbers.truncate(Vocabulary::MAX);
        vocabulary
    }
}
