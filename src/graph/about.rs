//! `About`: what a model's file says of the dimension of rows and of labels.

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
}

impl About {
    /// Of a model's bytes as they are run; `maps` are the outputs whose maps were cut off them, with their labels.
    ///
    /// # Errors
    /// Where the bytes are no ONNX model.
    pub fn read(bytes: &[u8], maps: &[(String, Vec<Label>)]) -> Result<About, Malformed> {
        let model = Model::read(bytes)?;
        let report = rows::analyse(&model);
        let time_first = rows::time_first(&model, &report);
        let mut labels = labels::held(&model);
        labels.retain(|(output, _)| maps.iter().all(|(map, _)| map != output));
        labels.extend_from_slice(maps);
        Ok(About { report, time_first, labels })
    }

    /// Why rows of several requests may not share a run; `None` where the graph keeps them apart.
    pub fn objection(&self) -> Option<String> {
        self.time_first.clone().or_else(|| self.report.objection())
    }
}
