//! Nodes that contain graphs: `If`, `Loop` and `Scan`.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor, mixed},
    model::{Graph, GraphNode, opset_of},
    rules,
    walk::{GraphWalk, Scope},
};

impl<'a> GraphWalk<'_, 'a> {
    /// The outputs of a node that contains graphs. If the condition of an `If` is the same for all
    /// rows, both branches are followed. A loop over values without rows gives outputs without
    /// rows. Any other node is assumed to mix rows.
    pub(super) fn control_flow(
        &mut self,
        node: &GraphNode<'a>,
        inputs: &[Option<TracedTensor>],
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Vec<TracedTensor> {
        let count = node.outputs.len();
        let all =
            |kind, effect: &str| vec![TracedTensor::new(mixed(node, kind, effect), None); count];
        let graphs: Vec<Rc<Graph<'a>>> = node
            .attributes
            .values()
            .flat_map(|attribute| attribute.graphs.iter().cloned())
            .collect();
        let mut captured = Vec::new();
        for graph in &graphs {
            collect_captures(graph, &mut captured);
        }
        let captured: Vec<TracedTensor> =
            captured.iter().filter_map(|name| scope.get(name)).collect();
        let is_mixed = |value: &&TracedTensor| matches!(value.flow, Flow::Mixed(_));
        if let Some(value) = captured.iter().find(is_mixed) {
            return vec![TracedTensor::new(value.flow.clone(), None); count];
        }
        // Two runs of such a graph differ, so a comparison of rows from different runs proves
        // nothing.
        if graphs
            .iter()
            .any(|graph| self.may_draw_random_numbers(graph))
        {
            return all(Mixing::Unknown, rules::DRAWS_RANDOM_NUMBERS);
        }
        let is_same = |value: &TracedTensor| value.flow == Flow::Same;
        // A loop over constants gives constants, no matter what its body computes.
        let inputs_same = inputs.iter().flatten().all(is_same);
        if inputs_same && captured.iter().all(is_same) {
            return (0..count)
                .map(|_| TracedTensor::new(Flow::Same, None))
                .collect();
        }
        let depends_on_values = || {
            let mut inputs = inputs.iter().flatten();
            inputs.any(|value| value.flow != Flow::RowCount)
        };
        match node.op {
            "If" if inputs_same => self.branches(node, &graphs, scope, depth),
            "If" if depends_on_values() => all(
                Mixing::Proved,
                "branches for all rows by the values of some rows",
            ),
            "If" => all(Mixing::Unknown, "branches by the number of rows"),
            "Scan" if opset_of(scope.opsets, node.domain) >= 9 && scans_rows(node, inputs) => all(
                Mixing::TimeSteps,
                "processes the rows one after the other, like time steps",
            ),
            _ => all(Mixing::Unknown, rules::NOT_KNOWN),
        }
    }

    /// The outputs of an `If`, from following both of its branches.
    fn branches(
        &mut self,
        node: &GraphNode<'a>,
        graphs: &[Rc<Graph<'a>>],
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Vec<TracedTensor> {
        let mut branches = Vec::new();
        for graph in graphs {
            let mut inner = Scope {
                values: HashMap::new(),
                outer: Some(scope),
                opsets: scope.opsets,
            };
            self.graph(graph, &mut inner, depth + 1);
            let outputs = graph.outputs.iter().map(|output| inner.get(output.name));
            // Both branches are followed, because either may run.
            branches.push(outputs.collect::<Vec<_>>());
        }
        let output = |index: usize| {
            let mut values = branches
                .iter()
                .filter_map(|branch| branch.get(index).cloned().flatten());
            either(node, values.next(), values.next())
        };
        (0..node.outputs.len()).map(output).collect()
    }
}

/// The output of an `If` whose branches give the tensors `a` and `b`.
fn either(node: &GraphNode<'_>, a: Option<TracedTensor>, b: Option<TracedTensor>) -> TracedTensor {
    match (a, b) {
        (Some(a), Some(b)) if a.flow == b.flow => {
            let dims = if a.dims == b.dims { a.dims } else { None };
            TracedTensor::new(a.flow, dims)
        }
        (a, b) => {
            let is_mixed = |value: &TracedTensor| matches!(value.flow, Flow::Mixed(_));
            let flow = match a.into_iter().chain(b).find(is_mixed) {
                Some(value) => value.flow,
                None => mixed(
                    node,
                    Mixing::Unknown,
                    "has branches that treat rows differently",
                ),
            };
            TracedTensor::new(flow, None)
        }
    }
}

/// Whether a Scan of operator set 9 or later iterates over the rows. In earlier sets, its dimension
/// 0 was a batch.
fn scans_rows(node: &GraphNode<'_>, inputs: &[Option<TracedTensor>]) -> bool {
    let scanned =
        usize::try_from(node.int("num_scan_inputs").unwrap_or_default()).unwrap_or_default();
    let axes = node.ints("scan_input_axes").unwrap_or_default();
    let first = inputs.len().saturating_sub(scanned);
    // Without state inputs a Scan passes nothing from one row to the next.
    first > 0
        && inputs.iter().skip(first).enumerate().any(|(index, value)| {
            let axis = axes.get(index).copied().unwrap_or_default();
            value
                .as_ref()
                .and_then(TracedTensor::axis)
                .is_some_and(|rows| i64::try_from(rows).is_ok_and(|rows| rows == axis))
        })
}

/// Collects the names that a graph uses from the graphs around it.
fn collect_captures<'a>(graph: &Graph<'a>, found: &mut Vec<&'a str>) {
    let mut known: HashSet<&str> = graph.initializers.iter().map(|(name, _)| *name).collect();
    known.extend(graph.inputs.iter().map(|input| input.name));
    known.extend(
        graph
            .nodes
            .iter()
            .flat_map(|node| node.outputs.iter().copied()),
    );
    for node in &graph.nodes {
        found.extend(
            node.inputs
                .iter()
                .filter(|name| !name.is_empty() && !known.contains(**name)),
        );
        for inner in node
            .attributes
            .values()
            .flat_map(|attribute| &attribute.graphs)
        {
            // A name in an inner graph may come from this graph, from a graph around it, or from
            // the inner graph itself.
            let mut deeper = Vec::new();
            collect_captures(inner, &mut deeper);
            found.extend(deeper.into_iter().filter(|name| !known.contains(name)));
        }
    }
    found.extend(
        graph
            .outputs
            .iter()
            .map(|output| output.name)
            .filter(|name| !known.contains(name)),
    );
}
