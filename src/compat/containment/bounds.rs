//! Bounds of a node: the numbers and the string lengths that it accepts.

use std::cmp::Ordering;

use serde_json::Value;

use crate::schema::{
    SchemaNode, Types,
    exact::{Exact, is_multiple},
    formats::StringFormat,
};

/// Numbers below this magnitude have distinct doubles, and the shortest digits of a double are
/// unique. The limit is a little below 2^53 (9.007e15).
pub(super) const MAX_DISTINCT: f64 = 9e15;

/// Whole numbers below this magnitude fit into 64 bits. It is a little below 2^63 (9.22e18), so
/// that a number that is written with an exponent fits as well.
pub(super) const MAX_INTEGER: f64 = 8.9e18;

/// A range of whole numbers up to this size is checked value by value.
const MAX_RANGE: i128 = 1000;

/// All values of a node that accepts only a few. `None` means that it accepts too many values, or
/// strings, arrays or objects.
pub(super) fn all_values(node: &SchemaNode) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    if node.types.has(Types::NULL) {
        values.push(Value::Null);
    }
    if node.types.has(Types::BOOLEAN) {
        values.extend([Value::Bool(false), Value::Bool(true)]);
    }
    if node.types.0 & (Types::INTEGER | Types::NUMBER) != 0
        && is_integral(node)
        && is_within(node, MAX_DISTINCT)
    {
        let (low, high) = (lowest(node)?.whole()?, highest(node)?.whole()?);
        // The range is too large to be checked value by value.
        if high - low > MAX_RANGE {
            return None;
        }
        values.extend(
            (low..=high)
                .filter_map(|value| i64::try_from(value).ok())
                .map(Value::from),
        );
    } else if node.types.0 & (Types::INTEGER | Types::NUMBER) != 0 {
        return None;
    }
    (node.types.0 & (Types::STRING | Types::ARRAY | Types::OBJECT) == 0).then_some(values)
}

/// The lengths of the node's shortest and longest string, in code points.
pub(super) fn text_lengths(node: &SchemaNode) -> (usize, usize) {
    let (shortest, longest) = match node.format {
        None => (0, usize::MAX),
        Some(StringFormat::Date) => (10, 10),
        Some(StringFormat::DateTime) => (20, usize::MAX),
        Some(StringFormat::Uuid) => (36, 36),
    };
    (node.min_length.max(shortest), node.max_length.min(longest))
}

/// Whether the node accepts whole numbers only.
pub(super) fn is_integral(node: &SchemaNode) -> bool {
    // A multiple of a whole step is a whole number, even if the type allows fractions.
    !node.types.has(Types::NUMBER) || node.multiple_of.is_some_and(|step| step.whole().is_some())
}

/// The smallest whole number within the node's bounds.
fn lowest(node: &SchemaNode) -> Option<Exact> {
    let bounds = [
        node.minimum.map(Exact::ceil),
        node.exclusive_minimum.map(|bound| bound.floor().shift(1)),
    ];
    bounds.into_iter().flatten().max_by(|a, b| a.compare(*b))
}

/// The largest whole number within the node's bounds.
fn highest(node: &SchemaNode) -> Option<Exact> {
    let bounds = [
        node.maximum.map(Exact::floor),
        node.exclusive_maximum.map(|bound| bound.ceil().shift(-1)),
    ];
    bounds.into_iter().flatten().min_by(|a, b| a.compare(*b))
}

/// Whether the node's bounds exclude every number.
pub(super) fn has_no_number(node: &SchemaNode) -> bool {
    let at_least = |low: Option<Exact>, high: Option<Exact>| {
        low.zip(high)
            .is_some_and(|(low, high)| low.compare(high).is_ge())
    };
    let above = |low: Option<Exact>, high: Option<Exact>| {
        low.zip(high)
            .is_some_and(|(low, high)| low.compare(high).is_gt())
    };
    above(node.minimum, node.maximum)
        || at_least(node.minimum, node.exclusive_maximum)
        || at_least(node.exclusive_minimum, node.maximum)
        || at_least(node.exclusive_minimum, node.exclusive_maximum)
        || is_integral(node) && above(lowest(node), highest(node))
}

/// Whether every number of the node is at least `bound`, or above it if `exclusive`.
pub(super) fn is_above(node: &SchemaNode, bound: Exact, exclusive: bool) -> bool {
    let reaches = |low: Exact| {
        if exclusive {
            low.compare(bound).is_gt()
        } else {
            low.compare(bound).is_ge()
        }
    };
    // One of the three lower bounds is enough for the proof.
    node.minimum.is_some_and(reaches)
        || node
            .exclusive_minimum
            .is_some_and(|low| low.compare(bound) != Ordering::Less)
        || is_integral(node) && lowest(node).is_some_and(reaches)
}

/// Whether every number of the node is at most `bound`, or below it if `exclusive`.
pub(super) fn is_below(node: &SchemaNode, bound: Exact, exclusive: bool) -> bool {
    let reaches = |high: Exact| {
        if exclusive {
            high.compare(bound).is_lt()
        } else {
            high.compare(bound).is_le()
        }
    };
    node.maximum.is_some_and(reaches)
        || node
            .exclusive_maximum
            .is_some_and(|high| high.compare(bound) != Ordering::Greater)
        || is_integral(node) && highest(node).is_some_and(reaches)
}

/// Whether every number of the node has at most the magnitude `limit`.
pub(super) fn is_within(node: &SchemaNode, limit: f64) -> bool {
    let of = |value: f64| Exact::read(value, b"");
    is_above(node, of(-limit), false) && is_below(node, of(limit), false)
}

/// Whether every number of the node is a multiple of `step`.
///
/// The decoder divides whole numbers beyond 2^53 exactly by a whole step. For any other step it
/// divides the digits of the number's double. A proof for one kind of step is not valid for the
/// other.
pub(super) fn has_only_multiples(node: &SchemaNode, step: Exact) -> bool {
    // A step that divides 1 divides every whole number.
    let divides_one = is_multiple(Exact::read(1.0, b""), step);
    // Each number of the node is a multiple of the node's own step. If that step is a multiple of
    // `step`, so is each number.
    is_integral(node) && divides_one
        || node.multiple_of.is_some_and(|own| {
            let same_kind = own.whole().is_some() == step.whole().is_some();
            is_multiple(own, step) && (same_kind || divides_one || is_within(node, MAX_DISTINCT))
        })
}

/// Whether the value contains a number so large that other numbers have the same double.
pub(super) fn has_large_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number
            .as_f64()
            .is_none_or(|value| value.abs() >= MAX_DISTINCT),
        Value::Array(values) => values.iter().any(has_large_number),
        Value::Object(members) => members.values().any(has_large_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Whether a node that accepts a large number also accepts every number that a comparison of
/// doubles takes for the same number.
pub(super) fn accepts_equal_numbers(node: &SchemaNode, value: &Value) -> bool {
    let fits = node.types.has(Types::NUMBER)
        || value.as_f64().is_none_or(|value| value.abs() < MAX_INTEGER);
    let listed = match (&node.enumeration, &node.constant) {
        (None, None) => value.is_number() && node.types.has(Types::NUMBER),
        (Some(values), None) => values.contains(value),
        (None, Some(constant)) => constant == value,
        (Some(_), Some(_)) => false,
    };
    listed
        && fits
        && !node.bounded
        && node.items.is_none()
        && node.prefix_items.is_empty()
        && node.object.is_none()
}
