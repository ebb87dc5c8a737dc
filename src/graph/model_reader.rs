//! Reads a [`Model`] from the bytes of an ONNX file.
//!
//! The field numbers come from onnx.proto3, and never change.

use crate::graph::{
    model::{
        Attribute, Constant, Dimension, Function, Graph, GraphNode, Model, ValueInfo, ValueKind,
    },
    wire::{self, Content, Fields, Malformed, WireField},
};

/// Maximum nesting of graphs. Each level is a recursion, and a hostile file could overflow the
/// stack.
const MAX_DEPTH: usize = 32;

/// Maximum number of elements of a constant that is read. Sizes, axes and limits have fewer
/// elements, and weights have more.
const MAX_READ: usize = 256;

impl<'a> Model<'a> {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// If the bytes are not a protobuf message, or if graphs are nested too deeply.
    pub fn read(bytes: &'a [u8]) -> Result<Model<'a>, Malformed> {
        let mut model = Model::default();
        for field in Fields(bytes) {
            let field = field?;
            match (field.number, field.content) {
                (1, Content::Number(version)) => model.ir_version = version as i64,
                (2, _) => model.producer = text(&field)?,
                (3, _) => model.producer_version = text(&field)?,
                (7, Content::Bytes(bytes)) => model.graph = graph(bytes, 0)?,
                (8, Content::Bytes(bytes)) => model.opsets.push(opset(bytes)?),
                (14, Content::Bytes(bytes)) => model.metadata.push(pair(bytes)?),
                (25, Content::Bytes(bytes)) => model.functions.push(function(bytes)?),
                _ => {}
            }
        }
        Ok(model)
    }
}

fn text<'a>(field: &WireField<'a>) -> Result<&'a str, Malformed> {
    let Content::Bytes(bytes) = field.content else {
        return Err(Malformed);
    };
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn pair(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut pair = ("", "");
    for field in Fields(bytes) {
        let field = field?;
        match field.number {
            1 => pair.0 = text(&field)?,
            2 => pair.1 = text(&field)?,
            _ => {}
        }
    }
    Ok(pair)
}

fn opset(bytes: &[u8]) -> Result<(&str, i64), Malformed> {
    let mut opset = ("", 0);
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, _) => opset.0 = text(&field)?,
            (2, Content::Number(version)) => opset.1 = version as i64,
            _ => {}
        }
    }
    Ok(opset)
}

/// Reads a graph inside `depth` other graphs.
fn graph(bytes: &[u8], depth: usize) -> Result<Graph<'_>, Malformed> {
    // The reader recurses for each nested graph.
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let mut graph = Graph::default();
    for field in Fields(bytes) {
        let field = field?;
        let Content::Bytes(content) = field.content else {
            continue;
        };
        match field.number {
            1 => graph.nodes.push(node(content, depth)?),
            5 => {
                let constant = constant(content)?;
                graph.initializers.push((constant.name, constant));
            }
            // The name of a sparse tensor is the name of its values.
            15 => {
                let (name, constant) = sparse(content)?;
                graph.initializers.push((name, constant));
            }
            11 => graph.inputs.push(value_info(content)?),
            12 => graph.outputs.push(value_info(content)?),
            13 => graph.values.push(value_info(content)?),
            _ => {}
        }
    }
    Ok(graph)
}

fn sparse(bytes: &[u8]) -> Result<(&str, Constant<'_>), Malformed> {
    let (mut name, mut dims) = ("", Vec::new());
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, Content::Bytes(values)) => name = constant(values)?.name,
            (3, content) => numbers(content, &mut dims)?,
            _ => {}
        }
    }
    Ok((
        name,
        Constant {
            name,
            dims,
            ..Constant::default()
        },
    ))
}

