//! ZipMap: the node at the end of a classifier's graph that turns a tensor of scores into maps. It is cut off: its input is
//! the tensor, its attribute the labels.

use crate::graph::{
    labels::{Label, labels_of},
    model::{Graph, Kind, Model, Node, ValueInfo},
    wire::{Content, Field, Fields, Malformed, put_bytes, put_varint},
};

const FLOAT: u64 = 1;
const DOMAIN: &str = "ai.onnx.ml";

/// A graph without its maps.
#[derive(Debug)]
pub struct Cut {
    pub model: Vec<u8>,
    /// The outputs that were maps, with the labels of their values.
    pub outputs: Vec<(String, Vec<Label>)>,
}

/// Cuts every ZipMap that gives an output of the graph; the output keeps its name and is the tensor of scores then.
/// `None` where there is none. All else in the file stays as it was, byte by byte.
///
/// # Errors
/// Where the bytes are no ONNX model.
pub fn cut(bytes: &[u8]) -> Result<Option<Cut>, Malformed> {
    let model = Model::read(bytes)?;
    let graph = &model.graph;
    let is_output = |name: &str| graph.outputs.iter().any(|output| output.name == name && output.kind != Kind::Tensor);
    let maps: Vec<&Node<'_>> = graph
        .nodes
        .iter()
        .filter(|node| node.op == "ZipMap" && node.domain == DOMAIN && node.outputs.first().is_some_and(|name| is_output(name)))
        // What another node reads can't be taken away.
        .filter(|node| !graph.nodes.iter().any(|other| other.inputs.iter().any(|name| node.outputs.contains(name))))
        .collect();
    if maps.is_empty() {
        return Ok(None);
    }
    let mut edited = Vec::with_capacity(bytes.len() + 256);
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.content) {
            (7, Content::Bytes(content)) => put_bytes(7, &without(content, &maps)?, &mut edited),
            _ => edited.extend_from_slice(field.raw),
        }
    }
    let outputs = maps.iter().filter_map(|node| Some(((*node.outputs.first()?).to_owned(), labels_of(node)))).collect();
    Ok(Some(Cut { model: edited, outputs }))
}

/// The graph with an Identity in each map's place, and the output's type changed.
fn without(graph: &[u8], maps: &[&Node<'_>]) -> Result<Vec<u8>, Malformed> {
    let of_output = |name: &str| maps.iter().find(|node| node.outputs.first() == Some(&name));
    let mut edited = Vec::with_capacity(graph.len() + 256);
    for field in Fields(graph) {
        let field = field?;
        match (field.number, field.content) {
            (1, Content::Bytes(content)) => match first_output(content)?.and_then(of_output) {
                Some(map) => put_bytes(1, &identity(map), &mut edited),
                None => edited.extend_from_slice(field.raw),
            },
            (12, Content::Bytes(content)) => match of_output(crate::graph::model::value_info(content)?.name) {
                Some(map) => put_bytes(12, &scores(map), &mut edited),
                None => edited.extend_from_slice(field.raw),
            },
            _ => edited.extend_from_slice(field.raw),
        }
    }
    Ok(edited)
}

fn first_output(node: &[u8]) -> Result<Option<&str>, Malformed> {
    for field in Fields(node) {
        if let Field { number: 2, content: Content::Bytes(name), .. } = field? {
            return std::str::from_utf8(name).map(Some).map_err(|_| Malformed);
        }
    }
    Ok(None)
}

fn identity(map: &Node<'_>) -> Vec<u8> {
    let mut node = Vec::new();
    put_bytes(1, map.inputs.first().copied().unwrap_or_default().as_bytes(), &mut node);
    put_bytes(2, map.outputs.first().copied().unwrap_or_default().as_bytes(), &mut node);
    put_bytes(3, map.name.as_bytes(), &mut node);
    put_bytes(4, b"Identity", &mut node);
    node
}

/// `name: float32[any, labels]`: as the scores of a classifier are.
fn scores(map: &Node<'_>) -> Vec<u8> {
    let mut width = Vec::new();
    let labels = labels_of(map).len();
    if labels > 0 {
        put_varint(1, labels as u64, &mut width);
    }
    let mut shape = Vec::new();
    put_bytes(1, &[], &mut shape);
    put_bytes(1, &width, &mut shape);
    let mut tensor = Vec::new();
    put_varint(1, FLOAT, &mut tensor);
    put_bytes(2, &shape, &mut tensor);
    let mut kind = Vec::new();
    put_bytes(1, &tensor, &mut kind);
    let mut info = Vec::new();
    put_bytes(1, map.outputs.first().copied().unwrap_or_default().as_bytes(), &mut info);
    put_bytes(2, &kind, &mut info);
    info
}

/// Why an output that is no tensor can't be served, and what its producer has to be told.
pub fn refusal(model: &Model<'_>, output: &str) -> String {
    let graph: &Graph<'_> = &model.graph;
    let node = graph.nodes.iter().find(|node| node.outputs.contains(&output));
    let kind = match graph.outputs.iter().find(|info| info.name == output) {
        Some(ValueInfo { kind: Kind::Map, .. }) => "a map",
        Some(ValueInfo { kind: Kind::Sequence, .. }) => "a sequence",
        _ => "no tensor",
    };
    let gives = node.map(|node| format!(" of {}", node.describe())).unwrap_or_default();
    let producer = model.producer.to_ascii_lowercase();
    let advice = match node.map(|node| node.op) {
        Some("SequenceConstruct" | "SequenceInsert" | "ConcatFromSequence" | "SplitToSequence") if producer.contains("skl2onnx") => {
            "a MultiOutputClassifier gives a list: export each of its estimators_ by itself, or, where their classes are as many, with \
             options={id(model): {\"output_class_labels\": False, \"zipmap\": False}}"
        }
        Some("SequenceConstruct" | "SequenceInsert" | "SplitToSequence") => {
            "give each tensor of the list as an output of its own in the export"
        }
        Some("ZipMap") => "another node reads its maps; export without the nodes after it",
        _ => "export the model with a tensor for each output",
    };
    let who =
        if model.producer.is_empty() { String::new() } else { format!(" (written by {} {})", model.producer, model.producer_version) };
    format!("output `{output}`{gives} is {kind}, which can't be served; {advice}{who}")
}
