//! Labels of classes that the graph itself contains, in ZipMap and the classifiers of `ai.onnx.ml`.

use crate::graph::{
    model::{Graph, GraphNode, Model},
    wire::put_bytes,
};

/// The label of a class, in the type that the graph gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassLabel {
    Text(String),
    Number(i64),
}

impl ClassLabel {
    /// The label as a JSON value.
    pub fn to_value(&self) -> serde_json::Value {
        match self {
            ClassLabel::Text(text) => text.as_str().into(),
            ClassLabel::Number(number) => (*number).into(),
        }
    }
}

/// Prefix of the metadata keys for the labels of outputs whose map was removed.
const METADATA_PREFIX: &str = "predictd.labels.";

/// Writes the labels of an output into the model's metadata, so that they survive the removal of
/// the map.
pub(crate) fn store_labels(output: &str, labels: &[ClassLabel], model: &mut Vec<u8>) {
    let mut entry = Vec::new();
    put_bytes(
        1,
        format!("{METADATA_PREFIX}{output}").as_bytes(),
        &mut entry,
    );
    let list: serde_json::Value = labels.iter().map(ClassLabel::to_value).collect();
    put_bytes(2, list.to_string().as_bytes(), &mut entry);
    put_bytes(14, &entry, model);
}

/// Reads the labels that `store_labels` wrote.
fn stored_labels(model: &Model<'_>, output: &str) -> Option<Vec<ClassLabel>> {
    let (_, text) = model
        .metadata
        .iter()
        .find(|(key, _)| key.strip_prefix(METADATA_PREFIX) == Some(output))?;
    let list: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    list.into_iter()
        .map(|label| match label {
            serde_json::Value::String(text) => Some(ClassLabel::Text(text)),
            label => label.as_i64().map(ClassLabel::Number),
        })
        .collect()
}

/// Converts the labels of outputs to JSON.
pub(crate) fn to_values(
    labels: &[(String, Vec<ClassLabel>)],
) -> Vec<(String, Vec<serde_json::Value>)> {
    labels
        .iter()
        .map(|(output, labels)| {
            (
                output.clone(),
                labels.iter().map(ClassLabel::to_value).collect(),
            )
        })
        .collect()
}

/// The outputs whose values belong to classes, or are classes. Each has its labels in the graph's
/// order.
pub(crate) fn output_labels(model: &Model<'_>) -> Vec<(String, Vec<ClassLabel>)> {
    let graph = &model.graph;
    graph
        .outputs
        .iter()
        .filter_map(|output| {
            // The stored labels of a removed map come first: the graph may not contain them in
            // another place.
            let labels = stored_labels(model, output.name);
            let labels = labels
                .or_else(|| score_labels(graph, output.name, 0))
                .or_else(|| class_output_labels(graph, output.name, 0))?;
            Some((output.name.to_owned(), labels))
        })
        .collect()
}

/// Maximum number of nodes that are followed backwards from an output.
const MAX_DEPTH: usize = 64;

/// The labels of an output of scores. The function follows the nodes backwards through operators
/// that keep the order of the classes.
fn score_labels(graph: &Graph<'_>, name: &str, depth: usize) -> Option<Vec<ClassLabel>> {
    // The graph may have a cycle.
    if depth > MAX_DEPTH {
        return None;
    }
    let node = graph
        .nodes
        .iter()
        .find(|node| node.outputs.contains(&name))?;
    let labels = labels_of(node);
    match node.op {
        "ZipMap" if !labels.is_empty() => Some(labels),
        "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier"
            if node.outputs.get(1) == Some(&name) =>
        {
            Some(labels).filter(|labels| !labels.is_empty())
        }
        // A ZipMap that reads the same scores has their labels.
        _ if zipmap_labels(graph, name).is_some() => zipmap_labels(graph, name),
        // The classes from which the index of the best score selects.
        _ if lookup_labels(graph, name).is_some() => lookup_labels(graph, name),
        "Identity" | "Cast" | "Normalizer" | "Softmax" | "Clip" | "ZipMap" => {
            score_labels(graph, node.inputs.first()?, depth + 1)
        }
        _ => None,
    }
}

