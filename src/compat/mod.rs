//! Compat: what callers of an old version may do with a new one, and back.
//!
//! Three rules beside containment of schemas. Callers pass over members of an answer that they don't know, even where the
//! old output schema has `additionalProperties: false`: a new member breaks nobody, until a rollback takes it from those who
//! began to read it. A member of an answer that is gone breaks its readers, even where it was optional. And the columns that
//! the old version decoded must be of use to the new one ([`Binding`]).

pub mod containment;
pub mod evaluation;

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    compat::containment::{Gap, GapKind, contains},
    decode::{DecodeLimits, decode_instance},
    package::{Parts, Transform},
    schema::{
        Schema,
        binding::Binding,
        fault::{pointer_to, shorten, token},
    },
    tensor::signature::{Signature, TensorSpec},
    transform::outputs::label_text,
};

/// One of two versions.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// `None` for a bare graph.
    pub parts: Option<&'a Parts>,
    pub graph: &'a Signature,
    /// What the values of a graph's outputs stand for, where a file beside a bare graph says it.
    pub labels: Option<&'a BTreeMap<String, Arc<[String]>>>,
    /// Callers of tensors see the graph itself, not the schema's fields.
    pub raw: bool,
}

/// Whether NEW may answer the callers of OLD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// And OLD may answer the callers of NEW.
    Compatible,
    /// But a rollback would break callers who began to use what is new.
    ForwardOnly,
    Breaking,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Breaking,
    /// Neither shown to be harmless nor to break anything: counts as breaking unless a person accepts it.
    Unproved,
    ForwardOnly,
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub severity: Severity,
    /// `input`, `output`, `classes`, `units`, `tensors`, `graph` or `preprocessing`.
    pub side: Cow<'static, str>,
    /// The field, as a pointer into an instance or an answer.
    pub pointer: String,
    /// What it means to a caller.
    pub detail: String,
    /// Accepted by a person, though unproved.
    pub overridden: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub verdict: Verdict,
    pub differences: Vec<Difference>,
    /// Overrides that no unproved difference answers to.
    pub unused_overrides: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Compatible => "compatible",
            Verdict::ForwardOnly => "forward-only",
            Verdict::Breaking => "breaking",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Breaking => "breaking",
            Severity::Unproved => "unproved",
            Severity::ForwardOnly => "forward-only",
            Severity::Note => "note",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() {
            "as a whole"
        } else {
            &self.pointer
        };
        let accepted = if self.overridden { " (accepted)" } else { "" };
        write!(
            f,
            "{}{accepted}: {} {pointer} {}",
            self.severity, self.side, self.detail
        )
    }
}

impl Difference {
    fn new(
        severity: Severity,
        side: &'static str,
        pointer: impl Into<String>,
        detail: impl Into<String>,
    ) -> Difference {
        Difference {
            severity,
            side: Cow::Borrowed(side),
            pointer: pointer.into(),
            detail: detail.into(),
            overridden: false,
        }
    }

    /// Whether today's callers stand in its way.
    fn is_in_the_way(&self) -> bool {
        matches!(self.severity, Severity::Breaking | Severity::Unproved) && !self.overridden
    }

    /// `SIDE:POINTER`, or the pointer alone.
    fn is_meant_by(&self, text: &str) -> bool {
        self.severity == Severity::Unproved
            && (text == self.pointer
                || text
                    .strip_prefix(&*self.side)
                    .and_then(|rest| rest.strip_prefix(':'))
                    == Some(&self.pointer))
    }
}

/// Compares two versions. Each of `overrides` names an unproved difference that a person accepts: `/age`, or `input:/age`.
pub fn compare(old: &Side<'_>, new: &Side<'_>, overrides: &[String]) -> Report {
    let mut differences = Vec::new();
    match (old.parts, new.parts) {
        (Some(old_parts), Some(new_parts)) => {
            let classes = classes(&labels(old), &labels(new));
            fields(
                "input",
                &old_parts.input,
                &new_parts.input,
                &[],
                &mut differences,
            );
            fields(
                "output",
                &old_parts.output,
                &new_parts.output,
                &classes.1,
                &mut differences,
            );
            differences.extend(classes.0);
            let transforms = (
                bound(old_parts, old.graph, &mut differences),
                bound(new_parts, new.graph, &mut differences),
            );
            if let (Some(before), Some(after)) = transforms {
                tensors(
                    &before.postprocess.describe(old.graph),
                    &after.postprocess.describe(new.graph),
                    &mut differences,
                );
                handed_on((old_parts, &before), (new_parts, &after), &mut differences);
            }
            if old.raw || new.raw {
                graphs(old.graph, new.graph, &mut differences);
                preprocessing(old_parts, new_parts, &mut differences);
            }
        }
        (None, None) => {
            graphs(old.graph, new.graph, &mut differences);
            differences.extend(classes(&labels(old), &labels(new)).0);
        }
        (before, _) => {
            let detail = match before {
                Some(_) => {
                    "is a bare graph and has no fields: requests of today's callers would get 422"
                }
                None if new.raw => "has fields now; callers of its tensors see the graph as before",
                None => {
                    "has fields now, and no longer the graph's own tensors: requests of today's callers would get 422"
                }
            };
            let severity = if before.is_none() && new.raw {
                Severity::Note
            } else {
                Severity::Breaking
            };
            differences.push(Difference::new(severity, "graph", "", detail));
            if before.is_some() || new.raw {
                graphs(old.graph, new.graph, &mut differences);
            }
        }
    }
    let mut unused: Vec<String> = overrides.to_vec();
    for difference in &mut differences {
        difference.overridden = overrides.iter().any(|text| difference.is_meant_by(text));
        unused.retain(|text| !difference.is_meant_by(text));
    }
    differences.sort_by_key(|difference| difference.severity);
    let verdict = if differences.iter().any(Difference::is_in_the_way) {
        Verdict::Breaking
    } else if differences
        .iter()
        .any(|difference| difference.severity == Severity::ForwardOnly)
    {
        Verdict::ForwardOnly
    } else {
        Verdict::Compatible
    };
    Report {
        verdict,
        differences,
        unused_overrides: unused,
    }
}

