//! Rows: how the dimension of the rows flows through a graph, and which outputs keep the rows apart.
//!
//! Every request's rows lie along dimension 0 of the inputs. An operator keeps them apart where it is known to; one that is
//! not known to, doesn't. A proof says nothing of rounding: a matrix product may add in another order beside other rows.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use crate::graph::{
    flow::{Element, Flow, Mixing, Reason, Value},
    model::{
        Attribute, Constant, Dimension, Function, Graph, Kind, Model, Node, ValueInfo, opset_of,
    },
    rules,
    size::Size,
};

/// Functions that call each other deeper are not followed.
const MAX_CALLS: usize = 16;

/// Nodes of all graphs and calls together: a file whose functions call each other may grow without bound.
const MAX_STEPS: usize = 1 << 20;

/// Outputs that a reason names.
const MAX_NAMED: usize = 4;

/// What is known of one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputRows {
    /// Dimension 0 goes over the rows, each block one row's alone.
    First,
    /// Another dimension does.
    Axis(usize),
    /// It has no dimension of rows: the same for any request.
    Without,
    /// Rows come together in it, as far as can be told.
    Mixed(Reason),
}

/// The outputs of a graph, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub outputs: Vec<(String, OutputRows)>,
}

impl Report {
    /// Why rows of several requests may not share a run; `None` where the graph keeps them apart.
    pub fn objection(&self) -> Option<String> {
        self.outputs.iter().find_map(|(name, rows)| match rows {
            OutputRows::First => None,
            OutputRows::Axis(axis) => Some(format!(
                "output \"{name}\" has the rows along its dimension {axis}, not along the first"
            )),
            OutputRows::Without => Some(format!("output \"{name}\" has no dimension of rows")),
            OutputRows::Mixed(reason) => Some(self.explain(reason)),
        })
    }

    /// What the operator does, and the outputs that come of it.
    fn explain(&self, reason: &Reason) -> String {
        let is_same =
            |rows: &OutputRows| matches!(rows, OutputRows::Mixed(other) if other == reason);
        let names: Vec<String> = self
            .outputs
            .iter()
            .filter(|(_, rows)| is_same(rows))
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let shown = names
            .get(..names.len().min(MAX_NAMED))
            .unwrap_or_default()
            .join(", ");
        let more = if names.len() > MAX_NAMED {
            format!(" and {} more", names.len() - MAX_NAMED)
        } else {
            String::new()
        };
        let outputs = if names.len() == 1 {
            "output"
        } else {
            "outputs"
        };
        format!("{} {} ({outputs} {shown}{more})", reason.node, reason.what)
    }

    /// What is known of an output of that name.
    pub fn of(&self, output: &str) -> Option<&OutputRows> {
        self.outputs
            .iter()
            .find(|(name, _)| name == output)
            .map(|(_, rows)| rows)
    }

    /// Whether an output is known to have a row for each row of the inputs, along its first dimension.
    pub fn keeps(&self, output: &str) -> bool {
        self.of(output) == Some(&OutputRows::First)
    }

    /// What shows that rows do come together, and not only that nobody knows; no declaration stands against it.
    pub fn disproof(&self) -> Option<String> {
        self.outputs.iter().find_map(|(_, rows)| match rows {
            OutputRows::Mixed(reason) if reason.kind != Mixing::Unknown => {
                Some(self.explain(reason))
            }
            _ => None,
        })
    }

    /// The operator that takes the rows for steps in time.
    pub fn time(&self) -> Option<&Reason> {
        self.outputs.iter().find_map(|(_, rows)| match rows {
            OutputRows::Mixed(reason) if reason.kind == Mixing::Time => Some(reason),
            _ => None,
        })
    }
}

