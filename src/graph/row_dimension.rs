//! Traces the dimension of rows through a graph, to prove which outputs keep rows apart.
//!
//! The rows of all requests of a run are along dimension 0 of the inputs. An operator without a
//! rule is assumed to mix rows. A proof does not cover rounding: a matrix product may add in a
//! different order if other rows share the run.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::graph::{
    flow::{Flow, Mixing, MixingReason, TracedTensor},
    model::{Dimension, Graph, Model},
    row_report::{OutputRows, RowReport},
    size::Size,
    walk::{GraphWalk, Scope},
};

/// Follows the rows through the model's graph. `fed` are inputs with a default that every run sets.
pub fn trace_rows(model: &Model<'_>, fed: &[Arc<str>]) -> RowReport {
    let graph = &model.graph;
    let mut walk = GraphWalk::new(model, rows_name(graph));
    let is_fed = |name: &str| fed.iter().any(|fed| **fed == *name);
    // An initializer with the name of an input is the default of this input. A run may set the
    // input.
    let constants: HashSet<&str> = graph
        .initializers
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !is_fed(name))
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
    RowReport { outputs }
}

/// The graph's name for the dimension of rows: the first name of a dimension 0 of an input.
fn rows_name<'a>(graph: &Graph<'a>) -> Option<&'a str> {
    graph
        .inputs
        .iter()
        .find_map(|input| match input.shape.as_ref()?.first()? {
            Dimension::Named(name) => Some(*name),
            _ => None,
        })
}

/// The dimension of rows of an output's tensor. `None` means that no node gives the output.
fn output_rows(value: Option<&TracedTensor>) -> OutputRows {
    let unknown = |effect: &str| {
        OutputRows::Mixed(MixingReason {
            op: String::new(),
            node: "the graph".to_owned(),
            effect: effect.to_owned(),
            kind: Mixing::Unknown,
        })
    };
    match value {
        None => unknown("does not say where the output comes from"),
        Some(value) => match &value.flow {
            // Sizes are not rows, even if they depend on the number of rows.
            Flow::Same | Flow::RowCount => OutputRows::Without,
            Flow::Rows { axis: 0 } => match value.dim(0) {
                // After a reshape, dimension 0 may contain several values of each row instead of
                // one.
                Some(size) if *size == Size::ROWS => OutputRows::First,
                None => OutputRows::First,
                Some(_) => unknown("gives several values of dimension 0 for each row"),
            },
            Flow::Rows { axis } => OutputRows::Axis(*axis),
            Flow::Mixed(reason) => OutputRows::Mixed(MixingReason::clone(reason)),
        },
    }
}