/// A declared field and its schema.
type Member<'a> = (String, &'a Value);

/// The fields that two schemas declare, at whatever depth.
#[derive(Default)]
struct Members<'a> {
    gone: Vec<Member<'a>>,
    new: Vec<Member<'a>>,
    kept: Vec<(String, &'a Value, &'a Value)>,
}

impl<'a> Members<'a> {
    fn of(old: &'a Value, new: &'a Value) -> Members<'a> {
        let mut members = Members::default();
        members.walk(old, new, "");
        members
    }

    fn walk(&mut self, old: &'a Value, new: &'a Value, pointer: &str) {
        fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
            schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
        }
        fn find<'b>(schema: &'b Value, name: &str) -> Option<&'b Value> {
            schema.get("properties")?.get(name)
        }
        for (name, before) in properties(old) {
            let at = format!("{pointer}/{}", token(name));
            match find(new, name) {
                Some(after) => {
                    self.kept.push((at.clone(), before, after));
                    self.walk(before, after, &at);
                }
                None => self.gone.push((at, before)),
            }
        }
        for (name, after) in properties(new).filter(|(name, _)| find(old, name).is_none()) {
            self.new.push((format!("{pointer}/{}", token(name)), after));
        }
        if let (Some(before), Some(after)) = (old.get("items"), new.get("items")) {
            self.walk(before, after, &format!("{pointer}/*"));
        }
        let prefix = |schema: &'a Value| {
            schema
                .get("prefixItems")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        for (index, (before, after)) in prefix(old).zip(prefix(new)).enumerate() {
            self.walk(before, after, &format!("{pointer}/{index}"));
        }
    }

    /// Takes out the pairs that look like one field under two names, the likeliest first.
    fn renamed(&mut self) -> Vec<(Member<'a>, Member<'a>)> {
        let mut pairs = Vec::new();
        loop {
            let likeness =
                |(a, gone): &Member<'a>, (b, new): &Member<'a>| likeness((a, gone), (b, new));
            let all = self.gone.iter().enumerate().flat_map(|(i, gone)| {
                self.new
                    .iter()
                    .enumerate()
                    .map(move |(j, new)| (i, j, gone, new))
            });
            let scored = all.filter_map(|(i, j, gone, new)| Some((i, j, likeness(gone, new)?)));
            let Some((i, j, _)) = scored.max_by(|a, b| a.2.total_cmp(&b.2)) else {
                return pairs;
            };
            pairs.push((self.gone.remove(i), self.new.remove(j)));
        }
    }
}

/// How alike two names are that must have the same parent, type and unit; `None` where they are not one field.
fn likeness((a, gone): (&str, &Value), (b, new): (&str, &Value)) -> Option<f64> {
    let (before, after) = (a.rsplit_once('/')?, b.rsplit_once('/')?);
    let kind = |schema: &Value| match schema.get("type") {
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter(|kind| *kind != "null")
            .cloned()
            .collect(),
        Some(kind) => vec![kind.clone()],
        None => Vec::new(),
    };
    if before.0 != after.0 || kind(gone) != kind(new) || gone.get("x-unit") != new.get("x-unit") {
        return None;
    }
    let alike = strsim::normalized_damerau_levenshtein(before.1, after.1);
    // A name that became longer: `age` and `age_years`.
    let extended = before.1.len().min(after.1.len()) >= 3
        && (before.1.contains(after.1) || after.1.contains(before.1));
    (alike >= 0.6 || extended).then_some(alike)
}

