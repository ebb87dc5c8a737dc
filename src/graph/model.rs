//! `Model`: the content of an ONNX file. Names borrow from the file's bytes, and weights are not
//! copied.

use std::collections::HashMap;

/// An ONNX model (`ModelProto`), with the parts that the analysis needs.
#[derive(Debug, Default)]
pub struct Model<'a> {
    pub(crate) ir_version: i64,
    pub(crate) producer: &'a str,
    pub(crate) producer_version: &'a str,
    /// The operator set version of each domain. The domain `ai.onnx` is also written as an empty
    /// string.
    pub opsets: Vec<(&'a str, i64)>,
    /// The main graph.
    pub graph: Graph<'a>,
    /// Keys and values of the file's metadata.
    pub metadata: Vec<(&'a str, &'a str)>,
    pub(crate) functions: Vec<Function<'a>>,
}

/// A graph of a model (`GraphProto`), with the parts that the analysis needs.
#[derive(Debug, Default)]
pub struct Graph<'a> {
    pub(crate) nodes: Vec<GraphNode<'a>>,
    pub(crate) initializers: Vec<(&'a str, Constant<'a>)>,
    pub(crate) inputs: Vec<ValueInfo<'a>>,
    /// The outputs, in the order of the graph.
    pub outputs: Vec<ValueInfo<'a>>,
    pub(crate) values: Vec<ValueInfo<'a>>,
}

/// A function that the model defines. A node may call it like an operator.
#[derive(Debug, Default)]
pub(crate) struct Function<'a> {
    pub domain: &'a str,
    pub name: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub nodes: Vec<GraphNode<'a>>,
    pub opsets: Vec<(&'a str, i64)>,
    /// Distinguishes functions with the same name.
    pub overload: &'a str,
    /// The defaults of attributes that a call may omit.
    pub defaults: HashMap<&'a str, Attribute<'a>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GraphNode<'a> {
    pub op: &'a str,
    pub domain: &'a str,
    pub overload: &'a str,
    pub name: &'a str,
    /// The names of the inputs. An omitted input has an empty name.
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub attributes: HashMap<&'a str, Attribute<'a>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Attribute<'a> {
    pub int: Option<i64>,
    pub float: Option<f32>,
    pub text: Option<&'a [u8]>,
    pub ints: Vec<i64>,
    pub floats: Vec<f32>,
    pub texts: Vec<&'a [u8]>,
    pub tensor: Option<Constant<'a>>,
    pub graphs: Vec<std::rc::Rc<Graph<'a>>>,
    /// In the body of a function: the name of the attribute of the calling node that replaces this
    /// one.
    pub reference: Option<&'a str>,
}

/// A tensor in the file. Its elements are read only if there are few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constant<'a> {
    pub name: &'a str,
    pub dims: Vec<i64>,
    pub data_type: i64,
    pub ints: Option<Vec<i64>>,
    pub reals: Option<Vec<f64>>,
    pub texts: Vec<&'a [u8]>,
}

/// An input, output or inner tensor of a graph (`ValueInfoProto`).
#[derive(Clone, Debug, Default)]
pub struct ValueInfo<'a> {
    /// The name of the tensor.
    pub name: &'a str,
    pub(crate) kind: ValueKind,
    /// The number of the element type, or 0 if it is not declared.
    pub element: i64,
    /// The declared shape. `None` means that no shape is declared.
    pub(crate) shape: Option<Vec<Dimension<'a>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ValueKind {
    #[default]
    Tensor,
    Sequence,
    Map,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension<'a> {
    Fixed(i64),
    Named(&'a str),
    Free,
}

impl<'a> Model<'a> {
    /// The version of a domain's operators, or 1 if the file does not declare it.
    pub fn opset(&self, domain: &str) -> i64 {
        opset_of(&self.opsets, domain)
    }
}

pub(crate) fn opset_of(opsets: &[(&str, i64)], domain: &str) -> i64 {
    // Files use both names of the standard domain.
    let plain = |name: &str| name == "ai.onnx" || name.is_empty();
    opsets
        .iter()
        .find(|(name, _)| *name == domain || plain(name) && plain(domain))
        .map_or(1, |(_, version)| *version)
}

impl GraphNode<'_> {
    /// The type and the name of the node, for messages: `Softmax "attention/softmax"`.
    pub(crate) fn describe(&self) -> String {
        match (self.name, self.outputs.first()) {
            ("", None) => self.op.to_owned(),
            ("", Some(output)) => format!("{} (gives \"{output}\")", self.op),
            (name, _) => format!("{} \"{name}\"", self.op),
        }
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.attributes.get(name)?.int
    }

    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes
            .get(name)
            .map(|attribute| attribute.ints.as_slice())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attributes.get(name)?.text?).ok()
    }
}
