//! Compatibility: whether a new version can answer the callers of an old one, and whether the old
//! version can answer the callers of the new one after a rollback.
//!
//! Three rules go beyond the containment of schemas:
//!
//! - Callers ignore members of an answer that they don't know, even if the old output schema has
//!   `additionalProperties: false`. A new member breaks no callers until a rollback removes it from
//!   callers who read it by that time.
//! - A removed member of an answer breaks its readers, even if it was optional.
//! - The new version must be able to use the columns that the old version decoded ([`Binding`]).
//!
//! [`Binding`]: crate::schema::binding::Binding

mod classes;
pub mod containment;
mod declared_fields;
mod difference;
pub(crate) mod evaluation;
mod fields;
mod gap_text;
mod graphs;
mod preprocessing;

use std::{collections::BTreeMap, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use difference::{Difference, Severity};

use crate::{
    error::text_with_sources,
    package::{Parts, Transform},
    tensor::signature::Signature,
};

/// One of the two versions of a comparison.
#[derive(Clone, Copy)]
pub(crate) struct ComparedVersion<'a> {
    /// The parts of the package. `None` for a bare graph.
    pub parts: Option<&'a Parts>,
    pub graph: &'a Signature,
    /// The output labels from a file next to a bare graph. `None` without this file.
    pub labels: Option<&'a BTreeMap<String, Arc<[String]>>>,
    /// Whether callers of tensors see the graph's inputs and outputs instead of the schema's
    /// fields.
    pub exposes_graph: bool,
}

/// Whether the new version can answer the callers of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compatibility {
    /// The new version can answer the callers of the old one, and the old version can answer the
    /// callers of the new one.
    Compatible,
    /// The new version can answer the callers of the old one, but a rollback would break callers
    /// who use the new values.
    ForwardOnly,
    /// The new version can't answer the callers of the old one.
    Breaking,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CompatibilityReport {
    pub verdict: Compatibility,
    /// The differences, sorted by severity.
    pub differences: Vec<Difference>,
    /// The overrides that name no unproved difference.
    pub unused_overrides: Vec<String>,
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compatibility::Compatible => "compatible",
            Compatibility::ForwardOnly => "forward-only",
            Compatibility::Breaking => "breaking",
        })
    }
}

/// Compares two versions. Each of `overrides` names an unproved difference that a person accepts:
/// `/age`, or `input:/age`.
pub(crate) fn compare(
    old: &ComparedVersion<'_>,
    new: &ComparedVersion<'_>,
    overrides: &[String],
) -> CompatibilityReport {
    let mut differences = Vec::new();
    match (old.parts, new.parts) {
        (Some(old_parts), Some(new_parts)) => {
            compare_packages((old, old_parts), (new, new_parts), &mut differences);
        }
        (None, None) => {
            graphs::compare_graphs(old.graph, new.graph, &mut differences);
            let (old, new) = (classes::output_classes(old), classes::output_classes(new));
            differences.extend(classes::compare_classes(&old, &new).0);
        }
        (Some(_), None) => {
            differences.push(Difference::new(
                Severity::Breaking,
                "graph",
                "",
                "is a bare graph and has no fields: requests of today's callers would get 422",
            ));
            graphs::compare_graphs(old.graph, new.graph, &mut differences);
        }
        (None, Some(_)) if new.exposes_graph => {
            differences.push(Difference::new(
                Severity::Note,
                "graph",
                "",
                "has fields now; callers of its tensors see the graph as before",
            ));
            graphs::compare_graphs(old.graph, new.graph, &mut differences);
        }
        (None, Some(_)) => differences.push(Difference::new(
            Severity::Breaking,
            "graph",
            "",
            "has fields now instead of the graph's tensors: requests of today's callers would get \
             422",
        )),
    }
    report(differences, overrides)
}

fn compare_packages(
    (old, old_parts): (&ComparedVersion<'_>, &Parts),
    (new, new_parts): (&ComparedVersion<'_>, &Parts),
    differences: &mut Vec<Difference>,
) {
    // The classes are compared first, because the comparison of the outputs must not report their
    // new labels again.
    let (class_differences, changed_classes) =
        classes::compare_classes(&classes::output_classes(old), &classes::output_classes(new));
    fields::compare_inputs(&old_parts.input, &new_parts.input, differences);
    fields::compare_outputs(
        &old_parts.output,
        &new_parts.output,
        &changed_classes,
        differences,
    );
    differences.extend(class_differences);
    let transforms = (
        bind(old_parts, old.graph, differences),
        bind(new_parts, new.graph, differences),
    );
    if let (Some(before), Some(after)) = transforms {
        graphs::compare_tensors(
            &before.postprocess.describe(old.graph),
            &after.postprocess.describe(new.graph),
            differences,
        );
        preprocessing::compare_on_examples((old_parts, &before), (new_parts, &after), differences);
    }
    // If one of the two exposes its graph, a promotion or a rollback changes the tensors of its
    // callers.
    if old.exposes_graph || new.exposes_graph {
        graphs::compare_graphs(old.graph, new.graph, differences);
        preprocessing::compare_steps(old_parts, new_parts, differences);
    }
}

/// Binds a package to its graph. Reports a difference if they do not fit.
fn bind(parts: &Parts, graph: &Signature, differences: &mut Vec<Difference>) -> Option<Transform> {
    match parts.bind(graph) {
        Ok(transform) => Some(transform),
        Err(error) => {
            differences.push(Difference::new(
                Severity::Breaking,
                "graph",
                "",
                format!("does not fit its package: {}", text_with_sources(&error)),
            ));
            None
        }
    }
}

/// Applies the overrides and derives the verdict from the differences.
fn report(mut differences: Vec<Difference>, overrides: &[String]) -> CompatibilityReport {
    let mut unused_overrides: Vec<String> = overrides.to_vec();
    for difference in &mut differences {
        difference.overridden = overrides.iter().any(|text| difference.is_named_by(text));
        unused_overrides.retain(|text| !difference.is_named_by(text));
    }
    // The sort is stable: differences of the same severity keep the order of the document.
    differences.sort_by_key(|difference| difference.severity);
    let compatibility = if differences.iter().any(Difference::forbids_promotion) {
        Compatibility::Breaking
    } else if differences
        .iter()
        .any(|difference| difference.severity == Severity::ForwardOnly)
    {
        Compatibility::ForwardOnly
    } else {
        Compatibility::Compatible
    };
    CompatibilityReport {
        verdict: compatibility,
        differences,
        unused_overrides,
    }
}

#[cfg(test)]
mod tests;
