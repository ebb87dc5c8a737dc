//! Compares the preprocessing of two packages: its steps for callers who send tensors, and its
//! effect on examples for callers who send fields.

use serde_json::Value;

use crate::{
    compat::{Difference, Severity},
    decode::{DecodeLimits, decode_instance},
    package::{Parts, Transform},
    schema::{
        binding::Binding,
        fault::{pointer_to, token},
    },
};

/// Reports changed steps. Callers who send tensors prepare them by the steps of the old version.
pub(super) fn compare_steps(old: &Parts, new: &Parts, differences: &mut Vec<Difference>) {
    let section = |parts: &Parts, name: &str| {
        let document = parts.preprocessing.as_ref()?.get(name)?;
        document.as_object().cloned()
    };
    for (name, effect) in [
        (
            "inputs",
            "tensors that callers prepare by the old steps get another meaning",
        ),
        (
            "outputs",
            "callers who read the graph's outputs by the old steps misread them",
        ),
    ] {
        let before = section(old, name).unwrap_or_default();
        let after = section(new, name).unwrap_or_default();
        let added = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(added) {
            let steps = StepsOfTensor {
                pointer: format!("/{name}/{}", token(key)),
                effect,
                old: before.get(key),
                new: after.get(key),
            };
            if steps.old != steps.new {
                steps.report(differences);
            }
        }
    }
}

/// The changed steps of one tensor in both packages.
struct StepsOfTensor<'a> {
    pointer: String,
    effect: &'a str,
    old: Option<&'a Value>,
    new: Option<&'a Value>,
}

impl StepsOfTensor<'_> {
    /// Reports each changed column, or the whole tensor if the number of columns changed.
    fn report(&self, differences: &mut Vec<Difference>) {
        let mut report = |pointer: String, detail: String| {
            differences.push(Difference::new(
                Severity::Breaking,
                "preprocessing",
                pointer,
                detail,
            ));
        };
        let columns = |section: Option<&Value>| section?.get("columns")?.as_array().cloned();
        let effect = self.effect;
        let (old, new) = match columns(self.old).zip(columns(self.new)) {
            // Columns can be compared pair by pair only if none was added or removed.
            Some((old, new)) if old.len() == new.len() => (old, new),
            _ => {
                let detail = format!("is computed differently: {effect}");
                return report(self.pointer.clone(), detail);
            }
        };
        let pairs = old.iter().zip(&new).enumerate();
        for (index, (old, new)) in pairs.filter(|(_, (old, new))| old != new) {
            let (before, after) = (source_fields(old), source_fields(new));
            let fields = if before == after {
                after
            } else {
                format!("{after} instead of {before}")
            };
            report(
                format!("{}/columns/{index}", self.pointer),
                format!("({fields}) has other steps: {effect}"),
            );
        }
    }
}

/// The field of a column, or the fields that it is derived from.
fn source_fields(column: &Value) -> String {
    match column.get("field").and_then(Value::as_str) {
        Some(field) => field.to_owned(),
        None => {
            let members = column
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| *name != "steps");
            members
                .map(|(name, fields)| format!("{name} {fields}"))
                .collect()
        }
    }
}

/// Golden examples come from the package's author, and may be as long as the package allows.
const EXAMPLE_LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 1,
    max_depth: 64,
    max_array_values: usize::MAX,
};

/// Maximum number of golden examples that are tried. More examples rarely reach another branch of a
/// step, and each example costs two decodes and two preparations.
const MAX_EXAMPLES: usize = 20;

/// A package, and its transform that is bound to the package's graph.
pub(super) type BoundParts<'a> = (&'a Parts, &'a Transform);

/// Reports examples that both schemas accept, and that only one preprocessing accepts: a step may
/// refuse null, or a category that it does not know.
pub(super) fn compare_on_examples(
    old: BoundParts<'_>,
    new: BoundParts<'_>,
    differences: &mut Vec<Difference>,
) {
    refused_examples(old, new, Severity::Breaking, differences);
    refused_examples(new, old, Severity::ForwardOnly, differences);
}

/// Reports the examples of `from` that the preprocessing of `to` refuses.
fn refused_examples(
    (from, from_transform): BoundParts<'_>,
    (to, to_transform): BoundParts<'_>,
    severity: Severity,
    differences: &mut Vec<Difference>,
) {
    let effect = match severity {
        Severity::Breaking => "requests of today's callers would get 422",
        _ => "after a rollback such requests would get 422",
    };
    // The comparison of the schemas reports fields that can't be bound.
    let Ok(binding) = Binding::new(&from.input, &to.input) else {
        return;
    };
    for document in examples(from) {
        let text = document.to_string();
        let Ok(columns) = decode_instance(&from.input, text.as_bytes(), &EXAMPLE_LIMITS) else {
            continue;
        };
        // Only the preprocessing of `to` matters here: other functions compare the schemas. An
        // example that `from` also refuses is not a difference.
        if decode_instance(&to.input, text.as_bytes(), &EXAMPLE_LIMITS).is_err()
            || from_transform.prepare(&columns).is_err()
        {
            continue;
        }
        let faults = to_transform.prepare(&binding.bind(columns)).err();
        for fault in faults.unwrap_or_default() {
            let pointer = pointer_to(&fault.field);
            // Only the first difference of a field is reported. It has the highest severity.
            let is_reported = differences
                .iter()
                .any(|known| known.side == "preprocessing" && known.pointer == pointer);
            if is_reported {
                continue;
            }
            differences.push(Difference::new(
                severity,
                "preprocessing",
                pointer,
                format!(
                    "is accepted by the schema and refused by the preprocessing, {}: {effect}",
                    fault.detail
                ),
            ));
        }
    }
}

/// The golden examples, and variants of the first one: each field is set to each listed value, set
/// to null, and left out.
fn examples(parts: &Parts) -> Vec<Value> {
    let golden = parts
        .golden
        .iter()
        .take(MAX_EXAMPLES)
        .filter_map(|example| serde_json::from_str(&example.input).ok());
    let mut documents: Vec<Value> = golden.collect();
    let Some(first) = documents.first().cloned() else {
        return documents;
    };
    let properties = parts
        .input
        .document()
        .get("properties")
        .and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let listed = property
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .cloned();
        for value in listed.chain(Some(Value::Null)) {
            let mut changed = first.clone();
            if let Some(members) = changed.as_object_mut() {
                members.insert(name.clone(), value);
            }
            documents.push(changed);
        }
        let mut without = first.clone();
        if let Some(members) = without.as_object_mut() {
            // An optional field may be missing. A step treats a missing value like null.
            members.shift_remove(name);
        }
        documents.push(without);
    }
    documents
}
