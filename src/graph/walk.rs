//! `GraphWalk`: follows the nodes of a graph, and the bodies of the model's functions.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use crate::graph::{
    flow::{Flow, Mixing, MixingReason, TracedTensor, constant_tensor, mixed},
    model::{
        Attribute, Dimension, Function, Graph, GraphNode, Model, ValueInfo, ValueKind, opset_of,
    },
    rules,
    size::{Size, UnknownSizes},
};

/// Maximum nesting of calls and graphs that is followed. Each level is a recursion.
pub(super) const MAX_DEPTH: usize = 16;

/// Maximum number of nodes in all graphs and calls together. Without this limit, functions that
/// call each other could turn a small file into unlimited work.
const MAX_NODES: usize = 1 << 20;

/// The tensors by name, in a graph and in the graphs around it.
pub(super) struct Scope<'s, 'a> {
    pub values: HashMap<&'a str, TracedTensor>,
    pub outer: Option<&'s Scope<'s, 'a>>,
    pub opsets: &'s [(&'a str, i64)],
}

impl Scope<'_, '_> {
    pub(super) fn get(&self, name: &str) -> Option<TracedTensor> {
        self.values
            .get(name)
            .cloned()
            .or_else(|| self.outer?.get(name))
    }
}

/// One pass over the nodes of a model, in their order.
pub(super) struct GraphWalk<'m, 'a> {
    /// The model's functions, by domain, name and overload.
    functions: HashMap<(&'a str, &'a str, &'a str), &'m Function<'a>>,
    /// The sizes of named dimensions, by name.
    named: HashMap<&'a str, Size>,
    pub(super) unknown_sizes: UnknownSizes,
    visited_nodes: Cell<usize>,
    /// The graph's name for the dimension of rows. `None` if it has no name.
    rows_name: Option<&'a str>,
}

impl<'m, 'a> GraphWalk<'m, 'a> {
    pub(super) fn new(model: &'m Model<'a>, rows_name: Option<&'a str>) -> GraphWalk<'m, 'a> {
        let functions = model.functions.iter().map(|function| {
            let key = (function.domain, function.name, function.overload);
            (key, function)
        });
        GraphWalk {
            functions: functions.collect(),
            named: HashMap::new(),
            unknown_sizes: UnknownSizes::default(),
            visited_nodes: Cell::new(0),
            rows_name,
        }
    }

    /// The size of a dimension other than the dimension of rows. Dimensions with the same name have
    /// the same size.
    fn size(&mut self, dim: &Dimension<'a>) -> Size {
        match dim {
            Dimension::Fixed(size) => Size::fixed(*size as u64),
            Dimension::Free => self.unknown_sizes.fresh(),
            Dimension::Named(name) => {
                // The symbol is created before the lookup, because both borrow `self`.
                let fresh = self.unknown_sizes.fresh();
                self.named.entry(name).or_insert(fresh).clone()
            }
        }
    }

    /// The tensor of a graph input, which has its rows along dimension 0.
    pub(super) fn input(&mut self, input: &ValueInfo<'a>) -> TracedTensor {
        let reason = |effect: &str| {
            Flow::Mixed(Rc::new(MixingReason {
                op: String::new(),
                node: format!("input \"{}\"", input.name),
                effect: effect.to_owned(),
                kind: Mixing::Unknown,
            }))
        };
        // Only tensors have dimensions that could contain rows.
        if input.kind != ValueKind::Tensor {
            return TracedTensor::new(reason("is not a tensor"), None);
        }
        // A tensor with an undeclared shape still has its rows along dimension 0, because requests
        // are joined along this dimension.
        let Some(shape) = &input.shape else {
            return TracedTensor::new(Flow::Rows { axis: 0 }, None);
        };
        if shape.is_empty() {
            return TracedTensor::new(reason("has no dimension of rows"), Some(Vec::new()));
        }
        let is_rows = |dim: &Dimension<'_>| matches!(dim, Dimension::Named(name) if Some(*name) == self.rows_name);
        let twice = shape.iter().skip(1).any(is_rows);
        let mut dims = vec![Size::ROWS];
        dims.extend(shape.iter().skip(1).map(|dim| self.size(dim)));
        let flow = if twice {
            reason("has the rows along two dimensions")
        } else {
            Flow::Rows { axis: 0 }
        };
        TracedTensor::new(flow, Some(dims))
    }