/// One of a package's two schemas, both ways; new values of `classes` are told elsewhere.
fn fields(
    side: &'static str,
    old: &Schema,
    new: &Schema,
    classes: &[String],
    differences: &mut Vec<Difference>,
) {
    let is_input = side == "input";
    let mut members = Members::of(old.document(), new.document());
    units(&members, is_input, differences);
    // What NEW must take, and what it may answer; then the same after a rollback.
    let (mut forward, mut backward) = if is_input {
        (contains(new, old), contains(old, new))
    } else {
        (contains(old, new), contains(new, old))
    };
    if !is_input {
        // Members of an answer that callers don't know are passed over.
        for gaps in [&mut forward, &mut backward] {
            gaps.retain(|gap| gap.keyword != "additionalProperties");
        }
    }
    let mut push = |severity, pointer: &str, detail: String| {
        differences.push(Difference::new(severity, side, pointer, detail))
    };
    let mut told = Vec::new();
    for ((gone, _), (new, _)) in members.renamed() {
        told.extend([gone.clone(), new.clone()]);
        let strict = take(&mut forward, &gone) | take(&mut forward, &new);
        let lax = take(&mut backward, &gone) | take(&mut backward, &new);
        match (is_input, strict) {
            (true, true) => push(
                Severity::Breaking,
                &gone,
                format!("is renamed {new}: requests of today's callers would get 422"),
            ),
            (true, false) => push(
                if lax {
                    Severity::ForwardOnly
                } else {
                    Severity::Note
                },
                &gone,
                format!(
                    "is renamed {new}: what today's callers send is taken, and has no effect any more"
                ),
            ),
            (false, _) => push(
                Severity::Breaking,
                &gone,
                format!("is renamed {new}: today's callers would miss it"),
            ),
        }
    }
    for (gone, _) in &members.gone {
        let strict = take(&mut forward, gone);
        let (severity, detail) = match (is_input, strict) {
            (true, true) => (
                Severity::Breaking,
                "is gone: requests of today's callers who send it would get 422",
            ),
            (true, false) => (
                Severity::Note,
                "is no longer read: it may be sent, and has no effect any more",
            ),
            (false, _) => (Severity::Breaking, "is gone: today's callers would miss it"),
        };
        push(severity, gone, detail.to_owned());
        if severity == Severity::Breaking {
            take(&mut backward, gone);
        }
    }
    for (new, _) in &members.new {
        if is_input {
            if forward
                .iter()
                .chain(&backward)
                .all(|gap| gap.pointer != *new)
            {
                push(
                    Severity::Note,
                    new,
                    "is new: after a rollback it may still be sent, and has no effect".to_owned(),
                );
            }
        } else {
            take(&mut backward, new);
            push(
                Severity::ForwardOnly,
                new,
                "is new: callers who begin to read it would miss it after a rollback".to_owned(),
            );
        }
    }
    for gaps in [&mut forward, &mut backward] {
        gaps.retain(|gap| gap.keyword != "enum" || !classes.contains(&gap.pointer));
    }
    let blocked: Vec<String> = forward
        .iter()
        .filter(|gap| gap.kind == GapKind::Broken)
        .map(|gap| gap.pointer.clone())
        .collect();
    for gap in &forward {
        let severity = if gap.kind == GapKind::Broken {
            Severity::Breaking
        } else {
            Severity::Unproved
        };
        push(
            severity,
            &gap.pointer,
            if is_input {
                refused(gap)
            } else {
                unexpected(gap)
            },
        );
    }
    // Of a field that surely stops the way forward the way back needs no word.
    for gap in backward
        .iter()
        .filter(|gap| !blocked.contains(&gap.pointer))
    {
        push(
            Severity::ForwardOnly,
            &gap.pointer,
            if is_input {
                refused_after_rollback(gap)
            } else {
                missed_after_rollback(gap)
            },
        );
    }
    if is_input {
        for unbound in Binding::unbound(old, new) {
            let pointer = pointer_to(&unbound.field);
            if !told.contains(&pointer) && !blocked.contains(&pointer) {
                let detail = format!(
                    "{}: today's requests can't be handed on to the new version",
                    unbound.detail
                );
                differences.push(Difference::new(Severity::Breaking, side, pointer, detail));
            }
        }
    }
}

/// Takes out the gaps at a place and below; says whether there were any.
fn take(gaps: &mut Vec<Gap>, pointer: &str) -> bool {
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

/// What a keyword asks for, in words.
fn rule(keyword: &str, value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "anything".to_owned();
    };
    let types = |value: &Value| match value {
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        name => name.as_str().unwrap_or_default().to_owned(),
    };
    match keyword {
        "type" => types(value),
        "minimum" => format!("at least {value}"),
        "exclusiveMinimum" => format!("above {value}"),
        "maximum" => format!("at most {value}"),
        "exclusiveMaximum" => format!("below {value}"),
        "multipleOf" => format!("a multiple of {value}"),
        "minLength" => format!("at least {value} characters"),
        "maxLength" => format!("at most {value} characters"),
        "minItems" => format!("at least {value} elements"),
        "maxItems" => format!("at most {value} elements"),
        "enum" => format!("one of {}", shorten(&value.to_string())),
        "contentEncoding" => "base64".to_owned(),
        _ => format!("{keyword} {}", shorten(&value.to_string())),
    }
}

fn list(values: &[Value]) -> String {
    let mut texts: Vec<String> = values
        .iter()
        .take(6)
        .map(|value| shorten(&value.to_string()))
        .collect();
    texts.extend((values.len() > 6).then(|| format!("{} more", values.len() - 6)));
    texts.join(", ")
}

fn example(gap: &Gap) -> String {
    gap.example
        .as_ref()
        .map(|value| format!(", for example {}", shorten(&value.to_string())))
        .unwrap_or_default()
}

/// The same inside a sentence.
fn example_within(gap: &Gap) -> String {
    let example = example(gap);
    if example.is_empty() {
        example
    } else {
        format!("{example},")
    }
}

/// The narrower schema's rule of the same keyword, where it has one.
fn other_rule(gap: &Gap, word: &str) -> String {
    gap.narrower
        .as_ref()
        .map(|value| format!(" ({word} {})", rule(gap.keyword, Some(value))))
        .unwrap_or_default()
}

/// Whether the gap is about members that neither schema names.
fn is_about_unknown(gap: &Gap) -> bool {
    gap.keyword == "additionalProperties" && gap.narrower.as_ref().is_none_or(Value::is_boolean)
}