/// Follows the rows through the model's graph; `fed` are inputs with a default that every run gets all the same.
pub fn analyse(model: &Model<'_>, fed: &[Arc<str>]) -> Report {
    let graph = &model.graph;
    let mut walk = Walk {
        functions: model
            .functions
            .iter()
            .map(|function| {
                (
                    (function.domain, function.name, function.overload),
                    function,
                )
            })
            .collect(),
        named: HashMap::new(),
        next: Cell::new(0),
        steps: Cell::new(0),
        batch: batch_name(graph),
    };
    let given = |name: &str| fed.iter().any(|fed| **fed == *name);
    let constants: HashSet<&str> = graph
        .initializers
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !given(name))
        .collect();
    let mut scope = Scope {
        values: HashMap::new(),
        outer: None,
        opsets: &model.opsets,
    };
    for input in graph
        .inputs
        .iter()
        .filter(|input| !constants.contains(input.name))
    {
        let value = walk.input(input);
        scope.values.insert(input.name, value);
    }
    walk.graph(graph, &mut scope, 0);
    let outputs = graph
        .outputs
        .iter()
        .map(|output| {
            (
                output.name.to_owned(),
                output_rows(scope.get(output.name).as_ref()),
            )
        })
        .collect();
    Report { outputs }
}

/// Where dimension 0 goes over steps in time and not over rows: what says so, and the export option that mends it.
pub fn time_first(model: &Model<'_>, report: &Report) -> Option<String> {
    const MEND: &str = "export it with the rows first (PyTorch: nn.LSTM(..., batch_first=True) and an example input [batch, time, features]; \
                        else transpose the input within the graph)";
    for input in &model.graph.inputs {
        let shape = input.shape.as_deref().unwrap_or_default();
        let (first, others) = match shape.split_first() {
            Some((Dimension::Named(first), others)) => (*first, others),
            Some((Dimension::Free, others)) => ("", others),
            _ => continue,
        };
        let named = |fits: fn(&str) -> bool| {
            others.iter().enumerate().find_map(|(axis, dim)| match dim {
                Dimension::Named(name) if fits(name) => {
                    Some(format!(", and \"{name}\" as dimension {}", axis + 1))
                }
                _ => None,
            })
        };
        let batch = named(is_batch).filter(|_| !is_batch(first) && !is_rows(first));
        // One letter says little by itself, and enough beside a name for time.
        let letter = || named(is_rows).filter(|_| is_time(first));
        // Steps that are run as rows of their own, and are not.
        let mixed = || {
            report
                .objection()
                .filter(|_| is_time(first))
                .map(|why| format!(", and {why}"))
        };
        if let Some(why) = batch.or_else(letter).or_else(mixed) {
            return Some(format!(
                "input \"{}\" has \"{first}\" as its first dimension{why}: {MEND}",
                input.name
            ));
        }
    }
    report
        .time()
        .map(|reason| format!("{}: {MEND}", report.explain(reason)))
}

/// The words of a dimension's name.
fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// `batch`, `batch_size`, `dynamic_batch`: the batch itself, and not something of it.
fn is_batch(name: &str) -> bool {
    let words = words(name);
    let around = [
        "size", "dim", "axis", "axes", "n", "num", "dynamic", "number", "of",
    ];
    let batch = |word: &str| {
        ["batch", "batchsize", "batches", "bs"].contains(&word)
            || word
                .strip_prefix("batch")
                .is_some_and(|rest| rest.parse::<u8>().is_ok())
    };
    words.iter().any(|word| batch(word))
        && words.iter().all(|word| {
            batch(word) || around.contains(&word.as_str()) || word.parse::<u8>().is_ok()
        })
}

/// Other names that people have for the dimension of rows.
fn is_rows(name: &str) -> bool {
    let words = words(name);
    let [word] = words.as_slice() else {
        return words
            .iter()
            .any(|word| ["samples", "examples", "rows", "obs"].contains(&word.as_str()));
    };
    [
        "n",
        "b",
        "rows",
        "samples",
        "examples",
        "obs",
        "observations",
        "instances",
        "records",
    ]
    .contains(&word.as_str())
}