fn function(bytes: &[u8]) -> Result<Function<'_>, Malformed> {
    let mut function = Function::default();
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, _) => function.name = text(&field)?,
            (4, _) => function.inputs.push(text(&field)?),
            (5, _) => function.outputs.push(text(&field)?),
            (7, Content::Bytes(bytes)) => function.nodes.push(node(bytes, 0)?),
            (9, Content::Bytes(bytes)) => function.opsets.push(opset(bytes)?),
            (10, _) => function.domain = text(&field)?,
            (11, Content::Bytes(bytes)) => {
                let (name, attribute) = attribute(bytes, 0)?;
                function.defaults.insert(name, attribute);
            }
            (13, _) => function.overload = text(&field)?,
            _ => {}
        }
    }
    Ok(function)
}

fn node(bytes: &[u8], depth: usize) -> Result<GraphNode<'_>, Malformed> {
    let mut node = GraphNode::default();
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, _) => node.inputs.push(text(&field)?),
            (2, _) => node.outputs.push(text(&field)?),
            (3, _) => node.name = text(&field)?,
            (4, _) => node.op = text(&field)?,
            (5, Content::Bytes(bytes)) => {
                let (name, attribute) = attribute(bytes, depth)?;
                node.attributes.insert(name, attribute);
            }
            (7, _) => node.domain = text(&field)?,
            (8, _) => node.overload = text(&field)?,
            _ => {}
        }
    }
    Ok(node)
}

fn attribute(bytes: &[u8], depth: usize) -> Result<(&str, Attribute<'_>), Malformed> {
    let mut name = "";
    let mut attribute = Attribute::default();
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, _) => name = text(&field)?,
            (2, Content::Fixed32(bytes)) => attribute.float = Some(f32::from_le_bytes(bytes)),
            (3, Content::Number(number)) => attribute.int = Some(number as i64),
            (4, Content::Bytes(bytes)) => attribute.text = Some(bytes),
            (5, Content::Bytes(bytes)) => attribute.tensor = Some(constant(bytes)?),
            // Field 6 contains one graph, and field 11 contains a list of graphs.
            (6 | 11, Content::Bytes(bytes)) => attribute
                .graphs
                .push(std::rc::Rc::new(graph(bytes, depth + 1)?)),
            (7, content) => floats(content, &mut attribute.floats)?,
            (8, content) => numbers(content, &mut attribute.ints)?,
            (9, Content::Bytes(bytes)) => attribute.texts.push(bytes),
            (21, _) => attribute.reference = Some(text(&field)?).filter(|name| !name.is_empty()),
            _ => {}
        }
    }
    Ok((name, attribute))
}

