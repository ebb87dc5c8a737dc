//! Compares tensors: the fields of the answer as tensors, and the inputs and outputs of the graphs.

use crate::{
    compat::{Difference, Severity},
    schema::fault::token,
    tensor::signature::{Signature, TensorSpec},
};

/// Reports output fields whose type or shape changed for callers who request tensors.
pub(super) fn compare_tensors(
    old: &[TensorSpec],
    new: &[TensorSpec],
    differences: &mut Vec<Difference>,
) {
    for before in old {
        // The comparison of the output schemas reports a removed field.
        let Some(after) = new
            .iter()
            .find(|after| after.name == before.name && *after != before)
        else {
            continue;
        };
        let detail =
            format!("is {after} instead of {before}: callers who request tensors can't read it");
        differences.push(Difference::new(
            Severity::Breaking,
            "tensors",
            format!("/{}", token(&before.name)),
            detail,
        ));
    }
}

const EFFECT: &str = "callers who send tensors would get an error";

/// Reports every difference of the graphs' inputs and outputs, for callers who see the graph.
pub(super) fn compare_graphs(old: &Signature, new: &Signature, differences: &mut Vec<Difference>) {
    let before = differences.len();
    compare_specs("input", &old.inputs, &new.inputs, differences);
    compare_specs("output", &old.outputs, &new.outputs, differences);
    // The tensors are the same, in a different order. Some clients read outputs by their position.
    if differences.len() == before && old != new {
        differences.push(Difference::new(
            Severity::Breaking,
            "graph",
            "",
            "has its tensors in another order: callers who read them by position would read the \
             wrong tensor",
        ));
    }
}

fn compare_specs(
    kind: &str,
    old: &[TensorSpec],
    new: &[TensorSpec],
    differences: &mut Vec<Difference>,
) {
    let mut report = |name: &str, detail: String| {
        let pointer = format!("/{}", token(name));
        differences.push(Difference::new(
            Severity::Breaking,
            "graph",
            pointer,
            detail,
        ));
    };
    for spec in old {
        match new.iter().find(|other| other.name == spec.name) {
            Some(other) if other == spec => {}
            Some(other) => report(
                &spec.name,
                format!("({kind}) is {other} instead of {spec}: {EFFECT}, or misread it"),
            ),
            None => report(&spec.name, format!("({kind}) is gone: {EFFECT}")),
        }
    }
    for spec in new
        .iter()
        .filter(|spec| !old.iter().any(|other| other.name == spec.name))
    {
        let effect = if kind == "input" {
            EFFECT
        } else {
            "callers see the graph, so every difference counts"
        };
        report(&spec.name, format!("({kind}) is new, {spec}: {effect}"));
    }
}