    /// Follows all nodes, and adds their outputs to `scope`.
    pub(super) fn graph(&mut self, graph: &Graph<'a>, scope: &mut Scope<'_, 'a>, depth: usize) {
        for (name, constant) in &graph.initializers {
            // An input that every run sets replaces its default.
            scope
                .values
                .entry(name)
                .or_insert_with(|| constant_tensor(constant));
        }
        let declared: HashMap<&str, &ValueInfo<'a>> = graph
            .values
            .iter()
            .chain(&graph.outputs)
            .map(|info| (info.name, info))
            .collect();
        self.nodes(&graph.nodes, &declared, scope, depth);
    }

    fn nodes(
        &mut self,
        nodes: &[GraphNode<'a>],
        declared: &HashMap<&str, &ValueInfo<'a>>,
        scope: &mut Scope<'_, 'a>,
        depth: usize,
    ) {
        for node in nodes {
            self.visited_nodes.set(self.visited_nodes.get() + 1);
            let values = self.node(node, scope, depth);
            for (name, mut value) in node.outputs.iter().zip(values) {
                // The shape from a rule is proved, but a declared shape may be wrong. The declared
                // shape is used only if the rule gives none.
                if value.dims.is_none()
                    && let Some(info) = declared.get(name)
                {
                    value.dims = self.declared_dims(info, &value.flow);
                }
                scope.values.insert(name, value);
            }
        }
    }

    /// The shape that the exporter declared. It is used only if no rule gives a shape.
    fn declared_dims(&mut self, info: &ValueInfo<'a>, flow: &Flow) -> Option<Vec<Size>> {
        let shape = info.shape.as_ref()?;
        let axis = if let Flow::Rows { axis } = flow {
            Some(*axis)
        } else {
            None
        };
        let mut dims = Vec::with_capacity(shape.len());
        for (index, dim) in shape.iter().enumerate() {
            dims.push(match dim {
                // The size of a tensor without rows does not depend on their number, even if the
                // exporter used the name of the dimension of rows.
                Dimension::Named(name) if Some(*name) == self.rows_name && *flow != Flow::Same => {
                    Size::ROWS
                }
                // The dimension of rows may contain several values per row.
                _ if axis == Some(index) => Size::ROWS.times(&self.unknown_sizes.fresh())?,
                dim => self.size(dim),
            });
        }
        axis.is_none_or(|axis| axis < dims.len()).then_some(dims)
    }

    /// Computes the outputs of a node.
    fn node(
        &mut self,
        node: &GraphNode<'a>,
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Vec<TracedTensor> {
        let count = node.outputs.len();
        let inputs: Vec<Option<TracedTensor>> = node
            .inputs
            .iter()
            .map(|name| (!name.is_empty()).then(|| scope.get(name)).flatten())
            .collect();
        // A mixed input stays mixed. The reason names the operator that mixed it first.
        if let Some(mixed) = inputs
            .iter()
            .flatten()
            .find(|value| matches!(value.flow, Flow::Mixed(_)))
        {
            // No operator can separate rows that are mixed.
            return vec![TracedTensor::new(mixed.flow.clone(), None); count];
        }
        let unknown = |effect: &str| {
            vec![TracedTensor::new(mixed(node, Mixing::Unknown, effect), None); count]
        };
        if node
            .inputs
            .iter()
            .zip(&inputs)
            .any(|(name, value)| !name.is_empty() && value.is_none())
        {
            return unknown("has an input that no node of the graph gives");
        }
        // The limits stop functions that call themselves.
        if depth > MAX_DEPTH || self.visited_nodes.get() > MAX_NODES {
            return unknown("is nested too deeply to be followed");
        }
        if let Some(function) = self
            .functions
            .get(&(node.domain, node.op, node.overload))
            .copied()
        {
            // The runtime has its own operators in these domains, and it is not known whether it
            // runs its operator or the function.
            if ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"].contains(&node.domain) {
                return unknown("is a function of the model with the name of an operator");
            }
            return self.call(node, function, &inputs, scope, depth);
        }
        let mut attributes = node.attributes.values();
        // Nodes that contain graphs have no rule, because their effect depends on the graphs.
        if attributes
            .clone()
            .any(|attribute| !attribute.graphs.is_empty())
        {
            return self.control_flow(node, &inputs, scope, depth);
        }
        // The calling node does not set this attribute, so its value is not known.
        if attributes.any(|attribute| attribute.reference.is_some()) {
            return unknown(rules::NOT_KNOWN);
        }
        // The meaning of some operators differs between operator sets.
        let opset = opset_of(scope.opsets, node.domain);
        let mut values = rules::apply(&self.unknown_sizes, node, &inputs, opset);
        // A rule may know fewer outputs than the node has.
        values.resize_with(count.max(values.len()), || {
            TracedTensor::new(mixed(node, Mixing::Unknown, rules::NOT_KNOWN), None)
        });
        values
    }

    /// Whether a graph may draw random numbers. Functions of the model are assumed to do so.
    pub(super) fn may_draw_random_numbers(&self, graph: &Graph<'a>) -> bool {
        graph.nodes.iter().any(|node| {
            rules::draws_random_numbers(node)
                || self
                    .functions
                    .contains_key(&(node.domain, node.op, node.overload))
                || node
                    .attributes
                    .values()
                    .flat_map(|attribute| &attribute.graphs)
                    .any(|inner| self.may_draw_random_numbers(inner))
        })
    }

    /// Follows the body of a model's function with the values and attributes of the calling node.
    fn call(
        &mut self,
        node: &GraphNode<'a>,
        function: &Function<'a>,
        inputs: &[Option<TracedTensor>],
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Vec<TracedTensor> {
        // Old files declare operator sets only for the model, not for its functions.
        let opsets = if function.opsets.is_empty() {
            scope.opsets
        } else {
            function.opsets.as_slice()
        };
        let mut inner = Scope {
            values: HashMap::new(),
            outer: None,
            opsets,
        };
        for (name, value) in function.inputs.iter().zip(inputs) {
            if let Some(value) = value {
                inner.values.insert(name, value.clone());
            }
        }
        // An input that the calling node omits is also omitted in the body.
        let absent: HashSet<&str> = function
            .inputs
            .iter()
            .copied()
            .filter(|name| !inner.values.contains_key(name))
            .collect();
        // Each call gets its own copy, because attributes differ from call to call.
        let body: Vec<GraphNode<'a>> = function
            .nodes
            .iter()
            .map(|inner| instantiate(inner, node, function, &absent))
            .collect();
        self.nodes(&body, &HashMap::new(), &mut inner, depth + 1);
        let missing = || {
            TracedTensor::new(
                mixed(node, Mixing::Unknown, "does not give this output"),
                None,
            )
        };
        function
            .outputs
            .iter()
            .map(|name| inner.get(name).unwrap_or_else(missing))
            .collect()
    }
}

/// A copy of a node in a function's body, with the inputs and attributes of the calling node.
fn instantiate<'a>(
    inner: &GraphNode<'a>,
    caller: &GraphNode<'a>,
    function: &Function<'a>,
    absent: &HashSet<&str>,
) -> GraphNode<'a> {
    let mut node = inner.clone();
    node.inputs
        .iter_mut()
        .filter(|name| absent.contains(**name))
        .for_each(|name| *name = "");
    let resolve = |attribute: &Attribute<'a>| match attribute.reference {
        Some(name) => caller
            .attributes
            .get(name)
            .or_else(|| function.defaults.get(name))
            .cloned(),
        None => Some(attribute.clone()),
    };
    node.attributes = inner
        .attributes
        .iter()
        .filter_map(|(name, attribute)| Some((*name, resolve(attribute)?)))
        .collect();
    node
}