/// NEW refuses what OLD takes.
fn refused(gap: &Gap) -> String {
    let would = "requests of today's callers";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!("{}: {would} may get 422", unproved(gap)),
        "required" if gap.narrower.is_some() => {
            format!("is now required, and was optional: {would} without it would get 422")
        }
        "required" => format!("is now required: {would} would get 422"),
        "additionalProperties" if is_about_unknown(gap) => {
            format!(
                "no longer takes members that it does not name: {would} with others would get 422"
            )
        }
        "additionalProperties" => format!("is gone: {would} who send it would get 422"),
        _ if !gap.values.is_empty() => format!(
            "no longer takes {}: {would} with that would get 422",
            list(&gap.values)
        ),
        "type" => format!(
            "takes {wider}, and took {narrower}: other {would}{} would get 422",
            example_within(gap)
        ),
        _ => format!(
            "must now be {wider}{}: other {would}{} would get 422",
            other_rule(gap, "was"),
            example_within(gap)
        ),
    }
}

/// OLD refuses what NEW takes.
fn refused_after_rollback(gap: &Gap) -> String {
    let then = "after a rollback";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!(
            "{}: {then} requests of callers who use what is new may get 422",
            unproved(gap)
        ),
        "required" => format!("need no longer be sent: {then} requests without it would get 422"),
        "additionalProperties" if is_about_unknown(gap) => {
            format!(
                "takes members that it does not name: {then} requests with others would get 422"
            )
        }
        "additionalProperties" => {
            format!("is new: {then} requests of callers who began to send it would get 422")
        }
        _ if !gap.values.is_empty() => format!(
            "takes {} now: {then} requests with that would get 422",
            list(&gap.values)
        ),
        "type" => format!(
            "takes {narrower}, and took {wider}: {then} other requests{} would get 422",
            example_within(gap)
        ),
        _ => format!(
            "need no longer be {wider}{}: {then} other requests{} would get 422",
            other_rule(gap, "now"),
            example_within(gap)
        ),
    }
}

/// NEW answers what OLD never does.
fn unexpected(gap: &Gap) -> String {
    let today = "today's callers don't expect";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!(
            "{}: today's callers may get what they don't expect",
            unproved(gap)
        ),
        "required" => "may be missing now: today's callers expect it in every answer".to_owned(),
        _ if !gap.values.is_empty() => format!("may be {} now: {today} that", list(&gap.values)),
        "type" => format!(
            "may be {narrower} now, and was {wider}: {today} others{}",
            example(gap)
        ),
        _ => format!(
            "need no longer be {wider}{}: {today} others{}",
            other_rule(gap, "now"),
            example(gap)
        ),
    }
}

/// OLD answers what NEW never does.
fn missed_after_rollback(gap: &Gap) -> String {
    let then = "after a rollback";
    let (wider, narrower) = (
        rule(gap.keyword, gap.wider.as_ref()),
        rule(gap.keyword, gap.narrower.as_ref()),
    );
    match gap.keyword {
        _ if gap.kind == GapKind::Unproved => format!(
            "{}: {then} callers may get what they no longer expect",
            unproved(gap)
        ),
        "required" => {
            format!("is in every answer now: {then} callers who rely on that may miss it")
        }
        _ if !gap.values.is_empty() => format!(
            "is never {} now: {then} callers who rely on that meet it again",
            list(&gap.values)
        ),
        "type" => format!(
            "is {wider} now, and was {narrower}: {then} callers who rely on that meet others{}",
            example(gap)
        ),
        _ => format!(
            "is {wider} now{}: {then} callers who rely on that meet others{}",
            other_rule(gap, "was"),
            example(gap)
        ),
    }
}

fn unproved(gap: &Gap) -> String {
    let text = |value: &Option<Value>| {
        value
            .as_ref()
            .map_or_else(|| "none".to_owned(), |value| shorten(&value.to_string()))
    };
    if gap.values.is_empty() {
        format!(
            "can't be shown to fit ({} {} against {})",
            gap.keyword,
            text(&gap.wider),
            text(&gap.narrower)
        )
    } else {
        format!(
            "can't be shown to fit ({} against {})",
            gap.keyword,
            list(&gap.values)
        )
    }
}

fn units(members: &Members<'_>, is_input: bool, differences: &mut Vec<Difference>) {
    for (pointer, old, new) in &members.kept {
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
            (None, Some(after)) => (Severity::Note, format!("says its unit, {after}")),
            (Some(before), None) => (Severity::Note, format!("no longer says its unit, {before}")),
            _ => continue,
        };
        differences.push(Difference::new(severity, "units", pointer.clone(), detail));
    }
}