/// The labels of an output that is the class itself. No operator between the classifier and the
/// output may change the class.
fn class_output_labels(graph: &Graph<'_>, name: &str, depth: usize) -> Option<Vec<ClassLabel>> {
    // Element types of TensorProto.
    const INT64: i64 = 7;
    const STRING: i64 = 8;
    // The graph may have a cycle.
    if depth > MAX_DEPTH {
        return None;
    }
    let node = graph
        .nodes
        .iter()
        .find(|node| node.outputs.contains(&name))?;
    match node.op {
        "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier"
            if node.outputs.first() == Some(&name) =>
        {
            Some(labels_of(node)).filter(|labels| !labels.is_empty())
        }
        // A cast to floats turns classes into numbers.
        "Cast" if !matches!(node.int("to"), Some(INT64 | STRING)) => None,
        "Identity" | "Cast" => class_output_labels(graph, node.inputs.first()?, depth + 1),
        _ => None,
    }
}

/// The constant from which the `ArgMax` of the scores selects. The converters of scikit-learn write
/// it for neural networks and naive Bayes.
fn lookup_labels(graph: &Graph<'_>, scores: &str) -> Option<Vec<ClassLabel>> {
    let best = graph
        .nodes
        .iter()
        .find(|node| node.op == "ArgMax" && node.inputs.first() == Some(&scores))?;
    let mut index = *best.outputs.first()?;
    // Maximum number of casts and reshapes between `ArgMax` and the lookup.
    for _ in 0..8 {
        let node = graph
            .nodes
            .iter()
            .find(|node| node.inputs.contains(&index))?;
        match node.op {
            "Identity" | "Cast" | "Reshape" | "Squeeze" | "Flatten"
                if node.inputs.first() == Some(&index) =>
            {
                index = node.outputs.first()?
            }
            "ArrayFeatureExtractor" | "Gather" if node.inputs.get(1) == Some(&index) => {
                return constant_labels(graph, node.inputs.first()?);
            }
            _ => return None,
        }
    }
    None
}

/// The elements of a constant, read as labels.
fn constant_labels(graph: &Graph<'_>, name: &str) -> Option<Vec<ClassLabel>> {
    let (_, classes) = graph
        .initializers
        .iter()
        .find(|(known, _)| *known == name)?;
    let texts = classes
        .texts
        .iter()
        .map(|text| ClassLabel::Text(String::from_utf8_lossy(text).into_owned()));
    let numbers = classes
        .ints
        .iter()
        .flatten()
        .map(|int| ClassLabel::Number(*int));
    Some(texts.chain(numbers).collect::<Vec<_>>()).filter(|labels| !labels.is_empty())
}

/// The labels of a ZipMap that reads the tensor `name`.
fn zipmap_labels(graph: &Graph<'_>, name: &str) -> Option<Vec<ClassLabel>> {
    let map = graph
        .nodes
        .iter()
        .find(|node| node.op == "ZipMap" && node.inputs.first() == Some(&name))?;
    Some(labels_of(map)).filter(|labels| !labels.is_empty())
}

/// The labels in a node's attributes. Empty if the node has no labels.
pub(crate) fn labels_of(node: &GraphNode<'_>) -> Vec<ClassLabel> {
    let texts = node
        .attributes
        .get("classlabels_strings")
        .filter(|list| !list.texts.is_empty());
    if let Some(list) = texts {
        return list
            .texts
            .iter()
            .map(|text| ClassLabel::Text(String::from_utf8_lossy(text).into_owned()))
            .collect();
    }
    let numbers = ["classlabels_int64s", "classlabels_ints"]
        .iter()
        .filter_map(|name| node.attributes.get(name));
    numbers
        .into_iter()
        .find(|list| !list.ints.is_empty())
        .map(|list| {
            list.ints
                .iter()
                .map(|int| ClassLabel::Number(*int))
                .collect()
        })
        .unwrap_or_default()
}
