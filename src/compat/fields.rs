//! Compares the input or output schemas of two packages in both directions: for the promotion to
//! the new version, and for the rollback to the old one.

use serde_json::Value;

use crate::{
    compat::{
        Difference, Severity,
        containment::{Gap, GapKind, contains},
        declared_fields::DeclaredFields,
        gap_text,
    },
    schema::{Schema, binding::Binding, fault::pointer_to},
};

/// Reports the differences of the input schemas.
pub(super) fn compare_inputs(old: &Schema, new: &Schema, differences: &mut Vec<Difference>) {
    let mut fields = DeclaredFields::new(old.document(), new.document());
    compare_units(&fields, true, differences);
    let mut inputs = InputComparison {
        forward: contains(new, old),
        backward: contains(old, new),
        differences,
    };
    let renamed = inputs.report_renamed(&mut fields);
    inputs.report_removed(&fields);
    inputs.report_added(&fields);
    let breaking = inputs.report_gaps();
    for unbound in Binding::unbound(old, new) {
        let pointer = pointer_to(&unbound.field);
        // Another difference already reports a renamed or breaking field, with the cause.
        if !renamed.contains(&pointer) && !breaking.contains(&pointer) {
            let detail = format!(
                "{}: today's requests can't be used by the new version",
                unbound.reason
            );
            inputs.report(Severity::Breaking, &pointer, detail);
        }
    }
}

struct InputComparison<'a> {
    /// Requests of today's callers that the new version may refuse.
    forward: Vec<Gap>,
    /// Requests of the new version's callers that the old version may refuse after a rollback.
    backward: Vec<Gap>,
    differences: &'a mut Vec<Difference>,
}

impl InputComparison<'_> {
    fn report(&mut self, severity: Severity, pointer: &str, detail: String) {
        let difference = Difference::new(severity, "input", pointer, detail);
        self.differences.push(difference);
    }

    /// Reports each renamed field once, instead of one removed and one added field. Returns the
    /// pointers of the renamed fields.
    fn report_renamed(&mut self, fields: &mut DeclaredFields<'_>) -> Vec<String> {
        let mut pointers = Vec::new();
        for ((gone, _), (new, _)) in fields.take_renamed() {
            // `|` and not `||`: both calls must run, because each removes the gaps of its name.
            let forward = take_gaps(&mut self.forward, &gone) | take_gaps(&mut self.forward, &new);
            let backward =
                take_gaps(&mut self.backward, &gone) | take_gaps(&mut self.backward, &new);
            let (severity, effect) = if forward {
                (
                    Severity::Breaking,
                    "requests of today's callers would get 422",
                )
            } else {
                let severity = if backward {
                    Severity::ForwardOnly
                } else {
                    Severity::Note
                };
                (
                    severity,
                    "the values that today's callers send are accepted, and have no effect",
                )
            };
            self.report(severity, &gone, format!("is renamed {new}: {effect}"));
            pointers.extend([gone, new]);
        }
        pointers
    }

    fn report_removed(&mut self, fields: &DeclaredFields<'_>) {
        for (gone, _) in &fields.gone {
            // Gaps mean that the new schema refuses a request with the removed field.
            if take_gaps(&mut self.forward, gone) {
                let detail = "is gone: requests of today's callers who send it would get 422";
                self.report(Severity::Breaking, gone, detail.to_owned());
                // The promotion already breaks the field's callers, so the effect of a rollback
                // does not matter.
                take_gaps(&mut self.backward, gone);
            } else {
                let detail = "is no longer read: it may still be sent, and has no effect";
                self.report(Severity::Note, gone, detail.to_owned());
            }
        }
    }

    fn report_added(&mut self, fields: &DeclaredFields<'_>) {
        for (new, _) in &fields.new {
            let has_gap = self
                .forward
                .iter()
                .chain(&self.backward)
                .any(|gap| gap.pointer == *new);
            // `report_gaps` reports a new field that has a gap.
            if !has_gap {
                let detail = "is new: after a rollback it may still be sent, and has no effect";
                self.report(Severity::Note, new, detail.to_owned());
            }
        }
    }

    fn report_gaps(&mut self) -> Vec<String> {
        report_gaps(
            "input",
            (&self.forward, gap_text::refused),
            (&self.backward, gap_text::refused_after_rollback),
            self.differences,
        )
    }
}