/// For each output with classes, these in their order.
fn labels(side: &Side<'_>) -> BTreeMap<String, Vec<String>> {
    let steps = |section: &Value| {
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
    let declared = side
        .parts
        .and_then(|parts| parts.preprocessing.as_ref()?.get("outputs")?.as_object())
        .into_iter()
        .flatten();
    let declared = declared.filter_map(|(name, section)| Some((name.clone(), steps(section)?)));
    let beside = side
        .labels
        .into_iter()
        .flatten()
        .map(|(name, labels)| (name.clone(), labels.to_vec()));
    declared.chain(beside).collect()
}

/// Differences of the classes, one for all outputs that have the same; and the outputs that got other classes.
fn classes(
    old: &BTreeMap<String, Vec<String>>,
    new: &BTreeMap<String, Vec<String>>,
) -> (Vec<Difference>, Vec<String>) {
    let mut groups: Vec<(&Vec<String>, &Vec<String>, Vec<String>)> = Vec::new();
    for (name, before) in old {
        let Some(after) = new.get(name).filter(|after| *after != before) else {
            continue;
        };
        let pointer = format!("/{}", token(name));
        match groups
            .iter_mut()
            .find(|group| group.0 == before && group.1 == after)
        {
            Some(group) => group.2.push(pointer),
            None => groups.push((before, after, vec![pointer])),
        }
    }
    let mut differences = Vec::new();
    let mut changed = Vec::new();
    for (before, after, pointers) in groups {
        let Some((first, others)) = pointers.split_first() else {
            continue;
        };
        let also = if others.is_empty() {
            String::new()
        } else {
            format!("(and {}) ", others.join(", "))
        };
        let missing = |from: &[String], other: &[String]| {
            from.iter()
                .filter(|label| !other.contains(label))
                .cloned()
                .collect::<Vec<_>>()
        };
        let (added, gone) = (missing(after, before), missing(before, after));
        let short = |labels: &[String]| shorten(&labels.join(", "));
        let meaning = match (added.is_empty(), gone.is_empty()) {
            (true, true) => "callers who take a class by its place, in a tensor or as an index, would take one for another".to_owned(),
            (false, true) => format!("today's callers don't expect {}", short(&added)),
            (true, false) => format!("today's callers would wait in vain for {}", short(&gone)),
            (false, false) => format!("today's callers don't expect {}, and would wait in vain for {}", short(&added), short(&gone)),
        };
        if !added.is_empty() {
            changed.extend(pointers.iter().cloned());
        }
        let detail = format!(
            "{also}are [{}] instead of [{}]: {meaning}",
            short(after),
            short(before)
        );
        differences.push(Difference::new(
            Severity::Breaking,
            "classes",
            first.clone(),
            detail,
        ));
    }
    (differences, changed)
}

fn bound(parts: &Parts, graph: &Signature, differences: &mut Vec<Difference>) -> Option<Transform> {
    let transform = parts.bind(graph);
    transform
        .map_err(|error| {
            differences.push(Difference::new(
                Severity::Breaking,
                "graph",
                "",
                format!("does not fit its package: {error}"),
            ))
        })
        .ok()
}

/// The answer's fields as tensors.
fn tensors(old: &[TensorSpec], new: &[TensorSpec], differences: &mut Vec<Difference>) {
    for before in old {
        // One that is gone is told as a field.
        let Some(after) = new
            .iter()
            .find(|after| after.name == before.name && *after != before)
        else {
            continue;
        };
        let detail = format!("is {after} instead of {before}: callers of tensors can't take it");
        differences.push(Difference::new(
            Severity::Breaking,
            "tensors",
            format!("/{}", token(&before.name)),
            detail,
        ));
    }
}

/// The graph's own tensors, for callers who see them.
fn graphs(old: &Signature, new: &Signature, differences: &mut Vec<Difference>) {
    let before = differences.len();
    let mut push = |severity, name: &str, detail: String| {
        differences.push(Difference::new(
            severity,
            "graph",
            format!("/{}", token(name)),
            detail,
        ));
    };
    let ready = "callers of ready tensors would get an error";
    for (title, olds, news) in [
        ("input", &old.inputs, &new.inputs),
        ("output", &old.outputs, &new.outputs),
    ] {
        for spec in olds {
            match news.iter().find(|other| other.name == spec.name) {
                Some(other) if other == spec => {}
                Some(other) => push(
                    Severity::Breaking,
                    &spec.name,
                    format!("({title}) is {other} instead of {spec}: {ready}, or read it wrongly"),
                ),
                None => push(
                    Severity::Breaking,
                    &spec.name,
                    format!("({title}) is gone: {ready}"),
                ),
            }
        }
        for spec in news
            .iter()
            .filter(|spec| !olds.iter().any(|other| other.name == spec.name))
        {
            let meaning = if title == "input" {
                ready
            } else {
                "any difference of a graph counts, where callers see it"
            };
            push(
                Severity::Breaking,
                &spec.name,
                format!("({title}) is new, {spec}: {meaning}"),
            );
        }
    }
    if differences.len() == before && old != new {
        differences.push(Difference::new(
            Severity::Breaking,
            "graph",
            "",
            "has its tensors in another order: who takes them by their place takes one for another",
        ));
    }
}

/// Ready tensors were made by the old version's rules.
fn preprocessing(old: &Parts, new: &Parts, differences: &mut Vec<Difference>) {
    let section = |parts: &Parts, name: &str| {
        parts
            .preprocessing
            .as_ref()
            .and_then(|document| document.get(name))
            .cloned()
            .unwrap_or_default()
    };
    let mut push = |pointer: String, detail: String| {
        differences.push(Difference::new(
            Severity::Breaking,
            "preprocessing",
            pointer,
            detail,
        ))
    };
    for (name, meaning) in [
        (
            "inputs",
            "tensors that callers made by the old rules mean something else",
        ),
        (
            "outputs",
            "callers who read the graph's outputs by the old rules misread them",
        ),
    ] {
        let (before, after) = (section(old, name), section(new, name));
        let empty = serde_json::Map::new();
        let (before, after) = (
            before.as_object().unwrap_or(&empty),
            after.as_object().unwrap_or(&empty),
        );
        for key in before
            .keys()
            .chain(after.keys().filter(|key| !before.contains_key(*key)))
        {
            let at = format!("/{name}/{}", token(key));
            let columns = |section: Option<&Value>| {
                section.and_then(|section| section.get("columns")?.as_array().cloned())
            };
            match (before.get(key), after.get(key)) {
                (a, b) if a == b => {}
                (a, b) => match columns(a).zip(columns(b)) {
                    Some((a, b)) if a.len() == b.len() => {
                        for (index, (a, b)) in
                            a.iter().zip(&b).enumerate().filter(|(_, (a, b))| a != b)
                        {
                            let (before, after) = (made_of(a), made_of(b));
                            let what = if before == after {
                                after
                            } else {
                                format!("{after} instead of {before}")
                            };
                            push(
                                format!("{at}/columns/{index}"),
                                format!("({what}) has other steps: {meaning}"),
                            );
                        }
                    }
                    _ => push(at, format!("is made otherwise: {meaning}")),
                },
            }
        }
    }
}

/// A column's field, or what it is derived from.
fn made_of(column: &Value) -> String {
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

/// The golden examples are the package's own.
const OWN_LIMITS: DecodeLimits = DecodeLimits {
    max_instances: 1,
    max_depth: 64,
    max_array_values: usize::MAX,
};

/// How many examples are handed on.
const MAX_EXAMPLES: usize = 20;

type Bound<'a> = (&'a Parts, &'a Transform);

/// Where the schemas let a request through, the new preprocessing may still refuse it: null, or a category it does not know.
/// The old version's examples are tried, whole and with each field changed to what its schema lists or to null.
fn handed_on(old: Bound<'_>, new: Bound<'_>, differences: &mut Vec<Difference>) {
    for (from, to, severity) in [
        (old, new, Severity::Breaking),
        (new, old, Severity::ForwardOnly),
    ] {
        let Ok(binding) = Binding::new(&from.0.input, &to.0.input) else {
            continue;
        };
        for document in examples(from.0) {
            let text = document.to_string();
            let Ok(columns) = decode_instance(&from.0.input, text.as_bytes(), &OWN_LIMITS) else {
                continue;
            };
            if decode_instance(&to.0.input, text.as_bytes(), &OWN_LIMITS).is_err()
                || from.1.prepare(&columns).is_err()
            {
                continue;
            }
            for fault in
                to.1.prepare(&binding.bind(columns))
                    .err()
                    .unwrap_or_default()
            {
                let pointer = pointer_to(&fault.field);
                if differences
                    .iter()
                    .any(|known| known.side == "preprocessing" && known.pointer == pointer)
                {
                    continue;
                }
                let meaning = match severity {
                    Severity::Breaking => "requests of today's callers would get 422",
                    _ => "after a rollback such requests would get 422",
                };
                differences.push(Difference::new(
                    severity,
                    "preprocessing",
                    pointer,
                    format!("is refused behind the schema, {}: {meaning}", fault.detail),
                ));
            }
        }
    }
}

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
            members.shift_remove(name);
        }
        documents.push(without);
    }
    documents
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{
        compat::{Report, Side, Verdict, compare},
        package::Parts,
        tensor::{
            DataType, Dim, Shape,
            signature::{Signature, TensorSpec},
        },
    };

    /// A graph that takes `x` and gives `y`, `width` numbers a row each.
    fn graph(width: usize) -> Signature {
        let spec = |name: &str| TensorSpec {
            name: Arc::from(name),
            datatype: DataType::Fp32,
            shape: Shape(vec![Dim::Any, Dim::Fixed(width)]),
        };
        Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
        }
    }

    fn object(properties: Value, required: &[&str]) -> Value {
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    fn parts(input: &Value, output: &Value, preprocessing: &Value, golden: &Value) -> Parts {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |file: &str, text: String| fs_err::write(directory.path().join(file), text).unwrap();
        write("model.onnx", String::new());
        write(
            "schema.json",
            json!({"input": input, "output": output}).to_string(),
        );
        write("preprocessing.json", preprocessing.to_string());
        if !golden.is_null() {
            write(
                "golden.jsonl",
                json!({"input": golden, "output": {}}).to_string(),
            );
        }
        Parts::read(directory.path()).unwrap()
    }

    fn lines(report: &Report) -> Vec<String> {
        report.differences.iter().map(ToString::to_string).collect()
    }

    fn versions(old: &Parts, new: &Parts, raw: bool, overrides: &[&str]) -> Report {
        let graph = graph(1);
        let side = |parts| Side {
            parts: Some(parts),
            graph: &graph,
            labels: None,
            raw,
        };
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        compare(&side(old), &side(new), &overrides)
    }

    /// Two versions that differ in the schema of the one field `a`, which the graph takes as it is.
    fn inputs(old: Value, new: Value) -> Report {
        let package = |a: Value| {
            let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
            parts(
                &object(json!({"a": a, "z": {"type": "number"}}), &["z"]),
                &object(json!({"y": {"type": "number"}}), &["y"]),
                &steps,
                &Value::Null,
            )
        };
        versions(&package(old), &package(new), false, &[])
    }

    /// Two versions that differ in the schema of the answer's field `y`.
    fn outputs(old: Value, new: Value) -> Report {
        let package = |y: Value| {
            let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
            parts(
                &object(json!({"z": {"type": "number"}}), &["z"]),
                &y,
                &steps,
                &Value::Null,
            )
        };
        versions(&package(old), &package(new), false, &[])
    }

    fn check(report: &Report, verdict: Verdict, expected: &[&str]) {
        assert_eq!(lines(report), expected);
        assert_eq!(report.verdict, verdict);
    }

    #[test]
    fn what_a_field_takes() {
        let text = |rules: Value| {
            let mut schema = json!({"type": "string"});
            schema
                .as_object_mut()
                .unwrap()
                .extend(rules.as_object().unwrap().clone());
            schema
        };
        let (two, three) = (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!({"type": "string", "enum": ["a", "b", "c"]}),
        );
        check(
            &inputs(two.clone(), three.clone()),
            Verdict::ForwardOnly,
            &[
                "forward-only: input /a takes \"c\" now: after a rollback requests with that would get 422",
            ],
        );
        check(
            &inputs(three, two),
            Verdict::Breaking,
            &[
                "breaking: input /a no longer takes \"c\": requests of today's callers with that would get 422",
            ],
        );
        check(
            &inputs(
                json!({"type": "number", "minimum": 0}),
                json!({"type": "number", "minimum": 18}),
            ),
            Verdict::Breaking,
            &[
                "breaking: input /a must now be at least 18 (was at least 0): other requests of today's callers, for example 0, would get 422",
            ],
        );
        check(
            &inputs(
                json!({"type": ["number", "null"]}),
                json!({"type": "number"}),
            ),
            Verdict::Breaking,
            &[
                "breaking: input /a takes number, and took number or null: other requests of today's callers, for example null, would get 422",
            ],
        );
        check(
            &inputs(json!({"type": "integer"}), json!({"type": "number"})),
            Verdict::ForwardOnly,
            &[
                "forward-only: input /a takes number, and took integer: after a rollback other requests, for example 0.5, would get 422",
            ],
        );
        let report = inputs(
            text(json!({"maxLength": 3})),
            text(json!({"contentEncoding": "base64"})),
        );
        assert_eq!(report.verdict, Verdict::Breaking);
        assert!(
            lines(&report)[0].starts_with("breaking: input /a must now be base64: other requests"),
            "{report:?}"
        );
    }

    #[test]
    fn unproved_is_breaking_until_a_person_accepts_it() {
        let package = |pattern: &str| {
            let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
            let a = json!({"type": "string", "pattern": pattern});
            parts(
                &object(json!({"a": a, "z": {"type": "number"}}), &["z"]),
                &object(json!({"y": {"type": "number"}}), &["y"]),
                &steps,
                &Value::Null,
            )
        };
        let (old, new) = (package("^[a-e]{9}$"), package("^[a-f]{9}$"));
        let line = "input /a can't be shown to fit (pattern \"^[a-f]{9}$\" against \"^[a-e]{9}$\"): requests of today's callers may get 422";
        let back = "input /a can't be shown to fit (pattern \"^[a-e]{9}$\" against \"^[a-f]{9}$\"): after a rollback requests of callers who use \
                    what is new may get 422";
        check(
            &versions(&old, &new, false, &[]),
            Verdict::Breaking,
            &[
                &format!("unproved: {line}"),
                &format!("forward-only: {back}"),
            ],
        );
        for accepted in ["/a", "input:/a"] {
            // Accepted is the way forward alone.
            let report = versions(&old, &new, false, &[accepted]);
            check(
                &report,
                Verdict::ForwardOnly,
                &[
                    &format!("unproved (accepted): {line}"),
                    &format!("forward-only: {back}"),
                ],
            );
            assert!(report.unused_overrides.is_empty());
        }
        let report = versions(&old, &new, false, &["output:/a", "/b"]);
        assert_eq!(
            (report.verdict, report.unused_overrides.len()),
            (Verdict::Breaking, 2)
        );
        // What is shown to break can't be accepted.
        let report = versions(&package("^a"), &package("^b"), false, &["/a"]);
        assert_eq!(
            (report.verdict, report.unused_overrides),
            (Verdict::Breaking, vec!["/a".to_owned()])
        );
    }

    #[test]
    fn what_an_answer_has() {
        let y = |schema: Value| object(json!({ "y": schema }), &["y"]);
        let number = json!({"type": "number", "minimum": 0, "maximum": 1});
        check(
            &outputs(
                y(number.clone()),
                y(json!({"type": ["number", "null"], "minimum": 0, "maximum": 1})),
            ),
            Verdict::Breaking,
            &[
                "breaking: output /y may be number or null now, and was number: today's callers don't expect others, for example null",
            ],
        );
        check(
            &outputs(
                y(number.clone()),
                y(json!({"type": "number", "minimum": 0, "maximum": 2})),
            ),
            Verdict::Breaking,
            &[
                "breaking: output /y need no longer be at most 1 (now at most 2): today's callers don't expect others, for example 2",
            ],
        );
        check(
            &outputs(
                y(number.clone()),
                y(json!({"type": "number", "minimum": 0, "maximum": 0.5})),
            ),
            Verdict::ForwardOnly,
            &[
                "forward-only: output /y is at most 0.5 now (was at most 1): after a rollback callers who rely on that meet others, for example 1",
            ],
        );
        check(
            &outputs(y(number.clone()), object(json!({ "y": number }), &[])),
            Verdict::Breaking,
            &["breaking: output /y may be missing now: today's callers expect it in every answer"],
        );
    }

    #[test]
    fn units_and_members_that_are_ignored() {
        check(
            &inputs(
                json!({"type": "number", "x-unit": "USD"}),
                json!({"type": "number", "x-unit": "EUR"}),
            ),
            Verdict::Breaking,
            &[
                "breaking: units /a is in EUR instead of USD: numbers of today's callers would be read in another unit",
            ],
        );
        check(
            &inputs(
                json!({"type": "number"}),
                json!({"type": "number", "x-unit": "EUR"}),
            ),
            Verdict::Compatible,
            &["note: units /a says its unit, EUR"],
        );
        let open = |properties: Value| {
            let mut input = object(properties, &["z"]);
            input["additionalProperties"] = json!(true);
            let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}]}}});
            parts(
                &input,
                &object(json!({"y": {"type": "number"}}), &["y"]),
                &steps,
                &Value::Null,
            )
        };
        let (old, new) = (
            open(json!({"z": {"type": "number"}, "a": {"type": "string"}})),
            open(json!({"z": {"type": "number"}})),
        );
        check(
            &versions(&old, &new, false, &[]),
            Verdict::ForwardOnly,
            &[
                "forward-only: input /a takes anything, and took string: after a rollback other requests, for example null, would get 422",
                "note: input /a is no longer read: it may be sent, and has no effect any more",
            ],
        );
    }

    #[test]
    fn a_column_of_another_kind_can_not_be_handed_on() {
        // Every value that the old schema lists fits the new one, but not its column.
        let report = inputs(
            json!({"type": ["string", "number"], "enum": ["YQ==", 1]}),
            json!({"type": "string", "contentEncoding": "base64"}),
        );
        assert_eq!(report.verdict, Verdict::Breaking);
        check(
            &inputs(
                json!({"type": "string", "enum": ["YQ=="]}),
                json!({"type": "string", "contentEncoding": "base64"}),
            ),
            Verdict::Breaking,
            &[
                "breaking: input /a is decoded as texts, and taken as bytes from base64: today's requests can't be handed on to the new version",
                "forward-only: input /a need no longer be one of [\"YQ==\"]: after a rollback other requests, for example \"\", would get 422",
            ],
        );
    }

    #[test]
    fn preprocessing_may_refuse_behind_the_schema() {
        let package = |steps: Value| {
            let input = object(json!({"plan": {"type": ["string", "null"]}}), &["plan"]);
            let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "plan", "steps": steps}]}}});
            parts(
                &input,
                &object(json!({"y": {"type": "number"}}), &["y"]),
                &steps,
                &json!({"plan": "a"}),
            )
        };
        let encode = |unknown: &str| json!({"one_hot": {"categories": ["a"], "unknown": unknown}});
        let (old, new) = (
            package(json!([encode("zeros")])),
            package(json!([encode("error")])),
        );
        let report = versions(&old, &new, false, &[]);
        assert_eq!(report.verdict, Verdict::Breaking, "{report:?}");
        assert!(
            lines(&report)[0]
                .starts_with("breaking: preprocessing /plan is refused behind the schema"),
            "{report:?}"
        );
        let report = versions(&new, &old, false, &[]);
        assert_eq!(report.verdict, Verdict::ForwardOnly, "{report:?}");
        assert!(
            lines(&report)[0].ends_with("after a rollback such requests would get 422"),
            "{report:?}"
        );
    }

    #[test]
    fn ready_tensors_bear_no_difference() {
        let package = |mean: f64| {
            let input = object(json!({"z": {"type": "number"}}), &["z"]);
            let steps = json!({"inputs": {"x": {"dtype": "float32", "columns": [{"field": "z", "steps": [{"standard_scale": {"mean": mean, "std": 1}}]}]}}});
            parts(
                &input,
                &object(json!({"y": {"type": "number"}}), &["y"]),
                &steps,
                &Value::Null,
            )
        };
        let (old, new) = (package(1.0), package(2.0));
        check(&versions(&old, &new, false, &[]), Verdict::Compatible, &[]);
        check(
            &versions(&old, &new, true, &[]),
            Verdict::Breaking,
            &[
                "breaking: preprocessing /inputs/x/columns/0 (z) has other steps: tensors that callers made by the old rules mean something else",
            ],
        );
        let bare = |graph: &Signature| {
            compare(
                &Side {
                    parts: None,
                    graph: &self::graph(1),
                    labels: None,
                    raw: true,
                },
                &Side {
                    parts: None,
                    graph,
                    labels: None,
                    raw: true,
                },
                &[],
            )
        };
        check(&bare(&graph(1)), Verdict::Compatible, &[]);
        let report = bare(&graph(2));
        assert_eq!(
            (report.verdict, report.differences.len()),
            (Verdict::Breaking, 2)
        );
        assert_eq!(
            lines(&report)[0],
            "breaking: graph /x (input) is float32[-1, 2] instead of float32[-1, 1]: callers of ready tensors would get an error, or read it wrongly"
        );
    }

    #[test]
    fn classes_have_an_order() {
        let package = |labels: &[&str], listed: &[&str]| {
            let input = object(json!({"z": {"type": "number"}}), &["z"]);
            let steps = json!({
                "inputs": {"x": {"dtype": "float32", "columns": [{"field": "z"}, {"field": "z"}]}},
                "outputs": {"y": {"steps": [{"argmax": {"labels": labels}}]}},
            });
            parts(
                &input,
                &object(json!({"y": {"type": "string", "enum": listed}}), &["y"]),
                &steps,
                &Value::Null,
            )
        };
        let compare = |old: &Parts, new: &Parts| {
            let graph = graph(2);
            let side = |parts| Side {
                parts: Some(parts),
                graph: &graph,
                labels: None,
                raw: false,
            };
            super::compare(&side(old), &side(new), &[])
        };
        let old = package(&["stay", "churn"], &["stay", "churn"]);
        check(
            &compare(&old, &package(&["churn", "stay"], &["churn", "stay"])),
            Verdict::Breaking,
            &[
                "breaking: classes /y are [churn, stay] instead of [stay, churn]: callers who take a class by its place, in a tensor or as an index, would take one for another",
            ],
        );
        check(
            &compare(&old, &package(&["stay", "leave"], &["stay", "leave"])),
            Verdict::Breaking,
            &[
                "breaking: classes /y are [stay, leave] instead of [stay, churn]: today's callers don't expect leave, and would wait in vain for churn",
            ],
        );
    }
}
