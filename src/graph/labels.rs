//! Labels that the graph itself holds: of ZipMap and of the classifiers of `ai.onnx.ml`.

use crate::graph::model::{Graph, Model, Node};

/// A class's name as the graph has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    Text(String),
    Number(i64),
}

impl Label {
    /// As JSON.
    pub fn to_value(&self) -> serde_json::Value {
        match self {
            Label::Text(text) => text.as_str().into(),
            Label::Number(number) => (*number).into(),
        }
    }
}

/// Outputs and their labels, as JSON.
pub fn to_values(labels: &[(String, Vec<Label>)]) -> Vec<(String, Vec<serde_json::Value>)> {
    labels.iter().map(|(output, labels)| (output.clone(), labels.iter().map(Label::to_value).collect())).collect()
}

/// The outputs of the graph whose values of a row belong to classes that the graph names, or are such names, in their order.
pub fn held(model: &Model<'_>) -> Vec<(String, Vec<Label>)> {
    let graph = &model.graph;
    graph
        .outputs
        .iter()
        .filter_map(|output| {
            let labels = scores_labels(graph, output.name, 0).or_else(|| own_labels(graph, output.name, 0))?;
            Some((output.name.to_owned(), labels))
        })
        .collect()
}

/// From the output back, through what neither moves nor mixes the classes.
fn scores_labels(graph: &Graph<'_>, name: &str, depth: usize) -> Option<Vec<Label>> {
    if depth > 64 {
        return None;
    }
    let node = graph.nodes.iter().find(|node| node.outputs.contains(&name))?;
    let labels = labels_of(node);
    match node.op {
        "ZipMap" if !labels.is_empty() => Some(labels),
        "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier" if node.outputs.get(1) == Some(&name) => {
            Some(labels).filter(|labels| !labels.is_empty())
        }
        // A ZipMap beside it names the same scores.
        _ if beside(graph, name).is_some() => beside(graph, name),
        "Identity" | "Cast" | "Normalizer" | "Softmax" | "Clip" | "ZipMap" => scores_labels(graph, node.inputs.first()?, depth + 1),
        _ => None,
    }
}

/// Of an output that is the class itself: as long as nothing turns it into something else.
fn own_labels(graph: &Graph<'_>, name: &str, depth: usize) -> Option<Vec<Label>> {
    const WHOLE: i64 = 7;
    const TEXT: i64 = 8;
    if depth > 64 {
        return None;
    }
    let node = graph.nodes.iter().find(|node| node.outputs.contains(&name))?;
    match node.op {
        "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier" if node.outputs.first() == Some(&name) => {
            Some(labels_of(node)).filter(|labels| !labels.is_empty())
        }
        "Cast" if !matches!(node.int("to"), Some(WHOLE | TEXT)) => None,
        "Identity" | "Cast" => own_labels(graph, node.inputs.first()?, depth + 1),
        _ => None,
    }
}

fn beside(graph: &Graph<'_>, name: &str) -> Option<Vec<Label>> {
    let map = graph.nodes.iter().find(|node| node.op == "ZipMap" && node.inputs.first() == Some(&name))?;
    Some(labels_of(map)).filter(|labels| !labels.is_empty())
}

/// The labels in a node's attributes; empty where it has none.
pub fn labels_of(node: &Node<'_>) -> Vec<Label> {
    let texts = ["classlabels_strings"].iter().filter_map(|name| node.attributes.get(name)).find(|list| !list.texts.is_empty());
    if let Some(list) = texts {
        return list.texts.iter().map(|text| Label::Text(String::from_utf8_lossy(text).into_owned())).collect();
    }
    let numbers = ["classlabels_int64s", "classlabels_ints"].iter().filter_map(|name| node.attributes.get(name));
    numbers
        .into_iter()
        .find(|list| !list.ints.is_empty())
        .map(|list| list.ints.iter().map(|int| Label::Number(*int)).collect())
        .unwrap_or_default()
}
