//! `About`: what a model's file says of the dimension of rows and of labels.

use std::sync::Arc;

use crate::graph::{
    labels::{self, Label},
    model::Model,
    rows::{self, Report},
    wire::Malformed,
};

pub struct About {
    pub report: Report,
    /// Dimension 0 goes over steps in time; what mends it.
    pub time_first: Option<String>,
    /// Outputs whose values belong to classes that the graph names, or are such names.
    pub labels: Vec<(String, Vec<Label>)>,
    pub vocabulary: Vocabulary,
    /// An input or output whose name has a NUL, at which the runtime cuts it off: nobody could name it.
    pub nul_name: Option<String>,
}

impl About {
    /// Of a model's bytes as they are run; `fed` are inputs with a default that every run gets all the same.
    ///
    /// # Errors
    /// Where the bytes are no ONNX model.
    pub fn read(bytes: &[u8], fed: &[Arc<str>]) -> Result<About, Malformed> {
        let model = Model::read(bytes)?;
        let report = rows::analyse(&model, fed);
        let time_first = rows::time_first(&model, &report);
        let labels = labels::held(&model);
        let mut names = model
            .graph
            .inputs
            .iter()
            .chain(&model.graph.outputs)
            .map(|info| info.name);
        let nul_name = names
            .find(|name| name.contains('\0'))
            .map(|name| name.escape_default().to_string());
        Ok(About {
            report,
            time_first,
            labels,
            vocabulary: Vocabulary::read(&model),
            nul_name,
        })
    }

    /// Why rows of several requests may not share a run; `None` where the graph keeps them apart.
    pub fn objection(&self) -> Option<String> {
        self.time_first.clone().or_else(|| self.report.objection())
    }
}

/// Values that the graph itself names: a row of others may be one unknown category to it.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    pub texts: Vec<String>,
    pub numbers: Vec<i64>,
}

impl Vocabulary {
    /// Of this many words each; more tell nothing new.
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
        vocabulary.texts.truncate(Vocabulary::MAX);
        vocabulary.numbers.truncate(Vocabulary::MAX);
        vocabulary
    }
}