/// Names for steps in time.
fn is_time(name: &str) -> bool {
    let words = words(name);
    let word = |word: &String| {
        [
            "t",
            "l",
            "s",
            "time",
            "times",
            "seq",
            "seqlen",
            "sequence",
            "step",
            "steps",
            "timestep",
            "timesteps",
            "frame",
            "frames",
        ]
        .contains(&word.as_str())
    };
    words.iter().any(word)
}

/// What the graph calls the dimension of rows.
fn batch_name<'a>(graph: &Graph<'a>) -> Option<&'a str> {
    graph
        .inputs
        .iter()
        .find_map(|input| match input.shape.as_ref()?.first()? {
            Dimension::Named(name) => Some(*name),
            _ => None,
        })
}

fn output_rows(value: Option<&Value>) -> OutputRows {
    let unknown = |what: &str| {
        OutputRows::Mixed(Reason {
            op: String::new(),
            node: "the graph".to_owned(),
            what: what.to_owned(),
            kind: Mixing::Unknown,
        })
    };
    match value {
        None => unknown("does not say where the output comes from"),
        Some(value) => match &value.flow {
            Flow::Same | Flow::Counts => OutputRows::Without,
            Flow::Rows { axis: 0 } => match value.dim(0) {
                Some(size) if *size == Size::ROWS => OutputRows::First,
                None => OutputRows::First,
                Some(_) => unknown("gives several values of dimension 0 a row"),
            },
            Flow::Rows { axis } => OutputRows::Axis(*axis),
            Flow::Mixed(reason) => OutputRows::Mixed(Reason::clone(reason)),
        },
    }
}

/// What names stand for, here and in the graphs around.
pub struct Scope<'s, 'a> {
    pub values: HashMap<&'a str, Value>,
    pub outer: Option<&'s Scope<'s, 'a>>,
    pub opsets: &'s [(&'a str, i64)],
}

impl Scope<'_, '_> {
    pub fn get(&self, name: &str) -> Option<Value> {
        self.values
            .get(name)
            .cloned()
            .or_else(|| self.outer?.get(name))
    }
}

pub struct Walk<'m, 'a> {
    functions: HashMap<(&'a str, &'a str, &'a str), &'m Function<'a>>,
    named: HashMap<&'a str, Size>,
    next: Cell<u32>,
    steps: Cell<usize>,
    batch: Option<&'a str>,
}

impl<'m, 'a> Walk<'m, 'a> {
    /// A size that nothing is known of, but that it does not depend on the number of rows.
    pub fn fresh(&self) -> Size {
        let symbol = self.next.get();
        self.next.set(symbol + 1);
        Size::symbol(symbol)
    }

    /// `rank` sizes that nothing is known of.
    pub fn fresh_dims(&self, rank: usize) -> Vec<Size> {
        (0..rank).map(|_| self.fresh()).collect()
    }

    /// The size of a dimension that does not go over the rows; one name stands for one size.
    fn size(&mut self, dim: &Dimension<'a>) -> Size {
        match dim {
            Dimension::Fixed(size) => Size::fixed(*size as u64),
            Dimension::Free => self.fresh(),
            Dimension::Named(name) => {
                let fresh = self.fresh();
                self.named.entry(name).or_insert(fresh).clone()
            }
        }
    }

    fn input(&mut self, input: &ValueInfo<'a>) -> Value {
        let reason = |what: &str| {
            Flow::Mixed(Rc::new(Reason {
                op: String::new(),
                node: format!("input \"{}\"", input.name),
                what: what.to_owned(),
                kind: Mixing::Unknown,
            }))
        };
        if input.kind != Kind::Tensor {
            return Value::new(reason("is no tensor"), None);
        }
        let Some(shape) = &input.shape else {
            return Value::new(Flow::Rows { axis: 0 }, None);
        };
        if shape.is_empty() {
            return Value::new(reason("has no dimension of rows"), Some(Vec::new()));
        }
        let again = |dim: &Dimension<'_>| matches!(dim, Dimension::Named(name) if Some(*name) == self.batch);
        let twice = shape.iter().skip(1).any(again);
        let mut dims = vec![Size::ROWS];
        dims.extend(shape.iter().skip(1).map(|dim| self.size(dim)));
        let flow = if twice {
            reason("has the rows along two dimensions")
        } else {
            Flow::Rows { axis: 0 }
        };
        Value::new(flow, Some(dims))
    }