/// Reports the differences of the output schemas. `changed_classes` contains the pointers of the
/// outputs whose classes differ. The comparison of the classes reports the new values of these
/// outputs.
pub(super) fn compare_outputs(
    old: &Schema,
    new: &Schema,
    changed_classes: &[String],
    differences: &mut Vec<Difference>,
) {
    let mut fields = DeclaredFields::new(old.document(), new.document());
    compare_units(&fields, false, differences);
    let (mut forward, mut backward) = (contains(old, new), contains(new, old));
    for gaps in [&mut forward, &mut backward] {
        // Callers ignore members that they don't know.
        gaps.retain(|gap| gap.keyword != "additionalProperties");
    }
    let mut report = |severity, pointer: &str, detail: String| {
        differences.push(Difference::new(severity, "output", pointer, detail));
    };
    for ((gone, _), (new, _)) in fields.take_renamed() {
        for pointer in [&gone, &new] {
            take_gaps(&mut forward, pointer);
            take_gaps(&mut backward, pointer);
        }
        let detail = format!("is renamed {new}: today's callers would miss it");
        report(Severity::Breaking, &gone, detail);
    }
    for (gone, _) in &fields.gone {
        take_gaps(&mut forward, gone);
        take_gaps(&mut backward, gone);
        let detail = "is gone: today's callers would miss it".to_owned();
        report(Severity::Breaking, gone, detail);
    }
    for (new, _) in &fields.new {
        take_gaps(&mut backward, new);
        let detail = "is new: callers who begin to read it would miss it after a rollback";
        report(Severity::ForwardOnly, new, detail.to_owned());
    }
    for gaps in [&mut forward, &mut backward] {
        // The comparison of the classes reports their new labels.
        gaps.retain(|gap| gap.keyword != "enum" || !changed_classes.contains(&gap.pointer));
    }
    report_gaps(
        "output",
        (&forward, gap_text::unexpected),
        (&backward, gap_text::missed_after_rollback),
        differences,
    );
}

type GapText = fn(&Gap) -> String;

/// Reports the remaining gaps of both directions. Returns the pointers of the fields that are
/// proved to break today's callers.
fn report_gaps(
    side: &'static str,
    (forward, forward_text): (&[Gap], GapText),
    (backward, backward_text): (&[Gap], GapText),
    differences: &mut Vec<Difference>,
) -> Vec<String> {
    let breaking: Vec<String> = forward
        .iter()
        .filter(|gap| gap.kind == GapKind::Broken)
        .map(|gap| gap.pointer.clone())
        .collect();
    for gap in forward {
        let severity = match gap.kind {
            GapKind::Broken => Severity::Breaking,
            GapKind::Unproved => Severity::Unproved,
        };
        let detail = forward_text(gap);
        differences.push(Difference::new(severity, side, &gap.pointer, detail));
    }
    // A field that forbids the promotion can't reach a rollback, so a second line would only
    // distract.
    for gap in backward
        .iter()
        .filter(|gap| !breaking.contains(&gap.pointer))
    {
        let detail = backward_text(gap);
        differences.push(Difference::new(
            Severity::ForwardOnly,
            side,
            &gap.pointer,
            detail,
        ));
    }
    breaking
}

/// Removes the gaps of a field and of the fields below it. Returns whether it had any.
fn take_gaps(gaps: &mut Vec<Gap>, pointer: &str) -> bool {
    let before = gaps.len();
    gaps.retain(|gap| {
        gap.pointer != pointer
            && !gap
                .pointer
                .strip_prefix(pointer)
                .is_some_and(|rest| rest.starts_with('/'))
    });
    gaps.len() < before
}

/// Reports fields whose `x-unit` changed.
fn compare_units(fields: &DeclaredFields<'_>, is_input: bool, differences: &mut Vec<Difference>) {
    for (pointer, old, new) in &fields.kept {
        let unit = |schema: &Value| {
            schema.get("x-unit").map(|unit| {
                unit.as_str()
                    .map_or_else(|| unit.to_string(), str::to_owned)
            })
        };
        let (severity, detail) = match (unit(old), unit(new)) {
            (Some(before), Some(after)) if before != after && is_input => (
                Severity::Breaking,
                format!(
                    "is in {after} instead of {before}: numbers of today's callers would be read in another unit"
                ),
            ),
            (Some(before), Some(after)) if before != after => (
                Severity::Breaking,
                format!(
                    "is in {after} instead of {before}: today's callers would read its numbers in another unit"
                ),
            ),
            (None, Some(after)) => (Severity::Note, format!("now declares its unit, {after}")),
            (Some(before), None) => (
                Severity::Note,
                format!("no longer declares its unit, {before}"),
            ),
            _ => continue,
        };
        differences.push(Difference::new(severity, "units", pointer.clone(), detail));
    }
}
