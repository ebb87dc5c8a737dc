//! Compares the classes of the outputs. Their order matters: a tensor of scores has one score for
//! each class, in this order.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    compat::{ComparedVersion, Difference, Severity},
    schema::fault::{shorten, token},
    transform::outputs::label_text,
};

/// The classes of each output in their order. They come from the package's postprocessing, or from
/// the file of labels next to a bare graph.
pub(super) fn output_classes(version: &ComparedVersion<'_>) -> BTreeMap<String, Vec<String>> {
    // The last step with labels decides what callers see.
    let last_labels = |section: &Value| {
        let steps = section
            .get("steps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let labels = steps
            .filter_map(|step| step.as_object()?.values().next()?.get("labels")?.as_array())
            .next_back()?;
        Some(labels.iter().map(label_text).collect::<Vec<_>>())
    };
    let declared = version
        .parts
        .and_then(|parts| parts.preprocessing.as_ref()?.get("outputs")?.as_object())
        .into_iter()
        .flatten();
    let declared =
        declared.filter_map(|(name, section)| Some((name.clone(), last_labels(section)?)));
    let from_file = version
        .labels
        .into_iter()
        .flatten()
        .map(|(name, labels)| (name.clone(), labels.to_vec()));
    declared.chain(from_file).collect()
}

/// Outputs whose classes changed in the same way.
struct ChangedClasses<'a> {
    old: &'a [String],
    new: &'a [String],
    /// JSON pointers of the outputs in an answer.
    outputs: Vec<String>,
}

/// Returns one difference for all outputs whose classes changed in the same way, and the pointers
/// of the outputs that got new classes.
pub(super) fn compare_classes(
    old: &BTreeMap<String, Vec<String>>,
    new: &BTreeMap<String, Vec<String>>,
) -> (Vec<Difference>, Vec<String>) {
    let mut differences = Vec::new();
    let mut outputs_with_new_classes = Vec::new();
    for changed in changed_classes(old, new) {
        // A new label is also a gap of the output schema. These outputs are returned, so that the
        // gap is not reported twice.
        if changed.new.iter().any(|label| !changed.old.contains(label)) {
            outputs_with_new_classes.extend(changed.outputs.iter().cloned());
        }
        differences.extend(changed.difference());
    }
    (differences, outputs_with_new_classes)
}

fn changed_classes<'a>(
    old: &'a BTreeMap<String, Vec<String>>,
    new: &'a BTreeMap<String, Vec<String>>,
) -> Vec<ChangedClasses<'a>> {
    let mut all: Vec<ChangedClasses<'a>> = Vec::new();
    for (name, before) in old {
        // An output that is gone is a difference of the output schema.
        let Some(after) = new.get(name).filter(|after| *after != before) else {
            continue;
        };
        let output = format!("/{}", token(name));
        match all
            .iter_mut()
            .find(|changed| changed.old == before && changed.new == after)
        {
            Some(changed) => changed.outputs.push(output),
            None => all.push(ChangedClasses {
                old: before,
                new: after,
                outputs: vec![output],
            }),
        }
    }
    all
}

impl ChangedClasses<'_> {
    fn difference(&self) -> Option<Difference> {
        let (first, others) = self.outputs.split_first()?;
        let also = if others.is_empty() {
            String::new()
        } else {
            format!("(and {}) ", others.join(", "))
        };
        let short = |labels: &[String]| shorten(&labels.join(", "));
        let detail = format!(
            "{also}are [{}] instead of [{}]: {}",
            short(self.new),
            short(self.old),
            self.effect()
        );
        Some(Difference::new(
            Severity::Breaking,
            "classes",
            first.clone(),
            detail,
        ))
    }

    fn effect(&self) -> String {
        let missing = |from: &[String], other: &[String]| {
            let labels = from.iter().filter(|label| !other.contains(label));
            let labels: Vec<&str> = labels.map(String::as_str).collect();
            (!labels.is_empty()).then(|| shorten(&labels.join(", ")))
        };
        match (missing(self.new, self.old), missing(self.old, self.new)) {
            (None, None) => "callers who read a class by its position, in a tensor or as an \
                             index, would read the wrong class"
                .to_owned(),
            (Some(added), None) => format!("today's callers don't expect {added}"),
            (None, Some(gone)) => format!("today's callers would never get {gone}"),
            (Some(added), Some(gone)) => {
                format!("today's callers don't expect {added}, and would never get {gone}")
            }
        }
    }
}
