//! Reads the signature of a session.

use std::sync::Arc;

use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};

use crate::{
    engine::error::GraphInterfaceError,
    graph::model::Model,
    tensor::{
        DataType, Dim, Shape,
        signature::{Signature, Symbols, TensorSpec},
    },
};

/// Sets the shape of each input and output without a declared shape to unknown.
pub(super) fn set_undeclared_shapes(signature: &mut Signature, model: &Model<'_>) {
    let sides = [
        (&mut signature.inputs, &model.graph.inputs),
        (&mut signature.outputs, &model.graph.outputs),
    ];
    for (specs, infos) in sides {
        for spec in specs.iter_mut().filter(|spec| spec.shape.0.is_empty()) {
            if infos
                .iter()
                .any(|info| info.name == &*spec.name && info.shape.is_none())
            {
                spec.shape = Shape::unknown();
            }
        }
    }
}

pub(super) fn is_tensor(outlet: &Outlet) -> bool {
    matches!(outlet.dtype(), ValueType::Tensor { .. })
}

pub(super) fn signature_of(session: &Session) -> Result<Signature, GraphInterfaceError> {
    let specs = |outlets: &[Outlet], side: &'static str| {
        outlets
            .iter()
            .map(|outlet| spec_of(outlet.name(), outlet.dtype(), side))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature {
        inputs: specs(session.inputs(), "input")?,
        outputs: specs(session.outputs(), "output")?,
    })
}

pub(super) fn symbols_of(session: &Session) -> Symbols {
    let names = |outlets: &[Outlet]| {
        outlets
            .iter()
            .map(|outlet| dimension_names(outlet.dtype()))
            .collect()
    };
    Symbols {
        inputs: names(session.inputs()),
        outputs: names(session.outputs()),
    }
}

/// The graph's names of the dimensions; an unnamed dimension has an empty name.
pub(super) fn dimension_names(kind: &ValueType) -> Vec<String> {
    match kind {
        ValueType::Tensor {
            dimension_symbols, ..
        } => dimension_symbols.to_vec(),
        _ => Vec::new(),
    }
}

/// `side` is `input` or `output`.
pub(super) fn spec_of(
    name: &str,
    kind: &ValueType,
    side: &'static str,
) -> Result<TensorSpec, GraphInterfaceError> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        return Err(GraphInterfaceError::NotATensor {
            side,
            name: name.to_owned(),
        });
    };
    let datatype = datatype_of(*ty).ok_or_else(|| GraphInterfaceError::ElementType {
        side,
        name: name.to_owned(),
        element: format!("{ty:?}"),
    })?;
    let dims = shape
        .iter()
        // The runtime reports -1 for a free dimension.
        .map(|dim| usize::try_from(*dim).map_or(Dim::Any, Dim::Fixed))
        .collect();
    Ok(TensorSpec {
        name: Arc::from(name),
        datatype,
        shape: Shape(dims),
    })
}

fn datatype_of(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}