    /// Follows all nodes; what they give is in `scope` then.
    pub fn graph(&mut self, graph: &Graph<'a>, scope: &mut Scope<'_, 'a>, depth: usize) {
        for (name, constant) in &graph.initializers {
            // What is given takes the default's place.
            scope
                .values
                .entry(name)
                .or_insert_with(|| constant_value(constant));
        }
        let hints: HashMap<&str, &ValueInfo<'a>> = graph
            .values
            .iter()
            .chain(&graph.outputs)
            .map(|info| (info.name, info))
            .collect();
        self.nodes(&graph.nodes, &hints, scope, depth);
    }

    fn nodes(
        &mut self,
        nodes: &[Node<'a>],
        hints: &HashMap<&str, &ValueInfo<'a>>,
        scope: &mut Scope<'_, 'a>,
        depth: usize,
    ) {
        for node in nodes {
            self.steps.set(self.steps.get() + 1);
            let values = self.node(node, scope, depth);
            for (name, mut value) in node.outputs.iter().zip(values) {
                if value.dims.is_none()
                    && let Some(info) = hints.get(name)
                {
                    value.dims = self.hinted(info, &value.flow);
                }
                scope.values.insert(name, value);
            }
        }
    }

    /// The shape that the exporter noted, where no rule knows one.
    fn hinted(&mut self, info: &ValueInfo<'a>, flow: &Flow) -> Option<Vec<Size>> {
        let shape = info.shape.as_ref()?;
        let axis = if let Flow::Rows { axis } = flow {
            Some(*axis)
        } else {
            None
        };
        let mut dims = Vec::with_capacity(shape.len());
        for (index, dim) in shape.iter().enumerate() {
            dims.push(match dim {
                // What no row takes part in has not their number, whatever the exporter called it.
                Dimension::Named(name) if Some(*name) == self.batch && *flow != Flow::Same => {
                    Size::ROWS
                }
                _ if axis == Some(index) => Size::ROWS.times(&self.fresh())?,
                dim => self.size(dim),
            });
        }
        axis.is_none_or(|axis| axis < dims.len()).then_some(dims)
    }

    fn node(&mut self, node: &Node<'a>, scope: &Scope<'_, 'a>, depth: usize) -> Vec<Value> {
        let count = node.outputs.len();
        let inputs: Vec<Option<Value>> = node
            .inputs
            .iter()
            .map(|name| {
                if name.is_empty() {
                    None
                } else {
                    scope.get(name)
                }
            })
            .collect();
        // What came in mixed stays so, under the name of who mixed it.
        if let Some(mixed) = inputs
            .iter()
            .flatten()
            .find(|value| matches!(value.flow, Flow::Mixed(_)))
        {
            return vec![Value::new(mixed.flow.clone(), None); count];
        }
        let unknown =
            |what: &str| vec![Value::new(mixed(node, Mixing::Unknown, what), None); count];
        if node
            .inputs
            .iter()
            .zip(&inputs)
            .any(|(name, value)| !name.is_empty() && value.is_none())
        {
            return unknown("takes something that the graph does not give");
        }
        if depth > MAX_CALLS || self.steps.get() > MAX_STEPS {
            return unknown("lies too deep to be followed");
        }
        if let Some(function) = self
            .functions
            .get(&(node.domain, node.op, node.overload))
            .copied()
        {
            // The runtime has operators of its own there, and which of both it runs is its secret.
            if ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"].contains(&node.domain) {
                return unknown("is a function of the model's under the name of an operator");
            }
            return self.call(node, function, &inputs, scope, depth);
        }
        let has_graphs = node
            .attributes
            .values()
            .any(|attribute| !attribute.graphs.is_empty());
        if has_graphs {
            return self.control(node, &inputs, scope, depth);
        }
        if node
            .attributes
            .values()
            .any(|attribute| attribute.reference.is_some())
        {
            return unknown(rules::NOT_KNOWN);
        }
        let opset = opset_of(scope.opsets, node.domain);
        let mut values = rules::apply(self, node, &inputs, opset);
        values.resize_with(count.max(values.len()), || {
            Value::new(mixed(node, Mixing::Unknown, rules::NOT_KNOWN), None)
        });
        values
    }

