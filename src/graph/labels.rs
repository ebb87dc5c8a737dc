//! Labels that the graph itself holds: of ZipMap and of the classifiers of `ai.onnx.ml`.

use crate::graph::{
    model::{Graph, Model, Node},
    wire::put_bytes,
};

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

/// Key of the model's metadata under which an output's labels stand that were in a map which was cut off.
const KEPT: &str = "predictd.labels.";

/// Writes labels into a model's metadata: who reads the file later on knows them as the map did.
pub fn keep(output: &str, labels: &[Label], model: &mut Vec<u8>) {
    let mut entry = Vec::new();
    put_bytes(1, format!("{KEPT}{output}").as_bytes(), &mut entry);
    let list: serde_json::Value = labels.iter().map(Label::to_value).collect();
    put_bytes(2, list.to_string().as_bytes(), &mut entry);
    put_bytes(14, &entry, model);
}

fn kept(model: &Model<'_>, output: &str) -> Option<Vec<Label>> {
    let (_, text) = model
        .metadata
        .iter()
        .find(|(key, _)| key.strip_prefix(KEPT) == Some(output))?;
    let list: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    list.into_iter()
        .map(|label| match label {
            serde_json::Value::String(text) => Some(Label::Text(text)),
            label => label.as_i64().map(Label::Number),
        })
        .collect()
}

/// Outputs and their labels, as JSON.
pub fn to_values(labels: &[(String, Vec<Label>)]) -> Vec<(String, Vec<serde_json::Value>)> {
    labels
        .iter()
        .map(|(output, labels)| (output.clone(), labels.iter().map(Label::to_value).collect()))
        .collect()
}

/// The outputs of the graph whose values of a row belong to classes that the graph names, or are such names, in their order.
pub fn held(model: &Model<'_>) -> Vec<(String, Vec<Label>)> {
    let graph = &model.graph;
    graph
        .outputs
        .iter()
        .filter_map(|output| {
            let labels = kept(model, output.name);
            let labels = labels
                .or_else(|| scores_labels(graph, output.name, 0))
                .or_else(|| own_labels(graph, output.name, 0))?;
            Some((output.name.to_owned(), labels))
        })
        .collect()
}

/// From the output back, through what neither moves nor mixes the classes.
fn scores_labels(graph: &Graph<'_>, name: &str, depth: usize) -> Option<Vec<Label>> {
    if depth > 64 {
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
        // A ZipMap beside it names the same scores.
        _ if beside(graph, name).is_some() => beside(graph, name),
        // Where nothing nearer names them: the classes that the best of these scores is looked up in.
        _ if looked_up(graph, name).is_some() => looked_up(graph, name),
        "Identity" | "Cast" | "Normalizer" | "Softmax" | "Clip" | "ZipMap" => {
            scores_labels(graph, node.inputs.first()?, depth + 1)
        }
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
        "Cast" if !matches!(node.int("to"), Some(WHOLE | TEXT)) => None,
        "Identity" | "Cast" => own_labels(graph, node.inputs.first()?, depth + 1),
        _ => None,
    }
}

/// The constant from which `ArgMax` of the scores picks the class: what scikit-learn's converters write for networks and Bayes.
fn looked_up(graph: &Graph<'_>, scores: &str) -> Option<Vec<Label>> {
    let best = graph
        .nodes
        .iter()
        .find(|node| node.op == "ArgMax" && node.inputs.first() == Some(&scores))?;
    let mut index = *best.outputs.first()?;
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
                let (_, classes) = graph
                    .initializers
                    .iter()
                    .find(|(name, _)| Some(name) == node.inputs.first())?;
                let texts = classes
                    .texts
                    .iter()
                    .map(|text| Label::Text(String::from_utf8_lossy(text).into_owned()));
                let numbers = classes.ints.iter().flatten().map(|int| Label::Number(*int));
                return Some(texts.chain(numbers).collect::<Vec<_>>())
                    .filter(|labels| !labels.is_empty());
            }
            _ => return None,
        }
    }
    None
}

fn beside(graph: &Graph<'_>, name: &str) -> Option<Vec<Label>> {
    let map = graph
        .nodes
        .iter()
        .find(|node| node.op == "ZipMap" && node.inputs.first() == Some(&name))?;
    Some(labels_of(map)).filter(|labels| !labels.is_empty())
}

/// The labels in a node's attributes; empty where it has none.
pub fn labels_of(node: &Node<'_>) -> Vec<Label> {
    let texts = ["classlabels_strings"]
        .iter()
        .filter_map(|name| node.attributes.get(name))
        .find(|list| !list.texts.is_empty());
    if let Some(list) = texts {
        return list
            .texts
            .iter()
            .map(|text| Label::Text(String::from_utf8_lossy(text).into_owned()))
            .collect();
    }
    let numbers = ["classlabels_int64s", "classlabels_ints"]
        .iter()
        .filter_map(|name| node.attributes.get(name));
    numbers
        .into_iter()
        .find(|list| !list.ints.is_empty())
        .map(|list| list.ints.iter().map(|int| Label::Number(*int)).collect())
        .unwrap_or_default()
}
