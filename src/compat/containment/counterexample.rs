//! Searches for a counterexample: a value that only the narrower of two nodes accepts.

use serde_json::{Map, Value, json};

use crate::{
    compat::containment::{bounds::MAX_DISTINCT, node_ref::NodeRef},
    schema::SchemaNode,
};

/// Maximum length of a string that is tried.
const MAX_TEXT: usize = 1000;

/// Searches for a value that the narrower node accepts and that the wider one refuses for
/// `keyword`.
pub(super) fn counterexample(
    wider: NodeRef<'_>,
    narrower: NodeRef<'_>,
    keyword: &str,
) -> Option<Value> {
    let (inner, outer) = (narrower.checker(), wider.checker());
    let refuses = |value: &Value| {
        let refusals = outer.refusals(value);
        refusals.contains(&keyword) || matches!(keyword, "enum" | "const") && !refusals.is_empty()
    };
    candidates(wider, narrower)
        .into_iter()
        // Both conditions must be true at every place. Otherwise the schema may accept the example
        // at the place where it uses the node.
        .find(|value| refuses(value) && inner.accepts_everywhere(value))
}

/// Values at the edges of both nodes.
fn candidates(wider: NodeRef<'_>, narrower: NodeRef<'_>) -> Vec<Value> {
    // One value of each type and format, and strings that common patterns distinguish.
    let mut values = vec![
        json!(null),
        json!(true),
        json!(""),
        json!("a"),
        json!("A b"),
        json!("0"),
        json!("\u{e9}!"),
        json!("2024-02-29"),
        json!("2024-02-29T12:00:00Z"),
        json!("2eb8aa08-aa98-11ea-b4aa-73b441d16380"),
        json!("AAAA"),
        json!([]),
        json!({}),
    ];
    // Small numbers of both signs, a fraction that doubles can't represent exactly, and large
    // numbers.
    let mut numbers = vec![0.0, 1.0, -1.0, 0.5, 0.1, 1e6, -1e6];
    let steps: Vec<f64> = [wider, narrower]
        .iter()
        .filter_map(|at| Some(at.node.multiple_of?.value))
        .collect();
    for at in [wider, narrower] {
        let examples = at.document.get("examples").and_then(Value::as_array);
        values.extend(examples.into_iter().flatten().cloned());
        let node = at.node;
        let listed = node.enumeration.iter().flatten().chain(&node.constant);
        values.extend(listed.cloned());
        push_numbers_near_bounds(node, &steps, &mut numbers);
        values.extend(texts_near_bounds(node));
    }
    let finite = numbers.into_iter().filter(|number| number.is_finite());
    values.extend(finite.map(json_number));
    values.push(object_of_examples(narrower));
    values
}

fn push_numbers_near_bounds(node: &SchemaNode, steps: &[f64], numbers: &mut Vec<f64>) {
    let bounds = [
        node.minimum,
        node.maximum,
        node.exclusive_minimum,
        node.exclusive_maximum,
    ];
    for bound in bounds.into_iter().flatten() {
        let bound = bound.value;
        numbers.extend([
            bound,
            bound.floor(),
            bound.ceil(),
            bound - 1.0,
            bound + 1.0,
            // The nearest doubles. Only for these do exclusive bounds differ from inclusive ones.
            bound.next_down(),
            bound.next_up(),
        ]);
        for step in steps {
            let multiple = (bound / step).round();
            numbers.extend([-1.0, 0.0, 1.0].map(|more| (multiple + more) * step));
        }
    }
    if let Some(step) = node.multiple_of.map(|step| step.value) {
        numbers.extend([step, -step, step * 2.0, step * 3.0, step / 2.0]);
    }
}

fn texts_near_bounds(node: &SchemaNode) -> impl Iterator<Item = Value> {
    let lengths = [
        node.min_length,
        node.min_length.saturating_sub(1),
        node.max_length,
        node.max_length.saturating_add(1),
    ];
    lengths
        .into_iter()
        .filter(|length| *length <= MAX_TEXT)
        .map(|length| Value::from("a".repeat(length)))
}

/// Writes a whole number without a fraction: the example is shown to people.
fn json_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < MAX_DISTINCT {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

/// An object that contains the first example of each property.
fn object_of_examples(at: NodeRef<'_>) -> Value {
    let properties = at.document.get("properties").and_then(Value::as_object);
    let members = properties
        .into_iter()
        .flatten()
        .filter_map(|(name, property)| {
            Some((name.clone(), property.get("examples")?.get(0)?.clone()))
        });
    Value::Object(members.collect::<Map<_, _>>())
}