    /// Whether a graph draws random numbers; what a function of the model's does is not looked up.
    fn draws(&self, graph: &Graph<'a>) -> bool {
        graph.nodes.iter().any(|node| {
            rules::draws(node)
                || self
                    .functions
                    .contains_key(&(node.domain, node.op, node.overload))
                || node
                    .attributes
                    .values()
                    .flat_map(|attribute| &attribute.graphs)
                    .any(|inner| self.draws(inner))
        })
    }

    /// A call of one of the model's own functions: its body, with the caller's values and attributes.
    fn call(
        &mut self,
        node: &Node<'a>,
        function: &Function<'a>,
        inputs: &[Option<Value>],
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Vec<Value> {
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
        // An input that the caller left out is left out within.
        let absent: HashSet<&str> = function
            .inputs
            .iter()
            .copied()
            .filter(|name| !inner.values.contains_key(name))
            .collect();
        let body: Vec<Node<'a>> = function
            .nodes
            .iter()
            .map(|inner| instantiate(inner, node, function, &absent))
            .collect();
        self.nodes(&body, &HashMap::new(), &mut inner, depth + 1);
        let missing = || Value::new(mixed(node, Mixing::Unknown, "gives nothing"), None);
        function
            .outputs
            .iter()
            .map(|name| inner.get(name).unwrap_or_else(missing))
            .collect()
    }

    /// A node with graphs of its own. A branch that all rows take alike is followed; a loop whose inputs are all the same
    /// gives the same; no other is known to keep rows apart.
    fn control(
        &mut self,
        node: &Node<'a>,
        inputs: &[Option<Value>],
        scope: &Scope<'_, 'a>,
        depth: usize,
    ) -> Vec<Value> {
        let count = node.outputs.len();
        let all = |kind, what: &str| vec![Value::new(mixed(node, kind, what), None); count];
        let graphs: Vec<Rc<Graph<'a>>> = node
            .attributes
            .values()
            .flat_map(|attribute| attribute.graphs.iter().cloned())
            .collect();
        let mut captured = Vec::new();
        for graph in &graphs {
            captures(graph, &mut captured);
        }
        let captured: Vec<Value> = captured.iter().filter_map(|name| scope.get(name)).collect();
        if let Some(value) = captured
            .iter()
            .find(|value| matches!(value.flow, Flow::Mixed(_)))
        {
            return vec![Value::new(value.flow.clone(), None); count];
        }
        if graphs.iter().any(|graph| self.draws(graph)) {
            return all(Mixing::Unknown, rules::DRAWS);
        }
        let same = |value: &Value| value.flow == Flow::Same;
        if inputs.iter().flatten().all(same) && captured.iter().all(same) {
            return (0..count).map(|_| Value::new(Flow::Same, None)).collect();
        }
        match node.op {
            "If" if inputs.iter().flatten().all(same) => {
                let mut branches = Vec::new();
                for graph in &graphs {
                    let mut inner = Scope {
                        values: HashMap::new(),
                        outer: Some(scope),
                        opsets: scope.opsets,
                    };
                    self.graph(graph, &mut inner, depth + 1);
                    branches.push(
                        graph
                            .outputs
                            .iter()
                            .map(|output| inner.get(output.name))
                            .collect::<Vec<_>>(),
                    );
                }
                (0..count)
                    .map(|index| {
                        let mut values = branches
                            .iter()
                            .filter_map(|branch| branch.get(index).cloned().flatten());
                        match (values.next(), values.next()) {
                            (Some(a), Some(b)) if a.flow == b.flow => {
                                let dims = if a.dims == b.dims { a.dims } else { None };
                                Value::new(a.flow, dims)
                            }
                            (
                                Some(Value {
                                    flow: flow @ Flow::Mixed(_),
                                    ..
                                }),
                                _,
                            )
                            | (
                                _,
                                Some(Value {
                                    flow: flow @ Flow::Mixed(_),
                                    ..
                                }),
                            ) => Value::new(flow, None),
                            _ => Value::new(
                                mixed(
                                    node,
                                    Mixing::Unknown,
                                    "has branches that treat rows differently",
                                ),
                                None,
                            ),
                        }
                    })
                    .collect()
            }
            "If" if inputs
                .iter()
                .flatten()
                .any(|value| value.flow != Flow::Counts) =>
            {
                all(
                    Mixing::Proved,
                    "decides for all rows at once by values of rows",
                )
            }
            "If" => all(Mixing::Unknown, "decides by the number of rows"),
            "Scan" if opset_of(scope.opsets, node.domain) >= 9 && scans_rows(node, inputs) => all(
                Mixing::Time,
                "goes over the rows one after the other, as over steps in time",
            ),
            _ => all(Mixing::Unknown, rules::NOT_KNOWN),
        }
    }
}

/// Whether a scan takes something from one row to the next. Since operator set 9; before, dimension 0 was one of batches.
fn scans_rows(node: &Node<'_>, inputs: &[Option<Value>]) -> bool {
    let scanned =
        usize::try_from(node.int("num_scan_inputs").unwrap_or_default()).unwrap_or_default();
    let axes = node.ints("scan_input_axes").unwrap_or_default();
    let first = inputs.len().saturating_sub(scanned);
    first > 0
        && inputs.iter().skip(first).enumerate().any(|(index, value)| {
            let axis = axes.get(index).copied().unwrap_or_default();
            value
                .as_ref()
                .and_then(Value::axis)
                .is_some_and(|rows| i64::try_from(rows).is_ok_and(|rows| rows == axis))
        })
}

/// The names that a graph takes from around it.
fn captures<'a>(graph: &Graph<'a>, found: &mut Vec<&'a str>) {
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
            let mut deeper = Vec::new();
            captures(inner, &mut deeper);
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

/// A function's node as it stands in a call.
fn instantiate<'a>(
    inner: &Node<'a>,
    caller: &Node<'a>,
    function: &Function<'a>,
    absent: &HashSet<&str>,
) -> Node<'a> {
    let mut node = inner.clone();
    node.inputs
        .iter_mut()
        .filter(|name| absent.contains(**name))
        .for_each(|name| *name = "");
    let given = |attribute: &Attribute<'a>| match attribute.reference {
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
        .filter_map(|(name, attribute)| Some((*name, given(attribute)?)))
        .collect();
    node
}

/// The flow behind a node that brings rows together, or may.
pub fn mixed(node: &Node<'_>, kind: Mixing, what: &str) -> Flow {
    Flow::Mixed(Rc::new(Reason {
        op: node.op.to_owned(),
        node: node.describe(),
        what: what.to_owned(),
        kind,
    }))
}

/// A tensor that lies in the file.
pub fn constant_value(constant: &Constant<'_>) -> Value {
    let dims = constant
        .dims
        .iter()
        .map(|dim| u64::try_from(*dim).ok().map(Size::fixed))
        .collect();
    Value {
        flow: Flow::Same,
        dims,
        elements: constant
            .ints
            .as_ref()
            .map(|ints| Rc::new(ints.iter().map(|int| Element::Int(*int)).collect())),
        reals: constant.reals.clone().map(Rc::new),
    }
}