/// Reads repeated numbers, either packed or as single fields.
fn numbers(content: Content<'_>, to: &mut Vec<i64>) -> Result<(), Malformed> {
    match content {
        Content::Number(number) => to.push(number as i64),
        Content::Bytes(mut bytes) => {
            while !bytes.is_empty() {
                to.push(wire::number(&mut bytes).ok_or(Malformed)? as i64);
            }
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

fn floats(content: Content<'_>, to: &mut Vec<f32>) -> Result<(), Malformed> {
    match content {
        Content::Fixed32(bytes) => to.push(f32::from_le_bytes(bytes)),
        Content::Bytes(bytes) => to.extend(elements(bytes).map(f32::from_le_bytes)),
        _ => return Err(Malformed),
    }
    Ok(())
}

/// The bytes of each element of a packed list.
fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

fn constant(bytes: &[u8]) -> Result<Constant<'_>, Malformed> {
    let mut constant = Constant::default();
    let (mut raw, mut listed, mut reals) = (None, Vec::new(), Vec::new());
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, content) => numbers(content, &mut constant.dims)?,
            (2, Content::Number(number)) => constant.data_type = number as i64,
            // Weights are skipped without being decoded.
            (4, Content::Bytes(bytes)) if bytes.len() > MAX_READ * 4 => {}
            (4, content) => {
                let mut floats_read = Vec::new();
                floats(content, &mut floats_read)?;
                reals.extend(floats_read.into_iter().map(f64::from));
            }
            // A varint has at most 10 bytes.
            (5 | 7, Content::Bytes(bytes)) if bytes.len() > MAX_READ * 10 => {}
            (5 | 7, content) => numbers(content, &mut listed)?,
            (6, Content::Bytes(bytes)) => constant.texts.push(bytes),
            (8, _) => constant.name = text(&field)?,
            (9, Content::Bytes(bytes)) => raw = Some(bytes),
            _ => {}
        }
    }
    let count = constant
        .dims
        .iter()
        .try_fold(1i64, |product, dim| product.checked_mul(*dim))
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count <= MAX_READ);
    let Some(count) = count else {
        return Ok(constant);
    };
    // Element types of TensorProto: 1 is float32, 6 int32, 7 int64, 9 bool and 11 float64.
    match (constant.data_type, raw) {
        (1, Some(raw)) => {
            reals.extend(elements(raw).map(|bytes| f64::from(f32::from_le_bytes(bytes))))
        }
        (11, Some(raw)) => reals.extend(elements(raw).map(f64::from_le_bytes)),
        (6, Some(raw)) => {
            listed.extend(elements(raw).map(|bytes| i64::from(i32::from_le_bytes(bytes))))
        }
        (7, Some(raw)) => listed.extend(elements(raw).map(i64::from_le_bytes)),
        (9, Some(raw)) => listed.extend(raw.iter().map(|byte| i64::from(*byte))),
        _ => {}
    }
    // A list of a different length contradicts the dimensions, and must not be used.
    constant.ints = Some(listed)
        .filter(|listed| listed.len() == count && matches!(constant.data_type, 6 | 7 | 9));
    constant.reals =
        Some(reals).filter(|reals| reals.len() == count && matches!(constant.data_type, 1 | 11));
    Ok(constant)
}

fn value_info(bytes: &[u8]) -> Result<ValueInfo<'_>, Malformed> {
    let mut info = ValueInfo::default();
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, _) => info.name = text(&field)?,
            (2, Content::Bytes(bytes)) => read_type(bytes, &mut info)?,
            _ => {}
        }
    }
    Ok(info)
}

fn read_type<'a>(bytes: &'a [u8], info: &mut ValueInfo<'a>) -> Result<(), Malformed> {
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, Content::Bytes(tensor)) => (info.element, info.shape) = tensor_type(tensor)?,
            (4, _) => info.kind = ValueKind::Sequence,
            (5, _) => info.kind = ValueKind::Map,
            (8 | 9, _) => info.kind = ValueKind::Other,
            _ => {}
        }
    }
    Ok(())
}

fn tensor_type(bytes: &[u8]) -> Result<(i64, Option<Vec<Dimension<'_>>>), Malformed> {
    let (mut element, mut shape) = (0, None);
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, Content::Number(number)) => element = number as i64,
            (2, Content::Bytes(bytes)) => shape = Some(dimensions(bytes)?),
            _ => {}
        }
    }
    Ok((element, shape))
}

fn dimensions(bytes: &[u8]) -> Result<Vec<Dimension<'_>>, Malformed> {
    let mut dims = Vec::new();
    for field in Fields(bytes) {
        let field = field?;
        if let (1, Content::Bytes(bytes)) = (field.number, field.content) {
            dims.push(dimension(bytes)?);
        }
    }
    Ok(dims)
}

fn dimension(bytes: &[u8]) -> Result<Dimension<'_>, Malformed> {
    let mut dimension = Dimension::Free;
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            // Some exporters write 0 or -1 for a dynamic dimension.
            (1, Content::Number(size)) if size as i64 > 0 => {
                dimension = Dimension::Fixed(size as i64)
            }
            (2, _) => {
                dimension = Some(text(&field)?)
                    .filter(|name| !name.is_empty())
                    .map_or(Dimension::Free, Dimension::Named)
            }
            _ => {}
        }
    }
    Ok(dimension)
}
