//! Builds a `ModelInferResponse` from the output tensors of a prediction.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    api::{
        grpc::{
            infer_request::ContentsForm,
            inference::{
                InferParameter, ModelInferResponse, infer_parameter::ParameterChoice,
                model_infer_response::InferOutputTensor,
            },
            typed_contents,
        },
        oip::{self, RequestedOutput},
        refusal::Refusal,
    },
    decode::elements::to_raw,
    predict::Prediction,
    transform::fields::NamedTensor,
};

/// The parts of a request that its response depends on.
pub(super) struct GrpcResponseOptions {
    /// The request id, which the response repeats.
    pub id: String,
    pub outputs: Vec<RequestedOutput>,
    pub form: ContentsForm,
}

impl GrpcResponseOptions {
    /// Builds the response with these outputs, which are in the order in which they were requested.
    pub(super) fn respond(
        self,
        prediction: &Prediction,
        tensors: Vec<NamedTensor>,
    ) -> Result<ModelInferResponse, Refusal> {
        let outputs = &self.outputs;
        let classification = |index| {
            outputs
                .get(index)
                .map_or(0, |output: &RequestedOutput| output.classification)
        };
        let tensors = tensors.into_iter().enumerate().map(|(index, tensor)| {
            oip::answer_output(&prediction.servable, tensor, classification(index))
        });
        let tensors = tensors.collect::<Result<_, _>>()?;
        let (outputs, raw_output_contents) = write_outputs(tensors, self.form);
        let model = prediction.servable.id();
        Ok(ModelInferResponse {
            model_name: model.name.to_string(),
            model_version: model.version.to_string(),
            id: self.id,
            parameters: fallback_parameters(prediction),
            outputs,
            raw_output_contents,
        })
    }
}

/// The parameters that name the fallback. Empty if the assigned version answered.
fn fallback_parameters(prediction: &Prediction) -> BTreeMap<String, InferParameter> {
    let Some(fallback) = &prediction.fallback else {
        return BTreeMap::new();
    };
    let text = |text: &str| InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam(text.to_owned())),
    };
    BTreeMap::from([
        ("fallback".to_owned(), text(&fallback.to)),
        ("fallback_reason".to_owned(), text(fallback.reason.name())),
    ])
}

/// Writes the outputs in the form that the request has: typed contents, or raw bytes. Returns the
/// tensors, and the entries of `raw_output_contents`.
pub(super) fn write_outputs(
    outputs: Vec<NamedTensor>,
    form: ContentsForm,
) -> (Vec<InferOutputTensor>, Vec<Bytes>) {
    // A client expects one form for all outputs. Some datatypes have only the raw form.
    let is_typed = form == ContentsForm::Typed
        && outputs
            .iter()
            .all(|output| typed_contents::field_of(output.tensor.datatype()).is_some());
    let mut raw = Vec::new();
    let mut tensors = Vec::with_capacity(outputs.len());
    // The labels of a tensor are dropped, because the protocol has no field for them.
    for NamedTensor { name, tensor, .. } in outputs {
        let datatype = tensor.datatype().protocol_name().to_owned();
        let (shape, data) = tensor.into_parts();
        let contents = if is_typed {
            Some(typed_contents::write(data))
        } else {
            raw.push(to_raw(data));
            None
        };
        let shape = shape
            .into_iter()
            .map(|dim| i64::try_from(dim).unwrap_or(i64::MAX))
            .collect();
        tensors.push(InferOutputTensor {
            name: name.to_string(),
            datatype,
            shape,
            parameters: BTreeMap::new(),
            contents,
        });
    }
    (tensors, raw)
}
