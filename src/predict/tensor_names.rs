//! Names in a request of tensors: the inputs that it contains and the outputs that it requests.

use crate::{
    decode::elements::{Elements, WireTensor},
    registry::servable::Packaged,
    schema::fault::shorten,
    tensor::{
        DataType, Dim, Shape,
        signature::{Signature, TensorSpec},
    },
};

/// Maximum number of unknown inputs and outputs that get an error with their name. Names are
/// compared with each other, so without a limit a request of a million tensors would take minutes.
const MAX_UNKNOWN: usize = 64;

/// Formats names for an error message.
pub(super) fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Whether a request names inputs of the graph and no field of the schema.
pub(super) fn names_the_graph(
    tensors: &[WireTensor],
    packaged: &Packaged,
    graph: &Signature,
) -> bool {
    let has = |specs: &[TensorSpec], name: &str| specs.iter().any(|spec| *spec.name == *name);
    !tensors.is_empty()
        && tensors
            .iter()
            .all(|tensor| has(&graph.inputs, &tensor.name))
        && !tensors
            .iter()
            .any(|tensor| has(&packaged.fields.inputs, &tensor.name))
}

/// Why the names in a request are refused. The names are shortened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// `side` is `inputs` or `outputs`.
    #[error("the request has {given} {side}; the model has {takes}")]
    TooMany {
        given: usize,
        side: &'static str,
        takes: usize,
    },
    #[error("output `{name}` is requested twice")]
    RequestedTwice { name: String },
    #[error("there is no output `{name}`; the outputs of the model are {known}")]
    UnknownOutput { name: String, known: String },
    #[error("the model has {inputs} inputs; name them: {known}")]
    Unnamed { inputs: usize, known: String },
    #[error("{bytes} bytes are not one row of input `{name}`, {datatype} {shape}")]
    NotOneRow {
        bytes: usize,
        name: String,
        datatype: &'static str,
        shape: Shape,
    },
}

/// Refuses a request that contains far more names than the model has.
pub(super) fn check_counts(
    tensors: &[WireTensor],
    wanted: &[String],
    offered: &Signature,
) -> Result<(), NameError> {
    for (given, takes, side) in [
        (tensors.len(), offered.inputs.len(), "inputs"),
        (wanted.len(), offered.outputs.len(), "outputs"),
    ] {
        if given > takes + MAX_UNKNOWN {
            return Err(NameError::TooMany { given, side, takes });
        }
    }
    Ok(())
}

/// Checks that the caller names only outputs of the model, and each at most once.
pub(super) fn check_wanted(wanted: &[String], offered: &Signature) -> Result<(), NameError> {
    let twice = wanted
        .iter()
        .enumerate()
        .find(|(at, name)| wanted.iter().take(*at).any(|other| other == *name));
    if let Some((_, name)) = twice {
        let name = shorten(name);
        return Err(NameError::RequestedTwice { name });
    }
    let Some(unknown) = wanted.iter().find(|name| offered.output(name).is_none()) else {
        return Ok(());
    };
    let known: Vec<&str> = offered.outputs.iter().map(|spec| &*spec.name).collect();
    Err(NameError::UnknownOutput {
        name: shorten(unknown),
        known: list(&known),
    })
}

/// Gives a tensor without a name the name of the only input, and a shape if the request has none.
pub(super) fn name_tensors(
    mut tensors: Vec<WireTensor>,
    offered: &Signature,
) -> Result<Vec<WireTensor>, NameError> {
    let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name.is_empty()) else {
        return Ok(tensors);
    };
    let [spec] = offered.inputs.as_slice() else {
        let known: Vec<&str> = offered.inputs.iter().map(|spec| &*spec.name).collect();
        return Err(NameError::Unnamed {
            inputs: known.len(),
            known: list(&known),
        });
    };
    tensor.name = spec.name.to_string();
    match &tensor.elements {
        Elements::Raw(bytes) if tensor.shape.is_none() => {
            let text = spec.datatype == DataType::Bytes;
            let elements = spec.datatype.size().map_or(1, |size| bytes.len() / size);
            let shape = shape_of_one_row(spec, elements).ok_or_else(|| NameError::NotOneRow {
                bytes: bytes.len(),
                name: spec.name.to_string(),
                datatype: spec.datatype.protocol_name(),
                shape: spec.shape.clone(),
            })?;
            tensor.datatype = Some(spec.datatype);
            tensor.shape = Some(shape);
            if text {
                tensor.elements = Elements::Texts(vec![bytes.clone()]);
            }
        }
        _ => {}
    }
    Ok(tensors)
}

/// The shape of one row with this number of elements. A dynamic first dimension is 1, and at most
/// one other dimension may be dynamic.
fn shape_of_one_row(spec: &TensorSpec, elements: usize) -> Option<Vec<usize>> {
    let dims = &spec.shape.0;
    let free = dims
        .iter()
        .skip(1)
        .filter(|dim| matches!(dim, Dim::Any | Dim::Rest))
        .count();
    let leading_is_batch = spec.shape.has_batch_axis() && (dims.len() > 1 || elements == 1);
    let fixed = dims
        .iter()
        .map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 })
        .try_fold(1usize, usize::checked_mul)?;
    let rest = elements.checked_div(fixed)?;
    if rest.checked_mul(fixed)? != elements
        || free > 1
        || free == 0 && leading_is_batch && rest != 1
    {
        return None;
    }
    let shape = dims.iter().enumerate().map(|(at, dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any if at == 0 && leading_is_batch => 1,
        Dim::Any | Dim::Rest => rest,
    });
    Some(shape.collect())
}
