//! `Model`: what an ONNX file says, without the runtime. Names and numbers point into the file;
//! weights are not copied.
//!
//! WireField numbers are those of onnx.proto3, which never changes them.

use std::collections::HashMap;

use crate::graph::wire::{self, Content, Fields, Malformed, WireField};

/// Graphs within graphs: a file that nests deeper is not read.
const MAX_DEPTH: usize = 32;

/// Constants of at most this many elements are read: sizes, axes and limits are, weights are not.
const MAX_READ: usize = 256;

#[derive(Debug, Default)]
pub struct Model<'a> {
    pub ir_version: i64,
    pub producer: &'a str,
    pub producer_version: &'a str,
    /// Version by domain; `ai.onnx` is the empty one.
    pub opsets: Vec<(&'a str, i64)>,
    pub graph: Graph<'a>,
    /// Keys and values that somebody wrote beside the graph.
    pub metadata: Vec<(&'a str, &'a str)>,
    pub functions: Vec<Function<'a>>,
}

#[derive(Debug, Default)]
pub struct Graph<'a> {
    pub nodes: Vec<Node<'a>>,
    pub initializers: Vec<(&'a str, Constant<'a>)>,
    pub inputs: Vec<ValueInfo<'a>>,
    pub outputs: Vec<ValueInfo<'a>>,
    pub values: Vec<ValueInfo<'a>>,
}

/// A function of the model's own, of which a node can be a call.
#[derive(Debug, Default)]
pub struct Function<'a> {
    pub domain: &'a str,
    pub name: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub nodes: Vec<Node<'a>>,
    pub opsets: Vec<(&'a str, i64)>,
    /// Tells functions of one name apart.
    pub overload: &'a str,
    /// Attributes that a call may leave out.
    pub defaults: HashMap<&'a str, Attribute<'a>>,
}

#[derive(Clone, Debug, Default)]
pub struct Node<'a> {
    pub op: &'a str,
    pub domain: &'a str,
    pub overload: &'a str,
    pub name: &'a str,
    /// An empty name is an input that is left out.
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub attributes: HashMap<&'a str, Attribute<'a>>,
}

#[derive(Clone, Debug, Default)]
pub struct Attribute<'a> {
    pub int: Option<i64>,
    pub float: Option<f32>,
    pub text: Option<&'a [u8]>,
    pub ints: Vec<i64>,
    pub floats: Vec<f32>,
    pub texts: Vec<&'a [u8]>,
    pub tensor: Option<Constant<'a>>,
    pub graphs: Vec<std::rc::Rc<Graph<'a>>>,
    /// The attribute of the calling node that stands here.
    pub reference: Option<&'a str>,
}

/// A tensor in the file; its elements only where they are few.
#[derive(Clone, Debug, Default)]
pub struct Constant<'a> {
    pub name: &'a str,
    pub dims: Vec<i64>,
    pub data_type: i64,
    pub ints: Option<Vec<i64>>,
    pub reals: Option<Vec<f64>>,
    pub texts: Vec<&'a [u8]>,
}

#[derive(Clone, Debug, Default)]
pub struct ValueInfo<'a> {
    pub name: &'a str,
    pub kind: ValueKind,
    /// Number of the element type; 0 where it is not said.
    pub element: i64,
    /// `None` where no shape is declared: any is possible then.
    pub shape: Option<Vec<Dimension<'a>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueKind {
    #[default]
    Tensor,
    Sequence,
    Map,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension<'a> {
    Fixed(i64),
    Named(&'a str),
    Free,
}

impl<'a> Model<'a> {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// Where they are no protobuf message, or graphs lie in each other beyond any use.
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

    /// The version of a domain's operators; 1 where the file does not say.
    pub fn opset(&self, domain: &str) -> i64 {
        opset_of(&self.opsets, domain)
    }
}

pub fn opset_of(opsets: &[(&str, i64)], domain: &str) -> i64 {
    let plain = |name: &str| name == "ai.onnx" || name.is_empty();
    opsets
        .iter()
        .find(|(name, _)| *name == domain || plain(name) && plain(domain))
        .map_or(1, |(_, version)| *version)
}

impl Node<'_> {
    /// How a person finds it: `Softmax "attention/softmax"`.
    pub fn describe(&self) -> String {
        match (self.name, self.outputs.first()) {
            ("", None) => self.op.to_owned(),
            ("", Some(output)) => format!("{} (gives \"{output}\")", self.op),
            (name, _) => format!("{} \"{name}\"", self.op),
        }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.attributes.get(name)?.int
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes
            .get(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attributes.get(name)?.text?).ok()
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

/// A graph `depth` graphs deep in the model.
pub fn graph(bytes: &[u8], depth: usize) -> Result<Graph<'_>, Malformed> {
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
            // A sparse tensor has the name of its values.
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

fn node(bytes: &[u8], depth: usize) -> Result<Node<'_>, Malformed> {
    let mut node = Node::default();
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

/// Repeated numbers, packed or one by one.
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

/// The bytes of each element.
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
            (4, Content::Bytes(bytes)) if bytes.len() > MAX_READ * 4 => {}
            (4, content) => {
                let mut floats_read = Vec::new();
                floats(content, &mut floats_read)?;
                reals.extend(floats_read.into_iter().map(f64::from));
            }
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
        .unwrap_or(i64::MAX);
    if let Some(count) = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_READ)
    {
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
        constant.ints = Some(listed)
            .filter(|listed| listed.len() == count && matches!(constant.data_type, 6 | 7 | 9));
        constant.reals = Some(reals)
            .filter(|reals| reals.len() == count && matches!(constant.data_type, 1 | 11));
    }
    Ok(constant)
}

pub fn value_info(bytes: &[u8]) -> Result<ValueInfo<'_>, Malformed> {
    let mut info = ValueInfo::default();
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, _) => info.name = text(&field)?,
            (2, Content::Bytes(bytes)) => {
                for field in Fields(bytes) {
                    let field = field?;
                    match (field.number, field.content) {
                        (1, Content::Bytes(tensor)) => {
                            (info.element, info.shape) = tensor_type(tensor)?
                        }
                        (4, _) => info.kind = ValueKind::Sequence,
                        (5, _) => info.kind = ValueKind::Map,
                        (8 | 9, _) => info.kind = ValueKind::Other,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(bytes: &[u8]) -> Result<(i64, Option<Vec<Dimension<'_>>>), Malformed> {
    let (mut element, mut shape) = (0, None);
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (1, Content::Number(number)) => element = number as i64,
            (2, Content::Bytes(bytes)) => {
                let mut dims = Vec::new();
                for field in Fields(bytes) {
                    if let WireField {
                        number: 1,
                        content: Content::Bytes(bytes),
                        ..
                    } = field?
                    {
                        dims.push(dimension(bytes)?);
                    }
                }
                shape = Some(dims);
            }
            _ => {}
        }
    }
    Ok((element, shape))
}

fn dimension(bytes: &[u8]) -> Result<Dimension<'_>, Malformed> {
    let mut dimension = Dimension::Free;
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            // Some exporters write 0 or -1 for a free dimension.
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
