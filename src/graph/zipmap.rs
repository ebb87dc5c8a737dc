//! Removes ZipMap. This node at the end of a classifier's graph turns a tensor of scores into maps,
//! which can't be served. Its input is the tensor, and its attributes contain the labels.

use crate::graph::{
    Edited,
    class_labels::{self, labels_of},
    model::{Graph, GraphNode, Model, ValueInfo, ValueKind},
    wire::{Malformed, first, put_bytes, put_varint, rewritten},
};

const FLOAT: u64 = 1;
const DOMAIN: &str = "ai.onnx.ml";

/// Replaces every ZipMap that gives an output of the graph. The output keeps its name and becomes
/// the tensor of scores. All other bytes of the file stay the same. `None` means that no output
/// comes from a ZipMap.
///
/// # Errors
/// If the bytes are not an ONNX model.
pub fn cut(bytes: &[u8]) -> Result<Option<Edited>, Malformed> {
    let model = Model::read(bytes)?;
    let graph = &model.graph;
    // Only maps at the outputs must be removed: the runtime handles maps inside the graph.
    let is_output = |name: &str| {
        graph
            .outputs
            .iter()
            .any(|output| output.name == name && output.kind != ValueKind::Tensor)
    };
    let maps: Vec<&GraphNode<'_>> = graph
        .nodes
        .iter()
        .filter(|node| {
            node.op == "ZipMap"
                && node.domain == DOMAIN
                && node.outputs.first().is_some_and(|name| is_output(name))
        })
        // A ZipMap whose maps another node reads is not removed.
        .filter(|node| {
            !graph
                .nodes
                .iter()
                .any(|other| other.inputs.iter().any(|name| node.outputs.contains(name)))
        })
        .collect();
    // Without such maps the file can be loaded unchanged.
    if maps.is_empty() {
        return Ok(None);
    }
    let map_of = |name: &[u8]| {
        maps.iter().find(|node| {
            node.outputs
                .first()
                .is_some_and(|output| output.as_bytes() == name)
        })
    };
    let node = |node| Ok(first(node, 2)?.and_then(map_of).map(|map| identity(map)));
    let output = |info| Ok(first(info, 1)?.and_then(map_of).map(|map| scores(map)));
    let model = rewritten(bytes, |field, content| match field {
        7 => Ok(Some(rewritten(content, |field, content| match field {
            1 => node(content),
            12 => output(content),
            _ => Ok(None),
        })?)),
        _ => Ok(None),
    })?;
    let maps: Vec<_> = maps
        .iter()
        .filter_map(|node| Some(((*node.outputs.first()?).to_owned(), labels_of(node))))
        .collect();
    // The removal of the node also removes its attributes, so the labels are stored elsewhere.
    let mut model = model;
    for (output, labels) in &maps {
        class_labels::store_labels(output, labels, &mut model);
    }
    Ok(Some(Edited { model, maps }))
}

/// The node that replaces the ZipMap. It passes the ZipMap's input to the output's name.
fn identity(map: &GraphNode<'_>) -> Vec<u8> {
    let mut node = Vec::new();
    put_bytes(
        1,
        map.inputs.first().copied().unwrap_or_default().as_bytes(),
        &mut node,
    );
    put_bytes(
        2,
        map.outputs.first().copied().unwrap_or_default().as_bytes(),
        &mut node,
    );
    put_bytes(3, map.name.as_bytes(), &mut node);
    put_bytes(4, b"Identity", &mut node);
    node
}

/// The declaration of the output as `float32[any, labels]`.
fn scores(map: &GraphNode<'_>) -> Vec<u8> {
    let mut width = Vec::new();
    let labels = labels_of(map).len();
    if labels > 0 {
        put_varint(1, labels as u64, &mut width);
    }
    let mut shape = Vec::new();
    // An empty dimension is dynamic: it is the number of rows.
    put_bytes(1, &[], &mut shape);
    put_bytes(1, &width, &mut shape);
    let mut tensor = Vec::new();
    put_varint(1, FLOAT, &mut tensor);
    put_bytes(2, &shape, &mut tensor);
    let mut kind = Vec::new();
    put_bytes(1, &tensor, &mut kind);
    let mut info = Vec::new();
    put_bytes(
        1,
        map.outputs.first().copied().unwrap_or_default().as_bytes(),
        &mut info,
    );
    put_bytes(2, &kind, &mut info);
    info
}

/// An output that is not a tensor, which can't be served. The text contains a change of the export
/// that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}`{node} is {kind}, which can't be served; {advice}{exporter}")]
pub struct UnservableOutput {
    output: String,
    /// The node that gives the output, like ` of ZipMap "zip"`. Empty if it is not known.
    node: String,
    kind: &'static str,
    advice: &'static str,
    /// The library that wrote the file, like ` (written by skl2onnx 1.17)`. Empty if it is not known.
    exporter: String,
}

impl UnservableOutput {
    /// Describes the output of this name.
    pub fn of(model: &Model<'_>, output: &str) -> UnservableOutput {
        let graph: &Graph<'_> = &model.graph;
        let node = graph
            .nodes
            .iter()
            .find(|node| node.outputs.contains(&output));
        let kind = match graph.outputs.iter().find(|info| info.name == output) {
            Some(ValueInfo {
                kind: ValueKind::Map,
                ..
            }) => "a map",
            Some(ValueInfo {
                kind: ValueKind::Sequence,
                ..
            }) => "a sequence",
            _ => "no tensor",
        };
        let producer_node = node
            .map(|node| format!(" of {}", node.describe()))
            .unwrap_or_default();
        let producer = model.producer.to_ascii_lowercase();
        let advice = match node.map(|node| node.op) {
            Some(
                "SequenceConstruct" | "SequenceInsert" | "ConcatFromSequence" | "SplitToSequence",
            ) if producer.contains("skl2onnx") => {
                "a MultiOutputClassifier gives a list: export each of its estimators_ by itself, with options={\"zipmap\": False}"
            }
            Some("SequenceConstruct" | "SequenceInsert" | "SplitToSequence") => {
                "give each tensor of the list as an output of its own in the export"
            }
            Some("ZipMap") => "another node reads its maps; export without the nodes after it",
            _ => "export the model with a tensor for each output",
        };
        let exporter = if model.producer.is_empty() {
            String::new()
        } else {
            format!(
                " (written by {})",
                format!("{} {}", model.producer, model.producer_version).trim_end()
            )
        };
        UnservableOutput {
            output: output.to_owned(),
            node: producer_node,
            kind,
            advice,
            exporter,
        }
    }
}
